//! Work for a counter of instructions: shards stepped without sockets or threads, so that the same run takes the same
//! number of instructions on every machine of a kind.

use std::net::Ipv4Addr;
use std::sync::Arc;

use lapwing_proto::packet::{
    Ack, Connect, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    Subscription, SubscriptionOptions,
};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilter, TopicName};
use lapwing_store::Sequence;

use crate::explanation::Explain;
use crate::hook::{Anonymous, Hooks};
use crate::limit::Limits;
use crate::mailbox::mailbox;
use crate::origin::Origin;
use crate::rule::CompiledRules;
use crate::shard::{ConnectionId, Shard};
use crate::sharding::Sharding;
use crate::shared::{Shared, Stored};

/// What is done again and again.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// As it is called on the command line.
    pub name: &'static str,
    publishers: usize,
    subscribers: usize,
    /// Whether each subscriber has a publisher of its own; otherwise each gets every message.
    is_paired: bool,
    qos: QoS,
    /// Subscribers are on the last one, publishers on the first.
    shards: usize,
    /// Filters that match nothing, with as many topics that are published to only once.
    filters: usize,
}

/// Messages that a publisher sends in one read.
const BURST: usize = 32;
/// Packet identifiers that there are.
const PACKET_IDS: usize = u16::MAX as usize;
const V311: ProtocolVersion = ProtocolVersion::V311;
const NOW: Instant = Instant::from_millis(1_000_000);

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    scenario("fan-in-0", 20, 1, false, QoS::AtMostOnce, 1),
    scenario("fan-in-1", 20, 1, false, QoS::AtLeastOnce, 1),
    scenario("fan-in-2", 20, 1, false, QoS::ExactlyOnce, 1),
    scenario("fan-out-0", 1, 50, false, QoS::AtMostOnce, 1),
    scenario("fan-out-1", 1, 50, false, QoS::AtLeastOnce, 1),
    scenario("fan-out-2", 1, 50, false, QoS::ExactlyOnce, 1),
    scenario("pairs-0", 20, 20, true, QoS::AtMostOnce, 1),
    scenario("pairs-1", 20, 20, true, QoS::AtLeastOnce, 1),
    scenario("pairs-2", 20, 20, true, QoS::ExactlyOnce, 1),
    scenario("two-shards-0", 20, 20, true, QoS::AtMostOnce, 2),
    scenario("two-shards-1", 20, 20, true, QoS::AtLeastOnce, 2),
    Scenario { filters: 10_000, ..scenario("route-miss", 1, 1, false, QoS::AtMostOnce, 1) },
];

const fn scenario(
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    is_paired: bool,
    qos: QoS,
    shards: usize,
) -> Scenario {
    Scenario { name, publishers, subscribers, is_paired, qos, shards, filters: 0 }
}

/// By its name, what does something so many times.
pub type Part = (&'static str, fn(usize));

/// Parts of the way of a message, alone.
pub const PARTS: &[Part] = &[
    ("decode-3.1.1", |count| decode(count, V311)),
    ("decode-5.0", |count| decode(count, ProtocolVersion::V5)),
    ("encode-3.1.1", |count| encode_again(count, V311)),
    ("encode-5.0", |count| encode_again(count, ProtocolVersion::V5)),
];

fn decode(count: usize, version: ProtocolVersion) {
    let mut bytes = Vec::new();
    message().encode(version, &mut bytes).expect("what is made here has an encoding");
    for _ in 0..count {
        let frame = Frame::split(&mut std::hint::black_box(&bytes[..]), u32::MAX).ok().flatten();
        let publish = frame.and_then(|frame| Publish::decode(frame, version).ok());
        assert!(std::hint::black_box(publish).is_some());
    }
}

fn encode_again(count: usize, version: ProtocolVersion) {
    let mut bytes = Vec::new();
    for _ in 0..count {
        bytes.clear();
        let is_encoded = std::hint::black_box(message()).encode(version, &mut bytes).is_ok();
        assert!(is_encoded && !std::hint::black_box(&bytes).is_empty());
    }
}

fn message() -> Publish<'static> {
    let name = TopicName::new("load/dev/17/event").expect("a valid name");
    Publish { qos: QoS::AtLeastOnce, packet_id: Some(PacketId::FIRST), ..Publish::new(name, &[b'x'; 64]) }
}

