//! A packet as the vectors write it: what has its default is left out, bytes are hexadecimal.

use std::fmt::Write;
use std::num::{NonZeroU16, NonZeroU32};

use lapwing_proto::packet::{Ack, AckProperties, Auth, ConnAck, Connect, Disconnect, Packet, PayloadFormat};
use lapwing_proto::packet::{Publish, QoS, ReasonCode, SubAck, Subscribe, SubscriptionIdentifier};
use lapwing_proto::packet::{RetainHandling, TopicAlias, Unsubscribe, Will};
use lapwing_proto::topic::{TopicFilter, TopicName};
use serde_json::{Map, Value, json};

/// The whole packet.
pub(crate) fn packet(packet: &Packet<'_>) -> Value {
    let (name, fields) = match packet {
        Packet::Connect(packet) => ("CONNECT", connect(packet)),
        Packet::ConnAck(packet) => ("CONNACK", connack(packet)),
        Packet::Publish(packet) => ("PUBLISH", publish(packet)),
        Packet::PubAck(packet) => ("PUBACK", ack(packet)),
        Packet::PubRec(packet) => ("PUBREC", ack(packet)),
        Packet::PubRel(packet) => ("PUBREL", ack(packet)),
        Packet::PubComp(packet) => ("PUBCOMP", ack(packet)),
        Packet::Subscribe(packet) => ("SUBSCRIBE", subscribe(packet)),
        Packet::SubAck(packet) => ("SUBACK", suback(packet)),
        Packet::Unsubscribe(packet) => ("UNSUBSCRIBE", unsubscribe(packet)),
        Packet::UnsubAck(packet) => ("UNSUBACK", suback(packet)),
        Packet::PingReq => ("PINGREQ", Map::new()),
        Packet::PingResp => ("PINGRESP", Map::new()),
        Packet::Disconnect(packet) => ("DISCONNECT", disconnect(packet)),
        Packet::Auth(packet) => ("AUTH", auth(packet)),
    };
    let mut summary = object(json!({"packet": name}));
    summary.extend(fields);
    Value::Object(summary)
}

fn connect(packet: &Connect<'_>) -> Map<String, Value> {
    let mut fields = object(json!({
        "version": packet.version.to_string(),
        "keep_alive": packet.keep_alive,
        "client_id": packet.client_id,
    }));
    set_flag(&mut fields, "clean_start", packet.clean_start);
    set(&mut fields, "will", packet.will.map(|packet| will(&packet)));
    set(&mut fields, "user_name", packet.user_name.map(Value::from));
    set(&mut fields, "password", packet.password.map(|password| hex(password).into()));
    let p = &packet.properties;
    let mut properties = Map::new();
    set(&mut properties, "Session Expiry Interval", p.session_expiry_interval.map(Value::from));
    set(&mut properties, "Receive Maximum", p.receive_maximum.map(|n| NonZeroU16::get(n).into()));
    set(&mut properties, "Maximum Packet Size", p.maximum_packet_size.map(|n| NonZeroU32::get(n).into()));
    set(&mut properties, "Topic Alias Maximum", p.topic_alias_maximum.map(Value::from));
    set(&mut properties, "Request Response Information", p.request_response_information.map(Value::from));
    set(&mut properties, "Request Problem Information", p.request_problem_information.map(Value::from));
    set(&mut properties, "Authentication Method", p.authentication_method.map(Value::from));
    set(&mut properties, "Authentication Data", p.authentication_data.map(|data| hex(data).into()));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    fields
}

fn will(will: &Will<'_>) -> Value {
    let mut fields = object(json!({
        "topic": will.topic.as_str(),
        "payload": hex(will.payload),
        "qos": will.qos.bits(),
    }));
    set_flag(&mut fields, "retain", will.retain);
    let p = &will.properties;
    let mut properties = Map::new();
    set(&mut properties, "Will Delay Interval", p.will_delay_interval.map(Value::from));
    set(&mut properties, "Payload Format Indicator", p.payload_format_indicator.map(format));
    set(&mut properties, "Message Expiry Interval", p.message_expiry_interval.map(Value::from));
    set(&mut properties, "Content Type", p.content_type.map(Value::from));
    set(&mut properties, "Response Topic", p.response_topic.map(|topic| TopicName::as_str(topic).into()));
    set(&mut properties, "Correlation Data", p.correlation_data.map(|data| hex(data).into()));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    Value::Object(fields)
}

