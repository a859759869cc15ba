use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lapwing_proto::packet::{
    Ack, ConnAck, Disconnect, Frame, Packet, PacketId, PacketType, ProtocolVersion, ReasonCode, SubAck,
    Subscribe, Subscription, SubscriptionIdentifier, SubscriptionOptions, Unsubscribe,
};
use lapwing_proto::topic::TopicFilter;

use super::V5;
use super::broker::{Wire, WireId, World};
use super::message::{Message, message, qos};

/// A client's end of a connection. It does nothing by itself: no acknowledgement, no PINGREQ.
pub(super) struct Client {
    world: Rc<RefCell<World>>,
    id: WireId,
    pub(super) version: ProtocolVersion,
    /// What CONNACK said.
    pub(super) session_present: Cell<bool>,
    packet_id: Cell<u16>,
}

/// A packet that a client got.
pub(super) struct Received {
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

pub(super) fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

pub(super) fn ack(packet_id: u16, reason_code: ReasonCode) -> Ack<'static> {
    Ack::new(id(packet_id), reason_code)
}

pub(super) fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

impl Client {
    pub(super) fn new(world: Rc<RefCell<World>>, id: WireId, version: ProtocolVersion) -> Self {
        Self { world, id, version, session_present: Cell::new(false), packet_id: Cell::new(0) }
    }

    /// A packet identifier not used before.
    pub(super) fn next_id(&self) -> u16 {
        self.packet_id.set(self.packet_id.get() + 1);
        self.packet_id.get()
    }

    // What the client does.

    pub(super) fn send(&self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) {
        self.world.borrow_mut().feed(self.id, bytes);
    }

    /// Sends bytes as in `"c0 00"`.
    pub(super) fn send_hex(&self, hex: &str) {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        self.send_bytes(&digits.chunks(2).map(byte).collect::<Vec<_>>());
    }

    pub(super) fn send_message(&self, message: &Message) {
        self.send_bytes(&message.encode(self.version));
    }

    /// Publishes, goes through the whole flow, and gives the Reason Code of PUBACK or PUBREC.
    pub(super) fn publish_message(&self, message: Message) -> ReasonCode {
        if message.qos == 0 {
            self.send_message(&message);
            return ReasonCode::Success;
        }
        let packet_id = self.next_id();
        self.send_message(&message.clone().id(packet_id));
        let answer = if message.qos == 1 { PacketType::PubAck } else { PacketType::PubRec };
        let received = self.take_first(answer);
        let (Packet::PubAck(answer) | Packet::PubRec(answer)) = received.packet() else { unreachable!() };
        assert_eq!(answer.packet_id, id(packet_id));
        if message.qos == 2 && !answer.reason_code.is_error() {
            self.send(&Packet::PubRel(ack(packet_id, ReasonCode::Success)));
            let received = self.take_first(PacketType::PubComp);
            assert_eq!(received.packet(), Packet::PubComp(ack(packet_id, ReasonCode::Success)));
        }
        answer.reason_code
    }

    /// As [`publish_message`](Self::publish_message), where the message must be accepted.
    pub(super) fn publish(&self, topic: &str, payload: &str, qos: u8) {
        assert!(!self.publish_message(message(topic, payload).qos(qos)).is_error());
    }

    pub(super) fn retain(&self, topic: &str, payload: &str, qos: u8) {
        assert!(!self.publish_message(message(topic, payload).qos(qos).retained()).is_error());
    }

    pub(super) fn subscribe(&self, text: &str, bits: u8) {
        let options = SubscriptionOptions::new(qos(bits));
        assert_eq!(self.subscribe_with(text, options, None).value(), bits);
    }

    /// Subscribes, and gives the Reason Code.
    pub(super) fn subscribe_with(
        &self,
        text: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) -> ReasonCode {
        self.subscribe_all(&[(text, options)], identifier)[0]
    }

    pub(super) fn subscribe_all(
        &self,
        subscriptions: &[(&str, SubscriptionOptions)],
        identifier: Option<u32>,
    ) -> Vec<ReasonCode> {
        let packet_id = self.next_id();
        let subscriptions: Vec<_> = subscriptions
            .iter()
            .map(|&(text, options)| Subscription { filter: filter(text), options })
            .collect();
        let mut subscribe = Subscribe::new(id(packet_id), &subscriptions);
        subscribe.properties.subscription_identifier = identifier.and_then(SubscriptionIdentifier::new);
        self.send(&Packet::Subscribe(subscribe));
        let received = self.take_first(PacketType::SubAck);
        let Packet::SubAck(suback) = received.packet() else { unreachable!() };
        assert_eq!(suback.packet_id, id(packet_id));
        suback.reason_codes.iter().collect()
    }

    /// Unsubscribes, and gives the Reason Codes; before 5.0 there are none.
    pub(super) fn unsubscribe(&self, texts: &[&str]) -> Vec<ReasonCode> {
        let packet_id = self.next_id();
        let filters: Vec<_> = texts.iter().map(|text| filter(text)).collect();
        self.send(&Packet::Unsubscribe(Unsubscribe::new(id(packet_id), &filters)));
        let received = self.take_first(PacketType::UnsubAck);
        let Packet::UnsubAck(SubAck { packet_id: answered, reason_codes, .. }) = received.packet() else {
            unreachable!()
        };
        assert_eq!(answered, id(packet_id));
        reason_codes.iter().collect()
    }

    pub(super) fn ping(&self) {
        self.send(&Packet::PingReq);
        self.expect(&Packet::PingResp);
    }

