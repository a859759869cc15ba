//! Room on the disk, and room for what waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::Condition;

#[test]
fn the_condition_follows_the_free_space() {
    let free = Arc::new(AtomicU64::new(1000));
    let reading = Arc::clone(&free);
    let options = Options {
        free_bytes_minimum: 500,
        free_bytes: Box::new(move || match reading.load(Ordering::Relaxed) {
            0 => Err(std::io::ErrorKind::NotFound.into()),
            free => Ok(free),
        }),
        free_bytes_interval: Duration::ZERO,
        ..Options::default()
    };
    let mut bench = Bench::on(FaultyDisk::new(1), options);
    // Where it cannot be told it is as it was.
    let steps = [
        (500, Condition::Ready),
        (499, Condition::Full),
        (0, Condition::Full),
        (501, Condition::Ready),
        (0, Condition::Ready),
    ];
    for (bytes, condition) in steps {
        free.store(bytes, Ordering::Relaxed);
        bench.turn();
        assert_eq!(bench.store.condition(), condition, "{bytes} bytes are free");
        // What is submitted is made: who submits knows what is to be refused.
        bench.make([session(1)]);
    }
}

#[test]
fn the_condition_follows_the_size_of_the_store() {
    let disk = FaultyDisk::new(1);
    let options =
        Options { disk_bytes_maximum: 100_000, free_bytes_interval: Duration::ZERO, ..Options::default() };
    let mut bench = Bench::on(disk, options);
    bench.make([session(1)]);
    assert_eq!(bench.store.condition(), Condition::Ready);
    let large = "x".repeat(60_000);
    for _ in 0..2 {
        bench.make([queued(&large, &[1])]);
    }
    bench.turn();
    assert_eq!(bench.store.condition(), Condition::Full);
    bench.make([Change::SessionEnded(SessionNumber(1))]);
    bench.tidy();
    bench.turn();
    assert_eq!(bench.store.condition(), Condition::Ready);
}

#[test]
fn who_fills_the_store_is_told_when_there_is_room() {
    let told = Arc::new(AtomicUsize::new(0));
    let telling = Arc::clone(&told);
    let disk = FaultyDisk::new(1);
    let on_room = move || {
        telling.fetch_add(1, Ordering::Relaxed);
    };
    let (store, mut writer) = Writer::open(Box::new(disk.open()), Options::default(), on_room).unwrap();
    let large = "x".repeat(1 << 20);
    for _ in 0..16 {
        assert!(!store.is_behind());
        store.submit(transaction([queued(&large, &[1])], true), |_| ());
    }
    assert!(store.is_behind() && store.await_room());
    writer.turn(Some(Duration::ZERO)).unwrap();
    assert!(!store.is_behind());
    assert_eq!(told.load(Ordering::Relaxed), 1);
    // There is room already.
    assert!(!store.await_room());
}

#[test]
fn it_ends_when_it_is_told_to_and_all_is_durable() {
    let disk = FaultyDisk::new(1);
    let (store, writer) = Writer::open(Box::new(disk.open()), Options::default(), || ()).unwrap();
    store.submit(transaction([queued("x", &[1]), session(1)], false), |_| ());
    store.stop();
    writer.run().unwrap();
    disk.cut(Cut::Power);
    let mut bench = Bench::on(disk, Options::default());
    assert_eq!(bench.texts(1), ["x"]);
}
