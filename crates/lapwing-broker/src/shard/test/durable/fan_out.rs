//! A message for several sessions is stored once, and removed with the last that has it.

use lapwing_store::engine::Space;

use super::super::broker::Broker;
use super::*;

fn subscribed(broker: &Broker, name: &str, qos: u8) {
    let client = broker.resume(V5, name);
    client.subscribe("t", qos);
    client.disconnect();
}

// [attack: freed-message]
#[test]
fn a_message_for_several_sessions_is_stored_once_until_the_last_has_it() {
    for cut in [None, Some(Cut::Process), Some(Cut::Power)] {
        let broker = Broker::durable();
        for (name, qos) in [("a", 1), ("b", 2), ("c", 1)] {
            subscribed(&broker, name, qos);
        }
        broker.connect(V5, "p").publish("t", "1", 2);
        assert_eq!((broker.stored(Space::Queue), broker.stored(Space::Message)), (3, 1));
        if let Some(cut) = cut {
            broker.restart(cut);
        }
        for (left, name) in [(2, "a"), (1, "b"), (0, "c")] {
            let client = broker.resume(V5, name);
            assert_eq!(payloads(&client), ["1"]);
            broker.tidy_store();
            assert_eq!((broker.stored(Space::Queue), broker.stored(Space::Message)), (left, left.min(1)));
        }
        assert_eq!(broker.stored(Space::Flow), 0);
    }
}

#[test]
fn a_message_for_one_session_stands_in_its_queue() {
    let broker = Broker::durable();
    subscribed(&broker, "a", 1);
    broker.connect(V5, "p").publish("t", "1", 1);
    assert_eq!((broker.stored(Space::Queue), broker.stored(Space::Message)), (1, 0));
    assert_eq!(payloads(&broker.resume(V5, "a")), ["1"]);
    broker.tidy_store();
    assert_eq!(broker.stored(Space::Queue), 0);
}

// [attack: freed-message]
#[test]
fn the_end_of_a_session_removes_all_that_was_its_own() {
    for cut in [None, Some(Cut::Process), Some(Cut::Power)] {
        let broker = Broker::durable();
        for (name, qos) in [("a", 1), ("b", 2)] {
            subscribed(&broker, name, qos);
        }
        let p = broker.resume(V5, "p");
        for payload in ["1", "2", "3"] {
            p.publish("t", payload, 2);
        }
        // Some of them are under way in either direction.
        send(&p, "t", "4", 2);
        assert!(!broker.resume(V5, "b").hold_all().is_empty());
        if let Some(cut) = cut {
            broker.restart(cut);
        }
        for name in ["a", "b", "p"] {
            broker.connect(V5, name).disconnect();
        }
        broker.expect_no_remains();
    }
}

#[test]
fn what_is_left_of_an_ended_session_is_removed_after_a_restart() {
    let broker = Broker::durable();
    for name in ["a", "b"] {
        subscribed(&broker, name, 1);
    }
    let p = broker.connect(V5, "p");
    for number in 0..10 {
        p.publish("t", &number.to_string(), 1);
    }
    // It ends, and the process before anything was removed.
    broker.connect(V5, "a").disconnect();
    assert_eq!(broker.stored(Space::Queue), 20);
    broker.restart(Cut::Process);
    broker.tidy_store();
    assert_eq!((broker.stored(Space::Queue), broker.stored(Space::Message)), (10, 10));
    assert_eq!(payloads(&broker.resume(V5, "b")).len(), 10);
    broker.connect(V5, "b").disconnect();
    broker.expect_no_remains();
}