/// A connection: its shard, and what that calls it.
type End = (usize, ConnectionId);

struct Bench {
    shards: Vec<Shard>,
    dirty: Vec<ConnectionId>,
    /// Bytes that clients were sent.
    sent: usize,
}

impl Scenario {
    /// Has at least so many messages delivered.
    pub fn run(&self, deliveries: usize) {
        let mut bench = Bench::new(self.shards);
        let last = self.shards - 1;
        // Sessions go round the shards: so publishers and subscribers come in turn.
        let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
        for index in 0..self.publishers.max(self.subscribers) {
            if index < self.publishers {
                publishers.push(bench.connect(&format!("publisher-{index}"), 0));
            }
            if index < self.subscribers {
                let filter =
                    if self.is_paired { format!("load/dev/{index}/event") } else { "load/dev/#".to_owned() };
                let end = bench.connect(&format!("subscriber-{index}"), last);
                bench.subscribe(end, &[filter], self.qos);
                subscribers.push(end);
            }
        }
        let filters: Vec<_> = (0..self.filters).map(|index| format!("other/{index}/+")).collect();
        if !filters.is_empty() {
            bench.subscribe(subscribers[0], &filters, self.qos);
        }
        let per_message = if self.is_paired { 1 } else { self.subscribers };
        // Clients cost nothing: what they send is made beforehand.
        let publishes: Vec<Vec<_>> = (0..self.publishers).map(|index| self.publishes(index)).collect();
        let table = |packet| Acks::new(packet);
        let [pubacks, pubrecs, pubcomps, pubrels] =
            [Packet::PubAck, Packet::PubRec, Packet::PubComp, Packet::PubRel].map(table);
        let mut bursts = 0;
        while bursts * BURST * self.publishers * per_message < deliveries {
            for (&publisher, publishes) in publishers.iter().zip(&publishes) {
                bench.receive(publisher, &publishes[bursts % publishes.len()]);
            }
            bench.flush();
            if self.qos == QoS::ExactlyOnce {
                publishers.iter().for_each(|&publisher| bench.receive(publisher, pubrels.get(0, BURST)));
            }
            let of_each = if self.is_paired { BURST } else { BURST * self.publishers };
            let first = bursts * of_each;
            for &subscriber in &subscribers {
                match self.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => bench.receive(subscriber, pubacks.get(first, of_each)),
                    QoS::ExactlyOnce => {
                        bench.receive(subscriber, pubrecs.get(first, of_each));
                        bench.flush();
                        bench.receive(subscriber, pubcomps.get(first, of_each));
                    }
                }
            }
            bench.flush();
            bursts += 1;
        }
        bench.check(bursts * BURST * self.publishers * per_message);
    }

    /// What a publisher sends, read by read, before it begins anew.
    fn publishes(&self, publisher: usize) -> Vec<Vec<u8>> {
        let reads = (self.filters / BURST).max(1);
        let read = |read| {
            let mut bytes = Vec::new();
            for number in 0..BURST {
                let topic = if self.filters == 0 { publisher } else { read * BURST + number };
                publish(&format!("load/dev/{topic}/event"), self.qos, number + 1, &mut bytes);
            }
            bytes
        };
        (0..reads).map(read).collect()
    }
}

/// Acknowledgements of one kind, for all packet identifiers, twice over.
struct Acks {
    bytes: Vec<u8>,
}

/// Bytes of an acknowledgement.
const ACK: usize = 4;

