use lapwing_proto::packet::{Connect, Packet, ReasonCode};

use super::broker::{Broker, clean, lasting};
use super::message::message;
use super::{V5, V31, V311, VERSIONS};

// [MQTT-3.1.4-5]
// [MQTT-3.2.0-1]
// [MQTT-3.2.0-2]
// 3.1.1 [MQTT-3.1.4-4]
// 3.1.1 [MQTT-3.2.0-1]
#[test]
fn a_connect_is_answered_with_one_connack_and_that_comes_first() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.send_connect(&clean(version, "a"));
        client.send(&Packet::PingReq);
        let connack = client.next();
        let is = (connack.connack().reason_code, connack.connack().session_present);
        assert_eq!(is, (ReasonCode::Success, false));
        client.expect(&Packet::PingResp);
        client.expect_nothing();
    }
}

// [MQTT-3.1.0-1]
// [MQTT-3.14.0-1]
// 3.1.1 [MQTT-3.1.0-1]
// [attack: not-connect-first]
#[test]
fn the_first_packet_must_be_a_connect() {
    // PINGREQ, PUBLISH, SUBSCRIBE, DISCONNECT, CONNACK, AUTH.
    for hex in
        ["c000", "30 03 0001 61", "82 06 0001 0001 61 00", "e000", "20 02 00 00", "20 03 00 00 00", "f000"]
    {
        let broker = Broker::new();
        let client = broker.open(V5);
        client.send_hex(hex);
        client.expect_closed();
    }
}

// [MQTT-3.1.0-2]
// [MQTT-4.13.1-1]
// 3.1.1 [MQTT-3.1.0-2]
// [attack: second-connect]
#[test]
fn a_second_connect_ends_the_connection() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.send(&Packet::Connect(clean(version, "a")));
        client.expect_end(ReasonCode::ProtocolError);
        // One that is malformed, or of another version, is none the better.
        for hex in ["10 00", "10 0d 0004 4d515454 06 02 0000 0001 61"] {
            let client = broker.connect(version, "a");
            client.send_hex(hex);
            client.expect_end(ReasonCode::ProtocolError);
        }
    }
}

// [MQTT-3.1.2-1]
// 3.1.1 [MQTT-3.1.2-1]
#[test]
fn another_protocol_name_ends_the_connection_without_an_answer() {
    for hex in [
        // "MQTX" at level 4, and "HTTP" at level 5.
        "10 0d 0004 4d515458 04 02 0000 0001 61",
        "10 0e 0004 48545450 05 02 0000 00 0001 61",
    ] {
        let broker = Broker::new();
        let client = broker.open(V311);
        client.send_hex(hex);
        client.expect_closed();
    }
}

// [MQTT-3.1.2-2]
// [MQTT-3.2.2-7]
// 3.1.1 [MQTT-3.1.2-2]
// 3.1.1 [MQTT-3.2.2-5]
#[test]
fn another_protocol_level_is_answered_in_the_nearest_version() {
    let broker = Broker::new();
    for (hex, version) in [
        ("10 0d 0004 4d515454 06 02 0000 0001 61", V5),
        ("10 0d 0004 4d515454 7f 02 0000 0001 61", V5),
        ("10 0d 0004 4d515454 03 02 0000 0001 61", V311),
        ("10 0d 0004 4d515454 00 02 0000 0001 61", V311),
        ("10 0f 0006 4d5149736470 04 02 0000 0001 61", V311),
        // Bridges set the highest bit, and try without it if they are told that the level is wrong.
        ("10 0d 0004 4d515454 84 02 0000 0001 61", V311),
        ("10 0f 0006 4d5149736470 83 02 0000 0001 61", V311),
    ] {
        let client = broker.open(version);
        client.send_hex(hex);
        client.expect_refusal(ReasonCode::UnsupportedProtocolVersion);
    }
}

