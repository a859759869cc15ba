//! A client of the simulation: what it has sent, and what it has got.

use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::packet::{
    Ack, Frame, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe,
};
use lapwing_proto::topic::TopicFilter;

use super::super::V5;
use super::super::broker::{WireId, World, clean, lasting};

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Perhaps there, perhaps not: the answer to this packet is awaited, or to none on this connection.
    Open(u16),
    Held,
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) name: String,
    version: ProtocolVersion,
    pub(super) is_lasting: bool,
    pub(super) wire: Option<WireId>,
    pub(super) is_connected: bool,
    /// Counts connections: what was begun on one is not sure on the next.
    pub(super) connection: u32,
    /// With the QoS asked for.
    pub(super) filters: BTreeMap<String, (u8, Stage)>,
    /// UNSUBSCRIBEs without an answer.
    leaving: BTreeMap<u16, String>,
    pub(super) got: Vec<Got>,
    /// QoS 2 identifiers that have been received and not released.
    unreleased: BTreeSet<u16>,
    last_id: u16,
    /// How often it has subscribed, and how often it has changed anything about its subscriptions.
    pub(super) subscribed: usize,
    pub(super) changed: usize,
    /// Messages of its own that have been acknowledged.
    pub(super) acknowledged: usize,
}

impl Person {
    pub(super) fn new(name: String, version: ProtocolVersion, is_lasting: bool) -> Self {
        Self {
            name,
            version,
            is_lasting,
            wire: None,
            is_connected: false,
            connection: 0,
            filters: BTreeMap::new(),
            leaving: BTreeMap::new(),
            got: Vec::new(),
            unreleased: BTreeSet::new(),
            last_id: 0,
            subscribed: 0,
            changed: 0,
            acknowledged: 0,
        }
    }

    fn send(&self, world: &mut World, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        if let Some(wire) = self.wire {
            world.feed(wire, &bytes);
        }
    }

    pub(super) fn send_bytes(&self, world: &mut World, bytes: &[u8]) {
        if let Some(wire) = self.wire {
            world.feed(wire, bytes);
        }
    }

    pub(super) fn version(&self) -> ProtocolVersion {
        self.version
    }

    pub(super) fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }

    /// Connects; over an earlier connection, if there is one.
    pub(super) fn connect(&mut self, world: &mut World) {
        self.forget_connection();
        self.wire = Some(world.accept());
        let name = self.name.clone();
        let mut connect =
            if self.is_lasting { lasting(self.version, &name) } else { clean(self.version, &name) };
        if self.version == V5 {
            connect.properties.receive_maximum = std::num::NonZero::new(5);
        }
        self.send(world, &Packet::Connect(connect));
    }

    /// The connection has ended, whatever ended it.
    pub(super) fn forget_connection(&mut self) {
        self.wire = None;
        self.is_connected = false;
        self.connection += 1;
        self.leaving.clear();
        if !self.is_lasting {
            self.filters.clear();
            self.unreleased.clear();
        }
        let stages = self.filters.values_mut().map(|(_, stage)| stage);
        stages.filter(|stage| **stage != Stage::Held).for_each(|stage| *stage = Stage::Open(0));
    }

    pub(super) fn subscribe(&mut self, world: &mut World, filter: &str, qos: u8) {
        let packet_id = self.next_id();
        self.subscribed += 1;
        self.changed += 1;
        self.filters.insert(filter.to_owned(), (qos, Stage::Open(packet_id)));
        let options = SubscriptionOptions::new(QoS::from_bits(qos).unwrap());
        let subscription = Subscription { filter: TopicFilter::new(filter).unwrap(), options };
        let packet_id = PacketId::new(packet_id).unwrap();
        self.send(world, &Packet::Subscribe(Subscribe::new(packet_id, &[subscription])));
    }

    pub(super) fn unsubscribe(&mut self, world: &mut World, filter: &str) {
        let packet_id = self.next_id();
        self.changed += 1;
        if let Some((_, stage)) = self.filters.get_mut(filter) {
            *stage = Stage::Open(0);
        }
        self.leaving.insert(packet_id, filter.to_owned());
        let filters = [TopicFilter::new(filter).unwrap()];
        let packet_id = PacketId::new(packet_id).unwrap();
        self.send(world, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &filters)));
    }

    /// Handles what has come, and answers it.
    pub(super) fn handle_inbox(&mut self, world: &mut World) -> bool {
        let mut is_busy = false;
        while let Some(id) = self.wire
            && let Some(bytes) = world.wires.get_mut(&id).and_then(|wire| wire.inbox.pop_front())
        {
            is_busy = true;
            let frame = Frame::split(&mut &bytes[..], u32::MAX).unwrap().unwrap();
            self.handle(world, &Packet::decode(frame, self.version).unwrap());
        }
        let is_closed = self.wire.is_some_and(|id| world.wires[&id].is_closed);
        if is_closed {
            self.forget_connection();
        }
        is_busy
    }

    fn handle(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason_code, ReasonCode::Success);
                self.is_connected = true;
                if !connack.session_present {
                    self.unreleased.clear();
                }
            }
            Packet::Publish(publish) => {
                let packet_id = publish.packet_id.map(PacketId::get);
                let is_new = publish.qos < QoS::ExactlyOnce || self.unreleased.insert(packet_id.unwrap());
                if is_new {
                    self.got.push(Got {
                        topic: publish.topic.unwrap().as_str().to_owned(),
                        payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
                        qos: publish.qos.bits(),
                        retain: publish.retain,
                        dup: publish.dup,
                    });
                }
                let ack = publish.packet_id.map(|id| Ack::new(id, ReasonCode::Success));
                match (publish.qos, ack) {
                    (QoS::AtLeastOnce, Some(ack)) => self.send(world, &Packet::PubAck(ack)),
                    (QoS::ExactlyOnce, Some(ack)) => self.send(world, &Packet::PubRec(ack)),
                    _ => {}
                }
            }
            Packet::PubRel(ack) => {
                self.unreleased.remove(&ack.packet_id.get());
                self.send(world, &Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::Success)));
            }
            Packet::PubRec(ack) => {
                self.send(world, &Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::Success)));
            }
            Packet::PubAck(_) | Packet::PubComp(_) => self.acknowledged += 1,
            Packet::SubAck(suback) => {
                let open = Stage::Open(suback.packet_id.get());
                for (_, stage) in self.filters.values_mut().filter(|(_, stage)| *stage == open) {
                    *stage = Stage::Held;
                }
            }
            Packet::UnsubAck(unsuback) => {
                let filter = self.leaving.remove(&unsuback.packet_id.get()).unwrap();
                // Unless it has been asked for again meanwhile.
                if self.filters.get(&filter).is_some_and(|(_, stage)| *stage == Stage::Open(0)) {
                    self.filters.remove(&filter);
                }
            }
            Packet::Disconnect(disconnect) => {
                assert_eq!(disconnect.reason_code, ReasonCode::SessionTakenOver, "{}", self.name);
            }
            packet => panic!("{packet:?} came to {}", self.name),
        }
    }
}
