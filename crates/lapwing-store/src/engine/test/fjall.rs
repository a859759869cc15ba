//! What only an engine with files can show.

use std::path::PathBuf;

use tempfile::TempDir;

use super::super::{Engine, FjallEngine, Options};
use super::Backend;

/// A folder for stores.
pub(in super::super) struct Disk(TempDir);

impl Disk {
    pub(in super::super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data").join("store")
    }
}

impl Backend for Disk {
    fn open(&mut self) -> Box<dyn Engine> {
        Box::new(FjallEngine::open(&self.path(), Options { memory: 0 }).unwrap())
    }

    fn keeps(&self) -> bool {
        true
    }
}
