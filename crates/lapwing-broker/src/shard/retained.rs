//! Retained messages, and sending them to new subscriptions a step at a time.

use std::sync::Arc;

use lapwing_proto::packet::{Publish, QoS};
use lapwing_proto::topic::{TopicFilterBuf, TopicName, TopicNameBuf};
use lapwing_store::{Change, PublisherRecord, RetainedRecord};

use super::deliver::{Distribution, Member};
use super::permission::may_receive;
use super::publish::is_own;
use super::route::{Route, RouteSessions};
use super::{ConnectionId, DELIVERY_COST, SessionId, Shard, Trace, recovery};
use crate::message::Message;
use crate::shared::{Retained, Target, pattern};

/// Names looked at in a step.
const STEP: usize = 256;
/// Bytes and messages that may wait for a client before the next step.
const OUTBOX_MAXIMUM: usize = 64 * 1024;
const QUEUE_MAXIMUM: usize = 256;

/// Retained messages on their way to one new subscription.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) target: Target,
    /// The last name looked at.
    pub(super) after: Option<TopicNameBuf>,
}

/// Retained messages that are to be sent in a step of a replay.
#[derive(Debug)]
pub(super) struct Found {
    messages: Vec<Message>,
    /// The last name looked at, if there are more.
    next: Option<TopicNameBuf>,
    /// Whether others go to the session by way of the store.
    is_by_store: bool,
}

