//! Retained messages.

use lapwing_proto::packet::{PacketType, RetainHandling, SubscriptionOptions};
use lapwing_store::engine::Space;

use super::super::broker::Broker;
use super::super::message::qos;
use super::*;

#[test]
fn retained_messages_are_as_they_were_acknowledged() {
    for cut in CUTS {
        let broker = Broker::durable();
        let p = broker.connect(V5, "p");
        for bits in 1..=2 {
            p.retain(&format!("kept/{bits}"), "old", bits);
            p.retain(&format!("kept/{bits}"), "new", bits);
            p.retain(&format!("gone/{bits}"), "x", bits);
            p.retain(&format!("gone/{bits}"), "", bits);
        }
        p.publish_message(message("kept/all", "x").qos(1).retained().with_all_properties());
        assert_eq!(broker.stored(Space::Retained), 3);
        broker.restart(cut);
        assert_eq!(broker.stat().retained_messages, 3);
        let s = broker.connect(V5, "s");
        s.subscribe("#", 2);
        let found = s.receive_all();
        let found: Vec<_> = found.iter().map(|it| (it.topic.as_str(), it.payload.as_str(), it.qos)).collect();
        assert_eq!(found, [("kept/1", "new", 1), ("kept/2", "new", 2), ("kept/all", "x", 1)]);
        s.unsubscribe(&["#"]);
        s.subscribe("kept/all", 1);
        let mut all = s.hold();
        all.packet_id = None;
        assert_eq!(all, message("kept/all", "x").qos(1).retained().with_all_properties());
    }
}

#[test]
fn a_retained_message_that_was_not_durable_is_not_acknowledged() {
    let broker = Broker::durable();
    let p = broker.connect(V5, "p");
    p.retain("r", "old", 1);
    broker.hold_store();
    p.send_message(&message("r", "new").qos(1).id(9).retained());
    p.expect_nothing();
    broker.store_turn();
    p.take_first(PacketType::PubAck);
    broker.restart(Cut::Power);
    broker.release_store();
    let s = broker.connect(V5, "s");
    s.subscribe("r", 1);
    s.receive("r", "new", 1);
}

#[test]
fn a_stored_session_gets_retained_messages_once_in_order_and_over_a_restart() {
    for bits in 1..=2 {
        let broker = Broker::durable();
        let p = broker.connect(V5, "p");
        for number in 0..300 {
            p.retain(&format!("r/{number:03}"), "x", bits);
        }
        let s = broker.resume(V5, "s");
        s.subscribe("r/+", bits);
        let mut topics: Vec<_> = (0..10)
            .map(|_| {
                let message = s.hold();
                assert!(message.retain && message.qos == bits);
                s.acknowledge(&message);
                message.topic
            })
            .collect();
        let rest: Vec<_> = s.hold_all();
        topics.extend(rest.iter().map(|message| message.topic.clone()));
        broker.restart(Cut::Power);
        let s = broker.resume(V5, "s");
        let again = s.receive_all();
        assert!(again.iter().all(|message| message.retain));
        let mut again: Vec<_> = again.into_iter().map(|message| message.topic).collect();
        if bits == 2 {
            // Nothing of what was acknowledged comes again.
            assert!(topics[..10].iter().all(|topic| !again.contains(topic)));
        }
        assert!(again.is_sorted());
        again.extend(topics[..10].iter().cloned());
        again.sort();
        again.dedup();
        assert_eq!(again.len(), 300);
    }
}

#[test]
fn an_expired_one_is_gone_by_the_clock_on_the_wall() {
    let broker = Broker::durable();
    let p = broker.connect(V5, "p");
    p.publish_message(message("short", "x").qos(1).retained().expiry(60));
    p.publish_message(message("long", "x").qos(1).retained().expiry(600));
    broker.restart_after(Cut::Power, 100);
    let s = broker.connect(V5, "s");
    s.subscribe("#", 1);
    let message = s.hold();
    assert_eq!((message.topic.as_str(), message.expiry_s), ("long", Some(500)));
    s.expect_nothing();
    broker.advance_s(1);
    assert_eq!(broker.stored(Space::Retained), 1);
}

#[test]
fn retain_handling_holds_for_a_subscription_of_an_earlier_process() {
    let broker = Broker::durable();
    broker.connect(V5, "p").retain("r", "x", 1);
    let s = broker.resume(V5, "s");
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..SubscriptionOptions::new(qos(1))
    };
    s.subscribe_with("r", options, None);
    s.receive("r", "x", 1);
    broker.restart(Cut::Process);
    let s = broker.resume(V5, "s");
    s.subscribe_with("r", options, None);
    s.expect_nothing();
}
