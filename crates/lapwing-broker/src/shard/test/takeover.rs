use lapwing_proto::packet::ReasonCode;

use super::broker::{Broker, clean, expiring, lasting, will};
use super::{V5, V311, VERSIONS};

// [MQTT-3.1.4-3]
// 3.1.1 [MQTT-3.1.4-2]
// [attack: takeover-without-end]
#[test]
fn a_second_client_with_the_same_identifier_takes_the_session_over() {
    for old_version in VERSIONS {
        for new_version in VERSIONS {
            let broker = Broker::new();
            let publisher = broker.connect(V5, "p");
            let old = broker.resume(old_version, "a");
            old.subscribe("t", 1);
            let new = broker.resume(new_version, "a");
            old.expect_end(ReasonCode::SessionTakenOver);
            publisher.publish("t", "x", 1);
            new.receive("t", "x", 1);
            new.ping();
            assert_eq!(broker.stat().connections, 2);
        }
    }
}

// [MQTT-4.4.0-1]
// 3.1.1 [MQTT-4.4.0-1]
// [attack: takeover-without-end]
#[test]
fn what_the_old_connection_did_not_acknowledge_goes_to_the_new_one() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(version, "p");
        let old = broker.resume(version, "a");
        old.subscribe("t", 1);
        publisher.publish("t", "x", 1);
        let sent = old.hold();
        let new = broker.resume(version, "a");
        assert_eq!(new.hold(), sent.dup());
    }
}

// [MQTT-3.1.2-4]
// [MQTT-3.1.4-3]
#[test]
fn a_takeover_with_a_clean_start_ends_the_session() {
    for version in VERSIONS {
        let broker = Broker::new();
        let old = broker.resume(version, "a");
        old.subscribe("t", 1);
        let new = broker.connect(version, "a");
        old.expect_end(ReasonCode::SessionTakenOver);
        assert!(!new.session_present.get());
        new.publish("t", "x", 1);
        new.expect_nothing();
    }
}

#[test]
fn a_session_that_ends_with_its_connection_is_not_taken_over() {
    for version in VERSIONS {
        let broker = Broker::new();
        let old = broker.connect(version, "a");
        old.subscribe("t", 1);
        let new = broker.resume(version, "a");
        old.expect_end(ReasonCode::SessionTakenOver);
        assert!(!new.session_present.get());
        new.publish("t", "x", 1);
        new.expect_nothing();
    }
}

// [MQTT-3.1.4-3]
// [MQTT-3.1.2-8]
// 3.1.1 [MQTT-3.1.2-8]
#[test]
fn a_takeover_publishes_the_will_of_the_old_connection() {
    for version in VERSIONS {
        for connect in [clean(version, "a"), lasting(version, "a")] {
            let broker = Broker::new();
            let watch = broker.connect(V5, "watch");
            watch.subscribe("will", 1);
            let mut with_will = lasting(version, "a");
            with_will.will = Some(will("will", "gone", 1));
            broker.join(&with_will);
            broker.join(&connect);
            watch.receive("will", "gone", 1);
            watch.expect_nothing();
        }
    }
}

// [MQTT-3.1.3-9]
#[test]
fn a_takeover_that_goes_on_keeps_a_delayed_will_back() {
    let broker = Broker::new();
    let watch = broker.connect(V5, "watch");
    watch.subscribe("will", 1);
    let mut with_will = expiring("a", 1000);
    let mut delayed = will("will", "gone", 1);
    delayed.properties.will_delay_interval = Some(10);
    with_will.will = Some(delayed);
    broker.join(&with_will);
    let new = broker.join(&expiring("a", 1000));
    broker.advance_s(500);
    watch.expect_nothing();
    // The new connection has no will.
    new.lose();
    broker.advance_s(500);
    watch.expect_nothing();
}

// [MQTT-3.1.2-8]
#[test]
fn a_takeover_with_a_clean_start_publishes_even_a_delayed_will() {
    let broker = Broker::new();
    let watch = broker.connect(V5, "watch");
    watch.subscribe("will", 1);
    let mut with_will = expiring("a", 1000);
    let mut delayed = will("will", "gone", 1);
    delayed.properties.will_delay_interval = Some(10);
    with_will.will = Some(delayed);
    broker.join(&with_will);
    broker.connect(V5, "a");
    watch.receive("will", "gone", 1);
    broker.advance_s(500);
    watch.expect_nothing();
}

#[test]
fn the_will_of_the_new_connection_is_another_one() {
    let broker = Broker::new();
    let watch = broker.connect(V311, "watch");
    watch.subscribe("will", 1);
    let mut first = lasting(V5, "a");
    first.will = Some(will("will", "first", 1));
    let mut second = lasting(V5, "a");
    second.will = Some(will("will", "second", 1));
    broker.join(&first);
    let client = broker.join(&second);
    watch.receive("will", "first", 1);
    client.lose();
    watch.receive("will", "second", 1);
    watch.expect_nothing();
}

// [attack: takeover-race]
#[test]
fn a_chain_of_takeovers_leaves_the_last() {
    let broker = Broker::new();
    let clients: Vec<_> = (0..20).map(|_| broker.resume(V5, "a")).collect();
    let (last, others) = clients.split_last().unwrap();
    for other in others {
        other.expect_end(ReasonCode::SessionTakenOver);
    }
    last.ping();
    assert_eq!((broker.stat().connections, broker.stat().sessions), (1, 1));
    assert_eq!(broker.stat().disconnected_by_broker.get(ReasonCode::SessionTakenOver), 19);
}

// [attack: takeover-race]
#[test]
fn what_an_ended_connection_still_sends_is_not_handled() {
    let broker = Broker::new();
    let watch = broker.connect(V311, "watch");
    watch.subscribe("#", 0);
    let old = broker.resume(V5, "a");
    old.block();
    let new = broker.resume(V5, "a");
    old.publish("t", "x", 0);
    watch.expect_nothing();
    old.unblock();
    old.expect_end(ReasonCode::SessionTakenOver);
    new.ping();
}