// [MQTT-3.1.2-3]
// [MQTT-3.1.4-1]
// 3.1.1 [MQTT-3.1.2-3]
// 3.1.1 [MQTT-3.1.4-1]
#[test]
fn the_reserved_connect_flag_must_not_be_set() {
    let broker = Broker::new();
    let client = broker.open(V5);
    client.send_hex("10 0e 0004 4d515454 05 03 0000 00 0001 61");
    client.expect_refusal(ReasonCode::MalformedPacket);
    let client = broker.open(V311);
    client.send_hex("10 0d 0004 4d515454 04 03 0000 0001 61");
    client.expect_closed();
    // In 3.1 the bit has no meaning.
    let client = broker.open(V31);
    client.send_hex("10 0f 0006 4d5149736470 03 03 0000 0001 61");
    assert_eq!(client.next().connack().reason_code, ReasonCode::Success);
}

// [MQTT-3.1.2-11]
// [MQTT-3.1.2-12]
// [MQTT-3.1.2-13]
// 3.1.1 [MQTT-3.1.2-13]
// 3.1.1 [MQTT-3.1.2-14]
// 3.1.1 [MQTT-3.1.2-15]
// [attack: malformed-connect]
#[test]
fn will_flags_that_contradict_each_other_are_malformed() {
    // QoS 1 without a will, RETAIN without a will, a will at QoS 3.
    for flags in ["0a", "22", "1e"] {
        let broker = Broker::new();
        let client = broker.open(V5);
        client.send_hex(&format!("10 14 0004 4d515454 05 {flags} 0000 00 0001 61 00 0001 77 0000"));
        client.expect_refusal(ReasonCode::MalformedPacket);
        let client = broker.open(V311);
        client.send_hex(&format!("10 12 0004 4d515454 04 {flags} 0000 0001 61 0001 77 0000"));
        client.expect_closed();
    }
}

// [MQTT-3.1.4-1]
// [attack: malformed-connect]
#[test]
fn a_malformed_connect_of_5_0_is_told_so() {
    let broker = Broker::new();
    for (hex, reason_code) in [
        // A byte too many.
        ("10 0f 0004 4d515454 05 02 0000 00 0001 61 00", ReasonCode::MalformedPacket),
        // Receive Maximum 0.
        ("10 11 0004 4d515454 05 02 0000 03 21 0000 0001 61", ReasonCode::ProtocolError),
        // Session Expiry Interval twice.
        ("10 18 0004 4d515454 05 02 0000 0a 11 00000001 11 00000001 0001 61", ReasonCode::ProtocolError),
        // A Topic Alias, which belongs into PUBLISH.
        ("10 11 0004 4d515454 05 02 0000 03 23 0001 0001 61", ReasonCode::MalformedPacket),
        // Authentication data without a method.
        ("10 12 0004 4d515454 05 02 0000 04 16 0001 78 0001 61", ReasonCode::ProtocolError),
        // A client identifier that is not UTF-8, and one with U+0000.
        ("10 0e 0004 4d515454 05 02 0000 00 0001 ff", ReasonCode::MalformedPacket),
        ("10 0e 0004 4d515454 05 02 0000 00 0001 00", ReasonCode::MalformedPacket),
    ] {
        let client = broker.open(V5);
        client.send_hex(hex);
        client.expect_refusal(reason_code);
    }
}

// [MQTT-3.1.3-5]
// 3.1.1 [MQTT-3.1.3-5]
#[test]
fn client_identifiers_may_be_of_any_length_and_of_any_characters() {
    let long = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".repeat(10);
    for version in VERSIONS {
        let broker = Broker::new();
        for client_id in ["a", "0123456789abcdefghijklm", "ä/#+ \u{1f426}", &long] {
            broker.connect(version, client_id).ping();
        }
    }
}

