use lapwing_proto::packet::{Connect, PayloadFormat, ReasonCode, UserProperty};
use lapwing_proto::topic::TopicName;

use super::broker::{Broker, clean, expiring, lasting, will};
use super::client::Client;
use super::message::message;
use super::{V5, V311, VERSIONS};

fn with_will(mut connect: Connect<'_>) -> Connect<'_> {
    connect.will = Some(will("will", "gone", 1));
    connect
}

fn with_delay(mut connect: Connect<'_>, seconds: u32) -> Connect<'_> {
    let mut delayed = will("will", "gone", 1);
    delayed.properties.will_delay_interval = Some(seconds);
    connect.will = Some(delayed);
    connect
}

fn watch(broker: &Broker) -> Client {
    let watch = broker.connect(V5, "watch");
    watch.subscribe("will", 2);
    watch
}

// [MQTT-3.1.2-7]
// [MQTT-3.1.2-8]
// 3.1.1 [MQTT-3.1.2-8]
#[test]
fn a_lost_connection_publishes_its_will() {
    for version in VERSIONS {
        for connect in [clean(version, "a"), lasting(version, "a")] {
            let broker = Broker::new();
            let watch = watch(&broker);
            let client = broker.join(&with_will(connect));
            watch.expect_nothing();
            client.lose();
            watch.receive("will", "gone", 1);
            watch.expect_nothing();
        }
    }
}

// [MQTT-3.1.2-10]
// [MQTT-3.14.4-3]
// 3.1.1 [MQTT-3.1.2-10]
// 3.1.1 [MQTT-3.14.4-3]
#[test]
fn a_disconnect_takes_the_will_back() {
    for version in VERSIONS {
        for connect in [clean(version, "a"), lasting(version, "a")] {
            let broker = Broker::new();
            let watch = watch(&broker);
            broker.join(&with_will(connect)).disconnect();
            watch.expect_nothing();
            // It does not come back with the session either.
            let connect = Connect { will: None, ..connect };
            broker.join(&connect).lose();
            watch.expect_nothing();
        }
    }
}

// [MQTT-3.1.2-10]
// 3.1.1 [MQTT-3.1.2-10]
// [attack: will-storm]
#[test]
fn a_will_is_published_once() {
    for version in VERSIONS {
        let broker = Broker::new();
        let watch = watch(&broker);
        broker.join(&with_will(lasting(version, "a"))).lose();
        watch.receive("will", "gone", 1);
        broker.resume(version, "a").lose();
        broker.resume(version, "a").lose();
        watch.expect_nothing();
    }
}

// [MQTT-3.1.2-8]
#[test]
fn every_end_but_a_normal_disconnect_publishes_the_will() {
    for reason_code in [
        ReasonCode::DisconnectWithWillMessage,
        ReasonCode::UnspecifiedError,
        ReasonCode::ProtocolError,
        ReasonCode::AdministrativeAction,
    ] {
        let broker = Broker::new();
        let watch = watch(&broker);
        broker.join(&with_will(clean(V5, "a"))).disconnect_with(reason_code);
        watch.receive("will", "gone", 1);
    }
}

// [MQTT-3.1.2-8]
// 3.1.1 [MQTT-3.1.2-8]
#[test]
fn a_connection_that_the_broker_ends_publishes_its_will() {
    for version in VERSIONS {
        let broker = Broker::new();
        let watch = watch(&broker);
        let client = broker.join(&with_will(clean(version, "a")));
        client.send_hex("00 00");
        client.expect_end(ReasonCode::MalformedPacket);
        watch.receive("will", "gone", 1);
        let silent = Connect { keep_alive: 10, ..with_will(clean(version, "a")) };
        broker.join(&silent);
        broker.advance_s(15);
        watch.receive("will", "gone", 1);
    }
}

// 3.1.1 [MQTT-3.1.2-12]
#[test]
fn without_a_will_nothing_is_published() {
    for version in VERSIONS {
        let broker = Broker::new();
        let watch = broker.connect(V5, "watch");
        watch.subscribe("#", 0);
        broker.connect(version, "a").lose();
        watch.expect_nothing();
    }
}

// [MQTT-3.1.2-14]
// [MQTT-3.1.2-15]
// 3.1.1 [MQTT-3.1.2-16]
// 3.1.1 [MQTT-3.1.2-17]
#[test]
fn a_will_has_its_qos_and_may_be_retained() {
    for version in VERSIONS {
        for (qos, retain) in [(0, false), (1, true), (2, false), (2, true)] {
            let broker = Broker::new();
            let watch = watch(&broker);
            let mut connect = clean(version, "a");
            let mut last = will("will", "gone", qos);
            last.retain = retain;
            connect.will = Some(last);
            broker.join(&connect).lose();
            assert!(!watch.receive("will", "gone", qos).retain);
            let late = broker.connect(V311, "late");
            late.subscribe("will", 2);
            if retain {
                assert!(late.receive("will", "gone", qos).retain);
            }
            late.expect_nothing();
        }
    }
}

// [MQTT-3.1.3-10]
#[test]
fn a_will_has_its_properties_and_its_expiry_begins_when_it_is_published() {
    let broker = Broker::new();
    let watch = watch(&broker);
    let user_properties =
        [("b", "2"), ("a", "1"), ("b", "3")].map(|(name, value)| UserProperty { name, value });
    let mut last = will("will", "gone", 0);
    let properties = &mut last.properties;
    properties.payload_format_indicator = Some(PayloadFormat::Utf8);
    properties.content_type = Some("text/plain");
    properties.response_topic = Some(TopicName::new("answer/here").unwrap());
    properties.correlation_data = Some(&[0, 1, 255]);
    properties.user_properties = user_properties.as_slice().into();
    properties.message_expiry_interval = Some(30);
    properties.will_delay_interval = Some(20);
    let mut connect = expiring("a", 100);
    connect.will = Some(last);
    let client = broker.join(&connect);
    broker.advance_s(50);
    client.lose();
    broker.advance_s(20);
    assert_eq!(watch.hold(), message("will", "gone").with_all_properties().expiry(30));
}

// [MQTT-3.1.2-8]
// [MQTT-3.1.3-9]
#[test]
fn a_will_waits_for_its_delay() {
    let broker = Broker::new();
    let watch = watch(&broker);
    broker.join(&with_delay(expiring("a", 100), 10)).lose();
    broker.advance_ms(9999);
    watch.expect_nothing();
    broker.advance_ms(1);
    watch.receive("will", "gone", 1);
    broker.advance_s(1000);
    watch.expect_nothing();
}

// [MQTT-3.1.3-9]
#[test]
fn a_client_that_comes_back_within_the_delay_has_no_will_published() {
    let broker = Broker::new();
    let watch = watch(&broker);
    broker.join(&with_delay(expiring("a", 100), 10)).lose();
    broker.advance_s(9);
    let client = broker.join(&with_delay(expiring("a", 100), 10));
    broker.advance_s(50);
    watch.expect_nothing();
    client.lose();
    broker.advance_s(9);
    watch.expect_nothing();
    broker.advance_s(1);
    watch.receive("will", "gone", 1);
}

// [attack: will-delay]
#[test]
fn a_will_that_is_due_is_published_though_its_client_comes_back_before_the_timer_fires() {
    let broker = Broker::new();
    let watch = watch(&broker);
    broker.join(&with_delay(expiring("a", 100), 10)).lose();
    broker.advance_unnoticed(10);
    assert!(broker.join(&expiring("a", 100)).session_present.get());
    watch.receive("will", "gone", 1);
}

// [MQTT-3.1.2-8]
// [attack: will-delay]
#[test]
fn the_end_of_the_session_publishes_a_will_before_its_delay_is_over() {
    let broker = Broker::new();
    let watch = watch(&broker);
    broker.join(&with_delay(expiring("a", 5), 10)).lose();
    broker.advance_ms(4999);
    watch.expect_nothing();
    broker.advance_ms(1);
    watch.receive("will", "gone", 1);
    // A session that ends with its connection leaves no time at all.
    broker.join(&with_delay(expiring("a", 0), 10)).lose();
    watch.receive("will", "gone", 1);
    // One that is begun anew ends the old one.
    broker.join(&with_delay(expiring("a", 100), 10)).lose();
    broker.advance_s(1);
    watch.expect_nothing();
    broker.connect(V5, "a");
    watch.receive("will", "gone", 1);
    broker.advance_s(1000);
    watch.expect_nothing();
}

// [MQTT-3.14.4-3]
#[test]
fn a_disconnect_with_will_keeps_the_delay() {
    let broker = Broker::new();
    let watch = watch(&broker);
    let client = broker.join(&with_delay(expiring("a", 100), 10));
    client.disconnect_with(ReasonCode::DisconnectWithWillMessage);
    broker.advance_s(9);
    watch.expect_nothing();
    broker.advance_s(1);
    watch.receive("will", "gone", 1);
}

#[test]
fn a_session_that_stays_gets_its_own_will() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.join(&with_will(lasting(version, "a")));
        client.subscribe("will", 1);
        client.lose();
        broker.resume(version, "a").receive("will", "gone", 1);
    }
}

// [attack: internal-topics]
#[test]
fn a_will_to_a_name_of_the_server_is_refused() {
    for version in VERSIONS {
        let broker = Broker::new();
        let mut connect = clean(version, "a");
        connect.will = Some(will("$SYS/x", "gone", 1));
        broker.send_connect(&connect).expect_refusal(ReasonCode::NotAuthorized);
    }
}

// [attack: deep-topic]
#[test]
fn a_will_with_too_many_levels_is_refused() {
    let broker = Broker::with_limits(|limits| limits.topic_levels_maximum = 3);
    let mut connect = clean(V5, "a");
    connect.will = Some(will("a/b/c", "gone", 1));
    broker.join(&connect);
    connect.will = Some(will("a/b/c/d", "gone", 1));
    broker.send_connect(&connect).expect_refusal(ReasonCode::TopicNameInvalid);
}

#[test]
fn an_empty_will_deletes_what_is_retained() {
    let broker = Broker::new();
    let client = broker.connect(V5, "b");
    client.retain("will", "here", 0);
    let mut connect = clean(V311, "a");
    let mut last = will("will", "", 0);
    last.retain = true;
    connect.will = Some(last);
    broker.join(&connect).lose();
    client.subscribe("will", 0);
    client.expect_nothing();
}
