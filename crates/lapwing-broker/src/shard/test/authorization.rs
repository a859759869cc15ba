use std::num::NonZero;

use lapwing_proto::packet::{Packet, PacketType, QoS, ReasonCode, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicName};

use super::broker::{Broker, clean, will};
use super::judge::{Judge, grant, judged};
use super::message::{message, qos};
use super::{V5, V31, V311, VERSIONS};
use crate::hook::{Client, Grant};

/// Keeps everybody but `admin` from what begins with `secret`.
struct Secret;

impl Judge for Secret {
    fn may_publish(&self, client: &Client, topic: TopicName<'_>, _: QoS, _: bool) -> bool {
        &*client.client_id == "admin" || !topic.as_str().starts_with("secret")
    }

    fn may_subscribe(&self, client: &Client, filter: TopicFilter<'_>) -> Grant {
        grant(&*client.client_id == "admin" || !filter.pattern().starts_with("secret"))
    }
}

fn guarded() -> Broker {
    Broker::with(|setup| setup.authorizer = judged(Secret))
}

// 3.1.1 [MQTT-3.3.5-2]
#[test]
fn a_message_that_may_not_be_published_reaches_nobody_and_5_0_is_told() {
    for version in VERSIONS {
        for qos in 0..3 {
            let broker = guarded();
            let admin = broker.connect(V5, "admin");
            admin.subscribe("#", 2);
            let client = broker.connect(version, "a");
            let reason_code = client.publish_message(message("secret/a", "x").qos(qos).retained());
            let is_told = version == V5 && qos > 0;
            assert_eq!(reason_code, if is_told { ReasonCode::NotAuthorized } else { ReasonCode::Success });
            admin.expect_nothing();
            assert_eq!(broker.stat().retained_messages, 0);
            client.publish("open", "x", qos);
            admin.receive("open", "x", qos);
        }
    }
}

// [MQTT-4.3.3-9]
#[test]
fn the_identifier_of_a_refused_qos_2_message_is_free() {
    let broker = guarded();
    let admin = broker.connect(V5, "admin");
    admin.subscribe("#", 0);
    let client = broker.connect(V5, "a");
    client.send_message(&message("secret", "x").qos(2).id(3));
    client.send_message(&message("open", "y").qos(2).id(3));
    admin.receive("open", "y", 0);
}

// [MQTT-3.1.2-29]
// [MQTT-3.4.2-2]
// [MQTT-3.5.2-2]
#[test]
fn a_refusal_is_explained_to_a_client_that_wants_and_takes_it() {
    for (wants, maximum, is_explained) in [
        (None, None, true),
        (Some(true), Some(100), true),
        (Some(false), None, false),
        (None, Some(20), false),
    ] {
        for qos in 1..3 {
            let broker = guarded();
            let mut connect = clean(V5, "a");
            connect.properties.request_problem_information = wants;
            connect.properties.maximum_packet_size = maximum.and_then(NonZero::new);
            let client = broker.send_connect(&connect);
            client.take_first(PacketType::ConnAck);
            client.send_message(&message("secret", "x").qos(qos).id(7));
            let received = client.next();
            let (Packet::PubAck(ack) | Packet::PubRec(ack)) = received.packet() else {
                panic!("no acknowledgement")
            };
            assert_eq!(ack.reason_code, ReasonCode::NotAuthorized);
            assert_eq!(ack.properties.reason_string.is_some(), is_explained, "{wants:?} {maximum:?}");
        }
    }
}

#[test]
fn an_alias_that_comes_with_a_refused_message_is_known_all_the_same() {
    let broker = guarded();
    let client = broker.connect(V5, "a");
    client.send_message(&message("secret", "x").alias(1));
    assert_eq!(client.publish_message(message("", "x").alias(1).qos(1)), ReasonCode::NotAuthorized);
}

// [MQTT-3.8.4-7]
// [MQTT-3.9.3-1]
// [MQTT-3.9.3-2]
// 3.1.1 [MQTT-3.9.3-1]
// 3.1.1 [MQTT-3.9.3-2]
#[test]
fn each_subscription_is_judged_by_itself() {
    let options = |bits| SubscriptionOptions::new(qos(bits));
    let wanted =
        [("a", options(1)), ("secret/#", options(2)), ("b", options(0)), ("$share/g/secret", options(1))];
    for (version, refused) in [
        (V5, [ReasonCode::NotAuthorized, ReasonCode::NotAuthorized]),
        (V311, [ReasonCode::UnspecifiedError, ReasonCode::UnspecifiedError]),
        // 3.1 cannot say no.
        (V31, [ReasonCode::GrantedQoS2, ReasonCode::GrantedQoS1]),
    ] {
        let broker = guarded();
        let (admin, client) = (broker.connect(V5, "admin"), broker.connect(version, "c"));
        admin.retain("secret/a", "x", 0);
        let codes = client.subscribe_all(&wanted, None);
        assert_eq!(codes, [ReasonCode::GrantedQoS1, refused[0], ReasonCode::Success, refused[1]]);
        admin.publish("secret/a", "x", 1);
        admin.publish("secret", "x", 1);
        client.expect_nothing();
        admin.publish("b", "x", 1);
        client.receive("b", "x", 0);
    }
}

#[test]
fn a_client_with_a_will_that_it_may_not_publish_is_refused() {
    for version in VERSIONS {
        let broker = guarded();
        let admin = broker.connect(V5, "admin");
        admin.subscribe("#", 0);
        for (topic, is_allowed) in [("secret/will", false), ("$delayed/5/secret", false), ("will", true)] {
            let mut connect = clean(version, "a");
            connect.will = Some(will(topic, "gone", 0));
            if is_allowed {
                broker.join(&connect).lose();
                admin.receive(topic, "gone", 0);
            } else {
                broker.send_connect(&connect).expect_refusal(ReasonCode::NotAuthorized);
            }
            admin.expect_nothing();
        }
        assert_eq!(broker.stat().sessions, 1);
    }
}
