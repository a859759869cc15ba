use lapwing_proto::packet::{QoS, ReasonCode, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicName};

use super::broker::{Broker, clean, lasting, will};
use super::judge::{Judge, grant, judged};
use super::message::{message, qos};
use super::{V5, V311, VERSIONS};
use crate::hook::{Client, Grant};
use crate::rule::{AppliesTo, AutoSubscribe, Rewrite, Rules};

/// Allows what begins with `new`.
struct New;

impl Judge for New {
    fn may_publish(&self, _: &Client, topic: TopicName<'_>, _: QoS, _: bool) -> bool {
        topic.as_str().starts_with("new")
    }

    fn may_subscribe(&self, _: &Client, filter: TopicFilter<'_>) -> Grant {
        grant(filter.pattern().starts_with("new"))
    }
}

fn rewriting(applies_to: AppliesTo, rules: &[(&str, &str)]) -> Rules {
    let rule = |&(pattern, replacement): &(&str, &str)| Rewrite {
        applies_to,
        pattern: pattern.into(),
        replacement: replacement.into(),
    };
    Rules { rewrite: rules.iter().map(rule).collect(), ..Rules::default() }
}

fn with_rules(rules: Rules) -> Broker {
    Broker::with(|setup| setup.rules = rules)
}

fn subscription(filter: &str, qos: u8) -> AutoSubscribe {
    AutoSubscribe {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    }
}

fn subscribing(subscriptions: &[AutoSubscribe]) -> Broker {
    with_rules(Rules { auto_subscribe: subscriptions.into(), ..Rules::default() })
}

#[test]
fn a_message_is_published_to_the_topic_that_its_name_becomes() {
    for version in VERSIONS {
        let broker = with_rules(rewriting(AppliesTo::Publish, &[("old/(.*)", "new/$1")]));
        let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
        subscriber.subscribe("#", 2);
        for qos in 0..3 {
            publisher.publish("old/a", "x", qos);
            subscriber.receive("new/a", "x", qos);
            publisher.publish("other", "x", qos);
            subscriber.receive("other", "x", qos);
        }
        publisher.retain("old/a", "kept", 1);
        subscriber.receive("new/a", "kept", 1);
        let late = broker.connect(version, "late");
        late.subscribe("new/#", 0);
        late.receive("new/a", "kept", 0);
        // A filter does not become another one by this rule.
        late.subscribe("old/#", 0);
        publisher.publish("old/a", "x", 0);
        late.receive("new/a", "x", 0);
        late.expect_nothing();
    }
}

#[test]
fn an_alias_stands_for_the_name_that_came_with_it() {
    let broker = with_rules(rewriting(AppliesTo::Publish, &[("a", "b"), ("b", "c")]));
    let client = broker.connect(V5, "a");
    client.subscribe("#", 0);
    client.send_message(&message("a", "1").alias(1));
    client.receive("b", "1", 0);
    client.send_message(&message("", "2").alias(1));
    client.receive("b", "2", 0);
}

#[test]
fn a_subscription_is_made_and_ended_with_what_its_filter_becomes() {
    for version in VERSIONS {
        let broker = with_rules(rewriting(AppliesTo::Subscribe, &[("old/(.*)", "new/$1")]));
        let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
        publisher.retain("new/a", "kept", 0);
        subscriber.subscribe("old/+", 1);
        subscriber.receive("new/a", "kept", 0);
        publisher.publish("old/a", "x", 1);
        subscriber.expect_nothing();
        publisher.publish("new/a", "x", 1);
        subscriber.receive("new/a", "x", 1);
        let wanted = if version == V5 { vec![ReasonCode::Success] } else { Vec::new() };
        assert_eq!(subscriber.unsubscribe(&["old/+"]), wanted);
        publisher.publish("new/a", "x", 1);
        subscriber.expect_nothing();
    }
}

#[test]
fn what_is_behind_a_share_name_or_an_exclusive_prefix_is_rewritten() {
    let broker = with_rules(rewriting(AppliesTo::All, &[("old/(.*)", "new/$1")]));
    let client = broker.connect(V5, "a");
    for filter in ["$share/g/old/#", "$exclusive/old/#"] {
        client.subscribe(filter, 1);
        client.publish("new/a", "x", 1);
        client.receive("new/a", "x", 1);
        assert_eq!(client.unsubscribe(&[filter]), [ReasonCode::Success]);
    }
}

#[test]
fn a_given_subscription_does_not_replace_the_clients_own() {
    let broker = subscribing(&[subscription("a", 0)]);
    let connect = || lasting(V5, "c");
    let client = broker.join(&connect());
    client.subscribe("a", 2);
    client.lose();
    let client = broker.join(&connect());
    client.publish("a", "x", 2);
    client.receive("a", "x", 2);
}

#[test]
fn clients_may_do_what_they_may_under_the_new_name() {
    let broker = Broker::with(|setup| {
        setup.authorizer = judged(New);
        setup.rules = rewriting(AppliesTo::All, &[("old/(.*)", "new/$1"), ("new/secret", "secret")]);
    });
    let client = broker.connect(V5, "a");
    client.subscribe("old/#", 1);
    client.publish("old/a", "x", 1);
    client.receive("new/a", "x", 1);
    assert_eq!(client.publish_message(message("new/secret", "x").qos(1)), ReasonCode::NotAuthorized);
    let options = SubscriptionOptions::new(qos(1));
    assert_eq!(client.subscribe_with("new/secret", options, None), ReasonCode::NotAuthorized);
}

