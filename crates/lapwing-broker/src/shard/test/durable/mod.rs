//! What outlives the broker's process.
//!
//! The store can be [held](super::broker::Broker::hold_store), so that a test sees what waits for it, and the process
//! can [end](super::broker::Broker::restart) at any moment.

mod disk;
mod ended;
mod fan_out;
mod gate;
mod group;
mod handshake;
mod queue;
mod recovery;
mod restoring;
mod retained;

use lapwing_proto::packet::{Packet, PacketType};
use lapwing_store::engine::Cut;

use super::client::{Client, ack};
use super::message::message;
use super::*;

const CUTS: [Cut; 2] = [Cut::Process, Cut::Power];

/// Sends a PUBLISH, whatever comes of it.
fn send(client: &Client, topic: &str, payload: &str, qos: u8) -> u16 {
    let packet_id = client.next_id();
    client.send_message(&message(topic, payload).qos(qos).id(packet_id));
    packet_id
}

/// Sends a PUBACK, PUBREC, PUBREL or PUBCOMP.
fn acknowledge(client: &Client, packet_type: PacketType, packet_id: u16) {
    let ack = ack(packet_id, lapwing_proto::packet::ReasonCode::Success);
    client.send(&match packet_type {
        PacketType::PubAck => Packet::PubAck(ack),
        PacketType::PubRec => Packet::PubRec(ack),
        PacketType::PubRel => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    });
}

/// The payloads of all that comes, which is acknowledged.
fn payloads(client: &Client) -> Vec<String> {
    client.receive_all().into_iter().map(|message| message.payload).collect()
}
