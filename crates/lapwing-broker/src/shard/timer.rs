//! Points in time that something waits for: a hierarchical timing wheel.
//!
//! A timer is on the level of the highest digit (in base 64) in which its time differs from the time that the wheel
//! has reached, in the slot of that digit. When the wheel reaches a slot of a higher level, its timers move to lower
//! ones; so each timer is moved at most once for each level, and setting one costs the same however many there are.
//! Each slot knows its earliest timer: so the next one is known exactly, and nobody is woken for nothing.

use lapwing_proto::session::Instant;

use super::slab::Slab;
use super::{ConnectionId, SessionId};

/// What a timer is for. A timer is never taken back: whoever it fires for looks whether it is still due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The CONNECT must have come, or keep alive may be exceeded.
    Connection(ConnectionId),
    /// The session may expire.
    Session(SessionId),
    /// What the client has shown of who it is may hold no longer.
    Identity(ConnectionId),
    /// The connection may be read from again.
    Meter(ConnectionId),
    /// The will may be due.
    Will(SessionId),
    /// A delayed message may be due.
    Delayed,
    /// The `$SYS` topics are due.
    Sys,
}

/// Timers, by when they fire: to the millisecond, never early, and those of one millisecond in the order in which
/// they were set. Each takes 24 bytes.
#[derive(Debug)]
pub(super) struct Timers {
    levels: Box<[Level; LEVELS]>,
    nodes: Slab<Node>,
    /// Every timer fires at this time or later, or is in the slot of it.
    reached: u64,
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// As many digits as a time can have.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// No node.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Level {
    /// Bit by bit, which slots have timers.
    occupied: u64,
    slots: [Slot; SLOTS],
}

/// A list of timers, the oldest first.
#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
    /// When the earliest one fires.
    earliest: u64,
}

#[derive(Debug)]
struct Node {
    at: u64,
    timer: Timer,
    next: u32,
}

const EMPTY: Slot = Slot { first: NONE, last: NONE, earliest: u64::MAX };

impl Default for Timers {
    fn default() -> Self {
        let levels = Box::new([Level { occupied: 0, slots: [EMPTY; SLOTS] }; LEVELS]);
        Self { levels, nodes: Slab::new(), reached: 0 }
    }
}

