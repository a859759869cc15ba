//! The front of a packet whose end has not arrived.

use crate::packet::{DecodeError, Frame};

/// Above this, memory that a large packet has needed is given back.
const KEPT_CAPACITY: usize = 64 * 1024;

/// The bytes of one packet that has arrived in part. It grows with what arrives, never by what a peer
/// merely declares.
#[derive(Debug, Clone, Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
}

impl Partial {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.bytes.extend_from_slice(rest);
    }

    /// Moves what the packet still lacks from the front of `input`; whether it is whole then.
    pub(super) fn complete(
        &mut self,
        input: &mut &[u8],
        maximum_packet_size: u32,
    ) -> Result<bool, DecodeError> {
        loop {
            if Frame::split(&mut &self.bytes[..], maximum_packet_size)?.is_some() {
                return Ok(true);
            }
            if input.is_empty() {
                return Ok(false);
            }
            // Until the whole fixed header is there, it is not known how much is lacking.
            let lacking = Frame::declared_size(&self.bytes).map_or(1, |size| size - self.bytes.len());
            let (front, rest) = input.split_at(lacking.min(input.len()));
            self.bytes.extend_from_slice(front);
            *input = rest;
        }
    }

    pub(super) fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}
