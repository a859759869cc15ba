//! Bytes on their way to the transport.

/// Above this, memory that a burst has needed is given back once it is not needed any more.
const KEPT_CAPACITY: usize = 64 * 1024;

/// Encoded packets that the transport has not taken yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many bytes at the front the transport has taken.
    taken: usize,
}

impl Output {
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Where packets are appended. What is there already must stay as it is.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.taken += count.min(self.len());
        if self.taken == self.bytes.len() {
            self.clear();
        } else if self.taken > KEPT_CAPACITY && self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.taken = 0;
        if self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_every_byte_once_in_order() {
        let mut output = Output::default();
        let mut seen = Vec::new();
        for round in 0..2000u32 {
            output.bytes().extend_from_slice(&[round as u8; 100]);
            seen.extend_from_slice(&output.pending()[..90]);
            output.consume(90);
        }
        assert_eq!(output.len(), 20_000);
        seen.extend_from_slice(output.pending());
        output.consume(usize::MAX);
        assert_eq!(output.len(), 0);
        assert!(seen.chunks(100).enumerate().all(|(round, chunk)| chunk == [round as u8; 100]));
        assert!(output.bytes.capacity() <= KEPT_CAPACITY);
    }
}
