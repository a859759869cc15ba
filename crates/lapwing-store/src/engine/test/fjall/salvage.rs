//! What is left of damaged stores.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::super::super::{Engine, EngineError, Loss, Salvage, Space, WriteBatch};
use super::super::insert;
use super::view::{content, unclosed};
use super::{Disk, Options, copy, open, used};

/// The keys of a space that can be read, and what is lost.
fn salvage(store: &Path, space: Space) -> (Vec<Vec<u8>>, Vec<Loss>) {
    let mut salvage = Salvage::open(store, Options { memory: 0 }).unwrap();
    let mut found = Vec::new();
    salvage.scan(&mut |of, key, _| {
        found.extend((of == space).then(|| key.to_vec()));
        ControlFlow::Continue(())
    });
    found.sort();
    (found, salvage.losses().to_vec())
}

#[test]
fn a_sound_store_is_read_as_a_whole_and_not_changed() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    let before = content(&store);
    assert_eq!(salvage(&store, Space::Queue), (vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], vec![]));
    assert!(content(&store) == before);
}

#[test]
fn whatever_is_cut_out_of_a_journal_the_rest_is_read() {
    let disk = Disk::in_memory();
    let mut engine = open(&disk.path()).unwrap();
    let end = || used(&fs::read(disk.path().join("0.jnl")).unwrap());
    let mut ends = vec![end()];
    for number in 0..4_u8 {
        let mut batch = WriteBatch::default();
        insert(&mut batch, Space::Queue, &[number], &[number; 20]);
        engine.write(&batch).unwrap();
        engine.sync(Default::default()).unwrap();
        ends.push(end());
    }
    let store = disk.path().with_file_name("unclosed");
    copy(&disk.path(), &store);
    let journal = store.join("0.jnl");
    let bytes = fs::read(&journal).unwrap();
    for number in 0..4_u8 {
        let (start, end) = (ends[usize::from(number)], ends[usize::from(number) + 1]);
        let mut damaged = bytes.clone();
        damaged[(start + end) / 2] ^= 0xFF;
        fs::write(&journal, damaged).unwrap();
        let expected: Vec<_> = (0..4).filter(|other| *other != number).map(|other| vec![other]).collect();
        let (found, losses) = salvage(&store, Space::Queue);
        assert_eq!(found, expected);
        let [Loss::Journal { file, offset, bytes }] = &losses[..] else { panic!("{losses:?}") };
        assert_eq!((file, *offset, *bytes), (&journal, start as u64, (end - start) as u64));
    }
    // Without any journal what is in tables is there, and here that is nothing.
    fs::remove_file(&journal).unwrap();
    assert_eq!(salvage(&store, Space::Queue).0, [[0; 0]; 0]);
}

#[test]
fn tables_that_cannot_be_opened_leave_those_of_the_others() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    // The queue's list of tables, and the lists of what there is.
    for (id, lost) in [(5, Some(Space::Queue)), (0, None), (1, None)] {
        let damaged = store.with_file_name(format!("damaged-{id}"));
        copy(&store, &damaged);
        fs::write(damaged.join(format!("keyspaces/{id}/current")), b"nonsense").unwrap();
        open(&damaged).map(drop).unwrap_err();
        let (found, losses) = salvage(&damaged, Space::Queue);
        let (retained, _) = salvage(&damaged, Space::Retained);
        assert_eq!(retained, [b"a", b"b"]);
        match lost {
            Some(space) => {
                assert!(
                    matches!(&losses[..], [Loss::Tables { space: of, .. }] if *of == space),
                    "{losses:?}"
                );
                // What the journal has is all there.
                assert!(found.contains(&b"c".to_vec()));
            }
            None => assert_eq!((found.len(), losses), (3, vec![])),
        }
    }
}

#[test]
fn a_block_that_cannot_be_read_leaves_those_before_and_behind() {
    let disk = Disk::in_memory();
    let mut engine = open(&disk.path()).unwrap();
    let mut batch = WriteBatch::default();
    for key in 0..1000_u32 {
        insert(&mut batch, Space::Retained, &key.to_be_bytes(), &[key as u8; 100]);
    }
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let store = disk.path().with_file_name("unclosed");
    copy(&disk.path(), &store);
    // So that nothing of it is in the journal any more.
    fs::write(store.join("0.jnl"), b"").unwrap();
    let tables = content(&store.join("keyspaces/8/tables"));
    let (path, mut bytes) = tables.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let at = bytes.windows(20).position(|window| window == [500_u32 as u8; 20]).unwrap();
    bytes[at] ^= 0xFF;
    fs::write(path, bytes).unwrap();
    let (found, losses) = salvage(&store, Space::Retained);
    assert!((900..1000).contains(&found.len()), "{}: {losses:?}", found.len());
    let [Loss::Entries { space: Space::Retained, after: Some(after), before: Some(before), .. }] =
        &losses[..]
    else {
        panic!("{losses:?}");
    };
    let missing = found.windows(2).find(|pair| number(&pair[0]) + 1 != number(&pair[1])).unwrap();
    assert_eq!(missing, [after.clone(), before.clone()]);
}

fn number(key: &[u8]) -> u32 {
    u32::from_be_bytes(key.try_into().unwrap())
}

#[test]
fn a_store_without_a_name_cannot_be_read() {
    let disk = Disk::in_memory();
    let store = unclosed(&disk);
    fs::remove_file(store.join("LAPWING")).unwrap();
    let refused = Salvage::open(&store, Options { memory: 0 }).map(drop).unwrap_err();
    assert!(matches!(refused, EngineError::Foreign { .. }), "{refused}");
}
