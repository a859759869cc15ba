//! The folder of a store: whose it is, and that it is all there.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::super::EngineError;

/// The file that says what the folder is.
pub(super) const NAME_FILE: &str = "LAPWING";
/// The newest format that is known.
const FORMAT: u32 = 1;

/// The folder of a store, which nobody else has open.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// Which store this is. Clients do not know it, so that no message of theirs looks like a batch of the engine.
    pub(super) identity: [u8; 8],
    /// Locked for as long as it is open.
    _lock: File,
}

impl Folder {
    /// Opens the folder of a store and has a look at what is there, without changing anything.
    pub(super) fn open(path: &Path, keyspaces: u64) -> Result<Self, EngineError> {
        let folder = Self::lock(path)?;
        look_for_parts(path, keyspaces)?;
        Ok(folder)
    }

    /// Opens the folder of a store, of which parts may be missing.
    pub(super) fn lock(path: &Path) -> Result<Self, EngineError> {
        let foreign = |what: &str| EngineError::Foreign { path: path.to_owned(), what: what.to_owned() };
        let name = path.join(NAME_FILE);
        let text = match fs::read_to_string(&name) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(foreign("it has no file LAPWING"));
            }
            Err(error) => return Err(io_error("reading", &name, error)),
        };
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == key)
        };
        let format = value("format").and_then(|(_, format)| format.parse().ok());
        let format: u32 = format.ok_or_else(|| foreign("its file LAPWING names no format"))?;
        if format > FORMAT {
            return Err(EngineError::Future { path: path.to_owned(), found: format, known: FORMAT });
        }
        let identity = value("identity").filter(|(_, identity)| identity.len() == 16);
        let identity = identity.and_then(|(_, identity)| u64::from_str_radix(identity, 16).ok());
        let identity = identity.ok_or_else(|| foreign("its file LAPWING names no identity"))?.to_be_bytes();
        // Opened for writing, so that a folder that can only be read is refused here.
        let lock = OpenOptions::new().read(true).write(true).open(&name);
        let lock = lock.map_err(|error| io_error("opening for writing", &name, error))?;
        lock_file(&lock, path)?;
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Makes a folder that `fill` fills. It appears under its name when it is complete and on the disk.
    pub(super) fn create(
        path: &Path,
        fill: impl FnOnce(&Path) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| io_error("creating", parent, error))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = parent.join(name);
        remove_left_over(&new)?;
        make_folder(&new).map_err(|error| io_error("creating", &new, error))?;
        let lock = write_name(&new)?;
        lock_file(&lock, path)?;
        fill(&new)?;
        sync_all(&new)?;
        fs::rename(&new, path).map_err(|error| io_error("renaming to", path, error))?;
        sync_folder(parent)
    }
}

/// Keeps everybody else from opening a store, whatever state it is in.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "locked as long as it is there")] Folder);

impl Lock {
    /// Locks the store in a folder.
    ///
    /// # Errors
    /// An [`EngineError`] where another process has it, or it is none.
    pub fn new(path: &Path) -> Result<Self, EngineError> {
        Folder::lock(path).map(Self)
    }
}

/// Whether there is nothing yet where a store is to be.
pub(super) fn is_vacant(path: &Path) -> Result<bool, EngineError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("reading", path, error)),
    }
}

/// An error of the system, with what was being done.
pub(super) fn io_error(doing: &str, path: &Path, source: io::Error) -> EngineError {
    EngineError::Io { what: format!("{doing} {}", path.display()), source }
}

/// fjall would make anew, and empty, what has been lost.
fn look_for_parts(path: &Path, keyspaces: u64) -> Result<(), EngineError> {
    let folders = (0..=keyspaces).map(|id| path.join("keyspaces").join(id.to_string()).join("current"));
    for file in folders.chain([path.join("version"), path.join("lock")]) {
        if !file.is_file() {
            return Err(EngineError::Corrupt { file, offset: 0, what: "the file is missing".to_owned() });
        }
    }
    Ok(())
}

fn lock_file(file: &File, path: &Path) -> Result<(), EngineError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => EngineError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => io_error("locking", path, error),
    })
}

/// Takes away what a process left that ended while it created a store.
fn remove_left_over(new: &Path) -> Result<(), EngineError> {
    match File::open(new.join(NAME_FILE)) {
        Ok(file) => lock_file(&file, new)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("reading", new, error)),
    }
    match fs::remove_dir_all(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", new, error)),
        _ => Ok(()),
    }
}

pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_name(folder: &Path) -> Result<File, EngineError> {
    let path = folder.join(NAME_FILE);
    let identity =
        getrandom::u64().map_err(|error| io_error("naming", &path, io::Error::other(error.to_string())))?;
    let text = format!("format = {FORMAT}\nidentity = {identity:016x}\n");
    let write = || {
        let mut file = File::create_new(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(file)
    };
    write().map_err(|error| io_error("writing", &path, error))
}

/// Brings a folder with all that is in it onto the disk: fjall does not do so with the names of new keyspaces.
fn sync_all(folder: &Path) -> Result<(), EngineError> {
    for entry in fs::read_dir(folder).map_err(|error| io_error("reading", folder, error))? {
        let path = entry.map_err(|error| io_error("reading", folder, error))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| io_error("syncing", &path, error))?;
        }
    }
    sync_folder(folder)
}

pub(super) fn sync_folder(path: &Path) -> Result<(), EngineError> {
    // Windows cannot open a folder, and writes names by itself.
    if cfg!(windows) {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| io_error("syncing", path, error))
}
