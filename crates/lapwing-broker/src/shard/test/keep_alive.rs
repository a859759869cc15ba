use lapwing_proto::packet::{Connect, Packet, ReasonCode};

use super::broker::{Broker, clean};
use super::message::message;
use super::{V5, V311, VERSIONS};

fn with_keep_alive(connect: Connect<'_>, keep_alive: u16) -> Connect<'_> {
    Connect { keep_alive, ..connect }
}

// [MQTT-3.1.2-22]
// 3.1.1 [MQTT-3.1.2-24]
// [attack: half-dead-connection]
#[test]
fn a_client_that_is_silent_for_one_and_a_half_times_its_keep_alive_is_let_go() {
    for version in VERSIONS {
        for keep_alive in [1, 5, 10, 3600, u16::MAX] {
            let broker = Broker::new();
            let client = broker.join(&with_keep_alive(clean(version, "a"), keep_alive));
            broker.advance_ms(u64::from(keep_alive) * 1500 - 1);
            client.expect_nothing();
            broker.advance_ms(1);
            client.expect_end(ReasonCode::KeepAliveTimeout);
        }
    }
}

// [MQTT-3.1.2-22]
// 3.1.1 [MQTT-3.1.2-24]
#[test]
fn every_packet_counts() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.join(&with_keep_alive(clean(version, "a"), 10));
        for round in 0..10 {
            broker.advance_s(14);
            match round % 3 {
                0 => client.ping(),
                1 => client.send_message(&message("a", "x")),
                _ => drop(client.unsubscribe(&["nothing"])),
            }
        }
        broker.advance_ms(14_999);
        client.expect_nothing();
        broker.advance_ms(1);
        client.expect_end(ReasonCode::KeepAliveTimeout);
    }
}

#[test]
fn what_the_broker_sends_does_not_count() {
    let broker = Broker::new();
    let client = broker.join(&with_keep_alive(clean(V5, "a"), 10));
    client.subscribe("t", 0);
    let publisher = broker.connect(V5, "p");
    for _ in 0..15 {
        publisher.publish("t", "x", 0);
        broker.advance_s(1);
    }
    for _ in 0..15 {
        client.receive("t", "x", 0);
    }
    client.expect_end(ReasonCode::KeepAliveTimeout);
}

// [attack: dripping-packet]
#[test]
fn the_beginning_of_a_packet_does_not_count() {
    let broker = Broker::new();
    let client = broker.join(&with_keep_alive(clean(V311, "a"), 10));
    broker.advance_s(10);
    client.send_hex("30");
    broker.advance_s(5);
    client.expect_end(ReasonCode::KeepAliveTimeout);
}

#[test]
fn without_keep_alive_a_client_may_be_silent_for_ever() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        broker.advance_s(10_000_000);
        client.ping();
    }
}

// [MQTT-3.1.2-21]
// [MQTT-3.2.2-21]
// [MQTT-3.2.2-22]
// [attack: long-keep-alive]
#[test]
fn a_keep_alive_above_the_limit_is_replaced_and_5_0_is_told() {
    let broker = Broker::with_limits(|limits| limits.keep_alive_maximum_s = 20);
    for (asked, told) in [(0, Some(20)), (21, Some(20)), (20, None), (5, None)] {
        let client = broker.send_connect(&with_keep_alive(clean(V5, "a"), asked));
        assert_eq!(client.next().connack().properties.server_keep_alive, told);
        let seconds = u64::from(told.unwrap_or(asked));
        broker.advance_ms(seconds * 1500 - 1);
        client.expect_nothing();
        broker.advance_ms(1);
        client.expect_end(ReasonCode::KeepAliveTimeout);
    }
    // Others cannot be told, so that theirs holds.
    let client = broker.join(&with_keep_alive(clean(V311, "a"), 100));
    let lasting = broker.connect(V311, "b");
    broker.advance_s(149);
    client.expect_nothing();
    broker.advance_s(1);
    client.expect_end(ReasonCode::KeepAliveTimeout);
    broker.advance_s(1000);
    lasting.ping();
}

#[test]
fn a_keep_alive_shorter_than_the_time_for_connect_holds() {
    let broker = Broker::with_limits(|limits| limits.connect_timeout_s = 100);
    let client = broker.join(&with_keep_alive(clean(V5, "a"), 2));
    broker.advance_s(3);
    client.expect_end(ReasonCode::KeepAliveTimeout);
}

#[test]
fn packets_that_come_late_in_the_same_turn_count() {
    let broker = Broker::new();
    let client = broker.join(&with_keep_alive(clean(V5, "a"), 10));
    broker.advance_unnoticed(20);
    client.send(&Packet::PingReq);
    client.expect(&Packet::PingResp);
    client.expect_nothing();
}