impl Acks {
    fn new(packet: fn(Ack<'static>) -> Packet<'static>) -> Self {
        let mut first = Vec::new();
        encode(&packet(Ack::new(PacketId::FIRST, ReasonCode::Success)), &mut first);
        let mut bytes = first.repeat(2 * PACKET_IDS);
        for (number, ack) in bytes.chunks_exact_mut(ACK).enumerate() {
            let packet_id = (number % PACKET_IDS + 1) as u16;
            ack[2..].copy_from_slice(&packet_id.to_be_bytes());
        }
        Self { bytes }
    }

    /// Those of `count` packets, the first of which is the one behind `after` in the order in which packets get
    /// their identifiers.
    fn get(&self, after: usize, count: usize) -> &[u8] {
        &self.bytes[after % PACKET_IDS * ACK..][..count * ACK]
    }
}

fn publish(topic: &str, qos: QoS, packet_id: usize, out: &mut Vec<u8>) {
    let Ok(name) = TopicName::new(topic) else { return };
    let mut publish = Publish::new(name, &[b'x'; 64]);
    publish.qos = qos;
    publish.packet_id = PacketId::new(packet_id as u16).filter(|_| qos > QoS::AtMostOnce);
    encode(&Packet::Publish(publish), out);
}

fn encode(packet: &Packet<'_>, out: &mut Vec<u8>) {
    packet.encode(V311, out).expect("what is made here has an encoding");
}

impl Bench {
    fn new(count: usize) -> Self {
        let (senders, mailboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mailbox(None)).unzip();
        let hooks = Hooks { authenticator: Arc::new(Anonymous::All), ..Hooks::default() };
        let limits = Limits { client_receive_maximum: u16::MAX, ..Limits::default() };
        let sharding = Sharding { count, neighbours: 0 };
        let stored = Stored::new(senders.len(), None, Sequence::default());
        let shared = Shared::new(
            (limits, None, Explain::default()),
            &Default::default(),
            CompiledRules::default(),
            hooks,
            &sharding,
            senders,
            stored,
        );
        let shared = Arc::new(shared);
        let shard = |(id, mailbox)| Shard::new(id, Arc::clone(&shared), mailbox);
        Self { shards: shared.shards().zip(mailboxes).map(shard).collect(), dirty: Vec::new(), sent: 0 }
    }

    /// A client that connects, and whose session is expected on this shard.
    fn connect(&mut self, client_id: &str, shard: usize) -> End {
        let origin = Origin::new((Ipv4Addr::LOCALHOST, 40_000).into(), true, "bench".into());
        let id = self.shards[0].accept(origin, NOW).expect("no limit turns it away");
        let mut bytes = Vec::new();
        encode(&Packet::Connect(Connect { keep_alive: 0, ..Connect::new(V311, client_id) }), &mut bytes);
        self.receive((0, id), &bytes);
        let mut end = (0, id);
        for departure in self.shards[0].take_departures() {
            let to = departure.to.index();
            self.shards[0].send_on(departure, None);
            self.shards[to].handle_mail(NOW);
            for (id, _) in self.shards[to].take_arrived() {
                end = (to, id);
            }
        }
        assert_eq!(end.0, shard, "sessions do not go round");
        self.flush();
        end
    }

    fn subscribe(&mut self, end: End, filters: &[String], qos: QoS) {
        let filters = filters.iter().filter_map(|filter| TopicFilter::new(filter).ok());
        let options = SubscriptionOptions::new(qos);
        let subscriptions: Vec<_> = filters.map(|filter| Subscription { filter, options }).collect();
        let mut bytes = Vec::new();
        encode(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &subscriptions)), &mut bytes);
        self.receive(end, &bytes);
        // Nothing is retained, but that must be found out.
        self.shards[end.0].handle_timeout(NOW);
        self.flush();
    }

    fn receive(&mut self, (shard, id): End, bytes: &[u8]) {
        self.shards[shard].receive(id, bytes, NOW);
    }

    /// Lets mail be handled and everything be written.
    fn flush(&mut self) {
        for _ in 0..2 {
            for shard in &mut self.shards {
                shard.handle_mail(NOW);
                shard.send_batches();
                shard.take_dirty(&mut self.dirty);
                for id in self.dirty.drain(..) {
                    let Some(outbox) = shard.outbox(id) else { continue };
                    let count = outbox.len();
                    outbox.advance(count);
                    shard.written(id, count);
                    self.sent += count;
                }
            }
        }
    }

    /// Whether all came to pass that was meant to.
    fn check(&self, deliveries: usize) {
        let mut stat = crate::shard::Stat::default();
        self.shards.iter().for_each(|shard| stat += shard.stat());
        assert_eq!(stat.messages_sent.total(), deliveries as u64, "{stat:?}");
        assert_eq!(stat.disconnected_by_broker.total(), 0, "{stat:?}");
    }
}
