//! The end of a connection, and the end of a session.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use lapwing_proto::packet::{Disconnect, Packet, ProtocolVersion, QoS, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicFilterBuf;
use lapwing_store::Change;

use super::connection::Phase;
use super::timer::Timer;
use super::{ConnectionId, SessionId, Shard};
use crate::excerpt::excerpt;
use crate::explanation::{DeliveryState, Happening};
use crate::hook::Event;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a DISCONNECT from the client that takes the will back `[MQTT-3.14.4-3]`.
    Disconnected,
    /// Another connection has taken the session over: that one decides about the will.
    TakenOver,
    /// The server stops: wills are not published, since nobody would be there to get them.
    ShutDown,
    /// In any other way.
    Lost,
}

impl Shard {
    pub(super) fn handle_disconnect(&mut self, id: ConnectionId, disconnect: &Disconnect<'_>) {
        let limit = self.limits.session_expiry_maximum_s;
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        let Some(session) = self.session_mut(session_id) else { return };
        if let Some(seconds) = disconnect.properties.session_expiry_interval {
            if session.expiry_interval_s == 0 && seconds > 0 && limit > 0 {
                let fault = "a session expiry interval in DISCONNECT where it was 0 in CONNECT";
                return self.fault(id, ReasonCode::ProtocolError, &fault); // [MQTT-3.14.2-2]
            }
            session.expiry_interval_s = seconds.min(limit);
        }
        if disconnect.properties.server_reference.is_some() {
            return self.fault(id, ReasonCode::ProtocolError, &"a server reference from a client");
        }
        let with_will = disconnect.reason_code != ReasonCode::Success;
        self.stat.disconnected_by_client += 1;
        self.end(id, if with_will { End::Lost } else { End::Disconnected }, Some(disconnect.reason_code));
    }

    /// The client has done what it must not do, or what the server does not allow: it is told with the
    /// Reason Code where it can be, and the connection ends `[MQTT-4.13.1-1]`.
    pub(super) fn fault(&mut self, id: ConnectionId, reason_code: ReasonCode, fault: &dyn Display) {
        self.log_fault(id, reason_code, fault);
        let text = fault.to_string();
        if let Some(connection) = self.connection(id) {
            let (peer, reason) = (connection.origin.peer, excerpt(&text).into_owned());
            let client_id = self.client_id(id);
            self.note(&client_id, Happening::Closed { reason_code, reason, peer });
        }
        self.disconnect(id, reason_code, Some(&text), End::Lost);
    }

    pub(super) fn log_fault(&mut self, id: ConnectionId, reason_code: ReasonCode, fault: &dyn Display) {
        let Some(peer) = self.connection(id).map(|connection| connection.origin.peer) else { return };
        if let Some(suppressed) = self.faults.allow(self.now) {
            let client_id = self.client_id(id);
            tracing::warn!(%peer, client_id, %reason_code, suppressed, "connection closed: {fault}");
        }
    }

    /// What carries a connection has ended it, since what came is not what the listener speaks.
    pub(crate) fn break_off(&mut self, id: ConnectionId, fault: &dyn Display, now: Instant) {
        self.now = now;
        let Some(origin) = self.connection(id).map(|connection| &connection.origin) else { return };
        let (peer, listener) = (origin.peer, Arc::clone(&origin.listener));
        if let Some(suppressed) = self.faults.allow(now) {
            tracing::warn!(%peer, %listener, suppressed, "connection closed: {fault}");
        }
        self.lost(id, now);
    }

