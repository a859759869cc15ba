//! The one thread that changes what is stored: it makes all changes that wait for it, makes them durable together, and
//! then tells those who wait.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::archive::ArchiveError;
use crate::backup::{BackupTarget, Done, Running};
use crate::engine::{Durability, Engine, EngineError, Space, WriteBatch};
use crate::inbox::{Condition, Inbox, Request, Store, Then};
use crate::key::{self, OfSession};
use crate::message::SharedMessages;
use crate::queue::{self, Reader};
use crate::record::{Change, Place, QueuedMessage, Sequence, SessionNumber, Transaction};
use crate::recovery::{self, Recovered};
use crate::value::{self, Counters};

/// How a store is used.
pub struct Options {
    /// How far data goes before anybody is told that it is durable.
    pub durability: Durability,
    /// Bytes of memory for what is known of stored messages, beside what the engine takes.
    pub memory_bytes: usize,
    /// Bytes that must be free on the disk for anything new to be taken.
    pub free_bytes_minimum: u64,
    /// Bytes that the store may take on the disk for anything new to be taken; 0 for as many as there are.
    pub disk_bytes_maximum: u64,
    /// Tells how many bytes of the disk are free.
    pub free_bytes: Box<dyn FnMut() -> io::Result<u64> + Send>,
    /// How often the disk is looked at.
    pub free_bytes_interval: Duration,
}

impl Default for Options {
    /// Durable, on a disk that is never full.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            memory_bytes: 8 * 1024 * 1024,
            free_bytes_minimum: 0,
            disk_bytes_maximum: 0,
            free_bytes: Box::new(|| Ok(u64::MAX)),
            free_bytes_interval: Duration::from_secs(1),
        }
    }
}

/// Makes changes, in the order in which they were submitted.
pub struct Writer {
    engine: Box<dyn Engine>,
    inbox: Arc<Inbox>,
    options: Options,
    counters: Counters,
    shared: SharedMessages,
    /// Changes that the engine has not been given.
    batch: WriteBatch,
    /// Sessions that are over, of which something may be left.
    ended: VecDeque<SessionNumber>,
    /// How far the search for messages has come whose sessions do not exist; `None` once it is done.
    orphans: Option<Option<SessionNumber>>,
    /// The first session that an earlier process cannot have begun.
    first_session: SessionNumber,
    /// Those who are told at the end of the turn.
    waiting: Vec<Box<dyn FnOnce() + Send>>,
    /// A backup that begins at the end of the turn.
    wanted_backup: Option<(BackupTarget, Done)>,
    /// One that is being written.
    running_backup: Option<Running>,
    is_awaited: bool,
    is_unsynced: bool,
    is_stopping: bool,
    /// Turns since something was done at leisure.
    busy_turns: u32,
    space_checked: Option<Instant>,
}

/// After so long without a request, what nobody waits for goes to the disk as well.
const IDLE: Duration = Duration::from_secs(1);
/// Turns without rest, after which what can wait has its turn.
const BUSY_TURNS: u32 = 16;
/// Entries removed in a step of what is done besides.
const STEP: usize = 512;
/// Sessions that are over and looked at in a step.
const ENDED_STEP: usize = 256;
/// Sessions looked at in a step of the search for messages without one.
const ORPHAN_STEP: usize = 64;

