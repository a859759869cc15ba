use lapwing_proto::packet::{Packet, ReasonCode};

use super::broker::Broker;
use super::client::ack;
use super::message::message;
use super::{V5, V311, VERSIONS};

// [MQTT-3.3.4-1]
// [MQTT-3.8.4-8]
// 3.1.1 [MQTT-3.3.5-1]
// 3.1.1 [MQTT-3.8.4-6]
#[test]
fn a_message_is_delivered_at_the_lower_of_its_and_the_granted_qos() {
    for from in VERSIONS {
        for to in VERSIONS {
            for (published, granted) in (0..9).map(|n| (n / 3, n % 3)) {
                let broker = Broker::new();
                let (publisher, subscriber) = (broker.connect(from, "p"), broker.connect(to, "s"));
                subscriber.subscribe("a/b", granted);
                publisher.publish("a/b", "x", published);
                let got = subscriber.receive("a/b", "x", published.min(granted));
                assert!(!got.dup && !got.retain);
                assert_eq!(got.packet_id.is_some(), got.qos > 0);
                subscriber.expect_nothing();
                publisher.expect_nothing();
            }
        }
    }
}

// [MQTT-3.3.2-4]
// [MQTT-3.3.2-15]
// [MQTT-3.3.2-16]
// [MQTT-3.3.2-17]
// [MQTT-3.3.2-18]
// [MQTT-3.3.2-20]
#[test]
fn properties_are_passed_on_unaltered_and_in_order() {
    for qos in 0..3 {
        let broker = Broker::new();
        let (publisher, subscriber) = (broker.connect(V5, "p"), broker.connect(V5, "s"));
        subscriber.subscribe("a", 2);
        let sent = message("a", "x").with_all_properties().qos(qos);
        publisher.publish_message(sent.clone());
        let got = subscriber.receive("a", "x", qos);
        assert_eq!(got, super::message::Message { packet_id: got.packet_id, ..sent });
    }
}

#[test]
fn properties_are_left_out_for_clients_that_do_not_know_them() {
    let broker = Broker::new();
    let (publisher, subscriber) = (broker.connect(V5, "p"), broker.connect(V311, "s"));
    subscriber.subscribe("a", 0);
    publisher.publish_message(message("a", "x").with_all_properties().expiry(5));
    assert_eq!(subscriber.hold(), message("a", "x"));
}

// [MQTT-3.3.1-3]
// [MQTT-4.3.2-5]
// 3.1.1 [MQTT-3.3.1-3]
// 3.1.1 [MQTT-4.3.2-2]
#[test]
fn dup_is_a_matter_of_one_delivery() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
        subscriber.subscribe("a", 1);
        publisher.send_message(&message("a", "x").qos(1).id(5).dup());
        publisher.send_message(&message("a", "x").qos(1).id(5).dup());
        // At QoS 1 an acknowledged identifier is free again, so that both are messages.
        assert_eq!(subscriber.hold(), message("a", "x").qos(1).id(1));
        assert_eq!(subscriber.hold(), message("a", "x").qos(1).id(2));
    }
}

#[test]
fn a_payload_may_be_empty_or_as_large_as_a_packet() {
    for version in VERSIONS {
        let broker = Broker::new();
        broker.split(100_000);
        let client = broker.connect(version, "a");
        client.subscribe("a", 1);
        let large = "x".repeat(3_000_000);
        client.publish("a", "", 1);
        client.publish("a", &large, 1);
        client.receive("a", "", 1);
        client.receive("a", &large, 1);
    }
}

#[test]
fn a_5_0_publisher_learns_that_nobody_has_subscribed() {
    let broker = Broker::new();
    let (publisher, subscriber) = (broker.connect(V5, "p"), broker.connect(V5, "s"));
    for qos in [1, 2] {
        let reason_code = publisher.publish_message(message("a", "x").qos(qos));
        assert_eq!(reason_code, ReasonCode::NoMatchingSubscribers);
    }
    subscriber.subscribe("a", 0);
    for qos in [1, 2] {
        assert_eq!(publisher.publish_message(message("a", "x").qos(qos)), ReasonCode::Success);
    }
}

// [MQTT-3.3.2-3]
// [MQTT-4.7.3-4]
// 3.1.1 [MQTT-3.3.2-3]
// 3.1.1 [MQTT-4.7.3-4]
#[test]
fn topics_are_compared_character_by_character() {
    let broker = Broker::new();
    let client = broker.connect(V311, "a");
    for filter in ["A/b", "a /b", "/a/b", "a/b/", "a//b", "a/B", "å/b"] {
        client.subscribe(filter, 0);
    }
    // The last one is the same letter written as two characters.
    for name in ["a/b", "a/b ", "a\u{30a}/b"] {
        client.publish(name, "x", 0);
    }
    client.expect_nothing();
    client.publish("å/b", "x", 0);
    client.receive("å/b", "x", 0);
    client.expect_nothing();
}

