//! Messages that several sessions wait for: each is stored once, until the last of them has it.

use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::engine::{Engine, EngineError, Space, WriteBatch};
use crate::key;
use crate::record::{QueueTarget, Sequence, SessionNumber};

/// The messages that several sessions wait for.
///
/// How many still wait for one is known in memory for those that came lately. For the others, and after a start, the
/// stored message says who was to get it, and a [sweep](Self::sweep) looks whether it still waits for any of them.
#[derive(Debug)]
pub(crate) struct SharedMessages {
    /// For how many sessions a message waits.
    waiting: HashMap<Sequence, u32>,
    /// How many of these may be known.
    known_maximum: usize,
    cache: Cache,
    /// Whether a message may be of no use any more of which that is not known.
    needs_sweep: bool,
    /// How far a sweep has come.
    swept: Option<Sequence>,
}

/// Messages that were read lately: those who were away together read the same ones.
#[derive(Debug)]
struct Cache {
    messages: HashMap<Sequence, Arc<[u8]>>,
    order: VecDeque<Sequence>,
    bytes: usize,
    bytes_maximum: usize,
}

/// Messages looked at in a step of a sweep.
const SWEEP_STEP: usize = 128;
/// Sessions behind these messages, beside those of the last one.
const SWEEP_HOLDERS: usize = 4096;
/// Bytes that one known number takes, about.
const KNOWN_BYTES: usize = 24;

impl SharedMessages {
    /// With so much memory.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let cache = Cache {
            messages: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_maximum: memory_bytes / 2,
        };
        let known_maximum = memory_bytes / 2 / KNOWN_BYTES;
        Self { waiting: HashMap::new(), known_maximum, cache, needs_sweep: true, swept: None }
    }

    /// Stores a message for several sessions.
    pub(crate) fn add(
        &mut self,
        sequence: Sequence,
        message: &[u8],
        targets: &[QueueTarget],
        batch: &mut WriteBatch,
    ) {
        batch.insert(Space::Message, &key::sequence(sequence), |value| {
            value.extend_from_slice(&(targets.len() as u32).to_le_bytes());
            for target in targets {
                value.extend_from_slice(&target.session.0.to_le_bytes());
            }
            value.extend_from_slice(message);
        });
        if self.waiting.len() < self.known_maximum {
            self.waiting.insert(sequence, targets.len() as u32);
        }
    }

    /// A message waits for one session less: with the last one it is removed.
    pub(crate) fn settle(&mut self, sequence: Sequence, batch: &mut WriteBatch) {
        let Some(count) = self.waiting.get_mut(&sequence) else {
            self.needs_sweep = true;
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.waiting.remove(&sequence);
            batch.remove(Space::Message, &key::sequence(sequence));
        }
    }

    /// Reads a message.
    pub(crate) fn get(
        &mut self,
        engine: &dyn Engine,
        sequence: Sequence,
    ) -> Result<Option<Arc<[u8]>>, EngineError> {
        if let Some(message) = self.cache.messages.get(&sequence) {
            return Ok(Some(Arc::clone(message)));
        }
        let value = engine.get(Space::Message, &key::sequence(sequence))?;
        let message: Option<Arc<[u8]>> =
            value.as_deref().and_then(split).map(|(_, message)| Arc::from(message));
        if let Some(message) = &message {
            self.cache.add(sequence, message);
        }
        Ok(message)
    }

    /// Whether a sweep is wanted.
    pub(crate) fn needs_sweep(&self) -> bool {
        self.needs_sweep || self.swept.is_some()
    }

    /// Looks at some messages, and removes those that wait for nobody.
    pub(crate) fn sweep(&mut self, engine: &dyn Engine, batch: &mut WriteBatch) -> Result<(), EngineError> {
        if self.swept.is_none() {
            self.needs_sweep = false;
        }
        let (mut looked_at, mut holders_count, mut is_all) = (Vec::new(), 0, true);
        let after = self.swept.map(key::sequence);
        let first = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(&after[..]));
        engine.scan(Space::Message, (first, Bound::Unbounded), &mut |key, value| {
            let holders: Vec<_> = split(value).map_or(Vec::new(), |(holders, _)| holders.collect());
            holders_count += holders.len();
            looked_at.extend(key::parse_sequence(key).map(|sequence| (sequence, holders)));
            is_all = looked_at.len() < SWEEP_STEP && holders_count < SWEEP_HOLDERS;
            if is_all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.swept = looked_at.last().map(|&(sequence, _)| sequence).filter(|_| !is_all);
        for (sequence, holders) in looked_at {
            if !self.waiting.contains_key(&sequence) && !is_held(engine, sequence, holders)? {
                batch.remove(Space::Message, &key::sequence(sequence));
            }
        }
        Ok(())
    }
}

fn is_held(
    engine: &dyn Engine,
    sequence: Sequence,
    holders: Vec<SessionNumber>,
) -> Result<bool, EngineError> {
    for holder in holders {
        if engine.get(Space::Queue, &key::queue(holder, sequence))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who was to get a stored message, and the message.
pub(crate) fn split(value: &[u8]) -> Option<(impl Iterator<Item = SessionNumber>, &[u8])> {
    let (count, rest) = value.split_first_chunk()?;
    let (holders, message) = rest.split_at_checked(8 * u32::from_le_bytes(*count) as usize)?;
    let number = |bytes: &[u8]| SessionNumber(u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
    Some((holders.chunks_exact(8).map(number), message))
}

impl Cache {
    fn add(&mut self, sequence: Sequence, message: &Arc<[u8]>) {
        self.messages.insert(sequence, Arc::clone(message));
        self.order.push_back(sequence);
        self.bytes += message.len();
        while self.bytes > self.bytes_maximum {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(message) = self.messages.remove(&oldest) {
                self.bytes -= message.len();
            }
        }
    }
}
