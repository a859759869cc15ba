//! A connection that goes to the shard which has its session.
//!
//! Sessions stay where they are. A CONNECT is read, and its client authenticated, wherever the connection was
//! accepted; then the connection follows the session.

use lapwing_net::Stream;
use lapwing_proto::packet::{Connect, Frame, MAXIMUM_PACKET_SIZE};

use super::connection::{Connection, Departing, Phase};
use super::{ConnectionId, SessionKey, Shard};
use crate::mail::{Arrival, Mail};
use crate::shared::ShardId;

/// Connections that come and go between shards in this turn.
#[derive(Debug, Default)]
pub(super) struct Handover {
    departing: Vec<ConnectionId>,
    /// With their sockets, where there are any.
    arrived: Vec<(ConnectionId, Option<Stream>)>,
}

/// A connection that leaves this shard.
pub(crate) struct Departure {
    pub(crate) id: ConnectionId,
    pub(crate) to: ShardId,
    arrival: Box<Arrival>,
}

impl Shard {
    /// A client that was let in goes to another shard at the end of the turn.
    pub(super) fn depart(&mut self, id: ConnectionId, departing: Departing) {
        let Some(connection) = self.connection_mut(id) else {
            return self.shared.registry.release(&departing.key);
        };
        connection.phase = Phase::Departing(Box::new(departing));
        self.handover.departing.push(id);
    }

    /// Connections that leave this shard now. Each must be sent on with [`send_on`](Self::send_on).
    pub(crate) fn take_departures(&mut self) -> Vec<Departure> {
        let departing = std::mem::take(&mut self.handover.departing);
        departing.into_iter().filter_map(|id| self.take_departure(id)).collect()
    }

    fn take_departure(&mut self, id: ConnectionId) -> Option<Departure> {
        let connection = self.connection_mut(id)?;
        if !matches!(connection.phase, Phase::Departing(_)) {
            return None; // it has ended meanwhile
        }
        let Connection { origin, phase, tail, outbox, .. } = self.connections.remove(id.index())?;
        let Phase::Departing(departing) = phase else { return None };
        let Departing { shard, pending, identity, authentication_data, .. } = *departing;
        let arrival = Arrival {
            origin,
            connect: pending.connect,
            client_id: pending.client_id,
            identity,
            authentication_data,
            tail,
            outbox: outbox.pending().to_vec(),
        };
        Some(Departure { id, to: shard, arrival: Box::new(arrival) })
    }

    /// Sends a connection on its way, with its socket.
    pub(crate) fn send_on(&self, departure: Departure, stream: Option<Stream>) {
        self.shared.mailbox(departure.to).send(Mail::Arrival(departure.arrival, stream));
    }

    /// Connections that have come to this shard.
    pub(crate) fn take_arrived(&mut self) -> Vec<(ConnectionId, Option<Stream>)> {
        std::mem::take(&mut self.handover.arrived)
    }

    /// A client comes whose session is, or will be, on this shard.
    pub(super) fn arrive(&mut self, arrival: Arrival, stream: Option<Stream>) {
        let Arrival { origin, client_id, identity, .. } = arrival;
        let key = SessionKey::new(&identity, &client_id);
        let mut input = &arrival.connect[..];
        let frame = Frame::split(&mut input, MAXIMUM_PACKET_SIZE).ok().flatten();
        let connect = frame.and_then(|frame| Connect::decode(frame).ok());
        let Some(connect) = connect.filter(|_| !self.is_shutting_down) else {
            return self.shared.registry.release(&key); // the connection ends with its socket
        };
        let id = self.add_connection(origin);
        if let Some(connection) = self.connection_mut(id) {
            connection.tail = arrival.tail;
            connection.outbox.bytes().extend_from_slice(&arrival.outbox);
        }
        self.handover.arrived.push((id, stream));
        self.join(id, &connect, &client_id, &key, identity, arrival.authentication_data.as_deref());
        self.handle_tail(id);
    }
}