fn connack(packet: &ConnAck<'_>) -> Map<String, Value> {
    let mut fields = object(json!({"reason_code": code(packet.reason_code)}));
    set_flag(&mut fields, "session_present", packet.session_present);
    let p = &packet.properties;
    let mut properties = Map::new();
    let mut set_bool = |name, value: Option<bool>| set(&mut properties, name, value.map(Value::from));
    set_bool("Retain Available", p.retain_available);
    set_bool("Wildcard Subscription Available", p.wildcard_subscription_available);
    set_bool("Subscription Identifier Available", p.subscription_identifier_available);
    set_bool("Shared Subscription Available", p.shared_subscription_available);
    let mut set_text = |name, value: Option<&str>| set(&mut properties, name, value.map(Value::from));
    set_text("Assigned Client Identifier", p.assigned_client_identifier);
    set_text("Reason String", p.reason_string);
    set_text("Response Information", p.response_information);
    set_text("Server Reference", p.server_reference);
    set_text("Authentication Method", p.authentication_method);
    set(&mut properties, "Session Expiry Interval", p.session_expiry_interval.map(Value::from));
    set(&mut properties, "Receive Maximum", p.receive_maximum.map(|n| NonZeroU16::get(n).into()));
    set(&mut properties, "Maximum QoS", p.maximum_qos.map(|qos| QoS::bits(qos).into()));
    set(&mut properties, "Maximum Packet Size", p.maximum_packet_size.map(|n| NonZeroU32::get(n).into()));
    set(&mut properties, "Topic Alias Maximum", p.topic_alias_maximum.map(Value::from));
    set(&mut properties, "Server Keep Alive", p.server_keep_alive.map(Value::from));
    set(&mut properties, "Authentication Data", p.authentication_data.map(|data| hex(data).into()));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    fields
}

fn publish(packet: &Publish<'_>) -> Map<String, Value> {
    let mut fields = object(json!({"qos": packet.qos.bits()}));
    set_flag(&mut fields, "dup", packet.dup);
    set_flag(&mut fields, "retain", packet.retain);
    set(&mut fields, "topic", packet.topic.map(|topic| topic.as_str().into()));
    set(&mut fields, "packet_id", packet.packet_id.map(|id| id.get().into()));
    set(&mut fields, "payload", Some(packet.payload).filter(|p| !p.is_empty()).map(|p| hex(p).into()));
    let p = &packet.properties;
    let mut properties = Map::new();
    set(&mut properties, "Payload Format Indicator", p.payload_format_indicator.map(format));
    set(&mut properties, "Message Expiry Interval", p.message_expiry_interval.map(Value::from));
    set(&mut properties, "Topic Alias", p.topic_alias.map(|alias| TopicAlias::get(alias).into()));
    set(&mut properties, "Response Topic", p.response_topic.map(|topic| topic.as_str().into()));
    set(&mut properties, "Correlation Data", p.correlation_data.map(|data| hex(data).into()));
    set(&mut properties, "Content Type", p.content_type.map(Value::from));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    let identifiers = p.subscription_identifiers.iter();
    set_list(&mut properties, "Subscription Identifier", identifiers.map(|id| id.get().into()));
    set_properties(&mut fields, properties);
    fields
}

fn ack(packet: &Ack<'_>) -> Map<String, Value> {
    let mut fields = object(json!({
        "packet_id": packet.packet_id.get(),
        "reason_code": code(packet.reason_code),
    }));
    set_properties(&mut fields, ack_properties(&packet.properties));
    fields
}

