//! Clients that do wrong, against the real program: it stays alive, keeps its memory, says why in few lines, and
//! another client notices nothing.

mod admin;
#[path = "../broker/mod.rs"]
mod broker;
#[allow(dead_code, reason = "the tests of lapwing-broker use all of it")]
#[path = "../../../lapwing-broker/tests/certificate/mod.rs"]
mod certificate;
mod flood;
mod operation;
mod proxy;
mod session;
mod tls;
mod websocket;

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use broker::Broker;
use broker::canary::Canary;
use broker::peer::{Peer, encoded, filter, name, packet_id};
use lapwing_proto::packet::{
    Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    Subscription, SubscriptionIdentifier, SubscriptionOptions, TopicAlias, Unsubscribe, UserProperty, Will,
};
use lapwing_proto::topic::TopicFilter;

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;
const MIB: u64 = 1024 * 1024;

/// Runs an attack on a broker with `settings`, beside a client that behaves well; memory may never grow by more
/// than `growth` MiB.
fn attack(settings: &[&str], growth: u64, attack: impl FnOnce(&Broker)) {
    attack_on(Broker::with_settings(settings), growth, attack);
}

/// The same, on a broker that runs.
#[allow(clippy::print_stdout, reason = "for whoever wants to know how well others are served")]
fn attack_on(mut broker: Broker, growth: u64, attack: impl FnOnce(&Broker)) {
    // Attackers have thousands of connections.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let canary = Canary::start(&broker);
    let base = broker.memory();
    attack(&broker);
    let round_trips = canary.round_trips();
    broker.assert_alive();
    // For the goal of 100 ms at the 99th percentile, which a machine that does something else as well may miss.
    println!("the other client: {round_trips}");
    assert!(round_trips.worst() < Duration::from_secs(2), "another client's messages: {round_trips}");
    let grown = broker.peak_memory().saturating_sub(base) / MIB;
    assert!(grown < growth, "memory has grown by {grown} MiB");
    let lines = broker.lines_per_second();
    assert!(lines < 50, "{lines} lines in a second: {:#?}", broker.lines());
    assert!(!broker.lines().iter().any(|line| line.contains("panicked")), "{:#?}", broker.lines());
}

// [attack: garbage], [attack: not-connect-first], [attack: malformed-connect], [attack: log-flood]
#[test]
fn garbage_behind_every_first_byte() {
    attack(&["limits.connect_timeout_s=1"], 32, |broker| {
        Peer::raw(broker).try_send_bytes(&[0xC0, 0]).unwrap();
        broker.wait_for_line("the first packet is not a CONNECT");
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for first in 0..=255 {
            for (length, version) in [(0, None), (2, Some(V5)), (9, None), (40, Some(V311)), (90, Some(V5))] {
                let mut bytes = vec![first, length];
                bytes.extend((0..length).map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 33) as u8
                }));
                let mut peer = match version {
                    Some(version) => Peer::connect(broker, version, "garbage"),
                    None => Peer::raw(broker),
                };
                // The broker may have closed the connection already.
                let _ = peer.try_send_bytes(&bytes);
                peer.finish();
                peer.wait_for_close();
            }
        }
    });
}

// [attack: announced-length]
#[test]
fn packets_that_are_announced_and_never_come() {
    attack(&["limits.packet_size_maximum=1000000"], 32, |broker| {
        let too_large = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
        let mut early = Peer::raw(broker);
        early.try_send_bytes(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]).unwrap();
        early.wait_for_close();
        let mut late = Peer::connect(broker, V5, "late");
        late.try_send_bytes(&too_large).unwrap();
        assert_eq!(late.wait_for_disconnect(), Some(ReasonCode::PacketTooLarge));
        let mut old = Peer::connect(broker, V311, "old");
        old.try_send_bytes(&too_large).unwrap();
        assert_eq!(old.wait_for_disconnect(), None);
        // 500 times nearly a megabyte, of which nothing follows.
        let mut waiting: Vec<_> = (0..500)
            .map(|index| {
                let mut peer = Peer::connect(broker, V5, &format!("waiting-{index}"));
                peer.try_send_bytes(&[0x30, 0x80, 0x80, 0x3C, 0]).unwrap();
                peer
            })
            .collect();
        waiting[0].try_send_bytes(&[0; 100]).unwrap();
        broker.wait_for_line("larger than");
    });
}