// [MQTT-3.1.3-6]
// [MQTT-3.1.3-7]
// [MQTT-3.2.2-16]
#[test]
fn a_client_of_5_0_without_an_identifier_is_assigned_one_and_can_come_back_with_it() {
    for clean_start in [true, false] {
        let broker = Broker::new();
        let connect = Connect { clean_start, ..lasting(V5, "") };
        let (first, second) = (broker.send_connect(&connect), broker.send_connect(&connect));
        let (first_answer, second_answer) = (first.next(), second.next());
        let assigned = first_answer.connack().properties.assigned_client_identifier.unwrap();
        assert!(!first_answer.connack().session_present);
        assert_ne!(Some(assigned), second_answer.connack().properties.assigned_client_identifier);
        first.subscribe("a", 1);
        first.lose();
        let back = broker.resume(V5, assigned);
        assert!(back.session_present.get());
        second.publish("a", "x", 1);
        back.receive("a", "x", 1);
    }
}

#[test]
fn a_client_with_an_identifier_is_not_assigned_one() {
    let broker = Broker::new();
    let client = broker.send_connect(&clean(V5, "a"));
    assert_eq!(client.next().connack().properties.assigned_client_identifier, None);
}

// 3.1.1 [MQTT-3.1.3-6]
// 3.1.1 [MQTT-3.1.3-7]
#[test]
fn clients_of_3_1_1_without_an_identifier_are_told_apart() {
    let broker = Broker::new();
    let (first, second) = (broker.connect(V311, ""), broker.connect(V311, ""));
    first.ping();
    second.ping();
}

// 3.1.1 [MQTT-3.1.3-8]
// 3.1.1 [MQTT-3.1.3-9]
#[test]
fn a_client_of_3_1_1_without_an_identifier_needs_a_clean_session() {
    let broker = Broker::new();
    let client = broker.send_connect(&lasting(V311, ""));
    client.expect_refusal(ReasonCode::ClientIdentifierNotValid);
}

// [MQTT-3.1.3-8]
#[test]
fn a_client_of_3_1_needs_an_identifier() {
    let broker = Broker::new();
    for connect in [clean(V31, ""), lasting(V31, "")] {
        broker.send_connect(&connect).expect_refusal(ReasonCode::ClientIdentifierNotValid);
    }
}

// [MQTT-3.2.2-22]
#[test]
fn connack_tells_the_limits() {
    let broker = Broker::with_limits(|limits| {
        limits.receive_maximum = 7;
        limits.packet_size_maximum = 5000;
        limits.topic_alias_maximum = 3;
    });
    let client = broker.send_connect(&clean(V5, "a"));
    let answer = client.next();
    let properties = answer.connack().properties;
    assert_eq!(properties.receive_maximum.map(u16::from), Some(7));
    assert_eq!(properties.maximum_packet_size.map(u32::from), Some(5000));
    assert_eq!(properties.topic_alias_maximum, Some(3));
    // What the client asked for is granted, and what is available is not mentioned.
    assert_eq!(properties.session_expiry_interval, None);
    assert_eq!(properties.server_keep_alive, None);
    assert_eq!((properties.maximum_qos, properties.retain_available), (None, None));
    assert_eq!(properties.wildcard_subscription_available, None);
    assert_eq!(properties.subscription_identifier_available, None);
    assert_eq!(properties.shared_subscription_available, None);
}

// [MQTT-3.1.2-28]
// [MQTT-4.12.0-6]
#[test]
fn connack_has_nothing_that_was_not_asked_for() {
    let broker = Broker::with_limits(|limits| limits.topic_alias_maximum = 0);
    let mut connect = clean(V5, "a");
    connect.properties.request_response_information = Some(true);
    for connect in [clean(V5, "b"), connect] {
        let answer = broker.send_connect(&connect).next();
        let properties = answer.connack().properties;
        assert_eq!(properties.response_information, None);
        assert_eq!(properties.authentication_method, None);
        assert_eq!(properties.topic_alias_maximum, None, "0 is what its absence means");
    }
}

#[test]
fn connack_of_3_1_and_3_1_1_has_two_bytes() {
    for version in [V31, V311] {
        let broker = Broker::new();
        assert_eq!(broker.send_connect(&clean(version, "a")).next().size(), 4);
    }
}

