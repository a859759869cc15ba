//! Retained messages, and sending them to new subscriptions a step at a time.

use std::sync::Arc;

use lapwing_proto::packet::Publish;
use lapwing_proto::topic::{NameTree, TopicFilterBuf, TopicNameBuf};

use super::route::Target;
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
    messages: NameTree<Arc<Message>>,
    bytes: usize,
}

/// Retained messages on their way to one new subscription.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) target: Target,
    pub(super) filter: TopicFilterBuf,
    /// The last name looked at.
    pub(super) after: Option<TopicNameBuf>,
}

impl Shard {
    /// Retains a message in place of an earlier one; an empty payload removes that one
    /// `[MQTT-3.3.1-5]`, `[MQTT-3.3.1-6]`. `false` if there is no room for another topic.
    pub(super) fn retain(&mut self, publish: &Publish<'_>) -> bool {
        let Some(name) = publish.topic else { return false };
        let Retained { messages, bytes } = &mut self.retained;
        if publish.payload.is_empty() {
            if let Some(old) = messages.remove(name) {
                *bytes -= old.size();
            }
            return true;
        }
        let limits = &self.shared.limits;
        let is_full =
            messages.len() >= limits.retained_messages_maximum || *bytes >= limits.retained_bytes_maximum;
        if is_full && messages.get(name).is_none() {
            return false;
        }
        let message = Message::new(publish, self.now);
        *bytes += message.size();
        if let Some(old) = messages.insert(name, message) {
            *bytes -= old.size();
        }
        true
    }

    /// Begins to send a new subscription what is retained.
    pub(super) fn replay(&mut self, id: ConnectionId, replay: Replay) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.replays.push(replay);
        self.schedule_replay(id);
    }

    /// Lets a connection with replays have a step in the next turn.
    pub(super) fn schedule_replay(&mut self, id: ConnectionId) {
        if !self.replaying.contains(&id) {
            self.replaying.push(id);
        }
    }

    /// A step for each connection whose turn it is. One whose client is behind waits until its outbox or
    /// queue is empty.
    pub(super) fn continue_replays(&mut self) {
        for id in std::mem::take(&mut self.replaying) {
            if self.has_room(id) && self.replay_step(id) {
                self.schedule_replay(id);
            }
        }
    }

    fn has_room(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let Some(session) = connection.open().map(|open| open.session) else { return false };
        let is_behind = connection.outbox.len() > OUTBOX_MAXIMUM;
        !is_behind && self.session_mut(session).is_some_and(|session| session.queue.len() < QUEUE_MAXIMUM)
    }

    /// Sends some retained messages of a connection's first replay; whether there is more to do.
    fn replay_step(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id.index()) else { return false };
        let Some(replay) = connection.replays.first_mut() else { return false };
        let (target, now) = (replay.target.clone(), self.now);
        let mut messages = Vec::new();
        let mut expired = Vec::new();
        let after = replay.after.as_ref().map(TopicNameBuf::as_name);
        let next =
            self.retained.messages.matches_after(replay.filter.as_filter(), after, STEP, |name, message| {
                if message.is_expired(now) {
                    expired.push(name.to_buf());
                } else {
                    messages.push(Arc::clone(message));
                }
            });
        match next {
            Some(name) => replay.after = Some(name),
            None => drop(connection.replays.remove(0)),
        }
        let is_more = !connection.replays.is_empty();
        for name in expired {
            if let Some(old) = self.retained.messages.remove(name.as_name()) {
                self.retained.bytes -= old.size();
            }
        }
        for message in messages {
            self.deliver_retained(id, &target, &message);
        }
        self.pump(target.session);
        is_more
    }
}
