//! The store, and which stored session is which.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use lapwing_store::{QueueTarget, Sequence, SessionNumber, Store};

use super::{Details, ShardId, Target};
use crate::clock::WallClock;
use crate::shard::SessionId;

/// What all shards know of the store.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Absent where nothing outlives the process.
    pub(crate) store: Option<Store>,
    /// Messages before this place were stored by an earlier process.
    pub(crate) first_sequence: Sequence,
    wall_ahead_ms: AtomicU64,
    next_delayed: AtomicU64,
    /// By shard.
    numbers: Vec<RwLock<Numbers>>,
}

/// The stored sessions of a shard, by their places there. There are as many as there are sessions, so they are small.
type Numbers = Vec<Entry>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// That was here last, or is still.
    id: SessionId,
    /// One more than its number, while it is here.
    number: Option<NonZeroU64>,
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Stored {
    pub(crate) fn new(shards: usize, store: Option<Store>, first_sequence: Sequence) -> Self {
        let numbers = (0..shards).map(|_| RwLock::default()).collect();
        Self { store, first_sequence, numbers, ..Self::default() }
    }

    /// From here on a session is found under its number.
    pub(crate) fn add(&self, id: SessionId, number: SessionNumber) {
        let mut numbers = self.numbers[id.shard().index()].write().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() <= id.index() {
            numbers.resize(id.index() + 1, Entry { id, number: None });
        }
        numbers[id.index()] = Entry { id, number: NonZeroU64::new(number.0 + 1) };
    }

    pub(crate) fn remove(&self, id: SessionId) {
        let mut numbers = self.numbers[id.shard().index()].write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = numbers.get_mut(id.index()).filter(|entry| entry.id == id) {
            entry.number = None;
        }
    }

    /// The number of a session, if it is there.
    pub(crate) fn number(&self, id: SessionId) -> Option<SessionNumber> {
        let numbers = self.numbers[id.shard().index()].read().unwrap_or_else(PoisonError::into_inner);
        let entry = numbers.get(id.index()).filter(|entry| entry.id == id)?;
        entry.number.map(|number| SessionNumber(number.get() - 1))
    }

    /// How the store is told that a session gets a message. `share` is the filter of the shared subscription by which it
    /// does.
    pub(crate) fn queue_target(&self, target: &Target, share: Option<&str>) -> Option<QueueTarget> {
        let identifiers = Details::identifiers(target.details.as_ref()).unwrap_or_default();
        Some(QueueTarget {
            session: self.number(target.session)?,
            qos: target.qos.bits(),
            retain_as_published: target.retain_as_published,
            identifiers: identifiers.iter().map(|identifier| identifier.get()).collect(),
            share: share.map(Into::into),
        })
    }

    /// A number for a message that is published later.
    pub(crate) fn next_delayed(&self) -> u64 {
        self.next_delayed.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers up to this one are in use.
    pub(crate) fn note_delayed(&self, number: u64) {
        self.next_delayed.fetch_max(number + 1, Ordering::Relaxed);
    }

    pub(crate) fn wall_clock(&self) -> WallClock {
        WallClock { ahead_ms: self.wall_ahead_ms.load(Ordering::Relaxed) }
    }

    pub(crate) fn set_wall_clock(&self, clock: WallClock) {
        self.wall_ahead_ms.store(clock.ahead_ms, Ordering::Relaxed);
    }
}

/// Stored sessions of one shard that get the same message.
#[derive(Debug)]
pub(crate) struct StoredRecipients {
    pub(crate) targets: Box<[(Target, SessionNumber)]>,
}

/// The stored sessions that a topic leads to, with all that is not the same for each message.
#[derive(Debug)]
pub(crate) struct StoredTargets {
    /// As the shards are told.
    pub(crate) recipients: Vec<(ShardId, std::sync::Arc<StoredRecipients>)>,
    /// As the store is told.
    pub(crate) queue: std::sync::Arc<[QueueTarget]>,
    /// Whether one of them gets its own messages otherwise than those of others.
    pub(crate) has_own: bool,
}