    /// Sends a DISCONNECT where the version has one, and ends the connection.
    pub(super) fn disconnect(
        &mut self,
        id: ConnectionId,
        reason_code: ReasonCode,
        reason_string: Option<&str>,
        end: End,
    ) {
        if self.open_mut(id).is_some_and(|open| open.link.version == ProtocolVersion::V5) {
            let mut disconnect = Disconnect::new(reason_code);
            disconnect.properties.reason_string = reason_string;
            let maximum = self.open_mut(id).map_or(0, |open| open.link.peer.maximum_packet_size);
            let size = Packet::Disconnect(disconnect).size(ProtocolVersion::V5).unwrap_or(usize::MAX);
            if size as u64 > u64::from(maximum) {
                disconnect.properties.reason_string = None; // [MQTT-3.14.2-3]
            }
            self.send(id, &Packet::Disconnect(disconnect));
        }
        if self.connection(id).is_some_and(|connection| !matches!(connection.phase, Phase::Closing)) {
            self.stat.disconnected_by_broker.count(reason_code);
        }
        self.end(id, end, Some(reason_code));
    }

    /// Ends a connection: what is in its outbox is still written. Its session goes on without it, or ends.
    /// `reason_code` is that of the DISCONNECT, whoever sends it and whether the version has one.
    pub(super) fn end(&mut self, id: ConnectionId, end: End, reason_code: Option<ReasonCode>) {
        let Some(connection) = self.connection_mut(id) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        connection.tail = Vec::new();
        self.mark_dirty(id);
        let open = match phase {
            Phase::Open(open) => open,
            Phase::Departing(departing) | Phase::Restoring(departing) => {
                return self.shared.registry.release(&departing.key);
            }
            _ => return,
        };
        self.stat.clients -= 1;
        if let Some(suppressed) = self.arrivals.allow(self.now) {
            let (client_id, peer) = (&*excerpt(&open.client.client_id), open.client.peer);
            let reason_code = reason_code.map(tracing::field::display);
            tracing::info!(%peer, client_id, reason_code, suppressed, "client disconnected");
        }
        if let Some(observer) = &self.shared.hooks.observer {
            observer.observe(&Event::Disconnected { client: &open.client, reason_code });
        }
        self.note_of(open.session, &open.client.client_id, Happening::Disconnected { reason_code });
        let now = self.now;
        self.note_presence(open.session, false);
        let Some(session) = self.session_mut(open.session) else { return };
        session.connection = None;
        // At QoS 0 what has not been sent is lost with the connection.
        session.replays.retain(|_, replay| replay.target.qos > QoS::AtMostOnce);
        match end {
            End::TakenOver => return, // goes on, or ends, with the connection that took over
            End::Disconnected | End::ShutDown => session.will = None,
            End::Lost => {}
        }
        let expiry_interval_s = session.expiry_interval_s;
        if expiry_interval_s == 0 {
            return self.end_session(open.session);
        }
        if expiry_interval_s < u32::MAX {
            let expires = now + Duration::from_secs(expiry_interval_s.into());
            session.expires = Some(expires);
            self.set_timer(expires, Timer::Session(open.session));
        }
        self.schedule_will(open.session);
        self.record_session(open.session);
    }

    /// Tells the shared subscriptions of a session whether its client is connected.
    pub(super) fn note_presence(&mut self, id: SessionId, is_connected: bool) {
        let found = self.sessions.get(id.index()).filter(|session| session.id == id);
        let Some(session) = found.filter(|session| session.memberships > 0) else { return };
        let filters = session.filters.iter().map(TopicFilterBuf::as_filter);
        for filter in filters.filter(|filter| filter.share_name().is_some()) {
            self.shared.subscriptions.note_presence(id, filter, is_connected);
        }
    }

    /// A session's timer has fired.
    pub(super) fn check_session(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else { return };
        if session.expires.is_some_and(|expires| expires <= now) {
            self.stat.sessions_expired += 1;
            self.end_session(id);
        }
    }

