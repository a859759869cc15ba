//! How much a store has of what.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Bound, ControlFlow};

use hashbrown::HashMap;

use crate::check::shown;
use crate::engine::{Engine, EngineError, KeyRange, Space};
use crate::key;
use crate::message;
use crate::queue::QueueCount;
use crate::record::{DelayedRecord, FlowKey, KeyRecord, RetainedRecord, SessionNumber, SessionRecord};
use crate::value::{self, QueueEntry};

/// What there is. Bytes are those of messages as they are kept: topic, properties and payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    /// Sessions.
    pub sessions: u64,
    /// Sessions that are over, and of which something is still to be removed or passed on.
    pub sessions_over: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// What waits for sessions. A message that waits for several counts for each.
    pub queued: QueueCount,
    /// Messages that wait for several sessions and are stored once.
    pub shared: QueueCount,
    /// Retained messages.
    pub retained: QueueCount,
    /// Messages that are published later.
    pub delayed: QueueCount,
    /// QoS 2 messages from clients, received and not released.
    pub flows_inbound: u64,
    /// QoS 2 messages to clients, sent and not completed.
    pub flows_outbound: u64,
    /// Entries that cannot be read. `lapwing store check` names them.
    pub unreadable: u64,
    /// The sessions for which the most bytes wait, the first of all first.
    pub top: Vec<SessionStat>,
}

/// What waits for one session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionStat {
    /// Bytes of messages.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Its number.
    pub session: u64,
    /// Its client identifier, or the key that the authenticator gave; `None` where there is no such session.
    pub name: Option<String>,
}

const EVERYTHING: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

impl Stat {
    /// Counts what an engine has; of the sessions for which messages wait the first `top`.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn read(engine: &dyn Engine, top: usize) -> Result<Self, EngineError> {
        let mut stat = Self::default();
        stat.read_sessions(engine)?;
        stat.read_messages(engine)?;
        let mut queues = Queues { top, largest: BinaryHeap::new(), current: None };
        each(engine, Space::Queue, |key, value| {
            let Some((session, _)) = key::parse_queue(key) else { return stat.unreadable += 1 };
            let Some((entry, _)) = value::read::<QueueEntry>(value) else { return stat.unreadable += 1 };
            add(&mut stat.queued, entry.size as usize);
            queues.add(session, entry.size);
        })?;
        stat.top = queues.finish();
        let names: HashMap<u64, usize> =
            stat.top.iter().enumerate().map(|(index, of)| (of.session, index)).collect();
        for (session, index) in names {
            let value = engine.get(Space::Session, &key::session(SessionNumber(session)))?;
            let record = value.as_deref().and_then(value::read_all::<SessionRecord>);
            stat.top[index].name = record.map(|record| match record.key {
                KeyRecord::ClientId(name)
                | KeyRecord::Identity(name)
                | KeyRecord::Owned { client_id: name, .. } => shown(&name),
            });
        }
        Ok(stat)
    }

    fn read_sessions(&mut self, engine: &dyn Engine) -> Result<(), EngineError> {
        each(engine, Space::Session, |_, value| match value::read_all::<SessionRecord>(value) {
            Some(_) => self.sessions += 1,
            None => self.unreadable += 1,
        })?;
        each(engine, Space::Meta, |key, _| {
            self.sessions_over += u64::from(key::parse_ended(key).or(key::parse_closed(key)).is_some());
        })?;
        each(engine, Space::Subscription, |key, _| match key::parse_subscription(key) {
            Some(_) => self.subscriptions += 1,
            None => self.unreadable += 1,
        })?;
        each(engine, Space::Flow, |key, _| match key::parse_flow(key) {
            Some((_, FlowKey::Inbound(_))) => self.flows_inbound += 1,
            Some((_, FlowKey::Outbound(_))) => self.flows_outbound += 1,
            None => self.unreadable += 1,
        })
    }

    fn read_messages(&mut self, engine: &dyn Engine) -> Result<(), EngineError> {
        each(engine, Space::Message, |_, value| match message::split(value) {
            Some((_, message)) => add(&mut self.shared, message.len()),
            None => self.unreadable += 1,
        })?;
        each(engine, Space::Retained, |_, value| match value::read_all::<RetainedRecord>(value) {
            Some(record) => add(&mut self.retained, record.message.len()),
            None => self.unreadable += 1,
        })?;
        each(engine, Space::Delayed, |_, value| match value::read_all::<DelayedRecord>(value) {
            Some(record) => add(&mut self.delayed, record.message.len()),
            None => self.unreadable += 1,
        })
    }
}

fn each(engine: &dyn Engine, space: Space, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
    engine.scan(space, EVERYTHING, &mut |key, value| {
        visit(key, value);
        ControlFlow::Continue(())
    })
}

fn add(count: &mut QueueCount, bytes: usize) {
    count.messages += 1;
    count.bytes += bytes as u64;
}

/// The largest queues, of which entries come one session after the other.
struct Queues {
    top: usize,
    /// The smallest of them first.
    largest: BinaryHeap<Reverse<SessionStat>>,
    current: Option<SessionStat>,
}

impl Queues {
    fn add(&mut self, session: SessionNumber, bytes: u32) {
        if self.current.as_ref().is_none_or(|current| current.session != session.0) {
            self.settle();
        }
        let none = || SessionStat { bytes: 0, messages: 0, session: session.0, name: None };
        let current = self.current.get_or_insert_with(none);
        current.messages += 1;
        current.bytes += u64::from(bytes);
    }

    fn settle(&mut self) {
        if let Some(current) = self.current.take() {
            self.largest.push(Reverse(current));
            if self.largest.len() > self.top {
                self.largest.pop();
            }
        }
    }

    fn finish(mut self) -> Vec<SessionStat> {
        self.settle();
        self.largest.into_sorted_vec().into_iter().map(|Reverse(stat)| stat).collect()
    }
}
