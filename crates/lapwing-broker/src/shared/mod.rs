//! What all shards have in common: the only data that more than one thread touches.
//!
//! Whoever asks for several of its locks asks for that of the retained messages first, then for that of the
//! subscriptions, then for a group's, and for a mailbox's last.

mod admission;
mod full;
mod group;
mod owner;
mod registry;
mod retained;
mod stored;
mod subscription;
mod target;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use lapwing_proto::session::Instant;

pub(crate) use self::admission::{Admission, Kept, Quota, Seat, TooManyBans, Turned};
pub(crate) use self::full::FullQueues;
pub(crate) use self::group::{Group, GroupId};
pub(crate) use self::owner::Owners;
pub(crate) use self::registry::{Registry, TooMany};
pub(crate) use self::retained::{Retained, RetainedMessages};
pub(crate) use self::stored::{Stored, StoredRecipients, StoredTargets};
pub(crate) use self::subscription::{Added, EXCLUSIVE, Subscriptions, Trees, pattern};
pub(crate) use self::target::{Details, OwnMessages, Recipients, Subscribed, Target};
use crate::explanation::Explain;
use crate::hook::Hooks;
use crate::limit::{Limits, ListenerLimits};
use crate::mail::Batch;
use crate::mailbox::MailboxSender;
use crate::memory::{Memory, Pressure};
use crate::rule::CompiledRules;
use crate::shard::{Report, Stat};
use crate::sharding::Sharding;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, RwLock};

/// Names a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShardId(pub(crate) u8);

impl ShardId {
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// What all shards have in common.
pub(crate) struct Shared {
    /// As they are configured. What holds at the moment is known to each shard.
    limits: RwLock<Arc<Limits>>,
    /// Which of them is asked for where no shard is at hand.
    topic_levels_maximum: AtomicUsize,
    /// How much memory there is, if it has an end.
    pub(crate) memory: Option<Memory>,
    pub(crate) rules: CompiledRules,
    pub(crate) hooks: Hooks,
    pub(crate) explain: Explain,
    /// Who may come in at all.
    pub(crate) admission: Admission,
    /// Which shard has which session.
    pub(crate) registry: Registry,
    /// How many sessions each user has.
    pub(crate) owners: Owners,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) retained: RetainedMessages,
    pub(crate) stored: Stored,
    pub(crate) full_queues: FullQueues,
    /// Delayed messages of all shards, and their bytes.
    pub(crate) delayed: AtomicUsize,
    pub(crate) delayed_bytes: AtomicUsize,
    /// By the shard that each belongs to.
    pub(crate) mailboxes: Vec<MailboxSender>,
    /// Sessions that a shard gets before the next one gets its first.
    neighbours: usize,
    loads: Vec<Load>,
    /// How short of memory each shard has found the process, as [`Pressure`] counts.
    pressures: Vec<AtomicU32>,
    reports: Vec<Mutex<Report>>,
    /// Whether the broker is stopping, or a shard has ended: who asks would get no answer.
    pub(crate) is_stopping: AtomicBool,
    /// Empty batches for another use.
    spare: Mutex<Vec<Batch>>,
}

/// How busy a shard is.
#[derive(Debug, Default)]
struct Load {
    /// Time that its thread was at work, in thousandths.
    busy: AtomicU32,
    /// When that was measured, in milliseconds.
    measured: AtomicU64,
}

/// From here on a shard is busy, in thousandths of its thread's time.
const BUSY: u32 = 500;
/// How long a measured load says anything, in milliseconds.
const LOAD_LIFETIME_MS: u64 = 2000;
/// Batches kept for another use, per shard: twice as many as a turn fills or handles.
const SPARE_BATCHES: usize = 8;

