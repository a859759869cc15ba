/// Bytes waiting to be written to a connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

/// Above this an empty outbox gives its memory back.
const KEPT_CAPACITY: usize = 4096;

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
        if self.written < self.bytes.len() {
            // A reader that is always a little behind must not make the buffer grow for ever.
            if self.written > self.bytes.len() / 2 && self.written > KEPT_CAPACITY {
                self.bytes.drain(..self.written);
                self.written = 0;
            }
            return;
        }
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = Vec::new();
        }
    }
}
