//! Statements that bind a client, each shown for itself and for every version that has it.
#![allow(clippy::unwrap_used, reason = "the tests play with packets that they make themselves")]

use lapwing_proto::packet::{
    Ack, Auth, ConnAck, Disconnect, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode,
    SubscribeProperties, Subscription, SubscriptionIdentifier, SubscriptionOptions, TopicAlias,
};
use lapwing_proto::session::{
    CleanStart, ClientError, ConnectOptions, Event, PublishError, RequestError, SessionError,
};
use lapwing_proto::topic::{TopicFilter, TopicName};

mod played;

use played::{NOW, Played, V5, after, id, message, packets, publishes};

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, V5];

fn connected(version: ProtocolVersion) -> Played {
    Played::connected(ConnectOptions::new(version, "c"), ConnAck::new(false, ReasonCode::Success))
}

// [MQTT-3.1.0-1]
// 3.1.1 [MQTT-3.1.0-1]
#[test]
fn connect_comes_first() {
    for version in VERSIONS {
        let mut played = Played::new(ConnectOptions::new(version, "c"));
        played.publish(QoS::AtLeastOnce);
        assert_eq!(played.sent(), []);
        played.client.connected(NOW);
        played.publish(QoS::ExactlyOnce);
        assert_eq!(played.sent(), [PacketType::Connect]);
        played.answer(Packet::ConnAck(ConnAck::new(false, ReasonCode::Success))).unwrap();
        assert_eq!(played.sent(), [PacketType::Publish, PacketType::Publish]);
    }
}

// [MQTT-3.1.2-30]
#[test]
fn only_auth_and_disconnect_before_connack_with_an_authentication_method() {
    let mut options = ConnectOptions::new(V5, "c");
    options.authentication_method = Some("m".into());
    let mut played = Played::new(options);
    played.client.connected(NOW);
    assert_eq!(played.sent(), [PacketType::Connect]);
    let step = Auth::new(ReasonCode::ContinueAuthentication, "m", b"");
    played.answer(Packet::Auth(step)).unwrap();
    played.publish(QoS::AtLeastOnce);
    let filter = TopicFilter::new("a").unwrap();
    let subscription = Subscription { filter, options: SubscriptionOptions::default() };
    let subscribed = played.client.subscribe(&[subscription], SubscribeProperties::default());
    assert_eq!(subscribed, Err(RequestError::NotConnected));
    assert_eq!(played.sent(), []);
    played.client.auth(b"").unwrap();
    assert_eq!(played.sent(), [PacketType::Auth]);
}

// [MQTT-4.12.0-7]
#[test]
fn no_auth_without_an_authentication_method() {
    let mut played = Played::v5();
    assert_eq!(played.client.auth(b"x"), Err(RequestError::NoAuthentication));
    assert_eq!(played.client.reauthenticate(b"x"), Err(RequestError::NoAuthentication));
    assert_eq!(played.sent(), []);
}

// [MQTT-3.14.4-1], [MQTT-3.14.4-2]
// 3.1.1 [MQTT-3.14.4-1], [MQTT-3.14.4-2]
#[test]
fn a_disconnect_is_the_last_packet() {
    for version in VERSIONS {
        let mut played = connected(version);
        played.publish(QoS::ExactlyOnce);
        played.output();
        played.client.disconnect(ReasonCode::Success, None).unwrap();
        assert!(played.client.is_closing());
        assert_eq!(played.sent(), [PacketType::Disconnect]);
        played.answer(Packet::PubRec(Ack::new(id(1), ReasonCode::Success))).unwrap();
        played.answer(Packet::Publish(message("t", QoS::AtLeastOnce, 1))).unwrap();
        played.publish(QoS::AtLeastOnce);
        played.client.handle_timeout(after(3600)).unwrap();
        assert_eq!(played.sent(), []);
    }
}

// [MQTT-2.2.1-2], [MQTT-2.2.1-5], [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2], [MQTT-4.3.3-4]
// 3.1.1 [MQTT-2.3.1-5], [MQTT-2.3.1-6], [MQTT-4.3.1-1], [MQTT-4.3.2-1], [MQTT-4.3.3-1]
#[test]
fn a_new_message_has_a_new_identifier_and_no_dup() {
    for version in VERSIONS {
        let mut played = connected(version);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            played.publish(qos);
        }
        let output = played.output();
        let wanted =
            [(0, QoS::AtMostOnce, false), (1, QoS::AtLeastOnce, false), (2, QoS::ExactlyOnce, false)];
        assert_eq!(publishes(&output, version), wanted);
        played.answer(Packet::PubRec(Ack::new(id(2), ReasonCode::Success))).unwrap();
        let output = played.output();
        assert_eq!(packets(&output, version), [Packet::PubRel(Ack::new(id(2), ReasonCode::Success))]);
    }
}

