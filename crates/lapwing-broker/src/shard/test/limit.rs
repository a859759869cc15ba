use lapwing_proto::packet::{Packet, ReasonCode, SubscriptionOptions};

use super::broker::{Broker, clean, lasting};
use super::message::{message, qos};
use super::{V5, V311, VERSIONS};

// [attack: announced-length]
#[test]
fn a_packet_larger_than_allowed_ends_the_connection_before_it_has_come() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.packet_size_maximum = 1000);
        let client = broker.connect(version, "a");
        // 3 of header, 3 of topic, and in 5.0 one of properties.
        let fits = 1000 - 6 - usize::from(version == V5);
        client.send_message(&message("t", &"x".repeat(fits)));
        client.ping();
        client.send_message(&message("t", &"x".repeat(fits + 1)));
        client.expect_end(ReasonCode::PacketTooLarge);
        let client = broker.connect(version, "a");
        client.send_hex("30 ff ff ff 7f");
        client.expect_end(ReasonCode::PacketTooLarge);
    }
}

// [MQTT-3.1.2-24]
// [MQTT-3.1.2-25]
#[test]
fn a_message_larger_than_the_client_takes_counts_as_delivered_and_the_others_go_on() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let mut connect = lasting(V5, "a");
    connect.properties.maximum_packet_size = std::num::NonZero::new(100);
    connect.properties.receive_maximum = std::num::NonZero::new(2);
    let client = broker.join(&connect);
    let other = broker.connect(V5, "b");
    client.subscribe("t", 2);
    other.subscribe("t", 2);
    for qos in 0..3 {
        // Its size is 2 + 3 + 1 + the payload, and 2 more for the identifier.
        let fits = "x".repeat(if qos == 0 { 94 } else { 92 });
        publisher.publish("t", &format!("{fits}x"), qos);
        publisher.publish("t", &fits, qos);
        client.receive("t", &fits, qos);
        client.expect_nothing();
        assert_eq!(other.receive_all().len(), 2);
    }
    // Ten in a row use up nothing of the receive maximum.
    for _ in 0..10 {
        publisher.publish("t", &"x".repeat(200), 2);
    }
    publisher.publish("t", "small", 2);
    client.receive("t", "small", 2);
    assert_eq!(broker.stat().messages_dropped.too_large, 13);
    client.lose();
    // It is the same for what waits in the queue.
    publisher.publish("t", &"x".repeat(200), 1);
    publisher.publish("t", "queued", 1);
    let client = broker.join(&connect);
    client.receive("t", "queued", 1);
    client.expect_nothing();
}

// [MQTT-3.1.2-24]
#[test]
fn properties_count_too() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let mut connect = clean(V5, "a");
    connect.properties.maximum_packet_size = std::num::NonZero::new(60);
    let client = broker.join(&connect);
    client.subscribe_with("t", SubscriptionOptions::new(qos(0)), Some(1));
    // 60 without the identifier of the subscription, which takes two.
    publisher.publish("t", &"x".repeat(54), 0);
    client.expect_nothing();
    publisher.publish("t", &"x".repeat(52), 0);
    client.receive("t", &"x".repeat(52), 0);
    publisher.publish_message(message("t", "x").with_all_properties());
    client.expect_nothing();
}

// [MQTT-3.1.2-24]
#[test]
fn a_suback_too_large_for_its_client_is_left_out() {
    let broker = Broker::new();
    let mut connect = clean(V5, "a");
    connect.properties.maximum_packet_size = std::num::NonZero::new(40);
    let client = broker.join(&connect);
    let filters: Vec<_> = (0..100).map(|number| format!("t/{number}")).collect();
    let subscriptions: Vec<_> = filters
        .iter()
        .map(|text| lapwing_proto::packet::Subscription {
            filter: super::client::filter(text),
            options: SubscriptionOptions::default(),
        })
        .collect();
    let subscribe = lapwing_proto::packet::Subscribe::new(super::client::id(1), &subscriptions);
    client.send(&Packet::Subscribe(subscribe));
    client.ping();
    client.publish("t/99", "x", 0);
    client.receive("t/99", "x", 0);
}

