//! Strategies for packets. They borrow from memory that is never freed: a test makes few of them, and a packet
//! without owner is the plainest value to shrink.

use std::num::{NonZeroU16, NonZeroU32};

use lapwing_proto::packet::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties,
    Disconnect, DisconnectProperties, Packet, PacketId, PacketType, PayloadFormat, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, RetainHandling, Sequence, SubAck, Subscribe, SubscribeProperties,
    Subscription, SubscriptionIdentifier, SubscriptionOptions, TopicAlias, Unsubscribe,
    UnsubscribeProperties, UserProperty, Will, WillProperties,
};
use lapwing_proto::topic::{TopicFilter, TopicName};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Keeps `items` for the rest of the test.
pub(crate) fn leak<T>(items: Vec<T>) -> &'static [T] {
    Box::leak(items.into_boxed_slice())
}

/// Any version.
pub(crate) fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(&[ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5][..])
}

/// Any packet, also with what `version` does not have, and now and then one that has no bytes.
pub(crate) fn packet(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    prop_oneof![
        3 => connect(version).prop_map(Packet::Connect),
        2 => connack().prop_map(Packet::ConnAck),
        4 => publish().prop_map(Packet::Publish),
        1 => ack(PacketType::PubAck).prop_map(Packet::PubAck),
        1 => ack(PacketType::PubRec).prop_map(Packet::PubRec),
        1 => ack(PacketType::PubRel).prop_map(Packet::PubRel),
        1 => ack(PacketType::PubComp).prop_map(Packet::PubComp),
        2 => subscribe().prop_map(Packet::Subscribe),
        1 => suback(PacketType::SubAck).prop_map(Packet::SubAck),
        2 => unsubscribe().prop_map(Packet::Unsubscribe),
        1 => suback(PacketType::UnsubAck).prop_map(Packet::UnsubAck),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => disconnect().prop_map(Packet::Disconnect),
        1 => auth().prop_map(Packet::Auth),
    ]
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect<'static>> {
    let fields = (any::<bool>(), any::<u16>(), text(), option::of(will()), option::of(text()));
    (fields, option::of(bytes()), connect_properties()).prop_map(
        move |((clean_start, keep_alive, client_id, will, user_name), password, properties)| Connect {
            version,
            clean_start,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
            properties,
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    let limits = (
        option::of(any::<u32>()),
        option::of(any::<NonZeroU16>()),
        option::of(any::<NonZeroU32>()),
        option::of(any::<u16>()),
    );
    let requests = (option::of(any::<bool>()), option::of(any::<bool>()));
    (limits, requests, option::of(text()), option::of(bytes()), user_properties()).prop_map(
        |(limits, requests, authentication_method, authentication_data, user_properties)| ConnectProperties {
            session_expiry_interval: limits.0,
            receive_maximum: limits.1,
            maximum_packet_size: limits.2,
            topic_alias_maximum: limits.3,
            request_response_information: requests.0,
            request_problem_information: requests.1,
            authentication_method,
            authentication_data,
            user_properties,
        },
    )
}

fn will() -> impl Strategy<Value = Will<'static>> {
    let properties = (
        option::of(any::<u32>()),
        option::of(payload_format()),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic_name()),
        option::of(bytes()),
        user_properties(),
    );
    let properties = properties.prop_map(|p| WillProperties {
        will_delay_interval: p.0,
        payload_format_indicator: p.1,
        message_expiry_interval: p.2,
        content_type: p.3,
        response_topic: p.4,
        correlation_data: p.5,
        user_properties: p.6,
    });
    (topic_name(), bytes(), qos(), any::<bool>(), properties).prop_map(
        |(topic, payload, qos, retain, properties)| Will { topic, payload, qos, retain, properties },
    )
}

