use lapwing_proto::packet::{Packet, ProtocolVersion, ReasonCode};

use super::broker::Broker;
use super::message::message;
use super::{V5, V31, V311, VERSIONS};

/// These bytes end a connection with this Reason Code, whole or in pieces, and change nothing else.
fn ends(version: ProtocolVersion, hex: &str, reason_code: ReasonCode) {
    for chunk in [usize::MAX, 1, 3] {
        let broker = Broker::new();
        let watch = broker.connect(V5, "watch");
        watch.subscribe("#", 0);
        broker.split(chunk);
        let client = broker.connect(version, "a");
        client.send_hex(hex);
        client.expect_end(reason_code);
        assert_eq!(broker.stat().disconnected_by_broker.get(reason_code), 1, "{version} {hex}");
        watch.expect_nothing();
        watch.ping();
    }
}

// [MQTT-4.13.1-1]
// 3.1.1 [MQTT-4.8.0-1]
#[test]
fn there_is_no_packet_type_0() {
    for version in VERSIONS {
        ends(version, "00 00", ReasonCode::MalformedPacket);
    }
}

// 3.1.1 [MQTT-4.8.0-1]
#[test]
fn before_5_0_there_is_no_packet_type_15() {
    for version in [V31, V311] {
        ends(version, "f0 00", ReasonCode::MalformedPacket);
    }
}

// [MQTT-1.5.5-1]
// [attack: long-variable-integer]
#[test]
fn the_remaining_length_has_at_most_four_bytes() {
    for version in VERSIONS {
        ends(version, "30 ff ff ff ff", ReasonCode::MalformedPacket);
    }
    // 5.0 wants no more bytes than needed, too.
    ends(V5, "c0 80 00", ReasonCode::MalformedPacket);
}

// [MQTT-2.1.3-1]
// [MQTT-3.6.1-1]
// [MQTT-3.8.1-1]
// [MQTT-3.10.1-1]
// [MQTT-3.14.1-1]
// 3.1.1 [MQTT-2.2.2-2]
// 3.1.1 [MQTT-3.6.1-1]
// 3.1.1 [MQTT-3.8.1-1]
// 3.1.1 [MQTT-3.10.1-1]
// 3.1.1 [MQTT-3.14.1-1]
#[test]
fn reserved_flag_bits_are_checked() {
    for version in [V311, V5] {
        for hex in
            ["41 02 0001", "50 00", "60 02 0001", "6a 02 0001", "80 00", "a0 00", "a3 00", "c1 00", "e8 00"]
        {
            ends(version, hex, ReasonCode::MalformedPacket);
        }
    }
}

// [MQTT-3.3.1-4]
// [MQTT-3.3.1-2]
// 3.1.1 [MQTT-3.3.1-4]
#[test]
fn flags_of_publish_are_checked() {
    for version in VERSIONS {
        ends(version, "36 05 0001 61 0001", ReasonCode::MalformedPacket);
    }
    ends(V311, "38 03 0001 61", ReasonCode::MalformedPacket);
    ends(V5, "38 04 0001 61 00", ReasonCode::MalformedPacket);
}

// [MQTT-2.2.1-3]
// 3.1.1 [MQTT-2.3.1-1]
// [attack: packet-identifier-0]
#[test]
fn packet_identifier_0_does_not_exist() {
    for version in VERSIONS {
        ends(version, "40 02 0000", ReasonCode::ProtocolError);
        ends(version, "62 02 0000", ReasonCode::ProtocolError);
    }
    ends(V311, "32 05 0001 61 0000", ReasonCode::ProtocolError);
    ends(V5, "32 06 0001 61 0000 00", ReasonCode::ProtocolError);
    ends(V311, "82 06 0000 0001 61 00", ReasonCode::ProtocolError);
    ends(V5, "82 07 0000 00 0001 61 00", ReasonCode::ProtocolError);
    ends(V5, "a2 06 0000 00 0001 61", ReasonCode::ProtocolError);
}

