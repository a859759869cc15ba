use lapwing_proto::packet::{Disconnect, Packet, ProtocolVersion, ReasonCode};

use super::broker::{Broker, clean, expiring, lasting};
use super::client::Client;
use super::{V5, V31, V311, VERSIONS};

fn disconnect_with_expiry(client: &Client, seconds: u32) {
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.properties.session_expiry_interval = Some(seconds);
    client.send(&Packet::Disconnect(disconnect));
}

/// Whether the session is still there; it then goes on for `seconds` more.
fn is_present(broker: &Broker, seconds: u32) -> bool {
    let client = broker.join(&expiring("a", seconds));
    client.lose();
    client.session_present.get()
}

// [MQTT-3.1.2-6]
// [MQTT-3.2.2-3]
// 3.1.1 [MQTT-3.1.2-4]
// 3.1.1 [MQTT-3.2.2-3]
#[test]
fn where_there_is_no_session_a_new_one_begins() {
    for version in VERSIONS {
        let broker = Broker::new();
        assert!(!broker.resume(version, "a").session_present.get());
    }
}

// [MQTT-3.1.2-5]
// [MQTT-3.1.2-23]
// [MQTT-3.2.2-3]
// 3.1.1 [MQTT-3.1.2-4]
// 3.1.1 [MQTT-3.2.2-2]
#[test]
fn a_session_goes_on_with_its_subscriptions() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(version, "p");
        let client = broker.resume(version, "a");
        client.subscribe("t/#", 2);
        client.disconnect();
        broker.advance_s(1_000_000);
        let client = broker.resume(version, "a");
        // 3.1 has no such flag.
        assert_eq!(client.session_present.get(), version != V31);
        publisher.publish("t/a", "x", 2);
        client.receive("t/a", "x", 2);
    }
}

// [MQTT-4.5.0-1]
// 3.1.1 [MQTT-3.1.2-5]
// 3.1.1 [MQTT-4.5.0-1]
#[test]
fn qos_1_and_2_messages_wait_for_a_client_that_is_away() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(version, "p");
        let client = broker.resume(version, "a");
        client.subscribe("t", 2);
        client.lose();
        for (payload, qos) in [("0", 0), ("1", 1), ("2", 2), ("3", 1)] {
            publisher.publish("t", payload, qos);
        }
        broker.advance_s(5000);
        let client = broker.resume(version, "a");
        for (payload, qos) in [("1", 1), ("2", 2), ("3", 1)] {
            assert!(!client.receive("t", payload, qos).dup);
        }
        client.expect_nothing();
        assert_eq!(broker.stat().messages_dropped.not_connected, 1);
    }
}

// [MQTT-3.1.2-4]
// [MQTT-3.1.4-4]
// [MQTT-3.2.2-2]
// 3.1.1 [MQTT-3.1.2-6]
// 3.1.1 [MQTT-3.1.4-3]
// 3.1.1 [MQTT-3.2.2-1]
#[test]
fn a_clean_start_discards_the_session() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(version, "p");
        let client = broker.resume(version, "a");
        client.subscribe("t", 1);
        client.lose();
        publisher.publish("t", "x", 1);
        let client = broker.connect(version, "a");
        assert!(!client.session_present.get());
        publisher.publish("t", "y", 1);
        client.expect_nothing();
        client.lose();
        assert!(!broker.resume(version, "a").session_present.get());
    }
}

// [MQTT-4.1.0-2]
// 3.1.1 [MQTT-3.1.2-6]
// 3.1.1 [MQTT-4.1.0-1]
#[test]
fn a_session_that_is_not_kept_ends_with_its_connection() {
    let broker = Broker::new();
    for connect in [clean(V31, "a"), clean(V311, "a"), clean(V5, "a"), expiring("a", 0)] {
        let client = broker.join(&connect);
        client.subscribe("t", 1);
        client.disconnect();
        assert_eq!(broker.stat().sessions, 0);
        let client = broker.resume(connect.version, "a");
        assert!(!client.session_present.get());
        client.publish("t", "x", 1);
        client.expect_nothing();
        broker.connect(V311, "a").lose();
    }
}

