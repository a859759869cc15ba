//! A client session against a server that is played packet by packet.
#![allow(clippy::unwrap_used, reason = "the tests play with packets that they make themselves")]

use std::num::{NonZeroU16, NonZeroU32};

use lapwing_proto::packet::{
    Ack, Auth, ConnAck, Disconnect, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode, SubAck,
    SubscribeProperties, Subscription, SubscriptionOptions, TopicAlias,
};
use lapwing_proto::session::{
    AcknowledgeError, Acknowledgement, Cause, CleanStart, ClientError, ClientSession, ConnectOptions, Event,
    OptionError, PublishError, RequestError, SessionError,
};
use lapwing_proto::topic::{TopicFilter, TopicName};

mod played;

use played::{NOW, Played, V5, after, id, message, packet_type, packets, publishes};

// [MQTT-3.1.2-21], [MQTT-3.2.2-21]
#[test]
fn connects_and_keeps_what_the_server_says() {
    let mut played = Played::new(ConnectOptions::new(V5, ""));
    played.client.connected(NOW);
    assert_eq!(played.client.poll_timeout(), Some(after(30)));
    assert!(!played.client.is_connected());
    played.output();
    let mut connack = ConnAck::new(false, ReasonCode::Success);
    connack.properties.assigned_client_identifier = Some("given");
    connack.properties.server_keep_alive = Some(7);
    connack.properties.session_expiry_interval = Some(9);
    connack.properties.maximum_qos = Some(QoS::AtLeastOnce);
    played.answer(Packet::ConnAck(connack)).unwrap();
    let Event::Connected(connected) = played.event() else { panic!() };
    assert_eq!(connected.connack(), connack);
    assert!(!connected.resumed);
    assert_eq!(played.client.client_id(), "given");
    assert_eq!(played.client.link().keep_alive.seconds(), 7);
    assert_eq!(played.client.server().session_expiry_interval, 9);
    assert_eq!(played.client.server().maximum_qos, QoS::AtLeastOnce);
    assert_eq!(played.client.poll_timeout(), Some(after(7)));

    // The next CONNECT has the client identifier that was assigned.
    played.client.disconnected();
    assert!(matches!(played.event(), Event::Disconnected(Cause::Transport)));
    played.client.connected(NOW);
    let output = played.output();
    let [Packet::Connect(connect)] = packets(&output, V5)[..] else { panic!() };
    assert_eq!(connect.client_id, "given");
}

#[test]
fn takes_the_stream_in_any_pieces() {
    let mut bytes = Vec::new();
    Packet::ConnAck(ConnAck::new(false, ReasonCode::Success)).encode(V5, &mut bytes).unwrap();
    let long = [7; 300];
    for number in 1..4 {
        let mut publish = message("a/b", QoS::AtLeastOnce, number);
        publish.payload = &long[..usize::from(number) * 100];
        Packet::Publish(publish).encode(V5, &mut bytes).unwrap();
    }
    for first in 0..bytes.len() {
        for step in [1, 2, 3, 5, 130, 1000] {
            let mut played = Played::new(ConnectOptions::new(V5, "c"));
            played.client.connected(NOW);
            played.client.receive(&bytes[..first], NOW).unwrap();
            for piece in bytes[first..].chunks(step) {
                played.client.receive(piece, NOW).unwrap();
            }
            assert!(matches!(played.event(), Event::Connected(_)));
            for number in 1..4 {
                let message = played.message();
                assert_eq!(message.payload(), &long[..usize::from(number) * 100]);
                assert_eq!((message.topic(), message.packet_id()), ("a/b", Some(id(number))));
            }
            assert!(played.client.poll_event().is_none());
        }
    }
}

// [MQTT-4.13.2-1]
#[test]
fn refusals_end_the_connection() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311, V5] {
        let mut played = Played::new(ConnectOptions::new(version, "c"));
        played.client.connected(NOW);
        played.answer(Packet::ConnAck(ConnAck::new(false, ReasonCode::NotAuthorized))).unwrap();
        let Event::Refused(packet) = played.event() else { panic!() };
        assert_eq!(packet.connack().unwrap().reason_code, ReasonCode::NotAuthorized);
        assert!(played.client.output().is_empty());
        assert!(matches!(played.cause(), Cause::Refused(ReasonCode::NotAuthorized)));
    }
}

