use super::property::properties;
use super::reader::{Reader, utf8};
use super::{DecodeError, EncodeError, Frame, PacketId, PacketType, PayloadFormat, ProtocolVersion, QoS};
use super::{SubscriptionIdentifier, TopicAlias, UserProperty, writer};
use crate::topic::TopicName;

/// PUBLISH: a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Publish<'a> {
    /// Sent before, perhaps. Means nothing at QoS 0, and is not written then.
    pub dup: bool,
    /// The quality of service of this delivery.
    pub qos: QoS,
    /// To a server: keep the message for later subscribers. From a server: it had been kept.
    pub retain: bool,
    /// The topic name; `None` where a topic alias stands for it, which is possible in 5.0 only.
    pub topic: Option<TopicName<'a>>,
    /// Present at QoS 1 and 2, absent at QoS 0 `[MQTT-2.2.1-2]`.
    pub packet_id: Option<PacketId>,
    /// Properties.
    pub properties: PublishProperties<'a>,
    /// Any bytes, or none.
    pub payload: &'a [u8],
}

properties! {
    /// The properties of a PUBLISH.
    PublishProperties {
        /// Whether the payload is text.
        payload_format_indicator: PayloadFormat = PayloadFormatIndicator,
        /// Seconds after which the message is of no use; absent: it does not expire.
        message_expiry_interval: u32 = MessageExpiryInterval,
        /// Stands for the topic name, or is to stand for it.
        topic_alias: TopicAlias = TopicAlias,
        /// Where a response is to be published.
        response_topic: TopicName<'a> = ResponseTopic,
        /// Returned with the response.
        correlation_data: &'a [u8] = CorrelationData,
        /// What the payload is, as in a MIME type.
        content_type: &'a str = ContentType,
        ;
        /// Forwarded with the message, in their order `[MQTT-3.3.2-18]`.
        user_properties: UserProperty<'a> = UserProperty,
        /// From a server: of the subscriptions that selected the message.
        subscription_identifiers: SubscriptionIdentifier = SubscriptionIdentifier,
    }
}

const DUP: u8 = 0b1000;
const QOS: u8 = 0b0110;
const RETAIN: u8 = 0b0001;
const NO_TOPIC: DecodeError = DecodeError::protocol("neither a topic name nor a topic alias");

