use crate::packet::{PacketId, PacketType, ReasonCode};

/// What a peer did that it must not do. The connection is to be closed with
/// [`reason_code`](Self::reason_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// More QoS 1 and 2 messages at a time than allowed `[MQTT-3.3.4-9]`.
    #[error("more than {0} QoS 1 and 2 messages at a time")]
    ReceiveMaximumExceeded(u16),
    /// A topic alias above the maximum `[MQTT-3.3.2-9]`.
    #[error("topic alias {alias} is above the maximum of {maximum}")]
    TopicAliasTooHigh {
        /// The alias in the packet.
        alias: u16,
        /// The maximum that this end announced.
        maximum: u16,
    },
    /// A topic alias without a topic name that has not been given one before.
    #[error("topic alias {0} stands for no topic name")]
    TopicAliasUnknown(u16),
    /// An acknowledgement of another kind than the message's QoS demands.
    #[error("a {0} for packet identifier {1}, whose message has another QoS")]
    WrongAcknowledgement(PacketType, PacketId),
}

impl SessionError {
    /// With which a 5.0 peer is told.
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReceiveMaximumExceeded(_) => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasTooHigh { .. } => ReasonCode::TopicAliasInvalid,
            Self::TopicAliasUnknown(_) | Self::WrongAcknowledgement(..) => ReasonCode::ProtocolError,
        }
    }
}
