use super::property::properties;
use super::reader::Reader;
use super::sequence::{Element, Sequence};
use super::{DecodeError, EncodeError, Frame, PacketId, PacketType, ProtocolVersion, QoS};
use super::{SubscriptionIdentifier, UserProperty, writer};
use crate::topic::TopicFilter;

/// SUBSCRIBE: asks for the messages that filters select.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscribe<'a> {
    /// Returned in the SUBACK.
    pub packet_id: PacketId,
    /// Properties.
    pub properties: SubscribeProperties<'a>,
    /// At least one `[MQTT-3.8.3-2]`.
    pub subscriptions: Sequence<'a, Subscription<'a>>,
}

properties! {
    /// The properties of a SUBSCRIBE.
    SubscribeProperties {
        /// Comes with every message that one of these subscriptions selects.
        subscription_identifier: SubscriptionIdentifier = SubscriptionIdentifier,
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

/// A filter and how its messages are to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Selects messages by their topic names.
    pub filter: TopicFilter<'a>,
    /// How they are delivered.
    pub options: SubscriptionOptions,
}

/// How the messages of a subscription are delivered. Before 5.0 there is the QoS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscriptionOptions {
    /// The highest at which messages are delivered.
    pub qos: QoS,
    /// Do not return what the client has published itself. Not on a shared subscription `[MQTT-3.8.3-4]`.
    pub no_local: bool,
    /// Forward the publisher's RETAIN flag, instead of clearing it.
    pub retain_as_published: bool,
    /// Whether retained messages are sent upon subscribing.
    pub retain_handling: RetainHandling,
}

/// Whether retained messages are sent upon subscribing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RetainHandling {
    /// Each time.
    #[default]
    Send,
    /// Only where the subscription did not exist before.
    SendIfNew,
    /// Never.
    DoNotSend,
}

/// UNSUBSCRIBE: ends subscriptions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Returned in the UNSUBACK.
    pub packet_id: PacketId,
    /// Properties.
    pub properties: UnsubscribeProperties<'a>,
    /// At least one `[MQTT-3.10.3-2]`.
    pub filters: Sequence<'a, TopicFilter<'a>>,
}

properties! {
    /// The properties of an UNSUBSCRIBE.
    UnsubscribeProperties {
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

impl<'a> Subscribe<'a> {
    /// A SUBSCRIBE without properties.
    pub fn new(packet_id: PacketId, subscriptions: &'a [Subscription<'a>]) -> Self {
        let properties = SubscribeProperties::default();
        Self { packet_id, properties, subscriptions: subscriptions.into() }
    }

    /// Decodes the packet in `frame`.
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        frame.check_header(version)?; // [MQTT-3.8.1-1]
        let mut reader = frame.reader();
        let packet_id = reader.packet_id()?;
        let properties = SubscribeProperties::decode(&mut reader, version)?;
        let subscriptions = read_list(&mut reader, version)?;
        Ok(Self { packet_id, properties, subscriptions })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining_length(version);
        writer::packet(out, PacketType::Subscribe, PacketType::Subscribe.flags(), remaining, |out| {
            writer::u16(out, self.packet_id.get());
            self.properties.write(version, out);
            for subscription in self.subscriptions.iter() {
                writer::field(out, subscription.filter.as_str().as_bytes());
                out.push(subscription.options.bits(version));
            }
        })
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if self.subscriptions.is_empty() {
            return Err(EncodeError::Empty(PacketType::Subscribe));
        }
        Ok(2 + self.properties.size(version)? + self.subscriptions.size()?)
    }
}