// [MQTT-3.3.4-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8], [MQTT-4.3.3-10], [MQTT-4.3.3-11], [MQTT-4.5.0-2]
#[test]
fn acknowledges_when_the_message_is_taken() {
    let mut played = Played::v5();
    played.answer(Packet::Publish(message("t", QoS::AtLeastOnce, 5))).unwrap();
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 6))).unwrap();
    assert_eq!(played.sent(), []);
    played.message();
    assert_eq!(played.sent(), [PacketType::PubAck]);
    played.message();
    assert_eq!(played.sent(), [PacketType::PubRec]);
    // Sent again: acknowledged again, and not given again [MQTT-4.3.3-10].
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 6))).unwrap();
    assert_eq!(played.sent(), [PacketType::PubRec]);
    assert!(played.client.poll_event().is_none());
    played.answer(Packet::PubRel(Ack::new(id(6), ReasonCode::Success))).unwrap();
    let output = played.output();
    assert_eq!(packets(&output, V5), [Packet::PubComp(Ack::new(id(6), ReasonCode::Success))]);
    played.answer(Packet::PubRel(Ack::new(id(6), ReasonCode::Success))).unwrap();
    let output = played.output();
    let unknown = Ack::new(id(6), ReasonCode::PacketIdentifierNotFound);
    assert_eq!(packets(&output, V5), [Packet::PubComp(unknown)]);
}

fn manual() -> Played {
    let mut options = ConnectOptions::new(V5, "c");
    options.acknowledgement = Acknowledgement::Manual;
    options.clean_start = CleanStart::Never;
    Played::connected(options, ConnAck::new(false, ReasonCode::Success))
}

// [MQTT-4.3.3-9], [MQTT-4.6.0-2], [MQTT-4.6.0-3]
#[test]
fn manual_acknowledgements_go_out_in_order() {
    let mut played = manual();
    for number in 1..=3 {
        let qos = if number == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        played.answer(Packet::Publish(message("t", qos, number))).unwrap();
    }
    let receipts = [(); 3].map(|()| played.message().receipt().unwrap());
    played.client.acknowledge(receipts[2], ReasonCode::Success).unwrap();
    played.client.acknowledge(receipts[1], ReasonCode::NotAuthorized).unwrap();
    assert_eq!(played.sent(), []); // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
    played.client.acknowledge(receipts[0], ReasonCode::Success).unwrap();
    assert_eq!(played.sent(), [PacketType::PubAck, PacketType::PubRec, PacketType::PubAck]);
    for receipt in receipts {
        let again = played.client.acknowledge(receipt, ReasonCode::Success);
        assert_eq!(again, Err(AcknowledgeError::Stale));
    }
    let wrong = AcknowledgeError::ReasonCode(ReasonCode::ServerMoved);
    assert_eq!(played.client.acknowledge(receipts[0], ReasonCode::ServerMoved), Err(wrong));
    // The refused identifier is free: the next message under it is new [MQTT-4.3.3-9].
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 2))).unwrap();
    played.message();
}

#[test]
fn manual_acknowledgements_over_a_lost_connection() {
    let mut played = manual();
    played.answer(Packet::Publish(message("t", QoS::AtLeastOnce, 1))).unwrap();
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 2))).unwrap();
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 3))).unwrap();
    let receipts = [(); 3].map(|()| played.message().receipt().unwrap());
    played.reconnect(true);
    // The server sends a QoS 1 message again, so that the old receipt is of no use.
    assert_eq!(played.client.acknowledge(receipts[0], ReasonCode::Success), Err(AcknowledgeError::Stale));
    // The QoS 2 messages are not given again. One is decided on before it is sent again, one after.
    played.client.acknowledge(receipts[1], ReasonCode::Success).unwrap();
    assert_eq!(played.sent(), []);
    for number in [2, 3] {
        let mut publish = message("t", QoS::ExactlyOnce, number);
        publish.dup = true;
        played.answer(Packet::Publish(publish)).unwrap();
    }
    assert!(played.client.poll_event().is_none());
    assert_eq!(played.sent(), [PacketType::PubRec]);
    let early = played.answer(Packet::PubRel(Ack::new(id(3), ReasonCode::Success)));
    let wrong = SessionError::WrongAcknowledgement(PacketType::PubRel, id(3));
    assert_eq!(early, Err(ClientError::Session(wrong)));

    let mut played = manual();
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 3))).unwrap();
    let receipt = played.message().receipt().unwrap();
    played.reconnect(true);
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 3))).unwrap();
    played.client.acknowledge(receipt, ReasonCode::Success).unwrap();
    assert_eq!(played.sent(), [PacketType::PubRec]);
    // With the session gone, so is what was to be acknowledged.
    played.answer(Packet::Publish(message("t", QoS::ExactlyOnce, 4))).unwrap();
    let receipt = played.message().receipt().unwrap();
    played.reconnect(false);
    assert_eq!(played.client.acknowledge(receipt, ReasonCode::Success), Err(AcknowledgeError::Stale));
}

