//! What a client is told.

use std::fmt;

use super::{ClientError, PublishError};
use crate::packet::{
    Ack, Auth, ConnAck, Disconnect, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketId, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, SubAck,
};
use crate::topic::TopicName;

/// Stands for something that the application has asked for, so that its result can be recognised. Unlike
/// packet identifiers, tokens are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(super) u64);

impl Token {
    /// Counts from 1 in the order of the requests.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Something that has happened. Events own what they hold.
#[derive(Debug, Clone)]
pub enum Event {
    /// The server has accepted the connection.
    Connected(Connected),
    /// The server has refused the connection, in a CONNACK. [`Disconnected`](Event::Disconnected) follows
    /// when the transport is closed.
    Refused(ReceivedPacket),
    /// A message has arrived.
    Message(Message),
    /// The server has taken a message at QoS 1 or 2, or has refused it for good: see the reason code. For
    /// QoS 0 there is no such event.
    Published {
        /// Of the publish.
        token: Token,
        /// The result; always success before 5.0.
        reason_code: ReasonCode,
        /// The PUBACK, PUBREC or PUBCOMP, where it has properties.
        packet: Option<ReceivedPacket>,
    },
    /// A message that had been accepted cannot be sent, because the server that has since been connected to
    /// does not take it.
    PublishFailed {
        /// Of the publish.
        token: Token,
        /// What the server does not take.
        error: PublishError,
    },
    /// A SUBACK has arrived.
    Subscribed {
        /// Of the subscribe.
        token: Token,
        /// The SUBACK; see [`ReceivedPacket::reason_codes`].
        packet: ReceivedPacket,
    },
    /// An UNSUBACK has arrived.
    Unsubscribed {
        /// Of the unsubscribe.
        token: Token,
        /// The UNSUBACK; see [`ReceivedPacket::reason_codes`].
        packet: ReceivedPacket,
    },
    /// The connection ended before a subscribe or unsubscribe was answered. Whether the server has done it is
    /// not known.
    Abandoned {
        /// Of the request.
        token: Token,
    },
    /// An AUTH has arrived. With [`ReasonCode::ContinueAuthentication`] it asks for
    /// [`auth`](super::ClientSession::auth).
    Auth(ReceivedPacket),
    /// The transport is closed: the last event of every connection.
    Disconnected(Cause),
}

/// Why a connection has ended.
#[derive(Debug, Clone)]
pub enum Cause {
    /// The transport was lost.
    Transport,
    /// The application asked for it.
    Requested,
    /// The server refused it.
    Refused(ReasonCode),
    /// The server sent a DISCONNECT.
    Server(ReceivedPacket),
    /// The server broke the protocol or was silent for too long.
    Error(ClientError),
}

/// An accepted connection.
#[derive(Debug, Clone)]
pub struct Connected {
    /// The CONNACK.
    pub packet: ReceivedPacket,
    /// Whether the session is gone on with. As Session Present in the CONNACK, save that 3.1 cannot say it:
    /// there it is assumed wherever the CONNECT did not ask for a clean session.
    pub resumed: bool,
}

impl Connected {
    /// The CONNACK.
    pub fn connack(&self) -> ConnAck<'_> {
        self.packet.connack().unwrap_or(ConnAck::new(self.resumed, ReasonCode::Success))
    }
}

/// A packet that has arrived, kept as the bytes that it came in and decoded whenever it is looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// Have been decoded once without an error.
    bytes: Box<[u8]>,
    version: ProtocolVersion,
}

impl ReceivedPacket {
    pub(super) fn new(bytes: &[u8], version: ProtocolVersion) -> Self {
        Self { bytes: bytes.into(), version }
    }

    /// The packet; `None` never happens.
    pub fn packet(&self) -> Option<Packet<'_>> {
        let frame = Frame::split(&mut &self.bytes[..], MAXIMUM_PACKET_SIZE).ok().flatten()?;
        Packet::decode(frame, self.version).ok()
    }

    /// The packet, if it is a CONNACK.
    pub fn connack(&self) -> Option<ConnAck<'_>> {
        if let Some(Packet::ConnAck(packet)) = self.packet() { Some(packet) } else { None }
    }

    /// The packet, if it is a PUBACK, PUBREC or PUBCOMP.
    pub fn ack(&self) -> Option<Ack<'_>> {
        match self.packet() {
            Some(Packet::PubAck(packet) | Packet::PubRec(packet) | Packet::PubComp(packet)) => Some(packet),
            _ => None,
        }
    }

    /// The packet, if it is a SUBACK or UNSUBACK.
    pub fn suback(&self) -> Option<SubAck<'_>> {
        match self.packet() {
            Some(Packet::SubAck(packet) | Packet::UnsubAck(packet)) => Some(packet),
            _ => None,
        }
    }

    /// A SUBACK's or UNSUBACK's result for each filter. An UNSUBACK before 5.0 has none.
    pub fn reason_codes(&self) -> impl Iterator<Item = ReasonCode> + use<> {
        let codes: Vec<ReasonCode> =
            self.suback().map(|packet| packet.reason_codes.iter().collect()).unwrap_or_default();
        codes.into_iter()
    }

    /// The packet, if it is an AUTH.
    pub fn auth(&self) -> Option<Auth<'_>> {
        if let Some(Packet::Auth(packet)) = self.packet() { Some(packet) } else { None }
    }

    /// The packet, if it is a DISCONNECT.
    pub fn disconnect(&self) -> Option<Disconnect<'_>> {
        if let Some(Packet::Disconnect(packet)) = self.packet() { Some(packet) } else { None }
    }
}