// [attack: no-connect]
#[test]
fn half_a_packet_and_silence_end_at_the_connect_timeout() {
    attack(&["limits.connect_timeout_s=1"], 32, |broker| {
        let whole = encoded(&Packet::Connect(Connect::new(V5, "slow")), V5);
        let start = Instant::now();
        let peers = [0, 1, 2, 7, whole.len() - 1].map(|length| {
            let mut peer = Peer::raw(broker);
            peer.try_send_bytes(&whole[..length]).unwrap();
            peer
        });
        for mut peer in peers {
            peer.wait_for_close();
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(5), "{waited:?}");
        broker.wait_for_line("no CONNECT in time");
    });
}

// [attack: no-connect]
#[test]
fn a_thousand_connections_with_one_byte_each() {
    attack(&["limits.connect_timeout_s=1"], 32, |broker| {
        let mut peers: Vec<_> = (0..1000)
            .map(|_| {
                let mut peer = Peer::raw(broker);
                peer.try_send_bytes(&[0x10]).unwrap();
                peer
            })
            .collect();
        for peer in &mut peers {
            peer.wait_for_close();
        }
    });
}

// [attack: deep-topic]
#[test]
fn topics_and_filters_of_65_535_levels() {
    attack(&[], 48, |broker| {
        let topics = ["/".repeat(65_535), "a/".repeat(32_767)];
        for topic in &topics {
            let mut publisher = Peer::connect(broker, V5, "publisher");
            publisher.publish(topic, b"");
            assert_eq!(publisher.wait_for_disconnect(), Some(ReasonCode::TopicNameInvalid));
            let mut connect = Connect::new(V5, "with a will");
            let mut will = Will::new(name(topic), b"deep");
            will.retain = true;
            connect.will = Some(will);
            let code = Peer::raw(broker).present(&connect);
            assert_eq!(code, Some(ReasonCode::TopicNameInvalid));
        }
        let mut subscriber = Peer::connect(broker, V5, "subscriber");
        let plusses = format!("{}#", "+/".repeat(32_767));
        for text in topics.iter().chain([&plusses]) {
            assert_eq!(subscriber.subscribe(&[text], QoS::AtMostOnce), [ReasonCode::TopicFilterInvalid]);
            let filters = [filter(text)];
            subscriber.send(&Packet::Unsubscribe(Unsubscribe::new(PacketId::FIRST, &filters)));
        }
        subscriber.ping();
    });
}

// [attack: long-names]
#[test]
fn names_of_64_kilobytes_without_end() {
    attack(&[], 48, |broker| {
        let mut publisher = Peer::connect(broker, V5, "publisher");
        let long = "x".repeat(60_000);
        for index in 0..3000 {
            publisher.publish(&format!("{index}/{long}"), b"");
        }
        publisher.ping();
    });
}

// [attack: user-properties]
#[test]
fn more_user_properties_than_a_packet_may_have() {
    attack(&[], 32, |broker| {
        let properties = vec![UserProperty { name: "n", value: "v" }; 100_000];
        for _ in 0..5 {
            let mut publish = Publish::new(name("many"), b"");
            publish.properties.user_properties = properties.as_slice().into();
            let mut publisher = Peer::connect(broker, V5, "publisher");
            publisher.send(&Packet::Publish(publish));
            assert_eq!(publisher.wait_for_disconnect(), Some(ReasonCode::QuotaExceeded));
            let mut connect = Connect::new(V5, "many");
            connect.properties.user_properties = properties[..18_000].into();
            assert_eq!(Peer::raw(broker).present(&connect), Some(ReasonCode::QuotaExceeded));
        }
    });
}

