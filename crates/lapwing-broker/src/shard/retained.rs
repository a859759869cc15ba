//! Retained messages, and sending them to new subscriptions a step at a time.

use std::collections::BTreeSet;

use lapwing_proto::packet::Publish;
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{NameTree, TopicFilterBuf, TopicName, TopicNameBuf};

use super::route::{Target, pattern};
use super::{ConnectionId, Shard};
use crate::message::Message;

/// Names looked at in a step.
const STEP: usize = 256;
/// Bytes and messages that may wait for a client before the next step.
const OUTBOX_MAXIMUM: usize = 64 * 1024;
const QUEUE_MAXIMUM: usize = 256;

/// The last message of each topic that was published with RETAIN.
#[derive(Debug, Default)]
pub(super) struct Retained {
    messages: NameTree<Message>,
    bytes: usize,
    /// Those that expire, the next one first.
    expiries: BTreeSet<(Instant, TopicNameBuf)>,
}

impl Retained {
    fn insert(&mut self, name: TopicName<'_>, message: Message) {
        self.remove(name);
        self.bytes += size(name, &message);
        if let Some(expires) = message.expires() {
            self.expiries.insert((expires, name.to_buf()));
        }
        self.messages.insert(name, message);
    }

    fn remove(&mut self, name: TopicName<'_>) {
        let Some(old) = self.messages.remove(name) else { return };
        self.bytes -= size(name, &old);
        if let Some(expires) = old.expires() {
            self.expiries.remove(&(expires, name.to_buf()));
        }
    }

    /// When the next one expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|&(expires, _)| expires)
    }
}

/// Bytes that a retained message takes: the tree keeps its name once more.
fn size(name: TopicName<'_>, message: &Message) -> usize {
    name.as_str().len() + message.size()
}

/// Retained messages on their way to one new subscription.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) target: Target,
    /// The last name looked at.
    pub(super) after: Option<TopicNameBuf>,
}

impl Shard {
    /// Retains a message in place of an earlier one; an empty payload removes that one
    /// `[MQTT-3.3.1-5]`, `[MQTT-3.3.1-6]`. `false` if there is no room for another topic.
    pub(super) fn retain(&mut self, publish: &Publish<'_>) -> bool {
        let Some(name) = publish.topic else { return false };
        if publish.payload.is_empty() {
            self.retained.remove(name);
            return true;
        }
        let limits = &self.shared.limits;
        let Retained { messages, bytes, .. } = &self.retained;
        let message = Message::new(publish, self.now);
        let (new, old) = (size(name, &message), messages.get(name).map(|old| size(name, old)));
        let is_too_many = old.is_none() && messages.len() >= limits.retained_messages_maximum;
        // What makes it less is welcome, whatever the limit.
        let is_more = old.is_none_or(|old| old < new);
        let total = bytes - old.unwrap_or(0) + new;
        if is_too_many || (is_more && total > limits.retained_bytes_maximum) {
            return false;
        }
        self.retained.insert(name, message);
        true
    }

    /// Removes retained messages that have expired, some at a time.
    pub(super) fn remove_expired(&mut self) {
        for _ in 0..STEP {
            let Some((expires, name)) = self.retained.expiries.first().cloned() else { break };
            if expires > self.now {
                break;
            }
            self.retained.remove(name.as_name());
        }
    }

    /// How many messages are retained, and the bytes that they take.
    pub(super) fn retained(&self) -> (usize, usize) {
        (self.retained.messages.len(), self.retained.bytes)
    }

    /// Begins to send a new subscription what is retained. If that is still being done for an earlier one with
    /// the same filter, it begins anew.
    pub(super) fn replay(&mut self, id: ConnectionId, filter: TopicFilterBuf, replay: Replay) {
        let Some(session) = self.session_mut(replay.target.session) else { return };
        session.replays.insert(filter, replay);
        self.schedule_replay(id);
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
    fn replay_step(&mut self, id: ConnectionId) -> bool {
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return false };
        let Some(session) = self.session_mut(session_id) else { return false };
        let Some((filter, mut replay)) = session.replays.pop_first() else { return false };
        let now = self.now;
        let mut messages = Vec::new();
        let after = replay.after.as_ref().map(TopicNameBuf::as_name);
        let mut next =
            self.retained.messages.matches_after(pattern(filter.as_filter()), after, STEP, |_, message| {
                if !message.is_expired(now) {
                    messages.push(message.clone());
                }
            });
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