fn suback(packet: &SubAck<'_>) -> Map<String, Value> {
    let mut fields = object(json!({
        "packet_id": packet.packet_id.get(),
        "reason_codes": packet.reason_codes.iter().map(code).collect::<Vec<_>>(),
    }));
    set_properties(&mut fields, ack_properties(&packet.properties));
    fields
}

fn ack_properties(p: &AckProperties<'_>) -> Map<String, Value> {
    let mut properties = Map::new();
    set(&mut properties, "Reason String", p.reason_string.map(Value::from));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    properties
}

fn subscribe(packet: &Subscribe<'_>) -> Map<String, Value> {
    let subscriptions = packet.subscriptions.iter().map(|subscription| {
        let options = subscription.options;
        let mut fields = object(json!({"filter": subscription.filter.as_str(), "qos": options.qos.bits()}));
        set_flag(&mut fields, "no_local", options.no_local);
        set_flag(&mut fields, "retain_as_published", options.retain_as_published);
        match options.retain_handling {
            RetainHandling::Send => {}
            RetainHandling::SendIfNew => set(&mut fields, "retain_handling", Some(1.into())),
            RetainHandling::DoNotSend => set(&mut fields, "retain_handling", Some(2.into())),
        }
        Value::Object(fields)
    });
    let subscriptions: Vec<_> = subscriptions.collect();
    let mut fields = object(json!({"packet_id": packet.packet_id.get(), "subscriptions": subscriptions}));
    let p = &packet.properties;
    let mut properties = Map::new();
    let identifier = p.subscription_identifier.map(|id| SubscriptionIdentifier::get(id).into());
    set(&mut properties, "Subscription Identifier", identifier);
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    fields
}

fn unsubscribe(packet: &Unsubscribe<'_>) -> Map<String, Value> {
    let filters: Vec<_> = packet.filters.iter().map(TopicFilter::as_str).collect();
    let mut fields = object(json!({"packet_id": packet.packet_id.get(), "filters": filters}));
    let user_properties = packet.properties.user_properties.iter();
    let mut properties = Map::new();
    set_list(&mut properties, "User Property", user_properties.map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    fields
}

fn disconnect(packet: &Disconnect<'_>) -> Map<String, Value> {
    let mut fields = object(json!({"reason_code": code(packet.reason_code)}));
    let p = &packet.properties;
    let mut properties = Map::new();
    set(&mut properties, "Session Expiry Interval", p.session_expiry_interval.map(Value::from));
    set(&mut properties, "Reason String", p.reason_string.map(Value::from));
    set(&mut properties, "Server Reference", p.server_reference.map(Value::from));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    fields
}

fn auth(packet: &Auth<'_>) -> Map<String, Value> {
    let mut fields = object(json!({"reason_code": code(packet.reason_code)}));
    let p = &packet.properties;
    let mut properties = Map::new();
    set(&mut properties, "Authentication Method", p.authentication_method.map(Value::from));
    set(&mut properties, "Authentication Data", p.authentication_data.map(|data| hex(data).into()));
    set(&mut properties, "Reason String", p.reason_string.map(Value::from));
    set_list(&mut properties, "User Property", p.user_properties.iter().map(|p| json!([p.name, p.value])));
    set_properties(&mut fields, properties);
    fields
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is not an object"),
    }
}

fn set(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.into(), value);
    }
}

fn set_flag(fields: &mut Map<String, Value>, name: &str, value: bool) {
    set(fields, name, value.then_some(Value::Bool(true)));
}

fn set_list(fields: &mut Map<String, Value>, name: &str, values: impl Iterator<Item = Value>) {
    let values: Vec<_> = values.collect();
    set(fields, name, if values.is_empty() { None } else { Some(Value::Array(values)) });
}

fn set_properties(fields: &mut Map<String, Value>, properties: Map<String, Value>) {
    if !properties.is_empty() {
        fields.insert("properties".into(), Value::Object(properties));
    }
}

fn format(format: PayloadFormat) -> Value {
    match format {
        PayloadFormat::Bytes => 0.into(),
        PayloadFormat::Utf8 => 1.into(),
    }
}

fn code(code: ReasonCode) -> Value {
    format!("0x{:02x}", code.value()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
