//! A client that does what it is told, right or wrong.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lapwing_proto::packet::{Connect, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};
use lapwing_proto::packet::{Subscribe, Subscription, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicName};
use socket2::{Domain, Socket, Type};

use super::{Broker, SOON};

/// One connection to the broker.
pub(crate) struct Peer {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
}

/// The bytes of one packet.
pub(crate) struct Received {
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl Received {
    pub(crate) fn packet(&self) -> Packet<'_> {
        let mut input = &self.bytes[..];
        let frame = Frame::split(&mut input, u32::MAX).expect("a frame").expect("a whole one");
        Packet::decode(frame, self.version).expect("the broker's packets can be decoded")
    }
}

impl Peer {
    /// Connects the socket, nothing more.
    pub(crate) fn raw(broker: &Broker) -> Self {
        Self::try_raw(broker).expect("it accepts")
    }

    pub(crate) fn try_raw(broker: &Broker) -> std::io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&broker.address(), SOON)?)
    }

    /// Connects the socket to another address of the broker than the first one.
    pub(crate) fn raw_to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, SOON).expect("it accepts"))
            .expect("options can be set")
    }

    /// Connects the socket from an address of this machine.
    pub(crate) fn from_address(broker: &Broker, own: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&own.into()).expect("it is an address of this machine");
        socket.connect_timeout(&broker.address().into(), SOON).expect("it accepts");
        Self::over(socket.into()).expect("options can be set")
    }

    fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        Ok(Self { stream, version: ProtocolVersion::V5, received: Vec::new() })
    }

    /// Connects a client with a clean start.
    pub(crate) fn connect(broker: &Broker, version: ProtocolVersion, client_id: &str) -> Self {
        Self::connect_with(broker, &Connect::new(version, client_id))
    }

    pub(crate) fn connect_with(broker: &Broker, connect: &Connect<'_>) -> Self {
        let mut peer = Self::raw(broker);
        let code = peer.present(connect);
        assert_eq!(code, Some(ReasonCode::Success), "{:#?}", broker.lines());
        peer
    }

    /// Sends a CONNECT; the Reason Code of the answer, or `None` if the connection ends without one.
    pub(crate) fn present(&mut self, connect: &Connect<'_>) -> Option<ReasonCode> {
        self.version = connect.version;
        self.try_send(&Packet::Connect(*connect)).ok()?;
        let answer = self.receive()?;
        match answer.packet() {
            Packet::ConnAck(connack) => Some(connack.reason_code),
            packet => panic!("{packet:?} instead of a CONNACK"),
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        self.try_send(packet).expect("the broker reads");
    }

    pub(crate) fn try_send(&mut self, packet: &Packet<'_>) -> std::io::Result<()> {
        self.try_send_bytes(&encoded(packet, self.version))
    }

    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes `bytes` again and again until the broker takes no more for `pause`, or `limit` bytes are written.
    /// How many bytes it took.
    pub(crate) fn flood(&mut self, bytes: &[u8], pause: Duration, limit: usize) -> usize {
        self.stream.set_write_timeout(Some(pause)).expect("a timeout can be set");
        let mut written = 0;
        while written < limit {
            match self.stream.write(&bytes[written % bytes.len()..]) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(SOON)).expect("a timeout can be set");
        written
    }

    /// The next packet, or `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        let deadline = Instant::now() + SOON;
        loop {
            let mut input = &self.received[..];
            if Frame::split(&mut input, u32::MAX).expect("well formed").is_some() {
                let length = self.received.len() - input.len();
                let bytes = self.received.drain(..length).collect();
                return Some(Received { bytes, version: self.version });
            }
            if !self.fill(deadline) {
                return None;
            }
        }
    }

    /// Reads what is there, or waits for it; `false` at the end of the connection.
    fn fill(&mut self, deadline: Instant) -> bool {
        let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(rest)).expect("a timeout can be set");
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the broker neither sends nor closes")
            }
            Err(_) => false,
        }
    }

    /// Reads and throws away until the broker closes the connection.
    pub(crate) fn wait_for_close(&mut self) {
        let deadline = Instant::now() + SOON;
        while self.fill(deadline) {
            self.received.clear();
        }
    }

    /// The Reason Code of the DISCONNECT with which the broker ends the connection; packets before it are passed
    /// over. `None` if it ends without one.
    pub(crate) fn wait_for_disconnect(&mut self) -> Option<ReasonCode> {
        let mut reason_code = None;
        while let Some(received) = self.receive() {
            if let Packet::Disconnect(disconnect) = received.packet() {
                reason_code = Some(disconnect.reason_code);
            }
        }
        reason_code
    }

    /// All the bytes that come until the broker closes the connection, or as many as `enough` asks for.
    pub(crate) fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + SOON;
        while !enough(&self.received) && self.fill(deadline) {}
        std::mem::take(&mut self.received)
    }

    /// Ends this end's direction.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Subscribes; the result for each filter.
    pub(crate) fn subscribe(&mut self, filters: &[&str], qos: QoS) -> Vec<ReasonCode> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let subscriptions: Vec<_> =
            filters.iter().map(|text| Subscription { filter: filter(text), options }).collect();
        self.send(&Packet::Subscribe(Subscribe::new(PacketId::FIRST, &subscriptions)));
        loop {
            let received = self.receive().expect("a SUBACK");
            if let Packet::SubAck(suback) = received.packet() {
                return suback.reason_codes.iter().collect();
            }
        }
    }

    /// Publishes at QoS 0.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.send(&Packet::Publish(Publish::new(name(topic), payload)));
    }

    /// Publishes at QoS 1; what the broker says to it.
    pub(crate) fn publish_acknowledged(&mut self, topic: &str) -> ReasonCode {
        let mut publish = Publish::new(name(topic), b"x");
        (publish.qos, publish.packet_id) = (QoS::AtLeastOnce, Some(PacketId::FIRST));
        self.send(&Packet::Publish(publish));
        match self.receive().expect("it answers").packet() {
            Packet::PubAck(ack) => ack.reason_code,
            packet => panic!("{packet:?}"),
        }
    }

    /// Sends a PINGREQ and waits until it is answered: all that was sent before has been handled.
    pub(crate) fn ping(&mut self) {
        self.send(&Packet::PingReq);
        loop {
            let received = self.receive().expect("a PINGRESP");
            if received.packet() == Packet::PingResp {
                return;
            }
        }
    }

    /// How long a message takes to the broker and back, by way of a subscription of its own.
    pub(crate) fn round_trip(&mut self, topic: &str) -> Duration {
        let start = Instant::now();
        let mut publish = Publish::new(name(topic), b"back to me");
        publish.qos = QoS::AtLeastOnce;
        publish.packet_id = Some(PacketId::FIRST);
        self.send(&Packet::Publish(publish));
        let (mut is_back, mut is_acknowledged) = (false, false);
        while !is_back || !is_acknowledged {
            match self.receive().expect("the message").packet() {
                Packet::Publish(publish) => is_back |= publish.topic == Some(name(topic)),
                Packet::PubAck(_) => is_acknowledged = true,
                _ => {}
            }
        }
        start.elapsed()
    }
}

/// A packet's bytes.
pub(crate) fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("the packet can be encoded");
    bytes
}

pub(crate) fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).expect("a topic name")
}

pub(crate) fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).expect("a topic filter")
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not 0")
}
