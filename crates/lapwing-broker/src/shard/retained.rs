//! Retained messages, and sending them to new subscriptions a step at a time.

use std::sync::Arc;

use lapwing_proto::packet::Publish;
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilterBuf, TopicName, TopicNameBuf};

use super::{ConnectionId, DELIVERY_COST, SessionId, Shard};
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
    ) -> Result<usize, NoRoom> {
        let shared = Arc::clone(&self.shared);
        let mut retained = shared.retained.lock();
        let kept = retained.set(message, &shared.limits, self.now).ok_or(NoRoom)?;
        shared.retained.note_expiry(&retained);
        let Some(name) = message.topic else { return Ok(0) };
        let found = self.routes.route(name);
        let route = found.route();
        let mut count = 0;
        for (shard, recipients) in &route.elsewhere {
            self.dispatch(*shard, (message, None, kept.as_ref()), recipients);
            self.send_batch(*shard);
            count += recipients.targets.len();
        }
        self.collect_mail();
        drop(retained);
        self.catch_up();
        Ok(count + self.distribute_kept(route, message, kept, origin))
    }

    /// Removes retained messages that have expired, some at a time.
    pub(super) fn remove_expired(&mut self) {
        self.shared.retained.remove_expired(self.now, STEP);
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
        Some(Found::new(retained, filter, replay, self.now))
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
            Some(found) if has_room => {
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
        let found = Found::new(&retained, &filter, &replay, self.now);
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
        let Found { messages, mut next } = found;
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
        is_more
    }
}

impl Found {
    /// The next step of a replay.
    fn new(retained: &Retained, filter: &TopicFilterBuf, replay: &Replay, now: Instant) -> Self {
        let mut messages = Vec::new();
        let keep = |message: &Message| {
            if !message.is_expired(now) {
                messages.push(message.clone());
            }
        };
        let after = replay.after.as_ref().map(TopicNameBuf::as_name);
        let next = retained.matches_after(pattern(filter.as_filter()), after, STEP, keep);
        Self { messages, next }
    }
}
