use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lapwing_proto::packet::{Connect, Frame, Packet, ProtocolVersion, ReasonCode, Will};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicName;

use super::V5;
use super::client::Client;
use super::message::qos;
use crate::hook::{AllowAll, Anonymous, Authenticator, Authorizer, Hooks, Observer, PublishFilter};
use crate::limit::Limits;
use crate::mailbox::{Mail, Mailbox, mailbox};
use crate::rule::Rules;
use crate::shard::{ConnectionId, Shard, Shared, Stat};

/// A shard with a clock and the other ends of its connections.
pub(super) struct Broker {
    world: Rc<RefCell<World>>,
}

/// How a shard is set up.
pub(super) struct Setup {
    pub(super) limits: Limits,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) authorizer: Arc<dyn Authorizer>,
    pub(super) publish_filter: Option<Arc<dyn PublishFilter>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) rules: Rules,
}

pub(super) struct World {
    pub(super) shard: Shard,
    mailbox: Mailbox,
    pub(super) now: Instant,
    pub(super) wires: BTreeMap<ConnectionId, Wire>,
    /// How many bytes arrive at a time.
    pub(super) chunk: usize,
}

/// The client's end of a connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Packets that have come, the last one perhaps not whole.
    pub(super) inbox: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    /// What the shard did not want to read yet.
    pub(super) unread: Vec<u8>,
    /// Whether nothing is taken from the outbox.
    pub(super) is_blocked: bool,
    pub(super) is_closed: bool,
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl Broker {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with_limits(set: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|setup| set(&mut setup.limits))
    }

    pub(super) fn with(set: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            limits: Limits::default(),
            authenticator: Arc::new(Anonymous::All),
            authorizer: Arc::new(AllowAll),
            publish_filter: None,
            observer: None,
            rules: Rules::default(),
        };
        set(&mut setup);
        let Setup { limits, authenticator, authorizer, publish_filter, observer, rules } = setup;
        let hooks = Hooks { authenticator, authorizer, publish_filter, observer };
        let rules = rules.compile().unwrap();
        limits.check().unwrap();
        let (sender, mailbox) = mailbox(None);
        let shard = Shard::new(Arc::new(Shared { limits, rules, hooks }), sender);
        let now = Instant::from_millis(1_000_000);
        let world = World { shard, mailbox, now, wires: BTreeMap::new(), chunk: usize::MAX };
        Self { world: Rc::new(RefCell::new(world)) }
    }

    pub(super) fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// From here on bytes arrive in pieces of this size.
    pub(super) fn split(&self, chunk: usize) {
        self.world().chunk = chunk;
    }

    /// A connection on which nothing has been sent.
    pub(super) fn open(&self, version: ProtocolVersion) -> Client {
        let mut world = self.world();
        let now = world.now;
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let id = world.shard.accept(peer, true, now);
        world.wires.insert(id, Wire::default());
        drop(world);
        Client::new(Rc::clone(&self.world), id, version)
    }

    /// A connection on which `connect` has been sent.
    pub(super) fn send_connect(&self, connect: &Connect<'_>) -> Client {
        let client = self.open(connect.version);
        client.send(&Packet::Connect(*connect));
        client
    }

    /// A client that has been let in. [`Client::session_present`] has been told to it.
    pub(super) fn join(&self, connect: &Connect<'_>) -> Client {
        let client = self.send_connect(connect);
        let answer = client.next();
        let connack = answer.connack();
        assert_eq!(connack.reason_code, ReasonCode::Success);
        client.session_present.set(connack.session_present);
        client
    }

    /// A client with a clean session that ends with its connection.
    pub(super) fn connect(&self, version: ProtocolVersion, client_id: &str) -> Client {
        self.join(&clean(version, client_id))
    }

    /// A client that goes on with its session, which stays.
    pub(super) fn resume(&self, version: ProtocolVersion, client_id: &str) -> Client {
        self.join(&lasting(version, client_id))
    }

    /// Time passes; what is due on the way is done at its very time.
    pub(super) fn advance_ms(&self, ms: u64) {
        let mut world = self.world();
        let until = world.now + Duration::from_millis(ms);
        loop {
            world.settle();
            match world.shard.poll_timeout() {
                Some(at) if at <= until => world.now = at.max(world.now),
                _ => break,
            }
        }
        world.now = until;
        world.settle();
    }

    pub(super) fn advance_s(&self, seconds: u64) {
        self.advance_ms(seconds * 1000);
    }

    /// Time passes, and nothing is done about it yet: the shard is late.
    pub(super) fn advance_unnoticed(&self, seconds: u64) {
        let mut world = self.world();
        world.now = world.now + Duration::from_secs(seconds);
    }

    /// The `$SYS` topics are published from now on.
    pub(super) fn start_sys(&self) {
        let mut world = self.world();
        let now = world.now;
        world.shard.start_sys(now);
        world.settle();
    }

    /// Lets the shard see mail that has come.
    pub(super) fn settle(&self) {
        self.world().settle();
    }

    pub(super) fn shut_down(&self) {
        let mut world = self.world();
        let now = world.now;
        world.shard.handle_mail(Mail::Shutdown, now);
        world.settle();
    }

    pub(super) fn stat(&self) -> Stat {
        self.world().shard.stat()
    }
}