impl Shared {
    /// For as many shards as there are `mailboxes`, one at least.
    pub(crate) fn new(
        (limits, memory, explain): (Limits, Option<Memory>, Explain),
        listeners: &BTreeMap<Arc<str>, ListenerLimits>,
        rules: CompiledRules,
        hooks: Hooks,
        sharding: &Sharding,
        mailboxes: Vec<MailboxSender>,
        stored: Stored,
    ) -> Self {
        let count = mailboxes.len();
        Self {
            admission: Admission::new(&limits, listeners),
            registry: Registry::new(count, limits.sessions_maximum),
            owners: Owners::default(),
            topic_levels_maximum: AtomicUsize::new(limits.topic_levels_maximum.into()),
            limits: RwLock::new(Arc::new(limits)),
            memory,
            rules,
            hooks,
            explain,
            subscriptions: Subscriptions::default(),
            retained: RetainedMessages::default(),
            stored,
            full_queues: FullQueues::default(),
            delayed: AtomicUsize::new(0),
            delayed_bytes: AtomicUsize::new(0),
            mailboxes,
            neighbours: sharding.neighbours,
            loads: (0..count).map(|_| Load::default()).collect(),
            pressures: (0..count).map(|_| AtomicU32::new(0)).collect(),
            reports: (0..count).map(|_| Mutex::default()).collect(),
            is_stopping: AtomicBool::new(false),
            spare: Mutex::default(),
        }
    }

    /// The limits as they are configured.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Configures the limits anew; each shard must be told.
    pub(crate) fn set_limits(&self, limits: Limits, listeners: &BTreeMap<Arc<str>, ListenerLimits>) {
        self.admission.set_limits(&limits, listeners);
        self.registry.set_maximum(limits.sessions_maximum);
        self.topic_levels_maximum.store(limits.topic_levels_maximum.into(), Ordering::Relaxed);
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// Levels of a topic name or filter.
    pub(crate) fn topic_levels_maximum(&self) -> usize {
        self.topic_levels_maximum.load(Ordering::Relaxed)
    }

    /// How short of memory a shard has found the process.
    pub(crate) fn set_pressure(&self, shard: ShardId, pressure: Pressure) {
        self.pressures[shard.index()].store(pressure as u32, Ordering::Relaxed);
    }

    /// How short of memory the process is.
    pub(crate) fn pressure(&self) -> Pressure {
        let most = self.pressures.iter().map(|pressure| pressure.load(Ordering::Relaxed)).max();
        let all = [Pressure::None, Pressure::Tight, Pressure::Short, Pressure::Exceeded];
        all.into_iter().find(|&pressure| Some(pressure as u32) == most).unwrap_or_default()
    }

    /// All shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.mailboxes.len()).map(|index| ShardId(index as u8))
    }

    pub(crate) fn mailbox(&self, shard: ShardId) -> &MailboxSender {
        &self.mailboxes[shard.index()]
    }

    /// The shard for a new session: one that is not busy; among these the first that has few sessions, or the
    /// one that has the fewest.
    pub(crate) fn choose_shard(&self, now: Instant) -> ShardId {
        let is_busy = |shard: &ShardId| {
            let Load { busy, measured } = &self.loads[shard.index()];
            let age_ms = now.as_millis().saturating_sub(measured.load(Ordering::Relaxed));
            age_ms < LOAD_LIFETIME_MS && busy.load(Ordering::Relaxed) >= BUSY
        };
        let all_busy = self.shards().all(|shard| is_busy(&shard));
        let candidates = self.shards().filter(|shard| all_busy || !is_busy(shard));
        let sessions = |shard: &ShardId| self.registry.sessions_of(*shard);
        let chosen = candidates.min_by_key(|shard| sessions(shard).max(self.neighbours));
        chosen.unwrap_or(ShardId(0))
    }

    /// A shard's thread was at work for so many thousandths of the time before `now`.
    pub(crate) fn report_load(&self, shard: ShardId, busy: u32, now: Instant) {
        let load = &self.loads[shard.index()];
        load.busy.store(busy, Ordering::Relaxed);
        load.measured.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Leaves what a shard has counted for others to see.
    pub(crate) fn report(&self, shard: ShardId, report: Report) {
        *self.reports[shard.index()].lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// What the shards have counted, as of the last turn of each.
    pub(crate) fn reports(&self) -> impl Iterator<Item = Report> + '_ {
        self.reports.iter().map(|report| *report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What all shards have counted, and what they have in common.
    pub(crate) fn stat(&self) -> Stat {
        let mut stat = Stat::default();
        for report in self.reports() {
            stat += report.stat;
        }
        let (messages, bytes) = self.retained.lock().size();
        Stat { retained_messages: messages as u64, retained_bytes: bytes as u64, ..stat }
    }

    /// An empty batch.
    pub(crate) fn take_batch(&self) -> Batch {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes a batch back that has been handled.
    pub(crate) fn give_batch(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BATCHES * self.mailboxes.len() {
            spare.push(batch);
        }
    }
}
