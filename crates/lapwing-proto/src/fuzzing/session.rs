use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::packet::{
    Ack, Auth, ConnAck, Disconnect, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketId, PacketType,
    ProtocolVersion, Publish, QoS, ReasonCode, SubAck, SubscribeProperties, Subscription,
    SubscriptionOptions, TopicAlias, UnsubscribeProperties,
};
use crate::session::{
    Acknowledgement, CleanStart, ClientSession, ConnectOptions, Event, Instant, KeepAlive, Link, LinkLimits,
    MessageReceipt, Outbound, ServerSession,
};
use crate::topic::{TopicFilter, TopicName};

/// Drives a client session with a hostile server, and a server session with a hostile client: a list of
/// operations, among them any bytes and any packets from the peer. Nothing panics, what is sent is a stream of
/// packets, nothing is counted twice or lost, and memory stays within the limits.
pub fn session(data: &[u8]) {
    let mut bytes = Bytes(data);
    if bytes.next().is_multiple_of(4) {
        drive_server(&mut bytes);
    } else {
        Client::new(&mut bytes).drive(&mut bytes);
    }
}

/// What is left of the input. It ends with zeros.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    fn take(&mut self, count: u8) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(usize::from(count).min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.next() % 3).unwrap_or_default()
    }

    /// Small identifiers, so that they meet.
    fn packet_id(&mut self) -> PacketId {
        PacketId::new(u16::from(self.next() % 8)).unwrap_or(PacketId::FIRST)
    }

    fn reason_code(&mut self) -> ReasonCode {
        ReasonCode::from_value(self.next()).unwrap_or_default()
    }

    fn topic(&mut self) -> TopicName<'static> {
        let names = ["a", "a/b", "a/b/c", "long/topic/name"];
        TopicName::new(names[usize::from(self.next() % 4)]).expect("these are topic names")
    }
}

const OUTPUT: usize = 200;
const EVENTS: usize = 10;
const STORED_MESSAGES: usize = 12;
const STORED_BYTES: usize = 1000;
/// More than one operation can add.
const STEP: usize = 2048;

struct Client {
    session: ClientSession,
    version: ProtocolVersion,
    now: Instant,
    /// What the session has sent on this connection.
    sent: Vec<u8>,
    receipts: Vec<MessageReceipt>,
    accepted: usize,
    done: usize,
    connections: usize,
    ended: usize,
}

