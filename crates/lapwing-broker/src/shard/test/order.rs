use std::collections::BTreeMap;

use lapwing_proto::packet::{Packet, ReasonCode, SubAck, Subscribe, Subscription, SubscriptionOptions};

use super::broker::{Broker, lasting};
use super::client::{filter, id};
use super::message::{Message, message, qos};
use super::{V5, VERSIONS};

/// The payloads, numbers all, rise for each topic and QoS.
fn assert_in_order(messages: &[Message]) {
    let mut last = BTreeMap::new();
    for message in messages.iter().filter(|it| !it.dup) {
        let number: u32 = message.payload.parse().unwrap();
        if let Some(before) = last.insert((&message.topic, message.qos), number) {
            assert!(before < number, "{number} came after {before} at QoS {}", message.qos);
        }
    }
}

// [MQTT-4.6.0-5]
// [MQTT-4.6.0-6]
// [MQTT-4.2-1]
// 3.1.1 [MQTT-4.6.0-5]
// 3.1.1 [MQTT-4.6.0-6]
#[test]
fn messages_come_in_order_through_flight_and_queue() {
    for version in VERSIONS {
        for qos in [1, 2] {
            let broker = Broker::with_limits(|limits| limits.client_receive_maximum = 7);
            let publisher = broker.connect(version, "p");
            let mut client = broker.resume(version, "a");
            client.subscribe("t", 2);
            let mut got = Vec::new();
            for number in 0..300_u32 {
                publisher.publish("t", &number.to_string(), qos);
                match number % 50 {
                    10 => {
                        let open = client.hold_all();
                        client.acknowledge(&open[0]);
                        got.extend(open);
                    }
                    20 => got.extend(client.receive_all()),
                    30 => client.lose(),
                    40 => client = broker.resume(version, "a"),
                    _ => {}
                }
            }
            got.extend(client.receive_all());
            assert_in_order(&got);
            let mut numbers: Vec<u32> = got.iter().map(|it| it.payload.parse().unwrap()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers, (0..300).collect::<Vec<_>>());
        }
    }
}

// [MQTT-4.6.0-6]
#[test]
fn each_qos_keeps_its_order_when_they_are_mixed() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| {
            limits.client_receive_maximum = 5;
            limits.outbox_bytes_maximum = 300;
        });
        let publisher = broker.connect(version, "p");
        let client = broker.connect(version, "a");
        client.subscribe("#", 2);
        let mut got = Vec::new();
        for number in 0..500_u32 {
            match number % 40 {
                5 => client.block(),
                30 => client.unblock(),
                35 => got.extend(client.receive_all()),
                _ => {}
            }
            publisher.publish(["s", "t"][(number % 2) as usize], &number.to_string(), (number % 3) as u8);
        }
        client.unblock();
        got.extend(client.receive_all());
        assert_in_order(&got);
        let count = |qos| got.iter().filter(|it| it.qos == qos).count();
        assert_eq!((count(1), count(2)), (167, 166));
    }
}

// [MQTT-4.6.0-6]
#[test]
fn a_message_does_not_overtake_those_that_wait_for_a_slow_reader() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.outbox_bytes_maximum = 20_000);
        let publisher = broker.connect(version, "p");
        let client = broker.connect(version, "a");
        client.subscribe("t", 1);
        client.block();
        let padding = "0".repeat(300);
        for number in 0..300_u32 {
            publisher.publish("t", &format!("{padding}{number}"), 1);
            // Always some of it, so that there is room again, but the outbox is never empty.
            if number > 100 {
                client.read_some(301);
            }
        }
        client.unblock();
        let got = client.receive_all();
        assert_eq!(got.len(), 300);
        assert_in_order(&got);
    }
}

// [MQTT-4.6.0-6]
#[test]
fn a_retained_message_does_not_come_behind_a_newer_one() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    publisher.retain("t/1", "1", 1);
    publisher.retain("t/2", "1", 1);
    let mut connect = lasting(V5, "a");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let client = broker.join(&connect);
    client.subscribe("t/#", 1);
    publisher.retain("t/2", "2", 1);
    publisher.publish("t/2", "3", 1);
    let got = client.receive_all();
    assert_in_order(&got);
    assert_eq!(got.last().unwrap().payload, "3");
}

// [MQTT-4.6.0-6]
#[test]
fn what_is_retained_comes_before_what_is_published_after_the_subscription() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    let publisher = broker.connect(V5, "p");
    publisher.retain("t", "1", 0);
    // Both are read in one turn.
    broker.world().is_stepwise = true;
    let subscriptions = [Subscription { filter: filter("t"), options: SubscriptionOptions::new(qos(0)) }];
    client.send(&Packet::Subscribe(Subscribe::new(id(1), &subscriptions)));
    publisher.send_message(&message("t", "2"));
    broker.settle();
    client.expect(&Packet::SubAck(SubAck::new(id(1), &[ReasonCode::Success])));
    assert_eq!(client.receive_all().iter().map(|it| &*it.payload).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn messages_of_one_read_reach_each_subscriber_in_order() {
    let broker = Broker::new();
    let clients: Vec<_> =
        VERSIONS.iter().map(|&version| broker.connect(version, &version.to_string())).collect();
    for (bits, client) in (0..).zip(&clients) {
        client.subscribe("t", bits);
    }
    let publisher = broker.connect(V5, "p");
    let mut bytes = Vec::new();
    for number in 0..1000_u16 {
        let message = message("t", &number.to_string()).qos((number % 2) as u8);
        bytes.extend(if number % 2 == 0 { message } else { message.id(number) }.encode(V5));
    }
    publisher.send_bytes(&bytes);
    for client in &clients {
        let got = client.receive_all();
        assert_eq!(got.len(), 1000);
        assert_in_order(&got);
    }
}