// [MQTT-3.3.2-2]
// [MQTT-4.7.0-1]
// [MQTT-4.7.3-1]
// [MQTT-4.7.3-2]
// [MQTT-1.5.4-1]
// [MQTT-1.5.4-2]
// 3.1.1 [MQTT-3.3.2-2]
// 3.1.1 [MQTT-4.7.1-1]
// 3.1.1 [MQTT-4.7.3-2]
// 3.1.1 [MQTT-1.5.3-1]
// 3.1.1 [MQTT-1.5.3-2]
// [attack: invalid-utf-8]
#[test]
fn topic_names_are_checked() {
    for version in VERSIONS {
        let end = if version == V5 { " 00" } else { "" };
        let length = if version == V5 { 6 } else { 5 };
        // Wildcards, U+0000, half a character, a surrogate.
        for name in ["61 2f 2b", "61 2f 23", "61 00 61", "61 61 c3", "ed a0 80"] {
            ends(version, &format!("30 0{length} 0003 {name}{end}"), ReasonCode::MalformedPacket);
        }
    }
    ends(V311, "30 02 0000", ReasonCode::MalformedPacket);
}

// [MQTT-3.3.2-1]
// [attack: empty-topic]
#[test]
fn a_publish_of_5_0_has_a_name_or_an_alias() {
    ends(V5, "30 03 0000 00", ReasonCode::ProtocolError);
}

// [MQTT-3.8.3-2]
// [MQTT-3.10.3-2]
// 3.1.1 [MQTT-3.8.3-3]
// 3.1.1 [MQTT-3.10.3-2]
#[test]
fn a_subscribe_and_an_unsubscribe_have_a_filter() {
    for version in [V31, V311] {
        ends(version, "82 02 0001", ReasonCode::ProtocolError);
        ends(version, "a2 02 0001", ReasonCode::ProtocolError);
    }
    ends(V5, "82 03 0001 00", ReasonCode::ProtocolError);
    ends(V5, "a2 03 0001 00", ReasonCode::ProtocolError);
}

// [MQTT-4.7.1-1]
// [MQTT-4.7.1-2]
// [MQTT-4.8.2-1]
// [MQTT-4.8.2-2]
// 3.1.1 [MQTT-4.7.1-2]
// 3.1.1 [MQTT-4.7.1-3]
// [attack: invalid-utf-8]
#[test]
fn topic_filters_are_checked() {
    for version in VERSIONS {
        let property = if version == V5 { "00" } else { "" };
        for filter in ["a#", "#/a", "a+", "a/+b", "", "$share/g", "$share//a", "$share/+/a", "$share/g/"] {
            let text: String = filter.bytes().map(|byte| format!("{byte:02x}")).collect();
            let length = 2 + property.len() / 2 + 2 + filter.len() + 1;
            let hex = format!("82 {length:02x} 0001 {property} {:04x} {text} 00", filter.len());
            ends(version, &hex, ReasonCode::MalformedPacket);
        }
    }
}

// [MQTT-3.8.3-5]
// 3.1.1 [MQTT-3.8.3-4]
#[test]
fn subscription_options_are_checked() {
    ends(V311, "82 06 0001 0001 61 03", ReasonCode::MalformedPacket);
    ends(V311, "82 06 0001 0001 61 04", ReasonCode::MalformedPacket);
    ends(V5, "82 07 0001 00 0001 61 03", ReasonCode::ProtocolError);
    ends(V5, "82 07 0001 00 0001 61 30", ReasonCode::ProtocolError);
    ends(V5, "82 07 0001 00 0001 61 40", ReasonCode::MalformedPacket);
    ends(V5, "82 07 0001 00 0001 61 80", ReasonCode::MalformedPacket);
}

// [MQTT-3.8.3-4]
#[test]
fn no_local_is_not_for_shared_subscriptions() {
    // $share/g/a
    ends(V5, "82 10 0001 00 000a 24736861 72652f67 2f61 04", ReasonCode::ProtocolError);
}

#[test]
fn a_subscription_identifier_is_not_0() {
    ends(V5, "82 09 0001 02 0b00 0001 61 00", ReasonCode::ProtocolError);
}

