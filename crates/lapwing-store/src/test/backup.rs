//! Backups of a store that is in use.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::*;
use crate::archive::{self, ArchiveError, Summary};
use crate::engine::{Engine, EngineError, MemoryEngine};
use crate::{BackupTarget, DelayedRecord, RetainedRecord, WallTime, write_backup};

/// The transaction with a number: it adds an entry, changes one and removes one.
fn numbered(number: u64) -> Transaction {
    let delayed =
        DelayedRecord { message: vec![7; 300], retain: false, due: WallTime(number), publisher: None };
    let retained = RetainedRecord { message: number.to_be_bytes().to_vec(), publisher: None };
    let changes = [
        Change::Delayed(number, Box::new(delayed)),
        Change::Retained("last".into(), Box::new(retained)),
        Change::Retained(
            format!("at/{number}").into(),
            Box::new(RetainedRecord { message: Vec::new(), publisher: None }),
        ),
        Change::Unretained(format!("at/{}", number.saturating_sub(1)).into()),
        queued("text", &[1]),
    ];
    transaction(changes, number.is_multiple_of(7))
}

/// Of how many transactions an archive has all, if it has all of the first ones and nothing of others.
fn prefix(archive: &[u8]) -> u64 {
    let (mut delayed, mut last, mut at, mut queue) = (0, 0, Vec::new(), 0);
    archive::read(archive, |space, key, value| {
        match space {
            Space::Delayed => {
                delayed += 1;
                assert_eq!(key, delayed_key(delayed));
            }
            Space::Retained if key == b"last" => {
                let record: RetainedRecord = crate::value::read_all(value).unwrap();
                last = u64::from_be_bytes(record.message.try_into().unwrap());
            }
            Space::Retained => at.push(String::from_utf8(key.to_vec()).unwrap()),
            Space::Queue => queue += 1,
            _ => {}
        }
        Ok::<_, ArchiveError>(())
    })
    .unwrap();
    assert_eq!((delayed, queue), (last, last));
    let expected: Vec<_> = (last > 0).then(|| format!("at/{last}")).into_iter().collect();
    assert_eq!(at, expected);
    last
}

fn delayed_key(number: u64) -> [u8; 8] {
    crate::key::delayed(number)
}

type Running = (Store, JoinHandle<Result<Box<dyn Engine>, EngineError>>);

fn start(engine: Box<dyn Engine>) -> Running {
    let (store, writer) = Writer::open(engine, Options::default(), || ()).unwrap();
    (store, thread::spawn(move || writer.run()))
}

/// Takes bytes once it is allowed to.
struct Gate {
    allowed: Receiver<()>,
    bytes: Sender<Vec<u8>>,
    held: Vec<u8>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            self.allowed.recv().map_err(io::Error::other)?;
        }
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.send(std::mem::take(&mut self.held)).map_err(io::Error::other)
    }
}

/// What allows it to be written, what it comes to, and its bytes.
type Gated = (Sender<()>, Receiver<Result<Summary, ArchiveError>>, Receiver<Vec<u8>>);

/// Asks for a backup that is written once the sender is used, or dropped. It is read from the last one.
fn gated(store: &Store) -> Gated {
    let (allow, allowed) = mpsc::channel();
    let (bytes, written) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let gate = Gate { allowed, bytes, held: Vec::new() };
    store.backup(BackupTarget::Writer(Box::new(gate)), move |result| drop(tell.send(result)));
    (allow, told, written)
}