// [MQTT-4.7.1-1]
// [MQTT-4.7.1-2]
// 3.1.1 [MQTT-4.7.1-2]
// 3.1.1 [MQTT-4.7.1-3]
#[test]
fn wildcards_select_levels() {
    for (filter, names) in [
        ("sport/#", &["sport", "sport/", "sport/a", "sport/a/b"][..]),
        ("sport/+", &["sport/", "sport/a"]),
        ("+", &["sport"]),
        ("+/a/#", &["sport/a", "sport/a/b"]),
        ("#", &["sport", "sport/", "sport/a", "sport/a/b", "/x"]),
        ("/+", &["/x"]),
        ("+/+", &["sport/", "sport/a", "/x"]),
    ] {
        let broker = Broker::new();
        let client = broker.connect(V5, "a");
        client.subscribe(filter, 0);
        for name in ["sport", "sport/", "sport/a", "sport/a/b", "/x", "$own", "$own/a"] {
            client.publish(name, name, 0);
        }
        let got: Vec<_> = client.receive_all().into_iter().map(|message| message.topic).collect();
        assert_eq!(got, names, "{filter}");
    }
}

// [MQTT-4.7.2-1]
// 3.1.1 [MQTT-4.7.2-1]
// [attack: dollar-topic]
#[test]
fn names_with_a_dollar_sign_are_not_for_leading_wildcards() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (all, own) = (broker.connect(version, "all"), broker.connect(version, "own"));
        for filter in ["#", "+/a", "+/#"] {
            all.subscribe(filter, 0);
        }
        own.subscribe("$own/#", 0);
        all.publish("$own/a", "x", 0);
        own.receive("$own/a", "x", 0);
        all.retain("$own/a", "x", 0);
        own.receive("$own/a", "x", 0);
        all.expect_nothing();
        let late = broker.connect(version, "late");
        late.subscribe("#", 0);
        late.expect_nothing();
        late.subscribe("$own/+", 0);
        late.receive("$own/a", "x", 0);
    }
}

// [MQTT-4.7.2-1]
// 3.1.1 [MQTT-3.3.5-2]
// [attack: internal-topics]
#[test]
fn nobody_publishes_to_the_names_of_the_server() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
        subscriber.subscribe("$SYS/#", 2);
        subscriber.subscribe("$share/g/#", 2);
        for name in ["$SYS/a", "$share/g/a"] {
            for qos in 0..3 {
                let reason_code = publisher.publish_message(message(name, "x").qos(qos).retained());
                let is_told = version == V5 && qos > 0;
                let wanted = if is_told { ReasonCode::NotAuthorized } else { ReasonCode::Success };
                assert_eq!(reason_code, wanted);
            }
        }
        subscriber.expect_nothing();
        subscriber.subscribe("$SYS/#", 2);
        subscriber.expect_nothing();
        publisher.ping();
    }
}

// [MQTT-3.12.4-1]
// 3.1.1 [MQTT-3.12.4-1]
#[test]
fn a_pingreq_is_answered() {
    for version in VERSIONS {
        Broker::new().connect(version, "a").ping();
    }
}

// [MQTT-2.2.1-5]
// [MQTT-4.6.0-2]
// [MQTT-4.6.0-3]
// 3.1.1 [MQTT-2.3.1-6]
// 3.1.1 [MQTT-4.6.0-2]
// 3.1.1 [MQTT-4.6.0-3]
#[test]
fn acknowledgements_come_in_the_order_of_the_messages() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (client, subscriber) = (broker.connect(version, "a"), broker.connect(V311, "s"));
        subscriber.subscribe("t", 0);
        let mut bytes = Vec::new();
        for (packet_id, qos) in [(9, 1), (3, 2), (1, 1), (65_535, 2), (2, 1)] {
            bytes.extend(message("t", "x").qos(qos).id(packet_id).encode(version));
        }
        client.send_bytes(&bytes);
        let success = |packet_id| ack(packet_id, ReasonCode::Success);
        client.expect(&Packet::PubAck(success(9)));
        client.expect(&Packet::PubRec(success(3)));
        client.expect(&Packet::PubAck(success(1)));
        client.expect(&Packet::PubRec(success(65_535)));
        client.expect(&Packet::PubAck(success(2)));
        client.expect_nothing();
    }
}
