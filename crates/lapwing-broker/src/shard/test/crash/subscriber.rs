//! A client that subscribes, and keeps its end of the session whatever happens to its connections.

use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::packet::{
    Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe,
};
use lapwing_proto::topic::TopicFilter;

use super::super::broker::World;
use super::client::{Client, decode, success};

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Perhaps there, perhaps not: the answer to this packet is awaited, or to none on this connection.
    Open(u16),
    Held,
}

pub(super) struct Subscriber {
    pub(super) client: Client,
    /// With the QoS asked for.
    pub(super) filters: BTreeMap<String, (u8, Stage)>,
    /// UNSUBSCRIBEs without an answer.
    leaving: BTreeMap<u16, String>,
    pub(super) got: Vec<Got>,
    /// QoS 2 identifiers that have been received and not released.
    unreleased: BTreeSet<u16>,
    /// How often anything about the subscriptions was changed, or the session ended.
    pub(super) changed: usize,
    /// Whether it acknowledges nothing for now.
    pub(super) is_slow: bool,
}

impl Subscriber {
    pub(super) fn new(name: String, version: ProtocolVersion) -> Self {
        Self {
            client: Client::new(name, version),
            filters: BTreeMap::new(),
            leaving: BTreeMap::new(),
            got: Vec::new(),
            unreleased: BTreeSet::new(),
            changed: 0,
            is_slow: false,
        }
    }

    pub(super) fn connect(&mut self, world: &mut World, is_clean: bool) {
        self.note_lost();
        self.client.connect(world, is_clean);
        if self.client.is_unsure() {
            // Whatever the answer is, if it comes: the session may be another one.
            self.changed += 1;
            self.filters.values_mut().for_each(|(_, stage)| *stage = Stage::Open(0));
        }
    }

    /// The connection has ended: what is not answered never will be.
    pub(super) fn note_lost(&mut self) {
        self.client.forget_connection();
        self.leaving.clear();
        let stages = self.filters.values_mut().map(|(_, stage)| stage);
        stages.filter(|stage| **stage != Stage::Held).for_each(|stage| *stage = Stage::Open(0));
    }

    pub(super) fn subscribe(&mut self, world: &mut World, filter: &str, qos: u8) {
        let packet_id = self.client.next_id();
        self.changed += 1;
        self.filters.insert(filter.to_owned(), (qos, Stage::Open(packet_id)));
        let options = SubscriptionOptions::new(QoS::from_bits(qos).unwrap());
        let subscription = Subscription { filter: TopicFilter::new(filter).unwrap(), options };
        let packet_id = PacketId::new(packet_id).unwrap();
        self.client.send(world, &Packet::Subscribe(Subscribe::new(packet_id, &[subscription])));
    }

    pub(super) fn unsubscribe(&mut self, world: &mut World, filter: &str) {
        let packet_id = self.client.next_id();
        self.changed += 1;
        if let Some((_, stage)) = self.filters.get_mut(filter) {
            *stage = Stage::Open(0);
        }
        self.leaving.insert(packet_id, filter.to_owned());
        let filters = [TopicFilter::new(filter).unwrap()];
        let packet_id = PacketId::new(packet_id).unwrap();
        self.client.send(world, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &filters)));
    }

    /// Handles what has come, and answers it; whether there was anything.
    pub(super) fn handle_inbox(&mut self, world: &mut World) -> bool {
        let mut is_busy = false;
        while !(self.is_slow && self.client.is_connected)
            && let Some(bytes) = self.client.next_packet(world)
        {
            is_busy = true;
            self.handle(world, &decode(&bytes, self.client.version));
        }
        if self.client.is_closed(world) {
            self.note_lost();
        }
        is_busy
    }

    fn handle(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                let begun = self.client.begin((connack.session_present, connack.reason_code));
                if begun == Some(false) {
                    self.unreleased.clear();
                    self.filters.clear();
                }
            }
            Packet::Publish(publish) => self.receive(world, publish),
            Packet::PubRel(ack) => {
                self.unreleased.remove(&ack.packet_id.get());
                self.client.send(world, &Packet::PubComp(success(ack.packet_id.get())));
            }
            Packet::SubAck(suback) => {
                // A store that has failed refuses them.
                let is_refused = suback.reason_codes.iter().any(ReasonCode::is_error);
                let open = Stage::Open(suback.packet_id.get());
                for (_, stage) in self.filters.values_mut().filter(|(_, stage)| *stage == open) {
                    *stage = if is_refused { Stage::Open(0) } else { Stage::Held };
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
                assert_eq!(disconnect.reason_code, ReasonCode::SessionTakenOver, "{}", self.client.name);
            }
            packet => panic!("{packet:?} came to {}", self.client.name),
        }
    }

    fn receive(&mut self, world: &mut World, publish: &Publish<'_>) {
        let packet_id = publish.packet_id.map_or(0, PacketId::get);
        if publish.qos < QoS::ExactlyOnce || self.unreleased.insert(packet_id) {
            self.got.push(Got {
                topic: publish.topic.unwrap().as_str().to_owned(),
                payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
                qos: publish.qos.bits(),
                retain: publish.retain,
            });
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.client.send(world, &Packet::PubAck(success(packet_id))),
            QoS::ExactlyOnce => self.client.send(world, &Packet::PubRec(success(packet_id))),
        }
    }
}
