//! The disk that fails does so as it says.

use super::super::{Cut, Durability, Engine, EngineError, Fault, FaultyDisk, Space};
use super::{ALL, Backend, keys, one};

impl Backend for FaultyDisk {
    fn open(&mut self) -> Box<dyn Engine> {
        Box::new(FaultyDisk::open(self))
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// Ten batches: three synced, three with the system, four neither; then a cut. How many are left?
fn left_after(cut: Cut, seed: u64) -> usize {
    let disk = FaultyDisk::new(seed);
    let mut engine = disk.open();
    for key in 0..10_u8 {
        engine.write(&one(Space::Queue, &[key], b"")).unwrap();
        match key {
            2 => engine.sync(Durability::Fsync).unwrap(),
            5 => engine.sync(Durability::Os).unwrap(),
            _ => {}
        }
    }
    disk.cut(cut);
    assert!(matches!(engine.get(Space::Queue, &[0]), Err(EngineError::Failed)));
    let engine = disk.open();
    let left = keys(&engine, Space::Queue, ALL);
    assert!(left.iter().zip(0_u8..).all(|(found, key)| *found == [key]));
    left.len()
}

#[test]
fn a_cut_leaves_what_was_safe_and_the_first_of_the_rest() {
    let power: Vec<usize> = (0..200).map(|seed| left_after(Cut::Power, seed)).collect();
    let process: Vec<usize> = (0..200).map(|seed| left_after(Cut::Process, seed)).collect();
    assert!((3..=10).all(|count| power.contains(&count)));
    assert!((6..=10).all(|count| process.contains(&count)));
    assert!(power.iter().all(|count| *count >= 3) && process.iter().all(|count| *count >= 6));
    assert_eq!(power, (0..200).map(|seed| left_after(Cut::Power, seed)).collect::<Vec<_>>());
}

#[test]
fn after_a_fault_everything_fails() {
    for (calls, written) in [(0, 0), (1, 1), (2, 1), (3, 2)] {
        let disk = FaultyDisk::new(calls);
        let mut engine = disk.open();
        disk.fail_after(calls, Fault::StorageFull);
        let mut done = 0;
        let error = loop {
            if let Err(error) = engine.write(&one(Space::Flow, &[done + 1], b"")) {
                break error;
            }
            done += 1;
            if let Err(error) = engine.sync(Durability::Fsync) {
                break error;
            }
        };
        assert!(matches!(error, EngineError::Io { .. }), "{error}");
        assert_eq!(done, written);
        assert!(matches!(engine.write(&one(Space::Flow, b"a", b"")), Err(EngineError::Failed)));
        assert!(matches!(engine.sync(Durability::Fsync), Err(EngineError::Failed)));
        assert!(matches!(engine.get(Space::Flow, b"a"), Err(EngineError::Failed)));
        // What had been synced before is there for the next process.
        let synced = calls / 2;
        disk.cut(Cut::Process);
        assert!(keys(&disk.open(), Space::Flow, ALL).len() as u64 >= synced);
    }
}
