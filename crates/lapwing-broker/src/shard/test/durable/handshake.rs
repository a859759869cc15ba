//! The steps of QoS 1 and 2, with a restart behind each.

use lapwing_proto::packet::{PacketType, ReasonCode};

use super::super::broker::Broker;
use super::super::client::{ack, id};
use super::*;

// [attack: qos-2-crash]
#[test]
fn a_qos_2_message_from_a_client_is_passed_on_once_whatever_ends_in_between() {
    for cut in CUTS {
        for version in [V311, V5] {
            let broker = Broker::durable();
            let s = broker.resume(version, "s");
            s.subscribe("t", 2);
            s.disconnect();
            let p = broker.resume(version, "p");
            let packet_id = send(&p, "t", "1", 2);
            p.take_first(PacketType::PubRec);
            broker.restart(cut);
            let p = broker.resume(version, "p");
            assert!(p.session_present.get());
            p.send_message(&message("t", "1").qos(2).id(packet_id).dup());
            p.take_first(PacketType::PubRec);
            broker.restart(cut);
            let p = broker.resume(version, "p");
            acknowledge(&p, PacketType::PubRel, packet_id);
            p.take_first(PacketType::PubComp);
            broker.restart(cut);
            let p = broker.resume(version, "p");
            acknowledge(&p, PacketType::PubRel, packet_id);
            p.take_first(PacketType::PubComp);
            // The identifier is free for another message.
            p.send_message(&message("t", "2").qos(2).id(packet_id));
            p.take_first(PacketType::PubRec);
            assert_eq!(payloads(&broker.resume(version, "s")), ["1", "2"]);
        }
    }
}

#[test]
fn a_qos_2_message_that_was_not_durable_is_new_when_it_comes_again() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    let p = broker.resume(V5, "p");
    broker.hold_store();
    let packet_id = send(&p, "t", "1", 2);
    broker.restart(Cut::Power);
    broker.release_store();
    let p = broker.resume(V5, "p");
    p.send_message(&message("t", "1").qos(2).id(packet_id).dup());
    p.take_first(PacketType::PubRec);
    assert_eq!(payloads(&broker.resume(V5, "s")), ["1"]);
}

#[test]
fn a_qos_2_message_to_a_client_goes_on_where_it_was() {
    for cut in CUTS {
        for version in [V311, V5] {
            let broker = Broker::durable();
            let s = broker.resume(version, "s");
            s.subscribe("t", 2);
            broker.connect(V5, "p").publish("t", "1", 2);
            let packet_id = s.hold().packet_id.unwrap();
            broker.restart(cut);
            let s = broker.resume(version, "s");
            let again = s.hold();
            assert_eq!((again.packet_id, again.dup, again.qos), (Some(packet_id), true, 2));
            s.expect_nothing();
            acknowledge(&s, PacketType::PubRec, packet_id);
            let pubrel = Packet::PubRel(ack(packet_id, ReasonCode::Success));
            s.expect(&pubrel);
            broker.restart(cut);
            let s = broker.resume(version, "s");
            s.expect(&pubrel);
            s.expect_nothing();
            // The client has sent PUBREC again before it knew.
            acknowledge(&s, PacketType::PubRec, packet_id);
            s.expect(&pubrel);
            acknowledge(&s, PacketType::PubComp, packet_id);
            s.ping();
            broker.restart(cut);
            let s = broker.resume(version, "s");
            // Whether PUBCOMP was durable nobody has promised; the message is not sent again.
            for received in s.take_all() {
                assert_eq!(received.packet(), pubrel);
            }
            broker.connect(V5, "p").publish("t", "2", 2);
            s.receive("t", "2", 2);
        }
    }
}

#[test]
fn a_message_that_was_refused_with_pubrec_is_done() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    broker.connect(V5, "p").publish("t", "1", 2);
    let packet_id = s.hold().packet_id.unwrap();
    s.send(&Packet::PubRec(ack(packet_id, ReasonCode::UnspecifiedError)));
    // Something that is awaited makes it durable.
    s.subscribe("u", 1);
    broker.restart(Cut::Power);
    broker.resume(V5, "s").expect_nothing();
}