// [MQTT-3.1.2-4]
#[test]
fn a_clean_start_of_5_0_can_begin_a_session_that_stays() {
    let broker = Broker::new();
    let mut connect = lasting(V5, "a");
    connect.clean_start = true;
    broker.join(&connect).lose();
    assert!(broker.resume(V5, "a").session_present.get());
}

// [MQTT-3.1.2-23]
// [MQTT-4.1.0-2]
#[test]
fn a_session_ends_when_its_expiry_interval_has_passed() {
    let broker = Broker::new();
    broker.join(&expiring("a", 10)).lose();
    broker.advance_ms(9999);
    assert!(is_present(&broker, 10));
    broker.advance_ms(10_000);
    assert_eq!(broker.stat().sessions, 0);
    assert!(!is_present(&broker, 10));
}

// [MQTT-4.1.0-2]
#[test]
fn a_session_has_ended_even_if_its_timer_is_late() {
    let broker = Broker::new();
    broker.join(&expiring("a", 10)).lose();
    broker.advance_unnoticed(10);
    assert!(!is_present(&broker, 10));
}

// [MQTT-4.1.0-1]
#[test]
fn a_session_does_not_expire_while_it_is_connected() {
    let broker = Broker::new();
    let client = broker.join(&expiring("a", 10));
    client.subscribe("t", 1);
    broker.advance_s(100);
    client.publish("t", "x", 1);
    client.receive("t", "x", 1);
    client.lose();
    broker.advance_s(9);
    let client = broker.join(&expiring("a", 10));
    assert!(client.session_present.get());
    broker.advance_s(100);
    client.lose();
    assert!(is_present(&broker, 10));
}

// [MQTT-3.1.2-23]
#[test]
fn an_expiry_interval_of_all_ones_is_for_ever() {
    let broker = Broker::new();
    broker.join(&expiring("a", u32::MAX)).lose();
    broker.advance_s(u64::from(u32::MAX) * 10);
    assert!(is_present(&broker, 10));
}

#[test]
fn the_longest_expiry_interval_that_ends_is_136_years() {
    let broker = Broker::new();
    broker.join(&expiring("a", u32::MAX - 1)).lose();
    broker.advance_s(u64::from(u32::MAX) - 2);
    assert!(is_present(&broker, u32::MAX - 1));
    broker.advance_s(u64::from(u32::MAX) - 1);
    assert!(!is_present(&broker, 10));
}

#[test]
fn the_last_connect_says_how_long_the_session_stays() {
    let broker = Broker::new();
    broker.join(&expiring("a", 1000)).lose();
    assert!(is_present(&broker, 5));
    broker.advance_s(5);
    assert!(!is_present(&broker, 5));
}

#[test]
fn disconnect_changes_the_expiry_interval() {
    for (at_connect, at_disconnect) in [(10, 100), (100, 10), (10, u32::MAX), (u32::MAX, 10)] {
        let broker = Broker::new();
        let client = broker.join(&expiring("a", at_connect));
        disconnect_with_expiry(&client, at_disconnect);
        client.expect_closed();
        broker.advance_s(u64::from(at_disconnect) - 1);
        assert_eq!(broker.stat().sessions, 1);
        broker.advance_s(1);
        assert_eq!(broker.stat().sessions, u64::from(at_disconnect == u32::MAX));
    }
    let broker = Broker::new();
    let client = broker.join(&expiring("a", 10));
    disconnect_with_expiry(&client, 0);
    assert_eq!(broker.stat().sessions, 0);
}

// [MQTT-3.14.2-2]
#[test]
fn a_session_without_an_expiry_interval_gets_none_at_disconnect() {
    let broker = Broker::new();
    for connect in [clean(V5, "a"), expiring("a", 0)] {
        let client = broker.join(&connect);
        disconnect_with_expiry(&client, 10);
        client.expect_end(ReasonCode::ProtocolError);
        assert_eq!(broker.stat().sessions, 0);
    }
    let client = broker.connect(V5, "a");
    disconnect_with_expiry(&client, 0);
    client.expect_closed();
}

