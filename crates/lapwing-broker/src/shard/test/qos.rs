use lapwing_proto::packet::{Packet, ReasonCode};

use super::broker::Broker;
use super::client::{Client, ack};
use super::message::message;
use super::{V5, V311, VERSIONS};

fn success(packet_id: u16) -> lapwing_proto::packet::Ack<'static> {
    ack(packet_id, ReasonCode::Success)
}

/// A publisher and a subscriber to `a` at QoS 2.
fn pair(broker: &Broker, version: lapwing_proto::packet::ProtocolVersion) -> (Client, Client) {
    let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
    subscriber.subscribe("a", 2);
    (publisher, subscriber)
}

// [MQTT-3.3.1-2]
// [MQTT-2.2.1-2]
// [MQTT-4.3.1-1]
// 3.1.1 [MQTT-3.3.1-2]
// 3.1.1 [MQTT-4.3.1-1]
#[test]
fn a_qos_0_message_has_neither_identifier_nor_answer() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.send_message(&message("a", "x"));
        publisher.expect_nothing();
        assert_eq!(subscriber.hold(), message("a", "x"));
    }
}

// [MQTT-4.3.2-1]
// [MQTT-4.3.2-2]
// [MQTT-4.3.2-4]
// [MQTT-2.2.1-4]
// 3.1.1 [MQTT-4.3.2-1]
// 3.1.1 [MQTT-4.3.2-2]
#[test]
fn a_qos_1_message_is_acknowledged_and_delivered_under_an_own_identifier() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (publisher, subscriber) = pair(&broker, version);
        for packet_id in [500, 7] {
            publisher.send_message(&message("a", "x").qos(1).id(packet_id));
            publisher.expect(&Packet::PubAck(success(packet_id)));
        }
        assert_eq!(subscriber.hold(), message("a", "x").qos(1).id(1));
        assert_eq!(subscriber.hold(), message("a", "x").qos(1).id(2));
        subscriber.send(&Packet::PubAck(success(1)));
        subscriber.send(&Packet::PubAck(success(2)));
        subscriber.expect_nothing();
    }
}

// [MQTT-4.3.3-8]
// [MQTT-4.3.3-10]
// [MQTT-4.3.3-11]
// [MQTT-4.3.3-12]
// 3.1.1 [MQTT-4.3.3-2]
#[test]
fn a_qos_2_message_that_comes_again_before_its_pubrel_is_passed_on_once() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (publisher, subscriber) = pair(&broker, version);
        for dup in [false, true, false] {
            let mut sent = message("a", "x").qos(2).id(3);
            sent.dup = dup;
            publisher.send_message(&sent);
            publisher.expect(&Packet::PubRec(success(3)));
        }
        subscriber.receive("a", "x", 2);
        subscriber.expect_nothing();
        publisher.send(&Packet::PubRel(success(3)));
        publisher.expect(&Packet::PubComp(success(3)));
        // Released: now the identifier stands for another message.
        publisher.send_message(&message("a", "y").qos(2).id(3).dup());
        publisher.expect(&Packet::PubRec(success(3)));
        subscriber.receive("a", "y", 2);
    }
}

// [MQTT-4.3.3-10]
// 3.1.1 [MQTT-4.3.3-2]
#[test]
fn a_qos_2_identifier_stays_in_use_when_the_publisher_comes_back() {
    for version in VERSIONS {
        let broker = Broker::new();
        let subscriber = broker.connect(version, "s");
        subscriber.subscribe("a", 0);
        let publisher = broker.resume(version, "p");
        publisher.send_message(&message("a", "x").qos(2).id(3));
        publisher.lose();
        let publisher = broker.resume(version, "p");
        publisher.send_message(&message("a", "x").qos(2).id(3).dup());
        publisher.expect(&Packet::PubRec(success(3)));
        publisher.send(&Packet::PubRel(success(3)));
        publisher.expect(&Packet::PubComp(success(3)));
        subscriber.receive("a", "x", 0);
        subscriber.expect_nothing();
    }
}

#[test]
fn a_session_begun_anew_has_no_identifier_in_use() {
    let broker = Broker::new();
    let subscriber = broker.connect(V5, "s");
    subscriber.subscribe("a", 0);
    let publisher = broker.resume(V5, "p");
    publisher.send_message(&message("a", "x").qos(2).id(3));
    publisher.lose();
    let publisher = broker.connect(V5, "p");
    publisher.send_message(&message("a", "y").qos(2).id(3));
    subscriber.receive("a", "x", 0);
    subscriber.receive("a", "y", 0);
}

