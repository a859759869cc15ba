//! Sessions, wills and delayed messages, and what has passed meanwhile by the clock on the wall.

use lapwing_proto::packet::{Connect, ReasonCode, SubscriptionOptions, Will};

use super::super::broker::{Broker, expiring, lasting, will};
use super::super::message::qos;
use super::*;

#[test]
fn a_session_goes_on_with_its_subscriptions() {
    for cut in CUTS {
        for version in VERSIONS {
            let broker = Broker::durable();
            let s = broker.resume(version, "s");
            s.subscribe("a/+", 1);
            s.subscribe("b", 2);
            s.subscribe("c", 1);
            s.unsubscribe(&["c"]);
            broker.restart(cut);
            assert!(s.is_closed());
            let p = broker.connect(V5, "p");
            for topic in ["a/1", "b", "c"] {
                p.publish(topic, "while away", 2);
            }
            let s = broker.resume(version, "s");
            assert!(s.session_present.get() || version == V31);
            s.receive("a/1", "while away", 1);
            s.receive("b", "while away", 2);
            p.publish("a/1", "then", 0);
            s.receive("a/1", "then", 0);
            s.expect_nothing();
        }
    }
}

#[test]
fn a_clean_session_does_not() {
    let broker = Broker::durable();
    for version in VERSIONS {
        broker.connect(version, "s").subscribe("t", 1);
    }
    broker.restart(Cut::Process);
    for version in VERSIONS {
        assert!(!broker.resume(version, "s").session_present.get());
        broker.connect(version, "s");
    }
    broker.world().shards.iter().for_each(crate::shard::Shard::leave_report);
    broker.connect(V5, "s").disconnect();
    broker.expect_no_remains();
}

#[test]
fn subscription_options_and_identifiers_hold() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    let plain = SubscriptionOptions::new(qos(2));
    s.subscribe_with("t/+", SubscriptionOptions { retain_as_published: true, ..plain }, Some(7));
    s.subscribe_with("t/1", plain, Some(9));
    s.subscribe_with("own", SubscriptionOptions { no_local: true, ..plain }, Some(300));
    s.disconnect();
    broker.connect(V5, "p").publish_message(message("t/1", "before").qos(2).retained());
    broker.restart(Cut::Power);
    broker.connect(V5, "p").publish_message(message("t/1", "behind").qos(2).retained());
    let s = broker.resume(V5, "s");
    for payload in ["before", "behind"] {
        let mut message = s.hold();
        s.acknowledge(&message);
        message.identifiers.sort_unstable();
        assert_eq!((&*message.payload, message.retain, message.qos), (payload, true, 2));
        assert_eq!(message.identifiers, [7, 9]);
    }
    s.publish("own", "mine", 2);
    s.expect_nothing();
    broker.connect(V5, "p").publish("own", "other", 1);
    assert_eq!(s.receive("own", "other", 1).identifiers, [300]);
}

#[test]
fn a_session_expires_by_the_clock_on_the_wall() {
    let broker = Broker::durable();
    let s = broker.join(&expiring("s", 100));
    s.subscribe("t", 1);
    s.disconnect();
    // Nothing answers DISCONNECT, so that it need not be durable when the power is lost.
    broker.restart_after(Cut::Process, 60);
    let s = broker.join(&expiring("s", 100));
    assert!(s.session_present.get());
    s.disconnect();
    broker.restart_after(Cut::Process, 60);
    broker.advance_s(39);
    assert_eq!(broker.stat().sessions, 1);
    broker.advance_s(1);
    assert_eq!(broker.stat().sessions, 0);
    broker.expect_no_remains();
    // It can be over already when the broker starts.
    broker.join(&expiring("s", 100)).disconnect();
    broker.restart_after(Cut::Process, 100);
    assert!(!broker.join(&expiring("s", 100)).session_present.get());
}

#[test]
fn a_client_that_was_connected_has_lost_its_connection_at_the_first_restart() {
    let broker = Broker::durable();
    let _s = broker.join(&expiring("s", 100));
    broker.restart_after(Cut::Power, 1000);
    assert_eq!(broker.stat().sessions, 1);
    broker.restart_after(Cut::Process, 60);
    assert_eq!(broker.stat().sessions, 1);
    broker.restart_after(Cut::Process, 60);
    assert_eq!(broker.stat().sessions, 0);
}

#[test]
fn a_clock_that_is_set_back_ends_nothing_before_its_time() {
    let broker = Broker::durable();
    let s = broker.join(&expiring("s", 100));
    s.subscribe("t", 1);
    s.disconnect();
    let p = broker.connect(V5, "p");
    p.publish_message(message("t", "x").qos(1).expiry(50));
    p.publish("$delayed/10/t", "delayed", 1);
    broker.restart_after(Cut::Power, -1000);
    broker.advance_s(99);
    let s = broker.join(&expiring("s", 5000));
    assert!(s.session_present.get());
    assert_eq!(payloads(&s), ["x"]);
    broker.advance_s(1000);
    assert_eq!(payloads(&s), ["delayed"]);
    s.disconnect();
    // And far before anything was stored.
    broker.restart_after(Cut::Power, -100_000);
    assert!(broker.join(&expiring("s", 100)).session_present.get());
}

fn with_will<'a>(client_id: &'a str, delay_s: u32, expiry_s: u32) -> Connect<'a> {
    let mut last: Will<'a> = will("will", client_id, 1);
    last.properties.will_delay_interval = Some(delay_s);
    let mut connect = expiring(client_id, expiry_s);
    connect.will = Some(last);
    connect
}

