use lapwing_proto::packet::{Connect, ReasonCode};

use super::V5;
use super::broker::{Broker, clean, lasting};
use super::message::message;

fn with_aliases(client_id: &str, maximum: u16) -> Connect<'_> {
    let mut connect = clean(V5, client_id);
    connect.properties.topic_alias_maximum = Some(maximum);
    connect
}

// [MQTT-3.3.2-12]
#[test]
fn an_alias_stands_for_the_name_that_it_came_with_last() {
    let broker = Broker::with_limits(|limits| limits.topic_alias_maximum = 5);
    let (publisher, subscriber) = (broker.connect(V5, "p"), broker.connect(V5, "s"));
    subscriber.subscribe("#", 2);
    for alias in 1..=5 {
        publisher.publish_message(message(&format!("a/{alias}"), "x").alias(alias));
        subscriber.receive(&format!("a/{alias}"), "x", 0);
    }
    for alias in (1..=5).rev() {
        publisher.publish_message(message("", "y").alias(alias).qos(1));
        assert_eq!(subscriber.receive(&format!("a/{alias}"), "y", 1).alias, None);
    }
    publisher.publish_message(message("b", "x").alias(5).qos(2));
    publisher.publish_message(message("", "y").alias(5));
    publisher.publish_message(message("", "z").alias(4).retained());
    subscriber.receive("b", "x", 2);
    subscriber.receive("b", "y", 0);
    subscriber.receive("a/4", "z", 0);
    let late = broker.connect(V5, "late");
    late.subscribe("a/4", 0);
    assert_eq!(late.hold(), message("a/4", "z").retained());
}

// [MQTT-3.3.2-8]
// [MQTT-3.3.2-9]
// [attack: topic-alias]
#[test]
fn an_alias_of_0_or_above_the_maximum_ends_the_connection() {
    let broker = Broker::with_limits(|limits| limits.topic_alias_maximum = 5);
    let client = broker.connect(V5, "a");
    client.send_hex("30 07 0001 61 03 23 0000");
    client.expect_end(ReasonCode::TopicAliasInvalid);
    let client = broker.connect(V5, "a");
    client.send_message(&message("a", "x").alias(6));
    client.expect_end(ReasonCode::TopicAliasInvalid);
}

// [attack: empty-topic]
#[test]
fn an_alias_without_a_name_must_be_known() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.send_message(&message("a", "x").alias(1));
    client.send_message(&message("", "x").alias(2));
    client.expect_end(ReasonCode::ProtocolError);
}

// [MQTT-3.3.2-7]
#[test]
fn aliases_end_with_their_connection() {
    let broker = Broker::new();
    let client = broker.resume(V5, "a");
    client.send_message(&message("a", "x").alias(1));
    client.disconnect();
    let client = broker.resume(V5, "a");
    client.send_message(&message("", "x").alias(1));
    client.expect_end(ReasonCode::ProtocolError);
}

// [MQTT-3.1.2-26]
// [MQTT-3.3.2-11]
#[test]
fn a_client_is_given_aliases_up_to_its_maximum() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let subscriber = broker.join(&with_aliases("s", 2));
    subscriber.subscribe("#", 1);
    for name in ["a", "b", "c"] {
        publisher.publish(name, "1", 0);
        publisher.publish(name, "2", 1);
    }
    assert_eq!(subscriber.hold(), message("a", "1").alias(1));
    assert_eq!(subscriber.hold(), message("", "2").alias(1).qos(1).id(1));
    assert_eq!(subscriber.hold(), message("b", "1").alias(2));
    assert_eq!(subscriber.hold(), message("", "2").alias(2).qos(1).id(2));
    assert_eq!(subscriber.hold(), message("c", "1"));
    assert_eq!(subscriber.hold(), message("c", "2").qos(1).id(3));
}

// [MQTT-3.1.2-27]
#[test]
fn a_client_that_takes_no_aliases_is_given_none() {
    for maximum in [None, Some(0)] {
        let broker = Broker::new();
        let mut connect = clean(V5, "a");
        connect.properties.topic_alias_maximum = maximum;
        let client = broker.join(&connect);
        client.subscribe("a", 0);
        client.publish("a", "x", 0);
        client.publish("a", "x", 0);
        assert_eq!(client.hold(), message("a", "x"));
        assert_eq!(client.hold(), message("a", "x"));
    }
}

#[test]
fn the_broker_gives_no_more_aliases_than_its_own_limit() {
    let broker = Broker::with_limits(|limits| limits.client_topic_alias_maximum = 1);
    let client = broker.join(&with_aliases("a", 100));
    client.subscribe("#", 0);
    client.publish("a", "x", 0);
    client.publish("b", "x", 0);
    assert_eq!(client.hold(), message("a", "x").alias(1));
    assert_eq!(client.hold(), message("b", "x"));
}

// [MQTT-3.3.2-7]
#[test]
fn what_is_sent_again_on_a_new_connection_has_its_name() {
    let broker = Broker::new();
    let mut connect = lasting(V5, "a");
    connect.properties.topic_alias_maximum = Some(5);
    let client = broker.join(&connect);
    client.subscribe("t", 1);
    client.publish("t", "1", 1);
    client.publish("t", "2", 1);
    assert_eq!(client.hold().topic, "t");
    assert_eq!(client.hold().topic, "");
    client.lose();
    let client = broker.join(&connect);
    assert_eq!(client.hold(), message("t", "1").alias(1).qos(1).id(1).dup());
    assert_eq!(client.hold(), message("", "2").alias(1).qos(1).id(2).dup());
}

// [MQTT-3.1.2-25]
#[test]
fn an_alias_that_would_make_a_packet_too_large_is_not_introduced() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let mut connect = with_aliases("s", 5);
    connect.properties.maximum_packet_size = std::num::NonZero::new(100);
    let subscriber = broker.join(&connect);
    subscriber.subscribe("t", 0);
    // With its name the packet has 100 bytes, the alias would take three more.
    let large = "x".repeat(100 - 2 - 3 - 1);
    publisher.publish("t", &large, 0);
    publisher.publish("t", "1", 0);
    publisher.publish("t", "2", 0);
    assert_eq!(subscriber.hold(), message("t", &large));
    assert_eq!(subscriber.hold(), message("t", "1").alias(1));
    assert_eq!(subscriber.hold(), message("", "2").alias(1));
}
