//! Which packet is handled where.

use lapwing_proto::packet::{Ack, EncodeError, Frame, Packet, PacketType, ProtocolVersion, ReasonCode};

use super::connection::Phase;
use super::{ConnectionId, Shard, deliver};

impl Shard {
    /// A whole packet has arrived on a connection that waits for a CONNECT or is open.
    pub(super) fn handle_frame(&mut self, id: ConnectionId, frame: Frame<'_>) {
        let now = self.now;
        self.stat.packets_received += 1;
        let Some(connection) = self.connection_mut(id) else { return };
        connection.heard = now;
        let Some(version) = connection.version() else {
            return match connection.phase {
                Phase::AwaitingConnect => self.handle_first(id, frame),
                Phase::Exchanging(_) => self.handle_exchange(id, frame),
                _ => {}
            };
        };
        // The packets that nearly all packets are.
        match frame.packet_type() {
            PacketType::Publish => return self.handle_publish(id, frame, version),
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                return match Ack::decode(frame, version) {
                    Ok(ack) => self.handle_ack(id, frame.packet_type(), &ack),
                    Err(error) => self.malformed(id, error),
                };
            }
            _ => {}
        }
        if frame.packet_type() == PacketType::Connect {
            // [MQTT-3.1.0-2], whatever is in it.
            return self.fault(id, ReasonCode::ProtocolError, &"a second CONNECT");
        }
        match Packet::decode(frame, version) {
            Ok(packet) => self.handle_packet(id, &packet),
            Err(error) => self.malformed(id, error),
        }
    }

    fn handle_packet(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        match packet {
            Packet::Subscribe(subscribe) => self.handle_subscribe(id, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(id, unsubscribe),
            Packet::PingReq => self.send(id, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(id, disconnect),
            Packet::Auth(auth) => self.handle_auth(id, auth),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::Publish(_)
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                self.fault(id, ReasonCode::ProtocolError, &"a packet that has no place here");
            }
        }
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    fn handle_ack(&mut self, id: ConnectionId, packet_type: PacketType, ack: &Ack<'_>) {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        if session_id.is_stored() {
            return self.handle_stored_ack(id, session_id, packet_type, ack);
        }
        let found = self.sessions.get_mut(session_id.index());
        let Some(session) = found.filter(|session| session.id == session_id) else { return };
        let flows = session.flows();
        let mut pubrel = None;
        let settled = match packet_type {
            PacketType::PubAck => flows.receive_puback(ack.packet_id),
            PacketType::PubRec => flows.receive_pubrec(ack).map(|(delivery, answer)| {
                pubrel = answer;
                delivery
            }),
            PacketType::PubRel => {
                let pubcomp = flows.receive_pubrel(ack.packet_id);
                return self.send_ack(id, PacketType::PubComp, &pubcomp);
            }
            _ => flows.receive_pubcomp(ack.packet_id).map(|_| None),
        };
        match settled {
            Ok(delivery) => {
                if let Some(delivery) = &delivery {
                    self.trail.answered(delivery.record, ack.reason_code, self.now);
                }
                session.settle(delivery);
            }
            Err(error) => return self.fault(id, error.reason_code(), &error),
        }
        if session.has_waiting() {
            self.with_room = Some(session_id);
        }
        if let Some(pubrel) = pubrel {
            self.send_ack(id, PacketType::PubRel, &pubrel);
        }
    }

    /// As [`send`](Self::send), for an acknowledgement as a `packet_type`.
    pub(super) fn send_ack(&mut self, id: ConnectionId, packet_type: PacketType, ack: &Ack<'_>) {
        self.send_encoded(id, |version, out| ack.encode(packet_type, version, out));
    }

    /// Puts a packet into a connection's outbox. One that is larger than the client takes is left out
    /// `[MQTT-3.1.2-24]`.
    pub(super) fn send(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        self.send_encoded(id, |version, out| packet.encode(version, out));
    }

    #[inline]
    fn send_encoded(
        &mut self,
        id: ConnectionId,
        encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) {
        let Some(connection) = self.connections.get_mut(id.index()).filter(|connection| connection.id == id)
        else {
            return;
        };
        let Some(open) = connection.open() else { return };
        let (version, maximum) = (open.link.version, open.link.peer.maximum_packet_size);
        connection.outbox.prepare(0, &mut self.pool);
        let out = connection.outbox.bytes();
        let start = out.len();
        let encoded = encode(version, out);
        let size = out.len() - start;
        if encoded.is_err() || size as u64 > u64::from(maximum) {
            out.truncate(start);
            tracing::debug!(peer = %connection.origin.peer, size, maximum, "a packet is larger than the client takes");
            return;
        }
        self.stat.packets_sent += 1;
        deliver::mark_dirty(&mut self.dirty, connection);
    }
}