/// A session that gets the wills.
fn heir(broker: &Broker) {
    let s = broker.resume(V5, "heir");
    s.subscribe("will", 1);
    s.disconnect();
}

#[test]
fn the_will_of_a_client_that_was_connected_is_published_once() {
    for cut in CUTS {
        let broker = Broker::durable();
        heir(&broker);
        let _s = broker.join(&with_will("s", 0, 1000));
        broker.restart(cut);
        broker.advance_s(1);
        broker.restart(cut);
        broker.advance_s(1);
        assert_eq!(payloads(&broker.resume(V5, "heir")), ["s"]);
    }
}

#[test]
fn a_will_waits_for_its_delay_over_restarts() {
    for is_lost_before in [false, true] {
        let broker = Broker::durable();
        heir(&broker);
        let s = broker.join(&with_will("s", 100, 1000));
        if is_lost_before {
            s.lose();
        }
        broker.restart(Cut::Power);
        broker.restart_after(Cut::Power, 60);
        let heir = broker.resume(V5, "heir");
        broker.advance_s(39);
        heir.expect_nothing();
        broker.advance_s(1);
        assert_eq!(payloads(&heir), ["s"]);
    }
}

#[test]
fn a_will_that_became_due_while_the_broker_was_down_is_published_at_its_start() {
    let broker = Broker::durable();
    heir(&broker);
    broker.join(&with_will("s", 100, 1000)).lose();
    // With the end of the session, which comes before the delay is over.
    broker.join(&with_will("short", 1000, 100)).lose();
    broker.restart_after(Cut::Power, 200);
    let mut payloads = payloads(&broker.resume(V5, "heir"));
    payloads.sort();
    assert_eq!(payloads, ["s", "short"]);
}

#[test]
fn a_will_is_not_published_that_was_taken_back() {
    for cut in CUTS {
        let broker = Broker::durable();
        heir(&broker);
        broker.join(&with_will("proper", 0, 1000)).disconnect();
        // This one comes back in time.
        broker.join(&with_will("back", 100, 1000)).lose();
        broker.restart(cut);
        let back = broker.join(&expiring("back", 1000));
        assert!(back.session_present.get());
        broker.advance_s(200);
        broker.restart(cut);
        broker.advance_s(200);
        assert!(payloads(&broker.resume(V5, "heir")).is_empty());
    }
}

#[test]
fn a_delayed_message_is_published_once_at_its_time() {
    for cut in CUTS {
        let broker = Broker::durable();
        let s = broker.resume(V5, "s");
        s.subscribe("#", 2);
        s.disconnect();
        let p = broker.connect(V5, "p");
        p.publish("$delayed/100/t", "later", 1);
        p.publish_message(message("$delayed/50/t", "soon").qos(1).retained());
        broker.restart_after(cut, 60);
        let s = broker.resume(V5, "s");
        s.receive("t", "soon", 1);
        broker.advance_s(39);
        s.expect_nothing();
        broker.advance_s(1);
        s.receive("t", "later", 1);
        s.subscribe("other", 1);
        broker.restart_after(cut, 100);
        broker.advance_s(100);
        let s = broker.resume(V5, "s");
        s.expect_nothing();
        assert_eq!(broker.stat().retained_messages, 1);
        // A number is not given to two of them.
        let p = broker.connect(V5, "p");
        p.publish("$delayed/10/t", "again", 1);
        broker.advance_s(10);
        s.receive("t", "again", 1);
    }
}

#[test]
fn messages_expire_by_the_clock_on_the_wall() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 2);
    s.disconnect();
    let p = broker.connect(V5, "p");
    p.publish_message(message("t", "short").qos(2).expiry(50));
    p.publish_message(message("t", "long").qos(2).expiry(500));
    broker.restart_after(Cut::Power, 100);
    let s = broker.resume(V5, "s");
    let message = s.hold();
    assert_eq!((message.payload.as_str(), message.expiry_s), ("long", Some(400)));
    s.acknowledge(&message);
    s.expect_nothing();
    s.disconnect();
    broker.connect(V5, "s").disconnect();
    broker.expect_no_remains();
}

#[test]
fn sessions_beyond_the_maximum_are_kept_until_it_is_raised() {
    let broker = Broker::durable();
    for name in ["a", "b"] {
        let s = broker.resume(V5, name);
        s.subscribe("t", 1);
        s.disconnect();
    }
    broker.connect(V5, "p").publish("t", "1", 1);
    broker.world().plan.limits.sessions_maximum = 1;
    broker.restart(Cut::Process);
    assert!(broker.resume(V5, "a").session_present.get());
    broker.send_connect(&lasting(V5, "b")).expect_refusal(ReasonCode::QuotaExceeded);
    broker.tidy_store();
    broker.world().plan.limits.sessions_maximum = 10;
    broker.restart(Cut::Process);
    let b = broker.resume(V5, "b");
    assert!(b.session_present.get());
    assert_eq!(payloads(&b), ["1"]);
}

#[test]
fn a_proper_end_of_the_process_loses_nothing() {
    let broker = Broker::durable();
    let s = broker.resume(V5, "s");
    s.subscribe("t", 1);
    broker.connect(V5, "p").publish("t", "1", 1);
    assert_eq!(s.hold().payload, "1");
    broker.shut_down();
    assert!(!broker.is_finished() || broker.world().writer.is_some());
    broker.restart(Cut::Power);
    assert_eq!(payloads(&broker.resume(V5, "s")), ["1"]);
}
