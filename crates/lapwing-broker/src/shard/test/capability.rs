use lapwing_proto::packet::{Packet, ProtocolVersion, ReasonCode, SubscriptionOptions};

use super::broker::{Broker, clean, will};
use super::client::Client;
use super::message::{message, qos};
use super::{V5, V31, V311, VERSIONS};
use crate::limit::Limits;

fn at(bits: u8) -> SubscriptionOptions {
    SubscriptionOptions::new(qos(bits))
}

/// Subscribes to what is not available: 5.0 is told by DISCONNECT, 3.1.1 by SUBACK.
fn expect_unavailable(
    broker: &Broker,
    version: ProtocolVersion,
    filters: &[&str],
    identifier: Option<u32>,
    reason_code: ReasonCode,
) {
    let client = broker.connect(version, "unlucky");
    let subscriptions: Vec<_> = filters.iter().map(|text| (*text, at(1))).collect();
    if version == V5 {
        let subscriptions: Vec<_> = subscriptions
            .iter()
            .map(|&(text, options)| lapwing_proto::packet::Subscription {
                filter: super::client::filter(text),
                options,
            })
            .collect();
        let mut subscribe = lapwing_proto::packet::Subscribe::new(super::client::id(1), &subscriptions);
        subscribe.properties.subscription_identifier =
            identifier.and_then(lapwing_proto::packet::SubscriptionIdentifier::new);
        client.send(&Packet::Subscribe(subscribe));
        return client.expect_end(reason_code);
    }
    let codes = client.subscribe_all(&subscriptions, None);
    // 3.1 cannot say no.
    let refused = if version == V31 { ReasonCode::GrantedQoS1 } else { ReasonCode::UnspecifiedError };
    assert_eq!(codes, [ReasonCode::GrantedQoS1, refused]);
    client.publish("plain", "x", 1);
    client.receive("plain", "x", 1);
    client.publish("other/a", "x", 1);
    client.expect_nothing();
}

fn connack_properties<T>(
    set: impl FnOnce(&mut Limits),
    get: impl Fn(&lapwing_proto::packet::ConnAckProperties<'_>) -> T,
) -> T {
    let broker = Broker::with_limits(set);
    let received = broker.send_connect(&clean(V5, "a")).next();
    get(&received.connack().properties)
}

// [MQTT-3.2.2-9]
#[test]
fn connack_tells_what_is_not_available() {
    for maximum in 0..2 {
        let told = connack_properties(|limits| limits.qos_maximum = maximum, |it| it.maximum_qos);
        assert_eq!(told, Some(qos(maximum)));
    }
    let none = connack_properties(|limits| limits.qos_maximum = 2, |it| it.maximum_qos);
    assert_eq!(none, None);
    let retain = |limits: &mut Limits| limits.retain_available = false;
    assert_eq!(connack_properties(retain, |it| it.retain_available), Some(false));
    let wildcard = |limits: &mut Limits| limits.wildcard_subscription_available = false;
    assert_eq!(connack_properties(wildcard, |it| it.wildcard_subscription_available), Some(false));
    let identifier = |limits: &mut Limits| limits.subscription_identifier_available = false;
    assert_eq!(connack_properties(identifier, |it| it.subscription_identifier_available), Some(false));
    let shared = |limits: &mut Limits| limits.shared_subscription_available = false;
    assert_eq!(connack_properties(shared, |it| it.shared_subscription_available), Some(false));
}

// [MQTT-3.2.2-10]
#[test]
fn subscriptions_may_ask_for_any_qos_and_are_granted_the_maximum() {
    for version in VERSIONS {
        for maximum in 0..2 {
            let broker = Broker::with_limits(|limits| limits.qos_maximum = maximum);
            let client = broker.connect(version, "a");
            for asked in 0..3 {
                let granted = client.subscribe_with("t", at(asked), None);
                assert_eq!(granted.value(), asked.min(maximum));
                client.publish("t", "x", maximum);
                client.receive("t", "x", asked.min(maximum));
            }
        }
    }
}

#[test]
fn a_message_above_the_maximum_qos_ends_the_connection() {
    for version in VERSIONS {
        for (maximum, above) in [(0, 1), (0, 2), (1, 2)] {
            let broker = Broker::with_limits(|limits| limits.qos_maximum = maximum);
            let watch = broker.connect(V5, "watch");
            watch.subscribe("#", 0);
            let client = broker.connect(version, "a");
            client.publish("t", "x", maximum);
            watch.receive("t", "x", 0);
            client.send_message(&message("t", "x").qos(above).id(1));
            client.expect_end(ReasonCode::QoSNotSupported);
            watch.expect_nothing();
        }
    }
}

/// A CONNECT that is refused for its will; before 5.0 there is no return code for that.
fn expect_will_refused(client: &Client, reason_code: ReasonCode) {
    if client.version == V5 {
        return client.expect_refusal(reason_code);
    }
    client.expect_closed();
}

// [MQTT-3.2.2-12]
// 3.1.1 [MQTT-3.2.2-6]
#[test]
fn a_will_above_the_maximum_qos_is_refused() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.qos_maximum = 1);
        for bits in 0..3 {
            let mut connect = clean(version, "a");
            connect.will = Some(will("will", "gone", bits));
            if bits == 2 {
                expect_will_refused(&broker.send_connect(&connect), ReasonCode::QoSNotSupported);
            } else {
                broker.join(&connect).disconnect();
            }
        }
    }
}