fn connack() -> impl Strategy<Value = ConnAck<'static>> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(any::<NonZeroU16>()),
        option::of(qos()),
        option::of(any::<NonZeroU32>()),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let available = [(); 4].map(|()| option::of(any::<bool>()));
    let texts = [(); 5].map(|()| option::of(text()));
    let properties = (numbers, available, texts, option::of(bytes()), user_properties());
    let properties =
        properties.prop_map(|(numbers, available, texts, data, user_properties)| ConnAckProperties {
            session_expiry_interval: numbers.0,
            receive_maximum: numbers.1,
            maximum_qos: numbers.2,
            maximum_packet_size: numbers.3,
            topic_alias_maximum: numbers.4,
            server_keep_alive: numbers.5,
            retain_available: available[0],
            wildcard_subscription_available: available[1],
            subscription_identifier_available: available[2],
            shared_subscription_available: available[3],
            assigned_client_identifier: texts[0],
            reason_string: texts[1],
            response_information: texts[2],
            server_reference: texts[3],
            authentication_method: texts[4],
            authentication_data: data,
            user_properties,
        });
    (any::<bool>(), reason_code(PacketType::ConnAck), properties).prop_map(
        |(session_present, reason_code, properties)| ConnAck { session_present, reason_code, properties },
    )
}

fn publish() -> impl Strategy<Value = Publish<'static>> {
    let properties = (
        option::of(payload_format()),
        option::of(any::<u32>()),
        option::of((1..=u16::MAX).prop_map(|alias| TopicAlias::new(alias).unwrap())),
        option::of(topic_name()),
        option::of(bytes()),
        option::of(text()),
        user_properties(),
        vec(subscription_identifier(), 0..4),
    );
    let properties = properties.prop_map(|p| PublishProperties {
        payload_format_indicator: p.0,
        message_expiry_interval: p.1,
        topic_alias: p.2,
        response_topic: p.3,
        correlation_data: p.4,
        content_type: p.5,
        user_properties: p.6,
        subscription_identifiers: leak(p.7).into(),
    });
    let flags = (any::<bool>(), qos(), any::<bool>());
    let payload = prop_oneof![4 => bytes(), 1 => vec(any::<u8>(), 100..20_000).prop_map(leak)];
    let topic = option::weighted(0.9, topic_name());
    (flags, topic, option::weighted(0.9, packet_id()), properties, payload).prop_map(
        |((dup, qos, retain), topic, packet_id, properties, payload)| Publish {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload,
        },
    )
}

fn ack(packet_type: PacketType) -> impl Strategy<Value = Ack<'static>> {
    let reason_code = prop_oneof![Just(ReasonCode::Success), reason_code(packet_type)];
    (packet_id(), reason_code, ack_properties()).prop_map(|(packet_id, reason_code, properties)| Ack {
        packet_id,
        reason_code,
        properties,
    })
}

fn ack_properties() -> impl Strategy<Value = AckProperties<'static>> {
    (option::of(text()), user_properties())
        .prop_map(|(reason_string, user_properties)| AckProperties { reason_string, user_properties })
}

fn subscribe() -> impl Strategy<Value = Subscribe<'static>> {
    let properties = (option::of(subscription_identifier()), user_properties()).prop_map(
        |(subscription_identifier, user_properties)| SubscribeProperties {
            subscription_identifier,
            user_properties,
        },
    );
    (packet_id(), properties, vec(subscription(), 0..5)).prop_map(|(packet_id, properties, subscriptions)| {
        Subscribe { packet_id, properties, subscriptions: leak(subscriptions).into() }
    })
}

fn subscription() -> impl Strategy<Value = Subscription<'static>> {
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    (topic_filter(), qos(), any::<bool>(), any::<bool>(), select(handling.to_vec())).prop_map(
        |(filter, qos, no_local, retain_as_published, retain_handling)| {
            // [MQTT-3.8.3-4]
            let no_local = no_local && filter.share_name().is_none();
            let options = SubscriptionOptions { qos, no_local, retain_as_published, retain_handling };
            Subscription { filter, options }
        },
    )
}

