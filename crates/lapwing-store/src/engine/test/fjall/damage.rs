//! Stores that are not as they were written.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::super::{Durability, Engine, EngineError, Space, WriteBatch};
use super::super::{ALL, entries, insert, keys};
use super::{Disk, copy, open, used};

const BATCHES: u8 = 6;

/// The batch with a number: what it writes is in three spaces.
fn batch(number: u8) -> WriteBatch {
    let mut batch = WriteBatch::default();
    insert(&mut batch, Space::Queue, &[number], &[number; 9]);
    insert(&mut batch, Space::Flow, b"last", &[number]);
    if number > 2 {
        batch.remove(Space::Queue, &[number - 2]);
    }
    insert(&mut batch, Space::Retained, &[number], b"");
    batch
}

/// Which batches are there, if it is a first few of them.
fn batches(engine: &dyn Engine) -> u8 {
    let count = keys(engine, Space::Retained, ALL).len() as u8;
    assert_eq!(keys(engine, Space::Retained, ALL), (1..=count).map(|number| [number]).collect::<Vec<_>>());
    let last: Vec<_> = (count > 0).then(|| (b"last".to_vec(), vec![count])).into_iter().collect();
    assert_eq!(entries(engine, Space::Flow, ALL), last);
    let queue: Vec<_> = (count.saturating_sub(1).max(1)..=count).map(|number| [number]).collect();
    assert_eq!(keys(engine, Space::Queue, ALL), queue);
    count
}

fn journal(store: &Path) -> PathBuf {
    store.join("0.jnl")
}

/// A store that was not closed, of which three batches are synced, and where each batch ends.
fn unclosed(disk: &Disk) -> (PathBuf, Vec<usize>) {
    let mut engine = open(&disk.path()).unwrap();
    let end = || used(&fs::read(journal(&disk.path())).unwrap());
    let mut ends = vec![end()];
    for number in 1..=BATCHES {
        engine.write(&batch(number)).unwrap();
        engine.sync(if number <= 3 { Durability::Fsync } else { Durability::Os }).unwrap();
        ends.push(end());
    }
    let store = disk.path().with_file_name("unclosed");
    copy(&disk.path(), &store);
    (store, ends)
}

/// A copy of a store with another journal.
fn with_journal(store: &Path, bytes: &[u8]) -> PathBuf {
    let other = store.with_file_name("other");
    let _ = fs::remove_dir_all(&other);
    copy(store, &other);
    fs::write(journal(&other), bytes).unwrap();
    other
}

#[test]
fn a_journal_that_is_cut_anywhere_has_the_batches_before() {
    let disk = Disk::in_memory();
    let (store, ends) = unclosed(&disk);
    let bytes = fs::read(journal(&store)).unwrap();
    for size in ends[0]..=ends[usize::from(BATCHES)] {
        let whole = ends.iter().filter(|end| **end <= size).count() as u8 - 1;
        // The end of the file, or zeros: a journal is large from the beginning.
        for zeros in [0, 200] {
            let mut torn = bytes[..size].to_vec();
            torn.resize(size + zeros, 0);
            let store = with_journal(&store, &torn);
            for _ in 0..2 {
                let engine = open(&store).unwrap();
                assert_eq!(batches(&engine), whole, "cut at {size}");
            }
        }
    }
}

#[test]
fn what_is_torn_and_was_not_synced_goes_with_all_that_follows() {
    let disk = Disk::in_memory();
    let (store, ends) = unclosed(&disk);
    let bytes = fs::read(journal(&store)).unwrap();
    // The fifth batch is not on the disk, but the sixth is: the system writes pages in any order.
    let mut torn = bytes.clone();
    torn[ends[4]..ends[5]].fill(0);
    let engine = open(&with_journal(&store, &torn)).unwrap();
    assert_eq!(batches(&engine), 4);
    drop(engine);
    // The first was on the disk when the others were written.
    let mut corrupt = bytes;
    corrupt[ends[0]..ends[1]].fill(0);
    let refused = open(&with_journal(&store, &corrupt)).map(drop).unwrap_err();
    assert!(matches!(refused, EngineError::Corrupt { offset, .. } if offset == ends[0] as u64), "{refused}");
}

#[test]
fn no_byte_of_a_journal_changes_unnoticed() {
    let disk = Disk::in_memory();
    let (store, ends) = unclosed(&disk);
    let bytes = fs::read(journal(&store)).unwrap();
    // Opened and closed, so that all is synced, and a last batch says so.
    let closed = with_journal(&store, &bytes);
    drop(open(&closed).unwrap());
    let bytes = fs::read(journal(&closed)).unwrap();
    let mut refused = 0;
    for at in 0..ends[usize::from(BATCHES)] {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let store = with_journal(&store, &bytes);
            match open(&store) {
                // fjall's own number of a batch may change within a gap, where it makes no difference.
                Ok(engine) => assert_eq!(batches(&engine), BATCHES, "byte {at} ^ {flip:02x}"),
                Err(EngineError::Corrupt { file, offset, .. }) => {
                    refused += 1;
                    assert_eq!(file, journal(&store));
                    // A number that is too high shows at the next batch.
                    let next = ends.iter().find(|end| **end > at).unwrap();
                    assert!(offset <= *next as u64, "byte {at}, found at {offset}");
                }
                Err(error) => panic!("byte {at} ^ {flip:02x}: {error}"),
            }
        }
    }
    assert!(refused >= 3 * (ends[usize::from(BATCHES)] - 40), "{refused}");
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_byte_of_a_table_changes_what_is_read() {
    let disk = Disk::in_memory();
    let mut engine = open(&disk.path()).unwrap();
    (1..=BATCHES).for_each(|number| engine.write(&batch(number)).unwrap());
    engine.flush().unwrap();
    drop(engine);
    let original = disk.path();
    let mut refused = 0;
    for file in files(&original.join("keyspaces")) {
        let name = file.strip_prefix(&original).unwrap();
        let bytes = fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 24) {
            let store = original.with_file_name("other");
            let _ = fs::remove_dir_all(&store);
            copy(&original, &store);
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x41;
            fs::write(store.join(name), bytes).unwrap();
            // Everything, or an error; but nothing else.
            let result = open(&store).and_then(|engine| engine.check().map(|()| engine));
            match result {
                Ok(engine) => assert_eq!(batches(&engine), BATCHES, "{} at {at}", name.display()),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100, "{refused}");
}