// [MQTT-3.2.2-3]
// [attack: endless-sessions]
#[test]
fn an_expiry_interval_above_the_limit_is_cut_and_the_client_told() {
    let broker = Broker::with_limits(|limits| limits.session_expiry_maximum_s = 50);
    for (asked, told) in [(50, None), (51, Some(50)), (u32::MAX, Some(50)), (0, None)] {
        let client = broker.send_connect(&expiring("b", asked));
        assert_eq!(client.next().connack().properties.session_expiry_interval, told);
    }
    broker.join(&expiring("a", 1000)).lose();
    broker.advance_s(49);
    assert!(is_present(&broker, 1000));
    let client = broker.join(&expiring("a", 10));
    disconnect_with_expiry(&client, 1000);
    broker.advance_s(50);
    assert!(!is_present(&broker, 1000));
}

#[test]
fn where_no_session_is_kept_a_client_may_still_ask_for_it_at_disconnect() {
    let broker = Broker::with_limits(|limits| limits.session_expiry_maximum_s = 0);
    let client = broker.join(&expiring("a", 10));
    disconnect_with_expiry(&client, 10);
    client.expect_closed();
    assert_eq!(broker.stat().sessions, 0);
}

#[test]
fn sessions_before_5_0_stay_as_long_as_the_limit_says() {
    for version in [V31, V311] {
        let broker = Broker::with_limits(|limits| limits.session_expiry_maximum_s = 50);
        broker.resume(version, "a").disconnect();
        broker.advance_s(49);
        assert_eq!(broker.stat().sessions, 1);
        broker.advance_s(1);
        assert_eq!(broker.stat().sessions, 0);
    }
}

#[test]
fn a_client_may_come_back_in_another_version() {
    let versions: [ProtocolVersion; 4] = [V311, V5, V31, V5];
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    broker.resume(V311, "a").subscribe("t", 2);
    for version in versions {
        publisher.publish("t", "x", 2);
        let client = broker.resume(version, "a");
        assert_eq!(client.session_present.get(), version != V31);
        client.take_first(lapwing_proto::packet::PacketType::Publish);
        client.lose();
        let client = broker.resume(version, "a");
        assert!(client.receive("t", "x", 2).dup);
        client.lose();
    }
}

// 3.1.1 [MQTT-3.1.2-7]
#[test]
fn retained_messages_do_not_end_with_a_session() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.retain("t", "x", 1);
        client.disconnect();
        let client = broker.connect(version, "a");
        client.subscribe("t", 1);
        client.receive("t", "x", 1);
    }
}

// [MQTT-3.1.3-2]
// 3.1.1 [MQTT-3.1.3-2]
#[test]
fn sessions_of_different_clients_are_apart() {
    for version in VERSIONS {
        let broker = Broker::new();
        let (a, b) = (broker.resume(version, "a"), broker.resume(version, "A"));
        a.subscribe("t/a", 1);
        b.subscribe("t/b", 1);
        a.publish("t/b", "x", 1);
        b.receive("t/b", "x", 1);
        a.expect_nothing();
        a.lose();
        b.publish("t/a", "x", 1);
        b.expect_nothing();
        broker.resume(version, "a").receive("t/a", "x", 1);
    }
}

// [attack: connection-storm]
#[test]
fn coming_and_going_leaves_nothing_behind() {
    let broker = Broker::new();
    for round in 0..5000 {
        let client = broker.join(&expiring("a", 1_000_000 - round));
        client.lose();
    }
    assert_eq!(broker.stat().sessions, 1);
    assert_eq!(broker.stat().connections, 0);
    assert!(broker.world().shards[0].timers.len() < 2000, "timers are left over");
    broker.advance_s(994_999);
    assert_eq!(broker.stat().sessions, 1);
    broker.advance_s(2);
    assert_eq!(broker.stat().sessions, 0);
}
