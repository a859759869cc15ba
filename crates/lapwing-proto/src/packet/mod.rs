//! The control packets of MQTT 3.1, 3.1.1 and 5.0: one model, and its bytes.
//!
//! A decoded packet borrows from the bytes it came from, so decoding copies and allocates nothing. What
//! arrives is decoded in two steps: [`Frame::split`] finds the next whole packet at the front of any
//! bytes, [`Packet::decode`] gives it its meaning. This module alone knows how the versions differ on the
//! wire: what a version does not have is left out when encoding (a property in 3.1.1) and takes its
//! default when decoding.
//!
//! ```
//! use lapwing_proto::packet::{Frame, Packet, ProtocolVersion, Publish, QoS};
//! use lapwing_proto::topic::TopicName;
//!
//! let topic = TopicName::new("gate/door_1/event").unwrap();
//! let packet = Packet::Publish(Publish::new(topic, b"open"));
//! let mut bytes = Vec::new();
//! packet.encode(ProtocolVersion::V5, &mut bytes).unwrap();
//! assert_eq!(bytes.len(), packet.size(ProtocolVersion::V5).unwrap());
//!
//! let mut input = &bytes[..];
//! let frame = Frame::split(&mut input, 1024).unwrap().expect("a whole packet");
//! assert_eq!(Packet::decode(frame, ProtocolVersion::V5).unwrap(), packet);
//! assert!(input.is_empty());
//! ```

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod property;
mod publish;
mod reader;
mod reason_code;
mod run;
mod sequence;
mod subscribe;
mod value;
mod writer;

pub use ack::{Ack, AckProperties, SubAck};
pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use error::{DecodeError, EncodeError};
pub use frame::{Frame, MAXIMUM_PACKET_SIZE, PacketType};
pub use property::PropertyId;
pub use publish::{Publish, PublishProperties};
pub use reason_code::ReasonCode;
pub use run::{Run, RunLimit};
pub use sequence::{Element, Sequence};
pub use subscribe::{RetainHandling, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions};
pub use subscribe::{Unsubscribe, UnsubscribeProperties};
pub use value::{
    PacketId, PayloadFormat, ProtocolVersion, QoS, SubscriptionIdentifier, TopicAlias, UserProperty,
};

/// Any control packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packet<'a> {
    /// Client to server: the first packet.
    Connect(Connect<'a>),
    /// Server to client: the answer to CONNECT.
    ConnAck(ConnAck<'a>),
    /// Either way: a message.
    Publish(Publish<'a>),
    /// Either way: QoS 1, received.
    PubAck(Ack<'a>),
    /// Either way: QoS 2, received.
    PubRec(Ack<'a>),
    /// Either way: QoS 2, the sender has forgotten the message.
    PubRel(Ack<'a>),
    /// Either way: QoS 2, the receiver has forgotten the packet identifier.
    PubComp(Ack<'a>),
    /// Client to server.
    Subscribe(Subscribe<'a>),
    /// Server to client.
    SubAck(SubAck<'a>),
    /// Client to server.
    Unsubscribe(Unsubscribe<'a>),
    /// Server to client.
    UnsubAck(SubAck<'a>),
    /// Client to server: still here.
    PingReq,
    /// Server to client: so am I.
    PingResp,
    /// Either way in 5.0, client to server before.
    Disconnect(Disconnect<'a>),
    /// Either way, 5.0 only.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes the packet in `frame` as `version` has it. A CONNECT says its version itself.
    ///
    /// # Errors
    /// A [`DecodeError`] carries the Reason Code with which a 5.0 peer is to be told, and the fault in
    /// words.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        // The packets that come with each message are decoded where they are used; a packet of any type is large.
        match frame.packet_type() {
            PacketType::PubAck => Ack::decode(frame, version).map(Self::PubAck),
            PacketType::PubRec => Ack::decode(frame, version).map(Self::PubRec),
            PacketType::PubRel => Ack::decode(frame, version).map(Self::PubRel),
            PacketType::PubComp => Ack::decode(frame, version).map(Self::PubComp),
            _ => Self::decode_any(frame, version),
        }
    }

    fn decode_any(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        Ok(match frame.packet_type() {
            PacketType::Connect => Self::Connect(Connect::decode(frame)?),
            PacketType::ConnAck => Self::ConnAck(ConnAck::decode(frame, version)?),
            PacketType::Publish => Self::Publish(Publish::decode(frame, version)?),
            PacketType::PubAck => Self::PubAck(Ack::decode(frame, version)?),
            PacketType::PubRec => Self::PubRec(Ack::decode(frame, version)?),
            PacketType::PubRel => Self::PubRel(Ack::decode(frame, version)?),
            PacketType::PubComp => Self::PubComp(Ack::decode(frame, version)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(frame, version)?),
            PacketType::SubAck => Self::SubAck(SubAck::decode(frame, version)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(frame, version)?),
            PacketType::UnsubAck => Self::UnsubAck(SubAck::decode(frame, version)?),
            PacketType::PingReq | PacketType::PingResp => {
                frame.check_header(version)?;
                frame.reader().finish()?;
                if frame.packet_type() == PacketType::PingReq { Self::PingReq } else { Self::PingResp }
            }
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(frame, version)?),
            PacketType::Auth => Self::Auth(Auth::decode(frame, version)?),
        })
    }

    /// Appends the packet's bytes to `out`: exactly [`size`](Self::size) of them, or none on an error.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(PacketType::PubAck, version, out),
            Self::PubRec(packet) => packet.encode(PacketType::PubRec, version, out),
            Self::PubRel(packet) => packet.encode(PacketType::PubRel, version, out),
            Self::PubComp(packet) => packet.encode(PacketType::PubComp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(PacketType::SubAck, version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(PacketType::UnsubAck, version, out),
            Self::PingReq => writer::packet(out, PacketType::PingReq, 0, Ok(0), |_| ()),
            Self::PingResp => writer::packet(out, PacketType::PingResp, 0, Ok(0), |_| ()),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn size(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let remaining = match self {
            Self::Connect(packet) => packet.remaining_length(),
            Self::ConnAck(packet) => packet.remaining_length(version),
            Self::Publish(packet) => packet.remaining_length(version),
            Self::PubAck(packet) | Self::PubRec(packet) | Self::PubRel(packet) | Self::PubComp(packet) => {
                packet.remaining_length(version)
            }
            Self::Subscribe(packet) => packet.remaining_length(version),
            Self::SubAck(packet) => packet.remaining_length(PacketType::SubAck, version),
            Self::Unsubscribe(packet) => packet.remaining_length(version),
            Self::UnsubAck(packet) => packet.remaining_length(PacketType::UnsubAck, version),
            Self::PingReq | Self::PingResp => Ok(0),
            Self::Disconnect(packet) => packet.remaining_length(version),
            Self::Auth(packet) => packet.remaining_length(version),
        }?;
        writer::total_size(remaining)
    }
}