// [MQTT-2.2.1-5], [MQTT-3.3.4-1], [MQTT-4.3.3-11], [MQTT-4.5.0-2], [MQTT-4.6.0-2], [MQTT-4.6.0-3]
// 3.1.1 [MQTT-2.3.1-6], [MQTT-3.3.4-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2], [MQTT-4.5.0-2], [MQTT-4.6.0-2]
// 3.1.1 [MQTT-4.6.0-3]
#[test]
fn every_message_is_acknowledged_by_its_qos_and_in_order() {
    for version in VERSIONS {
        let mut played = connected(version);
        played.answer(Packet::Publish(message("t", QoS::AtMostOnce, 0))).unwrap();
        for (number, qos) in [(9, 2), (5, 1), (7, 2), (6, 1)] {
            played.answer(Packet::Publish(message("t", QoS::from_bits(qos).unwrap(), number))).unwrap();
        }
        for _ in 0..5 {
            played.message();
        }
        let ack = |number| Ack::new(id(number), ReasonCode::Success);
        let output = played.output();
        let wanted =
            [Packet::PubRec(ack(9)), Packet::PubAck(ack(5)), Packet::PubRec(ack(7)), Packet::PubAck(ack(6))];
        assert_eq!(packets(&output, version), wanted);
        // A QoS 2 message that comes again is answered again and not given again, until it is released.
        played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 9))).unwrap();
        assert!(played.client.poll_event().is_none());
        played.answer(Packet::PubRel(ack(9))).unwrap();
        let output = played.output();
        assert_eq!(packets(&output, version), [Packet::PubRec(ack(9)), Packet::PubComp(ack(9))]);
        played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 9))).unwrap();
        played.answer(Packet::Publish(message("t", QoS::AtLeastOnce, 5))).unwrap();
        assert_eq!((played.message().packet_id(), played.message().packet_id()), (Some(id(9)), Some(id(5))));
    }
}

// [MQTT-4.4.0-2]
#[test]
fn a_refused_message_is_not_sent_again() {
    let mut options = ConnectOptions::new(V5, "c");
    options.clean_start = CleanStart::Never;
    let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
    played.publish(QoS::AtLeastOnce);
    played.publish(QoS::ExactlyOnce);
    played.publish(QoS::AtLeastOnce);
    played.output();
    played.answer(Packet::PubAck(Ack::new(id(1), ReasonCode::NotAuthorized))).unwrap();
    played.answer(Packet::PubRec(Ack::new(id(2), ReasonCode::QuotaExceeded))).unwrap();
    assert_eq!(played.sent(), []);
    played.reconnect(true);
    let output = played.output();
    assert_eq!(publishes(&output, V5), [(3, QoS::AtLeastOnce, true)]);
}

// [MQTT-3.3.2-7]
#[test]
fn aliases_end_with_the_connection() {
    let mut options = ConnectOptions::new(V5, "c");
    options.topic_alias_maximum = 1;
    options.limits.topic_aliases = 1;
    let mut connack = ConnAck::new(false, ReasonCode::Success);
    connack.properties.topic_alias_maximum = Some(1);
    let mut played = Played::connected(options, connack);
    let sent = |played: &mut Played| {
        played.publish(QoS::AtMostOnce);
        let output = played.output();
        let [Packet::Publish(publish)] = packets(&output, V5)[..] else { panic!() };
        (publish.topic.map(|topic| topic.as_str().to_owned()), publish.properties.topic_alias)
    };
    assert_eq!(sent(&mut played), (Some("t".to_owned()), TopicAlias::new(1)));
    assert_eq!(sent(&mut played), (None, TopicAlias::new(1)));
    let mut publish = message("t", QoS::AtMostOnce, 0);
    publish.properties.topic_alias = TopicAlias::new(1);
    played.answer(Packet::Publish(publish)).unwrap();
    played.message();

    played.client.disconnected();
    while played.client.poll_event().is_some() {}
    played.connect(connack);
    assert_eq!(sent(&mut played), (Some("t".to_owned()), TopicAlias::new(1)));
    publish.topic = None;
    let unknown = ClientError::Session(SessionError::TopicAliasUnknown(1));
    assert_eq!(played.answer(Packet::Publish(publish)), Err(unknown));
}

// [MQTT-3.2.2-18]
#[test]
fn no_aliases_where_none_are_allowed() {
    let mut options = ConnectOptions::new(V5, "c");
    options.limits.topic_aliases = 5;
    let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
    for _ in 0..3 {
        played.publish(QoS::AtMostOnce);
    }
    let output = played.output();
    for packet in packets(&output, V5) {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        assert_eq!((publish.topic.map(TopicName::as_str), publish.properties.topic_alias), (Some("t"), None));
    }
}

// [MQTT-3.3.4-6]
#[test]
fn no_subscription_identifier_from_a_client() {
    let mut played = Played::v5();
    let identifiers = [SubscriptionIdentifier::new(1).unwrap()];
    let mut publish = message("t", QoS::AtMostOnce, 0);
    publish.properties.subscription_identifiers = identifiers[..].into();
    assert_eq!(played.client.publish(&publish), Err(PublishError::SubscriptionIdentifier));
    assert_eq!(played.sent(), []);
}