impl fmt::Debug for ReceivedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet().fmt(f)
    }
}

/// A message that has arrived: one allocation with the bytes of its PUBLISH.
#[derive(Clone)]
pub struct Message {
    /// The PUBLISH, decoded once without an error; behind it the topic name, where a topic alias stood for
    /// it.
    bytes: Box<[u8]>,
    topic_start: u32,
    payload_start: u32,
    payload_len: u32,
    topic_len: u16,
    version: ProtocolVersion,
    receipt: Option<MessageReceipt>,
}

/// Stands for a received QoS 1 or 2 message that is to be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageReceipt {
    pub(super) number: u64,
    pub(super) packet_id: PacketId,
    pub(super) qos: QoS,
}

impl Message {
    /// Keeps `bytes`, from which `publish` has been decoded, and `topic`, which it is for.
    pub(super) fn new(
        bytes: &[u8],
        publish: &Publish<'_>,
        topic: TopicName<'_>,
        version: ProtocolVersion,
        receipt: Option<MessageReceipt>,
    ) -> Self {
        let (topic, size) = (topic.as_str(), bytes.len());
        let aliased = publish.topic.is_none();
        let mut owned = Vec::with_capacity(size + if aliased { topic.len() } else { 0 });
        owned.extend_from_slice(bytes);
        let topic_start = if aliased {
            owned.extend_from_slice(topic.as_bytes());
            size
        } else {
            // Behind the first byte, the remaining length and the topic's own length.
            let remaining = bytes.iter().skip(1).take_while(|&byte| byte & 0x80 != 0).count() + 1;
            1 + remaining + 2
        };
        Self {
            bytes: owned.into(),
            topic_start: topic_start as u32,
            payload_start: (size - publish.payload.len()) as u32,
            payload_len: publish.payload.len() as u32,
            topic_len: topic.len() as u16,
            version,
            receipt,
        }
    }

    /// The topic name, whether it came as such or as an alias.
    pub fn topic(&self) -> &str {
        let start = self.topic_start as usize;
        let topic = self.bytes.get(start..start + usize::from(self.topic_len));
        topic.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        let start = self.payload_start as usize;
        &self.bytes[start..start + self.payload_len as usize]
    }

    /// The quality of service of this delivery.
    pub fn qos(&self) -> QoS {
        QoS::from_bits(self.bytes[0] >> 1 & 0b11).unwrap_or_default()
    }

    /// Whether the server had kept the message.
    pub fn retain(&self) -> bool {
        self.bytes[0] & 1 != 0
    }

    /// Whether the server may have sent the message before.
    pub fn dup(&self) -> bool {
        self.bytes[0] & 0b1000 != 0 && self.qos() > QoS::AtMostOnce
    }

    /// The packet identifier at QoS 1 and 2.
    pub fn packet_id(&self) -> Option<PacketId> {
        self.receipt.map(|receipt| receipt.packet_id)
    }

    /// The whole PUBLISH with its properties, decoded anew; the topic name is there also where an alias
    /// stood for it.
    pub fn publish(&self) -> Option<Publish<'_>> {
        let frame = Frame::split(&mut &self.bytes[..], MAXIMUM_PACKET_SIZE).ok().flatten()?;
        let mut publish = Publish::decode(frame, self.version).ok()?;
        publish.topic = publish.topic.or_else(|| TopicName::new(self.topic()).ok());
        Some(publish)
    }

    /// The properties, decoded anew.
    pub fn properties(&self) -> PublishProperties<'_> {
        self.publish().map(|publish| publish.properties).unwrap_or_default()
    }

    /// What [`acknowledge`](super::ClientSession::acknowledge) needs; `None` at QoS 0.
    pub fn receipt(&self) -> Option<MessageReceipt> {
        self.receipt
    }

    /// How many bytes of memory the message holds besides itself.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("dup", &self.dup())
            .field("packet_id", &self.packet_id())
            .field("payload_len", &self.payload_len)
            .finish_non_exhaustive()
    }
}
