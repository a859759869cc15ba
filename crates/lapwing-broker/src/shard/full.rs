//! Full queues, where publishers are refused what these would get (`queue_overflow = "refuse"`).

use lapwing_proto::packet::{Publish, QoS};

use super::deliver::Source;
use super::session::Session;
use super::{SessionId, Shard};
use crate::explanation::DeliveryState;
use crate::limit::QueueOverflow;
use crate::mail::Mail;
use crate::shared::{OwnMessages, Target};

impl Shard {
    /// Lets publishers know if a session's queue has become full, or is not full any more.
    pub(super) fn note_fullness(&mut self, id: SessionId) {
        if self.limits.queue_overflow != QueueOverflow::Refuse {
            return;
        }
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
            return;
        };
        let is_full = session.is_queue_full(&self.limits);
        if std::mem::replace(&mut session.is_refusing, is_full) != is_full {
            self.shared.full_queues.set(id, is_full);
        }
    }

    /// Whether a message leads to a session whose queue is full. That session's shard is asked to look whether what
    /// waits there has expired meanwhile.
    #[cold]
    pub(super) fn leads_to_full_queue(
        &mut self,
        message: &Publish<'_>,
        source: &Source<'_>,
        origin: Option<SessionId>,
    ) -> bool {
        let Some(found) = self.route_ahead(message, source) else { return false };
        let route = found.route();
        let full_queues = &self.shared.full_queues;
        let is_full = |target: &Target| {
            let is_left_out =
                matches!(target.own, OwnMessages::Not) && origin.is_some_and(|it| it == target.session);
            target.qos > QoS::AtMostOnce && !is_left_out && full_queues.contains(target.session)
        };
        let stored = route.stored.as_deref();
        let direct = stored.map_or(&route.sessions, |stored| &stored.others);
        let elsewhere = direct.elsewhere.iter().flat_map(|(_, recipients)| &recipients.targets);
        let by_store = stored.into_iter().flat_map(|stored| &stored.targets.recipients);
        let by_store =
            by_store.flat_map(|(_, recipients)| recipients.targets.iter().map(|(target, _)| target));
        let mut all = direct.here.iter().chain(elsewhere).chain(by_store);
        let full = all.find(|target| is_full(target)).map(|target| target.session);
        let full = full.or_else(|| route.groups.iter().find_map(|group| group.full_member(is_full)));
        // However many are refused, no more than one letter is on its way for each session.
        if let Some(session) = full.filter(|&session| full_queues.ask(session)) {
            self.shared.mailbox(session.shard()).send(Mail::TrimQueue(session));
        }
        full.is_some()
    }

    /// Drops what has expired at the front of a session's queue.
    pub(super) fn trim_queue(&mut self, id: SessionId) {
        self.shared.full_queues.note_look(id);
        self.drop_expired(id, |_| true);
        self.note_fullness(id);
    }

    /// Drops what has expired at the front of a session's queue, as long as `is_wanted` says so.
    pub(super) fn drop_expired(&mut self, id: SessionId, is_wanted: impl Fn(&Session) -> bool) {
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
            return;
        };
        let before = session.window().1;
        while is_wanted(session)
            && let Some(expired) = session.dequeue_expired(self.now)
        {
            self.ledger.settle(session.number(), &expired);
            self.trail.end(id, &expired, DeliveryState::Expired, self.now);
            self.stat.messages_dropped.expired += 1;
        }
        if session.stored.is_some() {
            self.ledger.note_window(before, session.window().1);
        }
    }
}
