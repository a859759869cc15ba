use lapwing_proto::packet::ReasonCode;

use super::broker::{Broker, lasting};
use super::message::message;
use super::{V5, V311, VERSIONS};

// [MQTT-3.3.2-6]
#[test]
fn a_message_that_waited_has_less_time_left() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "a");
    client.subscribe("t", 1);
    publisher.publish_message(message("t", "now").qos(1).expiry(100));
    assert_eq!(client.receive("t", "now", 1).expiry_s, Some(100));
    client.lose();
    publisher.publish_message(message("t", "later").qos(1).expiry(100));
    publisher.publish_message(message("t", "never").qos(1));
    broker.advance_ms(30_000);
    let client = broker.resume(V5, "a");
    assert_eq!(client.receive("t", "later", 1).expiry_s, Some(70));
    assert_eq!(client.receive("t", "never", 1).expiry_s, None);
}

// [MQTT-3.3.2-5]
#[test]
fn a_message_that_expired_in_the_queue_is_not_delivered() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(V5, "p");
        broker.resume(version, "a").subscribe("t", 2);
        let client = broker.resume(version, "a");
        client.lose();
        for (payload, seconds) in [("1", 10), ("2", 11), ("3", 10), ("4", u32::MAX), ("5", 0)] {
            publisher.publish_message(message("t", payload).qos(2).expiry(seconds));
        }
        broker.advance_s(10);
        let client = broker.resume(version, "a");
        client.receive("t", "2", 2);
        client.receive("t", "4", 2);
        client.expect_nothing();
        assert_eq!(broker.stat().messages_dropped.expired, 3);
    }
}

// [MQTT-3.3.2-5]
#[test]
fn a_message_that_expired_waiting_for_the_receive_maximum_is_not_delivered() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let mut connect = lasting(V5, "a");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let client = broker.join(&connect);
    client.subscribe("t", 1);
    publisher.publish("t", "1", 1);
    publisher.publish_message(message("t", "2").qos(1).expiry(5));
    publisher.publish_message(message("t", "3").qos(1).expiry(50));
    broker.advance_s(6);
    client.receive("t", "1", 1);
    assert_eq!(client.receive("t", "3", 1).expiry_s, Some(44));
}

// [MQTT-4.3.3-7]
// [MQTT-4.3.3-13]
#[test]
fn a_message_whose_delivery_has_begun_is_sent_again_even_if_it_has_expired() {
    for qos in [1, 2] {
        let broker = Broker::new();
        let publisher = broker.connect(V5, "p");
        let client = broker.resume(V5, "a");
        client.subscribe("t", 2);
        publisher.publish_message(message("t", "x").qos(qos).expiry(5));
        client.hold();
        client.lose();
        broker.advance_s(6);
        let client = broker.resume(V5, "a");
        let again = client.receive("t", "x", qos);
        assert!(again.dup);
        assert_eq!(again.expiry_s, Some(0));
    }
}

#[test]
fn a_message_that_expires_at_once_still_reaches_who_is_there() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.connect(V5, "a");
    client.subscribe("t", 2);
    for qos in 0..3 {
        publisher.publish_message(message("t", "x").qos(qos).expiry(0));
        assert_eq!(client.receive("t", "x", qos).expiry_s, Some(0));
    }
}

// [MQTT-3.3.2-5]
// [MQTT-3.3.2-6]
#[test]
fn a_retained_message_expires() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    publisher.publish_message(message("t/1", "x").retained().expiry(10));
    publisher.publish_message(message("t/2", "x").retained().expiry(100));
    broker.advance_ms(9001);
    let client = broker.connect(V5, "a");
    client.subscribe("t/#", 0);
    // The seconds that have begun count as left.
    assert_eq!(client.receive("t/1", "x", 0).expiry_s, Some(1));
    assert_eq!(client.receive("t/2", "x", 0).expiry_s, Some(91));
    broker.advance_ms(999);
    client.subscribe("t/#", 0);
    assert_eq!(client.receive("t/2", "x", 0).expiry_s, Some(90));
    client.expect_nothing();
    assert_eq!(broker.stat().retained_messages, 1);
    let old = broker.connect(V311, "b");
    old.subscribe("t/#", 0);
    old.receive("t/2", "x", 0);
    old.expect_nothing();
}

#[test]
fn an_expired_retained_message_makes_room_though_nobody_looks() {
    let broker = Broker::with_limits(|limits| limits.retained_messages_maximum = 1);
    let publisher = broker.connect(V5, "p");
    publisher.publish_message(message("t/1", "x").retained().expiry(10));
    publisher.publish_message(message("t/1", "y").retained().expiry(20));
    let other = || publisher.publish_message(message("t/2", "x").retained().qos(1));
    assert_eq!(other(), ReasonCode::QuotaExceeded);
    broker.advance_s(15);
    assert_eq!((broker.stat().retained_messages, other()), (1, ReasonCode::QuotaExceeded));
    broker.advance_s(5);
    assert_eq!((broker.stat().retained_messages, broker.stat().retained_bytes), (0, 0));
    assert_eq!(other(), ReasonCode::NoMatchingSubscribers);
}

// [MQTT-3.3.2-5]
#[test]
fn a_retained_message_that_expires_in_the_queue_is_not_delivered() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    publisher.publish_message(message("t/1", "x").qos(1).retained());
    publisher.publish_message(message("t/2", "x").qos(1).retained().expiry(10));
    let mut connect = lasting(V5, "a");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let client = broker.join(&connect);
    client.subscribe("t/#", 1);
    broker.advance_s(10);
    client.receive("t/1", "x", 1);
    client.expect_nothing();
}
