//! How fast the engine takes messages, next to a file that only grows on the same disk.
//!
//! `cargo run --release --example store_bench -p lapwing-store [-- folder]`. The folder is where the disk is that is measured;
//! without one it is the system's folder for temporary files.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people, which ends at the first error"
)]

use std::fs::{self, File};
use std::io::Write;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lapwing_store::engine::{Durability, Engine, FjallEngine, Options, Space, WriteBatch};

/// How long each measurement goes on.
const SPAN: Duration = Duration::from_secs(4);
/// The argument of the process that [`replay`] starts.
const FILL: &str = "--fill-and-die";
const MESSAGE: [u8; 256] = [b'm'; 256];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, fill, path, size] = &arguments[..] {
        assert_eq!(fill, FILL);
        fill_and_die(Path::new(path), size.parse().unwrap());
    }
    let folder = arguments.get(1).map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    let folder = folder.path();
    println!("messages of 256 bytes, each batch synced");
    for size in [1, 64, 1024] {
        let floor = append(folder, size);
        let store = insert(folder, size);
        println!("{size:>5} per batch: {store:>9.0} messages/s; appended to a file: {floor:>9.0}");
    }
    for memory in [8, 64] {
        queue(folder, memory << 20);
    }
    for size in [8, 256] {
        replay(folder, size);
    }
}

/// Messages a second that a file takes.
fn append(folder: &Path, size: u64) -> f64 {
    let mut file = File::create(folder.join("floor")).unwrap();
    let bytes = MESSAGE.repeat(size as usize);
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < SPAN {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        count += size;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Messages a second that the engine takes.
fn insert(folder: &Path, size: u64) -> f64 {
    let path = folder.join(format!("insert{size}"));
    let mut engine = FjallEngine::open(&path, Options::default()).unwrap();
    let (mut batch, start, mut count) = (WriteBatch::default(), Instant::now(), 0);
    while start.elapsed() < SPAN {
        fill(&mut batch, count..count + size, &MESSAGE);
        engine.write(&batch).unwrap();
        engine.sync(Durability::Fsync).unwrap();
        count += size;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// A queue that is read behind its writer: messages in, read from a cursor, removed.
fn queue(folder: &Path, memory: u64) {
    let path = folder.join(format!("queue{memory}"));
    let mut engine = FjallEngine::open(&path, Options { memory }).unwrap();
    let (mut batch, start, mut count) = (WriteBatch::default(), Instant::now(), 0_u64);
    let (mut slowest, mut most, mut removed) = (Duration::ZERO, 0, 0_u64);
    while start.elapsed() < SPAN * 3 {
        fill(&mut batch, count..count + 256, &MESSAGE);
        count += 256;
        if count > 100_000 {
            let cursor = key(removed);
            let mut left = 256;
            let read =
                engine.scan(Space::Queue, (Bound::Included(&cursor), Bound::Unbounded), &mut |key, _| {
                    batch.remove(Space::Queue, key);
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
            read.unwrap();
            removed += 256;
        }
        let written = Instant::now();
        engine.write(&batch).unwrap();
        engine.sync(Durability::Fsync).unwrap();
        slowest = slowest.max(written.elapsed());
        most = most.max(engine.disk_bytes().unwrap());
    }
    println!(
        "a queue of 100,000 with {} MiB: {:.0} messages/s in and out, slowest commit {slowest:?}, at most {} MB on \
         the disk, {} MB resident",
        memory >> 20,
        count as f64 / start.elapsed().as_secs_f64(),
        most / 1_000_000,
        resident() / 1_000_000,
    );
}

/// A million entries, and the end without a word.
fn fill_and_die(path: &Path, size: usize) -> ! {
    let mut engine = FjallEngine::open(path, Options::default()).unwrap();
    let value = vec![7; size];
    let mut batch = WriteBatch::default();
    for start in (0..1_000_000).step_by(100) {
        fill(&mut batch, start..start + 100, &value);
        engine.write(&batch).unwrap();
    }
    engine.sync(Durability::Fsync).unwrap();
    std::process::abort();
}

/// Opening after the process has ended without a word.
fn replay(folder: &Path, size: usize) {
    let path = folder.join(format!("replay{size}"));
    let program = std::env::current_exe().unwrap();
    Command::new(program).arg(FILL).arg(&path).arg(size.to_string()).status().unwrap();
    let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap());
    let journals = names.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jnl"));
    let bytes: u64 = journals.map(|entry| entry.metadata().unwrap().len()).sum();
    let start = Instant::now();
    let engine = FjallEngine::open(&path, Options::default()).unwrap();
    let opened = start.elapsed();
    assert_eq!(engine.last_key(Space::Queue).unwrap(), Some(key(999_999)));
    println!(
        "opening after a million entries of {size} bytes and an abort, {} MB of journals: {opened:?}",
        bytes / 1_000_000
    );
}

fn fill(batch: &mut WriteBatch, numbers: std::ops::Range<u64>, value: &[u8]) {
    batch.clear();
    for number in numbers {
        batch.insert(Space::Queue, &key(number), |bytes| bytes.extend_from_slice(value));
    }
}

fn key(number: u64) -> Vec<u8> {
    [1_u64.to_be_bytes(), number.to_be_bytes()].concat()
}

/// Bytes of memory that the process has, where the system says so.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or_default() * 1024
}
