//! Properties of all packets: what is encoded is decoded, however the stream is cut, and no bytes do harm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use lapwing_proto::fuzzing;
use lapwing_proto::packet::{
    Ack, AckProperties, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    EncodeError, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketType, ProtocolVersion, Publish, PublishProperties,
    QoS, ReasonCode, SubAck, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions, Unsubscribe,
    UnsubscribeProperties, Will, WillProperties,
};
use lapwing_proto::topic::TopicName;
use proptest::prelude::*;
use proptest::sample::Index;

mod strategy;
use strategy::{leak, packet, version};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What was encoded is decoded as the same packet, less what the version does not have.
    #[test]
    fn what_is_encoded_is_decoded((version, packet) in version().prop_flat_map(|v| (Just(v), packet(v)))) {
        let mut bytes = b"before".to_vec();
        let result = packet.encode(version, &mut bytes);
        let size = packet.size(version);
        let (before, mut rest) = bytes.split_at(6);
        prop_assert_eq!(before, b"before");
        prop_assert_eq!(size, result.map(|()| rest.len()));
        if let Some(refusal) = refusal(&packet, version) {
            prop_assert_eq!(result, Err(refusal));
            return Ok(());
        }
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(Frame::declared_size(rest), Some(rest.len()));
        if let Packet::Publish(publish) = packet {
            prop_assert_eq!(publish.size(version), Ok(rest.len()));
            check_packet_id_offset(&publish, version, rest)?;
            check_known(&publish, version, rest)?;
        }
        let frame = Frame::split(&mut rest, MAXIMUM_PACKET_SIZE).unwrap().expect("a whole packet");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(Packet::decode(frame, version), Ok(normalise(packet, version)));
    }

    /// A stream gives the same packets, wherever it is cut.
    #[test]
    fn any_cut_gives_the_same_packets(
        (version, packets) in version().prop_flat_map(|v| (Just(v), prop::collection::vec(packet(v), 1..6))),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let packets: Vec<_> = packets.into_iter().filter(|p| refusal(p, version).is_none()).collect();
        let mut stream = Vec::new();
        for packet in &packets {
            packet.encode(version, &mut stream).unwrap();
        }
        let expected: Vec<_> = packets.iter().map(|&packet| normalise(packet, version)).collect();
        let bytes = stream.chunks(1);
        prop_assert_eq!(split(bytes, version)?, expected.clone());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
        prop_assert_eq!(split(pieces, version)?, expected);
    }

    /// Any bytes are a packet that can be written again, or a fault, or the beginning of a packet.
    // [attack: garbage]
    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::decode(&bytes);
    }

    /// As above, with fixed headers that fit, so that what is behind them is reached.
    // [attack: garbage]
    #[test]
    fn any_bytes_behind_a_header_do_no_harm(
        version in 0u8..3,
        packets in prop::collection::vec((any::<u8>(), prop::collection::vec(likely_byte(), 0..60)), 1..4),
    ) {
        let mut data = vec![version];
        for (first, body) in packets {
            data.extend([first, body.len() as u8]);
            data.extend(body);
        }
        fuzzing::decode(&data);
    }

    /// Valid packets with a few bytes changed, taken out or put in.
    // [attack: garbage]
    #[test]
    fn a_damaged_packet_does_no_harm(
        (version, packet) in version().prop_flat_map(|v| (Just(v), packet(v))),
        damages in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..5),
        repair_length in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        if packet.encode(version, &mut bytes).is_err() {
            return Ok(()); // what has no bytes is the first test's matter
        }
        for (at, byte, kind) in damages {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte & 7),
                2 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        // Damage that only changes the length is seldom looked at more closely, so it is mended half the time.
        if repair_length && (2..=129).contains(&bytes.len()) {
            bytes[1] = bytes.len() as u8 - 2;
        }
        bytes.insert(0, version as u8);
        fuzzing::decode(&bytes);
    }

    /// The header alone tells that a packet is too large, before its other bytes are there.
    // [attack: announced-length]
    #[test]
    fn a_packet_is_refused_by_its_header(
        limit in 2u32..200,
        (version, packet) in version().prop_flat_map(|v| (Just(v), packet(v))),
    ) {
        let mut bytes = Vec::new();
        if packet.encode(version, &mut bytes).is_err() {
            return Ok(()); // what has no bytes is the first test's matter
        }
        for mut input in [&bytes[..], &bytes[..bytes.len().min(5)]] {
            match Frame::split(&mut input, limit) {
                Ok(_) => prop_assert!(bytes.len() <= limit as usize),
                Err(error) => {
                    prop_assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
                    prop_assert!(bytes.len() > limit as usize);
                }
            }
        }
    }
}

