//! A look at a store that leaves it as it is.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::EngineError;
use super::folder::{Folder, NAME_FILE, io_error, make_folder};
use super::{FjallEngine, Options, journal, tree};

/// What a crash has left half written at the end of a journal. Opening the store cuts it off: no `sync` has confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The journal.
    pub file: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// A store that is looked at and not changed, and that nobody else can open meanwhile.
///
/// fjall writes wherever it opens. So it opens a copy that stands beside the store and is removed in the end. Tables are never
/// written twice, and the copy has links to them; what is copied are the journals, as far as they are in use, and small files.
#[derive(Debug)]
pub struct View {
    // In this order: what is dropped first needs what follows.
    engine: FjallEngine,
    copy: FolderCopy,
    torn: Option<TornTail>,
    _folder: Folder,
}

impl View {
    /// Looks at the store in a folder.
    ///
    /// # Errors
    /// An [`EngineError`] that says why it cannot be opened, as [`FjallEngine::open`] gives it.
    pub fn open(path: &Path, options: Options) -> Result<Self, EngineError> {
        let folder = Folder::open(path, tree::KEYSPACES)?;
        let journals = journal::journals(path)?;
        let (content, torn) = journal::examine(&journals, folder.identity)?;
        let copy = FolderCopy::make(path, "view")?;
        for (journal, end) in journals.iter().zip(content.ends) {
            let to = copy.path.join(journal.file_name().unwrap_or_default());
            copy_start(journal, &to, end).map_err(|error| io_error("copying", journal, error))?;
        }
        let engine = FjallEngine::open(&copy.path, options).map_err(|error| copy.original(error))?;
        Ok(Self { engine, copy, torn, _folder: folder })
    }

    /// What it has.
    pub fn engine(&self) -> &FjallEngine {
        &self.engine
    }

    /// What opening the store itself would cut off.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// An error with the names of the store's own files, in place of those of the copy.
    pub fn original(&self, error: EngineError) -> EngineError {
        self.copy.original(error)
    }
}

/// A copy of a store's folder beside it, but for the journals. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct FolderCopy {
    pub(super) path: PathBuf,
    of: PathBuf,
}

impl FolderCopy {
    /// Copies a folder which is locked. What a process has left that ended meanwhile is removed.
    pub(super) fn make(of: &Path, suffix: &str) -> Result<Self, EngineError> {
        let path = beside(of, suffix);
        remove_copy(&path)?;
        make_folder(&path).map_err(|error| io_error("creating", &path, error))?;
        let copy = Self { path, of: of.to_owned() };
        // First, so that what is left of a copy is known as one. A link to it would share the lock.
        let name = of.join(NAME_FILE);
        fs::copy(&name, copy.path.join(NAME_FILE)).map_err(|error| io_error("copying", &name, error))?;
        copy_folder(of, &copy.path, false)?;
        Ok(copy)
    }

    /// An error with the names of the original's files.
    pub(super) fn original(&self, mut error: EngineError) -> EngineError {
        let original = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(&self.path) {
                *path = if rest.as_os_str().is_empty() { self.of.clone() } else { self.of.join(rest) };
            }
        };
        match &mut error {
            EngineError::Io { what, .. } => {
                *what = what.replace(&*self.path.to_string_lossy(), &self.of.to_string_lossy());
            }
            EngineError::Corrupt { file, .. } => original(file),
            EngineError::Locked { path }
            | EngineError::Foreign { path, .. }
            | EngineError::Future { path, .. } => original(path),
            EngineError::Failed => {}
        }
        error
    }
}

impl Drop for FolderCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "a copy of the store cannot be removed");
        }
    }
}

/// The name of a folder with something behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Removes a copy that is left over, and nothing that is none.
pub(super) fn remove_copy(path: &Path) -> Result<(), EngineError> {
    if !super::folder::is_vacant(path)? && !path.join(NAME_FILE).is_file() {
        let what = "it stands where a copy of the store is to be made; move it away".to_owned();
        return Err(EngineError::Foreign { path: path.to_owned(), what });
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", path, error)),
        _ => Ok(()),
    }
}

/// Copies what is in a folder and is not there yet, but for the journals, and links tables.
pub(super) fn copy_folder(from: &Path, to: &Path, has_tables: bool) -> Result<(), EngineError> {
    for entry in fs::read_dir(from).map_err(|error| io_error("reading", from, error))? {
        let path = entry.map_err(|error| io_error("reading", from, error))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl" || extension == "part");
        if path.is_dir() {
            make_folder(&target).map_err(|error| io_error("creating", &target, error))?;
            copy_folder(&path, &target, path.ends_with("tables"))?;
        } else if !is_journal && !target.exists() {
            let linked = has_tables && fs::hard_link(&path, &target).is_ok();
            let copied = if linked { Ok(()) } else { fs::copy(&path, &target).map(drop) };
            copied.map_err(|error| io_error("copying", &path, error))?;
        }
    }
    Ok(())
}

/// Copies the first bytes of a file.
fn copy_start(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    io::copy(&mut File::open(from)?.take(size), &mut File::create(to)?).map(drop)
}
