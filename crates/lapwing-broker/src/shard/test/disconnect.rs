use lapwing_proto::packet::{Disconnect, Packet, ReasonCode};

use super::broker::{Broker, clean, lasting};
use super::{V5, VERSIONS};

// [MQTT-3.14.4-1]
// [MQTT-3.14.4-2]
// 3.1.1 [MQTT-3.14.4-1]
// 3.1.1 [MQTT-3.14.4-2]
#[test]
fn a_disconnect_ends_the_connection_and_what_follows_it_is_not_handled() {
    for version in VERSIONS {
        let broker = Broker::new();
        let watch = broker.connect(version, "watch");
        watch.subscribe("#", 0);
        let client = broker.connect(version, "a");
        client.send_hex(if version == V5 { "e000 30 04 0001 61 00" } else { "e000 30 03 0001 61" });
        client.expect_closed();
        watch.expect_nothing();
        assert_eq!(broker.stat().disconnected_by_client, 1);
    }
}

#[test]
fn a_client_names_no_other_server() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.properties.server_reference = Some("elsewhere");
    client.send(&Packet::Disconnect(disconnect));
    client.expect_end(ReasonCode::ProtocolError);
}

// [MQTT-3.14.2-1]
#[test]
fn a_disconnect_has_a_reason_code_that_it_can_have() {
    let broker = Broker::new();
    for hex in ["e0 01 01", "e0 02 10 00", "e0 01 ff", "e0 01 86"] {
        let client = broker.connect(V5, "a");
        client.send_hex(hex);
        client.expect_end(ReasonCode::ProtocolError);
    }
}

// [MQTT-3.14.2-3]
#[test]
fn the_reason_string_is_left_out_where_it_would_be_too_long() {
    let broker = Broker::new();
    for (maximum, has_text) in [(40, false), (200, true)] {
        let mut connect = clean(V5, "a");
        connect.properties.maximum_packet_size = std::num::NonZero::new(maximum);
        let client = broker.join(&connect);
        client.send_hex("30 0b 0001 61 02 0b 05 74 65 78 74 78");
        let received = client.next();
        let Packet::Disconnect(disconnect) = received.packet() else { panic!("{:?}", received.packet()) };
        assert_eq!(disconnect.reason_code, ReasonCode::ProtocolError);
        assert_eq!(disconnect.properties.reason_string.is_some(), has_text);
        assert!(received.size() <= maximum as usize);
        client.expect_closed();
    }
}

// [MQTT-3.14.2-2]
#[test]
fn the_broker_sends_no_session_expiry_interval() {
    let broker = Broker::new();
    let client = broker.join(&lasting(V5, "a"));
    client.send_hex("00 00");
    let received = client.next();
    let Packet::Disconnect(disconnect) = received.packet() else { panic!("{:?}", received.packet()) };
    assert_eq!(disconnect.properties.session_expiry_interval, None);
}

#[test]
fn what_was_sent_before_the_end_still_arrives() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.block();
        client.send_hex("c000 c000 00 00");
        assert!(!client.is_closed());
        client.unblock();
        client.expect(&Packet::PingResp);
        client.expect(&Packet::PingResp);
        client.expect_end(ReasonCode::MalformedPacket);
    }
}
