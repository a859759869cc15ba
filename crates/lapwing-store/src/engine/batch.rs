use std::ops::Range;

use super::Space;

/// Changes that are made together or not at all, in their order.
#[derive(Debug, Default, Clone)]
pub struct WriteBatch {
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    operations: Vec<(Space, Range<usize>, Option<Range<usize>>)>,
}

/// One change of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The key has this value from now on.
    Insert(&'a [u8], &'a [u8]),
    /// The key is gone.
    Remove(&'a [u8]),
}

impl WriteBatch {
    /// Adds that a key has a value, which `write` appends.
    pub fn insert(&mut self, space: Space, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let key = self.append(key);
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.operations.push((space, key, Some(start..self.bytes.len())));
    }

    /// Adds that a key is gone.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        let key = self.append(key);
        self.operations.push((space, key, None));
    }

    /// What is in it.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = (Space, Operation<'_>)> {
        self.operations.iter().map(|(space, key, value)| {
            let key = &self.bytes[key.clone()];
            let operation = match value {
                Some(value) => Operation::Insert(key, &self.bytes[value.clone()]),
                None => Operation::Remove(key),
            };
            (*space, operation)
        })
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Bytes of its keys and values.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it for another use.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_CAPACITY);
        self.operations.clear();
        self.operations.shrink_to(SPARE_CAPACITY / size_of::<(Space, Range<usize>, Option<Range<usize>>)>());
    }

    fn append(&mut self, key: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        start..self.bytes.len()
    }
}

/// An empty batch keeps no more memory than this for the next use.
const SPARE_CAPACITY: usize = 1024 * 1024;
