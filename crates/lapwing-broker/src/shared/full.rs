//! Sessions that take no more messages, where publishers are to be told so.

use std::collections::HashMap;
use std::sync::PoisonError;

use crate::shard::SessionId;
use crate::sync::{AtomicBool, AtomicUsize, Ordering, RwLock};

/// The sessions whose queues are full, whatever shard they are on.
#[derive(Debug, Default)]
pub(crate) struct FullQueues {
    /// How many there are, so that as long as there is none nobody looks for one.
    count: AtomicUsize,
    /// Each with whether its shard has been asked to look at it, and has not.
    sessions: RwLock<HashMap<SessionId, AtomicBool>>,
}

impl FullQueues {
    /// A session's queue has become full, or is not full any more.
    pub(crate) fn set(&self, session: SessionId, is_full: bool) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if is_full {
            sessions.insert(session, AtomicBool::new(false));
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
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).contains_key(&session)
    }

    /// Whether a session's shard is to be asked to look at it: once, until it does.
    pub(crate) fn ask(&self, session: SessionId) -> bool {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&session).is_some_and(|is_asked| !is_asked.swap(true, Ordering::AcqRel))
    }

    /// The shard is about to look at it.
    pub(crate) fn note_look(&self, session: SessionId) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_asked) = sessions.get(&session) {
            is_asked.store(false, Ordering::Release);
        }
    }
}
