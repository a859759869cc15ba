//! Reads fjall's journals before fjall does.
//!
//! fjall takes the first bytes that make no sense for the end of a journal and cuts off all that follows, be it
//! the middle of the file; and it refuses to open where only the tail is torn, but in such a way that a checksum is
//! wrong. So the journals are read here first. The [`Mark`] in each batch says which batches were on the disk when it was
//! written. Bytes that make no sense are corruption if a later batch says that what stood there had been on the
//! disk, and a torn tail if none does: then they are cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::EngineError;
use super::entry::{Batch, Journal, Unreadable};
use super::folder::io_error;
use super::mark::Mark;
use super::view::TornTail;

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The mark of the first batch.
    pub(super) first: Option<Mark>,
    /// The mark of the last whole batch.
    pub(super) last: Option<Mark>,
    /// fjall's number of the last whole batch.
    number: u64,
    /// Where some of the batches begin, by journal.
    starts: Vec<Vec<(u64, u64)>>,
    /// Where the last batch of each journal ends.
    pub(super) ends: Vec<u64>,
}

/// Reads the journals of a store, and cuts off a torn tail.
pub(super) fn check(folder: &Path, identity: [u8; 8]) -> Result<Content, EngineError> {
    let journals = journals(folder)?;
    let (mut content, torn) = examine(&journals, identity)?;
    if let Some(TornTail { file, offset, bytes }) = torn {
        cut(&file, offset).map_err(|error| io_error("cutting the torn tail of", &file, error))?;
        tracing::warn!(file = %file.display(), offset, bytes, "cut off the torn tail of a journal");
    }
    content.trim(&journals)?;
    Ok(content)
}

/// Reads the journals of a store, and changes nothing.
pub(super) fn examine(
    journals: &[PathBuf],
    identity: [u8; 8],
) -> Result<(Content, Option<TornTail>), EngineError> {
    let mut content = Content::default();
    let mut torn = None;
    for (index, path) in journals.iter().enumerate() {
        content.starts.push(Vec::new());
        let file = File::open(path).map_err(|error| io_error("opening", path, error))?;
        let mut journal = Journal::new(file, identity).map_err(|error| io_error("reading", path, error))?;
        let end = content.read(&mut journal).map_err(|error| io_error("reading", path, error))?;
        let rest = journal.rest(end).map_err(|error| io_error("reading", path, error))?;
        content.ends.push(end);
        if rest == 0 {
            continue;
        }
        let is_last = index + 1 == journals.len();
        let later = journal.later_marks(end).map_err(|error| io_error("reading", path, error))?;
        let next = content.next(&later);
        if !is_last || later.iter().any(|mark| mark.synced >= next) {
            let what = "the journal makes no sense from here on, and this was on the disk once".to_owned();
            return Err(EngineError::Corrupt { file: path.clone(), offset: end, what });
        }
        torn = Some(TornTail { file: path.clone(), offset: end, bytes: rest });
    }
    Ok((content, torn))
}

impl Content {
    /// Takes what is in tables out of the journals: fjall would look at each entry of it, which takes long.
    fn trim(&mut self, journals: &[PathBuf]) -> Result<(), EngineError> {
        let in_tables = self.last.map_or(0, |mark| mark.in_tables);
        for (index, path) in journals.iter().enumerate() {
            // The last batch that begins with what may go, and begins a part that is remembered.
            let kept = self.starts[index].iter().rfind(|(sequence, _)| *sequence <= in_tables + 1);
            let Some(&(sequence, start)) = kept else { continue };
            if start < TRIM_LEAST {
                continue;
            }
            shorten(path, start..self.ends[index]).map_err(|error| io_error("shortening", path, error))?;
            tracing::debug!(file = %path.display(), bytes = start, sequence, "shortened a journal");
        }
        Ok(())
    }

    /// Reads batches as long as they are whole and in sequence. Returns where the last of them ends.
    fn read(&mut self, journal: &mut Journal) -> io::Result<u64> {
        let mut end = 0;
        loop {
            match journal.batch(end) {
                Ok(batch) if self.follows(&batch) => {
                    let parts = self.starts.last_mut();
                    if let Some(parts) = parts.filter(|_| batch.mark.sequence % START_INTERVAL == 0) {
                        parts.push((batch.mark.sequence, end));
                    }
                    self.first.get_or_insert(batch.mark);
                    self.last = Some(batch.mark);
                    self.number = batch.number;
                    end = batch.end;
                }
                Ok(_) | Err(Unreadable::Nonsense) => return Ok(end),
                Err(Unreadable::Io(error)) => return Err(error),
            }
        }
    }

    /// The sequence of the batch that is missing, where `later` ones are there. Without one before, it is the last that can
    /// be missing.
    fn next(&self, later: &[Mark]) -> u64 {
        let before = self.last.map(|mark| mark.sequence + 1);
        before.or(later.iter().map(|mark| mark.sequence.saturating_sub(1)).min()).unwrap_or(1)
    }

    /// Whether a batch can be the next one. fjall's checksum does not cover its number, so that needs a look too: one
    /// that is out of order would hide the batch.
    fn follows(&self, batch: &Batch) -> bool {
        let mark = batch.mark;
        let in_sequence = self.last.is_none_or(|last| {
            mark.sequence == last.sequence + 1
                && mark.previous_floor == last.floor
                && mark.floor > self.number
        });
        in_sequence && batch.number >= mark.floor && batch.number - mark.floor < NUMBER_GAP
    }
}

/// One of so many batches is remembered.
const START_INTERVAL: u64 = 64;
/// Less than this is not worth writing the rest again.
const TRIM_LEAST: u64 = 4 * 1024 * 1024;

/// fjall's numbers leave gaps where tables are written or merged, but none like this.
const NUMBER_GAP: u64 = 1 << 32;

/// The journals of a store, in their order.
pub(super) fn journals(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io_error("reading", folder, error))? {
        let path = entry.map_err(|error| io_error("reading", folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let Some(number) = number else {
                return Err(EngineError::Foreign { path, what: "no journal has this name".to_owned() });
            };
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let first: u64 = numbers.first().copied().unwrap_or_default();
    let expected = first..first + numbers.len().max(1) as u64;
    let missing = expected.clone().find(|number| !numbers.contains(number));
    if let Some(missing) = missing {
        let file = folder.join(format!("{missing}.jnl"));
        return Err(EngineError::Corrupt { file, offset: 0, what: "the file is missing".to_owned() });
    }
    Ok(expected.map(|number| folder.join(format!("{number}.jnl"))).collect())
}

/// Leaves only a part of a journal. A loss of power leaves the whole or the part.
fn shorten(path: &Path, part: Range<u64>) -> io::Result<()> {
    let new = path.with_extension("part");
    let mut from = File::open(path)?;
    from.seek(SeekFrom::Start(part.start))?;
    let mut to = File::create(&new)?;
    io::copy(&mut from.take(part.end - part.start), &mut to)?;
    to.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent().filter(|_| cfg!(unix)) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn cut(path: &Path, end: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    file.sync_all()
}
