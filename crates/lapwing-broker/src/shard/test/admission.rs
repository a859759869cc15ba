//! Connections at the door, and how much is read of each.

use std::time::Duration;

use lapwing_proto::packet::{Packet, PacketType, ReasonCode, UserProperty};
use lapwing_proto::session::Instant;

use super::broker::{Broker, clean};
use super::message::message;
use super::{V5, VERSIONS};
use crate::ban::BanTarget;
use crate::shared::Kept;

fn ban(broker: &Broker, target: BanTarget, lasts_s: Option<u64>) {
    let world = broker.world();
    let until = lasts_s.map(|seconds| world.now + Duration::from_secs(seconds));
    let kept = Kept { reason: "noise".into(), until, is_automatic: false };
    world.shared.admission.ban(target, kept, world.now).unwrap();
}

fn now(broker: &Broker) -> Instant {
    broker.world().now
}

// [attack: banned-address]
#[test]
fn a_banned_address_is_turned_away_until_the_ban_ends() {
    let broker = Broker::new();
    ban(&broker, BanTarget::Address("10.1.0.0/16".parse().unwrap()), Some(60));
    assert!(broker.open_from(V5, "10.1.2.3", "test").is_none());
    assert!(broker.open_from(V5, "::ffff:10.1.2.3", "test").is_none());
    assert!(broker.open_from(V5, "10.2.0.1", "test").is_some());
    assert_eq!(broker.stat().connections_turned_away, 2);
    broker.advance_s(60);
    assert!(broker.open_from(V5, "10.1.2.3", "test").is_some());
    let now = now(&broker);
    assert_eq!(broker.world().shared.admission.bans(now), []);
}

// [attack: banned-address]
#[test]
fn a_banned_client_or_user_is_refused_with_the_reason() {
    for version in VERSIONS {
        let broker = Broker::new();
        ban(&broker, BanTarget::ClientId("a".into()), None);
        ban(&broker, BanTarget::User("bob".into()), None);
        let banned = match version {
            V5 => ReasonCode::Banned,
            _ => ReasonCode::NotAuthorized,
        };
        broker.send_connect(&clean(version, "a")).expect_refusal(banned);
        let mut connect = clean(version, "b");
        connect.user_name = Some("bob");
        broker.send_connect(&connect).expect_refusal(banned);
        connect.user_name = Some("ann");
        broker.join(&connect);
        assert!(broker.world().shared.admission.unban(&BanTarget::ClientId("a".into())));
        assert!(!broker.world().shared.admission.unban(&BanTarget::ClientId("a".into())));
        broker.connect(version, "a");
    }
}

// [attack: slow-connections]
#[test]
fn there_are_only_so_many_connections() {
    let broker = Broker::with_limits(|limits| {
        limits.connections_maximum = 3;
        limits.connections_per_address_maximum = 2;
    });
    let open = |address| broker.open_from(V5, address, "test");
    let clients = [open("10.0.0.1"), open("10.0.0.1")].map(Option::unwrap);
    assert!(open("10.0.0.1").is_none(), "of this address");
    let _other = open("10.0.0.2").unwrap();
    assert!(open("10.0.0.3").is_none(), "in all");
    clients[0].send(&Packet::Connect(clean(V5, "a")));
    clients[0].take_first(PacketType::ConnAck);
    clients[0].disconnect();
    assert!(open("10.0.0.1").is_some(), "a place is free again");
    assert_eq!(broker.stat().connections_turned_away, 2);
}

// [attack: slow-connections]
#[test]
fn a_network_counts_as_one_address_of_ipv6() {
    let broker = Broker::with_limits(|limits| limits.connections_per_address_maximum = 1);
    let _one = broker.open_from(V5, "2001:db8::1", "test").unwrap();
    assert!(broker.open_from(V5, "2001:db8::ffff:2", "test").is_none());
    assert!(broker.open_from(V5, "2001:db8:0:1::1", "test").is_some());
}

// [attack: takeover-war]
#[test]
fn a_client_that_comes_again_and_again_is_kept_out_for_a_while() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| {
            limits.flapping_connects_maximum = 3;
            limits.flapping_window_s = 10;
            limits.flapping_ban_s = 100;
        });
        for _ in 0..2 {
            for _ in 0..3 {
                broker.connect(version, "a").lose();
            }
            broker.advance_s(10);
        }
        for _ in 0..3 {
            broker.connect(version, "a").disconnect();
        }
        let limited =
            if version == V5 { ReasonCode::ConnectionRateExceeded } else { ReasonCode::ServerUnavailable };
        broker.send_connect(&clean(version, "a")).expect_refusal(limited);
        broker.connect(version, "b");
        broker.advance_s(99);
        let banned = if version == V5 { ReasonCode::Banned } else { ReasonCode::NotAuthorized };
        broker.send_connect(&clean(version, "a")).expect_refusal(banned);
        broker.advance_s(1);
        broker.connect(version, "a");
    }
}

