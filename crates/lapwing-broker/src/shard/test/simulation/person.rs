//! A client of the simulation: what it has sent, and what it has got.

use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::packet::{
    Ack, Frame, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe,
};
use lapwing_proto::topic::TopicFilter;

use super::super::V5;
use super::super::broker::{WireId, clean, lasting};
use super::network::Network;

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
    /// How often its receiver had subscribed by then.
    pub(super) subscribed: usize,
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
    /// Connections that were given up for another one; and those of them in whose place that one has come.
    former: Vec<WireId>,
    pub(super) replaced: Vec<WireId>,
    /// Counts connections: what was begun on one is not sure on the next.
    pub(super) connection: u32,
    /// With the QoS asked for.
    pub(super) filters: BTreeMap<String, (u8, Stage)>,
    /// Those of these that are asked for the first time.
    pub(super) fresh: BTreeSet<String>,
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
            former: Vec::new(),
            replaced: Vec::new(),
            connection: 0,
            filters: BTreeMap::new(),
            fresh: BTreeSet::new(),
            leaving: BTreeMap::new(),
            got: Vec::new(),
            unreleased: BTreeSet::new(),
            last_id: 0,
            subscribed: 0,
            changed: 0,
            acknowledged: 0,
        }
    }

    fn send(&self, network: &mut impl Network, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        if let Some(wire) = self.wire {
            network.feed(wire, &bytes);
        }
    }

    pub(super) fn send_bytes(&self, network: &mut impl Network, bytes: &[u8]) {
        if let Some(wire) = self.wire {
            network.feed(wire, bytes);
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
    pub(super) fn connect(&mut self, network: &mut impl Network) {
        self.former.extend(self.wire);
        self.forget_connection();
        self.wire = Some(network.accept());
        let name = self.name.clone();
        let mut connect =
            if self.is_lasting { lasting(self.version, &name) } else { clean(self.version, &name) };
        if self.version == V5 {
            connect.properties.receive_maximum = std::num::NonZero::new(5);
        }
        self.send(network, &Packet::Connect(connect));
    }

    /// The connection has ended, whatever ended it.
    pub(super) fn forget_connection(&mut self) {
        self.wire = None;
        self.is_connected = false;
        self.connection += 1;
        self.leaving.clear();
        self.fresh.clear();
        if !self.is_lasting {
            self.filters.clear();
            self.unreleased.clear();
        }
        let stages = self.filters.values_mut().map(|(_, stage)| stage);
        stages.filter(|stage| **stage != Stage::Held).for_each(|stage| *stage = Stage::Open(0));
    }

    pub(super) fn subscribe(&mut self, network: &mut impl Network, filter: &str, qos: u8) {
        let packet_id = self.next_id();
        self.subscribed += 1;
        self.changed += 1;
        let is_fresh = self.filters.insert(filter.to_owned(), (qos, Stage::Open(packet_id))).is_none();
        if is_fresh {
            self.fresh.insert(filter.to_owned());
        } else {
            self.fresh.remove(filter);
        }
        let options = SubscriptionOptions::new(QoS::from_bits(qos).unwrap());
        let subscription = Subscription { filter: TopicFilter::new(filter).unwrap(), options };
        let packet_id = PacketId::new(packet_id).unwrap();
        self.send(network, &Packet::Subscribe(Subscribe::new(packet_id, &[subscription])));
    }

    pub(super) fn unsubscribe(&mut self, network: &mut impl Network, filter: &str) {
        let packet_id = self.next_id();
        self.changed += 1;
        self.fresh.remove(filter);
        if let Some((_, stage)) = self.filters.get_mut(filter) {
            *stage = Stage::Open(0);
        }
        self.leaving.insert(packet_id, filter.to_owned());
        let filters = [TopicFilter::new(filter).unwrap()];
        let packet_id = PacketId::new(packet_id).unwrap();
        self.send(network, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &filters)));
    }

    /// Handles what has come, and answers it.
    pub(super) fn handle_inbox(&mut self, network: &mut impl Network) -> bool {
        let mut is_busy = false;
        while let Some(id) = self.wire
            && let Some(bytes) = network.next_packet(id)
        {
            is_busy = true;
            let frame = Frame::split(&mut &bytes[..], u32::MAX).unwrap().unwrap();
            self.handle(network, &Packet::decode(frame, self.version).unwrap());
        }
        let is_closed = self.wire.is_some_and(|id| network.is_closed(id));
        if is_closed {
            self.forget_connection();
        }
        is_busy
    }

    fn handle(&mut self, network: &mut impl Network, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason_code, ReasonCode::Success);
                self.is_connected = true;
                self.replaced.append(&mut self.former);
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
                        subscribed: self.subscribed,
                    });
                }
                let ack = publish.packet_id.map(|id| Ack::new(id, ReasonCode::Success));
                match (publish.qos, ack) {
                    (QoS::AtLeastOnce, Some(ack)) => self.send(network, &Packet::PubAck(ack)),
                    (QoS::ExactlyOnce, Some(ack)) => self.send(network, &Packet::PubRec(ack)),
                    _ => {}
                }
            }
            Packet::PubRel(ack) => {
                self.unreleased.remove(&ack.packet_id.get());
                self.send(network, &Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::Success)));
            }
            Packet::PubRec(ack) => {
                self.send(network, &Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::Success)));
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
