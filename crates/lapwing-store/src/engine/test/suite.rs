//! What every engine must do.

use std::ops::{Bound, ControlFlow};

use super::super::{Durability, KEY_LIMIT, Space, WriteBatch};
use super::{ALL, Backend, Memory, entries, insert, keys, one};

/// Runs every test of the suite on an engine.
macro_rules! suite {
    ($module:ident, $backend:expr) => {
        mod $module {
            suite!(@tests $backend,
                batches_are_whole_and_in_order, scans_are_in_order_and_within_bounds, a_scan_can_be_broken_off,
                spaces_are_apart, a_key_can_come_back, the_last_key_of_a_space, large_keys_and_values, many_keys,
                what_was_written_is_there_again, written_once_and_removed_once,
                a_snapshot_stays_as_it_is,
            );
        }
    };
    (@tests $backend:expr, $($test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                $crate::engine::test::suite::$test(&mut $backend);
            }
        )*
    };
}

suite!(memory, crate::engine::test::Memory);
suite!(faulty, crate::engine::FaultyDisk::new(1));
#[cfg(feature = "fjall")]
suite!(fjall, crate::engine::test::fjall::Disk::new());

#[test]
fn the_suite_knows_an_engine_that_forgets() {
    assert!(!Memory.keeps());
}

