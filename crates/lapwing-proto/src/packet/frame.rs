use std::fmt;

use super::reader::{PADDED, Reader};
use super::{DecodeError, ProtocolVersion, QoS, ReasonCode};

/// The largest packet there can be: 268,435,455 bytes behind a fixed header of five.
pub const MAXIMUM_PACKET_SIZE: u32 = 268_435_460;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the specification's names say it; `Packet` describes each")]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

impl PacketType {
    fn from_first_byte(byte: u8) -> Option<Self> {
        Some(match byte >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The four flag bits that the type must have; PUBLISH uses them itself.
    pub(super) fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

/// The bytes of one whole packet: its fixed header taken apart, the rest not yet looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    packet_type: PacketType,
    flags: u8,
    /// The remaining length has more bytes than it needs.
    padded: bool,
    /// Bytes of the fixed header: 2 to 5.
    header: u8,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the next whole packet off the front of `input`.
    ///
    /// `Ok(None)`, with `input` as it was, when more bytes must arrive first. Nothing is ever reserved
    /// for a length that a peer merely declares.
    ///
    /// # Errors
    /// As soon as the fixed header is there: a reserved packet type, a remaining length of more than four
    /// bytes, or a packet of more than `maximum_packet_size` bytes in all.
    #[inline]
    pub fn split(input: &mut &'a [u8], maximum_packet_size: u32) -> Result<Option<Self>, DecodeError> {
        // Nearly all packets: a length of one byte, and the whole packet there.
        if let [first, length @ 0..=127, ..] = *input
            && let Some(packet_type) = PacketType::from_first_byte(*first)
            && let Some((bytes, rest)) = input.split_at_checked(usize::from(*length) + 2)
            && u32::from(*length) + 2 <= maximum_packet_size
        {
            *input = rest;
            return Ok(Some(Self { packet_type, flags: first & 0x0f, padded: false, header: 2, bytes }));
        }
        Self::split_any(input, maximum_packet_size)
    }

    fn split_any(input: &mut &'a [u8], maximum_packet_size: u32) -> Result<Option<Self>, DecodeError> {
        let Some(&first) = input.first() else { return Ok(None) };
        let Some(packet_type) = PacketType::from_first_byte(first) else {
            return Err(DecodeError::malformed("packet type 0 is reserved"));
        };
        let Some((remaining, header)) = remaining_length(&input[1..])? else { return Ok(None) };
        let total = 1 + header + remaining;
        if total as u64 > u64::from(maximum_packet_size) {
            return Err(DecodeError::new(ReasonCode::PacketTooLarge, "the packet is larger than allowed"));
        }
        if input.len() < total {
            return Ok(None);
        }
        let (bytes, rest) = input.split_at(total);
        *input = rest;
        let padded = header > 1 && bytes[header] == 0;
        Ok(Some(Self { packet_type, flags: first & 0x0f, padded, header: 1 + header as u8, bytes }))
    }

    /// How many bytes the packet at the front of `input` has in all, if its fixed header is there and
    /// well formed.
    pub fn declared_size(input: &[u8]) -> Option<usize> {
        let (remaining, header) = remaining_length(input.get(1..)?).ok()??;
        Some(1 + header + remaining)
    }

    /// The packet's type.
    #[inline]
    pub fn packet_type(&self) -> PacketType {
        self.packet_type
    }

    /// How many bytes stand behind the fixed header.
    pub fn remaining_length(&self) -> usize {
        self.bytes.len() - usize::from(self.header)
    }

    /// The whole packet, its fixed header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes the fixed header has: 2 to 5.
    pub fn header_size(&self) -> usize {
        self.header.into()
    }

    /// Whether its remaining length has more bytes than it needs.
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    pub(super) fn body(&self) -> &'a [u8] {
        &self.bytes[usize::from(self.header)..]
    }

    pub(super) fn flags(&self) -> u8 {
        self.flags
    }

    pub(super) fn reader(&self) -> Reader<'a> {
        Reader::new(self.body())
    }

    /// The remaining length has no more bytes than it needs `[MQTT-1.5.5-1]`. Before 5.0 it might have: small
    /// clients kept four bytes for it.
    pub(super) fn check_length(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        if self.padded && version.has_properties() { Err(PADDED) } else { Ok(()) }
    }

    /// The fixed header of all packets but PUBLISH. Reserved flag bits have the values that the specification
    /// gives them `[MQTT-2.1.3-1]`. In 3.1 they were free, and DUP was set on a repeated PUBREL, SUBSCRIBE and
    /// UNSUBSCRIBE.
    pub(super) fn check_header(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        self.check_length(version)?;
        if self.flags == self.packet_type.flags() || version == ProtocolVersion::V31 {
            Ok(())
        } else {
            Err(DecodeError::malformed("reserved flag bits in the fixed header"))
        }
    }

    /// The QoS in a PUBLISH's flags `[MQTT-3.3.1-4]`.
    pub(super) fn qos(&self) -> Result<QoS, DecodeError> {
        QoS::from_bits(self.flags >> 1 & 0b11).ok_or(DecodeError::malformed("QoS 3 does not exist"))
    }
}

/// The remaining length and how many bytes it took; `None` when its last byte is still to come.
fn remaining_length(input: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut value = 0;
    for at in 0..4 {
        let Some(&byte) = input.get(at) else { return Ok(None) };
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    Err(DecodeError::malformed("the remaining length has more than four bytes"))
}
