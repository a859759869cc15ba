use lapwing_proto::packet::{Packet, ReasonCode};

use super::broker::{Broker, lasting};
use super::client::ack;
use super::message::{Message, message};
use super::{V5, VERSIONS};

fn seen(messages: &[Message]) -> Vec<(&str, u16, bool)> {
    messages.iter().map(|it| (it.payload.as_str(), it.packet_id.unwrap(), it.dup)).collect()
}

// [MQTT-3.3.1-1]
// [MQTT-4.3.2-3]
// [MQTT-4.3.3-3]
// [MQTT-4.4.0-1]
// [MQTT-4.6.0-1]
// 3.1.1 [MQTT-3.3.1-1]
// 3.1.1 [MQTT-4.4.0-1]
// 3.1.1 [MQTT-4.6.0-1]
#[test]
fn what_was_not_acknowledged_is_sent_again_with_the_same_identifiers_and_in_order() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(version, "p");
        let client = broker.resume(version, "a");
        client.subscribe("t", 2);
        for number in 1..=6 {
            publisher.publish("t", &number.to_string(), 1 + number % 2);
        }
        let open = client.hold_all();
        assert_eq!(open.len(), 6);
        client.acknowledge(&open[1]);
        client.acknowledge(&open[4]);
        client.lose();
        publisher.publish("t", "7", 1);
        for _ in 0..2 {
            let client = broker.resume(version, "a");
            let again = client.hold_all();
            let wanted = [("1", 1, true), ("3", 3, true), ("4", 4, true), ("6", 6, true)];
            assert_eq!(seen(&again)[..4], wanted);
            assert_eq!(again.iter().map(|it| it.qos).collect::<Vec<_>>(), [2, 2, 1, 1, 1]);
            assert_eq!(again[4].payload, "7");
            client.lose();
        }
        let client = broker.resume(version, "a");
        assert_eq!(client.receive_all().len(), 5);
        client.lose();
        broker.resume(version, "a").expect_nothing();
    }
}

// [MQTT-4.4.0-1]
#[test]
fn nothing_is_sent_again_on_the_same_connection() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.resume(version, "a");
        client.subscribe("t", 2);
        client.publish("t", "1", 1);
        client.publish("t", "2", 2);
        client.hold_all();
        broker.advance_s(100_000);
        client.ping();
        client.publish("t", "3", 1);
        assert_eq!(client.hold().payload, "3");
        client.expect_nothing();
    }
}

// [MQTT-4.3.3-5]
// [MQTT-4.3.3-6]
// [MQTT-4.6.0-4]
// 3.1.1 [MQTT-4.3.3-1]
// 3.1.1 [MQTT-4.6.0-4]
#[test]
fn pubrels_are_sent_again_in_the_order_of_the_pubrecs_and_without_their_messages() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.resume(version, "a");
        client.subscribe("t", 2);
        for number in 1..=5 {
            client.publish("t", &number.to_string(), 2);
        }
        client.hold_all();
        for packet_id in [4, 1, 3] {
            let success = ack(packet_id, ReasonCode::Success);
            client.send(&Packet::PubRec(success));
            client.expect(&Packet::PubRel(success));
        }
        client.lose();
        for _ in 0..2 {
            let client = broker.resume(version, "a");
            for packet_id in [4, 1, 3] {
                client.expect(&Packet::PubRel(ack(packet_id, ReasonCode::Success)));
            }
            assert_eq!(seen(&client.hold_all()), [("2", 2, true), ("5", 5, true)]);
            client.lose();
        }
        let client = broker.resume(version, "a");
        for packet_id in [4, 1, 3] {
            client.expect(&Packet::PubRel(ack(packet_id, ReasonCode::Success)));
            client.send(&Packet::PubComp(ack(packet_id, ReasonCode::Success)));
        }
        client.lose();
        assert_eq!(seen(&broker.resume(version, "a").hold_all()), [("2", 2, true), ("5", 5, true)]);
    }
}

// [MQTT-3.3.4-9]
// [MQTT-4.6.0-1]
#[test]
fn what_is_sent_again_keeps_to_the_receive_maximum_of_the_new_connection() {
    let broker = Broker::new();
    let client = broker.resume(V5, "a");
    client.subscribe("t", 1);
    for number in 1..=6 {
        client.publish("t", &number.to_string(), 1);
    }
    client.hold_all();
    client.lose();
    let mut connect = lasting(V5, "a");
    connect.properties.receive_maximum = std::num::NonZero::new(2);
    let client = broker.join(&connect);
    client.publish("t", "7", 1);
    let mut open = client.hold_all();
    assert_eq!(seen(&open), [("1", 1, true), ("2", 2, true)]);
    let mut order = Vec::new();
    while let Some(first) = open.first().cloned() {
        open.remove(0);
        client.acknowledge(&first);
        order.push(first.payload);
        open.extend(client.hold_all());
        assert!(open.len() <= 2);
    }
    assert_eq!(order, ["1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn an_acknowledgement_for_what_is_not_yet_sent_again_counts() {
    let broker = Broker::new();
    let client = broker.resume(V5, "a");
    client.subscribe("t", 1);
    for number in 1..=3 {
        client.publish("t", &number.to_string(), 1);
    }
    client.hold_all();
    client.lose();
    let mut connect = lasting(V5, "a");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let client = broker.join(&connect);
    let first = client.hold();
    client.send(&Packet::PubAck(ack(2, ReasonCode::Success)));
    client.expect_nothing();
    client.acknowledge(&first);
    assert_eq!(client.hold().payload, "3");
}

// [MQTT-3.1.2-24]
// [MQTT-3.1.2-25]
#[test]
fn what_is_too_large_for_the_new_connection_counts_as_delivered() {
    for qos in [1, 2] {
        let broker = Broker::new();
        let client = broker.resume(V5, "a");
        client.subscribe("t", 2);
        client.publish("t", &"x".repeat(500), qos);
        client.publish("t", "small", qos);
        client.hold_all();
        client.lose();
        let mut connect = lasting(V5, "a");
        connect.properties.maximum_packet_size = std::num::NonZero::new(100);
        connect.properties.receive_maximum = std::num::NonZero::new(1);
        let client = broker.join(&connect);
        client.receive("t", "small", qos);
        client.expect_nothing();
        assert_eq!(broker.stat().messages_dropped.too_large, 1);
        client.publish("t", "next", qos);
        client.receive("t", "next", qos);
        client.lose();
        broker.resume(V5, "a").expect_nothing();
    }
}

// [MQTT-3.10.4-3]
// 3.1.1 [MQTT-3.10.4-3]
#[test]
fn a_delivery_that_has_begun_outlives_the_subscription() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.resume(version, "a");
        client.subscribe("t", 2);
        client.publish("t", "1", 1);
        client.publish("t", "2", 2);
        client.hold_all();
        client.unsubscribe(&["t"]);
        client.lose();
        let client = broker.resume(version, "a");
        client.receive("t", "1", 1);
        client.receive("t", "2", 2);
    }
}

#[test]
fn what_is_sent_again_has_its_retain_flag_and_its_properties() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let sent = message("t", "x").with_all_properties().qos(1).retained();
    publisher.publish_message(sent.clone());
    let client = broker.resume(V5, "a");
    client.subscribe_with(
        "t",
        lapwing_proto::packet::SubscriptionOptions::new(super::message::qos(1)),
        Some(9),
    );
    let wanted = sent.id(1).identifiers(&[9]);
    assert_eq!(client.hold(), wanted);
    client.lose();
    assert_eq!(broker.resume(V5, "a").hold(), wanted.dup());
}
