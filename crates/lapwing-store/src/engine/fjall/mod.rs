//! The engine that keeps data on a disk: fjall, a log-structured store with one journal for all spaces.

mod entry;
mod folder;
mod journal;
mod mark;
mod reclaim;
mod salvage;
mod snapshot;
mod tree;
mod view;

use std::fs;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fjall::{AbstractTree, Database, Keyspace, PersistMode};

pub use self::folder::Lock;
use self::folder::{Folder, io_error};
use self::mark::Mark;
use self::reclaim::Reclaim;
pub use self::salvage::{Loss, Salvage};
use self::snapshot::FjallSnapshot;
pub use self::view::{TornTail, View};
use super::{
    Durability, Engine, EngineError, KEY_LIMIT, KeyRange, Operation, Space, Visit, WriteBatch, is_empty_range,
};

/// How the engine is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// About how many bytes of memory it takes: up to a half for what is not in tables yet, a quarter for blocks that have
    /// been read, and the rest for merging. At least 8 MiB.
    pub memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: 64 * MIB }
    }
}

const MIB: u64 = 1024 * 1024;
const LEAST_MEMORY: u64 = 8 * MIB;

/// A key that each space has for the engine itself. Reads do not show it.
///
/// fjall deletes a journal when each space's tables have something newer than all that the journal has for the space. A removal
/// that cancels its insertion leaves nothing in a table, so without this key an emptied queue would keep its journal.
const OWN_KEY: &[u8] = &[0xFF; 24];

/// What is on its way to tables.
#[derive(Debug, Clone, Copy)]
struct Sealing {
    /// The last batch of it.
    sequence: u64,
    /// Whether the spaces have arrived, and only the marks have not.
    marks: bool,
}

/// Keeps keys and values in a folder.
///
/// Opening replays what is not in tables yet: at most a half of [`Options::memory`].
pub struct FjallEngine {
    database: Database,
    marks: Keyspace,
    spaces: [Keyspace; Space::ALL.len()],
    reclaim: Reclaim,
    folder: Folder,
    /// What is written and not yet sorted may take so many bytes.
    buffer: u64,
    /// The mark of the last batch.
    last: Mark,
    synced: u64,
    in_tables: u64,
    /// The last batch that was sent to tables.
    sealed: u64,
    sealing: Option<Sealing>,
    failed: bool,
}

impl FjallEngine {
    /// Opens the store in a folder, or creates it where nothing is yet.
    ///
    /// A torn tail of the journal is cut off, with a warning in the log: it holds only batches that no `sync` has confirmed.
    ///
    /// # Errors
    /// An [`EngineError`] that says why it cannot be opened. Nothing has been changed then.
    pub fn open(path: &Path, options: Options) -> Result<Self, EngineError> {
        let memory = options.memory.max(LEAST_MEMORY);
        if folder::is_vacant(path)? {
            Folder::create(path, |new| tree::create(new, memory))?;
            tracing::info!(folder = %path.display(), "created a store");
        }
        let folder = Folder::open(path, tree::KEYSPACES)?;
        let content = journal::check(path, folder.identity)?;
        let (database, marks, spaces) = tree::open(path, memory)?;
        let written = tree::last_mark(&marks, folder.identity, path)?;
        tree::compare(&content, written, &marks, path)?;
        let last = written.unwrap_or_default();
        let mut engine = Self {
            database,
            marks,
            spaces,
            reclaim: Reclaim::default(),
            folder,
            buffer: memory / 8,
            last,
            synced: last.sequence,
            in_tables: last.in_tables,
            sealed: last.sequence,
            sealing: None,
            failed: false,
        };
        // From now on a later batch says that all that was found is on the disk: opening has synced it.
        engine.write(&WriteBatch::default())?;
        engine.sync(Durability::Fsync)?;
        Ok(engine)
    }

    /// Reads all tables and blocks.
    ///
    /// # Errors
    /// An [`EngineError`] that names what cannot be read.
    pub fn check(&self) -> Result<(), EngineError> {
        for space in Space::ALL {
            self.scan(space, (Bound::Unbounded, Bound::Unbounded), &mut |_, _| ControlFlow::Continue(()))?;
        }
        Ok(())
    }

