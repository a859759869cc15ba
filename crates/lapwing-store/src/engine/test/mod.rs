//! What every engine must do, and what only some can show.

mod faulty;
#[cfg(feature = "fjall")]
mod fjall;
mod model;
mod suite;

use std::ops::{Bound, ControlFlow};

use super::{Engine, KeyRange, MemoryEngine, Space, WriteBatch};

/// Everything in a space.
pub(super) const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

/// Makes an engine, and opens again what another one has left.
pub(super) trait Backend {
    /// An empty engine, or what the last one has left.
    fn open(&mut self) -> Box<dyn Engine>;

    /// Whether there is anything left when an engine is opened again.
    fn keeps(&self) -> bool;
}

/// Forgets all.
pub(super) struct Memory;

impl Backend for Memory {
    fn open(&mut self) -> Box<dyn Engine> {
        Box::new(MemoryEngine::default())
    }

    fn keeps(&self) -> bool {
        false
    }
}

pub(super) fn entries(engine: &dyn Engine, space: Space, range: KeyRange<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let scanned = engine.scan(space, range, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    found
}

pub(super) fn keys(engine: &dyn Engine, space: Space, range: KeyRange<'_>) -> Vec<Vec<u8>> {
    entries(engine, space, range).into_iter().map(|(key, _)| key).collect()
}

pub(super) fn insert(batch: &mut WriteBatch, space: Space, key: &[u8], value: &[u8]) {
    batch.insert(space, key, |bytes| bytes.extend_from_slice(value));
}

/// A batch with one entry.
pub(super) fn one(space: Space, key: &[u8], value: &[u8]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    insert(&mut batch, space, key, value);
    batch
}
