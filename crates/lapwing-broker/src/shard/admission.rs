//! Connections at the door, and how much is read of each.

use std::net::SocketAddr;
use std::sync::Arc;

use lapwing_proto::packet::{ReasonCode, UserProperty};
use lapwing_proto::session::Instant;

use super::disconnect::End;
use super::timer::Timer;
use super::{ConnectionId, Shard};
use crate::hook::Event;
use crate::origin::Origin;
use crate::rate::Allowance;
use crate::shared::{Quota, Seat, Turned};

/// How much of a connection is read, and written to it.
#[derive(Debug)]
pub(super) struct Meter {
    packets: Option<Allowance>,
    bytes: Option<Allowance>,
    paused_until: Option<Instant>,
    sent: Option<Allowance>,
    held_until: Option<Instant>,
}

impl Meter {
    /// `None` where there is no limit.
    pub(super) fn new(quota: Quota, now: Instant) -> Option<Box<Self>> {
        let allowance = |per_second: u32| (per_second > 0).then(|| Allowance::new(per_second, now));
        let (packets, bytes) = (allowance(quota.packet_rate), allowance(quota.byte_rate));
        let sent = allowance(quota.client_byte_rate);
        let is_any = packets.is_some() || bytes.is_some() || sent.is_some();
        is_any.then(|| Box::new(Self { packets, bytes, paused_until: None, sent, held_until: None }))
    }

    /// Until when nothing more is read, if so much has been.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Until when nothing more is written, if so much has been.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// So much has been read; until when nothing more is.
    fn take(&mut self, bytes: u64, packets: u64, now: Instant) -> Option<Instant> {
        let of_packets = self.packets.as_mut().and_then(|allowance| allowance.take(packets, now));
        let of_bytes = self.bytes.as_mut().and_then(|allowance| allowance.take(bytes, now));
        self.paused_until = of_packets.max(of_bytes);
        self.paused_until
    }
}

impl Shard {
    /// What holds for the connections of a listener.
    pub(crate) fn quota(&self, listener: &str) -> Quota {
        self.shared.admission.quota(listener)
    }

    /// The seat of a connection that has been accepted; `None` if it is to be closed at once. A proxy connects for others, who
    /// are looked at when it has said who they are.
    pub(super) fn take_seat(&mut self, origin: &Origin) -> Option<Option<Arc<Seat>>> {
        let shared = &self.shared;
        let (peer, listener) = (origin.peer, &*origin.listener);
        let address = (!origin.is_proxied).then(|| peer.ip());
        match shared.admission.admit(address, listener, &self.limits, self.now) {
            Ok(seat) => Some(seat),
            Err(turned) => {
                self.turn_away(peer, listener, &turned);
                None
            }
        }
    }

    /// A proxy has said whom a connection is from.
    pub(super) fn admit_proxied(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        // Its place is given back, and perhaps taken again.
        connection.origin.seat = None;
        let (peer, listener) = (connection.origin.peer, Arc::clone(&connection.origin.listener));
        let shared = &self.shared;
        match shared.admission.admit(Some(peer.ip()), &listener, &self.limits, self.now) {
            Ok(seat) => {
                if let Some(connection) = self.connection_mut(id) {
                    connection.origin.seat = seat;
                }
            }
            Err(turned) => {
                self.turn_away(peer, &listener, &turned);
                self.end(id, End::Lost, None);
            }
        }
    }

    #[cold]
    fn turn_away(&mut self, peer: SocketAddr, listener: &str, turned: &Turned) {
        self.stat.connections_turned_away += 1;
        if let Some(suppressed) = self.faults.allow(self.now) {
            tracing::warn!(%peer, listener, suppressed, "connection closed before it was read: {turned}");
        }
    }

    /// So much has come of a connection.
    #[cold]
    pub(super) fn meter(&mut self, id: ConnectionId, bytes: u64, packets: u64) {
        let now = self.now;
        let Some(meter) = self.connection_mut(id).and_then(|connection| connection.meter.as_mut()) else {
            return;
        };
        if let Some(until) = meter.take(bytes, packets, now) {
            self.stat.pauses += 1;
            self.set_timer(until, Timer::Meter(id));
        }
    }

    /// Whether nothing is written to a connection for a while, since so much has been.
    pub(crate) fn is_held(&self, id: ConnectionId) -> bool {
        let meter = self.connection(id).and_then(|connection| connection.meter.as_ref());
        meter.is_some_and(|meter| meter.held_until.is_some())
    }

    /// So many bytes have been written to a connection.
    #[cold]
    pub(super) fn meter_written(&mut self, id: ConnectionId, count: usize) {
        let now = self.now;
        let Some(meter) = self.connection_mut(id).and_then(|connection| connection.meter.as_mut()) else {
            return;
        };
        let until = meter.sent.as_mut().and_then(|sent| sent.take(count as u64, now));
        if let Some(until) = until {
            meter.held_until = Some(until);
            self.set_timer(until, Timer::Meter(id));
        }
    }

    /// A timer has fired: a connection may be read from again, or written to.
    pub(super) fn check_meter(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connection_mut(id) else { return };
        let Some(meter) = &mut connection.meter else { return };
        let may_write = meter.held_until.is_some_and(|until| until <= now);
        if may_write {
            meter.held_until = None;
        }
        if meter.paused_until.is_some_and(|until| until <= now) {
            meter.paused_until = None;
            // What it has sent meanwhile has not been looked at.
            connection.heard = now;
            self.resumed.push(id);
        }
        if may_write {
            self.mark_dirty(id);
        }
    }

    /// Whether a packet has more user properties than it may.
    pub(super) fn has_too_many_properties<'a>(
        &self,
        mut properties: impl Iterator<Item = UserProperty<'a>>,
    ) -> bool {
        properties.nth(self.limits.user_properties_maximum.into()).is_some()
    }

    /// Why a client that asks to be let in is kept out, if it is.
    pub(super) fn ban_of(&self, id: ConnectionId, client_id: &str, user: Option<&str>) -> Option<String> {
        let peer = self.connection(id)?.origin.peer;
        let reason = self.shared.admission.ban_of(peer.ip(), client_id, user, self.now)?;
        Some(format!("banned: {reason}"))
    }

    /// Whether a client that is let in comes too often; then it is refused.
    pub(super) fn flapping(&mut self, client_id: &str) -> Option<(ReasonCode, String)> {
        let limits = &self.limits;
        let count = self.shared.admission.note_arrival(client_id, limits, self.now)?;
        let (window, ban) = (limits.flapping_window_s, limits.flapping_ban_s);
        let reason =
            format!("the client connected {count} times within {window} s, and is kept out for {ban} s");
        if let Some(observer) = &self.shared.hooks.observer {
            observer.observe(&Event::Banned { client_id, reason: &reason });
        }
        Some((ReasonCode::ConnectionRateExceeded, reason))
    }
}