// [attack: deep-topic]
#[test]
fn topics_have_a_limit_of_levels() {
    let broker = Broker::with_limits(|limits| limits.topic_levels_maximum = 4);
    for version in VERSIONS {
        let client = broker.connect(version, "a");
        client.subscribe("a/b/c/#", 1);
        client.subscribe("$share/g/a/b/c/+", 0);
        let options = SubscriptionOptions::new(qos(1));
        let wanted = match version {
            V5 => ReasonCode::TopicFilterInvalid,
            V311 => ReasonCode::UnspecifiedError,
            _ => ReasonCode::GrantedQoS1,
        };
        assert_eq!(client.subscribe_with("a/b/c/d/#", options, None), wanted);
        client.publish("a/b/c/d", "x", 1);
        client.send_message(&message("a/b/c/d/e", "x"));
        client.take_first(lapwing_proto::packet::PacketType::Publish);
        client.take_first(lapwing_proto::packet::PacketType::Publish);
        client.expect_end(ReasonCode::TopicNameInvalid);
    }
}

// [attack: subscription-flood]
#[test]
fn subscriptions_of_a_session_have_a_limit() {
    let broker = Broker::with_limits(|limits| limits.subscriptions_maximum = 3);
    let client = broker.connect(V5, "a");
    let options = SubscriptionOptions::new(qos(0));
    let wanted = [("a", options), ("$share/g/b", options), ("c", options), ("d", options), ("a", options)];
    let codes = client.subscribe_all(&wanted, None);
    assert_eq!(codes[3], ReasonCode::QuotaExceeded);
    assert!(codes.iter().enumerate().all(|(at, code)| at == 3 || *code == ReasonCode::Success));
    client.unsubscribe(&["$share/g/b"]);
    client.subscribe("d", 0);
    broker.connect(V5, "b").subscribe("e", 0);
}

// [attack: endless-sessions]
#[test]
fn sessions_have_a_limit() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.sessions_maximum = 2);
        broker.resume(version, "a").lose();
        let second = broker.connect(version, "b");
        let refusal = if version == V5 { ReasonCode::QuotaExceeded } else { ReasonCode::ServerUnavailable };
        broker.send_connect(&clean(version, "c")).expect_refusal(refusal);
        // Who has one may come back, even to begin anew.
        broker.resume(version, "a").lose();
        broker.connect(version, "a").ping();
        second.disconnect();
        broker.connect(version, "c").ping();
    }
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.queue_messages_maximum = 3);
        let publisher = broker.connect(version, "p");
        broker.resume(version, "a").subscribe("t", 1);
        let client = broker.resume(version, "a");
        client.lose();
        for number in 0..10 {
            publisher.publish("t", &number.to_string(), 1);
        }
        assert_eq!(broker.stat().messages_dropped.queue_full, 7);
        let client = broker.resume(version, "a");
        let got: Vec<_> = client.receive_all().into_iter().map(|it| it.payload).collect();
        assert_eq!(got, ["0", "1", "2"]);
        publisher.publish("t", "again", 1);
        client.receive("t", "again", 1);
    }
}

// [attack: slow-reader]
#[test]
fn a_queue_has_a_limit_of_bytes() {
    let broker = Broker::with_limits(|limits| limits.queue_bytes_maximum = 10_000);
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "a");
    client.subscribe("t", 1);
    client.lose();
    for _ in 0..10 {
        publisher.publish("t", &"x".repeat(3000), 1);
    }
    let client = broker.resume(V5, "a");
    assert_eq!(client.receive_all().len(), 4, "up to the one that goes beyond the limit");
    client.lose();
    for _ in 0..10 {
        publisher.publish("t", &"x".repeat(3000), 1);
    }
    assert_eq!(broker.resume(V5, "a").receive_all().len(), 4);
}

#[test]
fn what_has_expired_makes_room_in_a_full_queue() {
    let broker = Broker::with_limits(|limits| limits.queue_messages_maximum = 3);
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "a");
    client.subscribe("t", 1);
    client.lose();
    for number in 0..3 {
        publisher.publish_message(message("t", &number.to_string()).qos(1).expiry(10));
    }
    broker.advance_s(10);
    for number in 3..8 {
        publisher.publish("t", &number.to_string(), 1);
    }
    let got: Vec<_> = broker.resume(V5, "a").receive_all().into_iter().map(|it| it.payload).collect();
    assert_eq!(got, ["3", "4", "5"]);
    assert_eq!(broker.stat().messages_dropped.expired, 3);
    assert_eq!(broker.stat().messages_dropped.queue_full, 2);
}

