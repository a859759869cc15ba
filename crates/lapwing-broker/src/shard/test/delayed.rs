use lapwing_proto::packet::{QoS, ReasonCode, RetainHandling, SubscriptionOptions};
use lapwing_proto::topic::TopicName;

use super::broker::{Broker, clean, lasting, will};
use super::judge::{Judge, judged};
use super::message::{message, qos};
use super::{V5, VERSIONS};
use crate::hook::Client;

/// Keeps clients from publishing to `secret`.
struct Secret;

impl Judge for Secret {
    fn may_publish(&self, _: &Client, topic: TopicName<'_>, _: QoS, _: bool) -> bool {
        topic.as_str() != "secret"
    }
}

#[test]
fn a_message_comes_when_its_delay_has_passed() {
    for version in VERSIONS {
        for qos in 0..3 {
            let broker = Broker::new();
            let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
            subscriber.subscribe("#", 2);
            publisher.publish("$delayed/5/a/b", "x", qos);
            publisher.publish("$delayed/2/a/b", "y", qos);
            subscriber.expect_nothing();
            broker.advance_ms(1_999);
            subscriber.expect_nothing();
            broker.advance_ms(1);
            subscriber.receive("a/b", "y", qos);
            broker.advance_ms(2_999);
            subscriber.expect_nothing();
            broker.advance_ms(1);
            assert!(!subscriber.receive("a/b", "x", qos).retain);
            broker.advance_s(100);
            subscriber.expect_nothing();
        }
    }
}

#[test]
fn messages_due_at_the_same_time_come_in_order() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("t", 1);
    client.publish("$delayed/3/t", "1", 1);
    client.publish("$delayed/3/t", "2", 0);
    broker.advance_s(1);
    client.publish("$delayed/2/t", "3", 1);
    client.publish("$delayed/0/t", "0", 1);
    client.receive("t", "0", 1);
    broker.advance_s(2);
    client.receive("t", "1", 1);
    client.receive("t", "2", 0);
    client.receive("t", "3", 1);
    client.expect_nothing();
}

#[test]
fn a_message_does_not_need_its_publisher_any_more() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let subscriber = broker.join(&lasting(V5, "s"));
    subscriber.subscribe("t", 1);
    publisher.publish("$delayed/5/t", "x", 1);
    publisher.disconnect();
    subscriber.lose();
    broker.advance_s(5);
    broker.join(&lasting(V5, "s")).receive("t", "x", 1);
}

#[test]
fn its_properties_wait_and_its_expiry_begins_when_it_is_published() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("t", 0);
    let sent = message("$delayed/100/t", "x").with_all_properties().expiry(10);
    client.send_message(&sent);
    broker.advance_s(100);
    let wanted = super::message::Message { topic: "t".into(), ..sent };
    assert_eq!(client.hold(), wanted);
}

#[test]
fn a_delayed_message_is_retained_when_it_is_published() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.retain("$delayed/5/t", "x", 1);
    assert_eq!(broker.stat().retained_messages, 0);
    broker.advance_s(5);
    assert_eq!(broker.stat().retained_messages, 1);
    client.subscribe("t", 1);
    assert!(client.receive("t", "x", 1).retain);
}

#[test]
fn no_local_holds_for_delayed_messages() {
    let broker = Broker::new();
    let (client, other) = (broker.connect(V5, "a"), broker.connect(V5, "b"));
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(qos(1)) };
    client.subscribe_with(
        "t",
        SubscriptionOptions { retain_handling: RetainHandling::Send, ..options },
        None,
    );
    other.subscribe("t", 1);
    client.publish("$delayed/5/t", "x", 1);
    broker.advance_s(5);
    client.expect_nothing();
    other.receive("t", "x", 1);
}

#[test]
fn a_name_that_does_not_say_when_or_where_is_refused() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("#", 0);
    client.subscribe("$delayed/#", 0);
    for topic in [
        "$delayed/t",
        "$delayed/5",
        "$delayed/5/",
        "$delayed//t",
        "$delayed/",
        "$delayed/-1/t",
        "$delayed/1.5/t",
        "$delayed/4294967296/t",
    ] {
        for qos in [1, 2] {
            let reason_code = client.publish_message(message(topic, "x").qos(qos));
            assert_eq!(reason_code, ReasonCode::TopicNameInvalid, "{topic}");
        }
    }
    broker.advance_s(10);
    client.expect_nothing();
}

#[test]
fn the_topic_behind_the_delay_is_what_counts() {
    let broker = Broker::with(|setup| setup.authorizer = judged(Secret));
    let client = broker.connect(V5, "a");
    for topic in ["$delayed/5/secret", "$delayed/5/$SYS/a", "$delayed/5/$share/g/a"] {
        assert_eq!(client.publish_message(message(topic, "x").qos(1)), ReasonCode::NotAuthorized);
    }
    let mut connect = clean(V5, "b");
    connect.will = Some(will("$delayed/5/secret", "gone", 0));
    broker.send_connect(&connect).expect_refusal(ReasonCode::NotAuthorized);
}

#[test]
fn a_will_may_be_delayed_so_too() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("#", 0);
    client.subscribe("$delayed/#", 0);
    let mut connect = clean(V5, "b");
    connect.will = Some(will("$delayed/5/will", "gone", 0));
    broker.join(&connect).lose();
    client.expect_nothing();
    broker.advance_s(5);
    client.receive("will", "gone", 0);
}

// [attack: delayed-flood]
#[test]
fn delayed_messages_have_limits() {
    let broker = Broker::with_limits(|limits| {
        limits.delayed_messages_maximum = 3;
        limits.delay_maximum_s = 60;
    });
    let client = broker.connect(V5, "a");
    client.subscribe("t", 0);
    let delay = |seconds: u32| client.publish_message(message(&format!("$delayed/{seconds}/t"), "x").qos(1));
    assert_eq!(delay(61), ReasonCode::QuotaExceeded);
    for _ in 0..3 {
        assert_eq!(delay(60), ReasonCode::Success);
    }
    assert_eq!(delay(60), ReasonCode::QuotaExceeded);
    broker.advance_s(60);
    assert_eq!(client.receive_all().len(), 3);
    assert_eq!(delay(60), ReasonCode::Success);

    let broker = Broker::with_limits(|limits| limits.delayed_bytes_maximum = 1000);
    let client = broker.connect(V5, "a");
    client.subscribe("t", 0);
    let large = message("$delayed/1/t", &"x".repeat(600)).qos(1);
    for reason_code in [ReasonCode::Success, ReasonCode::Success, ReasonCode::QuotaExceeded] {
        assert_eq!(client.publish_message(large.clone()), reason_code);
    }
    broker.advance_s(1);
    assert_eq!(client.receive_all().len(), 2);
    assert_eq!(client.publish_message(large), ReasonCode::Success);

    let broker = Broker::with_limits(|limits| limits.delay_maximum_s = 0);
    let client = broker.connect(V5, "a");
    let reason_code = client.publish_message(message("$delayed/0/t", "x").qos(1));
    assert_eq!(reason_code, ReasonCode::QuotaExceeded);
}

#[test]
fn a_delay_outlives_many_reconnects() {
    // Each leaves timers behind, and now and then these are thrown out.
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("t", 0);
    client.publish("$delayed/3600/t", "x", 0);
    for _ in 0..3000 {
        broker.connect(V5, "b").lose();
    }
    broker.advance_s(3600);
    client.receive("t", "x", 0);
}