// [MQTT-3.3.4-6]
#[test]
fn a_client_publishes_without_subscription_identifiers() {
    ends(V5, "30 06 0001 61 02 0b01", ReasonCode::ProtocolError);
}

#[test]
fn properties_are_checked() {
    // A property twice, one that PUBLISH cannot have, one that there is not, and a length beyond the packet.
    ends(V5, "30 08 0001 61 04 0101 0101", ReasonCode::ProtocolError);
    ends(V5, "30 07 0001 61 03 21 0001", ReasonCode::MalformedPacket);
    ends(V5, "30 06 0001 61 02 7f01", ReasonCode::MalformedPacket);
    ends(V5, "30 04 0001 61 09", ReasonCode::MalformedPacket);
    // Payload Format Indicator 2; a Response Topic with a wildcard [MQTT-3.3.2-14].
    ends(V5, "30 06 0001 61 02 0102", ReasonCode::ProtocolError);
    ends(V5, "30 08 0001 61 04 08 0001 23", ReasonCode::MalformedPacket);
}

// [attack: truncated-packet]
#[test]
fn packets_that_end_too_early_or_too_late_are_malformed() {
    for version in VERSIONS {
        for hex in ["40 01 00", "30 01 00", "30 02 0005", "c0 01 00", "82 01 00"] {
            ends(version, hex, ReasonCode::MalformedPacket);
        }
    }
    ends(V311, "40 03 0001 00", ReasonCode::MalformedPacket);
    ends(V311, "e0 01 00", ReasonCode::MalformedPacket);
    ends(V311, "82 07 0001 0001 61 00 00", ReasonCode::MalformedPacket);
}

#[test]
fn reason_codes_are_checked() {
    // PUBACK with 0x92, PUBREL with 0x10, and a code that there is not.
    ends(V5, "40 03 0001 92", ReasonCode::ProtocolError);
    ends(V5, "62 03 0001 10", ReasonCode::ProtocolError);
    ends(V5, "50 03 0001 7e", ReasonCode::ProtocolError);
}

// [attack: server-packets]
#[test]
fn packets_that_only_servers_send_end_the_connection() {
    for version in VERSIONS {
        ends(version, "d0 00", ReasonCode::ProtocolError);
    }
    for version in [V31, V311] {
        for hex in ["20 02 00 00", "90 03 0001 00", "b0 02 0001"] {
            ends(version, hex, ReasonCode::ProtocolError);
        }
    }
    for hex in ["20 03 00 00 00", "90 04 0001 00 00", "b0 04 0001 00 00"] {
        ends(V5, hex, ReasonCode::ProtocolError);
    }
}

// [MQTT-4.12.0-7]
// [MQTT-3.15.1-1]
#[test]
fn an_auth_that_was_not_agreed_upon_ends_the_connection() {
    ends(V5, "f0 00", ReasonCode::ProtocolError);
    ends(V5, "f0 06 18 04 15 0001 78", ReasonCode::ProtocolError);
    ends(V5, "f1 00", ReasonCode::MalformedPacket);
}

#[test]
fn what_stands_before_the_fault_is_handled_and_what_stands_behind_it_is_not() {
    for version in VERSIONS {
        let broker = Broker::new();
        let watch = broker.connect(V311, "watch");
        watch.subscribe("#", 0);
        let client = broker.connect(version, "a");
        let mut bytes = message("a", "before").encode(version);
        bytes.extend([0xc0, 0, 0, 0]);
        bytes.extend(message("a", "behind").encode(version));
        client.send_bytes(&bytes);
        client.expect(&Packet::PingResp);
        client.expect_end(ReasonCode::MalformedPacket);
        watch.receive("a", "before", 0);
        watch.expect_nothing();
    }
}

#[test]
fn what_3_1_does_not_forbid_is_allowed() {
    let broker = Broker::new();
    let client = broker.connect(V31, "a");
    // DUP at QoS 0 and on a SUBSCRIBE, and free bits in the options.
    client.send_hex("38 03 0001 61");
    client.send_hex("8a 06 0001 0001 61 04");
    client.take_first(lapwing_proto::packet::PacketType::SubAck);
    client.ping();
}
