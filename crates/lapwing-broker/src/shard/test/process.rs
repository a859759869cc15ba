//! A broker's process, which ends while its disk stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use lapwing_proto::session::Instant;
use lapwing_store::engine::{Cut, Engine, FaultyDisk, Space};
use lapwing_store::{Options, Sequence, Writer};

use super::broker::{Broker, World};
use crate::clock::WallClock;
use crate::explanation::Explain;
use crate::hook::Hooks;
use crate::limit::Limits;
use crate::mail::Mail;
use crate::mailbox::{MailboxSender, mailbox};
use crate::memory::Memory;
use crate::remnant;
use crate::rule::Rules;
use crate::shard::Shard;
use crate::sharding::Sharding;
use crate::shared::{Shared, Stored};

/// What every process of a broker begins with.
pub(super) struct Plan {
    pub(super) shards: usize,
    pub(super) limits: Limits,
    /// How much memory there is, if it has an end, and how much of it is used.
    pub(super) memory: Option<usize>,
    pub(super) used: Arc<AtomicUsize>,
    pub(super) explain: Explain,
    pub(super) hooks: Hooks,
    pub(super) rules: Rules,
    pub(super) disk: Option<FaultyDisk>,
    /// Bytes that are free on the disk; 0 for no end of them.
    pub(super) free_bytes: Arc<AtomicU64>,
}

/// What ends with it.
pub(super) struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Vec<Shard>,
    pub(super) writer: Option<Writer>,
}

/// Bytes that must be free.
const FREE_BYTES_MINIMUM: u64 = 1000;

impl Plan {
    /// What the disk has kept.
    pub(super) fn engine(&self) -> Option<Box<dyn Engine>> {
        self.disk.as_ref().map(|disk| Box::new(disk.open()) as Box<dyn Engine>)
    }

    fn options(&self) -> Options {
        let free_bytes = Arc::clone(&self.free_bytes);
        let read = move || match free_bytes.load(Ordering::Relaxed) {
            0 => Ok(u64::MAX),
            free => Ok(free),
        };
        Options {
            free_bytes_minimum: FREE_BYTES_MINIMUM,
            free_bytes: Box::new(read),
            free_bytes_interval: Duration::ZERO,
            ..Options::default()
        }
    }

    fn memory(&self) -> Option<Memory> {
        let used = Arc::clone(&self.used);
        let used = move || used.load(Ordering::Relaxed);
        self.memory.map(|maximum| Memory { maximum, used: Box::new(used) })
    }

    pub(super) fn share(&self, mailboxes: Vec<MailboxSender>, stored: Stored) -> Arc<Shared> {
        // Sessions go round, so that every test has some on each shard.
        let sharding = Sharding { count: self.shards, neighbours: 0 };
        let rules = self.rules.clone().compile().unwrap();
        let (terms, hooks) = ((self.limits.clone(), self.memory(), self.explain.clone()), self.hooks.clone());
        Arc::new(Shared::new(terms, &Default::default(), rules, hooks, &sharding, mailboxes, stored))
    }

    pub(super) fn start(&self, engine: Option<Box<dyn Engine>>, now: Instant, clock: WallClock) -> Process {
        let (senders, mailboxes): (Vec<_>, Vec<_>) = (0..self.shards).map(|_| mailbox(None)).unzip();
        let on_room = {
            let senders = senders.clone();
            move || senders.iter().for_each(|sender| sender.send(Mail::Room))
        };
        let opened = engine.map(|engine| Writer::open(engine, self.options(), on_room).unwrap());
        let (store, writer) = opened.unzip();
        let first = writer.as_ref().map_or(Sequence(0), |writer| writer.recovered().next_sequence());
        let stored = Stored::new(self.shards, store, first);
        stored.set_wall_clock(clock);
        let shared = self.share(senders, stored);
        let shard = |(id, mailbox)| Shard::new(id, Arc::clone(&shared), mailbox);
        let mut shards: Vec<_> = shared.shards().zip(mailboxes).map(shard).collect();
        if let Some(writer) = &writer {
            restore(writer, &shared, &mut shards, now);
        }
        Process { shared, shards, writer }
    }
}

