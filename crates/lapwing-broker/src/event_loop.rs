//! A shard's thread: sockets on one side, the shard on the other, and nothing in between.
//!
//! A turn: wait for readiness, mail or a timer; read each ready socket once and hand the bytes to the shard;
//! then write each outbox once. So however many messages a turn has, a connection costs it at most one `read`
//! and one `write`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use lapwing_net::{Accepted, Listener, ReceiveError, Received, Stream};
use lapwing_proto::session::Instant;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use crate::clock::{Clock, LoadMeter, WallClock};
use crate::origin::Origin;
use crate::rate::{Allowance, Rate};
use crate::shard::{ConnectionId, Shard};
use crate::sync::Waker;

/// Bytes read from a socket at a time, into one buffer for all.
const READ_BUFFER: usize = 256 * 1024;
/// When a turn has read so many bytes, it is to write what became of them while a processor's cache still has it.
const TURN_READ: usize = 512 * 1024;
/// What a step of a handshake counts for among these bytes: it takes as long as so many.
const HANDSHAKE_COST: usize = 64 * 1024;
/// Connections accepted per listener and turn.
const ACCEPTS: usize = 256;
/// How long a closed connection's client has to read the last bytes and close its own end.
const LINGER: Duration = Duration::from_millis(1000);
/// How long the listeners rest when there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;

pub(crate) struct EventLoop {
    poll: Poll,
    shard: Shard,
    listeners: Vec<Listener>,
    /// By the connection's index.
    sockets: Vec<Option<Socket>>,
    /// Connections that may have bytes to be read.
    ready: VecDeque<ConnectionId>,
    /// Connections whose end has been announced, in the order of when they are cut off.
    closing: VecDeque<(Instant, ConnectionId)>,
    buffer: Box<[u8]>,
    clock: Clock,
    /// Listeners that may have connections waiting.
    accept_ready: Vec<bool>,
    /// Until when the listeners rest.
    accept_after: Option<Instant>,
    /// How many connections each listener accepts, where there is a limit, and until when it has had enough.
    paces: Vec<Option<Pace>>,
    shed: Rate,
    load: LoadMeter,
}

/// How many connections a listener accepts.
struct Pace {
    allowance: Allowance,
    rests_until: Instant,
}

struct Socket {
    id: ConnectionId,
    stream: Stream,
    /// Whether it is among those that are ready.
    is_ready: bool,
    /// Whether bytes came, or may come, that the shard did not want.
    is_paused: bool,
    /// Whether the peer has ended its direction: then only an empty read is the last.
    is_read_closed: bool,
    /// Whether the last write went through.
    is_writable: bool,
    /// Whether a write has failed: the connection is removed after what can still be read.
    is_broken: bool,
    /// Whether all has been written that ever will be; what still comes is thrown away.
    is_drained: bool,
    /// Whether the shard knows all about the other end that the transport does.
    is_introduced: bool,
}

/// The token of the waker by which mail wakes the loop.
pub(crate) fn waker(poll: &Poll) -> io::Result<Waker> {
    Waker::new(poll.registry(), WAKER)
}