fn suback(packet_type: PacketType) -> impl Strategy<Value = SubAck<'static>> {
    (packet_id(), ack_properties(), vec(reason_code(packet_type), 0..5)).prop_map(
        |(packet_id, properties, codes)| SubAck { packet_id, properties, reason_codes: leak(codes).into() },
    )
}

fn unsubscribe() -> impl Strategy<Value = Unsubscribe<'static>> {
    (packet_id(), user_properties(), vec(topic_filter(), 0..5)).prop_map(
        |(packet_id, user_properties, filters)| Unsubscribe {
            packet_id,
            properties: UnsubscribeProperties { user_properties },
            filters: leak(filters).into(),
        },
    )
}

fn disconnect() -> impl Strategy<Value = Disconnect<'static>> {
    let properties = (option::of(any::<u32>()), option::of(text()), option::of(text()), user_properties())
        .prop_map(|(session_expiry_interval, reason_string, server_reference, user_properties)| {
            DisconnectProperties { session_expiry_interval, reason_string, server_reference, user_properties }
        });
    let properties = prop_oneof![Just(DisconnectProperties::default()), properties];
    let reason_code = prop_oneof![Just(ReasonCode::Success), reason_code(PacketType::Disconnect)];
    (reason_code, properties).prop_map(|(reason_code, properties)| Disconnect { reason_code, properties })
}

fn auth() -> impl Strategy<Value = Auth<'static>> {
    let properties = (
        option::weighted(0.8, text()),
        option::of(bytes()),
        option::of(text()),
        user_properties(),
    )
        .prop_map(|(authentication_method, authentication_data, reason_string, user_properties)| {
            AuthProperties { authentication_method, authentication_data, reason_string, user_properties }
        });
    let properties = prop_oneof![1 => Just(AuthProperties::default()), 4 => properties];
    (reason_code(PacketType::Auth), properties)
        .prop_map(|(reason_code, properties)| Auth { reason_code, properties })
}

/// Any that the packet may have.
fn reason_code(packet_type: PacketType) -> impl Strategy<Value = ReasonCode> {
    let codes = ReasonCode::ALL.iter().copied().filter(|code| code.is_valid_in(packet_type));
    select(codes.collect::<Vec<_>>())
}

fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn payload_format() -> impl Strategy<Value = PayloadFormat> {
    select(&[PayloadFormat::Bytes, PayloadFormat::Utf8][..])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn subscription_identifier() -> impl Strategy<Value = SubscriptionIdentifier> {
    prop_oneof![1u32..300, 16_000u32..17_000, 1u32..=268_435_455]
        .prop_map(|id| SubscriptionIdentifier::new(id).unwrap())
}

fn user_properties() -> impl Strategy<Value = Sequence<'static, UserProperty<'static>>> {
    let property = (text(), text()).prop_map(|(name, value)| UserProperty { name, value });
    prop_oneof![2 => Just(vec![]), 1 => vec(property, 0..5)].prop_map(|properties| leak(properties).into())
}

fn text() -> impl Strategy<Value = &'static str> {
    "[^\0]{0,16}".prop_map(keep)
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..24).prop_map(leak)
}

fn topic_name() -> impl Strategy<Value = TopicName<'static>> {
    prop_oneof![4 => "[^\0#+]{1,16}", 1 => "[a-z/]{1,300}"]
        .prop_map(|name| TopicName::new(keep(name)).unwrap())
}

fn topic_filter() -> impl Strategy<Value = TopicFilter<'static>> {
    let level = prop_oneof![3 => "[^\0#+/]{0,6}", 1 => Just("+".to_owned()), 1 => Just("$share".to_owned())];
    let share = option::weighted(0.2, "[^\0#+/]{1,5}");
    (share, vec(level, 1..5), any::<bool>())
        .prop_map(|(share, mut levels, hash)| {
            if hash {
                levels.push("#".into());
            }
            let pattern = levels.join("/");
            share.map_or(pattern.clone(), |share| format!("$share/{share}/{pattern}"))
        })
        .prop_filter_map("not a filter", |filter| TopicFilter::new(keep(filter)).ok())
}

fn keep(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}
