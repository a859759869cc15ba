//! What the engine writes into each batch of its own, so that opening can tell a torn tail from corruption.

/// The first entry of each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// The how-manieth batch of the store this is, from 1 on.
    pub(super) sequence: u64,
    /// The last batch that was known to be on the disk when this one was written.
    pub(super) synced: u64,
    /// fjall numbers batches too, with gaps; this one's number is not below this.
    pub(super) floor: u64,
    /// `floor` of the batch before.
    pub(super) previous_floor: u64,
    /// All up to this batch is in tables: it need not be in a journal any more.
    pub(super) in_tables: u64,
}

impl Mark {
    /// Bytes of a mark.
    pub(super) const SIZE: usize = 40;

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let fields = [self.sequence, self.synced, self.floor, self.previous_floor, self.in_tables];
        for (chunk, field) in bytes.chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        let mut fields = bytes.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_be_bytes));
        let mut next = || fields.next().unwrap_or_default();
        Some(Self {
            sequence: next(),
            synced: next(),
            floor: next(),
            previous_floor: next(),
            in_tables: next(),
        })
    }
}