impl Writer {
    /// Takes what an engine has into use: it is submitted to by the [`Store`], and the writer must [run](Self::run).
    ///
    /// `on_room` is called when those who [wait for room](Store::await_room) need not wait any more.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn open(
        engine: Box<dyn Engine>,
        options: Options,
        on_room: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Store, Self), EngineError> {
        let (counters, ended) = recovery::counters(&*engine)?;
        let (store, inbox) = Store::new(counters.session, Box::new(on_room));
        let writer = Self {
            engine,
            inbox,
            shared: SharedMessages::new(options.memory_bytes),
            options,
            counters,
            batch: WriteBatch::default(),
            ended: ended.into(),
            orphans: Some(None),
            first_session: SessionNumber(counters.session),
            waiting: Vec::new(),
            wanted_backup: None,
            running_backup: None,
            is_awaited: false,
            is_unsynced: false,
            is_stopping: false,
            busy_turns: 0,
            space_checked: None,
        };
        Ok((store, writer))
    }

    /// What there is, before anything is submitted.
    pub fn recovered(&self) -> Recovered<'_> {
        Recovered::new(&*self.engine, Sequence(self.counters.sequence))
    }

    /// All that the engine has now.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Result<Box<dyn crate::engine::Snapshot>, EngineError> {
        self.engine.snapshot()
    }

    /// Works until the store is told to [stop](crate::Store::stop), and gives the engine back.
    ///
    /// # Errors
    /// The [`EngineError`] because of which nothing is durable any more. Nobody who waits is told.
    pub fn run(mut self) -> Result<Box<dyn Engine>, EngineError> {
        while !self.is_stopping {
            let wait = match self.has_leisure_work() {
                true => Some(Duration::ZERO),
                false if self.is_unsynced => Some(IDLE),
                false if self.options.limits_disk() => Some(self.options.free_bytes_interval),
                false => None,
            };
            self.turn(wait)?;
        }
        // Whoever has the engine next may have its files.
        if let Some(running) = self.running_backup.take() {
            running.stop();
        }
        Ok(self.engine)
    }

    /// Whether there are requests.
    pub fn has_requests(&self) -> bool {
        self.inbox.has_requests()
    }

    /// Handles all requests that are there: without blocking, or after waiting for some.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self, wait: Option<Duration>) -> Result<(), EngineError> {
        let result = self.try_turn(wait);
        if result.is_err() {
            self.waiting.clear();
            self.inbox.fail();
        }
        result
    }

    fn try_turn(&mut self, wait: Option<Duration>) -> Result<(), EngineError> {
        let requests = self.inbox.take(wait);
        self.check_space();
        let is_idle = requests.is_empty();
        self.busy_turns = if is_idle { BUSY_TURNS } else { self.busy_turns + 1 };
        let mut size = 0;
        for (request, bytes) in requests {
            size += bytes;
            self.handle(request)?;
        }
        self.flush()?;
        // Now and then also while there is more urgent work, or the disk would fill with what nobody needs.
        if self.busy_turns >= BUSY_TURNS && !self.is_stopping {
            self.busy_turns = 0;
            self.work_at_leisure()?;
            self.flush()?;
        }
        let is_at_rest = is_idle && !self.has_leisure_work();
        if self.is_awaited || self.is_stopping || is_at_rest {
            if self.is_unsynced {
                self.engine.sync(self.options.durability)?;
                self.is_unsynced = false;
            }
        } else if self.is_unsynced {
            // Nobody waits: it goes to the disk with what comes next. Only the end of this process must not undo it.
            self.engine.sync(Durability::Os)?;
        }
        self.is_awaited = false;
        for then in self.waiting.drain(..) {
            then();
        }
        self.begin_backup();
        self.inbox.settle(size);
        Ok(())
    }

    fn handle(&mut self, request: Request) -> Result<(), EngineError> {
        match request {
            Request::Commit(transaction, then) => {
                self.is_awaited |= transaction.is_awaited;
                let first = Sequence(self.counters.sequence);
                self.make(transaction)?;
                self.waiting.push(Box::new(move || then(first)));
            }
            Request::Read(request, then) => {
                let read = self.reader()?.queue(&request)?;
                self.tell(then, read);
            }
            Request::Flows(session, then) => {
                let flows = self.reader()?.flows(session)?;
                self.tell(then, flows);
            }
            Request::Count(session, then) => {
                let count = self.reader()?.count(session)?;
                self.tell(then, count);
            }
            Request::Backup(target, done) => self.want_backup(target, done),
            Request::Stop => self.is_stopping = true,
        }
        Ok(())
    }

    /// A backup begins when all that was submitted before is on the disk: then a broker that ends just now has no less.
    fn want_backup(&mut self, target: BackupTarget, done: Done) {
        let is_running = self.running_backup.as_ref().is_some_and(|running| !running.is_finished());
        if is_running || self.wanted_backup.is_some() {
            return self.tell(done, Err(ArchiveError::Busy));
        }
        self.wanted_backup = Some((target, done));
        self.is_awaited = true;
    }

    fn begin_backup(&mut self) {
        let Some((target, done)) = self.wanted_backup.take() else { return };
        match Running::start(self.engine.snapshot(), target, done) {
            Ok(running) => self.running_backup = Some(running),
            // Whoever waits for it sees that it is dropped.
            Err(error) => tracing::error!(%error, "a backup cannot begin: there is no thread for it"),
        }
    }

    /// Tells somebody what was read, in the order of the requests.
    fn tell<T: Send + 'static>(&mut self, then: Then<T>, what: T) {
        self.waiting.push(Box::new(move || then(what)));
    }

    /// Reads see what was submitted before them.
    fn reader(&mut self) -> Result<Reader<'_>, EngineError> {
        self.flush()?;
        Ok(Reader { engine: &*self.engine, shared: &mut self.shared })
    }

    /// Gives the engine what has gathered.
    fn flush(&mut self) -> Result<(), EngineError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let counters = Counters { session: self.inbox.next_session(), ..self.counters };
        self.batch.insert(Space::Meta, key::COUNTERS, |out| value::write(&counters, &[], out));
        self.engine.write(&self.batch)?;
        self.batch.clear();
        self.is_unsynced = true;
        Ok(())
    }

    fn make(&mut self, transaction: Transaction) -> Result<(), EngineError> {
        for change in transaction.changes {
            self.make_change(change)?;
        }
        Ok(())
    }

    fn make_change(&mut self, change: Change) -> Result<(), EngineError> {
        let batch = &mut self.batch;
        match change {
            Change::Session(session, record) => {
                batch.insert(Space::Session, &key::session(session), |out| value::write(&*record, &[], out));
            }
            Change::SessionEnded(session) => {
                batch.remove(Space::Session, &key::session(session));
                batch.remove(Space::Meta, &key::closed(session));
                batch.insert(Space::Meta, &key::ended(session), |_| {});
                self.ended.push_back(session);
            }
            Change::SessionClosed(session) => {
                batch.remove(Space::Session, &key::session(session));
                batch.insert(Space::Meta, &key::closed(session), |_| {});
            }
            Change::Subscribed(session, filter, record) => {
                let key = key::subscription(session, &filter);
                batch.insert(Space::Subscription, &key, |out| value::write(&record, &[], out));
            }
            Change::Unsubscribed(session, filter) => {
                batch.remove(Space::Subscription, &key::subscription(session, &filter));
            }
            Change::Queued(queued) => self.queue(&queued),
            Change::Settled(session, place) => self.settle(session, place),
            Change::Flow(session, flow, Some(state)) => {
                batch.insert(Space::Flow, &key::flow(session, flow), |out| value::write(&state, &[], out));
            }
            Change::Flow(session, flow, None) => batch.remove(Space::Flow, &key::flow(session, flow)),
            Change::Retained(topic, record) => {
                batch.insert(Space::Retained, topic.as_bytes(), |out| value::write(&*record, &[], out));
            }
            Change::Unretained(topic) => batch.remove(Space::Retained, topic.as_bytes()),
            Change::Delayed(number, record) => {
                batch.insert(Space::Delayed, &key::delayed(number), |out| value::write(&*record, &[], out));
            }
            Change::Undelayed(number) => batch.remove(Space::Delayed, &key::delayed(number)),
        }
        Ok(())
    }

    fn queue(&mut self, queued: &QueuedMessage) {
        let sequence = Sequence(self.counters.sequence);
        self.counters.sequence += 1;
        let is_shared = queued.targets.len() > 1;
        if is_shared {
            self.shared.add(sequence, &queued.message, &queued.targets, &mut self.batch);
        }
        let fields = (queued.qos, queued.retain, &*queued.message, is_shared);
        for target in &*queued.targets {
            let key = key::queue(target.session, sequence);
            self.batch.insert(Space::Queue, &key, |out| value::write_queue_entry(target, fields, out));
        }
    }

    fn settle(&mut self, session: SessionNumber, place: Place) {
        self.batch.remove(Space::Queue, &key::queue(session, place.sequence));
        if place.is_shared {
            self.shared.settle(place.sequence, &mut self.batch);
        }
    }

    /// Whether there is something to do besides, when nothing else is.
    pub fn has_leisure_work(&self) -> bool {
        !self.ended.is_empty() || self.orphans.is_some() || self.shared.needs_sweep()
    }

    /// Does some of what need not be done at once: removing what nobody needs any more.
    fn work_at_leisure(&mut self) -> Result<(), EngineError> {
        for _ in 0..ENDED_STEP {
            let Some(&session) = self.ended.front() else { break };
            if !self.remove_some(session)? {
                break;
            }
            self.batch.remove(Space::Meta, &key::ended(session));
            self.ended.pop_front();
            // It may be among them once more: then nothing of it must be found again.
            self.flush()?;
        }
        if let Some(after) = self.orphans {
            return self.look_for_orphans(after);
        }
        if self.shared.needs_sweep() {
            // It looks at what the engine has.
            self.flush()?;
            self.shared.sweep(&*self.engine, &mut self.batch)?;
        }
        Ok(())
    }

    /// Removes some of what is left of a session that is over; whether that was all.
    fn remove_some(&mut self, session: SessionNumber) -> Result<bool, EngineError> {
        let places = queue::first_places(&*self.engine, session, STEP)?;
        let mut is_all = places.len() < STEP;
        for place in places {
            self.settle(session, place);
        }
        for space in [Space::Subscription, Space::Flow] {
            let mut keys = Vec::new();
            self.engine.scan(space, OfSession::new(session).range(), &mut |key, _| {
                keys.push(key.to_vec());
                if keys.len() < STEP {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            })?;
            is_all &= keys.len() < STEP;
            for key in keys {
                self.batch.remove(space, &key);
            }
        }
        Ok(is_all)
    }

    /// Looks for messages whose sessions do not exist. A message can be stored for a session that has just ended; and for
    /// one that has just begun, before that itself is, so that only those of earlier processes are looked at.
    fn look_for_orphans(&mut self, mut after: Option<SessionNumber>) -> Result<(), EngineError> {
        for _ in 0..ORPHAN_STEP {
            let Some(session) = queue::next_session(&*self.engine, after)? else {
                self.orphans = None;
                return Ok(());
            };
            if session >= self.first_session {
                self.orphans = None;
                return Ok(());
            }
            let has_owner = self.engine.get(Space::Session, &key::session(session))?.is_some()
                || self.engine.get(Space::Meta, &key::closed(session))?.is_some();
            if !has_owner {
                self.ended.push_back(session);
            }
            after = Some(session);
        }
        self.orphans = Some(after);
        Ok(())
    }

    /// Looks whether anything new may be stored, if it is time to.
    fn check_space(&mut self) {
        let is_due = self.space_checked.is_none_or(|at| at.elapsed() >= self.options.free_bytes_interval);
        if !is_due || !self.options.limits_disk() {
            return;
        }
        self.space_checked = Some(Instant::now());
        let room = match self.options.room(&*self.engine) {
            Ok(room) => room,
            Err(error) => return tracing::warn!(%error, "cannot tell how much of the disk is free"),
        };
        let condition = if room.is_ok() { Condition::Ready } else { Condition::Full };
        if self.inbox.set_condition(condition) == condition {
            return;
        }
        const REFUSED: &str = "new sessions, subscriptions and messages that must be stored are refused";
        match room {
            Ok(()) => tracing::info!("there is room on the disk again"),
            Err(Lack::Free { free, minimum }) => {
                tracing::error!(free, minimum, "the disk is nearly full: {REFUSED}");
            }
            Err(Lack::Own { taken, maximum }) => {
                tracing::error!(taken, maximum, "the store is as large as it may be: {REFUSED}");
            }
        }
    }
}

/// Why nothing new is stored.
enum Lack {
    Free { free: u64, minimum: u64 },
    Own { taken: u64, maximum: u64 },
}

impl Options {
    fn limits_disk(&self) -> bool {
        self.free_bytes_minimum > 0 || self.disk_bytes_maximum > 0
    }

    /// Whether there is room for anything new.
    fn room(&mut self, engine: &dyn Engine) -> Result<Result<(), Lack>, Box<dyn Error>> {
        let (minimum, maximum) = (self.free_bytes_minimum, self.disk_bytes_maximum);
        let free = if minimum > 0 { (self.free_bytes)()? } else { u64::MAX };
        if free < minimum {
            return Ok(Err(Lack::Free { free, minimum }));
        }
        let taken = if maximum > 0 { engine.disk_bytes()? } else { 0 };
        Ok(if maximum > 0 && taken >= maximum { Err(Lack::Own { taken, maximum }) } else { Ok(()) })
    }
}
