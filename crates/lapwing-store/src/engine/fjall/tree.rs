//! fjall's database with its keyspaces: one for the marks, one for each space.

use std::path::Path;

use fjall::compaction::Leveled;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions};

use super::super::{EngineError, Space};
use super::MIB;
use super::entry::MARK_KEYSPACE;
use super::folder::io_error;
use super::journal::Content;
use super::mark::Mark;

/// How many keyspaces there are. fjall numbers them from 1 on, in the order in which they are created.
pub(super) const KEYSPACES: u64 = 1 + Space::ALL.len() as u64;

const MARKS: &str = "mark";

/// Whether each key of a space is written once and removed once, and never again.
pub(super) fn is_written_once(space: Space) -> bool {
    matches!(space, Space::Queue | Space::Message)
}

/// Creates a database with all keyspaces.
pub(super) fn create(path: &Path, memory: u64) -> Result<(), EngineError> {
    open(path, memory).map(drop)
}

/// Opens the database and its keyspaces.
pub(super) fn open(
    path: &Path,
    memory: u64,
) -> Result<(Database, Keyspace, [Keyspace; Space::ALL.len()]), EngineError> {
    let database = Database::builder(path)
        .manual_journal_persist(true)
        .cache_size(memory / 4)
        .max_cached_files(Some(64))
        .max_journaling_size(64 * MIB)
        .worker_threads(1)
        .open();
    let database = database.map_err(|error| failure("opening", path, error))?;
    let keyspace = |name: &str, id: u64| {
        let keyspace = database.keyspace(name, options);
        let keyspace = keyspace.map_err(|error| failure("opening", path, error))?;
        if keyspace.id() == id {
            return Ok(keyspace);
        }
        let what = format!("the keyspace `{name}` has number {} and not {id}", keyspace.id());
        Err(EngineError::Foreign { path: path.to_owned(), what })
    };
    let marks = keyspace(MARKS, MARK_KEYSPACE)?;
    let mut spaces = Vec::new();
    for (space, id) in Space::ALL.into_iter().zip(MARK_KEYSPACE + 1..) {
        spaces.push(keyspace(space.name(), id)?);
    }
    let spaces = spaces.try_into().map_err(|_| EngineError::Failed)?;
    Ok((database, marks, spaces))
}

/// The engine itself says when a buffer is written to a table. Small tables make merges short.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(u64::MAX)
        .compaction_strategy(std::sync::Arc::new(Leveled::default().with_table_target_size(8 * MIB)))
}

/// The mark of the last batch.
pub(super) fn last_mark(
    marks: &Keyspace,
    identity: [u8; 8],
    path: &Path,
) -> Result<Option<Mark>, EngineError> {
    let value = marks.get(identity).map_err(|error| failure("reading", path, error))?;
    let Some(value) = value else { return Ok(None) };
    let mark = Mark::from_bytes(&value);
    mark.map(Some).ok_or_else(|| corrupt(marks.path(), "the mark of the last batch cannot be read"))
}

/// Whether the tables and the journals belong together.
pub(super) fn compare(
    content: &Content,
    written: Option<Mark>,
    marks: &Keyspace,
    path: &Path,
) -> Result<(), EngineError> {
    if content.last.is_some() && content.last != written {
        return Err(corrupt(path, "the tables have batches that the journals lack"));
    }
    let Some(first) = content.first else { return Ok(()) };
    let in_tables = marks.tree.get_highest_persisted_seqno();
    if first.sequence > 1 && in_tables.is_none_or(|number| number < first.previous_floor) {
        return Err(corrupt(path, "a journal is missing before the first"));
    }
    Ok(())
}

fn corrupt(file: &Path, what: &str) -> EngineError {
    EngineError::Corrupt { file: file.to_owned(), offset: 0, what: what.to_owned() }
}

/// What an error of fjall means. It does not say which file it is about.
pub(super) fn failure(doing: &str, path: &Path, error: fjall::Error) -> EngineError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            io_error(doing, path, error)
        }
        fjall::Error::Locked => EngineError::Locked { path: path.to_owned() },
        fjall::Error::Poisoned => {
            io_error(doing, path, std::io::Error::other("writing or merging tables has failed before"))
        }
        other => corrupt(path, &other.to_string()),
    }
}
