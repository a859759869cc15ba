use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::packet::{Connect, PacketType, ReasonCode, SubscriptionOptions};

use super::broker::{Broker, clean, lasting};
use super::client::Client;
use super::message::{message, qos};
use super::{V5, V311, VERSIONS};

fn taking(mut connect: Connect<'_>, receive_maximum: u16) -> Connect<'_> {
    connect.properties.receive_maximum = std::num::NonZero::new(receive_maximum);
    connect
}

/// Retains `name/0` to `name/{count - 1}`.
fn retain_many(client: &Client, name: &str, count: usize, bits: u8) {
    for number in 0..count {
        client.retain(&format!("{name}/{number}"), "x", bits);
    }
}

// [MQTT-3.3.1-5]
// [MQTT-3.3.1-9]
// 3.1.1 [MQTT-3.3.1-5]
// 3.1.1 [MQTT-3.3.1-6]
// 3.1.1 [MQTT-3.3.1-8]
#[test]
fn a_new_subscription_gets_the_last_retained_message() {
    for from in VERSIONS {
        for to in VERSIONS {
            for bits in 0..3 {
                let broker = Broker::new();
                let publisher = broker.connect(from, "p");
                publisher.retain("t", "old", bits);
                publisher.retain("t", "new", bits);
                publisher.retain("u", "other", bits);
                for granted in 0..3 {
                    let client = broker.connect(to, "a");
                    client.subscribe("t", granted);
                    assert!(client.receive("t", "new", bits.min(granted)).retain);
                    client.expect_nothing();
                }
            }
        }
    }
}

// [MQTT-3.3.1-8]
// 3.1.1 [MQTT-3.3.1-12]
#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.retain("t", "kept", 0);
        client.publish("t", "passing", 1);
        client.publish("t", "", 1);
        client.publish("u", "passing", 1);
        client.subscribe("#", 1);
        client.receive("t", "kept", 0);
        client.expect_nothing();
    }
}

// [MQTT-3.3.1-6]
// [MQTT-3.3.1-7]
// 3.1.1 [MQTT-3.3.1-10]
// 3.1.1 [MQTT-3.3.1-11]
#[test]
fn an_empty_retained_message_deletes_and_is_passed_on() {
    for version in VERSIONS {
        for qos in 0..3 {
            let broker = Broker::new();
            let (publisher, watch) = (broker.connect(version, "p"), broker.connect(version, "w"));
            watch.subscribe("#", 2);
            publisher.retain("t", "x", qos);
            publisher.retain("t", "", qos);
            watch.receive("t", "x", qos);
            assert!(!watch.receive("t", "", qos).retain);
            let late = broker.connect(version, "late");
            late.subscribe("#", 2);
            late.expect_nothing();
            let stat = broker.stat();
            assert_eq!((stat.retained_messages, stat.retained_bytes), (0, 0));
        }
    }
}

// 3.1.1 [MQTT-3.3.1-7]
#[test]
fn a_retained_qos_0_message_replaces_one_of_a_higher_qos() {
    let broker = Broker::new();
    let client = broker.connect(V311, "a");
    client.retain("t", "sure", 2);
    client.retain("t", "perhaps", 0);
    client.subscribe("t", 2);
    client.receive("t", "perhaps", 0);
    client.expect_nothing();
}

#[test]
fn a_retained_message_keeps_its_properties_and_gets_the_identifier_of_the_subscription() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    let sent = message("t", "x").with_all_properties().retained();
    client.publish_message(sent.clone());
    client.subscribe_with("t", SubscriptionOptions::new(qos(1)), Some(4));
    assert_eq!(client.hold(), sent.clone().identifiers(&[4]));
    // Only of the subscription that asked, not of others that match.
    client.subscribe_with("#", SubscriptionOptions::new(qos(1)), Some(5));
    assert_eq!(client.hold(), sent.identifiers(&[5]));
}

#[test]
fn retained_messages_come_behind_the_suback() {
    let broker = Broker::new();
    let client = broker.connect(V311, "a");
    client.retain("t", "x", 0);
    client.send_hex("82 06 0005 0001 74 00");
    assert!(matches!(client.next().packet(), lapwing_proto::packet::Packet::SubAck(_)));
    client.receive("t", "x", 0);
}

