use std::fmt;

use super::{PacketType, PropertyId, ProtocolVersion, ReasonCode};
use crate::topic::TopicError;

/// Why bytes are no valid packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    reason_code: ReasonCode,
    fault: &'static str,
    property: Option<PropertyId>,
}

impl DecodeError {
    pub(super) const fn malformed(fault: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, fault)
    }

    pub(super) const fn protocol(fault: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, fault)
    }

    pub(super) const fn new(reason_code: ReasonCode, fault: &'static str) -> Self {
        Self { reason_code, fault, property: None }
    }

    pub(super) const fn at(mut self, property: PropertyId) -> Self {
        self.property = Some(property);
        self
    }

    /// With which a 5.0 peer is told, in CONNACK or DISCONNECT.
    pub fn reason_code(&self) -> ReasonCode {
        self.reason_code
    }

    /// What is wrong, in words.
    pub fn fault(&self) -> &'static str {
        self.fault
    }

    /// The property at fault, if it is one.
    pub fn property(&self) -> Option<PropertyId> {
        self.property
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault)?;
        match self.property {
            Some(property) => write!(f, " ({property})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The codes "topic name invalid" and "topic filter invalid" are for topics that are well formed but not
/// accepted; the specification calls the others malformed.
impl From<TopicError> for DecodeError {
    fn from(error: TopicError) -> Self {
        Self::malformed(match error {
            TopicError::Empty => "a topic is empty",
            TopicError::TooLong => "a topic is too long",
            TopicError::Null => "a topic contains U+0000",
            TopicError::WildcardInName => "a topic name contains a wildcard",
            TopicError::MisplacedHash => "'#' is not alone in the last level of a filter",
            TopicError::MisplacedPlus => "'+' is not alone in its level of a filter",
            TopicError::InvalidShare => "not of the form $share/NAME/FILTER",
        })
    }
}

/// Why a packet has no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field has a length prefix of 16 bits `[MQTT-1.5.4-1]`.
    #[error("a string or binary field has at most 65,535 bytes, this one has {0}")]
    FieldTooLong(usize),
    /// A string must not contain U+0000 `[MQTT-1.5.4-2]`.
    #[error("a string must not contain U+0000")]
    Null,
    /// The remaining length has at most four bytes of seven bits.
    #[error("a packet has at most 268,435,455 bytes behind its fixed header, this one has {0}")]
    PacketTooLong(usize),
    /// A PUBLISH at QoS 1 or 2 needs a packet identifier `[MQTT-2.2.1-2]`.
    #[error("a PUBLISH at QoS 1 or 2 needs a packet identifier")]
    NoPacketId,
    /// A PUBLISH needs a topic name or, in 5.0, a topic alias.
    #[error("a PUBLISH needs a topic name, or in 5.0 a topic alias")]
    NoTopic,
    /// The version has no such packet.
    #[error("MQTT {1} has no {0} packet")]
    NotInVersion(PacketType, ProtocolVersion),
    /// The version allows a password only with a user name `[MQTT-3.1.2-22]` of 3.1.1.
    #[error("before MQTT 5.0 a password needs a user name")]
    PasswordWithoutUserName,
    /// An AUTH names its method, and a CONNECT with authentication data does.
    #[error("extended authentication needs the name of its method")]
    NoAuthenticationMethod,
    /// A packet whose list must not be empty.
    #[error("a {0} packet needs at least one entry")]
    Empty(PacketType),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_words() {
        let error = DecodeError::malformed("a string is not UTF-8");
        assert_eq!(error.to_string(), "a string is not UTF-8");
        assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        let error = DecodeError::protocol("a property appears twice").at(PropertyId::ReceiveMaximum);
        assert_eq!(error.to_string(), "a property appears twice (Receive Maximum)");
        assert_eq!(error.fault(), "a property appears twice");
        assert_eq!(error.property(), Some(PropertyId::ReceiveMaximum));
    }

    #[test]
    fn an_ill_formed_topic_is_malformed() {
        let error = DecodeError::from(TopicError::WildcardInName);
        assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        assert_eq!(error.to_string(), "a topic name contains a wildcard");
    }

    #[test]
    fn an_encoding_error_names_packet_and_version() {
        let error = EncodeError::NotInVersion(PacketType::Auth, ProtocolVersion::V311);
        assert_eq!(error.to_string(), "MQTT 3.1.1 has no AUTH packet");
        let error = EncodeError::Empty(PacketType::Subscribe);
        assert_eq!(error.to_string(), "a SUBSCRIBE packet needs at least one entry");
    }
}
