//! What becomes of whom when memory runs short, and limits that change while clients are connected.

use std::sync::atomic::Ordering;

use lapwing_proto::packet::{QoS, ReasonCode, SubscriptionOptions};

use super::broker::{Broker, clean, lasting};
use super::client::Client;
use super::message::{Message, message, qos};
use super::{V5, V311, VERSIONS};
use crate::limit::{Limits, QueueOverflow};
use crate::memory::Pressure;

const MAXIMUM: usize = 100 * 1024 * 1024;
const SHORT: usize = 90;
const EXCEEDED: usize = 97;

impl Broker {
    fn with_memory(set: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|setup| {
            set(&mut setup.limits);
            setup.memory = Some(MAXIMUM);
        })
    }

    /// From here on so many hundredths of the memory are used.
    fn use_memory(&self, hundredths: usize) {
        {
            let mut world = self.world();
            world.plan.used.store(MAXIMUM / 100 * hundredths, Ordering::Relaxed);
            let now = world.now;
            world.shards.iter_mut().for_each(|shard| shard.look_at_memory(now));
        }
        self.settle();
    }

    fn set_limits(&self, set: impl FnOnce(&mut Limits)) {
        {
            let mut world = self.world();
            let mut limits = Limits::clone(&world.shared.limits());
            set(&mut limits);
            world.shared.set_limits(limits, &Default::default());
            world.shards.iter_mut().for_each(crate::shard::Shard::take_limits);
        }
        self.settle();
    }
}

/// Tries to subscribe; what it is answered.
fn try_to_subscribe(client: &Client, filter: &str) -> ReasonCode {
    client.subscribe_with(filter, SubscriptionOptions::new(qos(1)), None)
}

#[test]
fn while_memory_is_short_nothing_new_is_taken_and_what_there_is_goes_on() {
    for version in VERSIONS {
        let broker = Broker::with_memory(|_| ());
        let client = broker.connect(version, "a");
        client.subscribe("t", 1);
        client.retain("kept", "x", 0);
        broker.use_memory(SHORT);
        let fresh = broker.send_connect(&clean(version, "b"));
        let reason_code =
            if version == V5 { ReasonCode::QuotaExceeded } else { ReasonCode::ServerUnavailable };
        fresh.expect_refusal(reason_code);
        if version == V5 {
            assert_eq!(try_to_subscribe(&client, "u"), ReasonCode::QuotaExceeded);
        }
        client.retain("new", "x", 0);
        client.publish("t", "still", 1);
        client.receive("t", "still", 1);
        assert_eq!(broker.stat().retained_messages, 1);
        assert_eq!(broker.world().shared.pressure(), Pressure::Short);
        // Who has a session goes on with it.
        let again = broker.connect(version, "a");
        broker.use_memory(10);
        again.subscribe("u", 1);
        again.retain("new", "x", 0);
        assert_eq!(broker.stat().retained_messages, 2);
        broker.connect(version, "b");
    }
}

#[test]
fn who_does_not_keep_up_is_sent_less_ahead_while_memory_is_short() {
    let broker = Broker::with_memory(|_| ());
    let (publisher, slow) = (broker.connect(V5, "p"), broker.connect(V5, "s"));
    slow.subscribe("t", 0);
    broker.use_memory(SHORT);
    slow.block();
    let payload = "x".repeat(10_000);
    for _ in 0..20 {
        publisher.publish("t", &payload, 0);
    }
    slow.unblock();
    // Those that fill 64 KiB, and the one that goes beyond.
    assert_eq!(slow.receive_all().len(), 7);
    assert_eq!(broker.stat().messages_dropped.outbox_full, 13);
}

#[test]
fn in_memory_a_queue_is_short_while_memory_is() {
    let broker = Broker::with(|setup| {
        setup.engine = None;
        setup.memory = Some(MAXIMUM);
    });
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "away");
    client.subscribe("t", 1);
    client.lose();
    broker.use_memory(SHORT);
    let payload = "x".repeat(10_000);
    for _ in 0..20 {
        publisher.publish("t", &payload, 1);
    }
    assert_eq!(broker.stat().messages_dropped.queue_full, 13);
    broker.use_memory(0);
    publisher.publish("t", "enough again", 1);
    assert_eq!(broker.stat().messages_dropped.queue_full, 13);
}

#[test]
fn a_large_packet_is_not_gathered_while_memory_is_short() {
    let broker = Broker::with_memory(|_| ());
    let (small, large) = (broker.connect(V5, "s"), broker.connect(V5, "l"));
    broker.use_memory(SHORT);
    // The beginning of a PUBLISH of 1000 bytes, and of one of 1 MiB.
    small.send_hex("30 e5 07 00 01 74 00");
    small.send_bytes(&[b'x'; 500]);
    large.send_hex("30 80 80 40 00 01 74 00");
    large.expect_end(ReasonCode::QuotaExceeded);
    small.send_bytes(&[b'x'; 493]);
    small.ping();
}