#[test]
fn each_filter_gets_what_it_matches() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    for name in ["a", "a/", "a/b", "a/b/c", "/a", "b/b", "$own/b"] {
        publisher.retain(name, name, 0);
    }
    for (filter, names) in [
        ("a/#", &["a", "a/", "a/b", "a/b/c"][..]),
        ("+/b", &["a/b", "b/b"]),
        ("+", &["a"]),
        ("#", &["/a", "a", "a/", "a/b", "a/b/c", "b/b"]),
        ("+/+", &["/a", "a/", "a/b", "b/b"]),
        ("$own/+", &["$own/b"]),
        ("none/#", &[]),
    ] {
        let client = broker.connect(V5, "a");
        client.subscribe(filter, 0);
        let mut got: Vec<_> = client.receive_all().into_iter().map(|it| it.topic).collect();
        got.sort_unstable();
        assert_eq!(got, names, "{filter}");
    }
}

#[test]
fn ten_thousand_retained_messages_reach_a_client_that_takes_ten_at_a_time() {
    let broker = Broker::new();
    retain_many(&broker.connect(V5, "p"), "t", 10_000, 1);
    let client = broker.join(&taking(clean(V5, "a"), 10));
    client.subscribe("t/#", 1);
    let mut seen = BTreeMap::new();
    loop {
        let open = client.hold_all();
        assert!(open.len() <= 10);
        if open.is_empty() {
            break;
        }
        for message in open {
            client.acknowledge(&message);
            *seen.entry(message.topic).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 10_000);
    assert!(seen.values().all(|&count| count == 1));
}

#[test]
fn ten_thousand_retained_messages_reach_a_client_at_qos_0() {
    for version in VERSIONS {
        let broker = Broker::new();
        retain_many(&broker.connect(V5, "p"), "t", 10_000, 1);
        let client = broker.connect(version, "a");
        client.block();
        client.send_hex(if version == V5 { "82 07 0001 00 0001 23 00" } else { "82 06 0001 0001 23 00" });
        // No more waits in the outbox than a step or two.
        let id = *broker.world().wires.keys().last().unwrap();
        assert!(broker.world().waiting(id) < 100 * 1024);
        client.unblock();
        client.take_first(PacketType::SubAck);
        let topics: BTreeSet<_> = client.hold_all().into_iter().map(|it| it.topic).collect();
        assert_eq!(topics.len(), 10_000);
    }
}

// [attack: retained-replay]
#[test]
fn large_retained_messages_are_sent_a_few_at_a_time() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let large = "x".repeat(100_000);
    for number in 0..100 {
        publisher.retain(&format!("t/{number}"), &large, 0);
    }
    let client = broker.connect(V311, "a");
    client.block();
    client.send_hex("82 06 0001 0001 23 00");
    let id = *broker.world().wires.keys().last().unwrap();
    assert!(broker.world().waiting(id) < 200_000);
    client.unblock();
    client.take_first(PacketType::SubAck);
    assert_eq!(client.hold_all().len(), 100);
}

#[test]
fn retained_messages_that_change_while_they_are_sent_come_as_they_are_then() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    retain_many(&publisher, "t", 3000, 1);
    let client = broker.join(&taking(clean(V5, "a"), 10));
    client.subscribe("t/#", 1);
    let mut last = BTreeMap::new();
    let mut step = 0;
    loop {
        let open = client.hold_all();
        if open.is_empty() {
            break;
        }
        for message in open {
            client.acknowledge(&message);
            last.insert(message.topic, message.payload);
        }
        if step < 300 {
            publisher.retain(&format!("t/{}", step * 9), "changed", 1);
            publisher.retain(&format!("t/{}", step * 9 + 1), "", 1);
            publisher.retain(&format!("t/new/{step}"), "new", 1);
        }
        step += 1;
    }
    // Whatever the order: the last that the client has of each topic is what is retained.
    for number in 0..3000 {
        let wanted = match number % 9 {
            0 if number / 9 < 300 => "changed",
            1 if number / 9 < 300 => "",
            _ => "x",
        };
        let got = last.get(&format!("t/{number}")).map_or("", String::as_str);
        assert_eq!(got, wanted, "{number}");
    }
    for number in 0..300 {
        assert_eq!(last[&format!("t/new/{number}")], "new");
    }
}

#[test]
fn retained_messages_under_way_go_on_on_the_next_connection() {
    let broker = Broker::new();
    retain_many(&broker.connect(V5, "p"), "t", 2000, 1);
    let connect = taking(lasting(V5, "a"), 10);
    let client = broker.join(&connect);
    client.subscribe("t/#", 1);
    let mut topics = BTreeSet::new();
    for message in client.hold_all() {
        client.acknowledge(&message);
        topics.insert(message.topic);
    }
    client.lose();
    broker.advance_s(100);
    let client = broker.join(&connect);
    topics.extend(client.receive_all().into_iter().map(|it| it.topic));
    assert_eq!(topics.len(), 2000);
}