impl EventLoop {
    pub(crate) fn new(
        poll: Poll,
        shard: Shard,
        mut listeners: Vec<Listener>,
        clock: Clock,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(FIRST_LISTENER + index), Interest::READABLE)?;
        }
        let now = clock.now();
        let paces = paces(&shard, &listeners, now);
        Ok(Self {
            poll,
            shard,
            accept_ready: vec![false; listeners.len()],
            paces,
            listeners,
            sockets: Vec::new(),
            ready: VecDeque::new(),
            closing: VecDeque::new(),
            buffer: vec![0; READ_BUFFER].into(),
            clock,
            accept_after: None,
            shed: Rate::shared(1, 1),
            load: LoadMeter::new(clock),
        })
    }

    /// Turns until the shard has shut down.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        self.shard.start_sys(self.clock.now());
        while !self.shard.is_finished() {
            let timeout = self.timeout();
            self.load.rest();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            self.shard.wake_up();
            if let Some(busy) = self.load.work() {
                self.shard.note_load(busy, self.clock.now());
                self.shard.note_wall_clock(WallClock::read(self.clock));
            }
            self.turn(&events);
        }
        Ok(())
    }

    fn turn(&mut self, events: &Events) {
        let now = self.clock.now();
        self.shard.look_at_memory(now);
        if self.shard.take_new_limits() {
            self.paces = paces(&self.shard, &self.listeners, now);
        }
        for event in events {
            self.note(event);
        }
        self.accept_waiting(now);
        self.shard.continue_unfinished(now);
        self.shard.handle_mail(now);
        for (id, stream) in self.shard.take_arrived() {
            if let Some(stream) = stream {
                // Its client has been let in, so that it has long been known.
                self.watch(id, stream, true, now);
            }
        }
        let mut room = TURN_READ;
        for _ in 0..self.ready.len() {
            if room == 0 {
                break; // the others are first in the next turn
            }
            if let Some(id) = self.ready.pop_front() {
                room = room.saturating_sub(self.read(id, now));
            }
        }
        if self.shard.poll_timeout().is_some_and(|at| at <= now) {
            self.shard.handle_timeout(now);
        }
        for id in self.shard.take_resumed() {
            self.resume(id);
        }
        for departure in self.shard.take_departures() {
            let socket = self.sockets.get_mut(departure.id.index()).and_then(Option::take);
            let stream = socket.map(|socket| self.unwatch(socket));
            self.shard.send_on(departure, stream);
        }
        // No message is acknowledged before it is on its way.
        self.shard.send_batches();
        self.write_dirty(now);
        self.cut_off(now);
        self.shard.send_batches();
        self.shard.leave_report();
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.shard.may_sleep() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now();
        let accept_after = self.accept_after.filter(|_| self.shard.is_accepting());
        let wakes_at = [self.shard.poll_timeout(), self.closing.front().map(|&(at, _)| at), accept_after];
        // A millisecond more, since the clock's milliseconds are cut off.
        let until =
            |at: Instant| if at <= now { Duration::ZERO } else { at.since(now) + Duration::from_millis(1) };
        wakes_at.into_iter().flatten().min().map(until)
    }

    /// Remembers what a readiness event says.
    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        if token == WAKER.0 {
            return;
        }
        let first_socket = FIRST_LISTENER + self.listeners.len();
        if token < first_socket {
            self.accept_ready[token - FIRST_LISTENER] = true;
            return;
        }
        let Some(Some(socket)) = self.sockets.get_mut(token - first_socket) else { return };
        if event.is_writable() {
            if !socket.is_writable {
                socket.is_writable = true;
                self.shard.mark_dirty(socket.id);
            }
            // What TLS and WebSocket have to say. Where it fails, the next read will say so.
            if socket.stream.flush().is_err() {
                make_ready(&mut self.ready, socket);
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            socket.is_read_closed |= event.is_read_closed() || event.is_error();
            make_ready(&mut self.ready, socket);
        }
    }

    fn accept_waiting(&mut self, now: Instant) {
        if self.accept_after.is_some_and(|at| at > now) || !self.shard.is_accepting() {
            return;
        }
        if self.accept_after.take().is_some() {
            self.accept_ready.fill(true);
        }
        for index in 0..self.listeners.len() {
            if self.accept_ready[index] {
                self.accept_ready[index] = self.accept(index, now);
            }
        }
        // Edges come once: what is left over must be asked for.
        if self.accept_ready.contains(&true) && self.accept_after.is_none() {
            let left = self.accept_ready.iter().zip(&self.paces).filter(|&(&is_ready, _)| is_ready);
            let rests = left.map(|(_, pace)| pace.as_ref().map_or(now, |pace| pace.rests_until));
            self.accept_after = rests.min();
        }
    }

    /// Accepts what waits at a listener; whether there may be more.
    fn accept(&mut self, index: usize, now: Instant) -> bool {
        for _ in 0..ACCEPTS {
            if self.paces[index].as_ref().is_some_and(|pace| pace.rests_until > now) {
                return true;
            }
            match self.listeners[index].accept() {
                Accepted::Stream(stream, peer) => {
                    let listener = Arc::clone(self.listeners[index].name());
                    let origin = Origin::new(peer, stream.is_local(peer), listener);
                    let origin = Origin { is_proxied: stream.is_proxied(), ..origin };
                    self.add(stream, origin, now);
                    if let Some(pace) = &mut self.paces[index]
                        && let Some(until) = pace.allowance.take(1, now)
                    {
                        pace.rests_until = until;
                    }
                }
                Accepted::None => return false,
                Accepted::Shed => self.report_shortage(now),
                Accepted::Exhausted => {
                    self.report_shortage(now);
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return true;
                }
            }
        }
        true
    }

    fn report_shortage(&mut self, now: Instant) {
        if let Some(suppressed) = self.shed.allow(now) {
            let connections = self.sockets.iter().flatten().count();
            tracing::warn!(
                connections,
                suppressed,
                "too few file descriptors: new connections are closed; raise the limit (`ulimit -n`, LimitNOFILE)"
            );
        }
    }

    fn add(&mut self, stream: Stream, origin: Origin, now: Instant) {
        // One that is not let in is closed with its stream.
        if let Some(id) = self.shard.accept(origin, now) {
            self.watch(id, stream, false, now);
        }
    }

    /// Gives a connection of the shard its socket.
    fn watch(&mut self, id: ConnectionId, mut stream: Stream, is_introduced: bool, now: Instant) {
        let has_more_to_say = stream.introduces_itself();
        let token = Token(FIRST_LISTENER + self.listeners.len() + id.index());
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interests) {
            tracing::warn!(%error, "a connection cannot be watched and is closed");
            return self.shard.lost(id, now);
        }
        let socket = Socket {
            id,
            stream,
            is_ready: false,
            is_paused: false,
            is_read_closed: false,
            is_writable: true,
            is_broken: false,
            is_drained: false,
            is_introduced: is_introduced || !has_more_to_say,
        };
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        self.sockets[id.index()] = Some(socket);
    }

    /// Takes a socket out that goes to another shard.
    fn unwatch(&mut self, socket: Socket) -> Stream {
        let mut stream = socket.stream;
        // It fails only for a socket that was never registered.
        let _ = self.poll.registry().deregister(&mut stream);
        stream
    }

    /// Reads a ready socket once; how many bytes there were.
    fn read(&mut self, id: ConnectionId, now: Instant) -> usize {
        let Some(socket) = socket(&mut self.sockets, id) else { return 0 };
        socket.is_ready = false;
        if !socket.is_drained && !self.shard.wants_bytes(id) && !self.shard.is_closing(id) {
            socket.is_paused = true;
            return 0;
        }
        let is_opening = socket.stream.is_opening();
        match socket.stream.receive(&mut self.buffer) {
            Ok(Received::Bytes { count, is_all }) => {
                // Nor may anything have been all that came with the peer's end.
                if !is_all || socket.is_read_closed || socket.is_broken {
                    make_ready(&mut self.ready, socket);
                }
                if count == 0 {
                    return HANDSHAKE_COST;
                }
                if !std::mem::replace(&mut socket.is_introduced, true) {
                    let introduction = socket.stream.introduction();
                    self.shard.introduce(id, introduction.proxied, introduction.certificate, now);
                }
                if !socket.is_drained {
                    self.shard.receive(id, &self.buffer[..count], now);
                }
                return if is_opening { count + HANDSHAKE_COST } else { count };
            }
            Ok(Received::Nothing) if !socket.is_broken => {
                // It may have been the beginning of a record or a frame, and the peer's end is behind it: that came with the
                // same event, and there is no other.
                if socket.is_read_closed {
                    make_ready(&mut self.ready, socket);
                }
                return if is_opening { HANDSHAKE_COST } else { 0 };
            }
            // After a failed write nothing may follow, even if nothing can be read either.
            Ok(Received::Nothing | Received::End) | Err(ReceiveError::Lost(_)) => self.remove(id, now),
            // The peer gets a moment to read why.
            Err(ReceiveError::Fault(fault)) => {
                socket.is_drained = true;
                make_ready(&mut self.ready, socket);
                self.closing.push_back((now + LINGER, id));
                self.shard.break_off(id, &fault, now);
            }
        }
        0
    }

    fn resume(&mut self, id: ConnectionId) {
        let Some(socket) = socket(&mut self.sockets, id) else { return };
        if std::mem::take(&mut socket.is_paused) {
            make_ready(&mut self.ready, socket);
        }
    }

    /// Writes every outbox that has something in it, as long as emptying one fills another.
    fn write_dirty(&mut self, now: Instant) {
        let mut dirty = Vec::new();
        self.shard.take_dirty(&mut dirty);
        while !dirty.is_empty() {
            for id in dirty.drain(..) {
                if self.write(id) {
                    self.shard.drained(id, now);
                }
                if self.shard.wants_bytes(id) {
                    self.resume(id);
                }
                self.close_if_done(id, now);
            }
            self.shard.take_dirty(&mut dirty);
        }
    }

    /// Writes a connection's outbox as far as its socket takes it; whether it became empty.
    fn write(&mut self, id: ConnectionId) -> bool {
        let Some(socket) = socket(&mut self.sockets, id) else { return false };
        if self.shard.is_held(id) && !self.shard.is_closing(id) {
            return false;
        }
        let Some(outbox) = self.shard.outbox(id) else { return false };
        if outbox.is_empty() {
            return false;
        }
        let mut written = 0;
        while socket.is_writable && !outbox.pending().is_empty() {
            match socket.stream.write(outbox.pending()) {
                Ok(count) => {
                    outbox.advance(count);
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.is_writable = false,
                Err(_) => {
                    outbox.clear();
                    socket.is_broken = true;
                    make_ready(&mut self.ready, socket);
                }
            }
        }
        let is_empty = outbox.is_empty();
        self.shard.written(id, written);
        is_empty
    }

    /// Ends a connection whose last bytes are written: the peer is told, and given a moment to read them.
    fn close_if_done(&mut self, id: ConnectionId, now: Instant) {
        if !self.shard.is_closing(id) {
            return;
        }
        let Some(socket) = socket(&mut self.sockets, id) else { return };
        let is_empty = self.shard.outbox(id).is_none_or(|outbox| outbox.is_empty());
        if is_empty && !socket.is_drained {
            socket.is_drained = true;
            socket.stream.finish();
            make_ready(&mut self.ready, socket);
        }
        self.closing.push_back((now + LINGER, id));
    }

    /// Removes connections that have been closing for long enough.
    fn cut_off(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.closing.front() {
            if at > now {
                break;
            }
            self.closing.pop_front();
            self.remove(id, now);
        }
    }

    fn remove(&mut self, id: ConnectionId, now: Instant) {
        if socket(&mut self.sockets, id).is_some()
            && let Some(socket) = self.sockets[id.index()].take()
        {
            self.unwatch(socket);
        }
        self.shard.lost(id, now);
    }
}

/// How fast each listener accepts.
fn paces(shard: &Shard, listeners: &[Listener], now: Instant) -> Vec<Option<Pace>> {
    let pace = |listener: &Listener| {
        let rate = shard.quota(listener.name()).connect_rate;
        (rate > 0).then(|| Pace { allowance: Allowance::new(rate, now), rests_until: now })
    };
    listeners.iter().map(pace).collect()
}

fn socket(sockets: &mut [Option<Socket>], id: ConnectionId) -> Option<&mut Socket> {
    sockets.get_mut(id.index())?.as_mut().filter(|socket| socket.id == id)
}

fn make_ready(ready: &mut VecDeque<ConnectionId>, socket: &mut Socket) {
    if !socket.is_ready {
        socket.is_ready = true;
        ready.push_back(socket.id);
    }
}
