//! Nothing is acknowledged before it is durable, and what need not be durable waits for nothing.

use lapwing_proto::packet::{
    Packet, PacketType, ReasonCode, Subscribe, Subscription, SubscriptionOptions, Unsubscribe,
};

use super::super::broker::{Broker, clean, lasting};
use super::super::client::{Client, Received, filter, id};
use super::super::message::qos;
use super::*;

/// Something is sent; what answers it comes with the store's next turn and not before.
fn answered_by_the_store(broker: &Broker, client: &Client, packet_type: PacketType, send: impl FnOnce()) {
    send();
    client.expect_nothing();
    broker.store_turn();
    client.take_first(packet_type);
    client.expect_nothing();
}

fn subscribe(client: &Client, text: &str) {
    let subscription = Subscription { filter: filter(text), options: SubscriptionOptions::new(qos(2)) };
    client.send(&Packet::Subscribe(Subscribe::new(id(client.next_id()), &[subscription])));
}

fn unsubscribe(client: &Client, text: &str) {
    client.send(&Packet::Unsubscribe(Unsubscribe::new(id(client.next_id()), &[filter(text)])));
}

#[test]
fn each_kind_of_acknowledgement_waits_for_the_store() {
    for version in VERSIONS {
        let broker = Broker::durable();
        broker.hold_store();
        let (s, p) = (broker.open(version), broker.open(version));
        for (client, name) in [(&s, "s"), (&p, "p")] {
            answered_by_the_store(&broker, client, PacketType::ConnAck, || {
                client.send(&Packet::Connect(lasting(version, name)));
            });
        }
        answered_by_the_store(&broker, &s, PacketType::SubAck, || subscribe(&s, "t"));
        answered_by_the_store(&broker, &p, PacketType::PubAck, || {
            send(&p, "t", "1", 1);
        });
        s.receive("t", "1", 1);
        let mut packet_id = 0;
        answered_by_the_store(&broker, &p, PacketType::PubRec, || packet_id = send(&p, "t", "2", 2));
        answered_by_the_store(&broker, &p, PacketType::PubComp, || {
            acknowledge(&p, PacketType::PubRel, packet_id);
        });
        // The message is durable, and its identifier since the turn after that.
        let packet_id = s.hold().packet_id.unwrap();
        answered_by_the_store(&broker, &s, PacketType::PubRel, || {
            acknowledge(&s, PacketType::PubRec, packet_id);
        });
        acknowledge(&s, PacketType::PubComp, packet_id);
        answered_by_the_store(&broker, &s, PacketType::UnsubAck, || unsubscribe(&s, "t"));
    }
}

#[test]
fn a_qos_2_message_is_not_sent_before_its_identifier_is_durable() {
    let broker = Broker::durable();
    let (s, p) = (broker.resume(V5, "s"), broker.connect(V5, "p"));
    s.subscribe("t", 2);
    broker.hold_store();
    send(&p, "t", "1", 2);
    send(&p, "t", "2", 1);
    broker.store_turn();
    p.take_first(PacketType::PubRec);
    p.take_first(PacketType::PubAck);
    s.expect_nothing();
    broker.store_turn();
    assert_eq!(s.hold().payload, "1");
    assert_eq!(s.hold().payload, "2");
}

#[test]
fn acknowledgements_keep_their_order_behind_one_that_waits() {
    let broker = Broker::durable();
    let (s, p) = (broker.resume(V5, "s"), broker.connect(V5, "p"));
    s.subscribe("t", 1);
    broker.hold_store();
    let first = send(&p, "t", "1", 1);
    let second = send(&p, "nobody", "2", 1);
    p.send(&Packet::PingReq);
    p.expect_nothing();
    broker.store_turn();
    let order: Vec<_> = p.take_all();
    let Packet::PubAck(ack) = order[0].packet() else { panic!("{:?}", order[0].packet()) };
    assert_eq!(ack.packet_id, id(first));
    let Packet::PubAck(ack) = order[1].packet() else { panic!("{:?}", order[1].packet()) };
    assert_eq!(ack.packet_id, id(second));
    assert_eq!(order[2].packet(), Packet::PingResp);
}

#[test]
fn what_is_not_stored_waits_for_nothing() {
    for version in VERSIONS {
        let broker = Broker::durable();
        let durable = broker.resume(V5, "durable");
        durable.subscribe("t", 1);
        broker.hold_store();
        // Somebody else waits meanwhile.
        let other = broker.connect(V5, "other");
        send(&other, "t", "waits", 1);
        let (s, p) = (broker.connect(version, "s"), broker.connect(version, "p"));
        s.subscribe("x", 2);
        for bits in 0..=2 {
            p.publish("x", "now", bits);
            s.receive("x", "now", bits);
        }
        // At QoS 0 nothing is stored either.
        p.publish("t", "fleeting", 0);
        durable.receive("t", "fleeting", 0);
        durable.ping();
        s.unsubscribe(&["x"]);
        s.disconnect();
        other.expect_nothing();
    }
}

#[test]
fn a_new_session_in_place_of_a_stored_one_waits_for_the_end_of_that() {
    for cut in CUTS {
        let broker = Broker::durable();
        let s = broker.resume(V5, "s");
        s.subscribe("t", 1);
        s.disconnect();
        broker.hold_store();
        let new = broker.open(V5);
        answered_by_the_store(&broker, &new, PacketType::ConnAck, || {
            new.send(&Packet::Connect(clean(V5, "s")));
        });
        broker.release_store();
        broker.restart(cut);
        assert!(!broker.resume(V5, "s").session_present.get());
    }
}

#[test]
fn nothing_is_acknowledged_once_the_store_has_failed() {
    let broker = Broker::durable();
    let (s, p) = (broker.resume(V5, "s"), broker.resume(V5, "p"));
    s.subscribe("t", 2);
    // The write succeeds, the sync does not.
    broker.disk().fail_after(1, lapwing_store::engine::Fault::InputOutput);
    send(&p, "t", "1", 1);
    assert!(broker.world().writer.is_none());
    p.expect_nothing();
    for bits in 1..=2 {
        send(&p, "t", "later", bits);
    }
    subscribe(&s, "u");
    let refused = |received: &Received| match received.packet() {
        Packet::PubAck(ack) | Packet::PubRec(ack) => ack.reason_code.is_error(),
        Packet::SubAck(ack) => ack.reason_codes.iter().all(ReasonCode::is_error),
        _ => false,
    };
    assert!(p.take_all().iter().all(refused));
    assert!(s.take_all().iter().all(refused));
}
