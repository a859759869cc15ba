//! What can still be read of a damaged store.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace};

use super::super::{EngineError, Space, VisitAll};
use super::entry::{Batch, Journal, Unreadable};
use super::folder::{Folder, io_error};
use super::view::{FolderCopy, beside, copy_folder, remove_copy};
use super::{LEAST_MEMORY, OWN_KEY, Options, tree};

/// Something of a store that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Bytes of a journal make no sense. What they had is lost, if it was not in tables.
    Journal {
        /// The journal.
        file: PathBuf,
        /// Where they begin.
        offset: u64,
        /// How many there are.
        bytes: u64,
    },
    /// The tables of a space cannot be read at all. What the journals have of it is there.
    Tables {
        /// Which space.
        space: Space,
        /// What is wrong with them.
        what: String,
    },
    /// Entries of a space cannot be read: those between two keys.
    Entries {
        /// Which space.
        space: Space,
        /// The last key before them.
        after: Option<Vec<u8>>,
        /// The first key behind them.
        before: Option<Vec<u8>>,
        /// What is wrong with them.
        what: String,
    },
}

/// A damaged store of which everything is read that can be. It is not changed, and nobody else can open it.
pub struct Salvage {
    // In this order: what is dropped first needs what follows.
    spaces: [Keyspace; Space::ALL.len()],
    _database: Database,
    losses: Vec<Loss>,
    _copy: FolderCopy,
    _folder: Folder,
}

impl Salvage {
    /// Opens what there is of a store. Its file `LAPWING` must be whole.
    ///
    /// # Errors
    /// An [`EngineError`] where not even that is possible.
    pub fn open(path: &Path, options: Options) -> Result<Self, EngineError> {
        let memory = options.memory.max(LEAST_MEMORY);
        let folder = Folder::lock(path)?;
        let fresh = Fresh::make(path, memory)?;
        let mut losses = Vec::new();
        let bad = bad_keyspaces(path, &fresh, memory)?;
        for (id, what) in &bad {
            // The others are fjall's own and the marks: nothing of a client is in them.
            if let Some(&space) = id.checked_sub(2).and_then(|index| Space::ALL.get(index as usize)) {
                losses.push(Loss::Tables { space, what: what.clone() });
            }
        }
        let copy = FolderCopy::make(path, "view")?;
        let bad: Vec<u64> = bad.into_iter().map(|(id, _)| id).collect();
        fresh.fill_in(&copy.path, &bad)?;
        join_journals(path, &copy.path, folder.identity, &mut losses)?;
        let (database, _, spaces) = open(&copy.path, memory).map_err(|error| copy.original(error))?;
        Ok(Self { spaces, _database: database, losses, _copy: copy, _folder: folder })
    }

    /// Shows all entries that can be read, each once, in no order.
    pub fn scan(&mut self, visit: &mut VisitAll<'_>) {
        for (space, keyspace) in Space::ALL.into_iter().zip(&self.spaces) {
            self.losses.extend(scan(space, keyspace, visit));
        }
    }

    /// What could not be read until now.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }
}

/// Shows the entries of a space from both ends, as far as they can be read.
fn scan(space: Space, keyspace: &Keyspace, visit: &mut VisitAll<'_>) -> Option<Loss> {
    let mut show = |key: &[u8], value: &[u8]| *key == *OWN_KEY || visit(space, key, value).is_continue();
    let (mut after, mut before, mut what) = (None, None, None);
    for entry in keyspace.iter() {
        match entry.into_inner() {
            Ok((key, value)) if show(&key, &value) => after = Some(key.to_vec()),
            Ok(_) => return None,
            Err(error) => {
                what = Some(error.to_string());
                break;
            }
        }
    }
    let what = what?;
    for entry in keyspace.iter().rev() {
        match entry.into_inner() {
            Ok((key, value)) if after.as_deref().is_none_or(|after| *key > *after) => {
                show(&key, &value);
                before = Some(key.to_vec());
            }
            _ => break,
        }
    }
    before = before.filter(|key| *key != OWN_KEY);
    Some(Loss::Entries { space, after, before, what })
}

/// An empty store, of which parts stand in for those that are lost.
struct Fresh(PathBuf);

impl Fresh {
    fn make(path: &Path, memory: u64) -> Result<Self, EngineError> {
        let fresh = Self(beside(path, "fresh"));
        remove_copy(&fresh.0)?;
        Folder::create(&fresh.0, |new| tree::create(new, memory))?;
        Ok(fresh)
    }