fn batches_are_whole_and_in_order(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    let mut batch = one(Space::Session, b"a", b"1");
    insert(&mut batch, Space::Session, b"a", b"2");
    insert(&mut batch, Space::Flow, b"b", b"3");
    batch.remove(Space::Flow, b"b");
    insert(&mut batch, Space::Flow, b"c", b"4");
    engine.write(&batch).unwrap();
    // Read before anything is synced.
    assert_eq!(engine.get(Space::Session, b"a").unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(engine.get(Space::Flow, b"b").unwrap(), None);
    assert_eq!(keys(&*engine, Space::Flow, ALL), [b"c"]);
    engine.sync(Durability::Os).unwrap();
    engine.sync(Durability::Fsync).unwrap();
    engine.write(&WriteBatch::default()).unwrap();
    assert_eq!(keys(&*engine, Space::Flow, ALL), [b"c"]);
}

fn a_snapshot_stays_as_it_is(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    engine.write(&one(Space::Queue, b"a", b"1")).unwrap();
    engine.write(&one(Space::Session, b"b", b"2")).unwrap();
    engine.write(&one(Space::Queue, b"c", b"3")).unwrap();
    let (whole, broken) = (engine.snapshot().unwrap(), engine.snapshot().unwrap());
    let mut batch = one(Space::Session, b"b", b"other");
    batch.remove(Space::Queue, b"a");
    insert(&mut batch, Space::Meta, b"d", b"4");
    engine.write(&batch).unwrap();
    // It can be read where the engine is not.
    let reading = std::thread::spawn(move || {
        let mut found = Vec::new();
        let mut read = |space: Space, key: &[u8], value: &[u8]| {
            found.push((space, key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        whole.scan(&mut read).unwrap();
        found
    });
    let expected = [(Space::Session, b"b", b"2"), (Space::Queue, b"a", b"1"), (Space::Queue, b"c", b"3")];
    assert_eq!(
        reading.join().unwrap(),
        expected.map(|(space, key, value)| (space, key.to_vec(), value.to_vec()))
    );
    let mut count = 0;
    let mut first = |_: Space, _: &[u8], _: &[u8]| {
        count += 1;
        ControlFlow::Break(())
    };
    broken.scan(&mut first).unwrap();
    assert_eq!((count, keys(&*engine, Space::Queue, ALL)), (1, vec![b"c".to_vec()]));
}

fn scans_are_in_order_and_within_bounds(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    for key in [3_u8, 1, 5, 2, 4] {
        engine.write(&one(Space::Queue, &[key], &[key; 3])).unwrap();
    }
    engine.write(&one(Space::Queue, &[3, 0], b"")).unwrap();
    let scan = |start, end| keys(&*engine, Space::Queue, (start, end));
    let bound = |key: &'static [u8]| (Bound::Included(key), Bound::Excluded(key));
    let (two, not_two) = bound(&[2]);
    let (four, not_four) = bound(&[4]);
    assert_eq!(scan(Bound::Unbounded, Bound::Unbounded), [&[1][..], &[2], &[3], &[3, 0], &[4], &[5]]);
    assert_eq!(scan(two, four), [&[2][..], &[3], &[3, 0], &[4]]);
    assert_eq!(scan(not_two, not_four), [&[3][..], &[3, 0]]);
    assert_eq!(scan(not_four, Bound::Unbounded), [&[5][..]]);
    assert_eq!(scan(Bound::Unbounded, not_two), [&[1][..]]);
    assert_eq!(scan(Bound::Included(&[3]), Bound::Included(&[3])), [&[3][..]]);
    for (start, end) in [(four, two), (not_two, two), (not_two, not_two), (two, not_two)] {
        assert_eq!(scan(start, end), [[0; 0]; 0]);
    }
    assert_eq!(entries(&*engine, Space::Queue, (two, two)), [(vec![2], vec![2; 3])]);
}

fn a_scan_can_be_broken_off(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    for key in 0..10 {
        engine.write(&one(Space::Delayed, &[key], b"")).unwrap();
    }
    let mut seen = 0;
    let scanned = engine.scan(Space::Delayed, ALL, &mut |key, _| {
        seen += 1;
        if key == [3] { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    scanned.unwrap();
    assert_eq!(seen, 4);
}

fn spaces_are_apart(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    for space in Space::ALL {
        engine.write(&one(space, b"key", space.name().as_bytes())).unwrap();
    }
    for space in Space::ALL {
        assert_eq!(engine.get(space, b"key").unwrap().as_deref(), Some(space.name().as_bytes()));
        assert_eq!(keys(&*engine, space, ALL), [b"key"]);
    }
}

fn a_key_can_come_back(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    for round in 0..5 {
        engine.write(&one(Space::Retained, b"topic", &[round])).unwrap();
        assert_eq!(engine.get(Space::Retained, b"topic").unwrap(), Some(vec![round]));
        let mut batch = WriteBatch::default();
        batch.remove(Space::Retained, b"topic");
        batch.remove(Space::Retained, b"never there");
        engine.write(&batch).unwrap();
        assert_eq!(engine.get(Space::Retained, b"topic").unwrap(), None);
        assert_eq!(keys(&*engine, Space::Retained, ALL), [[0; 0]; 0]);
    }
}

fn the_last_key_of_a_space(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    assert_eq!(engine.last_key(Space::Message).unwrap(), None);
    engine.write(&one(Space::Message, &[7, 1], b"")).unwrap();
    engine.write(&one(Space::Message, &[7], b"")).unwrap();
    assert_eq!(engine.last_key(Space::Message).unwrap(), Some(vec![7, 1]));
    let mut batch = WriteBatch::default();
    batch.remove(Space::Message, &[7, 1]);
    engine.write(&batch).unwrap();
    assert_eq!(engine.last_key(Space::Message).unwrap(), Some(vec![7]));
    assert_eq!(engine.last_key(Space::Session).unwrap(), None);
}

fn large_keys_and_values(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    let key = vec![b'k'; KEY_LIMIT];
    let value: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    engine.write(&one(Space::Retained, &key, &value)).unwrap();
    engine.write(&one(Space::Retained, b"empty", b"")).unwrap();
    engine.sync(Durability::Fsync).unwrap();
    let engine = reopened(backend, engine);
    let Some(engine) = engine else { return };
    assert!(engine.get(Space::Retained, &key).unwrap() == Some(value));
    assert_eq!(engine.get(Space::Retained, b"empty").unwrap(), Some(Vec::new()));
}

fn many_keys(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    for start in (0..50_000_u32).step_by(1000) {
        let mut batch = WriteBatch::default();
        for key in start..start + 1000 {
            insert(&mut batch, Space::Subscription, &key.to_be_bytes(), &[key as u8; 20]);
        }
        engine.write(&batch).unwrap();
    }
    let mut batch = WriteBatch::default();
    (0..50_000_u32).filter(|key| key % 3 != 0).for_each(|key| {
        batch.remove(Space::Subscription, &key.to_be_bytes());
    });
    engine.write(&batch).unwrap();
    let left = keys(&*engine, Space::Subscription, ALL);
    assert_eq!(left.len(), 16_667);
    assert!(left.iter().zip((0_u32..).step_by(3)).all(|(found, key)| *found == key.to_be_bytes()));
}

fn what_was_written_is_there_again(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    for round in 0..20_u8 {
        let mut batch = one(Space::Meta, b"round", &[round]);
        insert(&mut batch, Space::Queue, &[round], &[round; 100]);
        if round % 2 == 1 {
            batch.remove(Space::Queue, &[round - 1]);
        }
        engine.write(&batch).unwrap();
        engine.sync(Durability::Fsync).unwrap();
        let Some(again) = reopened(backend, engine) else { return };
        engine = again;
        assert_eq!(engine.get(Space::Meta, b"round").unwrap(), Some(vec![round]));
        let left: Vec<[u8; 1]> =
            (0..=round).filter(|key| key % 2 == 1 || *key == round).map(|key| [key]).collect();
        assert_eq!(keys(&*engine, Space::Queue, ALL), left);
        assert_eq!(engine.last_key(Space::Queue).unwrap(), Some(vec![round]));
    }
}

fn written_once_and_removed_once(backend: &mut dyn Backend) {
    let mut engine = backend.open();
    let mut removed = 0;
    for start in (0..40_000_u32).step_by(500) {
        let mut batch = WriteBatch::default();
        for key in start..start + 500 {
            insert(&mut batch, Space::Queue, &key.to_be_bytes(), &[key as u8; 200]);
        }
        // The queue grows and shrinks.
        while removed < start.saturating_sub(7000 * (start / 500 % 3)) {
            batch.remove(Space::Queue, &removed.to_be_bytes());
            removed += 1;
        }
        engine.write(&batch).unwrap();
        let left = keys(&*engine, Space::Queue, (Bound::Included(&removed.to_be_bytes()), Bound::Unbounded));
        assert_eq!(left.len() as u32, start + 500 - removed);
    }
    assert_eq!(keys(&*engine, Space::Queue, ALL).len() as u32, 40_000 - removed);
}

/// The engine closed and opened, if anything is left then.
fn reopened(
    backend: &mut dyn Backend,
    engine: Box<dyn super::super::Engine>,
) -> Option<Box<dyn super::super::Engine>> {
    drop(engine);
    backend.keeps().then(|| backend.open())
}
