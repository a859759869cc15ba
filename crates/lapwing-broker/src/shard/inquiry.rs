//! What others than clients ask a shard: to look at its sessions, to end a connection, to publish.

use std::time::{Duration, SystemTime};

use lapwing_proto::packet::{Publish, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicFilterBuf;

use super::Shard;
use super::connection::{Connection, Open};
use super::deliver::Source;
use super::disconnect::End;
use super::session::{Session, SessionKey};
use crate::control::{ConnectionInfo, ControlError, Inquiry, SessionDetail, SessionInfo, SubscriptionInfo};

impl Shard {
    /// Answers. Nobody may be waiting any more: that is no concern of the shard.
    pub(super) fn answer(&mut self, inquiry: Inquiry) {
        match inquiry {
            Inquiry::Sessions { from, maximum, reply } => {
                let _ = reply.try_send(self.show_sessions(from, maximum));
            }
            Inquiry::Session { key, maximum, reply } => {
                let _ = reply.try_send(self.show_session(&key, maximum));
            }
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

    /// Up to `maximum` sessions, and the place of the next one.
    fn show_sessions(&self, from: usize, maximum: usize) -> (Vec<SessionInfo>, Option<usize>) {
        let mut sessions = self.sessions.iter_from(from);
        let shown = sessions.by_ref().take(maximum).map(|(_, session)| self.show(session)).collect();
        (shown, sessions.next().map(|(place, _)| place))
    }

    fn show_session(&self, key: &SessionKey, maximum: usize) -> Option<SessionDetail> {
        let session = self.session_of(key)?;
        let filters = session.filters.iter().take(maximum);
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
            is_stored: session.id.is_stored(),
            subscriptions: session.filters.len(),
            queued_messages: session.queue_len(),
            queued_bytes: session.queue_bytes(),
            in_flight_messages: session.in_flight_len(),
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

    fn session_of(&self, key: &SessionKey) -> Option<&Session> {
        let id = self.shared.registry.session(key)?;
        self.sessions.get(id.index()).filter(|session| session.id == id)
    }
}