/// Feeds the pieces to a buffer and takes packets off it as soon as they are whole.
fn split<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    version: ProtocolVersion,
) -> Result<Vec<Packet<'static>>, TestCaseError> {
    let mut buffer = Vec::new();
    let mut packets = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut input = &buffer[..];
        loop {
            let before = input;
            match Frame::split(&mut input, MAXIMUM_PACKET_SIZE).unwrap() {
                None => {
                    prop_assert_eq!(input, before);
                    prop_assert!(Frame::declared_size(input).is_none_or(|size| size > input.len()));
                    break;
                }
                Some(_) => {
                    let taken = &before[..before.len() - input.len()];
                    prop_assert_eq!(Frame::declared_size(before), Some(taken.len()));
                    let mut taken = leak(taken.to_vec());
                    let frame = Frame::split(&mut taken, MAXIMUM_PACKET_SIZE);
                    packets.push(Packet::decode(frame.unwrap().unwrap(), version).unwrap());
                }
            }
        }
        let taken = buffer.len() - input.len();
        buffer.drain(..taken);
    }
    prop_assert!(buffer.is_empty(), "{} bytes are left", buffer.len());
    Ok(packets)
}

fn check_packet_id_offset(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let offset = publish.packet_id_offset(version).unwrap();
    if let (Some(id), true) = (publish.packet_id, publish.qos > QoS::AtMostOnce) {
        prop_assert_eq!(&bytes[offset..offset + 2], id.get().to_be_bytes());
    }
    Ok(())
}

/// Whatever topic name is known, the packet is the same.
fn check_known(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    mut bytes: &[u8],
) -> Result<(), TestCaseError> {
    let frame = Frame::split(&mut bytes, MAXIMUM_PACKET_SIZE).unwrap().expect("a whole packet");
    let decoded = Publish::decode(frame, version);
    let other = TopicName::new("another/name").unwrap();
    for known in [publish.topic, Some(other)] {
        let with_known = Publish::decode_known(frame, version, known);
        prop_assert_eq!(with_known, decoded);
        if let (Some(known), Some(topic)) = (known, with_known.ok().and_then(|publish| publish.topic)) {
            prop_assert_eq!(known == topic, std::ptr::eq(known.as_str(), topic.as_str()));
        }
    }
    Ok(())
}

/// Bytes that lengths, property identifiers, flags and letters are made of.
fn likely_byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0), 4 => 0u8..6, 2 => 0u8..0x30, 1 => Just(b'a'), 1 => Just(0x26), 2 => any::<u8>()]
}

/// Why there are no bytes for the packet, if so.
fn refusal(packet: &Packet<'_>, version: ProtocolVersion) -> Option<EncodeError> {
    let is_v5 = version == ProtocolVersion::V5;
    match packet {
        Packet::Connect(p) if p.password.is_some() && p.user_name.is_none() && !is_v5 => {
            Some(EncodeError::PasswordWithoutUserName)
        }
        Packet::Connect(p) => {
            let ConnectProperties { authentication_method, authentication_data, .. } = p.properties;
            let lacks_method = authentication_data.is_some() && authentication_method.is_none();
            (is_v5 && lacks_method).then_some(EncodeError::NoAuthenticationMethod)
        }
        Packet::Publish(p) if p.topic.is_none() && (p.properties.topic_alias.is_none() || !is_v5) => {
            Some(EncodeError::NoTopic)
        }
        Packet::Publish(p) if p.packet_id.is_none() && p.qos > QoS::AtMostOnce => {
            Some(EncodeError::NoPacketId)
        }
        Packet::Auth(_) if !is_v5 => Some(EncodeError::NotInVersion(PacketType::Auth, version)),
        Packet::Auth(p) => {
            let is_empty = p.reason_code == ReasonCode::Success && p.properties == AuthProperties::default();
            let lacks_method = p.properties.authentication_method.is_none();
            (lacks_method && !is_empty).then_some(EncodeError::NoAuthenticationMethod)
        }
        Packet::Subscribe(p) if p.subscriptions.is_empty() => Some(EncodeError::Empty(PacketType::Subscribe)),
        Packet::Unsubscribe(p) if p.filters.is_empty() => Some(EncodeError::Empty(PacketType::Unsubscribe)),
        Packet::SubAck(p) if p.reason_codes.is_empty() => Some(EncodeError::Empty(PacketType::SubAck)),
        Packet::UnsubAck(p) if p.reason_codes.is_empty() && is_v5 => {
            Some(EncodeError::Empty(PacketType::UnsubAck))
        }
        _ => None,
    }
}