#[test]
fn what_is_no_topic_any_more_is_refused() {
    let broker = with_rules(rewriting(
        AppliesTo::All,
        &[("empty", ""), ("wild", "a/#/b"), ("own", "$$SYS/broker/version")],
    ));
    let client = broker.connect(V5, "a");
    let options = SubscriptionOptions::new(qos(1));
    for topic in ["empty", "wild"] {
        for qos in [1, 2] {
            let reason_code = client.publish_message(message(topic, "x").qos(qos).retained());
            assert_eq!(reason_code, ReasonCode::TopicNameInvalid);
        }
        assert_eq!(client.subscribe_with(topic, options, None), ReasonCode::TopicFilterInvalid);
        assert_eq!(client.unsubscribe(&[topic]), [ReasonCode::TopicFilterInvalid]);
    }
    assert_eq!(client.publish_message(message("own", "x").qos(1)), ReasonCode::NotAuthorized);
    assert_eq!(broker.stat().retained_messages, 0);
}

#[test]
fn a_will_is_rewritten_as_other_messages_are() {
    for version in VERSIONS {
        let broker = with_rules(rewriting(AppliesTo::Publish, &[("old/(.*)", "new/$1"), ("bad", "")]));
        let watch = broker.connect(V5, "watch");
        watch.subscribe("#", 1);
        for (topic, published) in [("old/will", Some("new/will")), ("bad", None)] {
            let mut connect = clean(version, "a");
            connect.will = Some(will(topic, "gone", 1));
            broker.join(&connect).lose();
            if let Some(published) = published {
                watch.receive(published, "gone", 1);
            }
            watch.expect_nothing();
        }
    }
}

#[test]
fn each_client_gets_the_subscriptions_of_the_rules() {
    for version in VERSIONS {
        let broker =
            subscribing(&[subscription("to/%c", 1), subscription("all", 0), subscription("u/%u", 2)]);
        let client = broker.connect(version, "a");
        let mut connect = clean(version, "b");
        connect.user_name = Some("anna");
        let named = broker.join(&connect);
        client.expect_nothing();
        for (topic, qos) in [("to/a", 1), ("all", 0)] {
            client.publish(topic, "x", 2);
            client.receive(topic, "x", qos);
        }
        named.receive("all", "x", 0);
        client.publish("u/anna", "x", 2);
        named.receive("u/anna", "x", 2);
        client.publish("to/b", "x", 2);
        named.receive("to/b", "x", 1);
        named.expect_nothing();
        client.expect_nothing();
        // They can be given up, and are there again with the next connection.
        named.unsubscribe(&["all"]);
        client.publish("all", "y", 0);
        named.expect_nothing();
        named.lose();
        let named = broker.join(&connect);
        client.publish("all", "z", 0);
        named.receive("all", "z", 0);
    }
}

#[test]
fn a_client_cannot_widen_its_subscriptions_by_its_name() {
    let broker = subscribing(&[subscription("to/%c", 0)]);
    for client_id in ["#", "+", "a/b"] {
        let client = broker.connect(V5, client_id);
        client.publish("to/a/b", "x", 0);
        client.publish("to/a", "x", 0);
        client.expect_nothing();
    }
}

#[test]
fn retained_messages_come_as_the_rule_says() {
    let handling =
        |retain_handling, filter: &str| AutoSubscribe { retain_handling, ..subscription(filter, 1) };
    let broker = subscribing(&[handling(0, "0"), handling(1, "1"), handling(2, "2")]);
    let publisher = broker.connect(V311, "p");
    for topic in ["0", "1", "2"] {
        publisher.retain(topic, "x", 1);
        publisher.receive(topic, "x", 1);
    }
    let client = broker.resume(V5, "a");
    assert!(client.receive("0", "x", 1).retain);
    assert!(client.receive("1", "x", 1).retain);
    client.expect_nothing();
    client.lose();
    let client = broker.resume(V5, "a");
    client.receive("0", "x", 1);
    client.expect_nothing();
}

#[test]
fn the_options_of_a_rule_hold() {
    let rule = AutoSubscribe { no_local: true, retain_as_published: true, ..subscription("t", 1) };
    let broker = subscribing(&[rule]);
    let (client, other) = (broker.connect(V5, "a"), broker.connect(V5, "b"));
    client.retain("t", "x", 1);
    client.expect_nothing();
    assert!(other.receive("t", "x", 1).retain);
}

#[test]
fn a_given_subscription_stays_with_its_session() {
    let broker = subscribing(&[subscription("t", 1)]);
    let client = broker.join(&lasting(V5, "a"));
    client.lose();
    let publisher = broker.connect(V5, "p");
    publisher.publish("t", "x", 1);
    publisher.receive("t", "x", 1);
    let client = broker.join(&lasting(V5, "a"));
    client.receive("t", "x", 1);
    client.expect_nothing();
    publisher.publish("t", "y", 1);
    client.receive("t", "y", 1);
    client.expect_nothing();
}