#[test]
fn who_takes_most_is_disconnected_when_memory_is_exceeded() {
    for version in [V311, V5] {
        let broker = Broker::with_memory(|_| ());
        let publisher = broker.connect(version, "p");
        let (large, larger) = (broker.connect(version, "large"), broker.connect(version, "larger"));
        let (gathering, reader) = (broker.connect(version, "g"), broker.connect(version, "r"));
        large.subscribe("t", 0);
        larger.subscribe("#", 0);
        reader.subscribe("#", 0);
        large.block();
        larger.block();
        for _ in 0..20 {
            publisher.publish("t", &"x".repeat(10_000), 0);
            publisher.publish("u", &"x".repeat(10_000), 0);
        }
        gathering.send_hex("30 80 80 40 00 01 74 00");
        gathering.send_bytes(&vec![b'x'; 100_000]);
        assert_eq!(reader.receive_all().len(), 40);
        let closed = |client: &Client| client.is_closed();
        // On whichever shards they are, each time the largest of each goes.
        for _ in 0..3 {
            broker.use_memory(EXCEEDED);
        }
        larger.unblock();
        large.unblock();
        assert!(closed(&large) && closed(&larger) && closed(&gathering), "{version:?}");
        assert!(!closed(&reader) && !closed(&publisher));
        assert_eq!(broker.stat().disconnected_by_broker.get(ReasonCode::QuotaExceeded), 3);
    }
}

#[test]
fn the_largest_goes_first() {
    let broker = Broker::with(|setup| {
        (setup.shards, setup.memory) = (1, Some(MAXIMUM));
    });
    let (publisher, large, larger) =
        (broker.connect(V5, "p"), broker.connect(V5, "large"), broker.connect(V5, "larger"));
    large.subscribe("t", 1);
    larger.subscribe("+", 1);
    for topic in ["t", "u"] {
        for _ in 0..20 {
            publisher.publish(topic, &"x".repeat(10_000), 1);
        }
    }
    // Both have read, and acknowledged nothing: what is in flight counts as well.
    larger.hold_all();
    large.hold_all();
    broker.use_memory(EXCEEDED);
    assert!(larger.is_closed() && !large.is_closed());
}

#[test]
fn limits_can_change_while_clients_are_connected() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("one", 0);
    broker.set_limits(|limits| {
        limits.subscriptions_maximum = 1;
        limits.retained_messages_maximum = 0;
        limits.sessions_maximum = 1;
        limits.topic_levels_maximum = 2;
        limits.qos_maximum = 1;
    });
    assert_eq!(try_to_subscribe(&client, "two"), ReasonCode::QuotaExceeded);
    client.retain("kept", "x", 0);
    assert_eq!(broker.stat().retained_messages, 0);
    broker.send_connect(&clean(V5, "b")).expect_refusal(ReasonCode::QuotaExceeded);
    broker.set_limits(|limits| limits.sessions_maximum = 2);
    let other = broker.send_connect(&clean(V5, "b"));
    assert_eq!(other.next().connack().properties.maximum_qos, Some(QoS::AtLeastOnce));
    other.publish("a/b/c", "too deep", 0);
    other.expect_end(ReasonCode::TopicNameInvalid);
    let before = client.publish_message(message("one", "x"));
    assert_eq!((before, client.receive_all().len()), (ReasonCode::Success, 1));
}

#[test]
fn publishers_are_refused_or_not_as_the_limits_say_now() {
    let broker = Broker::with_limits(|limits| limits.queue_messages_maximum = 2);
    let publisher = broker.connect(V5, "p");
    let client = broker.join(&lasting(V5, "away"));
    client.subscribe("t", 1);
    client.lose();
    let publish = || publisher.publish_message(Message { qos: 1, ..message("t", "x") });
    assert_eq!([publish(), publish(), publish()], [ReasonCode::Success; 3]);
    broker.set_limits(|limits| limits.queue_overflow = QueueOverflow::Refuse);
    assert_eq!(publish(), ReasonCode::QuotaExceeded);
    broker.set_limits(|limits| limits.queue_overflow = QueueOverflow::DropNewest);
    assert_eq!(publish(), ReasonCode::Success);
    broker.set_limits(|limits| {
        (limits.queue_overflow, limits.queue_messages_maximum) = (QueueOverflow::Refuse, 3);
    });
    assert_eq!([publish(), publish()], [ReasonCode::Success, ReasonCode::QuotaExceeded]);
}
