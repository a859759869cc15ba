//! What a shard knows of a session that is stored, beside the session itself.

use lapwing_store::{QueueCount, Sequence, SessionNumber};

use super::ConnectionId;
use super::session::Session;

/// A session that outlives the process.
#[derive(Debug)]
pub(super) struct StoredSession {
    pub(super) number: SessionNumber,
    /// Whether its messages have not been looked at since the broker started.
    pub(super) is_dormant: bool,
    /// The last of its messages that came into memory. What does not wait there is done with, up to here.
    pub(super) seen: Sequence,
    /// The connection that waits until they have been looked at.
    pub(super) restoring: Option<ConnectionId>,
    spill: Option<Box<Spill>>,
}

/// Messages that wait for a session in the store only, behind those in memory.
#[derive(Debug, Default)]
pub(super) struct Spill {
    /// They stand behind this place.
    pub(super) after: Sequence,
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Whether some of them are being read.
    pub(super) is_reading: bool,
    /// How many of the first ones are to be dropped when they have been read.
    pub(super) surplus: usize,
    /// Those of them that are in flight, so that they are in memory all the same.
    pub(super) in_flight: Vec<Sequence>,
}

impl StoredSession {
    pub(super) fn new(number: SessionNumber) -> Self {
        Self { number, is_dormant: false, seen: Sequence(0), restoring: None, spill: None }
    }

    /// One that was stored by an earlier process.
    pub(super) fn dormant(number: SessionNumber, cursor: Sequence) -> Self {
        Self { is_dormant: true, seen: cursor, ..Self::new(number) }
    }
}

impl Spill {
    /// It is known how much waits.
    pub(super) fn note_count(&mut self, count: QueueCount) {
        self.messages = usize::try_from(count.messages).unwrap_or(usize::MAX);
        self.bytes = usize::try_from(count.bytes).unwrap_or(usize::MAX);
    }
}

impl Session {
    /// Its number in the store, if it is there.
    pub(super) fn number(&self) -> Option<SessionNumber> {
        self.stored.as_ref().map(|stored| stored.number)
    }

    /// Whether its messages have not been looked at since the broker started.
    pub(super) fn is_dormant(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.is_dormant)
    }

    /// What waits in the store only, if something does, or may.
    pub(super) fn spill(&self) -> Option<&Spill> {
        self.stored.as_ref()?.spill.as_deref()
    }

    pub(super) fn spill_mut(&mut self) -> Option<&mut Spill> {
        self.stored.as_mut()?.spill.as_deref_mut()
    }

    /// From here on messages behind `after` are left in the store.
    pub(super) fn begin_spill(&mut self, after: Sequence) -> Option<&mut Spill> {
        let spill = Box::new(Spill { after, ..Spill::default() });
        Some(&mut **self.stored.as_mut()?.spill.insert(spill))
    }

    /// All that was left in the store has been read.
    pub(super) fn end_spill(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.spill = None;
        }
    }

    /// A message has come into memory.
    pub(super) fn note_seen(&mut self, sequence: Sequence) {
        if let Some(stored) = &mut self.stored {
            stored.seen = stored.seen.max(sequence);
        }
    }

    /// The last place before which, and at which, nothing waits for the session.
    pub(super) fn cursor(&self) -> Sequence {
        let Some(stored) = &self.stored else { return Sequence(0) };
        let first =
            self.waiting().filter_map(|delivery| delivery.place).map(|place| place.get().sequence).min();
        let before = first.map_or(stored.seen, |first| Sequence(first.0 - 1));
        // What is in flight since before a restart stands among those that are in the store only.
        self.spill().map_or(before, |spill| before.min(spill.after))
    }
}
