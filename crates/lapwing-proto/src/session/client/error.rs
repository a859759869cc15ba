//! What can go wrong on a client's side.

use crate::packet::{DecodeError, EncodeError, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode};
use crate::session::SessionError;

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server's bytes are no packet.
    #[error("the server's packet is not valid: {0}")]
    Decode(#[from] DecodeError),
    /// The server broke a rule of the flow of messages.
    #[error("the server broke the protocol: {0}")]
    Session(#[from] SessionError),
    /// A packet that a server must not send, or not now `[MQTT-3.2.0-1]`, `[MQTT-3.2.0-2]`.
    #[error("the server sent a {0} where it must not")]
    UnexpectedPacket(PacketType),
    /// A SUBACK or UNSUBACK that answers no request.
    #[error("the server sent a {0} for packet identifier {1}, under which no such request waits")]
    UnknownRequest(PacketType, PacketId),
    /// A SUBACK or UNSUBACK must have a reason code for each filter `[MQTT-3.8.4-6]`.
    #[error("the server's {packet_type} has {given} reason codes for {expected} filters")]
    ReasonCodeCount {
        /// SUBACK or UNSUBACK.
        packet_type: PacketType,
        /// How many filters the request had.
        expected: usize,
        /// How many reason codes the answer has.
        given: usize,
    },
    /// The server goes on with a session although this CONNECT asked it to discard any `[MQTT-3.2.2-2]`.
    #[error("the server claims a session that it was asked to discard")]
    SessionNotDiscarded,
    /// The server goes on with a session of which nothing is known here, and
    /// [`resume_unknown_session`](super::ConnectOptions::resume_unknown_session) is off `[MQTT-3.2.2-4]`.
    #[error("the server claims a session of which nothing is known here")]
    UnknownSession,
    /// An authentication method that is not the one in CONNECT `[MQTT-4.12.0-5]`.
    #[error("the server uses another authentication method than the client")]
    AuthenticationMethod,
    /// A DISCONNECT from a server must not have a session expiry interval `[MQTT-3.14.2-2]`.
    #[error("the server's DISCONNECT has a session expiry interval")]
    SessionExpiryInDisconnect,
    /// A server whose maximum packet size leaves no room for acknowledgements.
    #[error("the server takes packets of at most {0} bytes, too few to be answered")]
    MaximumPacketSizeTooSmall(u32),
    /// No CONNACK in time.
    #[error("the server did not answer CONNECT in time")]
    ConnAckTimeout,
    /// Nothing from the server for too long after a PINGREQ.
    #[error("the server did not answer PINGREQ in time")]
    PingTimeout,
    /// The options make no CONNECT. [`ConnectOptions::check`](super::ConnectOptions::check) finds that before.
    #[error("CONNECT cannot be encoded: {0}")]
    Connect(EncodeError),
}

impl ClientError {
    /// With which a 5.0 server is told, if it is told.
    pub fn reason_code(&self) -> Option<ReasonCode> {
        match self {
            Self::Decode(error) => Some(error.reason_code()),
            Self::Session(error) => Some(error.reason_code()),
            Self::UnexpectedPacket(_)
            | Self::UnknownRequest(..)
            | Self::ReasonCodeCount { .. }
            | Self::SessionNotDiscarded
            | Self::UnknownSession
            | Self::AuthenticationMethod
            | Self::SessionExpiryInDisconnect => Some(ReasonCode::ProtocolError),
            Self::MaximumPacketSizeTooSmall(_)
            | Self::ConnAckTimeout
            | Self::PingTimeout
            | Self::Connect(_) => None,
        }
    }
}

/// Why a message is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// QoS 0 needs a connection; it is not kept for a later one.
    #[error("not connected, and a message at QoS 0 is not kept")]
    NotConnected,
    /// [`stored_messages`](super::ClientLimits::stored_messages) or
    /// [`stored_bytes`](super::ClientLimits::stored_bytes) is reached.
    #[error("too many messages wait to be sent")]
    StoreFull,
    /// [`output_bytes`](super::ClientLimits::output_bytes) is reached: the transport is slower than the
    /// application. Room comes when output is consumed.
    #[error("too many bytes wait for the transport")]
    OutputFull,
    /// The server takes no such QoS `[MQTT-3.2.2-11]`.
    #[error("the server takes messages up to QoS {0}")]
    QoSNotSupported(QoS),
    /// The server does not retain messages `[MQTT-3.2.2-14]`.
    #[error("the server does not retain messages")]
    RetainNotSupported,
    /// The server takes no such large packet `[MQTT-3.2.2-15]`.
    #[error("the packet has {size} bytes, the server takes at most {maximum}")]
    PacketTooLarge {
        /// Bytes of the PUBLISH.
        size: usize,
        /// What the server takes.
        maximum: u32,
    },
    /// The session gives topic aliases itself, see
    /// [`topic_aliases`](super::ClientLimits::topic_aliases).
    #[error("topic aliases are given by the session itself")]
    TopicAlias,
    /// A PUBLISH from a client has no subscription identifiers `[MQTT-3.3.4-6]`.
    #[error("only a server sends subscription identifiers")]
    SubscriptionIdentifier,
    /// A string contains U+0000 `[MQTT-1.5.4-2]`.
    #[error("a string contains U+0000")]
    Null,
    /// No topic, or a field that is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why a received message is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcknowledgeError {
    /// The message is acknowledged already, or cannot be any more: its connection (QoS 1) or its session
    /// (QoS 2) has ended. The server sends it again, or has forgotten it.
    #[error("the message is acknowledged already, or its connection or session has ended")]
    Stale,
    /// A PUBACK or PUBREC does not have that reason code.
    #[error("an acknowledgement does not have the reason code {0}")]
    ReasonCode(ReasonCode),
}

