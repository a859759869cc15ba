//! What a store takes on the disk.

use std::ops::Bound;
use std::time::{Duration, Instant};

use super::super::super::{Durability, Engine, FjallEngine, Options, Space, WriteBatch};
use super::super::{ALL, insert, keys};
use super::{Disk, copy, open};

/// A journal, and what is too little to be worth a merge.
const NEAR: u64 = 100_000_000;
const LIMIT: Duration = Duration::from_secs(60);

/// Writes messages of `size` bytes, 200 MB in all, and removes them in order.
fn fill_and_empty(engine: &mut FjallEngine, space: Space, size: usize) -> u64 {
    let count = (200_000_000 / size) as u32;
    let mut batch = WriteBatch::default();
    let write = |engine: &mut FjallEngine, batch: &mut WriteBatch, key: u32| {
        if key % 64 == 63 {
            engine.write(batch).unwrap();
            batch.clear();
        }
    };
    for key in 0..count {
        insert(&mut batch, space, &key.to_be_bytes(), &vec![key as u8; size]);
        write(engine, &mut batch, key);
    }
    let full = engine.disk_bytes().unwrap();
    for key in 0..count {
        batch.remove(space, &key.to_be_bytes());
        write(engine, &mut batch, key);
    }
    engine.write(&batch).unwrap();
    full
}

/// Writes a little until little is taken on the disk, or it has taken too long.
fn shrink(engine: &mut FjallEngine) -> u64 {
    let start = Instant::now();
    for round in 0_u32.. {
        let mut batch = WriteBatch::default();
        insert(&mut batch, Space::Session, &(round % 50).to_be_bytes(), &[1; 200]);
        engine.write(&batch).unwrap();
        engine.sync(Durability::Fsync).unwrap();
        let bytes = engine.disk_bytes().unwrap();
        if bytes < NEAR || start.elapsed() > LIMIT {
            return bytes;
        }
    }
    unreachable!()
}

#[test]
fn what_is_removed_is_given_back() {
    for (space, size) in [(Space::Queue, 256), (Space::Message, 20_000), (Space::Retained, 20_000)] {
        let disk = Disk::new();
        let mut engine = FjallEngine::open(&disk.path(), Options::default()).unwrap();
        let full = fill_and_empty(&mut engine, space, size);
        assert!(full >= 200_000_000, "{full}");
        let left = shrink(&mut engine);
        assert!(left < NEAR, "{left} bytes are taken after {size}-byte entries of {}", space.name());
        assert_eq!(keys(&engine, space, ALL), [[0; 0]; 0]);
    }
}

#[test]
fn a_journal_is_shortened_when_its_batches_are_in_tables() {
    let disk = Disk::new();
    let mut engine = open(&disk.path()).unwrap();
    let mut batch = WriteBatch::default();
    for key in 0..200_000_u32 {
        insert(&mut batch, Space::Queue, &key.to_be_bytes(), &[1; 100]);
        if key % 50 == 49 {
            engine.write(&batch).unwrap();
            batch.clear();
        }
    }
    engine.sync(Durability::Fsync).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let copied = disk.path().with_file_name("copied");
    copy(&disk.path(), &copied);
    for round in 0..2 {
        let engine = open(&copied).unwrap();
        let journal = copied.join("0.jnl").metadata().unwrap().len();
        assert!(journal < 5_000_000, "{journal} bytes in round {round}");
        assert_eq!(keys(&engine, Space::Queue, ALL).len(), 200_000);
        let last = [(Bound::Included(&199_999_u32.to_be_bytes()[..]), Bound::Unbounded)];
        assert_eq!(keys(&engine, Space::Queue, last[0]).len(), 1);
    }
}
