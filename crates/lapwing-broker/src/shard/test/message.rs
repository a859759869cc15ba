use lapwing_proto::packet::{
    PacketId, PayloadFormat, ProtocolVersion, Publish, QoS, SubscriptionIdentifier, TopicAlias, UserProperty,
};
use lapwing_proto::topic::TopicName;

/// A PUBLISH as a test writes it, or as a client got it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) packet_id: Option<u16>,
    pub(super) expiry_s: Option<u32>,
    pub(super) alias: Option<u16>,
    pub(super) identifiers: Vec<u32>,
    pub(super) is_text: Option<bool>,
    pub(super) content_type: Option<String>,
    pub(super) response_topic: Option<String>,
    pub(super) correlation_data: Option<Vec<u8>>,
    pub(super) user_properties: Vec<(String, String)>,
}

/// A message at QoS 0.
pub(super) fn message(topic: &str, payload: &str) -> Message {
    Message { topic: topic.into(), payload: payload.into(), ..Message::default() }
}

pub(super) fn qos(bits: u8) -> QoS {
    QoS::from_bits(bits).unwrap()
}

impl Message {
    pub(super) fn qos(self, qos: u8) -> Self {
        Self { qos, ..self }
    }

    pub(super) fn retained(self) -> Self {
        Self { retain: true, ..self }
    }

    pub(super) fn dup(self) -> Self {
        Self { dup: true, ..self }
    }

    pub(super) fn id(self, packet_id: u16) -> Self {
        Self { packet_id: Some(packet_id), ..self }
    }

    pub(super) fn expiry(self, seconds: u32) -> Self {
        Self { expiry_s: Some(seconds), ..self }
    }

    pub(super) fn alias(self, alias: u16) -> Self {
        Self { alias: Some(alias), ..self }
    }

    pub(super) fn identifiers(self, identifiers: &[u32]) -> Self {
        Self { identifiers: identifiers.into(), ..self }
    }

    /// With every property that is passed on to receivers.
    pub(super) fn with_all_properties(self) -> Self {
        Self {
            is_text: Some(true),
            content_type: Some("text/plain".into()),
            response_topic: Some("answer/here".into()),
            correlation_data: Some(vec![0, 1, 255]),
            user_properties: [("b", "2"), ("a", "1"), ("b", "3")].map(|(a, b)| (a.into(), b.into())).into(),
            ..self
        }
    }

    pub(super) fn encode(&self, version: ProtocolVersion) -> Vec<u8> {
        let user_properties: Vec<_> =
            self.user_properties.iter().map(|(name, value)| UserProperty { name, value }).collect();
        let name = |text| TopicName::new(text).unwrap();
        let mut publish = Publish::new(name("x"), self.payload.as_bytes());
        publish.topic = (!self.topic.is_empty()).then(|| name(&self.topic));
        publish.qos = qos(self.qos);
        publish.retain = self.retain;
        publish.dup = self.dup;
        publish.packet_id = self.packet_id.and_then(PacketId::new);
        let properties = &mut publish.properties;
        properties.message_expiry_interval = self.expiry_s;
        properties.topic_alias = self.alias.and_then(TopicAlias::new);
        properties.payload_format_indicator =
            self.is_text.map(|is_text| if is_text { PayloadFormat::Utf8 } else { PayloadFormat::Bytes });
        properties.content_type = self.content_type.as_deref();
        properties.response_topic = self.response_topic.as_deref().map(name);
        properties.correlation_data = self.correlation_data.as_deref();
        properties.user_properties = user_properties.as_slice().into();
        let mut bytes = Vec::new();
        publish.encode(version, &mut bytes).unwrap();
        bytes
    }
}

impl From<&Publish<'_>> for Message {
    fn from(publish: &Publish<'_>) -> Self {
        let properties = &publish.properties;
        Self {
            topic: publish.topic.map_or("", TopicName::as_str).into(),
            payload: String::from_utf8_lossy(publish.payload).into(),
            qos: publish.qos.bits(),
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id.map(PacketId::get),
            expiry_s: properties.message_expiry_interval,
            alias: properties.topic_alias.map(TopicAlias::get),
            identifiers: properties
                .subscription_identifiers
                .iter()
                .map(SubscriptionIdentifier::get)
                .collect(),
            is_text: properties.payload_format_indicator.map(|format| format == PayloadFormat::Utf8),
            content_type: properties.content_type.map(Into::into),
            response_topic: properties.response_topic.map(|topic| topic.as_str().into()),
            correlation_data: properties.correlation_data.map(Into::into),
            user_properties: properties
                .user_properties
                .iter()
                .map(|property| (property.name.into(), property.value.into()))
                .collect(),
        }
    }
}
