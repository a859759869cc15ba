//! How the shards reach the writer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::archive::{ArchiveError, Summary};
use crate::backup::{self, BackupTarget};
use crate::queue::{QueueCount, QueueRead, StoredFlows};
use crate::record::{Sequence, SessionNumber, Transaction};

/// Bytes that may wait for the writer before those who fill it are held back.
const BACKLOG_BYTES: usize = 16 * 1024 * 1024;

/// The store, as those who use it have it. A clone is another way to the same one.
#[derive(Debug, Clone)]
pub struct Store {
    inbox: Arc<Inbox>,
}

/// Whether the store takes what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    Ready,
    /// There is too little room on the disk for new sessions, subscriptions and messages. What makes it less, and what
    /// goes on with what there is, is taken.
    Full,
    /// It has failed: nothing is durable any more.
    Failed,
}

impl Condition {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Ready,
            1 => Self::Full,
            _ => Self::Failed,
        }
    }
}

/// What is read of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRequest {
    /// Whose.
    pub session: SessionNumber,
    /// The last place that is not wanted.
    pub after: Sequence,
    /// How many messages at the most.
    pub messages: usize,
    /// How many bytes of messages at the most, beside the first one.
    pub bytes: usize,
}

pub(crate) type Then<T> = Box<dyn FnOnce(T) + Send>;

pub(crate) enum Request {
    /// Gives the place of the first of its messages.
    Commit(Transaction, Then<Sequence>),
    Read(QueueRequest, Then<QueueRead>),
    Flows(SessionNumber, Then<StoredFlows>),
    Count(SessionNumber, Then<QueueCount>),
    Backup(BackupTarget, backup::Done),
    Stop,
}

pub(crate) struct Inbox {
    requests: Mutex<VecDeque<(Request, usize)>>,
    arrived: Condvar,
    /// Bytes of the requests that have not been handled.
    bytes: AtomicUsize,
    is_awaited: AtomicBool,
    condition: AtomicU8,
    next_session: AtomicU64,
    on_room: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(next_session: u64, on_room: Box<dyn Fn() + Send + Sync>) -> (Self, Arc<Inbox>) {
        let inbox = Arc::new(Inbox {
            requests: Mutex::default(),
            arrived: Condvar::new(),
            bytes: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            condition: AtomicU8::new(0),
            next_session: AtomicU64::new(next_session),
            on_room,
        });
        (Self { inbox: Arc::clone(&inbox) }, inbox)
    }

    /// Has changes made. `then` is called once they are durable, if somebody waits for that, and otherwise once they
    /// are made; with the place of the first of its messages, behind which the others follow. If the store fails it is
    /// never called.
    ///
    /// What is submitted earlier, by whomever, is made and is durable earlier.
    pub fn submit(&self, transaction: Transaction, then: impl FnOnce(Sequence) + Send + 'static) {
        let size = transaction.size();
        self.inbox.send(Request::Commit(transaction, Box::new(then)), size);
    }

    /// Reads messages that wait for a session, as they are after all that was submitted earlier.
    pub fn read(&self, request: QueueRequest, then: impl FnOnce(QueueRead) + Send + 'static) {
        self.inbox.send(Request::Read(request, Box::new(then)), 0);
    }

    /// Reads which QoS 2 messages of a session are under way.
    pub fn read_flows(&self, session: SessionNumber, then: impl FnOnce(StoredFlows) + Send + 'static) {
        self.inbox.send(Request::Flows(session, Box::new(then)), 0);
    }

    /// Counts the messages that wait for a session.
    pub fn count(&self, session: SessionNumber, then: impl FnOnce(QueueCount) + Send + 'static) {
        self.inbox.send(Request::Count(session, Box::new(then)), 0);
    }

    /// Writes all that is submitted earlier to an archive, as of one moment at which it is durable. The store goes on
    /// meanwhile, and `then` is called by another thread than its own. If the store fails before, or is stopping, it may be
    /// dropped without a call.
    ///
    /// There is one backup at a time: another one is refused meanwhile.
    pub fn backup(
        &self,
        target: BackupTarget,
        then: impl FnOnce(Result<Summary, ArchiveError>) + Send + 'static,
    ) {
        self.inbox.send(Request::Backup(target, Box::new(then)), 0);
    }

    /// Lets the writer end, once all that was submitted before is durable.
    pub fn stop(&self) {
        self.inbox.send(Request::Stop, 0);
    }

    /// There is no writer any more: nobody is to wait for it.
    pub fn end(&self) {
        self.inbox.fail();
    }

    /// A number for a new session.
    pub fn next_session(&self) -> SessionNumber {
        SessionNumber(self.inbox.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether it takes what is new.
    pub fn condition(&self) -> Condition {
        Condition::from_number(self.inbox.condition.load(Ordering::Relaxed))
    }

    /// Whether so much waits for the writer that those who submit should wait as well.
    pub fn is_behind(&self) -> bool {
        self.inbox.bytes.load(Ordering::SeqCst) > BACKLOG_BYTES
    }

    /// Asks to be told when there is room. `false` if there is already.
    pub fn await_room(&self) -> bool {
        self.inbox.is_awaited.store(true, Ordering::SeqCst);
        self.is_behind()
    }
}

impl Inbox {
    fn send(&self, request: Request, size: usize) {
        self.bytes.fetch_add(size, Ordering::SeqCst);
        let mut requests = self.lock();
        let was_empty = requests.is_empty();
        requests.push_back((request, size));
        drop(requests);
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Takes what is there; waits for something, at most so long.
    pub(crate) fn take(&self, wait: Option<Duration>) -> VecDeque<(Request, usize)> {
        let mut requests = self.lock();
        match wait {
            Some(Duration::ZERO) => {}
            Some(wait) if requests.is_empty() => {
                requests =
                    self.arrived.wait_timeout(requests, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => {
                while requests.is_empty() {
                    requests = self.arrived.wait(requests).unwrap_or_else(PoisonError::into_inner);
                }
            }
            Some(_) => {}
        }
        std::mem::take(&mut *requests)
    }

    pub(crate) fn has_requests(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Requests of this size have been handled.
    pub(crate) fn settle(&self, size: usize) {
        let left = self.bytes.fetch_sub(size, Ordering::SeqCst) - size;
        if left <= BACKLOG_BYTES && self.is_awaited.swap(false, Ordering::SeqCst) {
            (self.on_room)();
        }
    }

    /// Sets the condition and gives the one before.
    pub(crate) fn set_condition(&self, condition: Condition) -> Condition {
        let number = match condition {
            Condition::Ready => 0,
            Condition::Full => 1,
            Condition::Failed => 2,
        };
        Condition::from_number(self.condition.swap(number, Ordering::Relaxed))
    }

    /// Nothing is durable any more. Everybody is woken, so that none waits for what never comes.
    pub(crate) fn fail(&self) {
        self.set_condition(Condition::Failed);
        (self.on_room)();
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.next_session.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Request, usize)>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