// [MQTT-3.3.4-7], [MQTT-3.3.4-8], [MQTT-4.3.3-4], [MQTT-4.9.0-1], [MQTT-4.9.0-2], [MQTT-4.9.0-3]
#[test]
fn publishes_within_the_receive_maximum() {
    let mut connack = ConnAck::new(false, ReasonCode::Success);
    connack.properties.receive_maximum = NonZeroU16::new(2);
    let mut played = Played::connected(ConnectOptions::new(V5, "c"), connack);
    let tokens = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce].map(|qos| played.publish(qos));
    let output = played.output();
    assert_eq!(publishes(&output, V5), [(1, QoS::AtLeastOnce, false), (2, QoS::ExactlyOnce, false)]);
    assert_eq!((played.client.in_flight(), played.client.stored_messages()), (2, 3));
    played.publish(QoS::AtMostOnce);
    assert_eq!(played.sent(), [PacketType::Publish]); // not held back

    played.answer(Packet::PubRec(Ack::new(id(2), ReasonCode::NoMatchingSubscribers))).unwrap();
    assert_eq!(played.sent(), [PacketType::PubRel]);
    assert!(played.client.poll_event().is_none());
    played.answer(Packet::PubComp(Ack::new(id(2), ReasonCode::Success))).unwrap();
    let Event::Published { token, reason_code, packet: None } = played.event() else { panic!() };
    assert_eq!((token, reason_code), (tokens[1], ReasonCode::NoMatchingSubscribers));
    let output = played.output();
    assert_eq!(publishes(&output, V5), [(3, QoS::AtLeastOnce, false)]);
    let mut refused = Ack::new(id(1), ReasonCode::NotAuthorized);
    refused.properties.reason_string = Some("no");
    played.answer(Packet::PubAck(refused)).unwrap();
    let Event::Published { token, reason_code, packet: Some(packet) } = played.event() else { panic!() };
    assert_eq!((token, reason_code), (tokens[0], ReasonCode::NotAuthorized));
    assert_eq!(packet.ack(), Some(refused));
    played.answer(Packet::PubAck(Ack::new(id(3), ReasonCode::Success))).unwrap();
    played.event();
    assert_eq!((played.client.stored_messages(), played.client.stored_bytes()), (0, 0));
}

// [MQTT-3.3.1-1], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-4.4.0-1]
// [MQTT-4.6.0-1], [MQTT-4.6.0-4]
// 3.1.1 [MQTT-2.3.1-3], [MQTT-3.3.1-1], [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-4.6.0-4]
#[test]
fn resumes_in_order() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311, V5] {
        let mut options = ConnectOptions::new(version, "c");
        options.clean_start = CleanStart::Never;
        let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
        for qos in [QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce] {
            played.publish(qos);
        }
        played.output();
        for number in [4, 1] {
            played.answer(Packet::PubRec(Ack::new(id(number), ReasonCode::Success))).unwrap();
        }
        played.client.disconnected();
        played.client.poll_event();
        let waiting = played.publish(QoS::AtLeastOnce);
        assert_eq!(waiting.get(), 5);
        assert_eq!(played.client.publish(&message("t", QoS::AtMostOnce, 0)), Err(PublishError::NotConnected));
        played.connect(ConnAck::new(true, ReasonCode::Success));
        let output = played.output();
        let sent = packets(&output, version);
        // PUBRELs in the order of the PUBRECs [MQTT-4.6.0-4], PUBLISHes in theirs [MQTT-4.6.0-1].
        let released = [4, 1].map(|number| Packet::PubRel(Ack::new(id(number), ReasonCode::Success)));
        assert_eq!(sent[..2], released);
        let sent: Vec<_> = sent[2..]
            .iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => (publish.packet_id.unwrap().get(), publish.dup),
                packet => panic!("{packet:?}"),
            })
            .collect();
        assert_eq!(sent, [(2, true), (3, true), (5, false)]); // [MQTT-3.3.1-1]
    }
}

