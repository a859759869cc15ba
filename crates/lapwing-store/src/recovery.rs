//! What is there when a store is opened.

use std::ops::{Bound, ControlFlow};

use crate::engine::{Engine, EngineError, Space};
use crate::key;
use crate::record::{
    DelayedRecord, RetainedRecord, Sequence, SessionNumber, SessionRecord, SubscriptionRecord,
};
use crate::value::{self, Counters};

/// What must be known of a store from the first moment on.
///
/// Messages that wait for sessions are not among that: they are read when their sessions are asked for.
pub struct Recovered<'a> {
    engine: &'a dyn Engine,
    next_sequence: Sequence,
}

const EVERYTHING: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

/// The numbers that an engine's data was left with, and the sessions that are over of which something is left.
pub(crate) fn counters(engine: &dyn Engine) -> Result<(Counters, Vec<SessionNumber>), EngineError> {
    let stored = engine.get(Space::Meta, key::COUNTERS)?;
    let mut counters = match stored.as_deref().map(value::read_all::<Counters>) {
        Some(Some(counters)) => counters,
        // With other numbers new messages would take the places of those there are.
        Some(None) => {
            let what = "the entry `counters` cannot be read".to_owned();
            return Err(EngineError::Corrupt { file: Space::Meta.name().into(), offset: 0, what });
        }
        None => Counters { sequence: 1, session: 1 },
    };
    // A number may have been given out and used just before the end.
    for space in [Space::Session, Space::Queue, Space::Flow] {
        let last = engine.last_key(space)?.as_deref().and_then(key::parse_session);
        counters.session = counters.session.max(last.map_or(1, |last| last.0 + 1));
    }
    let mut ended = Vec::new();
    engine.scan(Space::Meta, key::all_ended(), &mut |key, _| {
        ended.extend(key::parse_ended(key));
        ControlFlow::Continue(())
    })?;
    Ok((counters, ended))
}

impl<'a> Recovered<'a> {
    pub(crate) fn new(engine: &'a dyn Engine, next_sequence: Sequence) -> Self {
        Self { engine, next_sequence }
    }

    /// The place that the next message gets: all that are stored stand before it.
    pub fn next_sequence(&self) -> Sequence {
        self.next_sequence
    }

    /// Shows each session.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn sessions(&self, mut visit: impl FnMut(SessionNumber, SessionRecord)) -> Result<(), EngineError> {
        self.engine.scan(Space::Session, EVERYTHING, &mut |key, value| {
            match (key::parse_session(key), value::read_all(value)) {
                (Some(session), Some(record)) => visit(session, record),
                _ => unreadable(Space::Session, key),
            }
            ControlFlow::Continue(())
        })
    }

    /// Shows each session that is [closed](crate::Change::SessionClosed), and has not ended.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn closed(&self, mut visit: impl FnMut(SessionNumber)) -> Result<(), EngineError> {
        self.engine.scan(Space::Meta, key::all_closed(), &mut |key, _| {
            key::parse_closed(key).into_iter().for_each(&mut visit);
            ControlFlow::Continue(())
        })
    }

    /// Shows each subscription, those of one session together.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn subscriptions(
        &self,
        mut visit: impl FnMut(SessionNumber, &str, SubscriptionRecord),
    ) -> Result<(), EngineError> {
        self.engine.scan(Space::Subscription, EVERYTHING, &mut |key, value| {
            match (key::parse_subscription(key), value::read_all(value)) {
                (Some((session, filter)), Some(record)) => visit(session, filter, record),
                _ => unreadable(Space::Subscription, key),
            }
            ControlFlow::Continue(())
        })
    }

    /// Shows each retained message.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn retained(&self, mut visit: impl FnMut(&str, RetainedRecord)) -> Result<(), EngineError> {
        self.engine.scan(Space::Retained, EVERYTHING, &mut |key, value| {
            match (std::str::from_utf8(key), value::read_all(value)) {
                (Ok(topic), Some(record)) => visit(topic, record),
                _ => unreadable(Space::Retained, key),
            }
            ControlFlow::Continue(())
        })
    }

    /// Shows each message that is to be published later, in the order in which they came.
    ///
    /// # Errors
    /// An [`EngineError`] where the engine has one.
    pub fn delayed(&self, mut visit: impl FnMut(u64, DelayedRecord)) -> Result<(), EngineError> {
        self.engine.scan(Space::Delayed, EVERYTHING, &mut |key, value| {
            match (key::parse_delayed(key), value::read_all(value)) {
                (Some(number), Some(record)) => visit(number, record),
                _ => unreadable(Space::Delayed, key),
            }
            ControlFlow::Continue(())
        })
    }
}

/// It was written by a version that this one does not know, or by none: what can be read is used.
fn unreadable(space: Space, key: &[u8]) {
    tracing::error!(space = space.name(), key = %key.escape_ascii(), "an entry of the store cannot be read");
}
