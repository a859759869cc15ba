//! A disk that fails and loses power when a test wants it.

use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Durability, Engine, EngineError, KeyRange, MemoryEngine, Snapshot, Space, Visit, WriteBatch};

/// A disk in memory. It outlives the engines that write to it, as a disk outlives processes.
#[derive(Debug, Clone)]
pub struct FaultyDisk(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    /// What would survive a loss of power.
    durable: MemoryEngine,
    /// What has been written since, in order.
    pending: Vec<WriteBatch>,
    /// How many of these the operating system has.
    with_system: usize,
    /// `durable` with all that is pending.
    current: Arc<MemoryEngine>,
    /// Writes and syncs until one fails, and how.
    fault: Option<(u64, Fault)>,
    /// Which of the engines may write. The others' processes have ended.
    engine: u64,
    failed: bool,
    random: u64,
}

/// How a write or sync fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full.
    StorageFull,
    /// The device has an error.
    InputOutput,
}

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The process. What the operating system has stays.
    Process,
    /// The power. What was synced stays.
    Power,
}

/// Writes to a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyEngine {
    disk: FaultyDisk,
    number: u64,
}

impl FaultyDisk {
    /// An empty disk. The same seed and the same calls give the same disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            durable: MemoryEngine::default(),
            pending: Vec::new(),
            with_system: 0,
            current: Arc::default(),
            fault: None,
            engine: 0,
            failed: false,
            random: seed,
        })))
    }

    /// An engine for what is on the disk, as after a crash. The one before has come to its end with its process: each call of it
    /// fails.
    pub fn open(&self) -> FaultyEngine {
        let mut disk = self.lock();
        disk.engine += 1;
        disk.failed = false;
        FaultyEngine { disk: self.clone(), number: disk.engine }
    }

    /// Ends the process, or the power: of the batches that are not safe from that, the disk keeps the first few, all or none.
    pub fn cut(&self, cut: Cut) {
        let mut disk = self.lock();
        let safe = if cut == Cut::Process { disk.with_system } else { 0 };
        let uncertain = disk.pending.len() - safe;
        let kept = safe + disk.below(uncertain + 1);
        disk.pending.truncate(kept);
        disk.settle();
        disk.current = Arc::new(disk.durable.clone());
        disk.engine += 1;
        disk.fault = None;
    }

    /// Lets a write or sync fail after `calls` more that do not.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        self.lock().fault = Some((calls, fault));
    }

    /// How many keys there are in a space now, durable or not.
    pub fn len(&self, space: Space) -> usize {
        let mut count = 0;
        let current = Arc::clone(&self.lock().current);
        // It is in memory, where reading does not fail.
        let _ = current.scan(space, (Bound::Unbounded, Bound::Unbounded), &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        count
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// All that is pending is durable from now on.
    fn settle(&mut self) {
        for batch in self.pending.drain(..) {
            self.durable.apply(&batch);
        }
        self.with_system = 0;
    }

    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    /// Fails when its time has come.
    fn step(&mut self, what: &str) -> Result<(), EngineError> {
        match &mut self.fault {
            None => Ok(()),
            Some((0, fault)) => {
                let source = match fault {
                    Fault::StorageFull => io::ErrorKind::StorageFull.into(),
                    Fault::InputOutput => io::Error::other("input/output error"),
                };
                self.failed = true;
                self.fault = None;
                Err(EngineError::Io { what: what.to_owned(), source })
            }
            Some((calls, _)) => {
                *calls -= 1;
                Ok(())
            }
        }
    }
}

impl FaultyEngine {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, EngineError> {
        let disk = self.disk.lock();
        if disk.failed || disk.engine != self.number { Err(EngineError::Failed) } else { Ok(disk) }
    }
}

impl Engine for FaultyEngine {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut disk = self.disk()?;
        // What a failed write has written nobody knows, so the batch may be there after a crash.
        disk.pending.push(batch.clone());
        disk.step("writing to the disk")?;
        Arc::make_mut(&mut disk.current).apply(batch);
        Ok(())
    }

    fn sync(&mut self, durability: Durability) -> Result<(), EngineError> {
        let mut disk = self.disk()?;
        disk.step("syncing the disk")?;
        match durability {
            Durability::Fsync => disk.settle(),
            Durability::Os => disk.with_system = disk.pending.len(),
        }
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.disk()?.current.get(space, key)
    }

    fn scan(&self, space: Space, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        // `visit` may look at the disk too, so the lock is not held meanwhile.
        let current = Arc::clone(&self.disk()?.current);
        current.scan(space, range, visit)
    }

    fn last_key(&self, space: Space) -> Result<Option<Vec<u8>>, EngineError> {
        self.disk()?.current.last_key(space)
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.disk()?.current.bytes())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.disk()?.current.snapshot()
    }
}