// [MQTT-3.2.2-5]
// [attack: server-forgets]
#[test]
fn sends_anew_what_the_server_has_forgotten() {
    let mut options = ConnectOptions::new(V5, "c");
    options.clean_start = CleanStart::Never;
    let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
    let tokens = [QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| played.publish(qos));
    played.output();
    played.answer(Packet::PubRec(Ack::new(id(1), ReasonCode::Success))).unwrap();
    played.client.disconnected();
    played.client.poll_event();
    played.publish(QoS::AtLeastOnce);
    played.client.connected(NOW);
    played.output();
    played.answer(Packet::ConnAck(ConnAck::new(false, ReasonCode::Success))).unwrap();
    assert!(matches!(played.event(), Event::Connected(connected) if !connected.resumed));
    // The server had the first one.
    assert!(matches!(played.event(), Event::Published { token, .. } if token == tokens[0]));
    let output = played.output();
    let sent = publishes(&output, V5);
    let qos: Vec<_> = sent.iter().map(|&(_, qos, dup)| (qos, dup)).collect();
    let wanted = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce].map(|qos| (qos, false));
    assert_eq!(qos, wanted);
}

// [MQTT-3.2.2-11], [MQTT-3.2.2-14], [MQTT-3.2.2-15], [MQTT-3.8.3-2], [MQTT-3.8.3-4]
#[test]
fn refuses_what_the_server_does_not_take() {
    let mut connack = ConnAck::new(false, ReasonCode::Success);
    connack.properties.maximum_qos = Some(QoS::AtLeastOnce);
    connack.properties.retain_available = Some(false);
    connack.properties.maximum_packet_size = NonZeroU32::new(30);
    connack.properties.wildcard_subscription_available = Some(false);
    connack.properties.shared_subscription_available = Some(false);
    connack.properties.subscription_identifier_available = Some(false);
    let mut played = Played::new(ConnectOptions::new(V5, "c"));
    // Accepted while nothing was known of the server, and told to be impossible then.
    let early = played.publish(QoS::ExactlyOnce);
    played.connect(connack);
    let Event::PublishFailed { token, error } = played.event() else { panic!() };
    assert_eq!((token, error), (early, PublishError::QoSNotSupported(QoS::AtLeastOnce)));
    assert_eq!((played.client.stored_messages(), played.client.stored_bytes()), (0, 0));

    let client = &mut played.client;
    let result = client.publish(&message("t", QoS::ExactlyOnce, 0));
    assert_eq!(result, Err(PublishError::QoSNotSupported(QoS::AtLeastOnce)));
    let mut retained = message("t", QoS::AtMostOnce, 0);
    retained.retain = true;
    assert_eq!(client.publish(&retained), Err(PublishError::RetainNotSupported));
    let mut large = message("t", QoS::AtMostOnce, 0);
    large.payload = &[0; 25];
    assert_eq!(client.publish(&large), Err(PublishError::PacketTooLarge { size: 31, maximum: 30 }));
    large.payload = &[0; 24];
    client.publish(&large).unwrap();

    let subscribe = |client: &mut ClientSession, filter| {
        let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::default() };
        let subscription = Subscription { filter: TopicFilter::new(filter).unwrap(), options };
        client.subscribe(&[subscription], SubscribeProperties::default())
    };
    assert_eq!(subscribe(client, "a/+"), Err(RequestError::WildcardsNotSupported));
    assert_eq!(subscribe(client, "$share/g/a"), Err(RequestError::SharedNotSupported));
    let long = "a".repeat(40);
    assert_eq!(subscribe(client, &long), Err(RequestError::PacketTooLarge { size: 48, maximum: 30 }));
    subscribe(client, "a").unwrap();
    assert_eq!(client.subscribe(&[], SubscribeProperties::default()).ok(), None);
    let mut played = Played::v5();
    assert_eq!(subscribe(&mut played.client, "$share/g/a"), Err(RequestError::NoLocalShared));
}