impl<'a> Publish<'a> {
    /// A message at QoS 0, not retained, without properties.
    pub fn new(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: Some(topic),
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        }
    }

    /// Decodes the packet in `frame`.
    #[inline(always)] // so that the result, which is large, need not be copied
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        Self::decode_known(frame, version, None)
    }

    /// As [`decode`](Self::decode), given a topic name that the packet may well have, such as that of the same
    /// client's last message. If it is that one, `known` itself is the packet's topic name: it need not be checked
    /// again, which is much of the work with a small packet.
    #[inline(always)] // so that the result, which is large, need not be copied
    pub fn decode_known(
        frame: Frame<'a>,
        version: ProtocolVersion,
        known: Option<TopicName<'a>>,
    ) -> Result<Self, DecodeError> {
        frame.check_length(version)?;
        let qos = frame.qos()?;
        let mut dup = frame.flags() & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            if version != ProtocolVersion::V31 {
                return Err(DecodeError::malformed("DUP is set at QoS 0")); // [MQTT-3.3.1-2]
            }
            dup = false;
        }
        let mut reader = frame.reader();
        let topic = match reader.binary()? {
            bytes if known.is_some_and(|known| known.as_str().as_bytes() == bytes) => known,
            [] if version.has_properties() => None,
            bytes => Some(TopicName::new(utf8(bytes)?)?),
        };
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
        let retain = frame.flags() & RETAIN != 0;
        if version.has_properties() && !reader.take_zero() {
            let properties = PublishProperties::default();
            return Self { dup, qos, retain, topic, packet_id, properties, payload: &[] }.decode_rest(reader);
        }
        if topic.is_none() {
            return Err(NO_TOPIC);
        }
        let properties = PublishProperties::default();
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    /// The properties and the payload of a 5.0 PUBLISH.
    #[inline(never)]
    fn decode_rest(mut self, mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        self.properties = PublishProperties::decode(&mut reader, ProtocolVersion::V5)?;
        if self.topic.is_none() && self.properties.topic_alias.is_none() {
            return Err(NO_TOPIC);
        }
        self.payload = reader.rest();
        Ok(self)
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut flags = self.qos.bits() << 1;
        if self.dup && self.qos > QoS::AtMostOnce {
            flags |= DUP; // [MQTT-3.3.1-2]
        }
        if self.retain {
            flags |= RETAIN;
        }
        let properties = self.properties.size(version)?;
        let remaining = self.remaining_length_with(version, properties)?;
        let total = writer::total_size(remaining)?;
        out.reserve(total);
        let start = out.len();
        let first = writer::first_byte(PacketType::Publish, flags);
        let topic = self.topic.map_or("", TopicName::as_str).as_bytes();
        let [high, low] = (topic.len() as u16).to_be_bytes();
        match u8::try_from(remaining) {
            Ok(length @ 0..=127) => out.extend_from_slice(&[first, length, high, low]),
            _ => {
                out.push(first);
                writer::variable(out, remaining as u32);
                out.extend_from_slice(&[high, low]);
            }
        }
        out.extend_from_slice(topic);
        if let (Some(packet_id), true) = (self.packet_id, self.qos > QoS::AtMostOnce) {
            writer::u16(out, packet_id.get());
        }
        match properties {
            0 => {}
            1 => out.push(0),
            _ => self.properties.write_some(out),
        }
        out.extend_from_slice(self.payload);
        debug_assert_eq!(out.len() - start, total, "a PUBLISH is not as long as its size says");
        Ok(())
    }

    /// Appends the PUBLISH in `frame`, which has been decoded before and found well formed, as it is in another
    /// delivery: without decoding and encoding its parts. Gives where in it the packet identifier stands, or would.
    ///
    /// `None`, with `out` as it was, for one with properties, or with an alias in place of its topic name.
    pub fn recode(
        frame: Frame<'_>,
        from: ProtocolVersion,
        to: ProtocolVersion,
        qos: QoS,
        retain: bool,
        packet_id: Option<PacketId>,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let body = frame.body();
        let length = usize::from(u16::from_be_bytes(*body.first_chunk()?));
        let (topic, mut rest) = body.split_at_checked(2 + length).filter(|_| length > 0)?;
        if frame.flags() & QOS != 0 {
            rest = rest.get(2..)?;
        }
        if from.has_properties() {
            rest = rest.strip_prefix(&[0])?;
        }
        let packet_id = packet_id.filter(|_| qos > QoS::AtMostOnce);
        let between = if packet_id.is_some() { 2 } else { 0 } + usize::from(to.has_properties());
        let remaining = topic.len() + between + rest.len();
        let total = writer::total_size(remaining).ok()?;
        out.reserve(total);
        let start = out.len();
        out.push(writer::first_byte(PacketType::Publish, qos.bits() << 1 | if retain { RETAIN } else { 0 }));
        writer::variable(out, remaining as u32);
        out.extend_from_slice(topic);
        let place = out.len() - start;
        if let Some(packet_id) = packet_id {
            writer::u16(out, packet_id.get());
        }
        if to.has_properties() {
            out.push(0);
        }
        out.extend_from_slice(rest);
        debug_assert_eq!(out.len() - start, total, "a PUBLISH is not as long as its size says");
        Some(place)
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn size(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        writer::total_size(self.remaining_length(version)?)
    }

    /// Where in the encoded packet the packet identifier stands at QoS 1 and 2: a server that sends one
    /// message to many encodes it once and patches the identifier.
    pub fn packet_id_offset(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let remaining = self.remaining_length(version)?;
        let fixed_header = writer::total_size(remaining)? - remaining;
        Ok(fixed_header + 2 + self.topic.map_or(0, |topic| topic.as_str().len()))
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        self.remaining_length_with(version, self.properties.size(version)?)
    }

    /// `properties`: the bytes that they take.
    #[inline]
    fn remaining_length_with(
        &self,
        version: ProtocolVersion,
        properties: usize,
    ) -> Result<usize, EncodeError> {
        if self.topic.is_none() && (self.properties.topic_alias.is_none() || !version.has_properties()) {
            return Err(EncodeError::NoTopic);
        }
        if self.packet_id.is_none() && self.qos > QoS::AtMostOnce {
            return Err(EncodeError::NoPacketId);
        }
        let topic = writer::field_size(self.topic.map_or(0, |topic| topic.as_str().len()))?;
        let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        Ok(topic + packet_id + properties + self.payload.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
    const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

    fn encoded(publish: &Publish<'_>, version: ProtocolVersion) -> Vec<u8> {
        let mut bytes = Vec::new();
        publish.encode(version, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_recoded_message_is_as_if_it_had_been_encoded() {
        let id = |number, qos| PacketId::new(number).filter(|_| qos > QoS::AtMostOnce);
        // Remaining lengths of one, two and three bytes.
        for payload in
            [0, 1, 60, 118, 119, 120, 121, 200, 16_370, 16_380, 20_000].map(|size| vec![b'x'; size])
        {
            for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
                for (had, qos) in QOS.into_iter().flat_map(|had| QOS.map(|qos| (had, qos))) {
                    let name = TopicName::new("a/b").unwrap();
                    let publish = Publish { qos: had, packet_id: id(7, had), ..Publish::new(name, &payload) };
                    let bytes = encoded(&publish, from);
                    let frame = Frame::split(&mut &bytes[..], u32::MAX).unwrap().unwrap();
                    let wanted = Publish { qos, retain: true, packet_id: id(300, qos), ..publish };
                    let mut out = b"before".to_vec();
                    let place = Publish::recode(frame, from, to, qos, true, id(300, qos), &mut out);
                    assert_eq!(out[6..], encoded(&wanted, to));
                    assert_eq!(place, Some(wanted.packet_id_offset(to).unwrap()));
                }
            }
        }
    }

    #[test]
    fn what_has_properties_or_no_name_is_not_recoded() {
        let (v5, qos) = (ProtocolVersion::V5, QoS::AtMostOnce);
        let mut publish = Publish::new(TopicName::new("a").unwrap(), b"x");
        publish.properties.message_expiry_interval = Some(9);
        let mut nameless = Publish { topic: None, ..Publish::new(TopicName::new("a").unwrap(), b"x") };
        nameless.properties.topic_alias = TopicAlias::new(1);
        for publish in [publish, nameless] {
            let bytes = encoded(&publish, v5);
            let frame = Frame::split(&mut &bytes[..], u32::MAX).unwrap().unwrap();
            let mut out = Vec::new();
            assert_eq!(Publish::recode(frame, v5, v5, qos, false, None, &mut out), None);
            assert!(out.is_empty());
        }
    }
}
