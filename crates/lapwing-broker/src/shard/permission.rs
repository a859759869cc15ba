//! What clients may do, and what becomes of it when the rules change or a client comes back to its session.

use std::sync::Arc;

use lapwing_proto::packet::ReasonCode;
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf};

use super::{ConnectionId, SessionId, Shard};
use crate::control::Renewed;
use crate::excerpt::excerpt;
use crate::explanation::Happening;
use crate::hook::{Client, Event, Grant, Permit};
use crate::message::Message;
use crate::shared::pattern;

/// Clients whose permits are renewed in a turn.
const STEP: usize = 256;

/// Permits are being renewed, since the rules have changed.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The place of the first connection that is not done.
    next: usize,
    renewed: Renewed,
    reply: std::sync::mpsc::SyncSender<Renewed>,
}

impl Shard {
    /// The rules have changed: what every client may do is looked at anew, some clients in each turn. A client that comes
    /// meanwhile is judged by the new ones.
    pub(super) fn renew_permits(&mut self, reply: std::sync::mpsc::SyncSender<Renewed>) {
        // One that is under way has not been told of these rules.
        if let Some(Renewal { reply: earlier, renewed, .. }) = self.renewal.take() {
            let _ = earlier.try_send(renewed);
        }
        self.renewal = Some(Renewal { next: 0, renewed: Renewed::default(), reply });
        self.continue_renewal();
    }

    /// The next clients' turn.
    pub(super) fn continue_renewal(&mut self) {
        let Some(mut renewal) = self.renewal.take() else { return };
        let connections = self.connections.iter_from(renewal.next).take(STEP);
        let ids: Vec<_> = connections.map(|(place, connection)| (place, connection.id)).collect();
        for &(place, id) in &ids {
            renewal.next = place + 1;
            self.renew_client(id, &mut renewal.renewed);
        }
        if ids.len() < STEP {
            // Nobody may be waiting any more.
            let _ = renewal.reply.try_send(renewal.renewed);
        } else {
            self.renewal = Some(renewal);
        }
    }

