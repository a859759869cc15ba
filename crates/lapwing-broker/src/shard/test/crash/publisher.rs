//! A client that publishes, and sends again what was not acknowledged, as real ones do.

use std::collections::VecDeque;

use lapwing_proto::packet::{Ack, Packet, ProtocolVersion};

use super::super::broker::World;
use super::super::message::message;
use super::client::{Client, decode, success};

pub(super) struct Publisher {
    pub(super) client: Client,
    /// What is not done, in the order in which it was first sent.
    under_way: VecDeque<UnderWay>,
    /// Numbers of messages that have been acknowledged since this was last taken.
    pub(super) acknowledged: Vec<usize>,
}

struct UnderWay {
    packet_id: u16,
    number: usize,
    topic: &'static str,
    payload: String,
    qos: u8,
    retain: bool,
    /// Whether PUBREC has come, so that PUBREL is what is sent again.
    is_released: bool,
}

/// Messages under way at a time.
const WINDOW: usize = 6;

impl Publisher {
    pub(super) fn new(name: String, version: ProtocolVersion) -> Self {
        Self { client: Client::new(name, version), under_way: VecDeque::new(), acknowledged: Vec::new() }
    }

    pub(super) fn may_publish(&self) -> bool {
        self.client.is_connected && self.under_way.len() < WINDOW
    }

    pub(super) fn is_done(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn publish(
        &mut self,
        world: &mut World,
        number: usize,
        (topic, payload): (&'static str, &str),
        (qos, retain): (u8, bool),
    ) {
        let packet_id = self.client.next_id();
        let payload = payload.to_owned();
        let one = UnderWay { packet_id, number, topic, payload, qos, retain, is_released: false };
        self.send(world, &one, false);
        if qos > 0 {
            self.under_way.push_back(one);
        }
    }

    fn send(&self, world: &mut World, one: &UnderWay, is_again: bool) {
        if one.is_released {
            return self.client.send(world, &Packet::PubRel(success(one.packet_id)));
        }
        let mut sent = message(one.topic, &one.payload).qos(one.qos);
        (sent.retain, sent.dup) = (one.retain, is_again);
        if one.qos > 0 {
            sent = sent.id(one.packet_id);
        }
        self.client.send_bytes(world, &sent.encode(self.client.version));
    }

    /// Handles what has come; whether there was anything.
    pub(super) fn handle_inbox(&mut self, world: &mut World) -> bool {
        let mut is_busy = false;
        while let Some(bytes) = self.client.next_packet(world) {
            is_busy = true;
            self.handle(world, &decode(&bytes, self.client.version));
        }
        if self.client.is_closed(world) {
            self.client.forget_connection();
        }
        is_busy
    }

    fn handle(&mut self, world: &mut World, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                let begun = self.client.begin((connack.session_present, connack.reason_code));
                for one in self.under_way.iter().filter(|_| begun.is_some()) {
                    self.send(world, one, true);
                }
            }
            // A store that has failed refuses messages, which are not sent again.
            Packet::PubAck(ack) | Packet::PubRec(ack) if ack.reason_code.is_error() => {
                let is_refused = |one: &UnderWay| one.packet_id == ack.packet_id.get();
                self.under_way.retain(|one| !is_refused(one));
            }
            Packet::PubAck(ack) => {
                let at = self.place(ack, 1);
                let one = self.under_way.remove(at).unwrap();
                self.acknowledged.push(one.number);
            }
            Packet::PubRec(ack) => {
                let at = self.place(ack, 2);
                let one = &mut self.under_way[at];
                if !std::mem::replace(&mut one.is_released, true) {
                    self.acknowledged.push(one.number);
                }
                self.client.send(world, &Packet::PubRel(success(ack.packet_id.get())));
            }
            Packet::PubComp(ack) => {
                let at = self.place(ack, 2);
                assert!(self.under_way.remove(at).unwrap().is_released);
            }
            Packet::Disconnect(_) => {}
            packet => panic!("{packet:?} came to {}", self.client.name),
        }
    }

    /// Which one is acknowledged. Acknowledgements come in the order of the messages.
    fn place(&self, ack: &Ack<'_>, qos: u8) -> usize {
        let is_it = |one: &UnderWay| one.packet_id == ack.packet_id.get() && one.qos == qos;
        let at = self.under_way.iter().position(is_it);
        at.unwrap_or_else(|| panic!("{ack:?} came to {}, and nothing waits for it", self.client.name))
    }
}