    /// Puts the tables of these keyspaces in place of what there is, and small files.
    fn fill_in(&self, folder: &Path, keyspaces: &[u64]) -> Result<(), EngineError> {
        for file in ["version", "lock"] {
            let to = folder.join(file);
            fs::copy(self.0.join(file), &to).map_err(|error| io_error("writing", &to, error))?;
        }
        for id in keyspaces {
            replace(&keyspace(&self.0, *id), &keyspace(folder, *id))?;
        }
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn keyspace(folder: &Path, id: u64) -> PathBuf {
    folder.join("keyspaces").join(id.to_string())
}

fn replace(from: &Path, to: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("removing", to, error)),
        _ => {}
    }
    fs::create_dir_all(to).map_err(|error| io_error("creating", to, error))?;
    copy_folder(from, to, false)
}

/// The keyspaces that cannot be opened, each tried in an empty store: fjall does not say which one is at fault.
fn bad_keyspaces(path: &Path, fresh: &Fresh, memory: u64) -> Result<Vec<(u64, String)>, EngineError> {
    let mut bad = Vec::new();
    for id in 0..=tree::KEYSPACES {
        let own = keyspace(path, id);
        if !own.join("current").is_file() {
            bad.push((id, format!("{} is not there", own.join("current").display())));
            continue;
        }
        let probe = FolderCopy::make(&fresh.0, "probe")?;
        replace(&own, &keyspace(&probe.path, id))?;
        File::create(probe.path.join("0.jnl")).map_err(|error| io_error("creating", &probe.path, error))?;
        if let Err(error) = open(&probe.path, memory) {
            bad.push((id, probe.original(error).to_string()));
        }
    }
    Ok(bad)
}

type Opened = (Database, Keyspace, [Keyspace; Space::ALL.len()]);

/// fjall panics at some damage.
fn open(path: &Path, memory: u64) -> Result<Opened, EngineError> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let opened = panic::catch_unwind(AssertUnwindSafe(|| tree::open(path, memory)));
    panic::set_hook(hook);
    opened.unwrap_or_else(|_| {
        let what = "the engine cannot make sense of it".to_owned();
        Err(EngineError::Corrupt { file: path.to_owned(), offset: 0, what })
    })
}

/// Writes all whole batches of the journals to one.
fn join_journals(
    from: &Path,
    to: &Path,
    identity: [u8; 8],
    losses: &mut Vec<Loss>,
) -> Result<(), EngineError> {
    let target = to.join("0.jnl");
    let out = File::create(&target).map_err(|error| io_error("creating", &target, error))?;
    let mut out = BufWriter::new(out);
    let mut last = None;
    for path in journals(from)? {
        let copied = join_journal(&path, identity, &mut last, &mut out, losses);
        copied.map_err(|error| io_error("copying", &path, error))?;
    }
    out.flush().map_err(|error| io_error("writing", &target, error))
}

fn join_journal(
    path: &Path,
    identity: [u8; 8],
    last: &mut Option<Batch>,
    out: &mut impl Write,
    losses: &mut Vec<Loss>,
) -> io::Result<()> {
    let mut source = File::open(path)?;
    let mut journal = Journal::new(File::open(path)?, identity)?;
    let mut at = 0;
    loop {
        // Those that follow one another are copied together.
        let start = at;
        while let Some(batch) = next(&mut journal, at, last.as_ref())? {
            at = batch.end;
            *last = Some(batch);
        }
        source.seek(SeekFrom::Start(start))?;
        io::copy(&mut Read::by_ref(&mut source).take(at - start), out)?;
        let mut begin = None;
        for start in journal.later_starts(at)? {
            if next(&mut journal, start, last.as_ref())?.is_some() {
                begin = Some(start);
                break;
            }
        }
        let bytes = match begin {
            Some(begin) => begin - at,
            None => journal.rest(at)?,
        };
        if bytes > 0 {
            losses.push(Loss::Journal { file: path.to_owned(), offset: at, bytes });
        }
        match begin {
            Some(begin) => at = begin,
            None => return Ok(()),
        }
    }
}

/// The batch at an offset, if there is one that is whole and later than the last.
fn next(journal: &mut Journal, at: u64, last: Option<&Batch>) -> io::Result<Option<Batch>> {
    match journal.batch(at) {
        Ok(batch) => {
            let is_later = last
                .is_none_or(|last| batch.mark.sequence > last.mark.sequence && batch.number > last.number);
            let is_numbered = batch.number >= batch.mark.floor && batch.number - batch.mark.floor < 1 << 32;
            Ok(Some(batch).filter(|_| is_later && is_numbered))
        }
        Err(Unreadable::Nonsense) => Ok(None),
        Err(Unreadable::Io(error)) => Err(error),
    }
}

/// The journals there are, in their order, whatever is missing between them.
fn journals(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io_error("reading", folder, error))? {
        let path = entry.map_err(|error| io_error("reading", folder, error))?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