// [MQTT-1.5.4-2]
// 3.1.1 [MQTT-1.5.3-2], [MQTT-3.1.2-22], [MQTT-3.1.3-7]
#[test]
fn refuses_what_no_server_takes() {
    let mut played = Played::v5();
    let mut publish = message("t", QoS::AtMostOnce, 0);
    publish.properties.topic_alias = TopicAlias::new(1);
    assert_eq!(played.client.publish(&publish), Err(PublishError::TopicAlias));
    let mut publish = message("t", QoS::AtMostOnce, 0);
    publish.properties.content_type = Some("a\0");
    assert_eq!(played.client.publish(&publish), Err(PublishError::Null));
    let mut publish = message("t", QoS::AtMostOnce, 0);
    publish.topic = None;
    assert!(matches!(played.client.publish(&publish), Err(PublishError::Encode(_))));
    assert_eq!(played.sent(), []);

    assert!(matches!(
        ClientSession::new(ConnectOptions::new(ProtocolVersion::V31, "")),
        Err(OptionError::NoClientId(ProtocolVersion::V31))
    ));
    let mut options = ConnectOptions::new(ProtocolVersion::V311, "");
    options.check().unwrap();
    options.clean_start = CleanStart::Never;
    assert_eq!(options.check(), Err(OptionError::NoClientId(ProtocolVersion::V311)));
    options.client_id = "c\0".into();
    assert_eq!(options.check(), Err(OptionError::Null));
    options.client_id = "c".into();
    options.password = Some(b"secret".to_vec());
    assert!(matches!(options.check(), Err(OptionError::Encode(_))));
    options.user_name = Some("u".into());
    options.check().unwrap();
    assert!(!format!("{options:?}").contains("115"), "the password is in the debug output");
}

// [attack: server-floods]
#[test]
fn bounds_what_waits() {
    let mut options = ConnectOptions::new(V5, "c");
    options.limits.stored_messages = 2;
    options.limits.stored_bytes = 40;
    options.limits.output_bytes = 30;
    options.limits.events = 2;
    let mut played = Played::new(options);
    let mut large = message("t", QoS::AtLeastOnce, 0);
    large.payload = &[0; 40];
    assert_eq!(played.client.publish(&large), Err(PublishError::StoreFull));
    played.publish(QoS::AtLeastOnce);
    played.publish(QoS::AtLeastOnce);
    assert_eq!(played.client.publish(&message("t", QoS::AtLeastOnce, 0)), Err(PublishError::StoreFull));
    played.connect(ConnAck::new(false, ReasonCode::Success));
    played.output();
    let mut sent = 0;
    let full = loop {
        match played.client.publish(&message("t", QoS::AtMostOnce, 0)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((sent, full), (3, PublishError::OutputFull));
    assert!(played.client.wants_input());
    for _ in 0..2 {
        played.answer(Packet::Publish(message("t", QoS::AtMostOnce, 0))).unwrap();
    }
    assert!(!played.client.wants_input());
    played.message();
    assert!(played.client.wants_input());
    for _ in 0..8 {
        played.answer(Packet::PubRel(Ack::new(id(1), ReasonCode::Success))).unwrap();
    }
    assert!(!played.client.wants_input());
    played.output();
    assert!(played.client.wants_input());
}

#[test]
fn subscribes_and_unsubscribes() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311, V5] {
        let options = ConnectOptions::new(version, "c");
        let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
        let filters = ["a", "b/#"].map(|text| TopicFilter::new(text).unwrap());
        let subscriptions =
            filters.map(|filter| Subscription { filter, options: SubscriptionOptions::default() });
        let properties = SubscribeProperties::default();
        let subscribed = played.client.subscribe(&subscriptions, properties).unwrap();
        let unsubscribed = played.client.unsubscribe(&filters, Default::default()).unwrap();
        let abandoned = played.client.subscribe(&subscriptions, properties).unwrap();
        let wanted = [PacketType::Subscribe, PacketType::Unsubscribe, PacketType::Subscribe];
        assert_eq!(played.sent(), wanted);
        let codes = [ReasonCode::Success, ReasonCode::UnspecifiedError];
        played.answer(Packet::UnsubAck(SubAck::new(id(2), &codes))).unwrap();
        played.answer(Packet::SubAck(SubAck::new(id(1), &codes))).unwrap();
        assert!(matches!(played.event(), Event::Unsubscribed { token, .. } if token == unsubscribed));
        let Event::Subscribed { token, packet } = played.event() else { panic!() };
        assert_eq!(token, subscribed);
        assert!(packet.reason_codes().eq(codes));
        played.client.disconnected();
        assert!(matches!(played.event(), Event::Abandoned { token } if token == abandoned));
        assert!(matches!(played.event(), Event::Disconnected(Cause::Transport)));
    }
}

