use lapwing_proto::packet::{ReasonCode, SubscriptionOptions};
use lapwing_proto::topic::TopicFilter;

use super::broker::Broker;
use super::judge::{Judge, grant, judged};
use super::message::{message, qos};
use super::{V5, V31, V311, VERSIONS};
use crate::hook::{Client, Grant};

/// Keeps clients from subscribing to `secret`.
struct Secret;

impl Judge for Secret {
    fn may_subscribe(&self, _: &Client, filter: TopicFilter<'_>) -> Grant {
        grant(filter.pattern() != "secret")
    }
}

fn at(bits: u8) -> SubscriptionOptions {
    SubscriptionOptions::new(qos(bits))
}

#[test]
fn one_session_has_an_exclusive_filter() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (owner, other) = (broker.connect(version, "a"), broker.connect(version, "b"));
        owner.subscribe("$exclusive/t/#", 1);
        let refusal = match version {
            V5 => ReasonCode::QuotaExceeded,
            V311 => ReasonCode::UnspecifiedError,
            _ => ReasonCode::GrantedQoS1,
        };
        assert_eq!(other.subscribe_with("$exclusive/t/#", at(1), None), refusal);
        // Not the topics are exclusive, but the filter is.
        other.subscribe("$exclusive/t/a", 1);
        other.publish("t/a", "x", 1);
        other.publish("t/b", "y", 2);
        owner.receive("t/a", "x", 1);
        owner.receive("t/b", "y", 1);
        other.receive("t/a", "x", 1);
        owner.expect_nothing();
        other.expect_nothing();
    }
}

#[test]
fn the_filter_is_free_again_when_it_is_given_up() {
    for version in [V311, V5] {
        let broker = Broker::new();
        let (first, second) = (broker.resume(version, "a"), broker.connect(version, "b"));
        first.subscribe("$exclusive/t", 1);
        first.unsubscribe(&["$exclusive/t"]);
        second.subscribe("$exclusive/t", 1);
        second.publish("t", "x", 1);
        second.receive("t", "x", 1);
        first.expect_nothing();
        // With the session, not with the connection.
        second.disconnect();
        first.subscribe("$exclusive/t", 1);
        first.lose();
        let third = broker.connect(version, "c");
        assert!(third.subscribe_with("$exclusive/t", at(1), None).is_error());
        third.publish("t", "kept", 1);
        broker.resume(version, "a").receive("t", "kept", 1);
        broker.connect(version, "a");
        third.subscribe("$exclusive/t", 1);
        third.publish("t", "y", 1);
        third.receive("t", "y", 1);
    }
}

#[test]
fn another_session_cannot_give_it_up() {
    let broker = Broker::new();
    let (owner, other) = (broker.connect(V5, "a"), broker.connect(V5, "b"));
    owner.subscribe("$exclusive/t", 0);
    assert_eq!(other.unsubscribe(&["$exclusive/t"]), [ReasonCode::NoSubscriptionExisted]);
    assert_eq!(other.subscribe_with("$exclusive/t", at(0), None), ReasonCode::QuotaExceeded);
    // Nor is the refused one among the subscriptions of the session.
    other.disconnect();
    let other = broker.connect(V5, "b");
    assert_eq!(other.subscribe_with("$exclusive/t", at(0), None), ReasonCode::QuotaExceeded);
    other.publish("t", "x", 0);
    owner.receive("t", "x", 0);
}

// [MQTT-3.8.4-3]
#[test]
fn its_owner_may_subscribe_again() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("$exclusive/t", 0);
    client.subscribe_with("$exclusive/t", at(1), Some(7));
    client.publish("t", "x", 1);
    assert_eq!(client.receive("t", "x", 1).identifiers, [7]);
    client.expect_nothing();
    client.unsubscribe(&["$exclusive/t"]);
    client.publish("t", "x", 1);
    client.expect_nothing();
}

#[test]
fn ordinary_and_shared_subscriptions_do_not_know_of_it() {
    let broker = Broker::new();
    let (owner, plain, member) = (broker.connect(V5, "a"), broker.connect(V5, "b"), broker.connect(V5, "c"));
    owner.subscribe("$exclusive/t", 0);
    // It overlaps with another one of the same session: one copy comes.
    owner.subscribe_with("t", at(1), Some(1));
    plain.subscribe("t", 1);
    member.subscribe("$share/g/t", 1);
    plain.publish("t", "x", 1);
    for client in [&owner, &plain, &member] {
        client.receive("t", "x", 1);
        client.expect_nothing();
    }
}

#[test]
fn retained_messages_come_with_it() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.retain("t/a", "x", 1);
        client.subscribe("$exclusive/t/+", 1);
        assert!(client.receive("t/a", "x", 1).retain);
        client.expect_nothing();
    }
}

#[test]
fn whether_a_client_may_is_asked_of_what_is_behind_the_prefix() {
    for version in [V311, V5] {
        let broker = Broker::with(|setup| setup.authorizer = judged(Secret));
        let client = broker.connect(version, "a");
        assert!(client.subscribe_with("$exclusive/secret", at(0), None).is_error());
        client.publish("secret", "x", 0);
        client.expect_nothing();
    }
}

#[test]
fn what_is_not_quite_exclusive_is_an_ordinary_filter() {
    let broker = Broker::new();
    let (one, two) = (broker.connect(V31, "a"), broker.connect(V5, "b"));
    for client in [&one, &two] {
        client.subscribe("$exclusive", 0);
        client.subscribe("$exclusive/", 0);
        client.subscribe("$exclusive/$share/g/t", 0);
    }
    two.publish_message(message("t", "x"));
    one.expect_nothing();
    two.expect_nothing();
}

#[test]
fn levels_are_counted_behind_the_prefix() {
    let broker = Broker::with_limits(|limits| limits.topic_levels_maximum = 2);
    let client = broker.connect(V5, "a");
    client.subscribe("$exclusive/a/b", 0);
    assert_eq!(client.subscribe_with("$exclusive/a/b/c", at(0), None), ReasonCode::TopicFilterInvalid);
}
