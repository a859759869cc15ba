use std::collections::VecDeque;

use super::ledger::Ticket;

/// Bytes waiting to be written to a connection. While there are none it has no memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// Made when the first one is needed.
    #[expect(clippy::box_collection, reason = "an outbox without gates is not to have room for a queue")]
    gates: Option<Box<VecDeque<Gate>>>,
}

/// A place in an outbox from which on nothing is written before the store has what is acknowledged there.
#[derive(Debug, Clone, Copy)]
struct Gate {
    ticket: Ticket,
    /// In the bytes that there are.
    at: usize,
}

/// Buffers that are used by one connection after another, so that a turn does not take from the system what the turn
/// before gave back. It keeps at most [`POOL_BYTES_MAXIMUM`] while they are not in use.
///
/// Those for some acknowledgements and those for many messages are kept apart: if they were not, each would now and
/// then be used for messages, and all of them together would be more than a cache holds.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    bytes: usize,
}

/// As much as a turn may put into outboxes.
const POOL_BYTES_MAXIMUM: usize = super::TURN_BUDGET;
/// What a buffer begins with where the pool has none: enough for the acknowledgements of a usual turn.
const FIRST_CAPACITY: usize = 512;
/// From this capacity on a buffer is large.
const LARGE: usize = 4096;
/// What a message takes beside its payload, if it has a short topic and few properties.
const SLACK: usize = 128;
/// A reader that is behind keeps a buffer of this size, however little is in it.
const KEPT_CAPACITY: usize = 4096;

impl BufferPool {
    fn take(&mut self, is_large: bool) -> Option<Vec<u8>> {
        let buffer = if is_large { &mut self.large } else { &mut self.small }.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Gives all of it back to the system.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity >= FIRST_CAPACITY && self.bytes + capacity <= POOL_BYTES_MAXIMUM {
            buffer.clear();
            self.bytes += capacity;
            if capacity >= LARGE { &mut self.large } else { &mut self.small }.push(buffer);
        }
    }
}

impl Outbox {
    /// Where packets are appended.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What may be written now.
    pub(crate) fn pending(&self) -> &[u8] {
        let gate = self.gates.as_ref().and_then(|gates| gates.front());
        &self.bytes[self.written..gate.map_or(self.bytes.len(), |gate| gate.at)]
    }

    /// What is appended from here on is not written before the store has what was submitted with this ticket. Whether
    /// somebody must say so who has not been asked yet.
    pub(super) fn close_gate(&mut self, ticket: Ticket) -> bool {
        let at = self.bytes.len();
        let gates = self.gates.get_or_insert_default();
        // What stands behind another gate waits for that one as well.
        let is_new = gates.back().is_none_or(|last| last.ticket < ticket);
        if is_new {
            gates.push_back(Gate { ticket, at });
        }
        is_new
    }

    /// The store has what was submitted up to this ticket.
    pub(super) fn open_gates(&mut self, ticket: Ticket) {
        let Some(gates) = &mut self.gates else { return };
        while gates.front().is_some_and(|gate| gate.ticket <= ticket) {
            gates.pop_front();
        }
        if gates.is_empty() {
            self.gates = None;
        }
    }

    /// The first bytes are gone.
    fn shift_gates(&mut self, count: usize) {
        for gate in self.gates.iter_mut().flat_map(|gates| gates.iter_mut()) {
            gate.at -= count;
        }
    }

    /// Sets the DUP flag of the PUBLISH that stands behind so many bytes which are still to be written.
    pub(super) fn set_dup(&mut self, behind: usize) {
        const DUP: u8 = 0b1000;
        if let Some(first) = self.bytes.get_mut(self.written + behind) {
            *first |= DUP;
        }
    }

