//! Bytes of any kind, in any pieces, from clients in any state: the shard goes on.

use lapwing_proto::packet::{
    Packet, ProtocolVersion, ReasonCode, Subscribe, Subscription, SubscriptionOptions, Unsubscribe,
};

use super::broker::{Broker, clean, lasting, will};
use super::client::{ack, filter, id};
use super::message::message;
use super::random::{Random, Seed};
use super::{V5, VERSIONS};

/// Some packet that a client may send.
fn valid(random: &mut Random, version: ProtocolVersion) -> Vec<u8> {
    let packet_id = 1 + random.below(4) as u16;
    let topic = random.pick(&["a", "b", "a/b", "a/long/name/with/some/levels"]);
    let text = random.pick(&["#", "a/+", "a", "$share/g/a", "b"]);
    let options = SubscriptionOptions::new(super::message::qos(random.below(3) as u8));
    let subscriptions = [Subscription { filter: filter(text), options }];
    let filters = [filter(text)];
    let answer = ack(packet_id, ReasonCode::Success);
    let mut connect = if random.once_in(2) { clean(version, "x") } else { lasting(version, "x") };
    connect.will = random.once_in(3).then(|| will("a", "gone", 1));
    let packet = match random.below(40) {
        0 => Packet::Connect(connect),
        1 => Packet::Subscribe(Subscribe::new(id(packet_id), &subscriptions)),
        2 => Packet::Unsubscribe(Unsubscribe::new(id(packet_id), &filters)),
        3 => Packet::PubAck(answer),
        4 => Packet::PubRec(answer),
        5 => Packet::PubRel(answer),
        6 => Packet::PubComp(answer),
        7 => Packet::PingReq,
        _ => {
            let mut publish = message(topic, "payload").qos(random.below(3) as u8);
            publish.retain = random.once_in(3);
            publish.packet_id = (publish.qos > 0).then_some(packet_id);
            if version == V5 && random.once_in(3) {
                publish = publish.with_all_properties().alias(1 + random.below(40) as u16);
            }
            return publish.encode(version);
        }
    };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).unwrap();
    bytes
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[at] = random.below(256) as u8,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, random.below(256) as u8),
        _ => drop(bytes.remove(at)),
    }
}

// [attack: garbage]
#[test]
fn damaged_packets_harm_only_their_sender() {
    let mut survived = 0;
    for seed in 0..4000 {
        let seed = Seed(seed);
        let mut random = Random::new(seed.0);
        let broker = Broker::with_limits(|limits| {
            limits.outbox_bytes_maximum = 2000;
            limits.queue_messages_maximum = 20;
            limits.receive_maximum = 5;
        });
        let watch = broker.connect(V5, "watch");
        watch.subscribe("watched", 2);
        broker.split(random.pick(&[usize::MAX, 1, 3, 10]));
        let version = random.pick(&VERSIONS);
        for _ in 0..4 {
            let client = broker.send_connect(&lasting(version, "x"));
            if random.once_in(4) {
                client.block();
            }
            for _ in 0..20 {
                let mut bytes = valid(&mut random, version);
                if random.once_in(20) {
                    damage(&mut random, &mut bytes);
                }
                client.send_bytes(&bytes);
                if random.once_in(20) {
                    broker.advance_s(random.below(100) as u64);
                }
            }
            client.unblock();
            survived += u32::from(!client.is_closed());
            // Whatever came can be decoded.
            for received in client.take_all() {
                received.packet();
            }
            client.lose();
        }
        watch.publish("watched", "still here", 2);
        watch.receive("watched", "still here", 2);
        watch.expect_nothing();
        assert_eq!(broker.stat().connections, 1);
    }
    assert!((1000..15_000).contains(&survived), "the mixture is one-sided: {survived}");
}

// [attack: garbage]
#[test]
fn arbitrary_bytes_harm_nobody() {
    let broker = Broker::new();
    let watch = broker.connect(V5, "watch");
    for seed in 0..20_000 {
        let seed = Seed(seed);
        let mut random = Random::new(seed.0);
        let client =
            if random.once_in(2) { broker.open(V5) } else { broker.connect(random.pick(&VERSIONS), "x") };
        let bytes: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
        client.send_bytes(&bytes);
        client.lose();
    }
    watch.ping();
    assert_eq!(broker.stat().connections, 1);
}