impl Timers {
    /// Sets a timer. One for a time that has passed fires at once.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        let at = at.as_millis().max(self.reached);
        let node = self.nodes.insert(Node { at, timer, next: NONE }) as u32;
        self.link(node, at);
    }

    /// How many there are, with those that nobody waits for any more.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        let reached = self.reached;
        *self = Self { reached, ..Self::default() };
    }

    /// When the next one fires.
    pub(super) fn next(&self) -> Option<Instant> {
        let (level, slot) = self.first_slot()?;
        Some(Instant::from_millis(self.levels[level].slots[slot].earliest))
    }

    /// Takes one that fires at `now` or before: the earliest.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        loop {
            let (level, index) = self.first_slot()?;
            let slot = &mut self.levels[level].slots[index];
            if slot.earliest > now.as_millis() {
                return None;
            }
            // All others fire later: there is nothing between the time that was reached and this.
            self.reached = slot.earliest;
            if level > 0 {
                self.spread(level, index);
                continue;
            }
            let node = self.nodes.remove(slot.first as usize)?;
            slot.first = node.next;
            if node.next == NONE {
                *slot = EMPTY;
                self.levels[level].occupied &= !(1 << index);
            }
            return Some(node.timer);
        }
    }

    /// Moves the timers of a slot to lower levels.
    fn spread(&mut self, level: usize, index: usize) {
        let slot = std::mem::replace(&mut self.levels[level].slots[index], EMPTY);
        self.levels[level].occupied &= !(1 << index);
        let mut next = slot.first;
        while let Some(node) = self.nodes.get_mut(next as usize) {
            let (this, at) = (next, node.at);
            next = std::mem::replace(&mut node.next, NONE);
            self.link(this, at);
        }
    }

    /// Puts a node that fires at `at` at the end of its slot's list.
    fn link(&mut self, node: u32, at: u64) {
        let differing = at ^ self.reached;
        let level = (u64::BITS - 1 - (differing | 1).leading_zeros()) / DIGIT_BITS;
        let index = (at >> (level * DIGIT_BITS)) as usize % SLOTS;
        let Level { occupied, slots } = &mut self.levels[level as usize];
        *occupied |= 1 << index;
        let slot = &mut slots[index];
        slot.earliest = slot.earliest.min(at);
        let last = std::mem::replace(&mut slot.last, node);
        match self.nodes.get_mut(last as usize) {
            Some(before) => before.next = node,
            None => slot.first = node,
        }
    }

    /// The level and slot of the earliest timers. What differs in a higher digit is later.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shard::test::random::{Random, Seed};

    fn timer(number: u32) -> Timer {
        Timer::Connection(ConnectionId { index: number, serial: !number })
    }

    /// Timers by when they fire and the order in which they were set.
    #[derive(Default)]
    struct Naive {
        timers: BTreeMap<(u64, u32), Timer>,
        fired: u64,
    }

    impl Naive {
        fn set(&mut self, at: u64, number: u32) {
            self.timers.insert((at.max(self.fired), number), timer(number));
        }

        fn next(&self) -> Option<u64> {
            self.timers.keys().next().map(|&(at, _)| at)
        }

        fn take_due(&mut self, now: u64) -> Option<Timer> {
            let first = self.timers.first_entry().filter(|first| first.key().0 <= now)?;
            self.fired = first.key().0;
            Some(first.remove())
        }
    }

    #[test]
    fn fires_as_a_sorted_list_does() {
        for seed in 0..200 {
            let _seed = Seed(seed);
            let mut random = Random::new(seed);
            let (mut wheel, mut naive) = (Timers::default(), Naive::default());
            let mut now = random.below(1 << 40) as u64;
            for number in 0..3000 {
                match random.below(8) {
                    0..4 => {
                        // Of every order of magnitude, and now and then in the past.
                        let magnitude = random.below(40);
                        let distance = random.below(1 << magnitude) as u64;
                        let at =
                            if random.once_in(20) { now.saturating_sub(distance) } else { now + distance };
                        wheel.set(Instant::from_millis(at), timer(number));
                        naive.set(at, number);
                    }
                    4 => {
                        let magnitude = random.below(36);
                        now += random.below(1 << magnitude) as u64;
                    }
                    // A wait for the next one, as an event loop makes it.
                    5 => now = now.max(naive.next().unwrap_or(now)),
                    _ => {
                        // Not always all that is due: a turn may have enough.
                        for _ in 0..random.below(20) {
                            assert_eq!(wheel.take_due(Instant::from_millis(now)), naive.take_due(now));
                        }
                    }
                }
                assert_eq!(wheel.next().map(Instant::as_millis), naive.next());
                assert_eq!(wheel.len(), naive.timers.len());
            }
            while let Some(expected) = naive.take_due(u64::MAX) {
                assert_eq!(wheel.take_due(Instant::from_millis(u64::MAX)), Some(expected));
            }
            assert_eq!((wheel.len(), wheel.next()), (0, None));
        }
    }

    #[test]
    fn the_end_of_time_is_a_time() {
        let mut wheel = Timers::default();
        wheel.set(Instant::from_millis(u64::MAX), Timer::Sys);
        wheel.set(Instant::from_millis(u64::MAX - 1), Timer::Delayed);
        assert_eq!(wheel.take_due(Instant::from_millis(u64::MAX - 2)), None);
        assert_eq!(wheel.take_due(Instant::from_millis(u64::MAX - 1)), Some(Timer::Delayed));
        assert_eq!(wheel.take_due(Instant::from_millis(u64::MAX - 1)), None);
        assert_eq!(wheel.take_due(Instant::from_millis(u64::MAX)), Some(Timer::Sys));
    }

    #[test]
    fn what_was_forgotten_does_not_fire() {
        let mut wheel = Timers::default();
        for at in [5, 500, 50_000] {
            wheel.set(Instant::from_millis(at), Timer::Sys);
        }
        assert_eq!(wheel.take_due(Instant::from_millis(10)), Some(Timer::Sys));
        wheel.clear();
        assert_eq!((wheel.len(), wheel.next()), (0, None));
        wheel.set(Instant::from_millis(600), Timer::Delayed);
        assert_eq!(wheel.take_due(Instant::from_millis(u64::MAX)), Some(Timer::Delayed));
    }

    #[test]
    fn a_timer_is_as_small_as_it_is_said_to_be() {
        assert_eq!(super::super::slab::place_size::<Node>(), 24);
    }
}