    /// Sends everything to tables, and waits until it is there.
    #[cfg(test)]
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        let buffer = std::mem::take(&mut self.buffer);
        // What is on its way has not got everything.
        let sealed = self.last.sequence;
        while self.in_tables < sealed {
            self.seal()?;
            self.wait_for_room()?;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    fn path(&self, space: Space) -> &Path {
        self.space(space).path()
    }

    /// Writes a batch with a mark, and with the engine's own key in all spaces where they are about to be sealed.
    fn commit(&mut self, batch: &WriteBatch, seal: bool) -> Result<(), EngineError> {
        let mark = Mark {
            sequence: self.last.sequence + 1,
            synced: self.synced,
            floor: self.database.seqno(),
            previous_floor: self.last.floor,
            in_tables: self.in_tables,
        };
        let count = batch.operations().len() + 1;
        let mut changes = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), count);
        changes.insert(&self.marks, self.folder.identity, mark.to_bytes());
        for space in self.spaces.iter().filter(|_| seal) {
            changes.insert(space, OWN_KEY, mark.sequence.to_be_bytes());
        }
        for (space, operation) in batch.operations() {
            let keyspace = self.space(space);
            match operation {
                Operation::Insert(key, value) => changes.insert(keyspace, key, value),
                // Written once and removed once: the removal and the insertion cancel each other.
                Operation::Remove(key) if tree::is_written_once(space) => changes.remove_weak(keyspace, key),
                Operation::Remove(key) => changes.remove(keyspace, key),
            }
        }
        changes.commit().map_err(|error| tree::failure("writing to", &self.folder.path, error))?;
        self.last = mark;
        Ok(())
    }

    /// Waits while more is on its way to the disk than may be. fjall would wait too, but for ever if its threads have
    /// failed meanwhile.
    fn wait_for_room(&mut self) -> Result<(), EngineError> {
        let is_behind = |keyspace: &Keyspace| {
            keyspace.tree.sealed_memtable_count() >= SEALED_LIMIT || keyspace.tree.l0_run_count() >= RUN_LIMIT
        };
        let start = Instant::now();
        while self.keyspaces().any(is_behind) || self.sealing.is_some() && self.unsorted() > 2 * self.buffer {
            self.look_for_failure()?;
            if start.elapsed() > STALL_LIMIT {
                let error = io::Error::from(io::ErrorKind::TimedOut);
                return Err(io_error("waiting for tables to be written to", &self.folder.path, error));
            }
            self.seal()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// An error where fjall's threads have had one.
    fn look_for_failure(&self) -> Result<(), EngineError> {
        let alive = self.database.persist(PersistMode::Buffer);
        alive.map_err(|error| tree::failure("writing to", &self.folder.path, error))
    }

    /// Sends everything to tables when there is much of it, or much to be gained. All spaces go together, so that a journal
    /// is never kept for one of them.
    fn seal(&mut self) -> Result<(), EngineError> {
        let is_due = self.sealing.is_none() && self.is_seal_due();
        match self.sealing {
            None if is_due => {
                self.commit(&WriteBatch::default(), true)?;
                for space in &self.spaces {
                    self.rotate(space)?;
                }
                self.reclaim.seal();
                self.sealed = self.last.sequence;
                self.sealing = Some(Sealing { sequence: self.last.sequence, marks: false });
            }
            // The marks go last: then they cannot be in a table while what they are about is not.
            Some(Sealing { sequence, marks: false }) if self.spaces.iter().all(is_sorted) => {
                self.rotate(&self.marks)?;
                self.sealing = Some(Sealing { sequence, marks: true });
                self.reclaim.start(&self.spaces, self.database.visible_seqno());
            }
            Some(Sealing { sequence, marks: true }) if is_sorted(&self.marks) => {
                self.in_tables = sequence;
                self.sealing = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn is_seal_due(&mut self) -> bool {
        // fjall has begun a new journal, and the old one goes when all that was written before is in tables.
        let has_old_journal = || self.database.journal_count() > 1;
        self.unsorted() > self.buffer
            || self.last.sequence > self.sealed + OLD_JOURNAL_BATCHES && has_old_journal()
            || self.reclaim.is_due(&self.spaces)
    }

    /// Bytes that are in memory only, and in the journal.
    fn unsorted(&self) -> u64 {
        self.keyspaces().map(|keyspace| keyspace.tree.active_memtable().size()).sum()
    }

    fn keyspaces(&self) -> impl Iterator<Item = &Keyspace> {
        self.spaces.iter().chain([&self.marks])
    }

    fn rotate(&self, keyspace: &Keyspace) -> Result<(), EngineError> {
        let rotated = keyspace.rotate_memtable();
        rotated.map(drop).map_err(|error| tree::failure("writing to", &self.folder.path, error))
    }

    fn try_write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.wait_for_room()?;
        for (space, operation) in batch.operations() {
            let (Operation::Insert(key, _) | Operation::Remove(key)) = operation;
            if key.is_empty() || key.len() > KEY_LIMIT {
                let what = format!("writing a key of {} bytes to the space {}", key.len(), space.name());
                return Err(EngineError::Io { what, source: io::ErrorKind::InvalidInput.into() });
            }
            if let Operation::Remove(_) = operation {
                self.reclaim.count(space);
            }
        }
        self.commit(batch, false)?;
        self.seal()
    }

    fn fail_if_error<T>(&mut self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        self.failed |= result.is_err();
        result
    }
}

/// A thread of fjall that panics says nothing. After this time it is taken for dead.
const STALL_LIMIT: Duration = Duration::from_secs(120);
/// So many batches after the last ones were sent to tables, the others follow if that frees a journal.
const OLD_JOURNAL_BATCHES: u64 = 500;
/// So many buffers of a space may wait to be written to tables.
const SEALED_LIMIT: usize = 2;
/// So many runs of new tables may wait to be merged.
const RUN_LIMIT: usize = 20;

/// Whether all that was sealed is in tables.
fn is_sorted(keyspace: &Keyspace) -> bool {
    keyspace.tree.sealed_memtable_count() == 0
}

impl Engine for FjallEngine {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        if self.failed {
            return Err(EngineError::Failed);
        }
        let result = self.try_write(batch);
        self.fail_if_error(result)
    }

    fn sync(&mut self, durability: Durability) -> Result<(), EngineError> {
        if self.failed {
            return Err(EngineError::Failed);
        }
        let mode = match durability {
            Durability::Fsync => PersistMode::SyncData,
            Durability::Os => PersistMode::Buffer,
        };
        let result = self.database.persist(mode);
        let result = result.map_err(|error| tree::failure("syncing", &self.folder.path, error));
        // A thread of fjall may have synced the same file, and have got the error that this call has not.
        let result = result.and_then(|()| self.look_for_failure());
        self.fail_if_error(result)?;
        if durability == Durability::Fsync {
            self.synced = self.last.sequence;
        }
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        if self.failed {
            return Err(EngineError::Failed);
        }
        if key.is_empty() || key.len() > KEY_LIMIT || key == OWN_KEY {
            return Ok(None);
        }
        let value = self.space(space).get(key);
        let value = value.map_err(|error| tree::failure("reading", self.path(space), error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, space: Space, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if self.failed {
            return Err(EngineError::Failed);
        }
        if is_empty_range(range) {
            return Ok(());
        }
        for entry in self.space(space).range::<&[u8], _>(range) {
            let entry = entry.into_inner();
            let (key, value) = entry.map_err(|error| tree::failure("reading", self.path(space), error))?;
            if *key != *OWN_KEY && visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError> {
        if self.failed {
            return Err(EngineError::Failed);
        }
        for entry in self.space(space).iter().rev() {
            let key = entry.key().map_err(|error| tree::failure("reading", self.path(space), error))?;
            if *key != *OWN_KEY {
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(None)
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        disk_bytes(&self.folder.path)
    }

    fn snapshot(&self) -> Result<Box<dyn super::Snapshot>, EngineError> {
        if self.failed {
            return Err(EngineError::Failed);
        }
        Ok(Box::new(FjallSnapshot::new(&self.database, &self.spaces)))
    }
}

impl Drop for FjallEngine {
    fn drop(&mut self) {
        if !self.failed && self.synced < self.last.sequence {
            let _ = self.sync(Durability::Fsync);
        }
        // The last batch says that all others are on the disk.
        if !self.failed && self.write(&WriteBatch::default()).is_ok() {
            let _ = self.sync(Durability::Fsync);
        }
        self.reclaim.finish();
    }
}

impl std::fmt::Debug for FjallEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FjallEngine").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a folder takes on the disk. Files that are deleted meanwhile count no more.
///
/// # Errors
/// An [`EngineError`] where the system refuses to say it.
pub fn disk_bytes(folder: &Path) -> Result<u64, EngineError> {
    let found = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(0),
        _ => Err(io_error("reading", folder, error)),
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return found(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry.map_err(|error| io_error("reading", folder, error))?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path())?,
            Ok(metadata) => file_bytes(&metadata),
            Err(error) => found(error)?,
        };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn file_bytes(metadata: &fs::Metadata) -> u64 {
    // A new journal is large and empty, and takes nothing yet.
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn file_bytes(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}