    /// How many bytes are still to be written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it takes, written and not.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Throws away what has not been written.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// `count` bytes have been written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            // Behind a gate there may be nothing: what was to follow could not be sent.
            self.shift_gates(self.written);
            self.bytes.clear();
            self.written = 0;
        } else if self.written > self.bytes.len() / 2 && self.written > KEPT_CAPACITY {
            // A reader that is always a little behind must not make the buffer grow for ever.
            self.bytes.drain(..self.written);
            self.shift_gates(self.written);
            self.written = 0;
        }
    }

    /// Something is about to be appended, with so many bytes of payload: takes a buffer out of the pool if there
    /// is no room. Without this call the buffer grows as any vector does.
    pub(super) fn prepare(&mut self, payload: usize, pool: &mut BufferPool) {
        let size = payload + SLACK;
        if self.bytes.capacity() - self.bytes.len() < size && self.bytes.capacity() < LARGE {
            self.enlarge(size, pool);
        }
    }

    #[cold]
    fn enlarge(&mut self, size: usize, pool: &mut BufferPool) {
        let is_large = self.bytes.capacity() > 0 || size > FIRST_CAPACITY;
        let buffer = match pool.take(is_large) {
            Some(buffer) => buffer,
            None if is_large => return,
            None => Vec::with_capacity(FIRST_CAPACITY),
        };
        let small = std::mem::replace(&mut self.bytes, buffer);
        self.bytes.extend_from_slice(&small);
        pool.give(small);
    }

    /// The turn has written what it could: an empty buffer goes back to the pool, and a large one with little in it
    /// is exchanged for a small one.
    pub(super) fn settle(&mut self, pool: &mut BufferPool) {
        let (len, capacity) = (self.len(), self.bytes.capacity());
        if len > 0 && (capacity <= KEPT_CAPACITY || len > capacity / 4) {
            return;
        }
        let rest = self.bytes[self.written..].to_vec();
        self.shift_gates(self.written);
        self.written = 0;
        pool.give(std::mem::replace(&mut self.bytes, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_outbox_has_no_memory_and_its_buffer_is_used_again() {
        let (mut pool, mut one, mut other) = (BufferPool::default(), Outbox::default(), Outbox::default());
        one.prepare(10_000, &mut pool);
        one.bytes().extend([7; 10_000]);
        one.advance(9_000);
        assert_eq!(one.pending(), [7; 1000]);
        one.advance(1000);
        one.settle(&mut pool);
        assert_eq!((one.bytes.capacity(), pool.large.len()), (0, 1));
        other.prepare(10_000, &mut pool);
        assert!(other.bytes.capacity() >= 10_000 && other.is_empty());
        assert_eq!((pool.large.len(), pool.bytes), (0, 0));
    }

    #[test]
    fn a_small_buffer_is_exchanged_for_a_large_one_once_there_is_no_room() {
        let (mut pool, mut outbox) = (BufferPool::default(), Outbox::default());
        pool.give(Vec::with_capacity(LARGE));
        for number in 0..100_u8 {
            outbox.prepare(10, &mut pool);
            outbox.bytes().extend([number; 10]);
            let is_large = outbox.bytes.capacity() >= LARGE;
            assert_eq!(is_large, outbox.bytes.len() > FIRST_CAPACITY - SLACK);
            if number == 3 {
                outbox.advance(10);
            }
        }
        assert!(outbox.pending().iter().copied().eq((1..100).flat_map(|number| [number; 10])));
        assert_eq!((pool.small.len(), pool.large.len(), pool.bytes), (1, 0, FIRST_CAPACITY));
    }

    #[test]
    fn who_is_a_little_behind_keeps_no_large_buffer() {
        let (mut pool, mut outbox) = (BufferPool::default(), Outbox::default());
        outbox.bytes().extend((0..100_000).map(|at| at as u8));
        outbox.advance(40_000);
        outbox.settle(&mut pool);
        assert_eq!((outbox.len(), pool.bytes), (60_000, 0), "that is no little");
        outbox.advance(59_000);
        outbox.settle(&mut pool);
        assert!(outbox.bytes.capacity() <= KEPT_CAPACITY && pool.bytes >= 100_000);
        assert!(outbox.pending().iter().copied().eq((99_000..100_000).map(|at| at as u8)));
        outbox.bytes().push(1);
        assert_eq!(outbox.len(), 1001);
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = BufferPool::default();
        for _ in 0..20 {
            pool.give(Vec::with_capacity(POOL_BYTES_MAXIMUM / 10));
        }
        assert!(pool.bytes <= POOL_BYTES_MAXIMUM && pool.large.len() == 10);
        pool.give(Vec::new());
        assert!(pool.small.is_empty());
        let kept: usize = std::iter::from_fn(|| pool.take(true)).map(|buffer| buffer.capacity()).sum();
        assert!(kept > POOL_BYTES_MAXIMUM / 2 && pool.bytes == 0);
    }
}
