use std::collections::VecDeque;

use lapwing_proto::packet::{Connect, Packet, ReasonCode};

use super::broker::{Broker, lasting};
use super::client::ack;
use super::message::message;
use super::{V5, V311, VERSIONS};

fn taking(client_id: &str, receive_maximum: u16) -> Connect<'_> {
    let mut connect = lasting(V5, client_id);
    connect.properties.receive_maximum = std::num::NonZero::new(receive_maximum);
    connect
}

// [MQTT-3.3.4-9]
// [MQTT-4.9.0-1]
// [MQTT-4.9.0-2]
// [attack: never-acknowledged]
#[test]
fn no_more_messages_are_open_than_the_client_takes() {
    for receive_maximum in [1, 2, 5] {
        let broker = Broker::new();
        let publisher = broker.connect(V311, "p");
        let client = broker.join(&taking("a", receive_maximum));
        client.subscribe("t", 2);
        for number in 0..20 {
            publisher.publish("t", &number.to_string(), 1 + number % 2);
        }
        let mut open = VecDeque::from(client.hold_all());
        for number in 0..20 {
            assert_eq!(open.len(), usize::from(receive_maximum).min(20 - number));
            // Each one that is acknowledged makes room for one.
            let first = open.pop_front().unwrap();
            assert_eq!(first.payload, number.to_string());
            client.acknowledge(&first);
            open.extend(client.hold_all());
        }
        client.expect_nothing();
    }
}

// [MQTT-3.3.4-9]
// [MQTT-4.3.3-5]
#[test]
fn a_qos_2_message_is_open_until_its_pubcomp() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.join(&taking("a", 1));
    client.subscribe("t", 2);
    publisher.publish("t", "1", 2);
    publisher.publish("t", "2", 2);
    assert_eq!(client.hold().packet_id, Some(1));
    client.send(&Packet::PubRec(ack(1, ReasonCode::Success)));
    client.expect(&Packet::PubRel(ack(1, ReasonCode::Success)));
    client.expect_nothing();
    client.send(&Packet::PubComp(ack(1, ReasonCode::Success)));
    assert_eq!(client.hold().payload, "2");
    client.expect_nothing();
}

// [MQTT-4.4.0-2]
#[test]
fn a_refused_message_makes_room() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.join(&taking("a", 1));
    client.subscribe("t", 2);
    for (payload, qos) in [("1", 2), ("2", 1), ("3", 1)] {
        publisher.publish("t", payload, qos);
    }
    assert_eq!(client.hold().packet_id, Some(1));
    client.send(&Packet::PubRec(ack(1, ReasonCode::QuotaExceeded)));
    assert_eq!(client.hold().packet_id, Some(2));
    client.send(&Packet::PubAck(ack(2, ReasonCode::QuotaExceeded)));
    client.receive("t", "3", 1);
}

// [MQTT-3.3.4-10]
// [MQTT-4.9.0-3]
#[test]
fn the_receive_maximum_holds_back_nothing_else() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.join(&taking("a", 1));
    client.subscribe("t", 1);
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 1);
    client.hold();
    client.ping();
    client.subscribe("u", 1);
    client.publish("v", "x", 2);
    publisher.publish("t", "3", 0);
    client.receive("t", "3", 0);
    client.expect_nothing();
}

#[test]
fn the_broker_has_a_limit_of_its_own() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.client_receive_maximum = 3);
        let publisher = broker.connect(V311, "p");
        let client = broker.resume(version, "a");
        client.subscribe("t", 1);
        for _ in 0..10 {
            publisher.publish("t", "x", 1);
        }
        let open = client.hold_all();
        assert_eq!(open.len(), 3);
        client.acknowledge(&open[0]);
        client.acknowledge(&open[1]);
        assert_eq!(client.hold_all().len(), 2);
    }
}

