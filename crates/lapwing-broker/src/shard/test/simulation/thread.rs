//! Shards on threads of their own, each with the turns of an event loop, under a [`Schedule`]: another one may go on
//! wherever one touches what all share.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use lapwing_proto::session::Instant;

use super::super::broker::{Setup, Wire, WireId};
use super::super::random::Random;
use super::network::Network;
use super::schedule::{Number, Schedule};
use crate::mailbox::{Mailbox, mailbox};
use crate::origin::Origin;
use crate::shard::connection::Phase;
use crate::shard::{ConnectionId, Shard};
use crate::shared::{ShardId, Shared, Stored};
use crate::sync::Waker;

/// The clients' thread. The shards' have the numbers behind it.
const CLIENTS: Number = 0;
pub(super) const NOW: Instant = Instant::from_millis(1_000_000);

/// The wires, of which every thread knows. Never kept locked where another thread could go on.
type Lines = Mutex<BTreeMap<WireId, Line>>;

/// A wire, and what its shard has not yet noticed.
#[derive(Default)]
struct Line {
    wire: Wire,
    is_new: bool,
    is_lost: bool,
    is_writable_again: bool,
}

/// The broker as the clients' thread sees it.
pub(super) struct Threads {
    schedule: Arc<Schedule>,
    shared: Arc<Shared>,
    lines: Arc<Lines>,
}

/// Does something with a broker of so many shards. At how many points another thread could have gone on.
pub(super) fn with_threads(shards: usize, chunk: usize, seed: u64, run: impl FnOnce(Threads)) -> usize {
    let schedule = Schedule::new(1 + shards, seed);
    let waker = |number: Number| {
        let schedule = Arc::clone(&schedule);
        Waker::Scheduled(Box::new(move || schedule.wake(number)))
    };
    let (senders, mailboxes): (Vec<_>, Vec<_>) =
        (0..shards).map(|shard| mailbox(Some(waker(number(shard))))).unzip();
    let stored = Stored::new(shards, None, lapwing_store::Sequence::default());
    let shared = Setup::new(shards).share(senders, stored);
    let lines = Arc::new(Lines::default());
    std::thread::scope(|scope| {
        for (id, mailbox) in shared.shards().zip(mailboxes) {
            let (schedule, shared, lines) = (&schedule, &shared, &lines);
            scope.spawn(move || {
                let run =
                    || Loop::new(id, Arc::clone(shared), mailbox, Arc::clone(lines), chunk).run(schedule);
                schedule.run(number(id.index()), run);
            });
        }
        let threads = Threads {
            schedule: Arc::clone(&schedule),
            shared: Arc::clone(&shared),
            lines: Arc::clone(&lines),
        };
        schedule.run(CLIENTS, || run(threads));
    });
    schedule.points()
}

fn number(shard: usize) -> Number {
    CLIENTS + 1 + shard
}

impl Threads {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<WireId, Line>> {
        self.lines.lock().unwrap()
    }

    /// Changes something about a wire, and tells its shard.
    fn change(&mut self, id: WireId, change: impl FnOnce(&mut Line)) {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(&id) else { return };
        change(line);
        let shard = line.wire.shard;
        drop(lines);
        self.schedule.wake(number(shard));
    }
}

impl Network for Threads {
    fn accept(&mut self) -> WireId {
        let id = self.count();
        self.lines().insert(id, Line { is_new: true, ..Line::default() });
        self.schedule.wake(number(0));
        id
    }

    fn feed(&mut self, id: WireId, bytes: &[u8]) {
        self.change(id, |line| line.wire.unread.extend_from_slice(bytes));
    }

    fn next_packet(&mut self, id: WireId) -> Option<Vec<u8>> {
        self.lines().get_mut(&id)?.wire.inbox.pop_front()
    }

    fn is_closed(&self, id: WireId) -> bool {
        self.lines()[&id].wire.is_closed
    }

    fn close(&mut self, id: WireId) {
        self.change(id, |line| {
            line.is_lost = true;
            line.wire.is_closed = true;
        });
    }

    fn count(&self) -> usize {
        self.lines().len()
    }

    fn is_blocked(&self, id: WireId) -> bool {
        self.lines()[&id].wire.is_blocked
    }

    fn block(&mut self, id: WireId, is_blocked: bool) {
        self.change(id, |line| {
            line.wire.is_blocked = is_blocked;
            line.is_writable_again = !is_blocked;
        });
    }

    fn has_unread(&self) -> bool {
        self.lines().values().any(|line| !line.wire.unread.is_empty() && !line.wire.is_closed)
    }

    fn go_on(&mut self, _: &mut Random) {
        self.schedule.give_way(CLIENTS);
    }

    fn read_at_once(&mut self, _: WireId) -> bool {
        false
    }

