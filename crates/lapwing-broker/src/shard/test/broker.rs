use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lapwing_proto::packet::{Connect, Frame, Packet, ProtocolVersion, ReasonCode, Will};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicName;
use lapwing_store::Writer;
use lapwing_store::engine::{Engine, FaultyDisk, MemoryEngine};

use super::V5;
use super::client::Client;
use super::message::qos;
use super::process::{Plan, Process};
use crate::clock::WallClock;
use crate::explanation::Explain;
use crate::hook::{AllowAll, Anonymous, Authenticator, Authorizer, Hooks, Observer, PublishFilter};
use crate::limit::Limits;
use crate::mail::Mail;
use crate::mailbox::MailboxSender;
use crate::origin::Origin;
use crate::rule::Rules;
use crate::shard::{ConnectionId, Shard, Stat};
use crate::shared::{ShardId, Shared, Stored};

/// A shard with a clock and the other ends of its connections.
pub(super) struct Broker {
    pub(super) world: Rc<RefCell<World>>,
}

/// How a shard is set up.
pub(super) struct Setup {
    pub(super) shards: usize,
    pub(super) limits: Limits,
    pub(super) explain: Explain,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) authorizer: Arc<dyn Authorizer>,
    pub(super) publish_filter: Option<Arc<dyn PublishFilter>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) rules: Rules,
    /// How much memory there is, if it has an end.
    pub(super) memory: Option<usize>,
    /// Where stored sessions are, if there are any.
    pub(super) engine: Option<Box<dyn Engine>>,
    /// The same on a disk that stays when the process ends.
    pub(super) disk: Option<FaultyDisk>,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) clock: WallClock,
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Vec<Shard>,
    pub(super) now: Instant,
    pub(super) wires: BTreeMap<WireId, Wire>,
    /// Which wire a shard's connection is on.
    pub(super) wire_by_connection: BTreeMap<(usize, ConnectionId), WireId>,
    /// Connections on their way to each shard.
    pub(super) under_way: Vec<VecDeque<WireId>>,
    /// How many bytes arrive at a time.
    pub(super) chunk: usize,
    /// Whether nothing is done but what [`World::turn`] is called for.
    pub(super) is_stepwise: bool,
    /// Absent where nothing is stored, and where the store has failed.
    pub(super) writer: Option<Writer>,
    /// Whether the store does nothing but what it is told to.
    pub(super) is_held: bool,
}

/// Names a connection, whichever shard it is on.
pub(super) type WireId = usize;

/// The client's end of a connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// The shard that has the other end, and what it calls it.
    pub(super) shard: usize,
    pub(super) connection: Option<ConnectionId>,
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
        let mut setup = Setup::new(shards());
        setup.engine = engine();
        set(&mut setup);
        let (engine, shards) = (setup.engine.take(), setup.shards);
        let plan = setup.plan();
        let (now, clock) = (Instant::from_millis(1_000_000), WallClock { ahead_ms: 1_700_000_000_000 });
        let engine = plan.engine().or(engine);
        let Process { shared, shards: all, writer } = plan.start(engine, now, clock);
        let world = World {
            plan,
            clock,
            shards: all,
            shared,
            now,
            writer,
            wires: BTreeMap::new(),
            wire_by_connection: BTreeMap::new(),
            under_way: vec![VecDeque::new(); shards],
            chunk: usize::MAX,
            is_stepwise: false,
            is_held: false,
        };
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
        let id = self.world().accept();
        Client::new(Rc::clone(&self.world), id, version)
    }

    /// A connection from an address to a listener, if it is let in.
    pub(super) fn open_from(
        &self,
        version: ProtocolVersion,
        address: &str,
        listener: &str,
    ) -> Option<Client> {
        let id = self.world().accept_from(address.parse().unwrap(), listener)?;
        Some(Client::new(Rc::clone(&self.world), id, version))
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
            match world.shards.iter().filter_map(Shard::poll_timeout).min() {
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
        for shard in world.shards.iter_mut().rev() {
            shard.start_sys(now);
        }
        world.settle();
    }

    /// Lets the shard see mail that has come.
    pub(super) fn settle(&self) {
        self.world().settle();
    }

    /// Mail comes from the program around the broker.
    pub(super) fn send(&self, mail: Mail) {
        let mut world = self.world();
        let shard = match &mail {
            Mail::Send(key, ..) => world.shared.registry.shard(key),
            _ => None,
        };
        world.shared.mailbox(shard.unwrap_or(ShardId(0))).send(mail);
        world.settle();
    }

    /// Whether every shard has shut down.
    pub(super) fn is_finished(&self) -> bool {
        self.world().shards.iter().all(Shard::is_finished)
    }

    pub(super) fn shut_down(&self) {
        let mut world = self.world();
        for mailbox in &world.shared.mailboxes {
            mailbox.send(Mail::Shutdown);
        }
        world.settle();
    }

    pub(super) fn stat(&self) -> Stat {
        let world = self.world();
        world.shards.iter().for_each(Shard::leave_report);
        world.shared.stat()
    }
}

