//! How much memory the process may take, and how much it takes.

use std::alloc::System;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use anyhow::bail;
use bytesize::ByteSize;
use cap::Cap;

use crate::config::Config;

/// Counts what is taken from the heap. It refuses nothing: a process without memory would end at once.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// With less nothing useful can be done.
const MINIMUM: ByteSize = ByteSize::mib(64);
/// What the store and the records for `explain` get of it at most.
const STORE_PART: u64 = 4;
const STORE_MINIMUM: u64 = 8 * 1024 * 1024;
const EXPLAIN_PART: u64 = 32;

/// How much memory the broker may take in all; `None` where there is no end to it, or none that is known.
pub(crate) fn maximum(config: &Config) -> Option<u64> {
    match config.memory {
        Some(ByteSize(0)) => None,
        Some(ByteSize(bytes)) => Some(bytes),
        None => available().map(|bytes| bytes / 4 * 3),
    }
}

/// Whether so much can be.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    match config.memory {
        Some(memory) if memory < MINIMUM && memory != ByteSize(0) => {
            bail!("memory must be at least {MINIMUM}, or 0 for as much as there is; it is {memory}")
        }
        _ => Ok(()),
    }
}

/// The configuration with nothing in it that would take too much of the memory from the start.
pub(crate) fn fit(mut config: Config) -> Config {
    if let Some(maximum) = maximum(&config) {
        let store = (maximum / STORE_PART).max(STORE_MINIMUM);
        config.store.memory_bytes = config.store.memory_bytes.min(store);
        let explain = usize::try_from(maximum / EXPLAIN_PART).unwrap_or(usize::MAX);
        config.explain.memory_bytes = config.explain.memory_bytes.min(explain);
    }
    config
}

/// What a broker is told.
pub(crate) fn budget(config: &Config) -> Option<lapwing_broker::Memory> {
    let maximum = usize::try_from(maximum(config)?).ok()?;
    let meter = Arc::new(Meter::new());
    let used = {
        let meter = Arc::clone(&meter);
        move || meter.used(heap())
    };
    METER.get_or_init(|| meter);
    Some(lapwing_broker::Memory { maximum, used: Box::new(used) })
}

/// Looks at what the system counts, to be called every now and then.
pub(crate) fn observe() {
    if let (Some(meter), Some(resident)) = (METER.get(), resident()) {
        meter.observe(heap(), resident);
    }
}

static METER: OnceLock<Arc<Meter>> = OnceLock::new();

/// From what was taken from the heap to what the system counts, which is more: each block has something beside it, and what is
/// given back leaves holes. How much more is seen when there was never as much before; later on the holes are filled first.
#[derive(Debug)]
struct Meter {
    /// The program itself, its threads and what the allocator began with.
    beside: usize,
    /// The most that was taken when somebody looked.
    peak: AtomicUsize,
    /// What the system counted for a thousand bytes then.
    per_thousand: AtomicUsize,
}

/// With less on the heap it is not to be seen what each byte costs.
const PEAK_MINIMUM: usize = 16 * 1024 * 1024;

impl Meter {
    fn new() -> Self {
        let beside = resident().unwrap_or(0).saturating_sub(heap());
        Self { beside, peak: AtomicUsize::new(PEAK_MINIMUM), per_thousand: AtomicUsize::new(1000) }
    }

    fn used(&self, heap: usize) -> usize {
        self.beside + heap / 1000 * self.per_thousand.load(Relaxed)
    }

    fn observe(&self, heap: usize, resident: usize) {
        if heap > self.peak.fetch_max(heap, Relaxed) {
            let per_thousand = resident.saturating_sub(self.beside) / (heap / 1000);
            // Less means blocks that nobody has written to yet.
            self.per_thousand.store(per_thousand.max(1000), Relaxed);
        }
    }
}

fn heap() -> usize {
    usize::MAX - HEAP.remaining()
}

/// Bytes of this process that are in memory.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