// [MQTT-3.1.2-24]
// [MQTT-3.14.0-1]
#[test]
fn a_client_that_does_not_even_take_the_connack_is_let_go() {
    let broker = Broker::new();
    let other = broker.resume(V5, "a");
    let mut connect = clean(V5, "a");
    connect.properties.maximum_packet_size = std::num::NonZero::new(10);
    broker.send_connect(&connect).expect_closed();
    other.ping();
}

// [MQTT-3.2.2-19]
#[test]
fn a_refusal_is_no_larger_than_the_client_takes() {
    let broker = Broker::new();
    for (maximum, has_text) in [(4, None), (5, Some(false)), (200, Some(true))] {
        let mut connect = clean(V5, "a");
        connect.properties.authentication_method = Some("unknown");
        connect.properties.maximum_packet_size = std::num::NonZero::new(maximum);
        let client = broker.send_connect(&connect);
        if let Some(has_text) = has_text {
            let answer = client.next();
            assert_eq!(answer.connack().reason_code, ReasonCode::BadAuthenticationMethod);
            assert_eq!(answer.connack().properties.reason_string.is_some(), has_text);
        }
        client.expect_closed();
    }
}

#[test]
fn a_connect_may_arrive_byte_by_byte_and_with_packets_behind_it() {
    for version in VERSIONS {
        for chunk in [1, 2, 7] {
            let broker = Broker::new();
            broker.split(chunk);
            let mut bytes = Vec::new();
            for packet in [Packet::Connect(clean(version, "a")), Packet::PingReq, Packet::PingReq] {
                packet.encode(version, &mut bytes).unwrap();
            }
            let client = broker.open(version);
            client.send_bytes(&bytes);
            assert_eq!(client.next().connack().reason_code, ReasonCode::Success);
            client.expect(&Packet::PingResp);
            client.expect(&Packet::PingResp);
            client.expect_nothing();
        }
    }
}

// [MQTT-3.1.4-6]
// 3.1.1 [MQTT-3.1.4-5]
#[test]
fn what_follows_a_refused_connect_is_not_handled() {
    let mut of_5_0 = clean(V5, "a");
    of_5_0.properties.authentication_method = Some("unknown");
    for (connect, reason_code) in [
        (lasting(V31, ""), ReasonCode::ClientIdentifierNotValid),
        (lasting(V311, ""), ReasonCode::ClientIdentifierNotValid),
        (of_5_0, ReasonCode::BadAuthenticationMethod),
    ] {
        let broker = Broker::new();
        let watch = broker.connect(V311, "watch");
        watch.subscribe("#", 0);
        let mut bytes = Vec::new();
        connect.encode(&mut bytes).unwrap();
        bytes.extend(message("a", "x").encode(connect.version));
        let client = broker.open(connect.version);
        client.send_bytes(&bytes);
        client.expect_refusal(reason_code);
        watch.expect_nothing();
    }
}

// [attack: announced-length]
#[test]
fn a_connect_larger_than_allowed_ends_the_connection_before_it_has_come() {
    let broker = Broker::with_limits(|limits| limits.connect_packet_size_maximum = 100);
    let long = "x".repeat(100);
    broker.send_connect(&clean(V5, &long)).expect_closed();
    let client = broker.open(V5);
    client.send_hex("10 ff ff ff 7f");
    client.expect_closed();
}

// [attack: no-connect]
#[test]
fn a_connection_on_which_no_connect_comes_is_closed_in_time() {
    let broker = Broker::with_limits(|limits| limits.connect_timeout_s = 5);
    let (silent, slow) = (broker.open(V5), broker.open(V5));
    broker.advance_ms(4999);
    slow.send_hex("10 0e");
    silent.expect_nothing();
    broker.advance_ms(1);
    silent.expect_closed();
    slow.expect_closed();
}

#[test]
fn a_client_without_keep_alive_outlives_the_time_for_its_connect() {
    let broker = Broker::with_limits(|limits| limits.connect_timeout_s = 5);
    let client = broker.connect(V311, "a");
    broker.advance_s(100_000);
    client.ping();
}