    /// Whether clients wait for their turn.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewal.is_some()
    }

    fn renew_client(&mut self, id: ConnectionId, renewed: &mut Renewed) {
        let Some(open) = self.connection(id).and_then(|connection| connection.open()) else { return };
        renewed.clients += 1;
        let hooks = &self.shared.hooks;
        let Client { client_id, identity, peer, .. } = &open.client;
        let user = identity.user_name.as_deref();
        if let Some(reason) = self.shared.admission.ban_of(peer.ip(), client_id, user, self.now) {
            renewed.disconnected += 1;
            return self.fault(id, ReasonCode::AdministrativeAction, &format_args!("banned: {reason}"));
        }
        if !hooks.authenticator.still_accepts(&open.client) {
            renewed.disconnected += 1;
            return self.fault(id, ReasonCode::NotAuthorized, &"the client is not let in any more");
        }
        let permit = hooks.authorizer.permit(&open.client);
        renewed.unsubscribed += self.set_permit(id, permit);
    }

    /// What a client may do has changed, or it has come back to a session that others were judged for. Subscriptions that it
    /// may not have are removed; to how many that happens. Messages that wait are looked at before they are sent.
    pub(super) fn set_permit(&mut self, id: ConnectionId, permit: Arc<dyn Permit>) -> usize {
        let Some(open) = self.open_mut(id) else { return 0 };
        open.permit = Arc::clone(&permit);
        let session_id = open.session;
        let Some(session) = self.session_mut(session_id) else { return 0 };
        session.is_queue_checked = !permit.is_unlimited() && session.has_waiting();
        let (filters, had_checked) =
            (session.filters.iter().cloned().collect::<Vec<_>>(), session.has_checked);
        if permit.is_unlimited() && !had_checked {
            return 0;
        }
        let given = self.given_filters(id);
        let (mut removed, mut has_checked) = (0, false);
        for filter in filters {
            let name = filter.as_filter();
            if given.contains(&filter) {
                continue;
            }
            match is_checked(&*permit, pattern(name)) {
                Some(is_checked) => {
                    has_checked |= is_checked;
                    if is_checked || had_checked {
                        self.shared.subscriptions.set_checked(session_id, name, is_checked);
                    }
                }
                None => {
                    removed += usize::from(self.remove_subscription(session_id, name));
                    self.note_revoked(id, name);
                }
            }
        }
        if let Some(session) = self.session_mut(session_id) {
            session.has_checked = has_checked;
        }
        if has_checked || had_checked {
            self.shared.subscriptions.set_reader(session_id, has_checked.then_some(permit));
        }
        removed
    }

    fn note_revoked(&mut self, id: ConnectionId, filter: TopicFilter<'_>) {
        self.observe(id, |client| Event::Unsubscribed { client, filter });
        let client_id = self.client_id(id);
        self.note(
            &client_id,
            Happening::SubscriptionRevoked { filter: excerpt(filter.as_str()).into_owned() },
        );
        if let Some(suppressed) = self.faults.allow(self.now) {
            let filter = &*excerpt(filter.as_str());
            tracing::warn!(
                client_id,
                filter,
                suppressed,
                "a subscription is not allowed any more, and removed"
            );
        }
    }

    /// The filters that a client has without asking for them, so that nobody need allow them.
    pub(super) fn given_filters(&self, id: ConnectionId) -> Vec<TopicFilterBuf> {
        let Some(open) = self.connection(id).and_then(|connection| connection.open()) else {
            return Vec::new();
        };
        let own = open.client.identity.subscriptions.iter().cloned();
        own.chain(self.shared.rules.auto_subscribe(&open.client)).map(|(filter, _)| filter).collect()
    }

    /// A session gets a subscription that is checked message by message.
    pub(super) fn begin_checking(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
            return;
        };
        if std::mem::replace(&mut session.has_checked, true) {
            return;
        }
        let connection = session.connection.and_then(|id| self.connections.get(id.index()));
        if let Some(open) = connection.and_then(|connection| connection.open()) {
            self.shared.subscriptions.set_reader(id, Some(Arc::clone(&open.permit)));
        }
    }

    /// The filters that a session has without asking for them, if what waits in its queue must be looked at.
    pub(super) fn checked_queue(&self, id: SessionId) -> Option<Vec<TopicFilterBuf>> {
        let session = self.sessions.get(id.index()).filter(|session| session.id == id)?;
        if !session.is_queue_checked {
            return None;
        }
        Some(self.given_filters(session.connection?))
    }

    /// By what a session's messages are checked, if some of its subscriptions are.
    pub(super) fn checking(&self, id: SessionId) -> Option<&dyn Permit> {
        let session = self.sessions.get(id.index()).filter(|session| session.id == id)?;
        let open = self.connection(session.connection?)?.open()?;
        session.has_checked.then_some(&*open.permit)
    }
}

/// Whether a subscription is checked message by message; `None` if the client may not have it at all.
pub(super) fn is_checked(permit: &dyn Permit, pattern: TopicFilter<'_>) -> Option<bool> {
    match permit.may_subscribe(pattern) {
        Grant::Denied(_) => None,
        Grant::Granted(_) => Some(false),
        // Which member gets a message is decided without looking at its topic.
        Grant::Checked(_) => pattern.share_name().is_none().then_some(true),
    }
}

pub(super) fn may_receive(permit: &dyn Permit, message: &Message, now: Instant) -> bool {
    message.publish(now).topic.is_some_and(|name| permit.may_receive(name).is_allowed)
}

/// Whether a client may not be given a message that has waited for it. `given` are filters that nobody need allow.
pub(super) fn is_forbidden(
    permit: &dyn Permit,
    given: &[TopicFilterBuf],
    message: &Message,
    now: Instant,
) -> bool {
    let topic = message.publish(now).topic;
    let is_given =
        |filter: &TopicFilterBuf| topic.is_some_and(|name| pattern(filter.as_filter()).matches(name));
    !may_receive(permit, message, now) && !given.iter().any(is_given)
}