/// Why a SUBSCRIBE, UNSUBSCRIBE, AUTH or DISCONNECT is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection, or the server has not accepted it yet.
    #[error("not connected")]
    NotConnected,
    /// [`output_bytes`](super::ClientLimits::output_bytes) is reached.
    #[error("too many bytes wait for the transport")]
    OutputFull,
    /// All 65,535 packet identifiers are in use.
    #[error("no packet identifier is free")]
    NoPacketId,
    /// The server takes no such large packet `[MQTT-3.2.2-15]`.
    #[error("the packet has {size} bytes, the server takes at most {maximum}")]
    PacketTooLarge {
        /// Bytes of the packet.
        size: usize,
        /// What the server takes.
        maximum: u32,
    },
    /// The server has no wildcard subscriptions.
    #[error("the server has no wildcard subscriptions")]
    WildcardsNotSupported,
    /// The server has no shared subscriptions.
    #[error("the server has no shared subscriptions")]
    SharedNotSupported,
    /// The server has no subscription identifiers.
    #[error("the server has no subscription identifiers")]
    SubscriptionIdentifiersNotSupported,
    /// No local makes no sense on a shared subscription `[MQTT-3.8.3-4]`.
    #[error("no local on a shared subscription")]
    NoLocalShared,
    /// A string contains U+0000 `[MQTT-1.5.4-2]`.
    #[error("a string contains U+0000")]
    Null,
    /// The version has no AUTH.
    #[error("MQTT {0} has no extended authentication")]
    NotInVersion(ProtocolVersion),
    /// CONNECT named no authentication method, or none is under way.
    #[error("no extended authentication is under way")]
    NoAuthentication,
    /// A session that ends with its connection cannot be prolonged in DISCONNECT `[MQTT-3.1.2-23]`.
    #[error("a session expiry interval in DISCONNECT needs one in CONNECT")]
    SessionExpiry,
    /// A client does not send a DISCONNECT with this reason code.
    #[error("a client's DISCONNECT does not have the reason code {0}")]
    ReasonCode(ReasonCode),
    /// No filter, or a field that is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
