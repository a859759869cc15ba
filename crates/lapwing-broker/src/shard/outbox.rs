/// Bytes waiting to be written to a connection. While there are none it has no memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

/// Buffers that are used by one connection after another, so that a turn does not take from the system what the turn
/// before gave back. It keeps at most [`POOL_BYTES_MAXIMUM`] while they are not in use.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// As much as a turn may put into outboxes.
const POOL_BYTES_MAXIMUM: usize = super::TURN_BUDGET;
/// What a buffer begins with where the pool has none: enough for the acknowledgements of a usual turn.
const FIRST_CAPACITY: usize = 512;
/// A reader that is behind keeps a buffer of this size, however little is in it.
const KEPT_CAPACITY: usize = 4096;

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.buffers.pop() else { return Vec::with_capacity(FIRST_CAPACITY) };
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity >= FIRST_CAPACITY && self.bytes + capacity <= POOL_BYTES_MAXIMUM {
            buffer.clear();
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }
}

impl Outbox {
    /// Where packets are appended.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What is still to be written.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// How many bytes are still to be written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Throws away what has not been written.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// `count` bytes have been written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written > self.bytes.len() / 2 && self.written > KEPT_CAPACITY {
            // A reader that is always a little behind must not make the buffer grow for ever.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Takes a buffer out of the pool if it has none: something is about to be appended. Without this call the
    /// buffer is made when it is needed.
    pub(super) fn prepare(&mut self, pool: &mut BufferPool) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
    }

    /// The turn has written what it could: an empty buffer goes back to the pool, and a large one with little in it
    /// is exchanged for a small one.
    pub(super) fn settle(&mut self, pool: &mut BufferPool) {
        let (len, capacity) = (self.len(), self.bytes.capacity());
        if len > 0 && (capacity <= KEPT_CAPACITY || len > capacity / 4) {
            return;
        }
        let rest = self.pending().to_vec();
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
        one.prepare(&mut pool);
        one.bytes().extend([7; 10_000]);
        one.advance(9_000);
        assert_eq!(one.pending(), [7; 1000]);
        one.advance(1000);
        one.settle(&mut pool);
        assert_eq!((one.bytes.capacity(), pool.buffers.len()), (0, 1));
        other.prepare(&mut pool);
        assert!(other.bytes.capacity() >= 10_000 && other.is_empty());
        assert_eq!((pool.buffers.len(), pool.bytes), (0, 0));
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
        assert!(pool.bytes <= POOL_BYTES_MAXIMUM && pool.buffers.len() == 10);
        pool.give(Vec::new());
        assert_eq!(pool.buffers.len(), 10);
        let kept: usize = std::iter::repeat_with(|| pool.take().capacity()).take(10).sum();
        assert!(kept > POOL_BYTES_MAXIMUM / 2 && pool.bytes == 0);
    }
}