// [attack: user-properties]
#[test]
fn user_properties_by_the_ten_thousand() {
    attack(&["limits.user_properties_maximum=65535"], 60, |broker| {
        let mut subscriber = Peer::connect(broker, V5, "subscriber");
        subscriber.subscribe(&["many"], QoS::AtMostOnce);
        let properties = vec![UserProperty { name: "n", value: "v" }; 65_535];
        let mut publish = Publish::new(name("many"), b"");
        publish.properties.user_properties = properties.as_slice().into();
        let mut publisher = Peer::connect(broker, V5, "publisher");
        for _ in 0..5 {
            publisher.send(&Packet::Publish(publish));
            let received = subscriber.receive().unwrap();
            let Packet::Publish(received) = received.packet() else { panic!("no PUBLISH") };
            assert_eq!(received.properties.user_properties.iter().count(), properties.len());
        }
        let mut connect = Connect::new(V5, "many");
        connect.properties.user_properties = properties[..18_000].into();
        let mut peer = Peer::connect_with(broker, &connect);
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        disconnect.properties.user_properties = properties.as_slice().into();
        peer.send(&Packet::Disconnect(disconnect));
        peer.wait_for_close();
    });
}

// [attack: qos-2-identifiers]
#[test]
fn qos_2_identifiers_that_are_never_released() {
    attack(&["limits.receive_maximum=100"], 32, |broker| {
        let mut connect = Connect::new(V5, "hoarder");
        connect.properties.session_expiry_interval = Some(1000);
        let mut publish = Publish::new(name("kept"), b"");
        publish.qos = QoS::ExactlyOnce;
        for round in 0..100 {
            connect.clean_start = round == 0;
            let mut peer = Peer::connect_with(broker, &connect);
            for index in 0..=100 {
                publish.packet_id = Some(packet_id(round * 500 + index + 1));
                // The broker may have ended the connection after the last one that it allows.
                let sent = peer.try_send(&Packet::Publish(publish));
                assert!(sent.is_ok() || index == 100);
            }
            assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::ReceiveMaximumExceeded));
        }
        broker.wait_for_line("eceive maximum");
    });
}

// [attack: topic-alias]
#[test]
fn topic_aliases_beyond_the_maximum_and_bound_anew_without_end() {
    attack(&[], 48, |broker| {
        let mut publish = Publish::new(name("a"), b"");
        for alias in [33, 1000, u16::MAX] {
            publish.properties.topic_alias = TopicAlias::new(alias);
            let mut peer = Peer::connect(broker, V5, "too high");
            peer.send(&Packet::Publish(publish));
            assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::TopicAliasInvalid));
        }
        let mut peer = Peer::connect(broker, V5, "bound anew");
        for index in 0..2000_u16 {
            let topic = format!("{index}/{}", "x".repeat(50_000));
            let mut publish = Publish::new(name(&topic), b"");
            publish.properties.topic_alias = TopicAlias::new(index % 32 + 1);
            peer.send(&Packet::Publish(publish));
        }
        peer.ping();
    });
}

// [attack: subscription-flood]
#[test]
fn subscriptions_without_end() {
    attack(
        &["limits.subscriptions_maximum=20000", "limits.subscription_bytes_maximum=12000000"],
        60,
        |broker| {
            let mut peer = Peer::connect(broker, V5, "many");
            let texts: Vec<_> = (0..40_000).map(|index| format!("{index}/+/+/#")).collect();
            let filters: Vec<_> = texts.iter().map(String::as_str).collect();
            for (index, filters) in filters.chunks(10_000).enumerate() {
                let expected = if index < 2 { ReasonCode::GrantedQoS1 } else { ReasonCode::QuotaExceeded };
                let codes = peer.subscribe(filters, QoS::AtLeastOnce);
                assert!(codes.iter().all(|&code| code == expected), "{index}: {:?}", codes[0]);
            }
            // Deep ones: each level takes memory.
            let mut deep = Peer::connect(broker, V5, "deep");
            let levels = "/+".repeat(120);
            let mut granted = 0;
            for index in 0..200 {
                let texts: Vec<_> = (0..100).map(|place| format!("{index}-{place}{levels}")).collect();
                let filters: Vec<_> = texts.iter().map(String::as_str).collect();
                let codes = deep.subscribe(&filters, QoS::AtMostOnce);
                granted += codes.iter().filter(|&&code| code == ReasonCode::Success).count();
            }
            assert!((500..2000).contains(&granted), "{granted}");
        },
    );
}

