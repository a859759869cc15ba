//! A client that does not read what it asked for, and one that publishes without pause: what waits for the one has
//! a limit, what is dropped is counted, and nobody else notices.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lapwing_broker::{Address, Broker, Config, Limits, ListenerConfig, Sharding, Stat};
use lapwing_proto::packet::{
    Ack, ConnAck, Connect, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    Subscription, SubscriptionOptions,
};
use lapwing_proto::topic::{TopicFilter, TopicName};

const V311: ProtocolVersion = ProtocolVersion::V311;
/// What may wait for a client.
const OUTBOX_BYTES: usize = 64 * 1024;
/// A limit for what happens at once.
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a message behind its number.
const PAYLOAD: usize = 1000;
/// Messages in one write.
const CHUNK: u64 = 100;
/// Of each of the others, once messages are dropped.
const ROUND_TRIPS: usize = 200;

struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Bytes that it has read.
    read: u64,
}

impl Client {
    fn connect(port: u16, client_id: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a listener");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        let mut client = Self { stream, bytes: Vec::new(), read: 0 };
        client.send(&Packet::Connect(Connect { keep_alive: 0, ..Connect::new(V311, client_id) }));
        client
            .receive(|packet| assert_eq!(packet, Packet::ConnAck(ConnAck::new(false, ReasonCode::Success))));
        client
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(V311, &mut bytes).expect("a packet");
        self.stream.write_all(&bytes).expect("a connection that takes bytes");
    }

    /// The next packet.
    fn receive<T>(&mut self, judge: impl FnOnce(Packet<'_>) -> T) -> T {
        loop {
            let mut input = &self.bytes[..];
            if let Some(frame) = Frame::split(&mut input, u32::MAX).expect("a frame") {
                let left = input.len();
                let result = judge(Packet::decode(frame, V311).expect("a packet"));
                self.bytes.drain(..self.bytes.len() - left);
                return result;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).expect("bytes");
            assert_ne!(count, 0, "the connection has ended");
            self.read += count as u64;
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filter = TopicFilter::new(filter).expect("a filter");
        let subscription = Subscription { filter, options: SubscriptionOptions::new(qos) };
        self.send(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &[subscription])));
        self.receive(|packet| assert!(matches!(packet, Packet::SubAck(_)), "{packet:?}"));
    }

    /// Sends itself a message at QoS 1, and waits until all has been acknowledged.
    fn round_trip(&mut self, topic: &str) {
        let name = TopicName::new(topic).expect("a name");
        let packet_id = Some(PacketId::FIRST);
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id, ..Publish::new(name, b"there and back") };
        self.send(&Packet::Publish(publish));
        let (mut is_acknowledged, mut received) = (false, None);
        while !is_acknowledged || received.is_none() {
            self.receive(|packet| match packet {
                Packet::PubAck(_) if !is_acknowledged => is_acknowledged = true,
                Packet::Publish(publish) if received.is_none() => received = publish.packet_id,
                packet => panic!("{packet:?} came as well"),
            });
        }
        let ack = Ack::new(received.expect("an identifier"), ReasonCode::Success);
        self.send(&Packet::PubAck(ack));
    }

    /// The numbers of the messages that come before the answer to a PINGREQ.
    fn numbers(&mut self) -> Vec<u64> {
        self.send(&Packet::PingReq);
        let mut numbers = Vec::new();
        loop {
            let number = self.receive(|packet| match packet {
                Packet::Publish(publish) => Some(number(publish.payload)),
                Packet::PingResp => None,
                packet => panic!("{packet:?} came as well"),
            });
            match number {
                Some(number) => numbers.push(number),
                None => return numbers,
            }
        }
    }
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"))
}

/// A message with a number, as it is sent and as it arrives.
fn numbered(number: u64) -> Vec<u8> {
    let payload = [&number.to_be_bytes()[..], &[0; PAYLOAD]].concat();
    let name = TopicName::new("blast").expect("a name");
    let mut bytes = Vec::new();
    Packet::Publish(Publish::new(name, &payload)).encode(V311, &mut bytes).expect("a packet");
    bytes
}

