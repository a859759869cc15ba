//! A shard: a share of the connections and sessions, as plain data with synchronous transitions.
//!
//! A shard knows neither sockets nor clocks. Its event loop tells it what happened ([`Shard::accept`],
//! [`Shard::receive`], [`Shard::lost`], [`Shard::handle_mail`], [`Shard::handle_timeout`]) and when, and then
//! writes what has gathered in the outboxes ([`Shard::take_dirty`], [`Shard::outbox`]). So a test can step it
//! without either.

mod admission;
mod authentication;
mod connect;
mod connection;
mod delayed;
mod deliver;
mod disconnect;
mod dispatch;
mod estate;
mod explain;
mod filters;
mod full;
mod handover;
mod incident;
mod inquiry;
mod ledger;
mod memory;
mod outbox;
mod packet;
mod permission;
mod publish;
mod recovery;
mod replays;
mod retained;
mod route;
mod run;
mod session;
mod slab;
mod stat;
mod stored;
mod stored_session;
mod subscribe;
mod sys;
mod timer;
mod trail;
mod will;

#[cfg(test)]
mod test;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lapwing_proto::packet::{DecodeError, Frame, Publish, ReasonCode, Run};
use lapwing_proto::session::Instant;

use self::outbox::BufferPool;
pub(crate) use self::outbox::Outbox;
pub(crate) use self::recovery::Remnant;
pub(crate) use self::stat::Report;
pub use self::stat::{Dropped, PerQoS, PerReasonCode, Stat};

use self::admission::Meter;
use self::connection::{Connection, Open, Phase};
use self::delayed::Delayed;
use self::deliver::{Source, Variants};
use self::disconnect::End;
use self::dispatch::Dispatch;
use self::estate::Estates;
use self::handover::Handover;
use self::incident::Incidents;
use self::ledger::Ledger;
use self::permission::Renewal;
use self::route::Routes;
use self::session::Session;
pub(crate) use self::session::SessionKey;
use self::slab::Slab;
use self::sys::Sys;
use self::timer::{Timer, Timers};
use self::trail::Trail;
pub(crate) use self::trail::{DeliveryEntry, RecordId, Trace};
use crate::clock::WallClock;
use crate::hook::{Client, Event};
use crate::mail::Mail;
use crate::mailbox::Mailbox;
use crate::memory::{Bounds, Pressure};
use crate::origin::Origin;
use crate::rate::Rate;
use crate::shared::{ShardId, Shared};

/// A connection of a shard. It names another one only after 4 billion more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    index: u32,
    serial: u32,
}

impl ConnectionId {
    /// Where the shard keeps it; free for another connection after this one.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// A session, wherever it is. It names another one only after 8 million more of its shard: long after whatever
/// was on its way to it has arrived. Many are kept, with every subscription, so it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId {
    shard: u8,
    /// The highest bit says whether it is stored.
    serial: [u8; 3],
    index: u32,
}

const STORED: u8 = 0x80;

impl SessionId {
    pub(crate) fn new(shard: ShardId, index: usize, serial: u32, is_stored: bool) -> Self {
        let [_, mut serial @ ..] = serial.to_be_bytes();
        serial[0] = serial[0] & !STORED | if is_stored { STORED } else { 0 };
        Self { shard: shard.0, serial, index: index as u32 }
    }

    /// The same as a number.
    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        let [a, b, c] = self.serial;
        u64::from(u32::from_le_bytes([self.shard, a, b, c])) | u64::from(self.index) << 32
    }

    /// From that number.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let [shard, serial @ ..] = (bits as u32).to_le_bytes();
        Self { shard, serial, index: (bits >> 32) as u32 }
    }

    /// Whether it outlives the broker's process.
    pub(crate) fn is_stored(self) -> bool {
        self.serial[0] & STORED != 0
    }

    /// The shard that has it.
    pub(crate) fn shard(self) -> ShardId {
        ShardId(self.shard)
    }

    /// Where that shard keeps it.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