// [MQTT-3.1.2-20]
#[test]
fn keeps_alive() {
    let mut played = Played::v5();
    assert_eq!(played.client.poll_timeout(), Some(after(60)));
    played.client.handle_timeout(after(59)).unwrap();
    assert_eq!(played.sent(), []);
    // Sending alone does not find out about a server that is gone.
    played.publish(QoS::AtMostOnce);
    played.client.consume(usize::MAX, after(30));
    assert_eq!(played.client.poll_timeout(), Some(after(60)));
    played.client.handle_timeout(after(60)).unwrap();
    assert_eq!(played.client.output(), [0xc0, 0]);
    played.client.consume(2, after(61));
    assert_eq!(played.client.poll_timeout(), Some(after(80)));
    let mut pingresp = Vec::new();
    Packet::PingResp.encode(V5, &mut pingresp).unwrap();
    played.client.receive(&pingresp, after(62)).unwrap();
    assert_eq!(played.client.poll_timeout(), Some(after(121)));
    played.client.handle_timeout(after(121)).unwrap();
    assert_eq!(played.client.handle_timeout(after(140)), Ok(()));
    assert_eq!(played.client.handle_timeout(after(141)), Err(ClientError::PingTimeout));
    assert!(matches!(played.cause(), Cause::Error(ClientError::PingTimeout)));

    let mut options = ConnectOptions::new(V5, "c");
    options.keep_alive = 0;
    let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
    assert_eq!(played.client.poll_timeout(), None);
    played.client.disconnected();
    played.client.connected(NOW);
    assert_eq!(played.client.handle_timeout(after(30)), Err(ClientError::ConnAckTimeout));
    assert_eq!(played.client.poll_timeout(), None);
}

/// What the server must not send, and with which code it is told.
// [attack: server-breaks-protocol]
#[test]
fn catches_a_server_that_breaks_the_protocol() {
    let check = |packet: Packet<'_>, reason_code: ReasonCode| {
        let mut options = ConnectOptions::new(V5, "c");
        options.receive_maximum = NonZeroU16::MIN;
        options.topic_alias_maximum = 2;
        options.maximum_packet_size = NonZeroU32::new(40).unwrap();
        let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
        played.answer(Packet::Publish(message("t", QoS::AtLeastOnce, 1))).unwrap();
        played.client.publish(&message("t", QoS::ExactlyOnce, 1)).unwrap();
        let filter = TopicFilter::new("a").unwrap();
        let subscription = Subscription { filter, options: SubscriptionOptions::default() };
        played.client.subscribe(&[subscription], SubscribeProperties::default()).unwrap();
        played.output();
        let error = played.answer(packet).unwrap_err();
        let output = played.output();
        let told = Packet::Disconnect(Disconnect::new(reason_code));
        assert_eq!(packets(&output, V5), [told], "{packet:?}: {error}");
        // What comes after it is of no interest.
        played.answer(packet).unwrap();
        assert!(!played.client.wants_input());
        assert!(matches!(played.cause(), Cause::Error(cause) if cause == error));
    };
    let codes = [ReasonCode::Success; 2];
    let mut alias = message("t", QoS::AtMostOnce, 0);
    alias.properties.topic_alias = TopicAlias::new(3);
    check(Packet::Publish(alias), ReasonCode::TopicAliasInvalid);
    alias.topic = None;
    alias.properties.topic_alias = TopicAlias::new(2);
    check(Packet::Publish(alias), ReasonCode::ProtocolError);
    let mut large = message("t", QoS::AtMostOnce, 0);
    large.payload = &[0; 40];
    check(Packet::Publish(large), ReasonCode::PacketTooLarge);
    check(Packet::Publish(message("t", QoS::ExactlyOnce, 2)), ReasonCode::ReceiveMaximumExceeded);
    check(Packet::PubAck(Ack::new(id(1), ReasonCode::Success)), ReasonCode::ProtocolError);
    check(Packet::PubComp(Ack::new(id(1), ReasonCode::Success)), ReasonCode::ProtocolError);
    check(Packet::SubAck(SubAck::new(id(2), &codes)), ReasonCode::ProtocolError);
    check(Packet::UnsubAck(SubAck::new(id(2), &codes[..1])), ReasonCode::ProtocolError);
    check(Packet::SubAck(SubAck::new(id(3), &codes[..1])), ReasonCode::ProtocolError);
    check(Packet::ConnAck(ConnAck::new(false, ReasonCode::Success)), ReasonCode::ProtocolError);
    check(Packet::PingReq, ReasonCode::ProtocolError);
    check(Packet::Auth(Auth::new(ReasonCode::Success, "m", b"")), ReasonCode::ProtocolError);
    let mut disconnect = Disconnect::new(ReasonCode::ServerBusy);
    disconnect.properties.session_expiry_interval = Some(1);
    check(Packet::Disconnect(disconnect), ReasonCode::ProtocolError);
}