#[test]
fn pubrels_and_messages_come_again_in_their_order() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    let p = broker.connect(V5, "p");
    for payload in ["1", "2", "3", "4"] {
        p.publish("t", payload, 2);
    }
    let ids: Vec<_> = s.hold_all().iter().map(|message| message.packet_id.unwrap()).collect();
    // The client says of the third that it has it, and then of the first.
    for at in [2, 0] {
        acknowledge(&s, PacketType::PubRec, ids[at]);
        s.take_first(PacketType::PubRel);
    }
    broker.restart(Cut::Power);
    let s = broker.resume(V5, "s");
    for at in [2, 0] {
        s.expect(&Packet::PubRel(ack(ids[at], ReasonCode::Success)));
    }
    assert_eq!((s.hold().payload.as_str(), s.hold().payload.as_str()), ("2", "4"));
    for at in [2, 0] {
        acknowledge(&s, PacketType::PubComp, ids[at]);
    }
    for at in [1, 3] {
        acknowledge(&s, PacketType::PubRec, ids[at]);
        s.expect(&Packet::PubRel(ack(ids[at], ReasonCode::Success)));
        acknowledge(&s, PacketType::PubComp, ids[at]);
    }
    p.is_closed();
    broker.connect(V5, "p").publish("t", "5", 2);
    s.receive("t", "5", 2);
    s.disconnect();
    drop(broker.connect(V5, "s"));
}

// [MQTT-3.3.1-1]
#[test]
fn a_qos_1_message_of_an_earlier_process_comes_with_dup() {
    for cut in CUTS {
        let broker = Broker::durable();
        let s = broker.resume(V5, "s");
        s.subscribe("t", 1);
        let p = broker.connect(V5, "p");
        p.publish("t", "1", 1);
        assert!(!s.hold().dup);
        broker.restart(cut);
        let s = broker.resume(V5, "s");
        let again = s.hold();
        assert_eq!((again.payload.as_str(), again.dup), ("1", true));
        // What is published now is new.
        broker.connect(V5, "p").publish("t", "2", 1);
        assert!(!s.hold().dup);
        acknowledge(&s, PacketType::PubAck, again.packet_id.unwrap());
        // A second one: what was acknowledged and made durable is done.
        s.subscribe("u", 1);
        broker.restart(cut);
        let s = broker.resume(V5, "s");
        assert_eq!(s.hold().payload, "2");
        s.expect_nothing();
    }
}

#[test]
fn qos_1_before_qos_2_is_not_forgotten_by_a_second_restart() {
    for cut in CUTS {
        let broker = Broker::durable();
        let s = broker.resume(V5, "s");
        s.subscribe("t", 2);
        let p = broker.connect(V5, "p");
        p.publish("t", "1", 1);
        p.publish("t", "2", 2);
        assert_eq!(s.hold_all().len(), 2);
        broker.restart(cut);
        // The session goes on, and is stored as it is then.
        assert_eq!(broker.resume(V5, "s").hold_all().len(), 2);
        broker.restart(cut);
        let s = broker.resume(V5, "s");
        let mut payloads = payloads(&s);
        payloads.sort();
        assert_eq!(payloads, ["1", "2"]);
    }
}

#[test]
fn an_identifier_in_use_is_not_used_for_another_message_after_a_restart() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    broker.connect(V5, "p").publish("t", "1", 2);
    let packet_id = s.hold().packet_id.unwrap();
    broker.restart(Cut::Power);
    let s = broker.resume(V5, "s");
    broker.connect(V5, "p").publish("t", "2", 2);
    let ids: Vec<_> = s.hold_all().iter().map(|message| message.packet_id.unwrap()).collect();
    assert_eq!(ids[0], packet_id);
    assert_ne!(id(ids[1]), id(packet_id));
}
