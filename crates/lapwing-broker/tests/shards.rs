//! Ten thousand clients come, subscribe, publish to one another, and take their own sessions over, on threads as they run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Barrier;
use std::time::Duration;

use lapwing_broker::{Address, Broker, Config, ListenerConfig, Sharding};
use lapwing_proto::packet::{
    Ack, Connect, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    Subscription, SubscriptionOptions,
};
use lapwing_proto::topic::{TopicFilter, TopicName};

const V311: ProtocolVersion = ProtocolVersion::V311;
const ROUNDS: usize = 5;
/// Clients of a round, where there are descriptors enough for both ends of twice as many connections.
const CLIENTS: usize = 1000;
const THREADS: usize = 2;

struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    /// Connects, to a session of which `has_session` says whether it is there.
    fn connect(port: u16, client_id: &str, has_session: bool) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a listener");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut client = Self { stream, bytes: Vec::new() };
        let connect = Connect { clean_start: false, keep_alive: 0, ..Connect::new(V311, client_id) };
        client.send(&Packet::Connect(connect));
        client.receive(|packet| match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason_code, ReasonCode::Success);
                assert_eq!(connack.session_present, has_session, "{client_id}");
            }
            packet => panic!("{packet:?} in place of CONNACK"),
        });
        client
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(V311, &mut bytes).expect("a packet");
        self.stream.write_all(&bytes).expect("a connection");
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
            let mut buffer = [0; 512];
            let count = self.stream.read(&mut buffer).expect("bytes");
            assert_ne!(count, 0, "the connection has ended");
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    fn subscribe(&mut self, filter: &str) {
        let filter = TopicFilter::new(filter).expect("a filter");
        let subscription = Subscription { filter, options: SubscriptionOptions::new(QoS::AtLeastOnce) };
        self.send(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &[subscription])));
        self.receive(|packet| assert!(matches!(packet, Packet::SubAck(_)), "{packet:?}"));
    }

    fn publish(&mut self, topic: &str, payload: &str) {
        let name = TopicName::new(topic).expect("a name");
        let publish = Publish::new(name, payload.as_bytes());
        let packet_id = Some(PacketId::FIRST);
        self.send(&Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id, ..publish }));
    }

    /// The acknowledgement of the own message, and one message, in whichever order.
    fn receive_both(&mut self, wanted: &str) {
        let (mut is_acknowledged, mut message) = (false, None);
        while !is_acknowledged || message.is_none() {
            self.receive(|packet| match packet {
                Packet::PubAck(_) if !is_acknowledged => is_acknowledged = true,
                Packet::Publish(publish) if message.is_none() => {
                    assert!(!publish.dup);
                    assert_eq!(publish.payload, wanted.as_bytes());
                    message = publish.packet_id;
                }
                packet => panic!("{packet:?} came as well"),
            });
        }
        let ack = Ack::new(message.expect("an identifier"), ReasonCode::Success);
        self.send(&Packet::PubAck(ack));
    }

    /// Until this is answered, everything sent before has been handled.
    fn ping(&mut self) {
        self.send(&Packet::PingReq);
        self.receive(|packet| assert!(matches!(packet, Packet::PingResp), "{packet:?} came as well"));
    }

    /// The broker ends the connection, and nothing comes before.
    fn expect_end(mut self) {
        assert!(self.bytes.is_empty());
        assert_eq!(self.stream.read(&mut [0]).expect("an end"), 0);
    }
}

/// What one thread does in a round, for its share of the clients.
fn take_part(port: u16, round: usize, (first, count, all): (usize, usize, usize), barrier: &Barrier) {
    let numbers = || first..first + count;
    let id = |number: usize| format!("client-{round}-{number}");
    let topic = |number: usize| format!("to/{round}/{number}");
    let exchange = |clients: &mut Vec<Client>, word: &str| {
        barrier.wait();
        for (client, number) in clients.iter_mut().zip(numbers()) {
            client.publish(&topic((number + 1) % all), &format!("{word} {number}"));
        }
        for (client, number) in clients.iter_mut().zip(numbers()) {
            client.receive_both(&format!("{word} {}", (number + all - 1) % all));
        }
        clients.iter_mut().for_each(Client::ping);
        barrier.wait();
    };
    let mut clients: Vec<_> = numbers()
        .map(|number| {
            let mut client = Client::connect(port, &id(number), false);
            client.subscribe(&topic(number));
            client
        })
        .collect();
    exchange(&mut clients, "first");
    let old = clients;
    let mut clients: Vec<_> = numbers().map(|number| Client::connect(port, &id(number), true)).collect();
    old.into_iter().for_each(Client::expect_end);
    exchange(&mut clients, "second");
}

#[test]
fn thousands_of_clients_reach_one_another_on_every_shard() {
    let limit = rlimit::increase_nofile_limit(20_000).expect("a limit of descriptors");
    // Both ends of a connection, and of the one that takes it over.
    let clients = CLIENTS.min(limit.saturating_sub(200) as usize / 4) / THREADS * THREADS;
    for shards in [2, 4] {
        let sharding = Sharding { count: shards, neighbours: 0 };
        let listeners = vec![ListenerConfig::new("test", Address::new("127.0.0.1", 0))];
        let broker = Broker::start(Config { listeners, sharding, ..Config::default() }).expect("a broker");
        let port = broker.listening()[0].port();
        for round in 0..ROUNDS {
            let barrier = Barrier::new(THREADS);
            let share = clients / THREADS;
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (barrier, part) = (&barrier, (thread * share, share, clients));
                    scope.spawn(move || take_part(port, round, part, barrier));
                }
            });
        }
        let stat = broker.stat();
        let wanted = (clients * ROUNDS) as u64;
        assert_eq!((stat.sessions, stat.sessions_resumed), (wanted, wanted));
        assert_eq!((stat.messages_sent.total(), stat.messages_resent), (2 * wanted, 0));
        assert_eq!(stat.messages_dropped.total(), 0);
        let has_clients = |shard: &lapwing_broker::ShardStat| shard.stat.sessions > wanted / 8;
        assert!(broker.shards().iter().all(has_clients), "the sessions are not shared out");
        broker.shut_down().expect("a good end");
    }
}
