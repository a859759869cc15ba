//! Stores that are looked at stay as they are.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::super::super::{Durability, Engine, EngineError, Space, View, WriteBatch};
use super::super::{ALL, insert, keys, one};
use super::{Disk, Options, copy, open, used};

/// All files below a folder, with their content.
pub(super) fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A small copy of a store with entries in tables and in the journal, which was not closed.
pub(super) fn unclosed(disk: &Disk) -> PathBuf {
    let mut engine = open(&disk.path()).unwrap();
    for key in [b"a", b"b"] {
        engine.write(&one(Space::Queue, key, b"in a table")).unwrap();
        engine.write(&one(Space::Retained, key, b"in a table")).unwrap();
    }
    engine.flush().unwrap();
    engine.write(&one(Space::Queue, b"c", b"in the journal")).unwrap();
    engine.sync(Durability::Fsync).unwrap();
    let store = disk.path().with_file_name("unclosed");
    copy(&disk.path(), &store);
    store
}

#[test]
fn a_snapshot_keeps_what_is_removed_and_merged_away() {
    let disk = Disk::new();
    let mut engine = open(&disk.path()).unwrap();
    let mut change = |first: u32, remove: bool| {
        let mut batch = WriteBatch::default();
        for key in first..first + 1000 {
            match remove {
                true => batch.remove(Space::Queue, &key.to_be_bytes()),
                false => insert(&mut batch, Space::Queue, &key.to_be_bytes(), &[key as u8; 1000]),
            }
        }
        engine.write(&batch).unwrap();
    };
    (0..30).for_each(|part| change(1000 * part, false));
    (0..29).for_each(|part| change(1000 * part, true));
    engine.flush().unwrap();
    let snapshot = engine.snapshot().unwrap();
    let mut batch = WriteBatch::default();
    (29_000..30_000_u32).for_each(|key| batch.remove(Space::Queue, &key.to_be_bytes()));
    engine.write(&batch).unwrap();
    // Each of these sends everything to tables, and may begin a merge of all of them.
    (0..20).for_each(|_| {
        engine.write(&one(Space::Session, b"a", b"b")).unwrap();
        engine.flush().unwrap();
    });
    assert_eq!(keys(&engine, Space::Queue, ALL), [[0; 0]; 0]);
    let mut found = 0;
    let count = &mut |space, _: &[u8], value: &[u8]| {
        found += u32::from(space == Space::Queue && value.len() == 1000);
        ControlFlow::Continue(())
    };
    snapshot.scan(count).unwrap();
    assert_eq!(found, 1000);
}

fn look(path: &Path) -> Result<View, EngineError> {
    View::open(path, Options { memory: 0 })
}

#[test]
fn a_look_changes_nothing() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    let before = content(&store);
    let view = look(&store).unwrap();
    assert_eq!(keys(view.engine(), Space::Queue, ALL), [b"a", b"b", b"c"]);
    assert_eq!(view.torn_tail(), None);
    // Nobody else can have it meanwhile.
    assert!(matches!(look(&store), Err(EngineError::Locked { path }) if path == store));
    assert!(matches!(open(&store), Err(EngineError::Locked { .. })));
    drop(view);
    assert!(
        content(store.parent().unwrap())
            .iter()
            .all(|(path, _)| path.starts_with(&store) || path.starts_with(disk.path()))
    );
    assert!(content(&store) == before);
}

#[test]
fn a_torn_tail_is_told_and_not_cut_off() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    let journal = store.join("0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let end = used(&bytes);
    bytes.truncate(end);
    bytes.extend_from_slice(b"torn");
    fs::write(&journal, &bytes).unwrap();
    let before = content(&store);
    let view = look(&store).unwrap();
    let torn = view.torn_tail().unwrap();
    assert_eq!((&torn.file, torn.offset, torn.bytes), (&journal, end as u64, 4));
    assert_eq!(keys(view.engine(), Space::Queue, ALL), [b"a", b"b", b"c"]);
    drop(view);
    assert!(content(&store) == before);
}

#[test]
fn what_a_look_has_left_that_was_killed_is_removed_and_nothing_else() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    let left = store.with_file_name("unclosed.view");
    copy(&store, &left);
    drop(look(&store).unwrap());
    assert!(!left.exists());
    fs::create_dir(&left).unwrap();
    fs::write(left.join("holiday.jpg"), "sea").unwrap();
    assert!(matches!(look(&store), Err(EngineError::Foreign { path, .. }) if path == left));
    assert!(left.join("holiday.jpg").exists());
}

#[test]
fn damage_has_the_names_of_the_store_and_not_of_the_copy() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    let table = content(&store).into_iter().find(|(path, _)| {
        path.starts_with(store.join("keyspaces/8")) && path.parent().unwrap().ends_with("tables")
    });
    let (path, mut bytes) = table.unwrap();
    bytes[10] ^= 0xFF;
    fs::write(path, bytes).unwrap();
    let error = match look(&store) {
        Ok(view) => view.original(view.engine().check().unwrap_err()),
        Err(error) => error,
    };
    assert!(!error.to_string().contains(".view") && error.to_string().contains("unclosed"), "{error}");
}