/// Where stored sessions are in a test that does not say so: nowhere, or in memory if the environment asks for it. Every
/// test holds for either.
fn engine() -> Option<Box<dyn Engine>> {
    std::env::var_os("LAPWING_TEST_STORE").map(|_| Box::<MemoryEngine>::default() as Box<dyn Engine>)
}

impl Setup {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards,
            limits: Limits::default(),
            explain: Explain { memory_bytes: 256 * 1024 },
            authenticator: Arc::new(Anonymous::All),
            authorizer: Arc::new(AllowAll),
            publish_filter: None,
            observer: None,
            rules: Rules::default(),
            memory: None,
            engine: None,
            disk: None,
        }
    }

    /// What every process of the broker begins with.
    pub(super) fn plan(self) -> Plan {
        let Self {
            shards,
            limits,
            explain,
            authenticator,
            authorizer,
            publish_filter,
            observer,
            rules,
            memory,
            ..
        } = self;
        let hooks = Hooks { authenticator, authorizer, publish_filter, observer };
        limits.check().unwrap();
        Plan {
            shards,
            limits,
            memory,
            used: Arc::default(),
            explain,
            hooks,
            rules,
            disk: self.disk,
            free_bytes: Arc::default(),
        }
    }

    /// What the shards have in common. By shard, who sends to it.
    pub(super) fn share(self, mailboxes: Vec<MailboxSender>, stored: Stored) -> Arc<Shared> {
        self.plan().share(mailboxes, stored)
    }
}

/// How many shards a test has that does not say so: one, or as many as the environment asks for. Every test holds for
/// any number.
fn shards() -> usize {
    std::env::var("LAPWING_TEST_SHARDS").map_or(1, |count| count.parse().unwrap())
}

impl World {
    pub(super) fn accept(&mut self) -> WireId {
        self.accept_from(Ipv4Addr::LOCALHOST.into(), "test").expect("it is let in")
    }

    /// A connection from an address to a listener, if it is let in.
    pub(super) fn accept_from(&mut self, address: IpAddr, listener: &str) -> Option<WireId> {
        let origin = Origin::new((address, 40_000).into(), true, listener.into());
        let connection = self.shards[0].accept(origin, self.now)?;
        let id = self.wires.len();
        self.wires.insert(id, Wire { connection: Some(connection), ..Wire::default() });
        self.wire_by_connection.insert((0, connection), id);
        Some(id)
    }

    /// Does all that is to be done now.
    pub(super) fn settle(&mut self) {
        loop {
            let mut is_busy = false;
            for at in 0..self.shards.len() {
                is_busy |= self.turn(at);
            }
            is_busy |= !self.is_held && self.store_turn();
            if !is_busy && self.shards.iter().all(Shard::may_sleep) {
                break;
            }
        }
    }

