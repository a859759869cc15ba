//! What others than clients ask a shard: to look at its sessions, to end a connection, to publish.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use lapwing_proto::packet::{Publish, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicFilterBuf;

use super::Shard;
use super::connection::{Connection, Open};
use super::deliver::Source;
use super::disconnect::End;
use super::session::{Session, SessionKey};
use crate::control::{
    ConnectionInfo, ControlError, Inquiry, Pick, SessionDetail, SessionInfo, Sessions, SubscriptionInfo,
    Weight,
};

/// Sessions that are looked at in one turn, however few of them are to be shown.
const SESSIONS_LOOKED_AT: usize = 4096;

impl Shard {
    /// Answers. Nobody may be waiting any more: that is no concern of the shard.
    pub(super) fn answer(&mut self, inquiry: Inquiry) {
        match inquiry {
            Inquiry::Sessions { from, pick, maximum, reply } => {
                let _ = reply.try_send(self.show_sessions(from, pick, maximum));
            }
            Inquiry::Session { key, skip, maximum, reply } => {
                let _ = reply.try_send(self.show_session(&key, skip, maximum));
            }
            Inquiry::EndSession { key, reply } => self.end_session_of(&key, reply),
            Inquiry::Disconnect { key, reply } => {
                let _ = reply.try_send(self.disconnect_client(&key));
            }
            Inquiry::Limits { reply } => {
                self.take_limits();
                let _ = reply.try_send(());
            }
            Inquiry::Renew { reply } => self.renew_permits(reply),
            Inquiry::Trail { search, from, reply } => {
                let _ = reply.try_send(self.search_trail(&search, from));
            }
            Inquiry::Incidents { search, reply } => {
                let _ = reply.try_send(self.search_incidents(&search));
            }
            Inquiry::Watched { name, sessions, reply } => {
                let _ = reply.try_send(self.watched_by(&name, &sessions));
            }
            Inquiry::Publish { message, retain, reply } => {
                let publish = Publish { qos: message.qos(), retain, ..message.publish(self.now) };
                let _ = reply.try_send(self.publish(&publish, Source::default(), None, true));
            }
        }
    }

    /// Up to `maximum` of the sessions that are wanted, and the place of the next one to look at.
    fn show_sessions(&self, from: usize, pick: Pick, maximum: usize) -> Sessions {
        let mut sessions = self.sessions.iter_from(from);
        let mut found = Sessions::default();
        for (_, session) in sessions.by_ref().take(SESSIONS_LOOKED_AT) {
            let weight = self.weigh(session);
            found.weight += weight;
            let is_wanted = match pick {
                Pick::All => true,
                Pick::Connected(is_connected) => session.connection.is_some() == is_connected,
                Pick::Heavier(bytes) => weight.total() > bytes,
            };
            if is_wanted {
                found.shown.push(self.show(session));
                if found.shown.len() == maximum {
                    break;
                }
            }
        }
        found.next = sessions.next().map(|(place, _)| place);
        found
    }

    /// What a session takes.
    fn weigh(&self, session: &Session) -> Weight {
        let connection = session.connection.and_then(|id| self.connection(id));
        Weight {
            queued_bytes: session.window().1,
            spilled_bytes: session.queue_bytes() - session.window().1,
            in_flight_bytes: session.in_flight_bytes(),
            subscription_bytes: session.filter_bytes,
            outbox_bytes: connection.map_or(0, |connection| connection.outbox.len()),
        }
    }

    fn show_session(&self, key: &SessionKey, skip: usize, maximum: usize) -> Option<SessionDetail> {
        let session = self.session_of(key)?;
        let filters = session.filters.iter().skip(skip).take(maximum);
        let qos = |filter: &TopicFilterBuf| self.shared.subscriptions.qos(session.id, filter.as_filter());
        let info =
            |filter: &TopicFilterBuf| Some(SubscriptionInfo { qos: qos(filter)?, filter: filter.clone() });
        Some((self.show(session), filters.filter_map(info).collect()))
    }

    fn show(&self, session: &Session) -> SessionInfo {
        let connection = session.connection.and_then(|id| self.connection(id));
        let open = connection.and_then(Connection::open);
        let client_id = open.map_or_else(|| session.key.text(), |open| &open.client.client_id);
        SessionInfo {
            client_id: client_id.to_owned(),
            session_key: match &session.key {
                SessionKey::ClientId(_) => None,
                SessionKey::Identity(key) => Some(key.as_ref().to_owned()),
            },
            connection: connection.zip(open).map(|(connection, open)| self.show_connection(connection, open)),
            session_expiry_interval_s: session.expiry_interval_s,
            expires: session.expires.filter(|_| open.is_none()).map(|at| self.system_time(at)),
            is_stored: session.id.is_stored(),
            owner: session.owner.as_deref().map(str::to_owned),
            subscriptions: session.filters.len(),
            queued_messages: session.queue_len(),
            queued_bytes: session.queue_bytes(),
            in_flight_messages: session.in_flight_len(),
            weight: self.weigh(session),
        }
    }

    fn show_connection(&self, connection: &Connection, open: &Open) -> ConnectionInfo {
        ConnectionInfo {
            user_name: open.client.identity.user_name.as_deref().map(str::to_owned),
            peer: open.client.peer,
            version: open.link.version,
            keep_alive_s: open.link.keep_alive.seconds(),
            connected_at: self.system_time(open.connected),
            outbox_bytes: connection.outbox.len(),
        }
    }

    fn system_time(&self, at: Instant) -> SystemTime {
        let wall = self.shared.stored.wall_clock().wall(at);
        SystemTime::UNIX_EPOCH + Duration::from_millis(wall.0)
    }

    /// Ends the connection of a session for the administrator.
    fn disconnect_client(&mut self, key: &SessionKey) -> Result<(), ControlError> {
        let session = self.session_of(key).ok_or(ControlError::NoSession)?;
        let id = session.connection.ok_or(ControlError::NotConnected)?;
        self.disconnect(id, ReasonCode::AdministrativeAction, None, End::Lost);
        Ok(())
    }

    /// Ends a session for the administrator, who learns it when that is durable.
    fn end_session_of(&mut self, key: &SessionKey, reply: SyncSender<Result<(), ControlError>>) {
        let Some(session) = self.session_of(key) else {
            let _ = reply.try_send(Err(ControlError::NoSession));
            return;
        };
        let (id, connection, is_stored) = (session.id, session.connection, session.id.is_stored());
        if let Some(connection) = connection {
            if let Some(session) = self.session_mut(id) {
                session.expiry_interval_s = 0;
            }
            self.disconnect(connection, ReasonCode::AdministrativeAction, None, End::Lost);
        }
        // It has ended with the connection, if there was one.
        self.end_session(id);
        if is_stored {
            self.ledger.answer_when_durable(reply);
        } else {
            let _ = reply.try_send(Ok(()));
        }
    }

    fn session_of(&self, key: &SessionKey) -> Option<&Session> {
        let id = self.shared.registry.session(key)?;
        self.sessions.get(id.index()).filter(|session| session.id == id)
    }
}
