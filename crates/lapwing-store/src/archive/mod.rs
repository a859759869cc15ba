//! Everything that a store has, in one file: what a backup is made of.
//!
//! ```text
//! archive   head block… footer
//! head      "LAPWING ARCHIVE\n" format:u32 made:u64 check
//! block     1 size:u32 entry… check
//! entry     space:u8 key_size:u16 value_size:u32 key value
//! footer    2 size:u32 (entries:u64 bytes:u64) for each space, check
//! check     xxh3 of what stands before it since the last check, with that one as the seed: u64
//! ```
//!
//! Integers have their lowest byte first. Entries are in the order of the spaces and keys, and none is in two blocks. Because each
//! check begins with the one before, the footer's covers all: a block that is missing, changed, or stands elsewhere is seen. What
//! keys and values mean is the store's format, which the values name themselves.

mod reader;
mod writer;

use std::io;

pub use self::reader::{read, read_head};
pub use self::writer::ArchiveWriter;
use crate::engine::{EngineError, Space};
use crate::record::WallTime;

const MAGIC: [u8; 16] = *b"LAPWING ARCHIVE\n";
/// The newest format that is known.
const FORMAT: u32 = 1;
const HEAD_SIZE: usize = MAGIC.len() + 4 + 8;
const BLOCK: u8 = 1;
const FOOTER: u8 = 2;
/// Bytes of an entry before its key.
const ENTRY_HEAD: usize = 7;
const SPACES: usize = Space::ALL.len();

/// What an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// When it was made.
    pub made: WallTime,
    /// Entries of each space, and bytes of their keys and values.
    spaces: [(u64, u64); SPACES],
}

impl Summary {
    fn new(made: WallTime) -> Self {
        Self { made, spaces: [(0, 0); SPACES] }
    }

    fn count(&mut self, space: Space, bytes: usize) {
        let (entries, sum) = &mut self.spaces[space as usize];
        *entries += 1;
        *sum += bytes as u64;
    }

    /// How many entries of a space there are.
    pub fn entries(&self, space: Space) -> u64 {
        self.spaces[space as usize].0
    }

    /// How many entries there are in all.
    pub fn total(&self) -> u64 {
        self.spaces.iter().map(|(entries, _)| entries).sum()
    }
}

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("this is not an archive of a Lapwing store")]
    Foreign,
    /// It was written by a version of Lapwing that this one does not know.
    #[error("the archive has format {found}; this version of Lapwing reads up to {known}")]
    Future {
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It is not what was written.
    #[error("the archive is damaged: {what}, at byte {offset}")]
    Damaged {
        /// Where that shows.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The store could not be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It was not written to its end, because the store is being closed.
    #[error("the store was closed before the backup was complete")]
    Stopped,
    /// Another one is being written.
    #[error("a backup of the store is being made already")]
    Busy,
}