// [attack: slow-reader]
#[test]
fn for_a_client_that_does_not_read_qos_0_is_dropped_and_the_rest_waits() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.outbox_bytes_maximum = 1000);
        let publisher = broker.connect(V5, "p");
        let client = broker.connect(version, "a");
        client.subscribe("t", 2);
        client.block();
        let filler = "x".repeat(200);
        for number in 0..30 {
            publisher.publish("t", &format!("{number} {filler}"), number % 3);
        }
        let id = *broker.world().wires.keys().last().unwrap();
        assert!(broker.world().waiting(id) < 1300);
        assert!(broker.stat().messages_dropped.outbox_full >= 7);
        client.unblock();
        let got = client.receive_all();
        let sure: Vec<_> = got.iter().filter(|it| it.qos > 0).map(|it| it.payload.clone()).collect();
        let wanted: Vec<_> = (0..30).filter(|it| it % 3 > 0).map(|it| format!("{it} {filler}")).collect();
        assert_eq!(sure, wanted);
        assert!(got.len() < 24);
        publisher.publish("t", "again", 0);
        client.receive("t", "again", 0);
    }
}

// [attack: unread-answers]
#[test]
fn a_client_that_does_not_read_the_answers_is_not_read_from() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.outbox_bytes_maximum = 1000);
        broker.split(100);
        let client = broker.connect(version, "a");
        client.block();
        client.send_bytes(&[0xc0, 0].repeat(5000));
        let id = *broker.world().wires.keys().next().unwrap();
        assert!(broker.world().waiting(id) < 2200);
        client.unblock();
        for _ in 0..5000 {
            client.expect(&Packet::PingResp);
        }
        client.ping();
    }
}

// [attack: unread-answers]
#[test]
fn few_bytes_that_make_many_are_handled_a_part_at_a_time() {
    let broker = Broker::with(|setup| setup.shards = 1);
    let receivers: Vec<_> = (0..8).map(|number| broker.connect(V311, &format!("r{number}"))).collect();
    for receiver in &receivers {
        receiver.subscribe("t", 0);
    }
    let publisher = broker.connect(V311, "p");
    let mut bytes = Vec::new();
    for number in 0..20 {
        bytes.extend(message("t", &format!("{number} {}", "x".repeat(200_000))).encode(V311));
    }
    bytes.extend([0xc0, 0]);
    let id = *broker.world().wires.keys().last().unwrap();
    {
        let mut world = broker.world();
        let now = world.now;
        world.receive(id, &bytes);
        // 1.6 MB go out for each message: after the third the outboxes are to be written first.
        let (first, _) = world.wires.first_key_value().unwrap();
        let first = *first;
        let waiting = world.waiting(first);
        assert!((600_000..700_000).contains(&waiting), "{waiting}");
        assert!(!world.wants_bytes(id));
        assert_eq!(world.end(id).unwrap().0.poll_timeout(), Some(now));
        world.settle();
        assert!(world.wants_bytes(id));
    }
    for receiver in &receivers {
        let got: Vec<_> = receiver.receive_all();
        let numbers = got.iter().map(|it| it.payload.split(' ').next().unwrap().parse::<usize>().unwrap());
        assert_eq!(numbers.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    }
    publisher.expect(&Packet::PingResp);
    publisher.ping();
}

// [attack: early-disconnect]
#[test]
fn a_connection_may_end_while_its_bytes_wait_for_another_turn() {
    let broker = Broker::with(|setup| setup.shards = 1);
    let (receiver, publisher) = (broker.connect(V311, "r"), broker.connect(V311, "p"));
    receiver.subscribe("t", 0);
    let id = *broker.world().wires.keys().last().unwrap();
    let bytes = message("t", &"x".repeat(3_000_000)).encode(V311).repeat(4);
    {
        let mut world = broker.world();
        world.receive(id, &bytes);
        world.close(id);
        world.settle();
    }
    assert_eq!(receiver.receive_all().len(), 2);
    assert!(publisher.is_closed());
    broker.connect(V311, "p").ping();
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    use crate::limit::Limits;
    let wrong: [fn(&mut Limits); 7] = [
        |limits| limits.receive_maximum = 0,
        |limits| limits.client_receive_maximum = 0,
        |limits| limits.connect_timeout_s = 0,
        |limits| limits.topic_levels_maximum = 0,
        |limits| limits.packet_size_maximum = 0,
        |limits| limits.packet_size_maximum = 268_435_460,
        |limits| limits.qos_maximum = 3,
    ];
    for set in wrong {
        let mut limits = Limits::default();
        limits.check().unwrap();
        set(&mut limits);
        assert!(limits.check().unwrap_err().starts_with("limits."));
    }
}
