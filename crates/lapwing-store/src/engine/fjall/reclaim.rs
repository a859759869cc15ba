//! Gives space back to the disk that removed entries take.

use std::thread::{self, JoinHandle};

use fjall::{AbstractTree, Keyspace};

use super::super::Space;
use super::MIB;

/// Counts what is removed, and merges all tables of a space when half of what they have must be garbage.
///
/// fjall merges levels of tables when they grow. Removals are small, and so they wait long in a level above what they remove,
/// which may be large. A space beyond [`MOST`] is left to fjall: as long as all its tables are merged, no others of it are, and a
/// writer that needs room for more has to wait.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    /// Removals of each space since the last merge.
    removed: [u64; Space::ALL.len()],
    /// Those of them that are on their way to tables. The others are not part of the next merge.
    sealed: [u64; Space::ALL.len()],
    /// Removals when it was last looked at what they remove.
    looked_at: u64,
    running: Option<JoinHandle<()>>,
}

/// Less garbage than this, or than a half of the space, is not worth it.
const LEAST_GARBAGE: u64 = 16 * MIB;
/// A larger space is not merged at once.
const MOST: u64 = 1024 * MIB;
/// After how many removals to look at what they remove.
const INTERVAL: u64 = 256;

impl Reclaim {
    pub(super) fn count(&mut self, space: Space) {
        self.removed[space as usize] += 1;
    }

    /// All that has been removed is on its way to tables.
    pub(super) fn seal(&mut self) {
        self.sealed = self.removed;
    }

    /// Whether what has been removed should go to tables now. It should too after a merge: fjall deletes the old tables then.
    pub(super) fn is_due(&mut self, spaces: &[Keyspace; Space::ALL.len()]) -> bool {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            let _ = running.join();
            return true;
        }
        let total: u64 = self.removed.iter().sum();
        // fjall sends spaces to tables by itself, too, to free a journal. What is on its way is in neither count.
        let is_sorted = || spaces.iter().all(|space| space.tree.sealed_memtable_count() == 0);
        if self.running.is_some() || total < self.looked_at + INTERVAL || !is_sorted() {
            return false;
        }
        self.looked_at = total;
        self.due(spaces).next().is_some()
    }

    fn due<'a>(&'a self, spaces: &'a [Keyspace]) -> impl Iterator<Item = (usize, &'a Keyspace)> {
        let is_due = |&(index, space): &(usize, &Keyspace)| {
            let size = space.tree.disk_space();
            // Tombstones are entries too, and what is in memory only takes nothing yet.
            let tombstones = space.tree.tombstone_count() + space.tree.active_memtable().len() as u64;
            let entries = (space.tree.approximate_len() as u64).saturating_sub(tombstones);
            let garbage = self.removed[index].saturating_mul(size / entries.max(1)).min(size);
            size <= MOST && garbage >= LEAST_GARBAGE.max(size / 2)
        };
        spaces.iter().enumerate().filter(is_due)
    }

    /// Merges the tables of the spaces where it is due. Batches below `number` are seen by all readers.
    pub(super) fn start(&mut self, spaces: &[Keyspace; Space::ALL.len()], number: u64) {
        // What was on its way has arrived, so another look may find more.
        self.looked_at = 0;
        if self.running.is_some() {
            return;
        }
        let due: Vec<(usize, Keyspace)> =
            self.due(spaces).map(|(index, space)| (index, space.clone())).collect();
        for (index, _) in &due {
            self.removed[*index] -= self.sealed[*index];
            self.sealed[*index] = 0;
        }
        if due.is_empty() {
            return;
        }
        let merge = move || {
            for (_, space) in due {
                if let Err(error) = space.tree.major_compact(8 * MIB, number) {
                    tracing::error!(space = &**space.name(), %error, "merging tables has failed");
                }
            }
        };
        self.running = thread::Builder::new().name("store-reclaim".to_owned()).spawn(merge).ok();
    }

    /// Waits for what is running.
    pub(super) fn finish(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
