//! Where keys and values are kept: what an engine must do, and those there are.

mod batch;
#[cfg(any(test, feature = "testing"))]
mod faulty;
#[cfg(feature = "fjall")]
mod fjall;
mod memory;
#[cfg(test)]
mod test;

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;

pub use self::batch::{Operation, WriteBatch};
#[cfg(any(test, feature = "testing"))]
pub use self::faulty::{Cut, Fault, FaultyDisk, FaultyEngine};
#[cfg(feature = "fjall")]
pub use self::fjall::{FjallEngine, Lock, Loss, Options, Salvage, TornTail, View, disk_bytes};
pub use self::memory::MemoryEngine;

/// A part of the store with keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// The format of all the others.
    Meta,
    /// Sessions.
    Session,
    /// Subscriptions of sessions.
    Subscription,
    /// Messages that wait for sessions. A key is written once and removed once.
    Queue,
    /// Messages that several sessions wait for. A key is written once and removed once; values may be large.
    Message,
    /// QoS 2 messages under way.
    Flow,
    /// Retained messages; values may be large.
    Retained,
    /// Messages that are published later; values may be large.
    Delayed,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Meta,
        Self::Session,
        Self::Subscription,
        Self::Queue,
        Self::Message,
        Self::Flow,
        Self::Retained,
        Self::Delayed,
    ];

    /// Its name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Queue => "queue",
            Self::Message => "message",
            Self::Flow => "flow",
            Self::Retained => "retained",
            Self::Delayed => "delayed",
        }
    }
}

/// How far written data has gone when [`Engine::sync`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It is on the disk: it survives the end of the process, of the system, and of the power.
    #[default]
    Fsync,
    /// The operating system has it: it survives the end of the process.
    Os,
}

/// Most bytes of a key. It has at least one.
pub const KEY_LIMIT: usize = 65_535;

/// A range of keys. One that ends before it begins has nothing in it.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Whether no key can be in a range.
fn is_empty_range((start, end): KeyRange<'_>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start >= end
        }
        _ => false,
    }
}

/// Looks at an entry: its key and its value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered store of keys and values. One thread has it.
///
/// What an implementation promises:
/// - a batch is there as a whole or not at all, also after a crash;
/// - batches become durable in the order in which they were written: after a crash those there are begin with the first
///   and have no gap, and all that were written before a [`sync`](Self::sync) which succeeded are among them;
/// - reads see every batch that was written, durable or not;
/// - after an error of `write` or `sync` nothing is written any more: each further call is an error. A `sync` that has
///   failed is never tried again as if it had not.
pub trait Engine: Send {
    /// Writes a batch.
    ///
    /// # Errors
    /// An [`EngineError`], after which the engine takes nothing more.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Makes durable what has been written.
    ///
    /// # Errors
    /// An [`EngineError`], after which the engine takes nothing more.
    fn sync(&mut self, durability: Durability) -> Result<(), EngineError>;

    /// The value of a key.
    ///
    /// # Errors
    /// An [`EngineError`] where the system or the data is at fault.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Shows the entries with keys in `range`, in the order of the keys, until `visit` breaks off.
    ///
    /// # Errors
    /// An [`EngineError`] where the system or the data is at fault.
    fn scan(&self, space: Space, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), EngineError>;

    /// The last key of a space.
    ///
    /// # Errors
    /// An [`EngineError`] where the system or the data is at fault.
    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError>;

    /// Bytes that it takes on the disk.
    ///
    /// # Errors
    /// An [`EngineError`] where the system is at fault.
    fn disk_bytes(&self) -> Result<u64, EngineError>;

    /// All entries as they are now, whatever is written later.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has failed.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError>;
}

/// Looks at an entry of a snapshot: its space, its key and its value.
pub type VisitAll<'a> = dyn FnMut(Space, &[u8], &[u8]) -> ControlFlow<()> + 'a;

/// All entries that an engine had at one moment. Another thread can read them while the engine goes on.
pub trait Snapshot: Send {
    /// Shows the entries of all spaces, in the order of [`Space::ALL`] and of the keys in each, until `visit` breaks off.
    ///
    /// It takes the snapshot, so that what is kept for it is given back.
    ///
    /// # Errors
    /// An [`EngineError`] where the system or the data is at fault.
    fn scan(self: Box<Self>, visit: &mut VisitAll<'_>) -> Result<(), EngineError>;
}

/// Why an engine cannot go on, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the file or folder.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data is not what was written.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// Where.
        file: PathBuf,
        /// From which byte on, as far as that is known.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// The folder holds something else.
    #[error("{} is not a Lapwing store: {what}", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What is there, or is not.
        what: String,
    },
    /// It was written by a version of Lapwing that this one does not know.
    #[error("{} has format {found}; this version of Lapwing reads up to {known}", path.display())]
    Future {
        /// Where.
        path: PathBuf,
        /// The format of the data.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It has failed before.
    #[error("the store has failed before and takes nothing more")]
    Failed,
}
