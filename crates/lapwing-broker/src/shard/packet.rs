//! Which packet is handled where.

use lapwing_proto::packet::{Ack, Frame, Packet, PacketType, Publish, ReasonCode};

use super::connection::Phase;
use super::{ConnectionId, Shard};

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
        if frame.packet_type() == PacketType::Publish {
            // The packet that nearly all packets are.
            return match Publish::decode(frame, version) {
                Ok(publish) => self.handle_publish(id, &publish),
                Err(error) => self.malformed(id, error),
            };
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
            Packet::Publish(publish) => self.handle_publish(id, publish),
            Packet::PubAck(ack) => self.handle_puback(id, ack),
            Packet::PubRec(ack) => self.handle_pubrec(id, ack),
            Packet::PubRel(ack) => self.handle_pubrel(id, ack),
            Packet::PubComp(ack) => self.handle_pubcomp(id, ack),
            Packet::Subscribe(subscribe) => self.handle_subscribe(id, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(id, unsubscribe),
            Packet::PingReq => self.send(id, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(id, disconnect),
            Packet::Auth(auth) => self.handle_auth(id, auth),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                self.fault(id, ReasonCode::ProtocolError, &"a packet that has no place here");
            }
        }
    }

    fn handle_puback(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        let Some(session) = self.session_mut(session_id) else { return };
        match session.flows().receive_puback(ack.packet_id) {
            Ok(delivery) => {
                session.settle(delivery);
                self.pump(session_id);
            }
            Err(error) => self.fault(id, error.reason_code(), &error),
        }
    }

    fn handle_pubcomp(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        let Some(session) = self.session_mut(session_id) else { return };
        match session.flows().receive_pubcomp(ack.packet_id) {
            Ok(_) => self.pump(session_id),
            Err(error) => self.fault(id, error.reason_code(), &error),
        }
    }

    fn handle_pubrec(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        let Some(session) = self.session_mut(session_id) else { return };
        match session.flows().receive_pubrec(ack) {
            Ok((delivery, answer)) => {
                session.settle(delivery);
                if let Some(pubrel) = answer {
                    self.send(id, &Packet::PubRel(pubrel));
                }
                self.pump(session_id); // a refusal has made room
            }
            Err(error) => self.fault(id, error.reason_code(), &error),
        }
    }

    fn handle_pubrel(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        let Some(session) = self.session_mut(session_id) else { return };
        let pubcomp = session.flows().receive_pubrel(ack.packet_id);
        self.send(id, &Packet::PubComp(pubcomp));
    }

    /// Puts a packet into a connection's outbox. One that is larger than the client takes is left out
    /// `[MQTT-3.1.2-24]`.
    pub(super) fn send(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        let Some(connection) = self.connections.get_mut(id.index()).filter(|connection| connection.id == id)
        else {
            return;
        };
        let Some(open) = connection.open() else { return };
        let (version, maximum) = (open.link.version, open.link.peer.maximum_packet_size);
        connection.outbox.prepare(0, &mut self.pool);
        let start = connection.outbox.bytes().len();
        let encoded = packet.encode(version, connection.outbox.bytes());
        let size = connection.outbox.bytes().len() - start;
        if encoded.is_err() || size as u64 > u64::from(maximum) {
            connection.outbox.bytes().truncate(start);
            tracing::debug!(peer = %connection.peer, size, maximum, "a packet is larger than the client takes");
            return;
        }
        self.stat.packets_sent += 1;
        self.mark_dirty(id);
    }
}