    /// Forgets a session. A will that is still waiting is published now `[MQTT-3.1.2-8]`.
    pub(super) fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        session.filter_bytes = 0;
        if std::mem::take(&mut session.has_checked) {
            self.shared.subscriptions.set_reader(id, None);
        }
        let Some(session) = self.session_mut(id) else { return };
        for filter in std::mem::take(&mut session.filters) {
            self.shared.subscriptions.unsubscribe(id, filter.as_filter());
        }
        self.publish_will(id);
        if self.session_mut(id).is_some()
            && let Some(session) = self.sessions.remove(id.index())
        {
            self.shared.registry.unbind(&session.key);
            self.shared.owners.change(session.owner.as_ref(), None);
            self.note_of(id, session.key.text(), Happening::SessionEnded);
            if let Some(observer) = &self.shared.hooks.observer {
                observer.observe(&Event::SessionEnded { session_key: session.key.text() });
            }
            if session.is_refusing {
                self.shared.full_queues.set(id, false);
            }
            self.stat.sessions_ended += 1;
            let number = session.number();
            if let Some(number) = number {
                self.shared.stored.remove(id);
                self.ledger.note_window(session.window().1, 0);
                match session.estate() {
                    Some(after) => self.begin_estate(number, after),
                    None => self.ledger.record(Change::SessionEnded(number)),
                }
            }
            for (delivery, may_go_elsewhere) in session.into_undelivered() {
                if self.estates.has(number) {
                    // So that the next process does not find it among those that are left.
                    self.ledger.settle(number, &delivery);
                }
                let is_expired = delivery.message.is_expired(self.now);
                let is_passed = may_go_elsewhere && self.deliver_to_other(&delivery);
                self.stat.messages_dropped.session_ended += u64::from(!is_passed);
                let state = match (is_passed, is_expired) {
                    (false, _) => DeliveryState::SessionEnded,
                    (true, true) => DeliveryState::Expired,
                    (true, false) => DeliveryState::GivenToOther,
                };
                self.trail.end(id, &delivery, state, self.now);
            }
        }
    }

    /// A connection's timer has fired: the CONNECT has not come in time, or keep alive is exceeded
    /// `[MQTT-3.1.2-22]`; otherwise it is set anew.
    pub(super) fn check_connection(&mut self, id: ConnectionId) {
        let now = self.now;
        let connect_timeout = Duration::from_secs(self.limits.connect_timeout_s.into());
        let Some(connection) = self.connection(id) else { return };
        if connection.timer > now {
            return; // it was set anew, to an earlier time, and has fired then
        }
        let heard = connection.heard;
        let next = match &connection.phase {
            Phase::AwaitingConnect | Phase::Exchanging(_) if heard + connect_timeout <= now => {
                return self.fault(id, ReasonCode::MaximumConnectTime, &"no CONNECT in time");
            }
            Phase::AwaitingConnect | Phase::Exchanging(_) => Some(heard + connect_timeout),
            // It ends with the verdict, which an authenticator owes.
            Phase::Authenticating(_) | Phase::Departing(_) | Phase::Restoring(_) => {
                Some(now + connect_timeout)
            }
            // What has come is not read for the moment.
            Phase::Open(open) if connection.is_paused() => open.link.keep_alive.server_deadline(now),
            Phase::Open(open) => match open.link.keep_alive.server_deadline(heard) {
                Some(deadline) if deadline <= now => {
                    let seconds = open.link.keep_alive.seconds();
                    let fault =
                        format!("nothing heard for one and a half times the keep alive of {seconds} s");
                    return self.fault(id, ReasonCode::KeepAliveTimeout, &fault);
                }
                deadline => deadline,
            },
            Phase::Closing => None,
        };
        if let Some(next) = next {
            self.set_connection_timer(id, next);
        }
    }

    /// Tells every client that the server stops, and ends every connection.
    pub(super) fn shut_down(&mut self) {
        self.is_shutting_down = true;
        let ids: Vec<_> = self.connections.iter().map(|(_, connection)| connection.id).collect();
        for id in ids {
            self.disconnect(id, ReasonCode::ServerShuttingDown, None, End::ShutDown);
        }
    }

    /// For a field of a log line: the client identifier; empty before CONNECT.
    pub(super) fn client_id(&self, id: ConnectionId) -> String {
        let open = self.connection(id).and_then(|connection| connection.open());
        open.map_or_else(String::new, |open| excerpt(&open.client.client_id).into_owned())
    }
}