/// Bytes that the machine has, or the control groups of this process where that is less.
fn available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_maximum(Path::new("/sys/fs/cgroup"), &groups);
    machine.into_iter().chain(group).min()
}

/// From the lines of `/proc/meminfo`, which count in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The least that one of the groups of a process allows, which `/proc/self/cgroup` names: those of version 2 have one path for everything,
/// those of version 1 one for each controller.
fn group_maximum(root: &Path, groups: &str) -> Option<u64> {
    let limit = |(folder, file, path): (&Path, &str, &str)| {
        // Inside a container its own group may be the root.
        let own = folder.join(path.trim_start_matches('/'));
        let all = own.ancestors().take_while(|group| group.starts_with(folder));
        let read = |group: &Path| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        all.filter_map(read).min()
    };
    let first = root.join("memory");
    let place = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => limit((root, "memory.max", path)),
            _ if controllers.split(',').any(|it| it == "memory") => {
                limit((&first, "memory.limit_in_bytes", path))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(place).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(memory: Option<ByteSize>) -> Config {
        Config { memory, ..Config::default() }
    }

    #[test]
    fn the_heap_is_counted() {
        let before = heap();
        let block = vec![1_u8; 50_000_000];
        assert!(heap() - before >= 49_000_000, "{before}");
        drop(block);
        assert!(heap() < before + 25_000_000);
        assert!(resident().unwrap() > 100_000);
    }

    #[test]
    fn what_a_byte_costs_is_seen_when_there_is_most() {
        const MIB: usize = 1024 * 1024;
        let meter = Meter { beside: 10 * MIB, ..Meter::new() };
        meter.observe(MIB, 100 * MIB);
        assert_eq!(meter.used(20_000), 10 * MIB + 20_000, "there was too little to say");
        meter.observe(100 * MIB, 130 * MIB);
        assert_eq!(meter.used(100_000), 10 * MIB + 120_000);
        // What is given back leaves holes, which says nothing about what comes.
        meter.observe(20 * MIB, 130 * MIB);
        assert_eq!(meter.used(100_000), 10 * MIB + 120_000);
        meter.observe(200 * MIB, 110 * MIB);
        assert_eq!(meter.used(100_000), 10 * MIB + 100_000);
    }

    #[test]
    fn what_is_configured_holds_and_small_memory_makes_the_store_small() {
        assert_eq!(maximum(&config(Some(ByteSize(0)))), None);
        assert_eq!(maximum(&config(Some(ByteSize::mib(64)))), Some(64 * 1024 * 1024));
        assert!(maximum(&config(None)).unwrap() > 64 * 1024 * 1024);
        let small = fit(config(Some(ByteSize::mib(64))));
        assert_eq!((small.store.memory_bytes, small.explain.memory_bytes), (16 << 20, 2 << 20));
        let default = Config::default();
        assert_eq!(fit(config(Some(ByteSize::gib(8)))).store, default.store);
        assert!(check(&config(Some(ByteSize::mib(63)))).is_err());
        assert!(check(&config(Some(ByteSize::mib(64)))).and(check(&config(Some(ByteSize(0))))).is_ok());
    }

    #[test]
    fn the_least_of_all_groups_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = |groups| group_maximum(root.path(), groups);
        assert_eq!(found("0::/system.slice/lapwing.service\n"), None);
        write("system.slice/memory.max", "max\n");
        assert_eq!(found("0::/system.slice/lapwing.service\n"), None);
        write("system.slice/lapwing.service/memory.max", "1000\n");
        write("memory.max", "3000\n");
        assert_eq!(found("0::/system.slice/lapwing.service\n"), Some(1000));
        assert_eq!(found("0::/other\n"), Some(3000));
        write("memory/docker/memory.limit_in_bytes", "500\n");
        assert_eq!(found("5:cpu,cpuacct:/docker\n4:memory:/docker\n"), Some(500));
        assert_eq!(total("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
    }
}
