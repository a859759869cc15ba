//! All that a store had at one moment.

use fjall::{Database, Iter, Keyspace, Readable};

use super::super::{EngineError, Snapshot, Space, VisitAll};
use super::{OWN_KEY, tree};

/// The entries of all spaces at one moment.
///
/// An iterator keeps the buffers and tables that it was made for, so there is one for each space from the beginning: tables
/// that are merged meanwhile, with what has been removed, are no concern of theirs.
pub(super) struct FjallSnapshot(Vec<(Space, Keyspace, Iter)>);

impl FjallSnapshot {
    pub(super) fn new(database: &Database, spaces: &[Keyspace; Space::ALL.len()]) -> Self {
        // One number for all spaces: no batch is there in part.
        let snapshot = database.snapshot();
        let spaces = Space::ALL.into_iter().zip(spaces);
        Self(spaces.map(|(space, keyspace)| (space, keyspace.clone(), snapshot.iter(keyspace))).collect())
    }
}

impl Snapshot for FjallSnapshot {
    fn scan(self: Box<Self>, visit: &mut VisitAll<'_>) -> Result<(), EngineError> {
        for (space, keyspace, entries) in self.0 {
            for entry in entries {
                let entry = entry.into_inner();
                let (key, value) = entry.map_err(|error| tree::failure("reading", keyspace.path(), error))?;
                if *key != *OWN_KEY && visit(space, &key, &value).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