/// The packet as the other end gets it.
fn normalise(mut packet: Packet<'static>, version: ProtocolVersion) -> Packet<'static> {
    match &mut packet {
        Packet::Publish(p) if p.qos == QoS::AtMostOnce => {
            p.dup = false;
            p.packet_id = None;
        }
        Packet::ConnAck(p) => {
            p.session_present &= !p.reason_code.is_error();
            p.properties.maximum_qos = p.properties.maximum_qos.filter(|&qos| qos != QoS::ExactlyOnce);
        }
        _ => {}
    }
    if version == ProtocolVersion::V5 { packet } else { without_v5(packet, version) }
}

/// Without properties, and without the reason codes that 5.0 added.
fn without_v5(packet: Packet<'static>, version: ProtocolVersion) -> Packet<'static> {
    let plain = |ack: Ack<'_>| Ack::new(ack.packet_id, ReasonCode::Success);
    match packet {
        Packet::Connect(p) => {
            let will = p.will.map(|will| Will { properties: WillProperties::default(), ..will });
            Packet::Connect(Connect { will, properties: ConnectProperties::default(), ..p })
        }
        Packet::ConnAck(p) => Packet::ConnAck(ConnAck {
            session_present: p.session_present && version != ProtocolVersion::V31,
            reason_code: return_code(p.reason_code),
            properties: ConnAckProperties::default(),
        }),
        Packet::Publish(p) => Packet::Publish(Publish { properties: PublishProperties::default(), ..p }),
        Packet::PubAck(p) => Packet::PubAck(plain(p)),
        Packet::PubRec(p) => Packet::PubRec(plain(p)),
        Packet::PubRel(p) => Packet::PubRel(plain(p)),
        Packet::PubComp(p) => Packet::PubComp(plain(p)),
        Packet::Subscribe(p) => {
            let plain = |s: Subscription<'static>| Subscription {
                options: SubscriptionOptions::new(s.options.qos),
                ..s
            };
            let subscriptions: Vec<_> = p.subscriptions.iter().map(plain).collect();
            let properties = SubscribeProperties::default();
            Packet::Subscribe(Subscribe { properties, subscriptions: leak(subscriptions).into(), ..p })
        }
        Packet::SubAck(p) => {
            let plain = |code: ReasonCode| if code.is_error() { ReasonCode::UnspecifiedError } else { code };
            let codes: Vec<_> = p.reason_codes.iter().map(plain).collect();
            let properties = AckProperties::default();
            Packet::SubAck(SubAck { properties, reason_codes: leak(codes).into(), ..p })
        }
        Packet::Unsubscribe(p) => {
            Packet::Unsubscribe(Unsubscribe { properties: UnsubscribeProperties::default(), ..p })
        }
        Packet::UnsubAck(p) => Packet::UnsubAck(SubAck::new(p.packet_id, &[])),
        Packet::Disconnect(_) => Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
        Packet::PingReq | Packet::PingResp | Packet::Auth(_) => packet,
    }
}

/// What is left of a reason code in the six return codes of CONNACK.
fn return_code(code: ReasonCode) -> ReasonCode {
    match code {
        ReasonCode::Success
        | ReasonCode::UnsupportedProtocolVersion
        | ReasonCode::ClientIdentifierNotValid
        | ReasonCode::BadUserNameOrPassword
        | ReasonCode::NotAuthorized => code,
        ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => ReasonCode::NotAuthorized,
        _ => ReasonCode::ServerUnavailable,
    }
}

// [MQTT-1.5.4-2]
// 3.1.1 [MQTT-1.5.3-2]
#[test]
fn a_string_with_null_is_not_written() {
    let mut bytes = Vec::new();
    let mut connect = Connect::new(ProtocolVersion::V311, "a\0");
    assert_eq!(connect.encode(&mut bytes), Err(EncodeError::Null));
    connect.client_id = "a";
    connect.user_name = Some("\0");
    assert_eq!(connect.encode(&mut bytes), Err(EncodeError::Null));
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.properties.reason_string = Some("no\0");
    assert_eq!(disconnect.encode(ProtocolVersion::V5, &mut bytes), Err(EncodeError::Null));
    assert!(bytes.is_empty());
    assert_eq!(disconnect.encode(ProtocolVersion::V311, &mut bytes), Ok(()), "3.1.1 has no reason string");
}

#[test]
fn what_is_too_long_is_not_written() {
    let mut bytes = Vec::new();
    let long = "x".repeat(65_536);
    let connect = Connect::new(ProtocolVersion::V5, &long);
    assert_eq!(connect.encode(&mut bytes), Err(EncodeError::FieldTooLong(65_536)));
    let connect = Connect::new(ProtocolVersion::V5, &long[1..]);
    assert_eq!(connect.encode(&mut bytes), Ok(()));
    bytes.clear();
    let payload = vec![0; 268_435_455 - 2];
    let topic = TopicName::new("t").unwrap();
    let publish = Publish::new(topic, &payload);
    let result = publish.encode(ProtocolVersion::V311, &mut bytes);
    assert_eq!(result, Err(EncodeError::PacketTooLong(268_435_456)));
    assert!(bytes.is_empty());
    let largest = Publish::new(topic, &payload[1..]).size(ProtocolVersion::V311);
    assert_eq!(largest, Ok(MAXIMUM_PACKET_SIZE as usize));
}