/// There is no room for another retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Shard {
    /// Passes on a message that is to be retained, and retains it. To how many sessions;
    /// to none if there is no room to retain it.
    ///
    /// Other shards do the same at the same time. All sessions get the retained messages of a topic in one order,
    /// that in which they replaced each other: so those that came before this one are delivered here first.
    pub(super) fn publish_retained(
        &mut self,
        message: &Publish<'_>,
        origin: Option<SessionId>,
        trace: Trace,
    ) -> Result<usize, NoRoom> {
        let shared = Arc::clone(&self.shared);
        let mut retained = shared.retained.lock();
        let kept = retained.set(message, &self.limits, self.now).ok_or(NoRoom)?;
        shared.retained.note_expiry(&retained);
        let Some(name) = message.topic else { return Ok(0) };
        let found = self.routes.route(name);
        let route = found.route();
        let (mut count, sessions, members) =
            self.store_retained(route, message, kept.as_ref(), (origin, trace));
        for (shard, recipients) in &sessions.elsewhere {
            self.dispatch(*shard, (message, None, kept.as_ref()), recipients, trace);
            self.send_batch(*shard);
            count += recipients.targets.len();
        }
        self.collect_mail();
        drop(retained);
        self.catch_up();
        Ok(count + self.distribute_kept((sessions, &members), message, kept, (origin, trace)))
    }

    /// Gives the store what a retained message changes there, all of it together and before any other shard retains another
    /// one. To how many sessions the message goes by that way, who else gets it, and which members of shared
    /// subscriptions.
    fn store_retained<'a>(
        &mut self,
        route: &'a Route,
        message: &Publish<'_>,
        kept: Option<&Message>,
        (origin, trace): (Option<SessionId>, Trace),
    ) -> (usize, &'a RouteSessions, Vec<Member>) {
        let members = self.choose_members(&route.groups);
        let Some(name) = message.topic.filter(|name| self.ledger.is_on() && !is_own(*name)) else {
            return (0, &route.sessions, members);
        };
        let mut distribution = Distribution::new(message, None, kept.cloned(), (trace, self.now));
        let (mut count, sessions) = self.distribute_stored(route, &mut distribution, origin);
        let (by_store, members): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| member.is_by_store(message.qos));
        for member in by_store {
            count += usize::from(self.deliver_to_chosen(&member, &mut distribution));
        }
        let clock = self.shared.stored.wall_clock();
        self.ledger.record(match kept {
            Some(kept) => Change::Retained(
                name.as_str().into(),
                Box::new(RetainedRecord {
                    message: kept.to_stored(clock).to_vec(),
                    publisher: origin.and_then(|origin| self.publisher(origin)),
                }),
            ),
            None => Change::Unretained(name.as_str().into()),
        });
        if message.qos > QoS::AtMostOnce {
            self.await_recorded();
        }
        self.submit();
        (count, sessions, members)
    }

    /// Who the client of a session is, if it is connected.
    pub(super) fn publisher(&self, id: SessionId) -> Option<PublisherRecord> {
        let session = self.sessions.get(id.index()).filter(|session| session.id == id)?;
        let open = self.connection(session.connection?)?.open()?;
        Some(recovery::publisher(&open.client))
    }

    /// Removes retained messages that have expired, some at a time.
    pub(super) fn remove_expired(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(mut retained) = shared.retained.lock_if_expired(self.now) else { return };
        for name in retained.remove_expired(self.now, STEP) {
            if self.ledger.is_on() {
                self.ledger.record(Change::Unretained(name.as_str().into()));
            }
        }
        self.submit();
        shared.retained.note_expiry(&retained);
    }

    /// What is retained for a new subscription, as far as one step goes: `None` if the turn has done enough. Called
    /// with the retained messages locked, since before the subscription was added.
    pub(super) fn find_first(
        &mut self,
        retained: &Retained,
        filter: &TopicFilterBuf,
        replay: &Replay,
    ) -> Option<Found> {
        if self.is_spent() {
            return None;
        }
        let (names, _) = retained.size();
        self.spent += DELIVERY_COST * names.min(STEP);
        let mut found = self.find(retained, filter, replay);
        self.queue_found(&mut found, &replay.target);
        Some(found)
    }

    /// Begins to send a new subscription what is retained, of which a first step may have been found. If that is still
    /// being done for an earlier one with the same filter, it begins anew.
    pub(super) fn replay(
        &mut self,
        id: ConnectionId,
        filter: TopicFilterBuf,
        replay: Replay,
        found: Option<Found>,
    ) {
        let has_room = self.has_room(id);
        let Some(session) = self.session_mut(replay.target.session) else { return };
        let is_more = match found {
            // What has been given to the store is under way.
            Some(found) if has_room || found.is_by_store => {
                session.replays.remove(&filter);
                self.send_found(id, filter, replay, found)
            }
            _ => {
                session.replays.insert(filter, replay);
                true
            }
        };
        if is_more {
            self.schedule_replay(id);
        }
    }

    /// Lets a connection with replays have a step when replays go on: once in a turn, for all together.
    pub(super) fn schedule_replay(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        if !std::mem::replace(&mut connection.is_replaying, true) {
            self.replaying.push(id);
        }
    }

    /// A step for each connection whose turn it is. One whose client is behind waits until its outbox or
    /// queue is empty.
    pub(super) fn continue_replays(&mut self) {
        for id in std::mem::take(&mut self.replaying) {
            let Some(connection) = self.connection_mut(id) else { continue };
            connection.is_replaying = false;
            if self.has_room(id) && self.replay_step(id) {
                self.schedule_replay(id);
            }
        }
    }

    fn has_room(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let Some(session) = connection.open().map(|open| open.session) else { return false };
        let is_behind = connection.outbox.len() > OUTBOX_MAXIMUM;
        !is_behind && self.session_mut(session).is_some_and(|session| session.queue_len() < QUEUE_MAXIMUM)
    }

    /// Sends some retained messages of a connection's first replay; whether there is more to do.
    ///
    /// What has come from other shards and is older is delivered before, so that no session gets a retained
    /// message behind a newer one of its topic.
    fn replay_step(&mut self, id: ConnectionId) -> bool {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return false };
        let Some(session) = self.session_mut(session_id) else { return false };
        let Some((filter, replay)) = session.replays.pop_first() else { return false };
        let shared = Arc::clone(&self.shared);
        let retained = shared.retained.lock();
        let mut found = self.find(&retained, &filter, &replay);
        self.queue_found(&mut found, &replay.target);
        self.collect_mail();
        drop(retained);
        self.catch_up();
        self.send_found(id, filter, replay, found)
    }

    /// Sends what was found for a replay, as far as the client keeps up; whether there is more to do for its session.
    fn send_found(
        &mut self,
        id: ConnectionId,
        filter: TopicFilterBuf,
        mut replay: Replay,
        found: Found,
    ) -> bool {
        let (session_id, now) = (replay.target.session, self.now);
        let Found { messages, mut next, is_by_store } = found;
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            self.deliver_retained(id, &replay.target, &message);
            let is_behind = self.connection(id).is_none_or(|it| it.outbox.len() > OUTBOX_MAXIMUM);
            if is_behind && messages.len() > 0 {
                // Messages may be large: the next step goes on behind this one.
                next = message.publish(now).topic.map(TopicName::to_buf);
                break;
            }
        }
        let Some(session) = self.session_mut(session_id) else { return false };
        if next.is_some() {
            replay.after = next;
            session.replays.insert(filter, replay);
        }
        let is_more = !session.replays.is_empty();
        self.pump(session_id);
        // What went by way of the store comes back to the queue, and the next step follows when that is empty.
        is_more && !is_by_store
    }

    /// The next step of a replay: what has not expired, and the client may be given.
    fn find(&self, retained: &Retained, filter: &TopicFilterBuf, replay: &Replay) -> Found {
        let mut messages = Vec::new();
        let checking = self.checking(replay.target.session);
        let keep = |message: &Message| {
            let may_have = checking.is_none_or(|permit| may_receive(permit, message, self.now));
            if !message.is_expired(self.now) && may_have {
                messages.push(message.clone());
            }
        };
        let after = replay.after.as_ref().map(TopicNameBuf::as_name);
        let next = retained.matches_after(pattern(filter.as_filter()), after, STEP, keep);
        Found { messages, next, is_by_store: false }
    }

    /// Gives the store those of some retained messages that a session gets by that way. Called with the retained messages
    /// locked, before another shard retains newer ones.
    fn queue_found(&mut self, found: &mut Found, target: &Target) {
        if !target.session.is_stored() || target.qos == QoS::AtMostOnce {
            return;
        }
        // Retained messages are sent with RETAIN, however the subscription is.
        let target = Target { retain_as_published: true, ..target.clone() };
        let (by_store, directly): (Vec<_>, Vec<_>) = std::mem::take(&mut found.messages)
            .into_iter()
            .partition(|message| message.qos() > QoS::AtMostOnce);
        found.messages = directly;
        found.is_by_store = !by_store.is_empty();
        for message in &by_store {
            let publish = Publish { qos: message.qos(), retain: true, ..message.publish(self.now) };
            let how = (self.record_direct(&publish), self.now);
            let mut distribution = Distribution::new(&publish, None, Some(message.clone()), how);
            self.queue_for_one(&target, None, &mut distribution);
        }
        self.submit();
    }
}
