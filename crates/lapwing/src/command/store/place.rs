//! A store that is made beside its place, and put there when it is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lapwing_store::engine::{Durability, Engine, EngineError, FjallEngine, Lock, Options, Space, WriteBatch};

/// A store that is being made. It is removed when it is dropped.
pub(super) struct Building {
    engine: Option<FjallEngine>,
    path: PathBuf,
    batch: WriteBatch,
}

/// Bytes that are written in one batch.
const BATCH_BYTES: usize = 1024 * 1024;

impl Building {
    /// Begins an empty store beside the place of one. What an earlier process has left of such a store is removed.
    pub(super) fn begin(place: &Path, suffix: &str) -> anyhow::Result<Self> {
        let path = beside(place, suffix);
        if path.exists() && !path.join("LAPWING").is_file() {
            bail!("{} stands where the new store is to be made; move it away", path.display());
        }
        let left = path.exists().then(|| Lock::new(&path));
        if let Some(Err(EngineError::Locked { .. })) = left {
            bail!("another command is just making a store, {}", path.display());
        }
        remove(&path)?;
        drop(left);
        let engine = FjallEngine::open(&path, Options::default())?;
        Ok(Self { engine: Some(engine), path, batch: WriteBatch::default() })
    }

    /// Adds an entry, once for each key.
    pub(super) fn add(&mut self, space: Space, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.batch.insert(space, key, |out| out.extend_from_slice(value));
        if self.batch.size() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// The store, with all that was added.
    pub(super) fn engine(&mut self) -> anyhow::Result<&mut FjallEngine> {
        self.flush()?;
        self.engine.as_mut().context("the new store is closed")
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let engine = self.engine.as_mut().context("the new store is closed")?;
        engine.write(&self.batch)?;
        self.batch.clear();
        Ok(())
    }

    /// Puts the store in its place. What is there gets another name, which is returned.
    pub(super) fn put(mut self, place: &Path) -> anyhow::Result<Option<PathBuf>> {
        self.engine()?.sync(Durability::Fsync)?;
        // It closes what it has.
        self.engine = None;
        let parent = place.parent().context("the store has no place")?;
        let cannot = || format!("the new store cannot be put in its place, {}", place.display());
        if is_vacant(place) {
            fs::rename(&self.path, place).with_context(cannot)?;
            sync(parent)?;
            return Ok(None);
        }
        let aside = free_name(place);
        // The new store takes this name first: if the process ends in between, nothing is missing.
        fs::rename(&self.path, &aside).with_context(cannot)?;
        self.path.clone_from(&aside);
        exchange(&aside, place).with_context(cannot)?;
        self.path = PathBuf::new();
        sync(parent)?;
        Ok(Some(aside))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        self.engine = None;
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether there is no store, and nothing else, in a folder.
pub(super) fn is_vacant(folder: &Path) -> bool {
    !folder.exists() || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Exchanges the names of two folders, so that each of them has one at any time.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            // Some file systems cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    let between = free_name(old);
    fs::rename(old, &between)?;
    fs::rename(new, old)?;
    fs::rename(&between, new)
}

fn beside(place: &Path, suffix: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    place.with_file_name(name)
}

/// A name for an old store that nothing has: `store.old`, `store.old-2`, ...
fn free_name(place: &Path) -> PathBuf {
    let first = beside(place, "old");
    if !first.exists() {
        return first;
    }
    let numbered = (2..u32::MAX).map(|number| beside(place, &format!("old-{number}")));
    numbered.into_iter().find(|path| !path.exists()).unwrap_or(first)
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("{} cannot be synced", folder.display()))
}