// [attack: wildcard-explosion]
#[test]
fn filters_that_all_match_with_an_identifier_each() {
    attack(&["limits.subscription_bytes_maximum=100000000"], 100, |broker| {
        let mut peer = Peer::connect(broker, V5, "overlapping");
        // All filters of 16 levels that match one topic.
        let count: u32 = 1 << 16;
        let texts: Vec<_> = (0..count)
            .map(|bits| (0..16).map(|bit| if bits >> bit & 1 == 1 { "/+" } else { "/a" }).collect::<String>())
            .collect();
        for (index, text) in (1..).zip(&texts) {
            let subscriptions =
                [Subscription { filter: filter(text), options: SubscriptionOptions::default() }];
            let mut subscribe = Subscribe::new(PacketId::FIRST, &subscriptions);
            subscribe.properties.subscription_identifier = SubscriptionIdentifier::new(index);
            peer.send(&Packet::Subscribe(subscribe));
        }
        peer.ping();
        let topic = "/a".repeat(16);
        for round in 0..5 {
            // Each new subscription makes the broker look for the targets again.
            peer.subscribe(&[&format!("else/{round}")], QoS::AtMostOnce);
            peer.publish(&topic, b"x");
            let received = peer.receive().unwrap();
            let Packet::Publish(publish) = received.packet() else { panic!("no PUBLISH") };
            assert_eq!(publish.properties.subscription_identifiers.iter().count(), texts.len());
        }
    });
}

// [attack: retained-replay]
#[test]
fn subscribing_again_and_again_without_reading() {
    attack(&["limits.outbox_bytes_maximum=1000000", "limits.packet_size_maximum=1000000"], 60, |broker| {
        let mut publisher = Peer::connect(broker, V5, "publisher");
        let mut publish = Publish::new(name("retained"), &[0; 10_000]);
        publish.retain = true;
        for index in 0..50 {
            let topic = format!("retained/{index}");
            publisher.send(&Packet::Publish(Publish { topic: Some(name(&topic)), ..publish }));
        }
        publisher.ping();
        let mut peer = Peer::connect(broker, V5, "deaf");
        let options = SubscriptionOptions::default();
        let texts: Vec<_> = (0..5000).map(|index| format!("+/{index}")).collect();
        let filters: Vec<TopicFilter<'_>> = texts.iter().map(|text| filter(text)).collect();
        let subscriptions: Vec<_> = filters.iter().map(|&filter| Subscription { filter, options }).collect();
        let mut flood = encoded(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &subscriptions)), V5);
        let again = vec![Subscription { filter: filter("#"), options }; 20_000];
        flood.extend(encoded(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &again)), V5));
        flood.extend(encoded(&Packet::Unsubscribe(Unsubscribe::new(PacketId::FIRST, &filters)), V5));
        let taken = peer.flood(&flood, Duration::from_millis(300), 100_000_000);
        assert!(taken < 100_000_000, "the broker reads from a client that does not");
    });
}

// [attack: filters-in-a-packet]
#[test]
fn millions_of_filters_in_one_packet() {
    attack(&[], 60, |broker| {
        let options = SubscriptionOptions::default();
        let subscriptions = vec![Subscription { filter: filter("a"), options }; 2_000_000];
        let mut peer = Peer::connect(broker, V5, "large");
        peer.send(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &subscriptions)));
        assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::QuotaExceeded));
        let filters = vec![filter("a"); 2_600_000];
        let mut peer = Peer::connect(broker, V5, "large");
        peer.send(&Packet::Unsubscribe(Unsubscribe::new(PacketId::FIRST, &filters)));
        assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::QuotaExceeded));
        broker.wait_for_line("more than 20000 filters in one packet");
        let mut peer = Peer::connect(broker, V5, "just right");
        peer.send(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &subscriptions[..20_000])));
        peer.send(&Packet::Unsubscribe(Unsubscribe::new(PacketId::FIRST, &filters[..20_000])));
        peer.ping();
    });
}

