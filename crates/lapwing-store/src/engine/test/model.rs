//! Random operations on an engine and on maps.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Durability, FaultyDisk, Space, WriteBatch};
use super::{ALL, Backend, entries, insert};

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(Space, Vec<u8>, Option<Vec<u8>>)>),
    Sync(Durability),
    Reopen,
    Scan(Space, Bound<Vec<u8>>, Bound<Vec<u8>>),
}

type Model = BTreeMap<Space, BTreeMap<Vec<u8>, Vec<u8>>>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Keys of queues and messages come once only, which random ones do not.
    let space = prop::sample::select(vec![Space::Meta, Space::Session, Space::Flow, Space::Retained]);
    let key = || vec(0..3_u8, 1..4);
    let value = vec(any::<u8>(), 0..40);
    let changes = vec((space.clone(), key(), prop::option::of(value)), 0..6);
    let bound = || {
        prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded),]
    };
    let step = prop_oneof![
        8 => changes.prop_map(Step::Write),
        2 => prop::sample::select(vec![Durability::Fsync, Durability::Os]).prop_map(Step::Sync),
        1 => Just(Step::Reopen),
        4 => (space, bound(), bound()).prop_map(|(space, start, end)| Step::Scan(space, start, end)),
    ];
    vec(step, 0..60)
}

fn run(backend: &mut dyn Backend, steps: Vec<Step>) {
    let mut engine = backend.open();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Write(changes) => {
                let mut batch = WriteBatch::default();
                for (space, key, value) in changes {
                    let entries = model.entry(space).or_default();
                    if let Some(value) = value {
                        insert(&mut batch, space, &key, &value);
                        entries.insert(key, value);
                    } else {
                        batch.remove(space, &key);
                        entries.remove(&key);
                    }
                }
                engine.write(&batch).unwrap();
            }
            Step::Sync(durability) => engine.sync(durability).unwrap(),
            Step::Reopen => {
                engine.sync(Durability::Fsync).unwrap();
                drop(engine);
                engine = backend.open();
            }
            Step::Scan(space, start, end) => {
                let expected = model.get(&space).into_iter().flatten();
                let expected = expected.filter(|(key, _)| within(key, &start, &end));
                let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
                let found = entries(&*engine, space, range);
                assert!(expected.eq(found.iter().map(|(key, value)| (key, value))));
            }
        }
    }
    for space in Space::ALL {
        let expected = model.get(&space).cloned().unwrap_or_default();
        assert_eq!(engine.last_key(space).unwrap().as_ref(), expected.keys().next_back());
        assert_eq!(entries(&*engine, space, ALL), expected.into_iter().collect::<Vec<_>>());
    }
}

fn within(key: &Vec<u8>, start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    let after = match start {
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
        Bound::Unbounded => true,
    };
    let before = match end {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    };
    after && before
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_disk_in_memory_is_like_maps(steps in steps()) {
        run(&mut FaultyDisk::new(1), steps);
    }
}

#[cfg(feature = "fjall")]
proptest! {
    // Each opens a store on the disk several times.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn fjall_is_like_maps(steps in steps()) {
        run(&mut super::fjall::Disk::new(), steps);
    }
}