/// Publishes until it is told to stop; how many.
fn blast(publisher: &mut Client, is_over: &AtomicBool) -> u64 {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let bytes: Vec<u8> = (count..count + CHUNK).flat_map(numbered).collect();
        publisher.stream.write_all(&bytes).expect("a broker that reads");
        count += CHUNK;
    }
    count
}

/// Does `work` again and again until `is_done`.
fn until(mut work: impl FnMut(), is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < DEADLINE, "it does not come to pass");
        work();
    }
}

/// Clients by their names, in the order in which they connect: they take turns between two shards. The shards of the
/// slow reader and of the publisher are asked for.
fn check(client_ids: &[&str], (slow_shard, publisher_shard): (usize, usize)) {
    let limits = Limits { outbox_bytes_maximum: OUTBOX_BYTES, ..Limits::default() };
    let sharding = Sharding { count: 2, neighbours: 0 };
    let listeners = vec![ListenerConfig::new("test", Address::new("127.0.0.1", 0))];
    let broker =
        Broker::start(Config { listeners, limits, sharding, ..Config::default() }).expect("a broker");
    let port = broker.listening()[0].port();
    let mut clients: BTreeMap<&str, Client> =
        client_ids.iter().map(|&client_id| (client_id, Client::connect(port, client_id))).collect();
    let mut slow = clients.remove("slow").expect("a client");
    let mut publisher = clients.remove("publisher").expect("a client");
    slow.subscribe("blast", QoS::AtMostOnce);
    clients.iter_mut().for_each(|(name, client)| client.subscribe(name, QoS::AtLeastOnce));
    let mut round_trip = || clients.iter_mut().for_each(|(name, client)| client.round_trip(name));

    let is_over = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let blasting = scope.spawn(|| blast(&mut publisher, &is_over));
        until(&mut round_trip, || broker.stat().messages_dropped.outbox_full > 0);
        (0..ROUND_TRIPS).for_each(|_| round_trip());
        is_over.store(true, Ordering::Relaxed);
        blasting.join().expect("a publisher that comes to its end")
    });
    let sent = |stat: &Stat| stat.messages_sent.get(QoS::AtMostOnce);
    let handled = |stat: &Stat| sent(stat) + stat.messages_dropped.outbox_full;
    until(&mut round_trip, || handled(&broker.stat()) == count);
    let stat = broker.stat();
    assert_eq!(stat.messages_dropped.total(), stat.messages_dropped.outbox_full);
    let by_shard = broker.shards();
    assert!(by_shard[slow_shard].stat.messages_dropped.outbox_full > 0);
    assert!(by_shard[publisher_shard].stat.messages_received.get(QoS::AtMostOnce) > 0);

    // What was put into its outbox, and is neither with it nor with the system.
    let size = numbered(0).len() as u64;
    let read_by_others = publisher.read + clients.values().map(|client| client.read).sum::<u64>();
    let waiting = slow.read + sent(&stat) * size - (stat.bytes_sent - read_by_others);
    assert!(waiting <= OUTBOX_BYTES as u64 + size, "{waiting} bytes wait for the slow reader");

    let numbers = slow.numbers();
    assert_eq!(numbers.len() as u64, sent(&stat));
    assert_eq!(numbers[0], 0);
    assert!(numbers.is_sorted_by(|one, other| one < other), "not in order, or twice");
    // From here on it gets everything.
    publisher.stream.write_all(&numbered(count)).expect("a broker that reads");
    slow.receive(|packet| match packet {
        Packet::Publish(publish) => assert_eq!(number(publish.payload), count),
        packet => panic!("{packet:?} came"),
    });
    broker.shut_down().expect("a good end");
}

// [attack: slow-reader]
#[test]
fn a_client_that_does_not_read_costs_no_more_than_its_outbox() {
    check(&["slow", "a", "publisher", "b", "c"], (0, 0));
}

// [attack: slow-reader]
#[test]
fn nor_does_it_where_another_shard_has_the_publisher() {
    check(&["slow", "publisher", "a", "b"], (0, 1));
}
