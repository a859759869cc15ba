use std::num::{NonZeroU16, NonZeroU32};

use super::property::properties;
use super::{DecodeError, EncodeError, Frame, PacketType, ProtocolVersion, QoS, ReasonCode};
use super::{UserProperty, writer};

/// CONNACK: the server's answer to CONNECT.
///
/// Before 5.0 there are six return codes. They are read as the Reason Codes of the same meaning, and any
/// other Reason Code is written as the one that comes nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnAck<'a> {
    /// Whether the server goes on with an earlier session. 3.1 cannot say so, and a refusal does not.
    pub session_present: bool,
    /// Whether the client is connected, and if not, why.
    pub reason_code: ReasonCode,
    /// Properties.
    pub properties: ConnAckProperties<'a>,
}

properties! {
    /// The properties of a CONNACK: what the server can do and how the session is set up.
    ConnAckProperties {
        /// Seconds, where the server does not use the client's; absent: it does.
        session_expiry_interval: u32 = SessionExpiryInterval,
        /// How many QoS 1 and 2 messages the server takes at a time; absent: 65,535.
        receive_maximum: NonZeroU16 = ReceiveMaximum,
        /// 0 or 1; absent: 2, which is not written.
        maximum_qos: QoS = MaximumQoS,
        /// Whether messages can be retained; absent: yes.
        retain_available: bool = RetainAvailable,
        /// The largest packet that the server takes, in bytes; absent: no limit.
        maximum_packet_size: NonZeroU32 = MaximumPacketSize,
        /// For a client that sent none.
        assigned_client_identifier: &'a str = AssignedClientIdentifier,
        /// The highest topic alias that the server takes; absent: 0, none.
        topic_alias_maximum: u16 = TopicAliasMaximum,
        /// For people.
        reason_string: &'a str = ReasonString,
        /// Whether filters may have wildcards; absent: yes.
        wildcard_subscription_available: bool = WildcardSubscriptionAvailable,
        /// Whether subscriptions may have identifiers; absent: yes.
        subscription_identifier_available: bool = SubscriptionIdentifierAvailable,
        /// Whether there are shared subscriptions; absent: yes.
        shared_subscription_available: bool = SharedSubscriptionAvailable,
        /// Seconds, where the server does not use the client's; absent: it does.
        server_keep_alive: u16 = ServerKeepAlive,
        /// From which the client makes response topics.
        response_information: &'a str = ResponseInformation,
        /// Another server to use.
        server_reference: &'a str = ServerReference,
        /// The method of the extended authentication.
        authentication_method: &'a str = AuthenticationMethod,
        /// What the method needs.
        authentication_data: &'a [u8] = AuthenticationData,
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

impl<'a> ConnAck<'a> {
    /// A CONNACK without properties.
    pub fn new(session_present: bool, reason_code: ReasonCode) -> Self {
        Self { session_present, reason_code, properties: ConnAckProperties::default() }
    }

    /// Decodes the packet in `frame`.
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        frame.check_header(version)?;
        let mut reader = frame.reader();
        let flags = reader.u8()?;
        if flags > 1 && version != ProtocolVersion::V31 {
            return Err(DecodeError::malformed("reserved connect acknowledge flags")); // [MQTT-3.2.2-1]
        }
        let code = reader.u8()?;
        let reason_code = match version {
            ProtocolVersion::V5 => ReasonCode::from_value(code),
            _ => from_return_code(code),
        };
        let reason_code = reason_code
            .filter(|code| code.is_valid_in(PacketType::ConnAck))
            .ok_or(DecodeError::protocol("a reason code that CONNACK cannot have"))?;
        let session_present = flags & 1 == 1 && version != ProtocolVersion::V31;
        if session_present && reason_code.is_error() {
            // [MQTT-3.2.2-6]
            return Err(DecodeError::protocol("session present in a CONNACK that refuses the connection"));
        }
        let properties = ConnAckProperties::decode(&mut reader, version)?;
        reader.finish()?;
        Ok(Self { session_present, reason_code, properties })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::packet(out, PacketType::ConnAck, 0, self.remaining_length(version), |out| {
            let may_be_present = version != ProtocolVersion::V31 && !self.reason_code.is_error();
            out.push(u8::from(self.session_present && may_be_present)); // [MQTT-3.2.2-6]
            out.push(match version {
                ProtocolVersion::V5 => self.reason_code.value(),
                _ => to_return_code(self.reason_code),
            });
            self.written_properties().write(version, out);
        })
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        Ok(2 + self.written_properties().size(version)?)
    }

    /// A Maximum QoS of 2 cannot be written: it is what the absence of the property means.
    fn written_properties(&self) -> ConnAckProperties<'a> {
        let maximum_qos = self.properties.maximum_qos.filter(|&qos| qos < QoS::ExactlyOnce);
        ConnAckProperties { maximum_qos, ..self.properties }
    }
}

fn from_return_code(code: u8) -> Option<ReasonCode> {
    Some(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return None,
    })
}

fn to_return_code(code: ReasonCode) -> u8 {
    match code {
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::BadUserNameOrPassword => 4,
        ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => 5,
        code if code.is_error() => 3,
        _ => 0,
    }
}