// [MQTT-3.3.4-7]
// [attack: qos-2-identifiers]
#[test]
fn a_client_that_has_more_messages_open_than_allowed_is_let_go() {
    let broker = Broker::with_limits(|limits| limits.receive_maximum = 3);
    let client = broker.connect(V5, "a");
    for packet_id in 1..=3 {
        client.send_message(&message("t", "x").qos(2).id(packet_id));
        client.next();
    }
    // QoS 1 is acknowledged at once, so that it is never open; a duplicate is no other message.
    client.send_message(&message("t", "x").qos(2).id(3).dup());
    client.next();
    client.send(&Packet::PubRel(ack(2, ReasonCode::Success)));
    client.next();
    client.publish("t", "x", 1);
    client.send_message(&message("t", "x").qos(2).id(4));
    client.next();
    client.send_message(&message("t", "x").qos(2).id(5));
    client.expect_end(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn clients_before_5_0_do_not_know_of_the_receive_maximum() {
    let broker = Broker::with_limits(|limits| limits.receive_maximum = 3);
    let client = broker.connect(V311, "a");
    for packet_id in 1..=1000 {
        client.send_message(&message("t", "x").qos(2).id(packet_id));
        client.expect(&Packet::PubRec(ack(packet_id, ReasonCode::Success)));
    }
    client.ping();
}

#[test]
fn what_is_open_is_counted_anew_on_each_connection() {
    let broker = Broker::with_limits(|limits| limits.receive_maximum = 2);
    let connect = lasting(V5, "a");
    for round in 0..3 {
        let client = broker.join(&connect);
        for packet_id in 1..=2 {
            client.send_message(&message("t", "x").qos(2).id(round * 2 + packet_id));
            client.next();
        }
        client.lose();
    }
}

#[test]
fn packet_identifiers_go_round() {
    let broker = Broker::new();
    let (client, publisher) = (broker.join(&taking("a", 2)), broker.connect(V311, "p"));
    client.subscribe("t", 1);
    let mut last = 0;
    for _ in 0..66_000_u32 {
        publisher.send_message(&message("t", "x").qos(1).id(1));
        publisher.next();
        let got = client.hold();
        let packet_id = got.packet_id.unwrap();
        assert_eq!(packet_id, if last == u16::MAX { 1 } else { last + 1 });
        last = packet_id;
        client.acknowledge(&got);
    }
}

#[test]
fn one_message_that_is_never_acknowledged_does_not_break_the_others() {
    let broker = Broker::with_limits(|limits| limits.client_receive_maximum = u16::MAX);
    let (client, publisher) = (broker.resume(V5, "a"), broker.connect(V311, "p"));
    client.subscribe("t", 1);
    publisher.publish("t", "stuck", 1);
    let stuck = client.hold();
    for _ in 0..65_534_u32 {
        publisher.send_message(&message("t", "x").qos(1).id(1));
        publisher.next();
        let got = client.hold();
        assert_ne!(got.packet_id, stuck.packet_id);
        client.acknowledge(&got);
    }
    // All other identifiers have been used behind it: the next message waits.
    publisher.publish("t", "last", 1);
    client.expect_nothing();
    client.acknowledge(&stuck);
    client.receive("t", "last", 1);
}

// [attack: never-acknowledged]
#[test]
fn messages_in_flight_have_a_limit_of_bytes() {
    for version in VERSIONS {
        for qos in [1, 2] {
            let broker = Broker::with_limits(|limits| limits.in_flight_bytes_maximum = 2500);
            let publisher = broker.connect(V311, "p");
            let client = broker.resume(version, "a");
            client.subscribe("t", 2);
            for number in 0..6 {
                publisher.publish("t", &format!("{number}{}", "x".repeat(1000)), qos);
            }
            // The third is the one that was added last.
            let open = client.hold_all();
            assert_eq!(open.len(), 3);
            // At QoS 2 it is the PUBREC that tells that the client has it.
            client.acknowledge(&open[0]);
            assert_eq!(client.hold_all().len(), 1);
            client.lose();
            // What is in flight is sent again in any case, and counts as before.
            let client = broker.resume(version, "a");
            let again = client.hold_all();
            assert_eq!(again.len(), 3);
            for message in &again {
                client.acknowledge(message);
            }
            let last = client.receive_all();
            assert_eq!(last.iter().map(|it| &it.payload[..1]).collect::<Vec<_>>(), ["4", "5"]);
            publisher.publish("t", "again", qos);
            client.receive("t", "again", qos);
        }
    }
}

#[test]
fn a_message_that_is_refused_or_too_large_takes_none_of_these_bytes() {
    let broker = Broker::with_limits(|limits| limits.in_flight_bytes_maximum = 100);
    let publisher = broker.connect(V311, "p");
    let mut connect = lasting(V5, "a");
    connect.properties.maximum_packet_size = std::num::NonZero::new(2000);
    let client = broker.join(&connect);
    client.subscribe("t", 2);
    for qos in [1, 2] {
        publisher.publish("t", &"x".repeat(3000), qos);
        publisher.publish("t", &"x".repeat(1000), qos);
        publisher.publish("t", "next", qos);
        let packet_id = client.hold().packet_id.unwrap();
        client.expect_nothing();
        let refusal = ack(packet_id, ReasonCode::UnspecifiedError);
        client.send(&if qos == 1 { Packet::PubAck(refusal) } else { Packet::PubRec(refusal) });
        client.receive("t", "next", qos);
    }
}

#[test]
fn one_message_may_be_larger_than_all_that_may_be_in_flight() {
    let broker = Broker::with_limits(|limits| limits.in_flight_bytes_maximum = 0);
    let client = broker.connect(V5, "a");
    client.subscribe("t", 2);
    for number in 0..3 {
        client.publish_message(message("t", &number.to_string()).qos(1));
    }
    for number in 0..3 {
        let open = client.hold();
        assert_eq!(open.payload, number.to_string());
        client.expect_nothing();
        client.acknowledge(&open);
    }
}