/// Gives the shards what an earlier process has stored.
fn restore(writer: &Writer, shared: &Arc<Shared>, shards: &mut [Shard], now: Instant) {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        shards.iter().map(|_| std::sync::mpsc::sync_channel(100_000)).unzip();
    remnant::share_out(&writer.recovered(), shared, &senders, now).unwrap();
    drop(senders);
    for (shard, receiver) in shards.iter_mut().zip(receivers) {
        shard.restore(receiver.into_iter().flatten(), now);
    }
}

impl Broker {
    /// A broker with a disk that stays.
    pub(super) fn durable() -> Self {
        Self::durable_with(|_| ())
    }

    pub(super) fn durable_with(set: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|setup| {
            setup.disk = Some(FaultyDisk::new(7));
            set(&mut setup.limits);
        })
    }

    pub(super) fn disk(&self) -> FaultyDisk {
        self.world().plan.disk.clone().unwrap()
    }

    /// How many keys there are in a part of the store.
    pub(super) fn stored(&self, space: Space) -> usize {
        self.disk().len(space)
    }

    /// The process ends, or the power, and the next process begins with what the disk has kept.
    pub(super) fn restart(&self, cut: Cut) {
        self.restart_after(cut, 0);
    }

    /// The same, with so many seconds in between by the clock of the machine, which may be set back meanwhile.
    pub(super) fn restart_after(&self, cut: Cut, seconds: i64) {
        self.world().restart(cut, seconds);
        self.settle();
    }

    /// The store does nothing from here on.
    pub(super) fn hold_store(&self) {
        self.world().is_held = true;
    }

    /// The store goes on.
    pub(super) fn release_store(&self) {
        self.world().is_held = false;
        self.settle();
    }

    /// The store has a turn, and all that follows from it is done.
    pub(super) fn store_turn(&self) {
        self.world().store_turn();
        self.settle();
    }

    /// The store does all that it does at leisure.
    pub(super) fn tidy_store(&self) {
        let mut world = self.world();
        for round in 0.. {
            assert!(round < 10_000, "the store never comes to rest");
            world.settle();
            let Some(writer) = world.writer.as_mut().filter(|writer| writer.has_leisure_work()) else {
                break;
            };
            writer.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    /// Nothing is left on the disk of sessions and messages that wait for them.
    pub(super) fn expect_no_remains(&self) {
        self.tidy_store();
        for space in [Space::Session, Space::Subscription, Space::Queue, Space::Message, Space::Flow] {
            assert_eq!(self.stored(space), 0, "in the space {}", space.name());
        }
    }

    /// So many bytes are free on the disk from here on, which the store has noticed.
    pub(super) fn set_free_bytes(&self, bytes: u64) {
        let mut world = self.world();
        world.plan.free_bytes.store(bytes, Ordering::Relaxed);
        if let Some(writer) = &mut world.writer {
            writer.turn(Some(Duration::ZERO)).unwrap();
        }
        world.settle();
    }
}

impl World {
    pub(super) fn restart(&mut self, cut: Cut, seconds: i64) {
        let wall_ms = self.clock.wall(self.now).0.checked_add_signed(seconds * 1000).unwrap();
        for wire in self.wires.values_mut() {
            wire.is_closed = true;
            wire.connection = None;
            wire.unread.clear();
        }
        self.wire_by_connection.clear();
        self.under_way.iter_mut().for_each(std::collections::VecDeque::clear);
        self.writer = None;
        if let Some(disk) = &self.plan.disk {
            disk.cut(cut);
        }
        // The clock of each process begins anew.
        self.now = Instant::from_millis(3_000);
        self.clock = WallClock { ahead_ms: wall_ms - 3_000 };
        let Process { shared, shards, writer } = self.plan.start(self.plan.engine(), self.now, self.clock);
        (self.shared, self.shards, self.writer) = (shared, shards, writer);
    }
}