impl<'a> Unsubscribe<'a> {
    /// An UNSUBSCRIBE without properties.
    pub fn new(packet_id: PacketId, filters: &'a [TopicFilter<'a>]) -> Self {
        Self { packet_id, properties: UnsubscribeProperties::default(), filters: filters.into() }
    }

    /// Decodes the packet in `frame`.
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        frame.check_header(version)?; // [MQTT-3.10.1-1]
        let mut reader = frame.reader();
        let packet_id = reader.packet_id()?;
        let properties = UnsubscribeProperties::decode(&mut reader, version)?;
        let filters = read_list(&mut reader, version)?;
        Ok(Self { packet_id, properties, filters })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining_length(version);
        writer::packet(out, PacketType::Unsubscribe, PacketType::Unsubscribe.flags(), remaining, |out| {
            writer::u16(out, self.packet_id.get());
            self.properties.write(version, out);
            self.filters.write(out);
        })
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Empty(PacketType::Unsubscribe));
        }
        Ok(2 + self.properties.size(version)? + self.filters.size()?)
    }
}

/// The payload of a SUBSCRIBE or UNSUBSCRIBE: a list that must not be empty.
fn read_list<'a, T: Element<'a>>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
) -> Result<Sequence<'a, T>, DecodeError> {
    if reader.is_empty() {
        return Err(DecodeError::protocol("no topic filter")); // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
    }
    Sequence::decode(reader.rest(), version)
}

impl SubscriptionOptions {
    /// Everything as it was before 5.0, with messages delivered at `qos` at most.
    pub fn new(qos: QoS) -> Self {
        Self { qos, ..Self::default() }
    }

    /// As SUBSCRIBE of 5.0 has them in a byte.
    pub fn to_byte(self) -> u8 {
        self.bits(ProtocolVersion::V5)
    }

    /// The options that such a byte stands for, if it does.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::from_bits(byte, ProtocolVersion::V5).ok()
    }

    fn from_bits(bits: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let reserved = if version.has_properties() { 0b1100_0000 } else { 0b1111_1100 };
        if bits & reserved != 0 && version != ProtocolVersion::V31 {
            return Err(DecodeError::malformed("reserved bits in the subscription options")); // [MQTT-3.8.3-5]
        }
        // 5.0 calls it a Protocol Error here (and malformed in PUBLISH and CONNECT), 3.1.1 malformed.
        let fault = if version.has_properties() { DecodeError::protocol } else { DecodeError::malformed };
        let qos = QoS::from_bits(bits & 0b11).ok_or(fault("QoS 3 does not exist"))?;
        if !version.has_properties() {
            return Ok(Self::new(qos));
        }
        let retain_handling = match bits >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("retain handling 3 does not exist")),
        };
        Ok(Self {
            qos,
            no_local: bits & 0b100 != 0,
            retain_as_published: bits & 0b1000 != 0,
            retain_handling,
        })
    }

    fn bits(self, version: ProtocolVersion) -> u8 {
        if !version.has_properties() {
            return self.qos.bits();
        }
        self.qos.bits()
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

impl<'a> Element<'a> for Subscription<'a> {
    fn read_next(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Option<Self>, DecodeError> {
        if reader.is_empty() {
            return Ok(None);
        }
        let filter = TopicFilter::new(reader.string_with_null()?)?;
        let options = SubscriptionOptions::from_bits(reader.u8()?, version)?;
        if options.no_local && filter.share_name().is_some() {
            // [MQTT-3.8.3-4]
            return Err(DecodeError::protocol("no local on a shared subscription"));
        }
        Ok(Some(Self { filter, options }))
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(writer::field_size(self.filter.as_str().len())? + 1)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::field(out, self.filter.as_str().as_bytes());
        out.push(self.options.bits(ProtocolVersion::V5));
    }
}

impl<'a> Element<'a> for TopicFilter<'a> {
    fn read_next(reader: &mut Reader<'a>, _: ProtocolVersion) -> Result<Option<Self>, DecodeError> {
        if reader.is_empty() {
            return Ok(None);
        }
        Ok(Some(TopicFilter::new(reader.string_with_null()?)?))
    }
    fn size(&self) -> Result<usize, EncodeError> {
        writer::field_size(self.as_str().len())
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::field(out, self.as_str().as_bytes());
    }
}
