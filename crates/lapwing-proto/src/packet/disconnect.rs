use super::ack::read_reason_code;
use super::property::properties;
use super::writer;
use super::{DecodeError, EncodeError, Frame, PacketType, ProtocolVersion, ReasonCode, UserProperty};

/// DISCONNECT: the last packet on a connection. Before 5.0 it is empty and only clients send it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason_code: ReasonCode,
    /// Properties.
    pub properties: DisconnectProperties<'a>,
}

properties! {
    /// The properties of a DISCONNECT.
    DisconnectProperties {
        /// From a client: replaces the one in CONNECT, in seconds.
        session_expiry_interval: u32 = SessionExpiryInterval,
        /// For people.
        reason_string: &'a str = ReasonString,
        /// From a server: another server to use.
        server_reference: &'a str = ServerReference,
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    pub fn new(reason_code: ReasonCode) -> Self {
        Self { reason_code, properties: DisconnectProperties::default() }
    }

    /// Decodes the packet in `frame`.
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        frame.check_header(version)?; // [MQTT-3.14.1-1]
        let mut reader = frame.reader();
        let mut disconnect = Self::new(ReasonCode::Success);
        if version.has_properties() && !reader.is_empty() {
            disconnect.reason_code = read_reason_code(&mut reader, PacketType::Disconnect)?;
            if !reader.is_empty() {
                disconnect.properties = DisconnectProperties::decode(&mut reader, version)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining_length(version);
        writer::packet(out, PacketType::Disconnect, 0, remaining, |out| {
            if remaining.is_ok_and(|length| length > 0) {
                out.push(self.reason_code.value());
            }
            if remaining.is_ok_and(|length| length > 1) {
                self.properties.write(version, out);
            }
        })
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if !version.has_properties() {
            return Ok(0);
        }
        Ok(match self.properties.size(version)? {
            1 if self.reason_code == ReasonCode::Success => 0,
            1 => 1,
            properties => 1 + properties,
        })
    }
}