#[test]
fn subscribing_again_begins_anew_and_unsubscribing_ends_it() {
    let broker = Broker::new();
    retain_many(&broker.connect(V5, "p"), "t", 2000, 1);
    let client = broker.join(&taking(clean(V5, "a"), 10));
    for _ in 0..50 {
        client.subscribe("t/#", 1);
    }
    // What had been queued for the earlier ones comes as well, but not all of them fifty times.
    assert!((2000..20_000).contains(&client.receive_all().len()));
    client.subscribe("t/#", 1);
    for _ in 0..100 {
        client.acknowledge(&client.take_first(PacketType::Publish).message());
    }
    // From here on all of them come, also those that came already.
    client.subscribe("t/#", 1);
    let open = client.hold_all();
    for message in &open {
        client.acknowledge(message);
    }
    let topics: BTreeSet<_> = client.receive_all().into_iter().map(|it| it.topic).collect();
    assert_eq!(topics.len(), 2000);
    client.subscribe("t/#", 1);
    client.unsubscribe(&["t/#"]);
    assert!(client.receive_all().len() < 1000);
}

#[test]
fn several_new_subscriptions_each_get_their_retained_messages() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(V5, "p");
        for name in ["a", "b", "c"] {
            retain_many(&publisher, name, 700, 1);
        }
        let client = broker.connect(version, "a");
        let at = |bits| SubscriptionOptions::new(qos(bits));
        client.subscribe_all(&[("a/+", at(0)), ("b/+", at(1)), ("c/+", at(1)), ("c/1", at(0))], None);
        let got = client.receive_all();
        let count =
            |name: &str, qos| got.iter().filter(|it| it.topic.starts_with(name) && it.qos == qos).count();
        assert_eq!((count("a", 0), count("b", 1), count("c", 1), count("c", 0)), (700, 700, 700, 1));
        assert_eq!(got.len(), 2101);
    }
}

// [attack: retained-flood]
#[test]
fn where_there_is_no_room_for_another_retained_message() {
    let broker = Broker::with_limits(|limits| limits.retained_messages_maximum = 2);
    let watch = broker.connect(V5, "w");
    watch.subscribe("#", 0);
    let publisher = broker.connect(V5, "p");
    publisher.retain("1", "x", 0);
    publisher.retain("2", "x", 0);
    watch.receive_all();
    // Who can be told is told, and the message is not passed on.
    for qos in [1, 2] {
        let reason_code = publisher.publish_message(message("3", "x").qos(qos).retained());
        assert_eq!(reason_code, ReasonCode::QuotaExceeded);
    }
    watch.expect_nothing();
    // Otherwise it is only not retained.
    publisher.retain("3", "x", 0);
    watch.receive("3", "x", 0);
    broker.connect(V311, "q").retain("3", "x", 1);
    watch.receive("3", "x", 0);
    assert_eq!(broker.stat().messages_dropped.not_retained, 4);
    // Replacing and deleting is possible, and makes room.
    publisher.retain("1", "y", 1);
    publisher.retain("2", "", 1);
    publisher.retain("3", "z", 1);
    let late = broker.connect(V5, "late");
    late.subscribe("#", 0);
    let mut got: Vec<_> = late.receive_all().into_iter().map(|it| (it.topic, it.payload)).collect();
    got.sort_unstable();
    assert_eq!(got, [("1".into(), "y".into()), ("3".into(), "z".into())]);
}

// [attack: retained-flood]
#[test]
fn retained_bytes_have_a_limit_for_replacements_too() {
    let broker = Broker::with_limits(|limits| limits.retained_bytes_maximum = 10_000);
    let publisher = broker.connect(V5, "p");
    publisher.retain("1", &"x".repeat(4000), 1);
    publisher.retain("2", &"x".repeat(4000), 1);
    let large = message("2", &"y".repeat(8000)).qos(1).retained();
    assert_eq!(publisher.publish_message(large), ReasonCode::QuotaExceeded);
    assert!(broker.stat().retained_bytes <= 10_000);
    publisher.retain("2", "small", 1);
    publisher.retain("1", &"x".repeat(8000), 1);
    publisher.retain("1", "", 1);
    publisher.retain("2", "", 1);
    assert_eq!(broker.stat().retained_bytes, 0);
}