// [MQTT-4.3.3-11]
// 3.1.1 [MQTT-4.3.3-2]
#[test]
fn a_pubrel_for_an_unknown_identifier_is_answered_and_5_0_is_told() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.send(&Packet::PubRel(success(9)));
        let code = if version == V5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
        client.expect(&Packet::PubComp(ack(9, code)));
        client.expect_nothing();
    }
}

// [MQTT-4.3.3-1]
// [MQTT-4.3.3-2]
// [MQTT-4.3.3-4]
// 3.1.1 [MQTT-4.3.3-1]
#[test]
fn a_qos_2_delivery_goes_through_all_four_packets() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (publisher, subscriber) = pair(&broker, version);
        publisher.publish("a", "x", 2);
        assert_eq!(subscriber.hold(), message("a", "x").qos(2).id(1));
        subscriber.send(&Packet::PubRec(success(1)));
        subscriber.expect(&Packet::PubRel(success(1)));
        // A PUBREC that comes again is answered again.
        subscriber.send(&Packet::PubRec(success(1)));
        subscriber.expect(&Packet::PubRel(success(1)));
        subscriber.send(&Packet::PubComp(success(1)));
        subscriber.expect_nothing();
    }
}

#[test]
fn a_pubrec_for_an_unknown_identifier_is_answered_and_5_0_is_told() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.send(&Packet::PubRec(success(9)));
        let code = if version == V5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
        client.expect(&Packet::PubRel(ack(9, code)));
        client.expect_nothing();
    }
}

// [MQTT-4.4.0-2]
// [MQTT-4.3.3-4]
#[test]
fn a_pubrec_with_an_error_ends_the_flow() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let subscriber = broker.resume(V5, "s");
    subscriber.subscribe("a", 2);
    publisher.publish("a", "x", 2);
    let packet_id = subscriber.hold().packet_id.unwrap();
    subscriber.send(&Packet::PubRec(ack(packet_id, ReasonCode::QuotaExceeded)));
    subscriber.expect_nothing();
    subscriber.lose();
    broker.resume(V5, "s").expect_nothing();
}

// [MQTT-4.4.0-2]
#[test]
fn a_puback_with_an_error_ends_the_flow() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let subscriber = broker.resume(V5, "s");
    subscriber.subscribe("a", 1);
    publisher.publish("a", "x", 1);
    let packet_id = subscriber.hold().packet_id.unwrap();
    subscriber.send(&Packet::PubAck(ack(packet_id, ReasonCode::UnspecifiedError)));
    subscriber.lose();
    broker.resume(V5, "s").expect_nothing();
}

// [attack: unexpected-acknowledgement]
#[test]
fn acknowledgements_that_nothing_waits_for_are_ignored() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.send(&Packet::PubAck(success(4)));
        client.send(&Packet::PubComp(success(4)));
        client.ping();
    }
}

// [attack: unexpected-acknowledgement]
#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    for version in VERSIONS {
        for (qos, wrong) in [
            (1, Packet::PubRec(success(1))),
            (1, Packet::PubComp(success(1))),
            (2, Packet::PubAck(success(1))),
            (2, Packet::PubComp(success(1))),
        ] {
            let broker = Broker::new();
            let (publisher, subscriber) = pair(&broker, version);
            publisher.publish("a", "x", qos);
            assert_eq!(subscriber.hold().packet_id, Some(1));
            subscriber.send(&wrong);
            subscriber.expect_end(ReasonCode::ProtocolError);
        }
    }
}

// [MQTT-4.3.3-4]
#[test]
fn after_a_pubrec_a_puback_is_wrong() {
    let broker = Broker::new();
    let (publisher, subscriber) = pair(&broker, V311);
    publisher.publish("a", "x", 2);
    assert_eq!(subscriber.hold().packet_id, Some(1));
    subscriber.send(&Packet::PubRec(success(1)));
    subscriber.expect(&Packet::PubRel(success(1)));
    subscriber.send(&Packet::PubAck(success(1)));
    subscriber.expect_end(ReasonCode::ProtocolError);
}