// [MQTT-3.2.2-4]
// [attack: server-breaks-protocol]
#[test]
fn the_first_packet_is_connack() {
    for packet in [
        Packet::Publish(message("t", QoS::AtMostOnce, 0)),
        Packet::PingResp,
        Packet::Disconnect(Disconnect::new(ReasonCode::ServerBusy)),
    ] {
        let mut played = Played::new(ConnectOptions::new(V5, "c"));
        played.client.connected(NOW);
        let unexpected = ClientError::UnexpectedPacket(packet_type(&packet));
        assert_eq!(played.answer(packet), Err(unexpected));
    }
    let claim = ConnAck::new(true, ReasonCode::Success);
    let mut played = Played::new(ConnectOptions::new(V5, "c"));
    played.client.connected(NOW);
    assert_eq!(played.answer(Packet::ConnAck(claim)), Err(ClientError::SessionNotDiscarded));
    let mut options = ConnectOptions::new(V5, "c");
    options.clean_start = CleanStart::Never;
    options.resume_unknown_session = false;
    let mut played = Played::new(options);
    played.client.connected(NOW);
    assert_eq!(played.answer(Packet::ConnAck(claim)), Err(ClientError::UnknownSession));
}

#[test]
fn disconnects() {
    let mut played = Played::v5();
    let mut disconnect = Disconnect::new(ReasonCode::ServerMoved);
    disconnect.properties.server_reference = Some("elsewhere");
    played.answer(Packet::Disconnect(disconnect)).unwrap();
    let Cause::Server(packet) = played.cause() else { panic!() };
    assert_eq!(packet.disconnect(), Some(disconnect));

    let mut played = Played::v5();
    let prolonged = played.client.disconnect(ReasonCode::Success, Some(1));
    assert_eq!(prolonged, Err(RequestError::SessionExpiry));
    let wrong = played.client.disconnect(ReasonCode::ServerBusy, None);
    assert_eq!(wrong, Err(RequestError::ReasonCode(ReasonCode::ServerBusy)));
    played.client.disconnect(ReasonCode::DisconnectWithWillMessage, None).unwrap();
    assert_eq!(played.client.output(), [0xe0, 1, 4]);
    assert!(matches!(played.cause(), Cause::Requested));
    assert_eq!(played.client.disconnect(ReasonCode::Success, None), Err(RequestError::NotConnected));

    let options = ConnectOptions::new(ProtocolVersion::V311, "c");
    let mut played = Played::connected(options, ConnAck::new(false, ReasonCode::Success));
    let with_will = played.client.disconnect(ReasonCode::DisconnectWithWillMessage, None);
    assert!(matches!(with_will, Err(RequestError::ReasonCode(_))));
    played.client.disconnect(ReasonCode::Success, None).unwrap();
    assert_eq!(played.client.output(), [0xe0, 0]);
    let unexpected = ClientError::UnexpectedPacket(PacketType::Disconnect);
    let mut played = Played::connected(
        ConnectOptions::new(ProtocolVersion::V311, "c"),
        ConnAck::new(false, ReasonCode::Success),
    );
    assert_eq!(played.answer(Packet::Disconnect(Disconnect::new(ReasonCode::Success))), Err(unexpected));
}

