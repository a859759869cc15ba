use super::property::properties;
use super::reader::Reader;
use super::sequence::{Element, Sequence};
use super::{DecodeError, EncodeError, Frame, PacketId, PacketType, ProtocolVersion, ReasonCode};
use super::{UserProperty, writer};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
///
/// Before 5.0 they carry the packet identifier alone: the reason code is then read as success, and not
/// written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ack<'a> {
    /// Of the PUBLISH that is acknowledged.
    pub packet_id: PacketId,
    /// The result.
    pub reason_code: ReasonCode,
    /// Properties.
    pub properties: AckProperties<'a>,
}

properties! {
    /// The properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    AckProperties {
        /// For people.
        reason_string: &'a str = ReasonString,
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    pub fn new(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self { packet_id, reason_code, properties: AckProperties::default() }
    }

    /// Decodes the packet in `frame`, whose type says which of the four it is.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        frame.check_header(version)?; // [MQTT-3.6.1-1]
        if let &[high, low] = frame.body()
            && let Some(packet_id) = PacketId::new(u16::from_be_bytes([high, low]))
        {
            return Ok(Self::new(packet_id, ReasonCode::Success));
        }
        Self::decode_any(frame, version)
    }

    fn decode_any(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = frame.reader();
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        // A 5.0 packet that ends here means success, and one that ends behind the code has no properties.
        if version.has_properties() && !reader.is_empty() {
            ack.reason_code = read_reason_code(&mut reader, frame.packet_type())?;
            if !reader.is_empty() {
                ack.properties = AckProperties::decode(&mut reader, version)?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends the packet as a `packet_type`, one of the four.
    pub fn encode(
        &self,
        packet_type: PacketType,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let remaining = self.remaining_length(version)?;
        if remaining <= 3 {
            // Without properties, as nearly always.
            let first = writer::first_byte(packet_type, packet_type.flags());
            let [high, low] = self.packet_id.get().to_be_bytes();
            let code = self.reason_code.value();
            match remaining {
                2 => out.extend_from_slice(&[first, 2, high, low]),
                _ => out.extend_from_slice(&[first, 3, high, low, code]),
            }
            return Ok(());
        }
        writer::packet(out, packet_type, packet_type.flags(), Ok(remaining), |out| {
            writer::u16(out, self.packet_id.get());
            out.push(self.reason_code.value());
            self.properties.write(version, out);
        })
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if !version.has_properties() {
            return Ok(2);
        }
        Ok(match self.properties.size(version)? {
            1 if self.reason_code == ReasonCode::Success => 2,
            1 => 3,
            properties => 3 + properties,
        })
    }
}

/// A reason code that `packet_type` may have. Others are data that the protocol does not allow, so a
/// Protocol Error, though the packet can be parsed.
pub(super) fn read_reason_code(
    reader: &mut Reader<'_>,
    packet_type: PacketType,
) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_value(reader.u8()?)
        .filter(|code| code.is_valid_in(packet_type))
        .ok_or(DecodeError::protocol("a reason code that this packet cannot have"))
}

/// SUBACK or UNSUBACK.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubAck<'a> {
    /// Of the SUBSCRIBE or UNSUBSCRIBE that is acknowledged.
    pub packet_id: PacketId,
    /// Properties.
    pub properties: AckProperties<'a>,
    /// A result for each filter, in the order of the filters. An UNSUBACK before 5.0 has none.
    pub reason_codes: Sequence<'a, ReasonCode>,
}

impl<'a> SubAck<'a> {
    /// An acknowledgement without properties.
    pub fn new(packet_id: PacketId, reason_codes: &'a [ReasonCode]) -> Self {
        Self { packet_id, properties: AckProperties::default(), reason_codes: reason_codes.into() }
    }

    /// Decodes the packet in `frame`, whose type says which of the two it is.
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        frame.check_header(version)?;
        let mut reader = frame.reader();
        let packet_id = reader.packet_id()?;
        let properties = AckProperties::decode(&mut reader, version)?;
        let has_codes = version.has_properties() || frame.packet_type() == PacketType::SubAck;
        let codes = if has_codes { reader.rest() } else { &[] };
        reader.finish()?;
        let is_valid = |&value: &u8| match ReasonCode::from_value(value) {
            Some(code) if version.has_properties() => code.is_valid_in(frame.packet_type()),
            Some(_) => matches!(value, 0..=2 | 0x80), // [MQTT-3.9.3-2] of 3.1.1
            None => false,
        };
        if !codes.iter().all(is_valid) {
            return Err(DecodeError::protocol("a reason code that this packet cannot have"));
        }
        if codes.is_empty() && has_codes {
            return Err(DecodeError::protocol("an acknowledgement without reason codes"));
        }
        Ok(Self { packet_id, properties, reason_codes: Sequence::checked(codes, version) })
    }

    /// Appends the packet as a `packet_type`, one of the two. A failed subscription is 0x80 before 5.0.
    pub fn encode(
        &self,
        packet_type: PacketType,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        writer::packet(out, packet_type, 0, self.remaining_length(packet_type, version), |out| {
            writer::u16(out, self.packet_id.get());
            self.properties.write(version, out);
            if version.has_properties() {
                self.reason_codes.write(out);
            } else if packet_type == PacketType::SubAck {
                out.extend(self.reason_codes.iter().map(|code| code.value().min(0x80)));
            }
        })
    }

    pub(super) fn remaining_length(
        &self,
        packet_type: PacketType,
        version: ProtocolVersion,
    ) -> Result<usize, EncodeError> {
        let has_codes = version.has_properties() || packet_type == PacketType::SubAck;
        if has_codes && self.reason_codes.is_empty() {
            return Err(EncodeError::Empty(packet_type));
        }
        let codes = if has_codes { self.reason_codes.size()? } else { 0 };
        Ok(2 + self.properties.size(version)? + codes)
    }
}

impl<'a> Element<'a> for ReasonCode {
    fn read_next(reader: &mut Reader<'a>, _: ProtocolVersion) -> Result<Option<Self>, DecodeError> {
        if reader.is_empty() {
            return Ok(None);
        }
        let code = Self::from_value(reader.u8()?);
        code.map(Some).ok_or(DecodeError::protocol("there is no such reason code"))
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(1)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.value());
    }
}