// [MQTT-3.2.2-13]
// 3.1.1 [MQTT-3.2.2-6]
#[test]
fn a_retained_will_is_refused_where_nothing_is_retained() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.retain_available = false);
        let mut connect = clean(version, "a");
        connect.will = Some(will("will", "gone", 0));
        broker.join(&connect).disconnect();
        connect.will.as_mut().unwrap().retain = true;
        expect_will_refused(&broker.send_connect(&connect), ReasonCode::RetainNotSupported);
    }
}

#[test]
fn a_retained_message_ends_the_connection_where_nothing_is_retained() {
    for version in VERSIONS {
        for qos in 0..3 {
            let broker = Broker::with_limits(|limits| limits.retain_available = false);
            let client = broker.connect(version, "a");
            client.publish("t", "x", qos);
            let packet_id = (qos > 0).then(|| client.next_id());
            client.send_message(&super::message::Message {
                packet_id,
                ..message("t", "x").qos(qos).retained()
            });
            client.expect_end(ReasonCode::RetainNotSupported);
            assert_eq!(broker.stat().retained_messages, 0);
        }
    }
}

// 3.1.1 [MQTT-3.8.3-2]
#[test]
fn wildcards_are_refused_where_there_are_none() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.wildcard_subscription_available = false);
        for filter in ["#", "other/+", "$share/g/other/#", "$exclusive/other/#"] {
            let reason_code = ReasonCode::WildcardSubscriptionsNotSupported;
            expect_unavailable(&broker, version, &["plain", filter], None, reason_code);
        }
        let client = broker.connect(version, "a");
        client.subscribe("$share/g/t", 0);
        client.publish("t", "x", 0);
        client.receive("t", "x", 0);
    }
}

#[test]
fn shared_subscriptions_are_refused_where_there_are_none() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.shared_subscription_available = false);
        let reason_code = ReasonCode::SharedSubscriptionsNotSupported;
        expect_unavailable(&broker, version, &["plain", "$share/g/other/a"], None, reason_code);
        broker.connect(version, "a").subscribe("other/#", 0);
    }
}

#[test]
fn subscription_identifiers_are_refused_where_there_are_none() {
    let broker = Broker::with_limits(|limits| limits.subscription_identifier_available = false);
    let reason_code = ReasonCode::SubscriptionIdentifiersNotSupported;
    expect_unavailable(&broker, V5, &["plain"], Some(1), reason_code);
    broker.connect(V5, "a").subscribe("plain", 0);
    broker.connect(V311, "b").subscribe("plain", 0);
}
