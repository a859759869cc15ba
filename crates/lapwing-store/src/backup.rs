//! Writing all that a store has to an archive, while it is in use or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::archive::{self, ArchiveError, ArchiveWriter, Summary};
use crate::engine::{EngineError, Snapshot};
use crate::record::WallTime;

/// Where a backup goes.
pub enum BackupTarget {
    /// To a file, for its owner alone. It appears under its name when it is complete and on the disk.
    File {
        /// Its name.
        path: PathBuf,
        /// Whether it takes the place of one that is there.
        replace: bool,
    },
    /// To whatever takes bytes. One that ends early is no archive, and whoever restores it is told. A store that stops waits for
    /// what is being written, so a writer must not block for ever.
    Writer(Box<dyn Write + Send>),
}

/// Is told how a backup has gone.
pub(crate) type Done = Box<dyn FnOnce(Result<Summary, ArchiveError>) + Send>;

/// A backup that is being written.
pub(crate) struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    is_written: Arc<AtomicBool>,
}

impl Running {
    /// Begins one in a thread of its own.
    pub(crate) fn start(
        snapshot: Result<Box<dyn Snapshot>, EngineError>,
        target: BackupTarget,
        done: Done,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let is_written = Arc::new(AtomicBool::new(false));
        let writing = Arc::clone(&is_written);
        let run = move || {
            let result = snapshot.map_err(ArchiveError::from);
            let result = result.and_then(|snapshot| write(snapshot, target, &stopping));
            // Before anybody is told: who is may want another one at once.
            writing.store(true, Ordering::Release);
            done(result);
        };
        let thread = thread::Builder::new().name("store-backup".to_owned()).spawn(run)?;
        Ok(Self { thread, stop, is_written })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.is_written.load(Ordering::Acquire) || self.thread.is_finished()
    }

    /// Has it end, complete or not.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // It has told whoever waits, or panicked: there is nobody else to tell.
        let _ = self.thread.join();
    }
}

/// Writes what is in a snapshot to an archive, as long as nobody wants it to stop.
///
/// # Errors
/// An [`ArchiveError`]. There is no file under the name then, or the one that was there before.
pub fn write(
    snapshot: Box<dyn Snapshot>,
    target: BackupTarget,
    stop: &AtomicBool,
) -> Result<Summary, ArchiveError> {
    put(target, |out| fill(out, snapshot, stop))
}

/// Takes an archive that another process is writing, and looks whether it is whole.
///
/// # Errors
/// An [`ArchiveError`]. There is no file under the name then, or the one that was there before.
pub fn receive(input: impl Read, target: BackupTarget) -> Result<Summary, ArchiveError> {
    put(target, |out| {
        let mut copy = Copy { input, out };
        let summary = archive::read(&mut copy, |_, _, _| Ok::<_, ArchiveError>(()))?;
        copy.out.flush().map_err(writing)?;
        Ok(summary)
    })
}

/// Passes on what is read, and keeps it.
struct Copy<'a, R> {
    input: R,
    out: &'a mut dyn Write,
}

impl<R: Read> Read for Copy<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.out.write_all(&buffer[..count])?;
        Ok(count)
    }
}

/// Has an archive written to where it goes.
fn put(
    target: BackupTarget,
    fill: impl FnOnce(&mut dyn Write) -> Result<Summary, ArchiveError>,
) -> Result<Summary, ArchiveError> {
    match target {
        BackupTarget::Writer(mut out) => fill(&mut *out),
        BackupTarget::File { path, replace } => put_file(&path, replace, fill),
    }
}

fn put_file(
    path: &Path,
    replace: bool,
    fill: impl FnOnce(&mut dyn Write) -> Result<Summary, ArchiveError>,
) -> Result<Summary, ArchiveError> {
    let failed =
        |doing: &str, source| ArchiveError::Io { what: format!("{doing} {}", path.display()), source };
    let taken =
        || failed("writing", io::Error::new(io::ErrorKind::AlreadyExists, "there is such a file already"));
    if !replace && path.exists() {
        return Err(taken());
    }
    let part = Part::create(path).map_err(|error| failed("creating a file beside", error))?;
    let summary = fill(&mut BufWriter::with_capacity(1024 * 1024, &part.file))?;
    part.file.sync_all().map_err(|error| failed("syncing", error))?;
    // A link never takes the place of a file that has come meanwhile. Not every file system has links.
    let linked =
        if replace { Err(io::ErrorKind::Unsupported.into()) } else { fs::hard_link(&part.path, path) };
    match linked {
        Ok(()) => {}
        Err(_) if !replace && path.exists() => return Err(taken()),
        Err(_) => fs::rename(&part.path, path).map_err(|error| failed("renaming a file to", error))?,
    }
    drop(part);
    sync_folder(path).map_err(|error| failed("syncing the folder of", error))?;
    Ok(summary)
}

fn writing(source: io::Error) -> ArchiveError {
    ArchiveError::Io { what: "writing the archive".to_owned(), source }
}

fn fill(
    out: &mut dyn Write,
    snapshot: Box<dyn Snapshot>,
    stop: &AtomicBool,
) -> Result<Summary, ArchiveError> {
    let mut writer = ArchiveWriter::new(out, now()).map_err(writing)?;
    let mut result = Ok(());
    snapshot.scan(&mut |space, key, value| {
        result = match stop.load(Ordering::Relaxed) {
            true => Err(ArchiveError::Stopped),
            false => writer.add(space, key, value).map_err(writing),
        };
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    writer.finish().map(|(_, summary)| summary).map_err(writing)
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(since.as_millis() as u64)
}

/// A file that is being written beside its place. It is removed when it is dropped.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(target: &Path) -> io::Result<Self> {
        let mut name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        // A process of this number may have left one.
        let _ = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Where it was renamed there is nothing any more.
        let _ = fs::remove_file(&self.path);
    }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.or(Some(Path::new("."))).filter(|_| cfg!(unix)) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