impl Client {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let flags = bytes.next();
        let version = match flags % 4 {
            0 => ProtocolVersion::V31,
            1 => ProtocolVersion::V311,
            _ => ProtocolVersion::V5,
        };
        let mut options = ConnectOptions::new(version, "client");
        options.clean_start = match flags >> 2 & 3 {
            0 => CleanStart::Always,
            1 => CleanStart::First,
            _ => CleanStart::Never,
        };
        options.resume_unknown_session = flags & 16 != 0;
        if flags & 32 != 0 {
            options.acknowledgement = Acknowledgement::Manual;
        }
        options.authentication_method = (flags & 64 != 0).then(|| "method".to_owned());
        options.receive_maximum = NonZeroU16::new(u16::from(bytes.next() % 5)).unwrap_or(NonZeroU16::MAX);
        options.maximum_packet_size = NonZeroU32::new(300).unwrap_or(NonZeroU32::MAX);
        options.topic_alias_maximum = u16::from(bytes.next() % 4);
        options.limits.topic_aliases = 3;
        options.limits.output_bytes = OUTPUT;
        options.limits.events = EVENTS;
        options.limits.stored_messages = STORED_MESSAGES;
        options.limits.stored_bytes = STORED_BYTES;
        Self {
            session: ClientSession::new(options).expect("these options are valid"),
            version,
            now: Instant::from_millis(0),
            sent: Vec::new(),
            receipts: Vec::new(),
            accepted: 0,
            done: 0,
            connections: 0,
            ended: 0,
        }
    }

    fn drive(mut self, bytes: &mut Bytes<'_>) {
        while !bytes.0.is_empty() {
            self.step(bytes);
            self.check_bounds();
        }
        self.end_connection();
        self.session.disconnected();
        while self.poll_event() {}
        assert_eq!(self.ended, self.connections, "each connection ends once");
        assert_eq!(
            self.accepted - self.done,
            self.session.stored_messages(),
            "every message is accounted for"
        );
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.next() % 16 {
            0 => {
                self.end_connection();
                self.session.connected(self.now);
                self.connections += 1;
            }
            1 => {
                self.end_connection();
                self.session.disconnected();
            }
            2 => {
                let length = bytes.next();
                self.receive(bytes.take(length));
            }
            3..=7 => self.receive_packet(bytes),
            8 => self.publish(bytes),
            9 => self.request(bytes),
            10 => {
                let _ = self.session.disconnect(bytes.reason_code(), Some(u32::from(bytes.next())));
            }
            11 => {
                let length = usize::from(bytes.next()).min(self.session.output().len());
                self.sent.extend_from_slice(&self.session.output()[..length]);
                self.session.consume(length, self.now);
            }
            12 | 13 => {
                self.poll_event();
            }
            14 => {
                self.now = self.now + Duration::from_secs(u64::from(bytes.next()));
                if self.session.handle_timeout(self.now).is_err() {
                    assert!(self.session.is_closing());
                }
            }
            _ => {
                if let Some(index) = usize::from(bytes.next()).checked_rem(self.receipts.len()) {
                    let receipt = self.receipts.swap_remove(index);
                    let _ = self.session.acknowledge(receipt, bytes.reason_code());
                }
            }
        }
    }

    fn receive(&mut self, input: &[u8]) {
        if self.session.wants_input() && self.session.receive(input, self.now).is_err() {
            assert!(self.session.is_closing());
        }
    }

    /// A packet that is well formed, though a server may not be allowed to send it.
    fn receive_packet(&mut self, bytes: &mut Bytes<'_>) {
        let codes = [bytes.reason_code(), ReasonCode::Success];
        let ack = |bytes: &mut Bytes<'_>| Ack::new(bytes.packet_id(), codes[0]);
        let suback = |bytes: &mut Bytes<'_>| {
            let count = 1 + usize::from(bytes.next() % 2);
            (bytes.packet_id(), count)
        };
        let packet = match bytes.next() % 12 {
            0 | 1 => {
                let mut connack = ConnAck::new(bytes.next() & 1 != 0, codes[0]);
                connack.properties.receive_maximum = NonZeroU16::new(u16::from(bytes.next() % 4));
                connack.properties.topic_alias_maximum = Some(u16::from(bytes.next() % 4));
                connack.properties.maximum_packet_size = NonZeroU32::new(u32::from(bytes.next()));
                connack.properties.maximum_qos = Some(QoS::AtLeastOnce).filter(|_| bytes.next() & 1 != 0);
                connack.properties.authentication_method =
                    self.session.options().authentication_method.is_some().then_some("method");
                return self.receive_encoded(&Packet::ConnAck(connack));
            }
            2..=4 => {
                let length = bytes.next();
                let mut publish = Publish::new(bytes.topic(), &[]);
                publish.qos = bytes.qos();
                publish.packet_id = (publish.qos > QoS::AtMostOnce).then(|| bytes.packet_id());
                publish.properties.topic_alias = TopicAlias::new(u16::from(bytes.next() % 4));
                if publish.properties.topic_alias.is_some() && bytes.next() & 1 != 0 {
                    publish.topic = None;
                }
                publish.payload = bytes.take(length);
                Packet::Publish(publish)
            }
            5 => Packet::PubAck(ack(bytes)),
            6 => Packet::PubRec(ack(bytes)),
            7 => Packet::PubRel(ack(bytes)),
            8 => Packet::PubComp(ack(bytes)),
            9 => {
                let (packet_id, count) = suback(bytes);
                return self.receive_encoded(&Packet::SubAck(SubAck::new(packet_id, &codes[..count])));
            }
            10 => {
                let (packet_id, count) = suback(bytes);
                return self.receive_encoded(&Packet::UnsubAck(SubAck::new(packet_id, &codes[..count])));
            }
            _ => match bytes.next() % 3 {
                0 => Packet::Auth(Auth::new(codes[0], "method", b"data")),
                1 => Packet::PingResp,
                _ => Packet::Disconnect(Disconnect::new(codes[0])),
            },
        };
        self.receive_encoded(&packet);
    }

    fn receive_encoded(&mut self, packet: &Packet<'_>) {
        let mut encoded = Vec::new();
        if packet.encode(self.version, &mut encoded).is_ok() {
            self.receive(&encoded);
        }
    }

    fn publish(&mut self, bytes: &mut Bytes<'_>) {
        let length = bytes.next();
        let mut publish = Publish::new(bytes.topic(), &[]);
        publish.qos = bytes.qos();
        publish.payload = bytes.take(length);
        if self.session.publish(&publish).is_ok() && publish.qos > QoS::AtMostOnce {
            self.accepted += 1;
        }
    }

    fn request(&mut self, bytes: &mut Bytes<'_>) {
        let filters = ["a/#", "+/b"].map(|text| TopicFilter::new(text).expect("these are filters"));
        let count = 1 + usize::from(bytes.next() % 2);
        let _ = match bytes.next() % 4 {
            0 => self.session.auth(b"data"),
            1 => self.session.reauthenticate(b"data"),
            2 => {
                let unsubscribe = UnsubscribeProperties::default();
                self.session.unsubscribe(&filters[..count], unsubscribe).map(drop)
            }
            _ => {
                let options = SubscriptionOptions::new(bytes.qos());
                let subscriptions = filters.map(|filter| Subscription { filter, options });
                self.session.subscribe(&subscriptions[..count], SubscribeProperties::default()).map(drop)
            }
        };
    }

    fn poll_event(&mut self) -> bool {
        let Some(event) = self.session.poll_event() else { return false };
        match event {
            Event::Message(message) => {
                let publish = message.publish().expect("a message can be decoded again");
                assert_eq!(publish.topic.map(TopicName::as_str), Some(message.topic()));
                assert_eq!((publish.payload, publish.qos), (message.payload(), message.qos()));
                assert_eq!((publish.dup, publish.retain), (message.dup(), message.retain()));
                assert_eq!(publish.packet_id, message.packet_id());
                self.receipts.extend(message.receipt());
            }
            Event::Published { .. } | Event::PublishFailed { .. } => self.done += 1,
            Event::Disconnected(_) => self.ended += 1,
            Event::Connected(connected) => assert!(connected.packet.connack().is_some()),
            Event::Refused(packet)
            | Event::Subscribed { packet, .. }
            | Event::Unsubscribed { packet, .. }
            | Event::Auth(packet) => assert!(packet.packet().is_some()),
            Event::Abandoned { .. } => {}
        }
        true
    }

    /// What was sent and what was to be sent are whole packets, as a server would take them.
    fn end_connection(&mut self) {
        self.sent.extend_from_slice(self.session.output());
        let sent = std::mem::take(&mut self.sent);
        let mut rest = &sent[..];
        while let Some(frame) =
            Frame::split(&mut rest, MAXIMUM_PACKET_SIZE).expect("what is sent has fixed headers")
        {
            Packet::decode(frame, self.version).expect("what is sent can be decoded");
        }
        // Only where the server has refused or ended the connection, what was not sent is dropped.
        assert!(rest.is_empty() || self.session.is_closing(), "what is sent ends in the middle of a packet");
    }

    fn check_bounds(&self) {
        let session = &self.session;
        assert!(session.stored_messages() <= STORED_MESSAGES);
        assert!(session.stored_bytes() <= STORED_BYTES);
        assert!(session.in_flight() <= session.stored_messages());
        assert!(session.output().len() <= 2 * OUTPUT + STEP, "{} bytes of output", session.output().len());
        assert!(!session.is_connected() || session.poll_timeout().is_some());
    }
}

