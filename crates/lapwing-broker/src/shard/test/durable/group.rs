//! Shared subscriptions.

use super::super::broker::{Broker, expiring, lasting};
use super::super::client::Client;
use super::*;

const FILTER: &str = "$share/g/t";

fn member(broker: &Broker, name: &str, qos: u8) -> Client {
    let member = broker.resume(V5, name);
    member.subscribe(FILTER, qos);
    member
}

fn publish(broker: &Broker, numbers: std::ops::Range<usize>, qos: u8) {
    let p = broker.connect(V5, "p");
    numbers.for_each(|number| p.publish("t", &number.to_string(), qos));
}

#[test]
fn each_message_goes_to_one_member_and_stays_there_over_a_restart() {
    for cut in CUTS {
        let broker = Broker::durable();
        for name in ["a", "b"] {
            member(&broker, name, 2).disconnect();
        }
        publish(&broker, 0..10, 2);
        broker.restart(cut);
        publish(&broker, 10..20, 2);
        let mut all = payloads(&broker.resume(V5, "a"));
        all.extend(payloads(&broker.resume(V5, "b")));
        all.sort_by_key(|payload| payload.parse::<usize>().unwrap());
        let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn a_message_is_passed_to_another_member_if_the_chosen_one_has_gone_meanwhile() {
    let broker = Broker::durable();
    let (a, b) = (member(&broker, "a", 2), member(&broker, "b", 2));
    broker.hold_store();
    let p = broker.connect(V5, "p");
    for payload in ["1", "2"] {
        send(&p, "t", payload, 2);
    }
    a.lose();
    broker.release_store();
    let mut payloads = payloads(&b);
    payloads.sort();
    assert_eq!(payloads, ["1", "2"]);
    broker.restart(Cut::Power);
    broker.resume(V5, "a").expect_nothing();
}

/// The session of a member ends whose messages are in memory, have been left in the store, or have not been looked at.
#[test]
fn the_messages_of_a_session_that_ends_go_to_another_member() {
    for (memory, is_restarted) in [(usize::MAX, false), (2000, false), (usize::MAX, true)] {
        for qos in 1..=2 {
            let broker = Broker::durable_with(|limits| {
                limits.queue_memory_bytes = limits.queue_memory_bytes.min(memory);
            });
            let a = broker.join(&expiring("a", 100));
            a.subscribe(FILTER, qos);
            a.disconnect();
            publish(&broker, 0..100, qos);
            member(&broker, "b", 2).disconnect();
            if is_restarted {
                broker.restart(Cut::Power);
            }
            broker.advance_s(200);
            broker.restart(Cut::Power);
            let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
            assert_eq!(payloads(&broker.resume(V5, "b")), expected);
            broker.connect(V5, "b").disconnect();
            broker.expect_no_remains();
        }
    }
}

// [MQTT-4.8.2-5]
#[test]
fn a_qos_2_message_that_has_begun_does_not_go_to_another_member() {
    for is_restarted in [false, true] {
        let broker = Broker::durable();
        let a = broker.join(&expiring("a", 100));
        a.subscribe(FILTER, 2);
        publish(&broker, 0..3, 2);
        let begun = a.hold_all();
        assert_eq!(begun.len(), 3);
        a.lose();
        publish(&broker, 3..6, 2);
        member(&broker, "b", 2).disconnect();
        if is_restarted {
            broker.restart(Cut::Power);
        }
        broker.advance_s(200);
        assert_eq!(payloads(&broker.resume(V5, "b")), ["3", "4", "5"]);
        broker.connect(V5, "b").disconnect();
        broker.expect_no_remains();
    }
}

#[test]
fn passing_on_what_is_in_the_store_survives_a_restart_at_any_step() {
    for qos in 1..=2 {
        for turns in 0..8 {
            let broker = Broker::durable_with(|limits| limits.queue_memory_bytes = 2000);
            let a = broker.join(&expiring("a", 100));
            a.subscribe(FILTER, qos);
            a.disconnect();
            publish(&broker, 0..60, qos);
            member(&broker, "b", 2).disconnect();
            broker.restart(Cut::Power);
            broker.hold_store();
            broker.advance_s(200);
            for _ in 0..turns {
                broker.store_turn();
            }
            broker.restart_after(Cut::Power, 200);
            broker.release_store();
            let expected: Vec<_> = (0..60).map(|number| number.to_string()).collect();
            assert_eq!(payloads(&broker.resume(V5, "b")), expected, "after {turns} turns");
            broker.connect(V5, "b").disconnect();
            broker.expect_no_remains();
        }
    }
}

#[test]
fn messages_left_in_the_store_are_handed_over_also_at_a_clean_start() {
    for turns in 0..8 {
        let broker = Broker::durable();
        member(&broker, "a", 2).disconnect();
        publish(&broker, 0..10, 2);
        member(&broker, "b", 2).disconnect();
        broker.restart(Cut::Power);
        broker.hold_store();
        let new = broker.send_connect(&{
            let mut connect = lasting(V5, "a");
            connect.clean_start = true;
            connect
        });
        for _ in 0..turns {
            broker.store_turn();
        }
        let is_answered = !new.take_all().is_empty();
        broker.restart(Cut::Power);
        broker.release_store();
        let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        if is_answered {
            let a = broker.resume(V5, "a");
            assert!(a.session_present.get());
            a.expect_nothing();
            assert_eq!(payloads(&broker.resume(V5, "b")), expected, "after {turns} turns");
        } else {
            let mut all = payloads(&broker.resume(V5, "a"));
            all.extend(payloads(&broker.resume(V5, "b")));
            assert_eq!(all, expected, "after {turns} turns");
        }
        for name in ["a", "b"] {
            broker.connect(V5, name).disconnect();
        }
        broker.expect_no_remains();
    }
}

#[test]
fn the_messages_are_dropped_if_there_is_no_other_member() {
    for is_restarted in [false, true] {
        let broker = Broker::durable();
        member(&broker, "a", 2).disconnect();
        publish(&broker, 0..10, 2);
        if is_restarted {
            broker.restart(Cut::Power);
        }
        broker.connect(V5, "a").disconnect();
        broker.expect_no_remains();
    }
}
