//! How much memory there is, and what holds when it runs short.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::limit::Limits;

/// How much memory the process may take, and how much it takes.
pub struct Memory {
    /// Bytes that it may take in all.
    pub maximum: usize,
    /// Bytes that it takes at the moment. It is called in every turn of a shard, so it must be quick.
    pub used: Box<dyn Fn() -> usize + Send + Sync>,
}

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// From 70 % on: what can be on the disk is, and who does not keep up is sent less ahead.
    Tight,
    /// From 85 % on: nothing new is taken that would stay, such as sessions, subscriptions and retained messages.
    Short,
    /// From 95 % on: those who take most lose their connections.
    Exceeded,
}

/// How much memory the process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStat {
    /// Bytes that it takes.
    pub used: usize,
    /// Bytes that it may take.
    pub maximum: usize,
    /// How short of memory the shards have found it.
    pub pressure: Pressure,
}

/// From which part of the memory on each holds, in hundredths.
const LEVELS: [(Pressure, usize); 3] =
    [(Pressure::Exceeded, 95), (Pressure::Short, 85), (Pressure::Tight, 70)];
/// So many hundredths lower it ends, so that it does not come and go.
const SLACK: usize = 3;
/// What may wait for one client while memory is tight, and while it is short.
const TIGHT_BYTES: usize = 1024 * 1024;
pub(crate) const SHORT_BYTES: usize = 64 * 1024;
/// The part of the memory that the queues of stored sessions may have.
const QUEUE_PART: usize = 8;

impl Memory {
    /// How short memory is, if it was so before.
    pub(crate) fn pressure(&self, before: Pressure) -> Pressure {
        let used = (self.used)();
        let reaches = |&(level, from): &(Pressure, usize)| {
            let from = if level <= before { from - SLACK } else { from };
            used >= self.maximum / 100 * from
        };
        LEVELS.iter().find(|level| reaches(level)).map_or(Pressure::None, |&(level, _)| level)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("maximum", &self.maximum).field("used", &(self.used)()).finish()
    }
}

/// The limits as they hold at the moment: those that are configured, and less while memory is short.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    limits: Limits,
    pressure: Pressure,
    /// Bytes of the messages that may wait in memory for a session that is not stored.
    memory_queue_bytes: usize,
}

impl Bounds {
    /// What is configured, with so much memory for all, under a pressure.
    pub(crate) fn new(configured: &Arc<Limits>, memory: Option<&Memory>, pressure: Pressure) -> Self {
        let mut limits = Limits::clone(configured);
        if let Some(memory) = memory {
            limits.queue_memory_bytes = limits.queue_memory_bytes.min(memory.maximum / QUEUE_PART);
        }
        let mut memory_queue_bytes = usize::MAX;
        if pressure >= Pressure::Tight {
            let most = if pressure >= Pressure::Short { SHORT_BYTES } else { TIGHT_BYTES };
            limits.queue_memory_bytes = 0;
            limits.outbox_bytes_maximum = limits.outbox_bytes_maximum.min(most);
            limits.in_flight_bytes_maximum = limits.in_flight_bytes_maximum.min(most);
        }
        if pressure >= Pressure::Short {
            memory_queue_bytes = SHORT_BYTES;
            limits.subscriptions_maximum = 0;
            limits.retained_messages_maximum = 0;
            limits.retained_bytes_maximum = 0;
            limits.delayed_messages_maximum = 0;
        }
        Self { limits, pressure, memory_queue_bytes }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Whether nothing new is taken that would stay.
    pub(crate) fn is_short(&self) -> bool {
        self.pressure >= Pressure::Short
    }

    /// Bytes of the messages that may wait in memory for a session that is not stored.
    pub(crate) fn memory_queue_bytes(&self) -> usize {
        self.memory_queue_bytes
    }
}

impl Deref for Bounds {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn pressure_begins_at_its_level_and_ends_a_little_below() {
        static USED: AtomicUsize = AtomicUsize::new(0);
        let memory = Memory { maximum: 1000, used: Box::new(|| USED.load(Ordering::Relaxed)) };
        let mut pressure = Pressure::None;
        let mut at = |used| {
            USED.store(used, Ordering::Relaxed);
            pressure = memory.pressure(pressure);
            pressure
        };
        assert_eq!((at(0), at(699), at(700)), (Pressure::None, Pressure::None, Pressure::Tight));
        assert_eq!((at(670), at(669)), (Pressure::Tight, Pressure::None));
        assert_eq!((at(850), at(949), at(950)), (Pressure::Short, Pressure::Short, Pressure::Exceeded));
        assert_eq!((at(920), at(919)), (Pressure::Exceeded, Pressure::Short));
        assert_eq!((at(5000), at(820), at(819)), (Pressure::Exceeded, Pressure::Short, Pressure::Tight));
    }

    #[test]
    fn what_is_configured_is_never_exceeded() {
        let small = Limits { outbox_bytes_maximum: 100, in_flight_bytes_maximum: 100, ..Limits::default() };
        let small = Arc::new(small);
        for pressure in [Pressure::None, Pressure::Tight, Pressure::Short, Pressure::Exceeded] {
            let bounds = Bounds::new(&small, None, pressure);
            assert_eq!((bounds.outbox_bytes_maximum, bounds.in_flight_bytes_maximum), (100, 100));
            assert_eq!(bounds.is_short(), pressure >= Pressure::Short);
        }
        let memory = Memory { maximum: 80, used: Box::new(|| 0) };
        assert_eq!(Bounds::new(&small, Some(&memory), Pressure::None).queue_memory_bytes, 10);
    }
}