// [attack: unread-answers]
#[test]
fn requests_without_reading_the_answers() {
    attack(&["limits.outbox_bytes_maximum=1000000", "limits.packet_size_maximum=1000000"], 40, |broker| {
        let mut peer = Peer::connect(broker, V5, "deaf");
        let taken = peer.flood(&[0xC0, 0].repeat(32 * 1024), Duration::from_millis(300), 100_000_000);
        assert!(taken < 100_000_000, "the broker reads from a client that does not");
        // Once it reads, it is served again.
        for _ in 0..taken / 2 {
            assert_eq!(peer.receive().unwrap().packet(), Packet::PingResp);
        }
        if taken % 2 == 1 {
            peer.try_send_bytes(&[0]).unwrap(); // the rest of the last one
        }
        peer.subscribe(&["after"], QoS::AtMostOnce);
    });
}

// [attack: slow-reader]
#[test]
fn messages_for_a_client_that_never_reads() {
    let limits = ["limits.outbox_bytes_maximum=2000000", "limits.queue_bytes_maximum=4000000"];
    attack(&limits, 40, |broker| {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut deaf = Peer::connect(broker, V5, "deaf");
            deaf.subscribe(&["flood"], qos);
            let mut publisher = Peer::connect(broker, V311, "publisher");
            let mut publish = Publish::new(name("flood"), &[7; 5000]);
            publish.qos = qos;
            publish.packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::FIRST);
            let bytes = encoded(&Packet::Publish(publish), V311).repeat(20);
            for _ in 0..1000 {
                publisher.try_send_bytes(&bytes).unwrap();
                if qos > QoS::AtMostOnce {
                    (0..20).for_each(|_| drop(publisher.receive().unwrap()));
                }
            }
            publisher.ping();
        }
    });
}

// [attack: connection-storm]
#[test]
fn a_storm_of_connections() {
    attack(&[], 32, |broker| {
        for index in 0..3000 {
            let mut peer = Peer::connect(broker, V5, &format!("storm-{index}"));
            if index % 2 == 0 {
                peer.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
            }
        }
        broker.wait_for_line("client connected");
    });
}

// [attack: takeover-war]
#[test]
fn a_storm_of_takeovers_of_a_long_session() {
    attack(&[], 32, |broker| {
        let mut connect = Connect::new(V5, "wanted");
        connect.properties.session_expiry_interval = Some(u32::MAX - 1);
        connect.properties.receive_maximum = NonZeroU16::new(10);
        let mut last: Option<Peer> = None;
        for index in 0..2000 {
            connect.clean_start = index % 3 == 0;
            let peer = Peer::connect_with(broker, &connect);
            if let Some(mut last) = last.replace(peer) {
                assert_eq!(last.wait_for_disconnect(), Some(ReasonCode::SessionTakenOver));
            }
        }
        last.unwrap().ping();
    });
}

// [attack: log-injection]
#[test]
fn names_that_would_forge_log_lines() {
    attack(&[], 32, |broker| {
        let forged = "forger\n2031-01-01 INFO forged line\u{7f}\u{1b}[2J\r\u{202e}";
        let mut connect = Connect::new(V5, forged);
        connect.user_name = Some(forged);
        let mut peer = Peer::connect_with(broker, &connect);
        peer.try_send_bytes(&[0xF0, 1, 0x18]).unwrap();
        peer.wait_for_close();
        let long = "x".repeat(60_000);
        Peer::connect(broker, V5, &long).ping();
        Peer::connect(broker, V5, "the last one").ping();
        broker.wait_for_line("the last one");
        for line in broker.lines() {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(!line.starts_with("2031"), "{line:?}");
            assert!(line.len() < 1000, "a line of {} bytes", line.len());
        }
    });
}