    /// A turn of the store's writer; whether there was anything to do.
    pub(super) fn store_turn(&mut self) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        let is_busy = writer.has_requests();
        if is_busy && writer.turn(Some(Duration::ZERO)).is_err() {
            self.writer = None;
        }
        is_busy
    }

    /// A turn of a shard, in the order of the event loop's; whether there was anything to do.
    pub(super) fn turn(&mut self, at: usize) -> bool {
        let now = self.now;
        if self.is_stepwise {
            self.read_ready(at);
        }
        let shard = &mut self.shards[at];
        let mut is_busy = !shard.may_sleep();
        shard.continue_unfinished(now);
        shard.handle_mail(now);
        for (connection, _) in shard.take_arrived() {
            let id = self.under_way[at].pop_front().unwrap();
            self.wires.get_mut(&id).unwrap().connection = Some(connection);
            self.wire_by_connection.insert((at, connection), id);
            self.read(id);
        }
        let shard = &mut self.shards[at];
        if shard.poll_timeout().is_some_and(|due| due <= now) {
            shard.handle_timeout(now);
            is_busy = true;
        }
        for connection in shard.take_resumed() {
            if let Some(&id) = self.wire_by_connection.get(&(at, connection)) {
                self.read(id);
            }
            is_busy = true;
        }
        for departure in self.shards[at].take_departures() {
            let id = self.wire_by_connection.remove(&(at, departure.id)).unwrap();
            let wire = self.wires.get_mut(&id).unwrap();
            (wire.shard, wire.connection) = (departure.to.index(), None);
            self.under_way[departure.to.index()].push_back(id);
            self.shards[at].send_on(departure, None);
            is_busy = true;
        }
        self.shards[at].send_batches();
        let mut dirty = Vec::new();
        self.shards[at].take_dirty(&mut dirty);
        is_busy |= !dirty.is_empty();
        for connection in dirty {
            if let Some(&id) = self.wire_by_connection.get(&(at, connection)) {
                self.write(id);
            }
        }
        self.shards[at].send_batches();
        self.shards[at].leave_report();
        is_busy
    }

    /// The shard that has the other end of a wire, and what it calls it.
    pub(super) fn end(&mut self, id: WireId) -> Option<(&mut Shard, ConnectionId)> {
        let wire = self.wires.get(&id)?;
        Some((&mut self.shards[wire.shard], wire.connection?))
    }

    /// How many bytes wait to be written to a client.
    pub(super) fn waiting(&mut self, id: WireId) -> usize {
        let Some((shard, connection)) = self.end(id) else { return 0 };
        shard.outbox(connection).map_or(0, |outbox| outbox.len())
    }

    pub(super) fn wants_bytes(&mut self, id: WireId) -> bool {
        self.end(id).is_some_and(|(shard, connection)| shard.wants_bytes(connection))
    }

    /// Bytes come from a client.
    pub(super) fn feed(&mut self, id: WireId, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.unread.extend_from_slice(bytes);
        if !self.is_stepwise {
            self.read(id);
            self.settle();
        }
    }

    /// Reads what has come on the wires of a shard.
    fn read_ready(&mut self, at: usize) {
        let is_ready = |wire: &Wire| wire.shard == at && wire.connection.is_some() && !wire.unread.is_empty();
        let ready: Vec<_> = self.wires.iter().filter(|(_, wire)| is_ready(wire)).map(|(&id, _)| id).collect();
        ready.into_iter().for_each(|id| self.read(id));
    }

    fn read(&mut self, id: WireId) {
        while self.wants_bytes(id) {
            let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.unread.is_empty()) else { return };
            let count = wire.unread.len().min(self.chunk);
            let chunk: Vec<u8> = wire.unread.drain(..count).collect();
            self.receive(id, &chunk);
        }
    }

    /// A shard reads bytes from a client, and nothing else is done.
    pub(super) fn receive(&mut self, id: WireId, bytes: &[u8]) {
        let now = self.now;
        if let Some((shard, connection)) = self.end(id) {
            shard.receive(connection, bytes, now);
        }
    }

    /// Takes what is in an outbox, as the event loop does.
    pub(super) fn write(&mut self, id: WireId) {
        if self.wires.get(&id).is_none_or(|wire| wire.is_blocked) {
            return;
        }
        let is_held = |(shard, id): (&mut Shard, ConnectionId)| shard.is_held(id) && !shard.is_closing(id);
        if self.end(id).is_some_and(is_held) {
            return;
        }
        self.write_some(id, usize::MAX);
        let is_empty = self.waiting(id) == 0;
        let is_closing = self.end(id).is_some_and(|(shard, connection)| shard.is_closing(connection));
        if is_closing && is_empty {
            self.close(id);
        }
    }

    /// Takes up to `maximum` bytes of what is in an outbox.
    pub(super) fn write_some(&mut self, id: WireId, maximum: usize) {
        let now = self.now;
        let Some((shard, connection)) = self.end(id) else { return };
        let Some(outbox) = shard.outbox(connection).filter(|outbox| !outbox.is_empty()) else { return };
        let count = outbox.pending().len().min(maximum);
        let bytes = outbox.pending()[..count].to_vec();
        outbox.advance(count);
        let is_empty = outbox.is_empty();
        shard.written(connection, count);
        if is_empty {
            shard.drained(connection, now);
        }
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.take(&bytes);
        }
        if is_empty {
            self.read(id);
        }
    }

    pub(super) fn close(&mut self, id: WireId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.is_closed = true;
        }
        let now = self.now;
        if let Some((shard, connection)) = self.end(id) {
            shard.lost(connection, now);
        }
    }
}

impl Wire {
    /// Bytes have come.
    pub(super) fn take(&mut self, bytes: &[u8]) {
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