impl World {
    /// Does all that is to be done now.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        loop {
            let mail = self.mailbox.take();
            let mut is_idle = mail.is_empty();
            for mail in mail {
                self.shard.handle_mail(mail, now);
            }
            if self.shard.poll_timeout().is_some_and(|at| at <= now) {
                self.shard.continue_unfinished(now);
                self.shard.handle_timeout(now);
                is_idle = false;
            }
            for id in self.shard.take_resumed() {
                self.read(id);
                is_idle = false;
            }
            let mut dirty = Vec::new();
            self.shard.take_dirty(&mut dirty);
            is_idle &= dirty.is_empty();
            for id in dirty {
                self.write(id);
            }
            if is_idle {
                break;
            }
        }
    }

    /// Bytes come from a client.
    pub(super) fn feed(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.unread.extend_from_slice(bytes);
        self.read(id);
        self.settle();
    }

    fn read(&mut self, id: ConnectionId) {
        while self.shard.wants_bytes(id) {
            let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.unread.is_empty()) else { return };
            let count = wire.unread.len().min(self.chunk);
            let chunk: Vec<u8> = wire.unread.drain(..count).collect();
            self.shard.receive(id, &chunk, self.now);
        }
    }

    /// Takes what is in an outbox, as the event loop does.
    pub(super) fn write(&mut self, id: ConnectionId) {
        if self.wires.get(&id).is_none_or(|wire| wire.is_blocked) {
            return;
        }
        self.write_some(id, usize::MAX);
        if self.shard.is_closing(id) && self.shard.outbox(id).is_none_or(|outbox| outbox.is_empty()) {
            self.close(id);
        }
    }

    /// Takes up to `maximum` bytes of what is in an outbox.
    pub(super) fn write_some(&mut self, id: ConnectionId, maximum: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let Some(outbox) = self.shard.outbox(id).filter(|outbox| !outbox.is_empty()) else { return };
        let count = outbox.len().min(maximum);
        wire.take(&outbox.pending()[..count]);
        outbox.advance(count);
        let is_empty = outbox.is_empty();
        self.shard.written(id, count);
        if is_empty {
            self.shard.drained(id, self.now);
            self.read(id);
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.is_closed = true;
        }
        self.shard.lost(id, self.now);
    }
}

impl Wire {
    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut rest = &self.partial[..];
        while let Some(size) = Frame::declared_size(rest).filter(|&size| size <= rest.len()) {
            let (packet, behind) = rest.split_at(size);
            self.inbox.push_back(packet.to_vec());
            rest = behind;
        }
        self.partial = rest.to_vec();
    }
}

/// A CONNECT for a clean session that ends with its connection, without keep alive.
pub(super) fn clean(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    Connect { keep_alive: 0, ..Connect::new(version, client_id) }
}

/// A CONNECT for a session that goes on, and stays.
pub(super) fn lasting(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    let mut connect = clean(version, client_id);
    connect.clean_start = false;
    if version == V5 {
        connect.properties.session_expiry_interval = Some(u32::MAX);
    }
    connect
}

/// The same for a session of 5.0 that stays for some seconds.
pub(super) fn expiring(client_id: &str, seconds: u32) -> Connect<'_> {
    let mut connect = lasting(V5, client_id);
    connect.properties.session_expiry_interval = Some(seconds);
    connect
}

pub(super) fn will<'a>(topic: &'a str, payload: &'a str, bits: u8) -> Will<'a> {
    Will { qos: qos(bits), ..Will::new(TopicName::new(topic).unwrap(), payload.as_bytes()) }
}