/// A server session with any packets from a client.
fn drive_server(bytes: &mut Bytes<'_>) {
    let limits = LinkLimits { receive_maximum: 3, topic_alias_maximum: 2, ..LinkLimits::default() };
    let new_link = || Link::new(ProtocolVersion::V5, KeepAlive::new(1), limits, limits);
    let (mut link, mut session) = (new_link(), ServerSession::<u8>::default());
    session.begin(&link);
    while !bytes.0.is_empty() {
        let (packet_id, ack) = (bytes.packet_id(), Ack::new(bytes.packet_id(), bytes.reason_code()));
        match bytes.next() % 9 {
            0 => {
                let mut publish = Publish::new(bytes.topic(), &[]);
                publish.qos = bytes.qos();
                publish.packet_id = (publish.qos > QoS::AtMostOnce).then_some(packet_id);
                publish.properties.topic_alias = TopicAlias::new(u16::from(bytes.next() % 4));
                publish.topic = publish.topic.filter(|_| bytes.next() & 1 != 0);
                let _ = session.receive_publish(&mut link, &publish);
            }
            1 => session.acknowledge(bytes.qos(), packet_id, ack.reason_code),
            2 => {
                session.receive_pubrel(packet_id);
            }
            3 => {
                let _ = session.receive_pubrec(&ack);
            }
            4 => {
                let _ = session.receive_ack(PacketType::PubAck, packet_id);
            }
            5 => {
                let _ = session.receive_ack(PacketType::PubComp, packet_id);
            }
            6 => {
                let qos = if bytes.next() & 1 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                let _ = session.outbound.send(qos, bytes.next());
            }
            7 => while session.outbound.resend().is_some() {},
            _ => {
                link = new_link();
                session.begin(&link);
            }
        }
        check_outbound(&session.outbound);
        assert!(session.inbound.unreleased() <= 8);
    }
}

/// Messages of which a peer knows are never more than it takes.
fn check_outbound(outbound: &Outbound<u8>) {
    let count = outbound.len();
    assert_eq!(outbound.is_empty(), count == 0);
    assert!(count <= 3, "{count} messages in flight");
}
