//! What only an engine with files can show.

mod damage;
mod fixture;
mod folder;
mod salvage;
mod space;
mod view;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{Engine, EngineError, FjallEngine, Options};
use super::Backend;

/// A folder for stores.
pub(in super::super) struct Disk(TempDir);

impl Disk {
    pub(in super::super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder in memory where the system has one: for stores that are opened many times.
    fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        Self(if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data").join("store")
    }
}

impl Backend for Disk {
    fn open(&mut self) -> Box<dyn Engine> {
        Box::new(open(&self.path()).unwrap())
    }

    fn keeps(&self) -> bool {
        true
    }
}

fn open(path: &Path) -> Result<FjallEngine, EngineError> {
    FjallEngine::open(path, Options { memory: 0 })
}

/// The files of a store, small ones: where a journal is empty, nothing of it is copied.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            let mut bytes = fs::read(entry.path()).unwrap();
            if entry.path().extension().is_some_and(|extension| extension == "jnl") {
                bytes.truncate(used(&bytes) + 100);
            }
            fs::write(target, bytes).unwrap();
        }
    }
}

/// How much of a journal is written.
fn used(journal: &[u8]) -> usize {
    journal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}
