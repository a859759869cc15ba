//! Retained messages.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use lapwing_proto::packet::Publish;
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{NameTree, TopicFilter, TopicName, TopicNameBuf};

use crate::limit::Limits;
use crate::message::Message;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The retained messages of the whole broker.
///
/// Whoever retains a message passes it on to the shards before letting go of the lock: so every shard sees the
/// retained messages of a topic in the order in which they replaced each other.
#[derive(Debug)]
pub(crate) struct RetainedMessages {
    store: Mutex<Retained>,
    /// When the next one expires, in milliseconds.
    next_expiry: AtomicU64,
}

/// The last message of each topic that was published with RETAIN.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: NameTree<Message>,
    bytes: usize,
    /// Those that expire, the next one first.
    expiries: BTreeSet<(Instant, TopicNameBuf)>,
}

const NEVER: u64 = u64::MAX;

impl Default for RetainedMessages {
    fn default() -> Self {
        Self { store: Mutex::default(), next_expiry: AtomicU64::new(NEVER) }
    }
}

impl RetainedMessages {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Retained> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next one expires.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let at = self.next_expiry.load(Ordering::Relaxed);
        (at != NEVER).then(|| Instant::from_millis(at))
    }

    /// Called after the store has changed.
    pub(crate) fn note_expiry(&self, retained: &Retained) {
        let next = retained.expiries.first().map_or(NEVER, |(expires, _)| expires.as_millis());
        self.next_expiry.store(next, Ordering::Relaxed);
    }

    /// As [`lock`](Self::lock), if one has expired.
    pub(crate) fn lock_if_expired(&self, now: Instant) -> Option<MutexGuard<'_, Retained>> {
        self.next_expiry().is_some_and(|at| at <= now).then(|| self.lock())
    }

    /// Puts a message there that an earlier process has retained.
    pub(crate) fn restore(&self, name: TopicName<'_>, message: Message) {
        let mut retained = self.lock();
        retained.insert(name, message);
        self.note_expiry(&retained);
    }
}

impl Retained {
    /// Retains a message in place of an earlier one; an empty payload removes that one
    /// `[MQTT-3.3.1-5]`, `[MQTT-3.3.1-6]`. `None` if there is no room for it; otherwise the message as it is kept, if
    /// it is.
    pub(crate) fn set(
        &mut self,
        publish: &Publish<'_>,
        limits: &Limits,
        now: Instant,
    ) -> Option<Option<Message>> {
        let name = publish.topic?;
        if publish.payload.is_empty() {
            self.remove(name);
            return Some(None);
        }
        let message = Message::new(publish, now);
        let new = size(name, &message);
        let old = self.messages.get(name).map(|old| size(name, old));
        let is_too_many = old.is_none() && self.messages.len() >= limits.retained_messages_maximum;
        // What makes it less is welcome, whatever the limit.
        let is_more = old.is_none_or(|old| old < new);
        let total = self.bytes - old.unwrap_or(0) + new;
        if is_too_many || (is_more && total > limits.retained_bytes_maximum) {
            return None;
        }
        self.insert(name, message.clone());
        Some(Some(message))
    }

    fn insert(&mut self, name: TopicName<'_>, message: Message) {
        self.bytes += size(name, &message);
        if let Some(expires) = message.expires() {
            self.expiries.insert((expires, name.to_buf()));
        }
        if let Some(old) = self.messages.insert(name, message) {
            self.forget(name, &old);
        }
    }

    fn remove(&mut self, name: TopicName<'_>) {
        if let Some(old) = self.messages.remove(name) {
            self.forget(name, &old);
        }
    }

    /// Removes up to `maximum` that have expired, and gives their names.
    pub(crate) fn remove_expired(&mut self, now: Instant, maximum: usize) -> Vec<TopicNameBuf> {
        let due = self.expiries.iter().take_while(|(expires, _)| *expires <= now).take(maximum);
        let names: Vec<_> = due.map(|(_, name)| name.clone()).collect();
        for name in &names {
            self.remove(name.as_name());
        }
        names
    }

    fn forget(&mut self, name: TopicName<'_>, old: &Message) {
        self.bytes -= size(name, old);
        let is_same = |new: &Message| new.expires() == old.expires();
        if let Some(expires) = old.expires().filter(|_| !self.messages.get(name).is_some_and(is_same)) {
            self.expiries.remove(&(expires, name.to_buf()));
        }
    }

    /// Shows up to `maximum` of the messages that match, those behind `after`; gives the last name looked at, if
    /// there are more.
    pub(crate) fn matches_after(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        maximum: usize,
        mut visit: impl FnMut(&Message),
    ) -> Option<TopicNameBuf> {
        self.messages.matches_after(filter, after, maximum, |_, message| visit(message))
    }

    /// Whether there is one for this topic.
    pub(crate) fn has(&self, name: TopicName<'_>) -> bool {
        self.messages.get(name).is_some()
    }

    /// How many there are, and the bytes that they take.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }
}

/// Bytes that a retained message takes: the tree keeps its name once more.
fn size(name: TopicName<'_>, message: &Message) -> usize {
    name.as_str().len() + message.size()
}
