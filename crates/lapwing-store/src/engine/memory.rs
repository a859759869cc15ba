use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{
    Durability, Engine, EngineError, KeyRange, Operation, Snapshot, Space, Visit, VisitAll, WriteBatch,
    is_empty_range,
};

/// Keeps everything in memory: for tests.
#[derive(Debug, Default, Clone)]
pub struct MemoryEngine {
    spaces: BTreeMap<Space, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryEngine {
    /// Bytes of all keys and values.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn bytes(&self) -> u64 {
        let entries = self.spaces.values().flatten();
        entries.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    pub(super) fn apply(&mut self, batch: &WriteBatch) {
        for (space, operation) in batch.operations() {
            let entries = self.spaces.entry(space).or_default();
            match operation {
                Operation::Insert(key, value) => entries.insert(key.into(), value.into()),
                Operation::Remove(key) => entries.remove(key),
            };
        }
    }
}

impl Engine for MemoryEngine {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.apply(batch);
        Ok(())
    }

    fn sync(&mut self, _: Durability) -> Result<(), EngineError> {
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.spaces.get(&space).and_then(|entries| entries.get(key)).cloned())
    }

    fn scan(&self, space: Space, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if is_empty_range(range) {
            return Ok(());
        }
        let entries = self.spaces.get(&space).into_iter().flat_map(|entries| entries.range::<[u8], _>(range));
        for (key, value) in entries {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.spaces.get(&space).and_then(|entries| entries.last_key_value()).map(|(key, _)| key.clone()))
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(0)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        Ok(Box::new(self.clone()))
    }
}

impl Snapshot for MemoryEngine {
    fn scan(self: Box<Self>, visit: &mut VisitAll<'_>) -> Result<(), EngineError> {
        for (&space, entries) in &self.spaces {
            for (key, value) in entries {
                if visit(space, key, value).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