pub(crate) struct Shard {
    id: ShardId,
    shared: Arc<Shared>,
    /// What holds at the moment.
    limits: Bounds,
    /// Whether they have been configured anew, and the event loop does not know.
    has_new_limits: bool,
    mailbox: Mailbox,
    /// Mail that has been taken out, and waits for a turn that has time for it.
    mail: VecDeque<Mail>,
    dispatch: Dispatch,
    handover: Handover,
    ledger: Ledger,
    estates: Estates,
    trail: Trail,
    incidents: Incidents,
    connections: Slab<Connection>,
    sessions: Slab<Session>,
    routes: Routes,
    delayed: Delayed,
    sys: Sys,
    timers: Timers,
    /// Connections that have something to write, or are to be closed.
    dirty: Vec<ConnectionId>,
    /// The session whose client has just acknowledged messages, if others wait for that.
    with_room: Option<SessionId>,
    /// Connections whose bytes have not all been handled, since the turn had enough to do.
    unfinished: VecDeque<ConnectionId>,
    /// What this turn has cost: bytes put into outboxes for messages, and [`DELIVERY_COST`] for each delivery.
    spent: usize,
    /// Connections that may be read from again.
    resumed: Vec<ConnectionId>,
    /// Connections with retained messages to send that are waiting for a turn.
    replaying: Vec<ConnectionId>,
    variants: Variants,
    /// Targets of a run that get each message for itself, while it is delivered.
    singly: Vec<usize>,
    pool: BufferPool,
    /// The rules have changed, and not every client has been looked at.
    renewal: Option<Renewal>,
    serial: u32,
    /// The time of the current call.
    now: Instant,
    is_shutting_down: bool,
    stat: Stat,
    faults: Rate,
    arrivals: Rate,
    overflows: Rate,
    shortages: Rate,
}

/// What a turn may cost before it lets outboxes be written, in bytes: a few packets in one read can be messages to
/// very many clients.
const TURN_BUDGET: usize = 4 * 1024 * 1024;
/// When a turn has handled so many bytes of mail, it is to write what became of them while a processor's cache still has
/// it.
const TURN_MAIL: usize = 512 * 1024;
/// What a delivery costs beside its bytes, so that those to queues and to nobody count as well.
const DELIVERY_COST: usize = 64;
/// Timers that may be left over beside those that are needed, before they are thrown out.
const LEFT_TIMERS: usize = 1024;
/// With which a connection begins that speaks TLS. A CONNECT never begins so.
const TLS_HANDSHAKE: u8 = 0x16;
/// With which a connection begins that speaks HTTP: packets that no client begins with.
const HTTP: [&[u8]; 3] = [b"GET /", b"POST /", b"HEAD /"];

impl Shard {
    /// `mailbox` is that of which `shared` has the other end.
    pub(crate) fn new(id: ShardId, shared: Arc<Shared>, mailbox: Mailbox) -> Self {
        let lines = |per_second| Rate::shared(per_second, shared.shards().count());
        Self {
            id,
            routes: Routes::new(id, Arc::clone(&shared)),
            mailbox,
            mail: VecDeque::new(),
            dispatch: Dispatch::default(),
            handover: Handover::default(),
            ledger: Ledger::new(shared.stored.store.clone()),
            estates: Estates::default(),
            trail: Trail::new(id, shared.explain.memory_bytes / 4 * 3),
            incidents: Incidents::new(shared.explain.memory_bytes / 4),
            connections: Slab::new(),
            sessions: Slab::new(),
            delayed: Delayed::default(),
            sys: Sys::default(),
            timers: Timers::default(),
            dirty: Vec::new(),
            with_room: None,
            unfinished: VecDeque::new(),
            spent: 0,
            resumed: Vec::new(),
            replaying: Vec::new(),
            variants: Variants::default(),
            singly: Vec::new(),
            pool: BufferPool::default(),
            renewal: None,
            serial: 0,
            now: Instant::default(),
            is_shutting_down: false,
            stat: Stat::default(),
            faults: lines(10),
            arrivals: lines(20),
            overflows: lines(5),
            shortages: lines(1),
            has_new_limits: false,
            limits: Bounds::new(&shared.limits(), shared.memory.as_ref(), Pressure::None),
            shared,
        }
    }

    /// A connection has been accepted.
    /// `None` if it is not let in: then it is to be closed at once.
    pub(crate) fn accept(&mut self, mut origin: Origin, now: Instant) -> Option<ConnectionId> {
        self.now = now;
        origin.seat = self.take_seat(&origin)?;
        self.stat.connections_accepted += 1;
        Some(self.add_connection(origin))
    }

    fn add_connection(&mut self, origin: Origin) -> ConnectionId {
        let (serial, now) = (self.next_serial(), self.now);
        let meter = Meter::new(self.quota(&origin.listener), now);
        let entry = self.connections.vacant_entry();
        let id = ConnectionId { index: entry.key() as u32, serial };
        entry.insert(Connection { meter, ..Connection::new(id, origin, now) });
        let timeout = Duration::from_secs(self.limits.connect_timeout_s.into());
        self.set_connection_timer(id, now + timeout);
        id
    }

