use std::collections::BTreeMap;

use lapwing_proto::packet::SubscriptionOptions;
use lapwing_proto::topic::TopicFilter;

use super::broker::{Broker, lasting};
use super::client::Client;
use super::judge::{Judge, grant, judged};
use super::message::qos;
use super::{V5, V311, VERSIONS};
use crate::hook::{self, Grant};

/// Keeps everybody but `admin` from `$SYS`.
struct NotForAll;

impl Judge for NotForAll {
    fn may_subscribe(&self, client: &hook::Client, filter: TopicFilter<'_>) -> Grant {
        grant(&*client.client_id == "admin" || !filter.pattern().starts_with("$SYS"))
    }
}

fn running() -> Broker {
    let broker = Broker::new();
    broker.start_sys();
    broker
}

/// What has come, without the prefix; each topic once.
fn values(client: &Client) -> BTreeMap<String, String> {
    let messages = client.receive_all();
    let count = messages.len();
    let values: BTreeMap<_, _> = messages
        .into_iter()
        .map(|message| (message.topic.strip_prefix("$SYS/broker/").unwrap().to_owned(), message.payload))
        .collect();
    assert_eq!(values.len(), count, "a topic came twice");
    values
}

fn value<'a>(values: &'a BTreeMap<String, String>, topic: &str) -> &'a str {
    values.get(topic).map_or("absent", String::as_str)
}

#[test]
fn the_topics_are_retained_and_tell_what_there_is() {
    for version in VERSIONS {
        let broker = running();
        let publisher = broker.connect(version, "p");
        let away = broker.join(&lasting(V5, "away"));
        away.subscribe("t", 1);
        away.subscribe("$share/g/t", 1);
        away.lose();
        publisher.publish("t", "x", 1);
        publisher.retain("kept", "x", 0);
        broker.advance_s(10);
        let client = broker.connect(version, "a");
        client.subscribe("$SYS/#", 0);
        let values = values(&client);
        for (topic, wanted) in [
            ("uptime", "10 seconds"),
            ("clients/connected", "1"),
            ("clients/active", "1"),
            ("clients/disconnected", "1"),
            ("clients/inactive", "1"),
            ("clients/total", "2"),
            ("clients/maximum", "1"),
            ("clients/expired", "0"),
            ("subscriptions/count", "2"),
            ("shared_subscriptions/count", "1"),
            ("publish/messages/received", "2"),
        ] {
            assert_eq!(value(&values, topic), wanted, "{topic}");
        }
        assert!(value(&values, "version").starts_with("lapwing version "));
        // The queue has two: one for each subscription.
        let number = |topic| value(&values, topic).parse::<u64>().unwrap();
        assert_eq!(number("store/messages/count"), 2 + number("retained messages/count"));
        assert_eq!(number("messages/stored"), number("store/messages/count"));
        assert!(number("bytes/received") > 20 && number("messages/received") >= 3);
    }
}

#[test]
fn only_what_has_changed_is_published_again() {
    let broker = running();
    let client = broker.connect(V311, "a");
    client.subscribe("$SYS/broker/version", 0);
    client.subscribe("$SYS/broker/uptime", 0);
    client.subscribe("$SYS/broker/clients/connected", 0);
    let first = values(&client);
    assert_eq!(value(&first, "uptime"), "0 seconds");
    assert_eq!(value(&first, "clients/connected"), "0");
    broker.advance_ms(9_999);
    client.expect_nothing();
    broker.advance_ms(1);
    let next = values(&client);
    assert_eq!((value(&next, "uptime"), value(&next, "clients/connected")), ("10 seconds", "1"));
    assert_eq!(value(&next, "version"), "absent");
    broker.advance_s(10);
    let next = values(&client);
    assert_eq!((value(&next, "uptime"), value(&next, "clients/connected")), ("20 seconds", "absent"));
}

#[test]
fn a_load_is_what_happens_in_a_minute() {
    let broker = running();
    let client = broker.connect(V5, "a");
    client.subscribe("$SYS/broker/load/publish/received/+", 0);
    client.receive_all();
    let mut last = BTreeMap::new();
    // 10 messages in 10 seconds, for two hours: 60 in a minute.
    for _ in 0..720 {
        for _ in 0..10 {
            client.publish("t", "x", 0);
        }
        broker.advance_s(10);
        last.extend(values(&client));
        let load = |window| value(&last, &format!("load/publish/received/{window}")).parse::<f64>().unwrap();
        assert!(load("1min") >= load("5min") && load("5min") >= load("15min"));
    }
    for window in ["1min", "5min", "15min"] {
        let load: f64 = value(&last, &format!("load/publish/received/{window}")).parse().unwrap();
        assert!((59.8..=60.0).contains(&load), "{window}: {load}");
    }
    // Silence halves the shortest in about 42 seconds.
    broker.advance_s(40);
    let mut rest = BTreeMap::new();
    for message in client.receive_all() {
        rest.insert(message.topic, message.payload);
    }
    let load: f64 = rest["$SYS/broker/load/publish/received/1min"].parse().unwrap();
    assert!((30.7..30.9).contains(&load), "{load}");
}

// [attack: internal-topics]
#[test]
fn the_topics_are_for_who_asks_for_them_and_may() {
    let broker = Broker::with(|setup| setup.authorizer = judged(NotForAll));
    broker.start_sys();
    let (admin, client) = (broker.connect(V5, "admin"), broker.connect(V5, "a"));
    client.subscribe("#", 0);
    client.subscribe("+/broker/#", 0);
    let options = SubscriptionOptions::new(qos(0));
    assert!(client.subscribe_with("$SYS/#", options, None).is_error());
    assert!(client.subscribe_with("$exclusive/$SYS/#", options, None).is_error());
    admin.subscribe("$SYS/broker/uptime", 0);
    broker.advance_s(10);
    client.expect_nothing();
    assert_eq!(admin.receive_all().len(), 2);
}

#[test]
fn there_are_none_where_none_are_wanted() {
    let broker = Broker::with_limits(|limits| limits.sys_interval_s = 0);
    broker.start_sys();
    let client = broker.connect(V5, "a");
    client.subscribe("$SYS/#", 0);
    broker.advance_s(100);
    client.expect_nothing();
}

#[test]
fn they_go_on_after_many_reconnects() {
    // Each leaves timers behind, and now and then these are thrown out.
    let broker = running();
    for _ in 0..3000 {
        broker.connect(V5, "b").lose();
    }
    let client = broker.connect(V5, "a");
    client.subscribe("$SYS/broker/uptime", 0);
    client.receive_all();
    broker.advance_s(20);
    let uptimes: Vec<_> = client.receive_all().into_iter().map(|it| it.payload).collect();
    assert_eq!(uptimes, ["10 seconds", "20 seconds"]);
}
