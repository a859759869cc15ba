//! Sessions that take no more messages, where publishers are to be told so.

use std::collections::HashSet;
use std::sync::PoisonError;

use crate::shard::SessionId;
use crate::sync::{AtomicUsize, Ordering, RwLock};

/// The sessions whose queues are full, whatever shard they are on.
#[derive(Debug, Default)]
pub(crate) struct FullQueues {
    /// How many there are, so that as long as there is none nobody looks for one.
    count: AtomicUsize,
    sessions: RwLock<HashSet<SessionId>>,
}

impl FullQueues {
    /// A session's queue has become full, or is not full any more.
    pub(crate) fn set(&self, session: SessionId, is_full: bool) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if is_full {
            sessions.insert(session);
        } else {
            sessions.remove(&session);
        }
        self.count.store(sessions.len(), Ordering::Release);
    }

    /// Whether no queue is full.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).contains(&session)
    }
}