fn backups_are_prefixes(engine: Box<dyn Engine>) {
    let (store, writer) = start(engine);
    let mut number = 0;
    let mut submit = |count: u64| {
        for _ in 0..count {
            number += 1;
            store.submit(numbered(number), |_| ());
        }
        number
    };
    let mut last = 0;
    for round in 0..5 {
        let before = submit(200);
        let (allow, told, written) = gated(&store);
        // Much changes between the snapshot and the first byte that is written.
        let after = submit(if round == 0 { 20_000 } else { 200 });
        let (done, finished) = mpsc::channel();
        store.submit(transaction([], true), move |_| done.send(()).unwrap());
        finished.recv().unwrap();
        allow.send(()).unwrap();
        let summary = told.recv().unwrap().unwrap();
        let prefix = prefix(&written.recv().unwrap());
        assert!((before..=after).contains(&prefix) && prefix > last, "{before}..={after}: {prefix}");
        assert_eq!(summary.entries(Space::Delayed), prefix);
        last = prefix;
    }
    store.stop();
    writer.join().unwrap().unwrap();
}

#[test]
fn a_backup_of_memory_is_a_consistent_prefix() {
    backups_are_prefixes(Box::new(MemoryEngine::default()));
}

#[cfg(feature = "fjall")]
#[test]
fn a_backup_of_files_is_a_consistent_prefix() {
    use crate::engine::{FjallEngine, Options};
    let folder = tempfile::tempdir().unwrap();
    // With little memory, so that tables are written and merged meanwhile.
    let engine = FjallEngine::open(&folder.path().join("store"), Options { memory: 0 }).unwrap();
    backups_are_prefixes(Box::new(engine));
}

#[test]
fn there_is_one_backup_at_a_time() {
    let (store, writer) = start(Box::new(MemoryEngine::default()));
    let (allow, told, _written) = gated(&store);
    let (_, refused, _) = gated(&store);
    assert!(matches!(refused.recv().unwrap(), Err(ArchiveError::Busy)));
    allow.send(()).unwrap();
    told.recv().unwrap().unwrap();
    store.stop();
    writer.join().unwrap().unwrap();
}

#[test]
fn a_writer_that_fails_is_told_and_the_store_goes_on() {
    let (store, writer) = start(Box::new(MemoryEngine::default()));
    let (allow, told, _written) = gated(&store);
    drop(allow);
    assert!(matches!(told.recv().unwrap(), Err(ArchiveError::Io { .. })));
    let (tell, told) = mpsc::channel();
    store.submit(transaction([session(1)], true), move |_| tell.send(()).unwrap());
    told.recv().unwrap();
    store.stop();
    writer.join().unwrap().unwrap();
}

#[test]
fn nobody_waits_for_a_backup_of_a_store_that_has_failed() {
    let disk = FaultyDisk::new(1);
    let (store, mut writer) = Writer::open(Box::new(disk.open()), Options::default(), || ()).unwrap();
    store.submit(transaction([session(1)], true), |_| ());
    let (_allow, told, _written) = gated(&store);
    disk.fail_after(1, crate::engine::Fault::InputOutput);
    writer.turn(Some(Duration::ZERO)).unwrap_err();
    drop(writer);
    assert!(told.recv().is_err());
}

fn to_file(path: &Path, replace: bool, stop: bool) -> Result<Summary, ArchiveError> {
    let snapshot = MemoryEngine::default().snapshot().unwrap();
    let target = BackupTarget::File { path: path.to_owned(), replace };
    write_backup(snapshot, target, &AtomicBool::new(stop))
}

#[test]
fn a_file_is_there_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    to_file(&path, false, false).unwrap();
    let first = std::fs::read(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = to_file(&path, false, false).unwrap_err();
    assert!(error.to_string().contains("there is such a file already"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), first);
    to_file(&path, true, false).unwrap();
    let error = to_file(&folder.path().join("no/such/folder"), false, false).unwrap_err();
    assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["saved"]);
}

#[test]
fn a_backup_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = MemoryEngine::default();
    let mut batch = crate::engine::WriteBatch::default();
    batch.insert(Space::Flow, b"key", |_| ());
    engine.write(&batch).unwrap();
    let target = BackupTarget::File { path: folder.path().join("saved"), replace: false };
    let result = write_backup(engine.snapshot().unwrap(), target, &AtomicBool::new(true));
    assert!(matches!(result, Err(ArchiveError::Stopped)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
