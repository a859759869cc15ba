//! The first CONNECT of a session after a start: its messages are looked at, and everything else may happen meanwhile.

use lapwing_proto::packet::PacketType;

use super::super::broker::{Broker, clean, expiring, lasting};
use super::*;

/// A session with messages, one of them under way, on a broker that has just started and whose store is held.
fn started(qos: u8) -> Broker {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", qos);
    let p = broker.connect(V5, "p");
    p.publish("t", "1", 2);
    p.publish("t", "2", 2);
    assert_eq!(s.hold_all().len(), 2);
    broker.restart(Cut::Power);
    broker.hold_store();
    broker
}

#[test]
fn a_connect_waits_for_the_messages_of_its_session() {
    let broker = started(2);
    let s = broker.send_connect(&lasting(V5, "s"));
    // What comes behind it waits as well.
    let packet_id = send(&s, "nobody", "x", 1);
    s.expect_nothing();
    broker.release_store();
    assert!(s.next().connack().session_present);
    s.take_first(PacketType::PubAck);
    assert_eq!(packet_id, 1);
    assert_eq!(payloads(&s), ["1", "2"]);
}

// [attack: early-disconnect]
#[test]
fn a_connection_that_is_lost_meanwhile_leaves_the_session_as_it_was() {
    for qos in 1..=2 {
        let broker = started(qos);
        broker.send_connect(&lasting(V5, "s")).lose();
        broker.release_store();
        let s = broker.resume(V5, "s");
        assert!(s.session_present.get());
        assert_eq!(payloads(&s), ["1", "2"]);
        s.disconnect();
        broker.connect(V5, "s").disconnect();
        broker.expect_no_remains();
    }
}

#[test]
fn of_two_connections_the_later_one_gets_the_session() {
    for qos in 1..=2 {
        let broker = started(qos);
        let first = broker.send_connect(&lasting(V5, "s"));
        let second = broker.send_connect(&lasting(V5, "s"));
        broker.release_store();
        assert!(first.is_closed());
        assert!(second.next().connack().session_present);
        assert_eq!(payloads(&second), ["1", "2"]);
        second.expect_nothing();
    }
}

#[test]
fn a_clean_start_while_another_connection_waits_ends_the_session() {
    let broker = started(2);
    let first = broker.send_connect(&lasting(V5, "s"));
    let second = broker.send_connect(&clean(V5, "s"));
    broker.release_store();
    assert!(first.is_closed());
    assert!(!second.next().connack().session_present);
    second.expect_nothing();
    broker.connect(V5, "p").publish("t", "3", 1);
    second.expect_nothing();
    second.disconnect();
    broker.expect_no_remains();
}

#[test]
fn a_clean_start_needs_nothing_of_a_session_that_is_not_restored() {
    for version in VERSIONS {
        let broker = started(2);
        broker.release_store();
        let s = broker.connect(version, "s");
        assert!(!s.session_present.get());
        broker.connect(V5, "p").publish("t", "3", 1);
        s.expect_nothing();
        s.disconnect();
        broker.expect_no_remains();
    }
}

#[test]
fn what_is_published_meanwhile_comes_behind() {
    for qos in 1..=2 {
        let broker = started(qos);
        let s = broker.send_connect(&lasting(V5, "s"));
        let p = broker.connect(V5, "p");
        for payload in ["3", "4"] {
            send(&p, "t", payload, 2);
            broker.store_turn();
        }
        send(&p, "t", "5", 2);
        broker.release_store();
        assert!(s.next().connack().session_present);
        assert_eq!(payloads(&s), ["1", "2", "3", "4", "5"]);
        s.expect_nothing();
    }
}

#[test]
fn a_restored_session_can_be_taken_over() {
    for qos in 1..=2 {
        let broker = started(qos);
        broker.release_store();
        let first = broker.resume(V5, "s");
        assert_eq!(first.hold_all().len(), 2);
        let second = broker.resume(V5, "s");
        assert!(second.session_present.get());
        assert_eq!(payloads(&second), ["1", "2"]);
    }
}

#[test]
fn a_session_that_expires_meanwhile_is_over() {
    let broker = Broker::durable();
    let s = broker.join(&expiring("s", 10));
    s.subscribe("t", 1);
    s.disconnect();
    broker.restart(Cut::Process);
    broker.hold_store();
    let s = broker.send_connect(&lasting(V5, "s"));
    broker.advance_s(5);
    broker.advance_unnoticed(10);
    broker.release_store();
    assert!(!s.next().connack().session_present);
}