// [MQTT-3.1.2-20]
// 3.1.1 [MQTT-3.1.2-23]
#[test]
fn a_client_with_nothing_to_say_pings() {
    for version in VERSIONS {
        let mut options = ConnectOptions::new(version, "c");
        options.keep_alive = 10;
        let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
        assert_eq!(played.client.poll_timeout(), Some(after(10)));
        played.client.handle_timeout(after(10)).unwrap();
        assert_eq!(played.sent(), [PacketType::PingReq]);
    }
}

// [MQTT-1.5.4-1], [MQTT-2.1.3-1]
// 3.1.1 [MQTT-1.5.3-1], [MQTT-2.2.2-2], [MQTT-3.3.1-4], [MQTT-4.8.0-1]
// [attack: server-breaks-protocol]
#[test]
fn a_malformed_packet_ends_the_connection() {
    const INVALID: [&[u8]; 3] = [
        &[0xd1, 0],                         // PINGRESP with a reserved flag
        &[0x36, 6, 0, 1, b't', 0, 1, b'x'], // PUBLISH at QoS 3
        &[0x30, 4, 0, 1, 0xff, b'x'],       // PUBLISH to a topic that is not UTF-8
    ];
    for version in VERSIONS {
        for invalid in INVALID.into_iter().skip(usize::from(version == ProtocolVersion::V31)) {
            let mut played = connected(version);
            let result = played.client.receive(invalid, NOW);
            assert!(matches!(result, Err(ClientError::Decode(_))), "{result:?} in {version}");
            assert!(played.client.is_closing());
            let told = Packet::Disconnect(Disconnect::new(ReasonCode::MalformedPacket));
            let output = played.output();
            let wanted = if version == V5 { &[told][..] } else { &[] };
            assert_eq!(packets(&output, version), wanted);
        }
    }
}

// [MQTT-3.1.3-2], [MQTT-3.1.2-4]
// 3.1.1 [MQTT-3.1.3-2], [MQTT-3.1.2-6]
#[test]
fn a_session_belongs_to_its_client_identifier_and_a_clean_start_ends_it() {
    for version in [ProtocolVersion::V311, V5] {
        for (client_id, clean_start, resumes) in [
            ("c", CleanStart::Never, true),
            ("c", CleanStart::Always, false),
            ("other", CleanStart::Never, false),
        ] {
            let mut options = ConnectOptions::new(version, "c");
            options.clean_start = CleanStart::Never;
            let mut played = Played::connected(options.clone(), ConnAck::new(false, ReasonCode::Success));
            played.publish(QoS::AtLeastOnce);
            played.output();
            options.client_id = client_id.into();
            options.clean_start = clean_start;
            played.client.set_options(options).unwrap();
            // The server has a session where it may have one.
            played.client.disconnected();
            while played.client.poll_event().is_some() {}
            played.client.connected(NOW);
            let output = played.output();
            let [Packet::Connect(connect)] = packets(&output, version)[..] else { panic!() };
            assert_eq!(connect.clean_start, clean_start == CleanStart::Always);
            let present = clean_start == CleanStart::Never;
            played.answer(Packet::ConnAck(ConnAck::new(present, ReasonCode::Success))).unwrap();
            assert!(matches!(played.event(), Event::Connected(_)));
            let output = played.output();
            // Only in the session in which it was sent before is the message a repetition.
            assert!(publishes(&output, version).iter().all(|&(.., dup)| dup == resumes));
            assert_eq!(publishes(&output, version).len(), 1);
        }
    }
}

// [MQTT-2.2.1-3]
// 3.1.1 [MQTT-2.3.1-1], [MQTT-2.3.1-2]
#[test]
fn requests_and_messages_share_the_identifiers() {
    for version in VERSIONS {
        let mut played = connected(version);
        let filter = TopicFilter::new("a").unwrap();
        let subscription = Subscription { filter, options: SubscriptionOptions::default() };
        played.publish(QoS::AtLeastOnce);
        played.client.subscribe(&[subscription], SubscribeProperties::default()).unwrap();
        played.client.unsubscribe(&[filter], Default::default()).unwrap();
        played.publish(QoS::ExactlyOnce);
        let output = played.output();
        let identifier = |packet: &Packet<'_>| match packet {
            Packet::Publish(publish) => publish.packet_id,
            Packet::Subscribe(subscribe) => Some(subscribe.packet_id),
            Packet::Unsubscribe(unsubscribe) => Some(unsubscribe.packet_id),
            packet => panic!("{packet:?}"),
        };
        let mut used: Vec<u16> = packets(&output, version)
            .iter()
            .map(|packet| identifier(packet).map_or(0, PacketId::get))
            .collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 4);
        assert!(!used.contains(&0));
    }
}