// [MQTT-4.12.0-3], [MQTT-4.12.0-5], [MQTT-4.12.1-1]
#[test]
fn authenticates() {
    let mut options = ConnectOptions::new(V5, "c");
    options.authentication_method = Some("m".into());
    let mut played = Played::new(options);
    assert_eq!(played.client.auth(b"x"), Err(RequestError::NotConnected));
    played.client.connected(NOW);
    played.output();
    let step = Auth::new(ReasonCode::ContinueAuthentication, "m", b"challenge");
    played.answer(Packet::Auth(step)).unwrap();
    let Event::Auth(packet) = played.event() else { panic!() };
    assert_eq!(packet.auth(), Some(step));
    played.client.auth(b"proof").unwrap();
    let output = played.output();
    let proof = Auth::new(ReasonCode::ContinueAuthentication, "m", b"proof");
    assert_eq!(packets(&output, V5), [Packet::Auth(proof)]);
    let mut connack = ConnAck::new(false, ReasonCode::Success);
    connack.properties.authentication_method = Some("m");
    played.answer(Packet::ConnAck(connack)).unwrap();
    played.event();
    assert_eq!(played.client.auth(b"x"), Err(RequestError::NoAuthentication));
    played.client.reauthenticate(b"again").unwrap();
    let output = played.output();
    let again = Auth::new(ReasonCode::ReAuthenticate, "m", b"again");
    assert_eq!(packets(&output, V5), [Packet::Auth(again)]);
    played.answer(Packet::Auth(Auth::new(ReasonCode::Success, "m", b""))).unwrap();
    assert!(matches!(played.event(), Event::Auth(_)));
    let other = Packet::Auth(Auth::new(ReasonCode::Success, "other", b""));
    assert_eq!(played.answer(other), Err(ClientError::AuthenticationMethod));
}

// [MQTT-3.2.2-17], [MQTT-3.3.2-9], [MQTT-3.3.2-10]
#[test]
fn aliases_both_ways() {
    let mut options = ConnectOptions::new(V5, "c");
    options.topic_alias_maximum = 1;
    options.limits.topic_aliases = 5;
    let mut connack = ConnAck::new(false, ReasonCode::Success);
    connack.properties.topic_alias_maximum = Some(1);
    let mut played = Played::connected(options, connack);
    for (topic, qos) in [("a", QoS::AtMostOnce), ("b", QoS::AtMostOnce), ("a", QoS::AtLeastOnce)] {
        played.client.publish(&message(topic, qos, 0)).unwrap();
    }
    let output = played.output();
    let sent: Vec<_> = packets(&output, V5)
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => {
                let alias = publish.properties.topic_alias.map(TopicAlias::get);
                (publish.topic.map(TopicName::as_str), alias, publish.packet_id.map(PacketId::get))
            }
            packet => panic!("{packet:?}"),
        })
        .collect();
    assert_eq!(sent, [(Some("a"), Some(1), None), (Some("b"), None, None), (None, Some(1), Some(1))]);

    let mut publish = message("long/name", QoS::AtMostOnce, 0);
    publish.properties.topic_alias = TopicAlias::new(1);
    played.answer(Packet::Publish(publish)).unwrap();
    publish.topic = None;
    publish.properties.content_type = Some("text");
    played.answer(Packet::Publish(publish)).unwrap();
    assert_eq!(played.message().topic(), "long/name");
    let message = played.message();
    assert_eq!((message.topic(), message.payload()), ("long/name", &b"payload"[..]));
    assert_eq!(message.publish().unwrap().topic.unwrap().as_str(), "long/name");
    assert_eq!(message.properties().content_type, Some("text"));
}

#[test]
fn new_options_hold_from_the_next_connection_on() {
    let mut played = Played::v5();
    played.publish(QoS::AtLeastOnce);
    played.output();
    let mut options = ConnectOptions::new(V5, "other");
    options.clean_start = CleanStart::Never;
    played.client.set_options(options).unwrap();
    let changed = played.client.set_options(ConnectOptions::new(ProtocolVersion::V311, "c"));
    assert_eq!(changed, Err(OptionError::VersionChanged(V5, ProtocolVersion::V311)));
    assert_eq!(played.client.client_id(), "c");
    played.client.disconnected();
    played.client.poll_event();
    // Whatever session the server has for the other identifier, the message was not sent in it.
    played.connect(ConnAck::new(true, ReasonCode::Success));
    assert_eq!(played.client.client_id(), "other");
    let output = played.output();
    assert!(publishes(&output, V5).iter().all(|&(_, _, dup)| !dup));
    assert_eq!(played.client.in_flight(), 1);
}

#[test]
fn events_are_small() {
    assert!(size_of::<Event>() <= 72, "{}", size_of::<Event>());
}