    /// Acknowledges a message to its end.
    pub(super) fn acknowledge(&self, message: &Message) {
        let Some(packet_id) = message.packet_id else { return };
        let success = ack(packet_id, ReasonCode::Success);
        if message.qos == 1 {
            return self.send(&Packet::PubAck(success));
        }
        self.send(&Packet::PubRec(success));
        assert_eq!(self.take_first(PacketType::PubRel).packet(), Packet::PubRel(success));
        self.send(&Packet::PubComp(success));
    }

    /// Takes its leave; the connection is closed.
    pub(super) fn disconnect(&self) {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        self.expect_closed();
    }

    pub(super) fn disconnect_with(&self, reason_code: ReasonCode) {
        self.send(&Packet::Disconnect(Disconnect::new(reason_code)));
        self.expect_closed();
    }

    /// The network fails.
    pub(super) fn lose(&self) {
        let mut world = self.world.borrow_mut();
        world.close(self.id);
        world.settle();
    }

    /// Takes nothing more from the network.
    pub(super) fn block(&self) {
        self.wire(|wire| wire.is_blocked = true);
    }

    /// Takes this many bytes of what waits for a client that is blocked.
    pub(super) fn read_some(&self, count: usize) {
        let mut world = self.world.borrow_mut();
        world.write_some(self.id, count);
        world.settle();
    }

    pub(super) fn unblock(&self) {
        self.wire(|wire| wire.is_blocked = false);
        let mut world = self.world.borrow_mut();
        if let Some((shard, connection)) = world.end(self.id) {
            shard.mark_dirty(connection);
        }
        world.settle();
    }

    // What must come.

    /// The next packet.
    pub(super) fn next(&self) -> Received {
        let bytes = self.wire(|wire| wire.inbox.pop_front());
        let bytes = bytes.unwrap_or_else(|| panic!("nothing came{}", self.closed()));
        Received { bytes, version: self.version }
    }

    /// The first packet of a type, whatever came before it and is left there.
    pub(super) fn take_first(&self, packet_type: PacketType) -> Received {
        let found = self.wire(|wire| {
            let at = wire.inbox.iter().position(|bytes| bytes[0] >> 4 == packet_type as u8)?;
            wire.inbox.remove(at)
        });
        let bytes = found.unwrap_or_else(|| panic!("no {packet_type} came{}", self.closed()));
        Received { bytes, version: self.version }
    }

    /// The next packet is this one.
    pub(super) fn expect(&self, packet: &Packet<'_>) {
        assert_eq!(self.next().packet(), *packet);
    }

    /// The next packet is a message; it is not acknowledged.
    pub(super) fn hold(&self) -> Message {
        self.next().message()
    }

    /// The next packet is this message, which is acknowledged.
    pub(super) fn receive(&self, topic: &str, payload: &str, qos: u8) -> Message {
        let message = self.hold();
        let is = (message.topic.as_str(), message.payload.as_str(), message.qos);
        assert_eq!(is, (topic, payload, qos));
        self.acknowledge(&message);
        message
    }

    /// All messages that are there and come while they are acknowledged.
    pub(super) fn receive_all(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        while !self.wire(|wire| wire.inbox.is_empty()) {
            let message = self.take_first(PacketType::Publish).message();
            self.acknowledge(&message);
            messages.push(message);
        }
        messages
    }

    /// All packets that are there.
    pub(super) fn take_all(&self) -> Vec<Received> {
        let inbox = self.wire(|wire| std::mem::take(&mut wire.inbox));
        inbox.into_iter().map(|bytes| Received { bytes, version: self.version }).collect()
    }

    /// All messages that are there, without acknowledgement.
    pub(super) fn hold_all(&self) -> Vec<Message> {
        let count = self.wire(|wire| wire.inbox.len());
        (0..count).map(|_| self.hold()).collect()
    }

    pub(super) fn expect_nothing(&self) {
        self.expect_no_packet();
        assert!(!self.is_closed(), "the connection is closed");
    }

    pub(super) fn expect_closed(&self) {
        self.expect_no_packet();
        assert!(self.is_closed(), "the connection is not closed");
    }

    /// The connection is closed for this reason, which 5.0 tells the client.
    pub(super) fn expect_end(&self, reason_code: ReasonCode) {
        if self.version == V5 {
            let received = self.next();
            let Packet::Disconnect(disconnect) = received.packet() else { panic!("{:?}", received.packet()) };
            assert_eq!(disconnect.reason_code, reason_code);
        }
        self.expect_closed();
    }

    /// The CONNECT is refused, and the connection closed.
    pub(super) fn expect_refusal(&self, reason_code: ReasonCode) {
        let answer = self.next();
        let ConnAck { reason_code: code, session_present, .. } = answer.connack();
        assert_eq!((code, session_present), (reason_code, false));
        self.expect_closed();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.wire(|wire| wire.is_closed)
    }

    fn expect_no_packet(&self) {
        if let Some(bytes) = self.wire(|wire| wire.inbox.pop_front()) {
            panic!("{:?}", Received { bytes, version: self.version }.packet());
        }
    }

    fn closed(&self) -> &'static str {
        if self.is_closed() { "; the connection is closed" } else { "" }
    }

    fn wire<T>(&self, act: impl FnOnce(&mut Wire) -> T) -> T {
        act(self.world.borrow_mut().wires.get_mut(&self.id).unwrap())
    }
}

impl Received {
    pub(super) fn packet(&self) -> Packet<'_> {
        let frame = Frame::split(&mut &self.bytes[..], u32::MAX).unwrap().unwrap();
        Packet::decode(frame, self.version).unwrap_or_else(|error| panic!("{error}: {:02x?}", self.bytes))
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn connack(&self) -> ConnAck<'_> {
        match self.packet() {
            Packet::ConnAck(connack) => connack,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn message(&self) -> Message {
        match self.packet() {
            Packet::Publish(publish) => Message::from(&publish),
            other => panic!("{other:?}"),
        }
    }
}