    /// What carries a connection knows more about the other end, before the first byte has arrived.
    pub(crate) fn introduce(
        &mut self,
        id: ConnectionId,
        proxied: Option<SocketAddr>,
        certificate: Option<Arc<[u8]>>,
        now: Instant,
    ) {
        self.now = now;
        let Some(connection) = self.connection_mut(id) else { return };
        let origin = &mut connection.origin;
        if let Some(peer) = proxied {
            (origin.peer, origin.is_local) = (peer, false);
        }
        origin.certificate = certificate;
        if std::mem::take(&mut origin.is_proxied) {
            self.admit_proxied(id);
        }
    }

    /// Bytes have arrived on a connection.
    pub(crate) fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        self.now = now;
        self.stat.bytes_received += bytes.len() as u64;
        let packets = self.stat.packets_received;
        let Some(connection) = self.connection_mut(id) else { return };
        let is_metered = connection.meter.is_some();
        let mut input = bytes;
        if !connection.tail.is_empty() {
            connection.complete_tail(&mut input);
            self.handle_tail(id);
        }
        if self.connection(id).is_some_and(|connection| connection.tail.is_empty()) {
            self.handle_packets(id, &mut input);
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.tail.extend_from_slice(input);
        }
        if self.limits.is_short() {
            self.refuse_large(id);
        }
        if is_metered {
            self.meter(id, bytes.len() as u64, self.stat.packets_received - packets);
        }
    }

    /// Handles the whole packets in what is kept of a connection's bytes.
    fn handle_tail(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        let mut tail = std::mem::take(&mut connection.tail);
        let mut input = &tail[..];
        self.handle_packets(id, &mut input);
        let Some(connection) = self.connection_mut(id) else { return };
        let handled = tail.len() - input.len();
        if handled < tail.len() {
            tail.drain(..handled);
            connection.tail = tail;
        }
    }

    /// Handles whole packets at the front of `input`, and leaves there what must wait. What waited for
    /// acknowledgements among them follows for all together.
    fn handle_packets(&mut self, id: ConnectionId, input: &mut &[u8]) {
        self.handle_frames(id, input);
        if let Some(session) = self.with_room.take() {
            self.pump(session);
        }
    }

    fn handle_frames(&mut self, id: ConnectionId, input: &mut &[u8]) {
        while let Some(connection) = self.connection(id) {
            let limits = &self.limits;
            let maximum = match connection.phase {
                Phase::AwaitingConnect if input.starts_with(&[TLS_HANDSHAKE]) => {
                    let fault = "this looks like TLS, which this listener does not speak";
                    self.fault(id, ReasonCode::MalformedPacket, &fault);
                    break;
                }
                Phase::AwaitingConnect if HTTP.iter().any(|method| input.starts_with(method)) => {
                    let fault = "this looks like HTTP: MQTT over WebSocket has a listener of its own, ws://";
                    self.fault(id, ReasonCode::MalformedPacket, &fault);
                    break;
                }
                Phase::AwaitingConnect => limits.connect_packet_size_maximum,
                Phase::Open(_) => limits.packet_size_maximum,
                // What remains is kept until the verdict, or goes to the other shard.
                Phase::Authenticating(_) | Phase::Departing(_) | Phase::Restoring(_) => return,
                Phase::Exchanging(_) => limits.connect_packet_size_maximum,
                Phase::Closing => break,
            };
            if self.is_spent() {
                return self.leave_unfinished(id);
            }
            if Run::may_begin(input) && self.handle_run(id, input) {
                if self.hold_back(id) {
                    return;
                }
                continue;
            }
            match Frame::split(input, maximum) {
                Ok(Some(frame)) => {
                    self.handle_frame(id, frame);
                    if self.hold_back(id) {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => self.malformed(id, error),
            }
        }
        *input = &[];
    }

    /// The connection has ended without a DISCONNECT, or its last bytes have been written.
    pub(crate) fn lost(&mut self, id: ConnectionId, now: Instant) {
        self.now = now;
        if self.connection(id).is_some_and(|connection| !matches!(connection.phase, Phase::Closing)) {
            self.stat.connections_lost += 1;
        }
        self.end(id, End::Lost, None);
        if self.connection_mut(id).is_some() {
            self.connections.remove(id.index());
        }
    }

    /// Takes what has come in the mailbox.
    pub(crate) fn collect_mail(&mut self) {
        self.mailbox.take(&mut self.mail);
    }

    /// Handles mail from other threads, as far as this turn can.
    pub(crate) fn handle_mail(&mut self, now: Instant) {
        self.now = now;
        self.collect_mail();
        let mut room = TURN_MAIL;
        while !self.is_spent() && room > 0 {
            let Some(mail) = self.mail.pop_front() else { break };
            room = room.saturating_sub(mail.cost());
            self.handle_letter(mail);
        }
    }

    fn handle_letter(&mut self, mail: Mail) {
        let now = self.now;
        match mail {
            Mail::Batch(mut batch) => {
                if self.deliver_batch(&mut batch, now, true) {
                    self.finish_batch(batch);
                } else {
                    self.mail.push_front(Mail::Batch(batch));
                }
            }
            Mail::Arrival(arrival, stream) => self.arrive(*arrival, stream),
            Mail::Room => self.release_held(),
            Mail::Verdict(id, verdict) => {
                self.finish_authentication(id, verdict);
                self.handle_tail(id);
                self.resumed.push(id);
            }
            Mail::Publish(message, retain) => {
                self.publish(
                    &Publish { qos: message.qos(), retain, ..message.publish(now) },
                    Source::default(),
                    None,
                    false,
                );
            }
            Mail::Send(key, message, qos) => self.send_to(&key, &message, qos),
            Mail::Stored(batch, first) => self.deliver_stored(batch, first),
            Mail::Durable(ticket) => self.note_durable(ticket),
            Mail::QueueRead(id, read) => self.take_queue_read(id, read),
            Mail::QueueCount(id, count) => self.take_queue_count(id, count),
            Mail::TrimQueue(id) => self.trim_queue(id),
            Mail::Flows(connection, session, found) => self.take_flows(connection, session, *found),
            Mail::Estate(number, left) => self.take_estate(number, *left),
            Mail::Inquiry(inquiry) => self.answer(*inquiry),
            Mail::Shutdown => self.shut_down(),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let is_late = self.delayed.due().next().is_some_and(|due| due <= self.now);
        let is_busy =
            is_late || !self.replaying.is_empty() || !self.unfinished.is_empty() || !self.mail.is_empty();
        if is_busy {
            return Some(self.now);
        }
        [self.timers.next(), self.shared.retained.next_expiry()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Connection(id) => self.check_connection(id),
                Timer::Session(id) => self.check_session(id),
                Timer::Identity(id) => self.check_identity(id),
                Timer::Meter(id) => self.check_meter(id),
                Timer::Will(id) => self.check_will(id),
                Timer::Delayed => {} // below, with those that an earlier turn had no time for
                Timer::Sys => self.publish_sys(),
            }
        }
        self.publish_delayed();
        self.remove_expired();
        self.continue_replays();
    }

    /// Goes on with what earlier turns left unfinished, as far as this one can. It comes before anything new is
    /// read, so that those who have waited are not kept waiting by those who keep sending; whoever is left
    /// unfinished again goes behind the others.
    pub(crate) fn continue_unfinished(&mut self, now: Instant) {
        self.now = now;
        self.continue_renewal();
        while !self.is_spent() {
            let Some(id) = self.unfinished.pop_front() else { break };
            let Some(connection) = self.connection_mut(id) else { continue };
            connection.is_unfinished = false;
            self.handle_tail(id);
            self.resumed.push(id);
        }
    }

    /// Whether the turn has done enough.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent > TURN_BUDGET
    }

    /// The turn has enough to do: the rest of a connection's bytes is for the next one.
    fn leave_unfinished(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        if !std::mem::replace(&mut connection.is_unfinished, true) {
            self.unfinished.push_back(id);
        }
    }

    /// Whether bytes of a connection may be read now. If not, it will be among
    /// [`take_resumed`](Self::take_resumed) later, or some of its outbox must be written first, or it is
    /// closing.
    pub(crate) fn wants_bytes(&self, id: ConnectionId) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        // Who does not read the answers must not go on asking.
        let is_behind = connection.outbox.len() / 2 > self.limits.outbox_bytes_maximum;
        let is_listening =
            matches!(connection.phase, Phase::AwaitingConnect | Phase::Exchanging(_) | Phase::Open(_));
        is_listening && !is_behind && !connection.is_unfinished && !connection.is_paused()
    }

    /// Connections that have something to write or are to be closed.
    pub(crate) fn take_dirty(&mut self, ids: &mut Vec<ConnectionId>) {
        self.spent = 0;
        ids.append(&mut self.dirty);
        for id in ids {
            if let Some(connection) = self.connections.get_mut(id.index()) {
                connection.is_dirty = false;
            }
        }
    }

    /// Connections from which may be read again.
    pub(crate) fn take_resumed(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.resumed)
    }

    /// What is to be written to a connection.
    pub(crate) fn outbox(&mut self, id: ConnectionId) -> Option<&mut Outbox> {
        self.connection_mut(id).map(|connection| &mut connection.outbox)
    }

    /// Whether a connection is to be closed once its outbox is empty.
    pub(crate) fn is_closing(&self, id: ConnectionId) -> bool {
        self.connection(id).is_none_or(|connection| matches!(connection.phase, Phase::Closing))
    }

    /// A connection's outbox has become empty: what waited for room may follow.
    pub(crate) fn drained(&mut self, id: ConnectionId, now: Instant) {
        self.now = now;
        let Some(connection) = self.connection(id) else { return };
        let Some(session_id) = connection.open().map(|open| open.session) else { return };
        if self.session_mut(session_id).is_some_and(|session| !session.replays.is_empty()) {
            self.schedule_replay(id);
        }
        self.pump(session_id);
    }

    /// Of a connection's outbox so many bytes have been written, which is all that this turn could.
    pub(crate) fn written(&mut self, id: ConnectionId, count: usize) {
        self.stat.bytes_sent += count as u64;
        if let Some(connection) = self.connections.get_mut(id.index()) {
            connection.outbox.settle(&mut self.pool);
            if connection.meter.is_some() && count > 0 {
                self.meter_written(id, count);
            }
        }
    }

    /// Whether nothing has come in the mailbox, so that the thread may sleep: from here on it is woken by mail.
    pub(crate) fn may_sleep(&self) -> bool {
        !self.is_renewing() && self.mailbox.may_sleep()
    }

    /// The thread is awake, and need not be woken.
    pub(crate) fn wake_up(&self) {
        self.mailbox.wake_up();
    }

    /// What has happened on this shard so far, and how much it has: all but the retained messages, which belong to
    /// all shards.
    pub(crate) fn stat(&self) -> Stat {
        Stat {
            packets_sent: self.stat.packets_sent
                + self.stat.messages_sent.total()
                + self.stat.messages_resent,
            connections: self.connections.len() as u64,
            sessions: self.sessions.len() as u64,
            ..self.stat
        }
    }

    /// The clock of the machine has been looked at.
    pub(crate) fn note_wall_clock(&self, clock: WallClock) {
        self.shared.stored.set_wall_clock(clock);
    }

    /// Whether nothing is left to be done after [`Mail::Shutdown`].
    pub(crate) fn is_finished(&self) -> bool {
        self.is_shutting_down && self.connections.is_empty() && self.ledger.is_settled()
    }

    /// Whether new connections are to be accepted.
    pub(crate) fn is_accepting(&self) -> bool {
        !self.is_shutting_down
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.index()).filter(|connection| connection.id == id)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.index()).filter(|connection| connection.id == id)
    }

    fn open_mut(&mut self, id: ConnectionId) -> Option<&mut Open> {
        self.connection_mut(id)?.open_mut()
    }

    fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id.index()).filter(|session| session.id == id)
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Lets the event loop look at a connection's outbox at the end of the turn.
    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.index()) {
            deliver::mark_dirty(&mut self.dirty, connection);
        }
    }

    fn set_connection_timer(&mut self, id: ConnectionId, at: Instant) {
        if let Some(connection) = self.connection_mut(id) {
            connection.timer = at;
            self.set_timer(at, Timer::Connection(id));
        }
    }

    /// Sets a timer. Each reconnect leaves one behind that nobody waits for any more: when there are far more
    /// than are needed, only these are kept.
    fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.set(at, timer);
        let needed = self.connections.len() + 2 * self.sessions.len() + self.delayed.len();
        if self.timers.len() <= 2 * needed + LEFT_TIMERS {
            return;
        }
        self.timers.clear();
        for (_, connection) in self.connections.iter() {
            connection.timers().for_each(|(at, timer)| self.timers.set(at, timer));
        }
        for (_, session) in self.sessions.iter() {
            if let Some(expires) = session.expires {
                self.timers.set(expires, Timer::Session(session.id));
            }
            if let Some(due) = session.will.as_ref().and_then(|will| will.due) {
                self.timers.set(due, Timer::Will(session.id));
            }
        }
        for due in self.delayed.due() {
            self.timers.set(due, Timer::Delayed);
        }
        if let Some(due) = self.sys.due() {
            self.timers.set(due, Timer::Sys);
        }
    }

    /// Tells the program around the broker what has happened to the client of a connection.
    fn observe<'a>(&'a self, id: ConnectionId, event: impl FnOnce(&'a Client) -> Event<'a>) {
        let Some(observer) = &self.shared.hooks.observer else { return };
        if let Some(open) = self.connection(id).and_then(Connection::open) {
            observer.observe(&event(&open.client));
        }
    }

    fn malformed(&mut self, id: ConnectionId, error: DecodeError) {
        self.fault(id, error.reason_code(), &error);
    }
}
