//! The store on a disk that loses power.
//!
//! Each run starts this program again as a writer, with a layer below it that ends it in the middle of its work and then forgets
//! all bytes and names that were not synced (`forget.c`). By its seed a run puts some of them back, in pieces, since a
//! system may write before it is asked to. Then the store is opened: every batch that was confirmed must be
//! there, and what is there must be the first so many batches.
//!
//! `LAPWING_POWERCUT_RUNS` sets how many runs there are, `LAPWING_POWERCUT_SEED` the first seed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod disk;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::process::{Command, Stdio};

use lapwing_store::engine::{Durability, Engine, FjallEngine, Options, Space, WriteBatch};

use self::disk::{Random, compile, restore};

/// Where the writer finds its store.
const STORE: &str = "LAPWING_CUT_STORE";
const SEED: &str = "LAPWING_CUT_SEED";

type Model = BTreeMap<Space, BTreeMap<Vec<u8>, Vec<u8>>>;
type Change = (Space, Vec<u8>, Option<Vec<u8>>);

/// What the batch with a number changes. A queue grows and shrinks; some messages are large, so that tables are written.
fn changes(seed: u64, number: u64) -> Vec<Change> {
    let mut random = Random(seed ^ (number << 20));
    let key = |number: u64| number.to_be_bytes().to_vec();
    let size = if random.below(8) == 0 { 60_000 } else { random.below(2000) };
    let mut changes = vec![
        (Space::Queue, key(number), Some(vec![number as u8; size as usize])),
        (Space::Flow, b"last".to_vec(), Some(key(number))),
        (Space::Retained, vec![random.below(20) as u8], Some(key(number))),
    ];
    if number > 12 {
        changes.push((Space::Queue, key(number - 12), None));
    }
    if random.below(3) == 0 {
        changes.push((Space::Retained, vec![random.below(20) as u8], None));
    }
    changes
}

fn model(seed: u64, batches: u64) -> Model {
    let mut model = Model::new();
    for (space, key, value) in (1..=batches).flat_map(|number| changes(seed, number)) {
        let entries = model.entry(space).or_default();
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
    model
}

fn open(path: &Path) -> FjallEngine {
    FjallEngine::open(path, Options { memory: 0 }).unwrap()
}

/// The writer: syncs after each third batch or so, and then says what it has.
#[test]
fn writer() {
    let (Ok(store), Ok(seed)) = (std::env::var(STORE), std::env::var(SEED)) else { return };
    let seed: u64 = seed.parse().unwrap();
    let mut engine = open(Path::new(&store));
    let first = written(&engine) + 1;
    let mut output = std::io::stdout();
    for number in first.. {
        let mut batch = WriteBatch::default();
        for (space, key, value) in changes(seed, number) {
            match value {
                Some(value) => batch.insert(space, &key, |bytes| bytes.extend(value)),
                None => batch.remove(space, &key),
            }
        }
        engine.write(&batch).unwrap();
        if Random(seed ^ number).below(3) == 0 {
            engine.sync(Durability::Fsync).unwrap();
            writeln!(output, "\nsynced {number}").unwrap();
            output.flush().unwrap();
        }
    }
}

/// How many batches are there.
fn written(engine: &dyn Engine) -> u64 {
    let last = engine.get(Space::Flow, b"last").unwrap();
    last.map_or(0, |last| u64::from_be_bytes(last.try_into().unwrap()))
}

/// Starts the writer, and ends it at a call of sync. Returns the last batch that it has confirmed.
fn write_until(layer: &Path, folder: &Path, seed: u64, after: u64) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["writer", "--exact", "--nocapture"]);
    command.env("LD_PRELOAD", layer).env(SEED, seed.to_string()).env(STORE, folder.join("data/store"));
    command.env("LAPWING_CUT_FOLDER", folder.join("data")).env("LAPWING_CUT_AFTER", after.to_string());
    command.env("LAPWING_CUT_MIRROR", folder.join("mirror"));
    let mut writer = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let confirmed = lines.filter_map(|line| line.unwrap().strip_prefix("synced ")?.parse().ok()).last();
    let status = writer.wait().unwrap();
    assert!(status.success(), "the writer has failed, seed {seed}: {status}");
    confirmed.unwrap_or_default()
}

fn run(layer: &Path, seed: u64) {
    let mut random = Random(seed);
    let mut folder = disk::folder();
    let mut confirmed = 0;
    // The second time the store is one that has lost power before.
    for round in 0..2 {
        let after = if round == 0 { random.below(400) } else { random.below(200) };
        std::fs::create_dir_all(folder.path().join("data")).unwrap();
        std::fs::create_dir_all(folder.path().join("mirror")).unwrap();
        disk::adopt(&folder.path().join("data"), &folder.path().join("mirror"));
        confirmed = write_until(layer, folder.path(), seed, after + 1).max(confirmed);
        let restored = disk::folder();
        restore(folder.path(), &restored.path().join("data"), &mut random);
        folder = restored;
        let engine = open(&folder.path().join("data/store"));
        let written = written(&engine);
        assert!(written >= confirmed, "{written} of {confirmed} confirmed batches are left, seed {seed}");
        let expected = model(seed, written);
        for space in Space::ALL {
            let mut found = BTreeMap::new();
            let scanned = engine.scan(space, (Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
                found.insert(key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            });
            scanned.unwrap();
            let same = expected.get(&space).map_or(found.is_empty(), |entries| *entries == found);
            assert!(same, "{} of batch {written} is not as written, seed {seed}", space.name());
        }
        confirmed = written;
    }
}

#[test]
fn what_was_confirmed_survives_a_loss_of_power() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let runs = number("LAPWING_POWERCUT_RUNS").unwrap_or(24);
    let first = number("LAPWING_POWERCUT_SEED").unwrap_or(1);
    let tools = disk::folder();
    let layer = compile(tools.path());
    for seed in first..first + runs {
        run(&layer, seed);
    }
}
