//! Many messages of one read to one topic: whatever is done for them together, each comes to pass as if it were alone.

use std::sync::Arc;

use lapwing_proto::packet::{ProtocolVersion, Publish, SubscriptionOptions};

use super::broker::{Broker, clean, lasting};
use super::client::Client as Peer;
use super::message::{Message, message, qos};
use super::{V5, V311, VERSIONS};
use crate::hook::{Client, Filtered, PublishFilter};

/// Passes everything, and has the broker look at each message for itself.
struct PassAll;

impl PublishFilter for PassAll {
    fn filter(&self, _: &Client, _: &Publish<'_>) -> Filtered {
        Filtered::Pass
    }
}

const OUTBOX: usize = 4000;

fn broker(is_alone: bool) -> Broker {
    Broker::with(|setup| {
        setup.limits.outbox_bytes_maximum = OUTBOX;
        if is_alone {
            setup.publish_filter = Some(Arc::new(PassAll));
        }
    })
}

/// Clients that get the messages of the topic "t" each in their own way. The first publishes them.
fn clients(broker: &Broker, version: ProtocolVersion) -> Vec<Peer> {
    let no_local = SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(qos(2)) };
    let publisher = broker.connect(version, "publisher");
    if version == V5 {
        publisher.subscribe_with("t", no_local, None);
        // Of its own messages it gets those of this one.
        publisher.subscribe("+", 0);
    }
    let mut clients = vec![publisher];
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let client = broker.connect(version, &format!("plain-{at}"));
        client.subscribe("t", at as u8);
        clients.push(client);
    }
    let identified = broker.connect(V5, "identified");
    identified.subscribe_with("t", no_local, Some(7));
    let mut connect = clean(V5, "aliased");
    connect.properties.topic_alias_maximum = Some(3);
    let aliased = broker.join(&connect);
    aliased.subscribe("t", 1);
    let mut connect = clean(V5, "narrow");
    connect.properties.maximum_packet_size = std::num::NonZero::new(150);
    let narrow = broker.join(&connect);
    narrow.subscribe("t", 0);
    let blocked = broker.connect(version, "blocked");
    blocked.subscribe("#", 0);
    blocked.block();
    let away = broker.join(&lasting(V311, "away"));
    away.subscribe("t", 1);
    away.lose();
    clients.extend([identified, aliased, narrow, blocked]);
    clients
}

fn encoded(messages: &[Message], version: ProtocolVersion) -> Vec<u8> {
    messages.iter().flat_map(|message| message.encode(version)).collect()
}

// [MQTT-3.8.3-3]
// [MQTT-3.1.2-24]
#[test]
fn messages_that_come_together_get_where_each_would_alone() {
    for version in VERSIONS {
        let mut messages: Vec<_> =
            (0..60).map(|n| message("t", &format!("{n} {}", "x".repeat(n * 37 % 200)))).collect();
        messages.insert(20, message("t", "at QoS 1").qos(1).id(9));
        messages.insert(40, message("other", "elsewhere"));
        let [together, alone] = [false, true].map(|is_alone| {
            let broker = broker(is_alone);
            let clients = clients(&broker, version);
            // The route is remembered once the topic has come twice.
            for _ in 0..3 {
                clients[0].publish("t", "first", 0);
            }
            clients[0].send_bytes(&encoded(&messages, version));
            clients.iter().for_each(Peer::unblock);
            let packets =
                |client: &Peer| client.take_all().iter().map(|it| format!("{:?}", it.packet())).collect();
            let received: Vec<Vec<String>> = clients.iter().map(packets).collect();
            let stat = broker.stat();
            (
                received,
                stat.messages_dropped,
                stat.messages_sent,
                stat.messages_received,
                stat.packets_received,
            )
        });
        for (client, (together, alone)) in together.0.iter().zip(&alone.0).enumerate() {
            assert!(together == alone, "client {client}: {} and {} packets", together.len(), alone.len());
        }
        assert_eq!(together, alone);
        let dropped = together.1;
        assert!(dropped.outbox_full > 0 && dropped.too_large > 0 && dropped.not_connected > 0, "{dropped:?}");
    }
}

#[test]
fn messages_that_come_together_are_for_nobody_if_nobody_has_subscribed() {
    let broker = Broker::new();
    let publisher = broker.connect(V311, "p");
    for _ in 0..3 {
        publisher.publish("t", "x", 0);
    }
    publisher.send_bytes(&encoded(&vec![message("t", "x"); 10], V311));
    assert_eq!(broker.stat().messages_dropped.no_subscriber, 13);
    // Whoever subscribes now gets what comes from now on.
    let subscriber = broker.connect(V311, "s");
    subscriber.subscribe("t", 0);
    publisher.send_bytes(&encoded(&vec![message("t", "x"); 10], V311));
    assert_eq!(subscriber.receive_all().len(), 10);
}

#[test]
fn members_of_a_shared_subscription_take_turns_though_messages_come_together() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let members = ["a", "b"].map(|client_id| broker.connect(V5, client_id));
    members.iter().for_each(|member| member.subscribe("$share/g/t", 0));
    for _ in 0..2 {
        publisher.publish("t", "x", 0);
    }
    publisher.send_bytes(&encoded(&vec![message("t", "x"); 10], V5));
    assert!(members.iter().all(|member| member.receive_all().len() == 6));
}

#[test]
fn a_malformed_packet_behind_a_run_ends_the_connection_after_it() {
    let broker = Broker::new();
    let publisher = broker.connect(V311, "p");
    let subscriber = broker.connect(V311, "s");
    subscriber.subscribe("t", 0);
    for _ in 0..2 {
        publisher.publish("t", "x", 0);
    }
    let mut bytes = encoded(&vec![message("t", "x"); 5], V311);
    bytes.extend([0x36, 0x00]);
    publisher.send_bytes(&bytes);
    assert_eq!(subscriber.receive_all().len(), 7);
    assert!(publisher.is_closed());
}