    fn settle(&mut self) {
        self.schedule.await_silence(CLIENTS);
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// What an event loop is where there are sockets.
struct Loop {
    at: usize,
    shard: Shard,
    lines: Arc<Lines>,
    /// The wires of this shard.
    wires: BTreeMap<ConnectionId, WireId>,
    chunk: usize,
    turns: usize,
}

impl Loop {
    fn new(id: ShardId, shared: Arc<Shared>, mailbox: Mailbox, lines: Arc<Lines>, chunk: usize) -> Self {
        let shard = Shard::new(id, shared, mailbox);
        Self { at: id.index(), shard, lines, wires: BTreeMap::new(), chunk, turns: 0 }
    }

    fn run(mut self, schedule: &Schedule) {
        while !schedule.is_done(CLIENTS) {
            self.turn();
            if !self.has_more() && self.shard.may_sleep() && !self.is_due() {
                schedule.sleep(number(self.at));
            }
            self.shard.wake_up();
        }
    }

    fn is_due(&self) -> bool {
        self.shard.poll_timeout().is_some_and(|at| at <= NOW)
    }

    /// In the order of the event loop.
    fn turn(&mut self) {
        self.turns += 1;
        self.note();
        self.shard.continue_unfinished(NOW);
        self.shard.handle_mail(NOW);
        for (connection, _) in self.shard.take_arrived() {
            let id = self.shard.connection(connection).map(|it| it.origin.peer.port().into());
            self.watch(id.unwrap(), connection);
        }
        for connection in self.ready() {
            self.read(connection);
        }
        if self.is_due() {
            self.shard.handle_timeout(NOW);
        }
        self.shard.take_resumed();
        for departure in self.shard.take_departures() {
            if let Some(id) = self.wires.remove(&departure.id) {
                let mut lines = self.lines.lock().unwrap();
                let wire = &mut lines.get_mut(&id).unwrap().wire;
                (wire.shard, wire.connection) = (departure.to.index(), None);
            }
            self.shard.send_on(departure, None);
        }
        self.shard.send_batches();
        self.write_dirty();
        self.shard.send_batches();
        self.shard.leave_report();
    }

    /// Does something with one wire.
    fn with<T>(&self, id: WireId, run: impl FnOnce(&mut Line) -> T) -> T {
        run(self.lines.lock().unwrap().get_mut(&id).unwrap())
    }

    fn watch(&mut self, id: WireId, connection: ConnectionId) {
        self.wires.insert(connection, id);
        self.with(id, |line| line.wire.connection = Some(connection));
    }

    /// Accepts, and notices what has become of connections.
    fn note(&mut self) {
        let lines = self.lines.lock().unwrap();
        let is_new = |line: &Line| line.is_new && line.wire.shard == self.at;
        let new: Vec<_> = lines.iter().filter(|(_, line)| is_new(line)).map(|(&id, _)| id).collect();
        drop(lines);
        for id in new {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, id as u16));
            let connection = self.shard.accept(Origin::new(peer, true, "test".into()), NOW).unwrap();
            self.with(id, |line| line.is_new = false);
            self.watch(id, connection);
        }
        for (connection, id) in self.wires.clone() {
            if self.with(id, |line| line.is_lost) {
                self.remove(connection);
            } else if self.with(id, |line| std::mem::take(&mut line.is_writable_again)) {
                self.shard.mark_dirty(connection);
            }
        }
    }

    fn has_more(&self) -> bool {
        let is_noticed = |id: WireId| self.with(id, |line| !line.is_lost && !line.is_writable_again);
        let has_new =
            self.lines.lock().unwrap().values().any(|line| line.is_new && line.wire.shard == self.at);
        has_new || !self.ready().is_empty() || !self.wires.values().all(|&id| is_noticed(id))
    }

    /// Connections with bytes that can be read: first those that have sent no CONNECT, in the order in which they came,
    /// then the others, of which another one is the first in each turn.
    fn ready(&self) -> Vec<ConnectionId> {
        let wants_bytes = |connection| self.shard.wants_bytes(connection);
        let has_bytes = |id: WireId| self.with(id, |line| !line.wire.unread.is_empty());
        let mut ready: Vec<_> = self
            .wires
            .iter()
            .map(|(&connection, &id)| (!self.is_unknown(connection), id, connection))
            .collect();
        ready.retain(|&(_, id, connection)| has_bytes(id) && wants_bytes(connection));
        ready.sort_unstable();
        let known = ready.iter().position(|&(is_known, ..)| is_known).unwrap_or(ready.len());
        let known = &mut ready[known..];
        if !known.is_empty() {
            let middle = self.turns % known.len();
            known.rotate_left(middle);
        }
        ready.into_iter().map(|(.., connection)| connection).collect()
    }

    fn is_unknown(&self, connection: ConnectionId) -> bool {
        self.shard.connection(connection).is_some_and(|it| matches!(it.phase, Phase::AwaitingConnect))
    }

    fn read(&mut self, connection: ConnectionId) {
        // It may have been taken over meanwhile.
        let Some(&id) = self.wires.get(&connection).filter(|_| self.shard.wants_bytes(connection)) else {
            return;
        };
        let chunk = self.chunk;
        let bytes: Vec<u8> = self.with(id, |line| {
            let count = line.wire.unread.len().min(chunk);
            line.wire.unread.drain(..count).collect()
        });
        self.shard.receive(connection, &bytes, NOW);
    }

    fn write_dirty(&mut self) {
        let mut dirty = Vec::new();
        self.shard.take_dirty(&mut dirty);
        while !dirty.is_empty() {
            for connection in dirty.drain(..) {
                self.write(connection);
            }
            self.shard.take_dirty(&mut dirty);
        }
    }

    fn write(&mut self, connection: ConnectionId) {
        let Some(&id) = self.wires.get(&connection) else { return };
        if self.with(id, |line| line.wire.is_blocked) {
            return;
        }
        let Some(outbox) = self.shard.outbox(connection) else { return };
        let bytes = outbox.pending().to_vec();
        outbox.advance(bytes.len());
        if !bytes.is_empty() {
            self.shard.written(connection, bytes.len());
            self.shard.drained(connection, NOW);
            self.with(id, |line| line.wire.take(&bytes));
        }
        let is_empty = self.shard.outbox(connection).is_none_or(|outbox| outbox.is_empty());
        if is_empty && self.shard.is_closing(connection) {
            self.remove(connection);
        }
    }

    fn remove(&mut self, connection: ConnectionId) {
        if let Some(id) = self.wires.remove(&connection) {
            self.with(id, |line| line.wire.is_closed = true);
        }
        self.shard.lost(connection, NOW);
    }
}
