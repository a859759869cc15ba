use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lapwing_proto::session::Instant;

use super::{ConnectionId, SessionId};

/// What a timer is for. A timer is never taken back: whoever it fires for looks whether it is still due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The CONNECT must have come, or keep alive may be exceeded.
    Connection(ConnectionId),
    /// The session may expire.
    Session(SessionId),
    /// The will may be due.
    Will(SessionId),
    /// A delayed message may be due.
    Delayed,
    /// The `$SYS` topics are due.
    Sys,
}

/// Timers in the order in which they fire.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// How many there are, with those that nobody waits for any more.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }

    /// When the next one fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that fires at `now` or before.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}
