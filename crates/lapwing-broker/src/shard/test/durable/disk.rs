//! A disk that is full.

use lapwing_proto::packet::{PacketType, ReasonCode, SubscriptionOptions};
use lapwing_store::engine::Space;

use super::super::broker::{Broker, clean, expiring, lasting, will};
use super::super::message::qos;
use super::*;

const LITTLE: u64 = 10;

/// A broker with a stored subscription to `t`, whose disk has become full.
fn full() -> Broker {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    s.disconnect();
    broker.set_free_bytes(LITTLE);
    broker
}

// [attack: full-disk]
#[test]
fn messages_that_must_be_stored_are_refused_until_there_is_room() {
    let broker = full();
    let p = broker.connect(V5, "p");
    for bits in 1..=2 {
        assert_eq!(p.publish_message(message("t", "x").qos(bits)), ReasonCode::QuotaExceeded);
        assert_eq!(p.publish_message(message("r", "x").qos(bits).retained()), ReasonCode::QuotaExceeded);
        assert_eq!(p.publish_message(message("$delayed/9/t", "x").qos(bits)), ReasonCode::QuotaExceeded);
    }
    assert_eq!(broker.stored(Space::Queue), 0);
    broker.set_free_bytes(0);
    p.publish("t", "1", 1);
    p.publish("t", "2", 2);
    assert_eq!(payloads(&broker.resume(V5, "s")), ["1", "2"]);
}

#[test]
fn publishers_before_5_0_are_disconnected_and_send_again_later() {
    for version in [V31, V311] {
        for bits in 1..=2 {
            for connect in [clean(version, "p"), lasting(version, "p")] {
                let broker = Broker::durable();
                let s = broker.resume(V5, "s");
                s.subscribe("t", 1);
                drop(broker.join(&connect));
                let p = broker.join(&connect);
                broker.set_free_bytes(LITTLE);
                p.send_message(&message("t", "1").qos(bits).id(7));
                p.expect_closed();
                broker.set_free_bytes(0);
                let p = broker.join(&connect);
                p.send_message(&message("t", "1").qos(bits).id(7).dup());
                p.take_first(if bits == 1 { PacketType::PubAck } else { PacketType::PubRec });
                assert_eq!(payloads(&s), ["1"]);
                // Nor is the identifier taken for known after a restart.
                broker.set_free_bytes(LITTLE);
                p.send_message(&message("t", "2").qos(bits).id(8));
                p.expect_closed();
                broker.set_free_bytes(0);
                broker.restart(Cut::Power);
                let p = broker.join(&connect);
                p.send_message(&message("t", "2").qos(bits).id(8).dup());
                p.take_first(if bits == 1 { PacketType::PubAck } else { PacketType::PubRec });
                assert!(payloads(&broker.resume(V5, "s")).contains(&"2".to_owned()));
            }
        }
    }
}

#[test]
fn what_need_not_be_stored_goes_on() {
    let broker = full();
    let (s, p) = (broker.connect(V5, "x"), broker.connect(V5, "p"));
    s.subscribe("x", 2);
    for bits in 0..=2 {
        p.publish("x", "y", bits);
        s.receive("x", "y", bits);
    }
    s.subscribe("t", 0);
    p.publish("t", "fleeting", 0);
    s.receive("t", "fleeting", 0);
}

#[test]
fn new_sessions_and_subscriptions_are_refused_and_old_ones_go_on() {
    let broker = full();
    broker.send_connect(&lasting(V5, "new")).expect_refusal(ReasonCode::QuotaExceeded);
    broker.send_connect(&lasting(V311, "new")).expect_refusal(ReasonCode::ServerUnavailable);
    let s = broker.resume(V5, "s");
    assert!(s.session_present.get());
    assert_eq!(s.subscribe_with("u", SubscriptionOptions::new(qos(1)), None), ReasonCode::QuotaExceeded);
    s.unsubscribe(&["t"]);
    broker.set_free_bytes(0);
    s.subscribe("u", 1);
    broker.restart(Cut::Power);
    broker.connect(V5, "p").publish("u", "1", 1);
    assert_eq!(payloads(&broker.resume(V5, "s")), ["1"]);
}

#[test]
fn what_makes_it_less_is_taken() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    s.disconnect();
    let p = broker.connect(V5, "p");
    p.retain("r", "x", 1);
    p.publish("t", "1", 1);
    p.publish("t", "2", 2);
    broker.set_free_bytes(LITTLE);
    p.retain("r", "", 1);
    assert_eq!(broker.stored(Space::Retained), 0);
    let s = broker.resume(V5, "s");
    assert_eq!(payloads(&s), ["1", "2"]);
    broker.tidy_store();
    assert_eq!((broker.stored(Space::Queue), broker.stored(Space::Flow)), (0, 0));
    broker.connect(V5, "s").disconnect();
    broker.expect_no_remains();
}

// [attack: full-disk]
#[test]
fn what_was_taken_before_is_still_published() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("#", 2);
    s.disconnect();
    let p = broker.connect(V5, "p");
    p.publish("$delayed/10/t", "delayed", 2);
    let mut connect = expiring("dying", 1000);
    connect.will = Some(will("t", "will", 1));
    let dying = broker.join(&connect);
    broker.set_free_bytes(LITTLE);
    dying.lose();
    broker.advance_s(10);
    broker.restart(Cut::Power);
    broker.set_free_bytes(0);
    assert_eq!(payloads(&broker.resume(V5, "s")), ["will", "delayed"]);
}

#[test]
fn a_member_of_a_shared_subscription_that_must_be_stored_counts() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("$share/g/x", 1);
    s.disconnect();
    broker.set_free_bytes(LITTLE);
    let p = broker.connect(V5, "p");
    assert_eq!(p.publish_message(message("x", "1").qos(1)), ReasonCode::QuotaExceeded);
    // Another member, for which nothing is stored, can be chosen.
    let other = broker.connect(V5, "other");
    other.subscribe("$share/g/x", 1);
    p.publish("x", "2", 1);
    other.receive("x", "2", 1);
}