// [attack: takeover-war]
#[test]
fn two_clients_that_take_each_others_session_over_are_both_kept_out() {
    let broker = Broker::with_limits(|limits| limits.flapping_connects_maximum = 4);
    let clients: Vec<_> = (0..4).map(|_| broker.connect(V5, "a")).collect();
    broker.send_connect(&clean(V5, "a")).expect_refusal(ReasonCode::ConnectionRateExceeded);
    clients[3].ping();
}

// [attack: publish-flood]
#[test]
fn a_client_that_sends_too_much_is_read_from_more_slowly() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.packet_rate_maximum = 10);
        let subscriber = broker.connect(V5, "s");
        subscriber.subscribe("t", 0);
        let client = broker.connect(version, "a");
        for number in 0..40 {
            client.send_message(&message("t", &number.to_string()));
        }
        let first = subscriber.receive_all().len();
        assert!(first < 15, "{first}");
        // What waits comes in one piece, which is paid for afterwards.
        broker.advance_s(1);
        assert_eq!(first + subscriber.receive_all().len(), 40, "nothing is lost");
        client.send_message(&message("t", "late"));
        broker.advance_s(1);
        subscriber.expect_nothing();
        broker.advance_s(3);
        subscriber.receive("t", "late", 0);
        client.ping();
        assert!(broker.stat().pauses > 1);
    }
}

#[test]
fn it_is_read_from_again_also_where_very_many_have_come_and_gone() {
    let broker = Broker::with_limits(|limits| limits.byte_rate_maximum = 1000);
    let client = broker.connect(V5, "a");
    client.send_message(&message("t", &"x".repeat(10_000)));
    (0..4000).for_each(|_| broker.connect(V5, "passing").disconnect());
    broker.advance_s(20);
    client.ping();
}

#[test]
fn a_client_is_written_to_no_faster_than_the_limit_says() {
    for version in VERSIONS {
        let broker = Broker::with_limits(|limits| limits.client_byte_rate_maximum = 1000);
        let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(version, "s"));
        subscriber.subscribe("t", 1);
        // The first burst and what went beyond it, which is paid for afterwards.
        publisher.send_message(&message("t", &"x".repeat(3000)));
        assert_eq!(subscriber.receive_all().len(), 1);
        publisher.send_message(&message("t", "held"));
        subscriber.expect_nothing();
        broker.advance_s(1);
        subscriber.expect_nothing();
        broker.advance_s(2);
        subscriber.receive("t", "held", 0);
        // Also where very many have come and gone.
        publisher.send_message(&message("t", &"x".repeat(3000)));
        subscriber.receive_all();
        publisher.send_message(&message("t", "held"));
        (0..4000).for_each(|_| broker.connect(V5, "passing").disconnect());
        broker.advance_s(10);
        subscriber.receive("t", "held", 0);
    }
}

#[test]
fn who_is_not_read_from_is_not_taken_for_silent() {
    let broker = Broker::with_limits(|limits| limits.byte_rate_maximum = 100);
    let mut connect = clean(V5, "a");
    connect.keep_alive = 10;
    let client = broker.join(&connect);
    client.send_message(&message("t", &"x".repeat(10_000)));
    broker.advance_s(90);
    assert!(!client.is_closed());
    broker.advance_s(40);
    client.expect_end(ReasonCode::KeepAliveTimeout);
}

// [attack: user-properties]
#[test]
fn a_packet_has_only_so_many_user_properties() {
    let many = |count| vec![UserProperty { name: "n", value: "v" }; count];
    let broker = Broker::with_limits(|limits| limits.user_properties_maximum = 3);
    let (three, four) = (many(3), many(4));
    let mut connect = clean(V5, "a");
    connect.properties.user_properties = four.as_slice().into();
    broker.send_connect(&connect).expect_refusal(ReasonCode::QuotaExceeded);
    connect.properties.user_properties = three.as_slice().into();
    let client = broker.join(&connect);
    let mut publish = message("t", "x");
    publish.user_properties = vec![("n".into(), "v".into()); 3];
    client.send_message(&publish);
    client.ping();
    publish.user_properties.push(("n".into(), "v".into()));
    client.send_message(&publish);
    client.expect_end(ReasonCode::QuotaExceeded);
}
