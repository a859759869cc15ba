//! What a shard does when memory runs short: it holds what grows, says who has most, and in the end takes it from
//! these.

use lapwing_proto::packet::{Frame, ReasonCode};
use lapwing_proto::session::Instant;

use super::connection::Connection;
use super::disconnect::End;
use super::{ConnectionId, Shard};
use crate::excerpt::excerpt;
use crate::explanation::Happening;
use crate::limit::QueueOverflow;
use crate::memory::{Bounds, Pressure, SHORT_BYTES};

/// How many of those who take most are named.
const NAMED: usize = 3;
const FAULT: &str = "the broker is short of memory, and this client takes most of it";

impl Shard {
    /// Sees how much memory is left. Called at the beginning of each turn.
    pub(crate) fn look_at_memory(&mut self, now: Instant) {
        let Some(memory) = &self.shared.memory else { return };
        let before = self.limits.pressure();
        let pressure = memory.pressure(before);
        if pressure == before && pressure < Pressure::Exceeded {
            return;
        }
        self.now = now;
        if pressure != before {
            self.set_pressure(before, pressure);
        }
        if pressure == Pressure::Exceeded {
            self.disconnect_largest();
        }
    }

    /// The limits have been configured anew, or memory has become short or is so no more.
    pub(super) fn renew_bounds(&mut self, pressure: Pressure) {
        let configured = self.shared.limits();
        self.limits = Bounds::new(&configured, self.shared.memory.as_ref(), pressure);
    }

    /// The limits have been configured anew.
    pub(super) fn take_limits(&mut self) {
        self.renew_bounds(self.limits.pressure());
        self.has_new_limits = true;
        // Which queues are full may be another question now.
        let refuses = self.limits.queue_overflow == QueueOverflow::Refuse;
        let ids: Vec<_> = self.sessions.iter().map(|(_, session)| session.id).collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(id.index()) else { continue };
            let is_full = refuses && session.is_queue_full(&self.limits);
            if std::mem::replace(&mut session.is_refusing, is_full) != is_full {
                self.shared.full_queues.set(id, is_full);
            }
        }
        self.restart_sys();
    }

    /// Whether the limits have been configured anew since this was asked last.
    pub(crate) fn take_new_limits(&mut self) -> bool {
        std::mem::take(&mut self.has_new_limits)
    }

    #[cold]
    fn set_pressure(&mut self, before: Pressure, pressure: Pressure) {
        self.renew_bounds(pressure);
        self.shared.set_pressure(self.id, pressure);
        if pressure >= Pressure::Tight {
            self.pool.clear();
        }
        let Some(memory) = &self.shared.memory else { return };
        let (used, maximum) = ((memory.used)(), memory.maximum);
        if pressure >= Pressure::Short && before < Pressure::Short {
            let largest = self.largest(NAMED);
            if let Some(suppressed) = self.shortages.allow(self.now) {
                let name = |&(weight, id): &(usize, ConnectionId)| {
                    let client_id = self.client_id(id);
                    format!("{client_id:?} {weight}")
                };
                let largest = largest.iter().map(name).collect::<Vec<_>>().join(", ");
                let largest = (!largest.is_empty()).then_some(largest);
                tracing::warn!(
                    used,
                    maximum,
                    shard = self.id.index(),
                    largest_clients = largest,
                    suppressed,
                    "memory is short: new sessions, subscriptions and retained messages are refused"
                );
            }
        } else if pressure < Pressure::Short
            && before >= Pressure::Short
            && let Some(suppressed) = self.shortages.allow(self.now)
        {
            tracing::info!(used, maximum, shard = self.id.index(), suppressed, "there is memory again");
        }
    }

    /// The connections that take most of the memory, and how much: none that takes little.
    fn largest(&self, count: usize) -> Vec<(usize, ConnectionId)> {
        let weigh = |connection: &Connection| {
            let session = connection.open().and_then(|open| self.sessions.get(open.session.index()));
            let of_session = session.map_or(0, |session| session.in_flight_bytes() + session.window().1);
            (connection.outbox.capacity() + connection.tail.capacity() + of_session, connection.id)
        };
        let weights = self.connections.iter().map(|(_, connection)| weigh(connection));
        let mut all: Vec<_> = weights.filter(|&(weight, _)| weight >= SHORT_BYTES).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.truncate(count);
        all
    }

    /// Ends the connection that takes most of the memory.
    #[cold]
    fn disconnect_largest(&mut self) {
        let Some(&(_, id)) = self.largest(1).first() else { return };
        self.give_up(id, FAULT);
    }

    /// Ends a connection, and throws away what waits for it.
    fn give_up(&mut self, id: ConnectionId, fault: &str) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.outbox.is_empty() {
            return self.fault(id, ReasonCode::QuotaExceeded, &fault);
        }
        // It does not read, so it would not read why.
        connection.outbox.clear();
        let peer = connection.origin.peer;
        self.log_fault(id, ReasonCode::QuotaExceeded, &fault);
        let client_id = self.client_id(id);
        let reason_code = ReasonCode::QuotaExceeded;
        self.note(&client_id, Happening::Closed { reason_code, reason: excerpt(fault).into_owned(), peer });
        self.stat.disconnected_by_broker.count(reason_code);
        self.end(id, End::Lost, Some(reason_code));
    }

    /// While memory is short, no large packet is gathered.
    #[cold]
    pub(super) fn refuse_large(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if Frame::declared_size(&connection.tail).is_some_and(|size| size > SHORT_BYTES) {
            self.give_up(id, "the broker is short of memory, and the packet is large");
        }
    }
}
