//! A client session, and what its owner and its server do, packet by packet.
#![allow(dead_code, reason = "each test program needs a part of it")]

use std::time::Duration;

use lapwing_proto::packet::{
    ConnAck, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketId, PacketType, ProtocolVersion, Publish, QoS,
    ReasonCode,
};
use lapwing_proto::session::{
    Cause, ClientError, ClientSession, ConnectOptions, Event, Instant, Message, Token,
};
use lapwing_proto::topic::TopicName;

pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;
pub(crate) const NOW: Instant = Instant::from_millis(1_000);

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(crate) fn after(seconds: u64) -> Instant {
    NOW + Duration::from_secs(seconds)
}

pub(crate) fn message(topic: &str, qos: QoS, packet_id: u16) -> Publish<'_> {
    let mut publish = Publish::new(TopicName::new(topic).unwrap(), b"payload");
    publish.qos = qos;
    publish.packet_id = PacketId::new(packet_id);
    publish
}

/// A client session and what its owner does, save for the network.
pub(crate) struct Played {
    pub(crate) client: ClientSession,
    pub(crate) version: ProtocolVersion,
}

impl Played {
    pub(crate) fn new(options: ConnectOptions) -> Self {
        Self { version: options.version, client: ClientSession::new(options).unwrap() }
    }

    /// Connected, with this CONNACK, and the events up to then taken.
    pub(crate) fn connected(options: ConnectOptions, connack: ConnAck<'_>) -> Self {
        let mut played = Self::new(options);
        played.connect(connack);
        played
    }

    pub(crate) fn v5() -> Self {
        Self::connected(ConnectOptions::new(V5, "c"), ConnAck::new(false, ReasonCode::Success))
    }

    pub(crate) fn connect(&mut self, connack: ConnAck<'_>) {
        self.client.connected(NOW);
        assert_eq!(self.sent(), [PacketType::Connect]);
        self.answer(Packet::ConnAck(connack)).unwrap();
        assert!(matches!(self.client.poll_event(), Some(Event::Connected(_))));
    }

    /// A connection that is lost, and the next one.
    pub(crate) fn reconnect(&mut self, session_present: bool) {
        self.client.disconnected();
        while self.client.poll_event().is_some() {}
        self.connect(ConnAck::new(session_present, ReasonCode::Success));
    }

    pub(crate) fn answer(&mut self, packet: Packet<'_>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.client.receive(&bytes, NOW)
    }

    /// The bytes that the client sends.
    pub(crate) fn output(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.client.output().is_empty() {
            let output = self.client.output().to_vec();
            self.client.consume(output.len(), NOW);
            all.extend(output);
        }
        all
    }

    pub(crate) fn sent(&mut self) -> Vec<PacketType> {
        let output = self.output();
        packets(&output, self.version).iter().map(packet_type).collect()
    }

    pub(crate) fn publish(&mut self, qos: QoS) -> Token {
        self.client.publish(&message("t", qos, 0)).unwrap()
    }

    pub(crate) fn event(&mut self) -> Event {
        self.client.poll_event().expect("an event")
    }

    pub(crate) fn message(&mut self) -> Message {
        match self.event() {
            Event::Message(message) => message,
            event => panic!("{event:?} instead of a message"),
        }
    }

    /// Closes and gives the cause.
    pub(crate) fn cause(&mut self) -> Cause {
        assert!(self.client.is_closing());
        self.client.disconnected();
        loop {
            if let Event::Disconnected(cause) = self.event() {
                assert!(self.client.poll_event().is_none());
                return cause;
            }
        }
    }
}

pub(crate) fn packets(mut bytes: &[u8], version: ProtocolVersion) -> Vec<Packet<'_>> {
    let mut packets = Vec::new();
    while let Some(frame) = Frame::split(&mut bytes, MAXIMUM_PACKET_SIZE).unwrap() {
        packets.push(Packet::decode(frame, version).unwrap());
    }
    assert!(bytes.is_empty());
    packets
}

pub(crate) fn packet_type(packet: &Packet<'_>) -> PacketType {
    match packet {
        Packet::Connect(_) => PacketType::Connect,
        Packet::ConnAck(_) => PacketType::ConnAck,
        Packet::Publish(_) => PacketType::Publish,
        Packet::PubAck(_) => PacketType::PubAck,
        Packet::PubRec(_) => PacketType::PubRec,
        Packet::PubRel(_) => PacketType::PubRel,
        Packet::PubComp(_) => PacketType::PubComp,
        Packet::Subscribe(_) => PacketType::Subscribe,
        Packet::SubAck(_) => PacketType::SubAck,
        Packet::Unsubscribe(_) => PacketType::Unsubscribe,
        Packet::UnsubAck(_) => PacketType::UnsubAck,
        Packet::PingReq => PacketType::PingReq,
        Packet::PingResp => PacketType::PingResp,
        Packet::Disconnect(_) => PacketType::Disconnect,
        Packet::Auth(_) => PacketType::Auth,
    }
}

pub(crate) fn publishes(bytes: &[u8], version: ProtocolVersion) -> Vec<(u16, QoS, bool)> {
    let describe = |packet: Packet<'_>| match packet {
        Packet::Publish(publish) => (publish.packet_id.map_or(0, PacketId::get), publish.qos, publish.dup),
        packet => panic!("{packet:?} instead of a PUBLISH"),
    };
    packets(bytes, version).into_iter().map(describe).collect()
}
