//! The writer, with a disk that fails and loses power.

mod archive;
mod backup;
mod check;
pub(crate) mod format;
mod key;
mod order;
mod purge;
mod space;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::engine::{Cut, FaultyDisk, Space};
use crate::{
    Change, FlowKey, FlowState, KeyRecord, Options, Place, QueueCount, QueueRead, QueueRequest, QueueTarget,
    QueuedMessage, Sequence, SessionNumber, SessionRecord, Store, StoredFlows, Transaction, Writer,
};

/// A store on a disk that outlives it.
struct Bench {
    disk: FaultyDisk,
    store: Store,
    writer: Writer,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self::on(FaultyDisk::new(seed), Options::default())
    }

    fn with_memory(memory_bytes: usize) -> Self {
        Self::on(FaultyDisk::new(1), Options { memory_bytes, ..Options::default() })
    }

    fn on(disk: FaultyDisk, options: Options) -> Self {
        let (store, writer) = Writer::open(Box::new(disk.open()), options, || ()).unwrap();
        Self { disk, store, writer }
    }

    fn restart(self, cut: Cut) -> Self {
        self.disk.cut(cut);
        Self::on(self.disk.clone(), Options::default())
    }

    /// Submits changes, and has them made.
    fn make(&mut self, changes: impl IntoIterator<Item = Change>) -> Sequence {
        let place = self.submit(changes);
        self.turn();
        let place = place.lock().unwrap();
        place.expect("it was not told")
    }

    /// Submits changes that somebody waits for. Gives where it is told.
    fn submit(&self, changes: impl IntoIterator<Item = Change>) -> Arc<Mutex<Option<Sequence>>> {
        let told = Arc::new(Mutex::new(None));
        let telling = Arc::clone(&told);
        self.store.submit(transaction(changes, true), move |first| *telling.lock().unwrap() = Some(first));
        told
    }

    fn turn(&mut self) {
        self.writer.turn(Some(Duration::ZERO)).unwrap();
    }

    /// Does all that is done at leisure.
    fn tidy(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never comes to rest");
            if !self.writer.has_leisure_work() {
                break;
            }
            self.turn();
        }
    }

    fn read(&mut self, session: u64, after: Sequence) -> QueueRead {
        let request = QueueRequest { session: SessionNumber(session), after, messages: 1000, bytes: 1 << 20 };
        self.ask(|store, then| store.read(request, then))
    }

    fn flows(&mut self, session: u64) -> StoredFlows {
        self.ask(|store, then| store.read_flows(SessionNumber(session), then))
    }

    fn count(&mut self, session: u64) -> QueueCount {
        self.ask(|store, then| store.count(SessionNumber(session), then))
    }

    fn ask<T: Send + 'static>(&mut self, ask: impl FnOnce(&Store, Box<dyn FnOnce(T) + Send>)) -> T {
        let answer = Arc::new(Mutex::new(None));
        let answering = Arc::clone(&answer);
        ask(&self.store, Box::new(move |found| *answering.lock().unwrap() = Some(found)));
        self.turn();
        let found = answer.lock().unwrap().take();
        found.expect("it was not told")
    }

    /// The messages that wait for a session, as text.
    fn texts(&mut self, session: u64) -> Vec<String> {
        let read = self.read(session, Sequence(0));
        read.deliveries.iter().map(|it| String::from_utf8_lossy(&it.message).into_owned()).collect()
    }

    fn len(&self, space: Space) -> usize {
        self.disk.len(space)
    }
}

fn transaction(changes: impl IntoIterator<Item = Change>, is_awaited: bool) -> Transaction {
    let mut transaction = Transaction::default();
    changes.into_iter().for_each(|change| transaction.push(change));
    if is_awaited {
        transaction.set_awaited();
    }
    transaction
}

fn session(number: u64) -> Change {
    let record = SessionRecord {
        key: KeyRecord::ClientId(format!("client_{number}")),
        expiry_interval_s: u32::MAX,
        expires: None,
        will: None,
        cursor: Sequence(0),
    };
    Change::Session(SessionNumber(number), Box::new(record))
}

fn target(session: u64) -> QueueTarget {
    QueueTarget {
        session: SessionNumber(session),
        qos: 1,
        retain_as_published: false,
        identifiers: Box::default(),
        share: None,
    }
}

fn queued(text: &str, sessions: &[u64]) -> Change {
    Change::Queued(QueuedMessage {
        message: text.as_bytes().into(),
        qos: 2,
        retain: true,
        targets: sessions.iter().map(|&number| target(number)).collect(),
    })
}

fn settled(session: u64, place: Place) -> Change {
    Change::Settled(SessionNumber(session), place)
}

fn flow(session: u64, flow: FlowKey, state: Option<FlowState>) -> Change {
    Change::Flow(SessionNumber(session), flow, state)
}
