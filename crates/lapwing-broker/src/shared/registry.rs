//! Which shard has which session.

use std::hash::BuildHasher;
use std::sync::{MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::ShardId;
use crate::hash::HashBuilder;
use crate::shard::{SessionId, SessionKey};
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Finds sessions by their keys.
///
/// A session is where its first CONNECT was placed, until it ends. Each CONNECT under way to it, and the session
/// itself, hold a reference to the entry: so the key cannot be placed elsewhere while one of them is there.
pub(crate) struct Registry {
    parts: [Mutex<Part>; PARTS],
    hasher: HashBuilder,
    /// Entries, by shard.
    counts: Vec<AtomicUsize>,
    count: AtomicUsize,
    maximum: AtomicUsize,
}

/// So that a map which grows holds up few.
const PARTS: usize = 16;

type Part = HashMap<SessionKey, Entry>;

struct Entry {
    shard: ShardId,
    references: u32,
    session: Option<SessionId>,
}

/// There may be no more sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Registry {
    pub(super) fn new(shards: usize, maximum: usize) -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            hasher: HashBuilder::default(),
            counts: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            count: AtomicUsize::new(0),
            maximum: AtomicUsize::new(maximum),
        }
    }

    /// From now on there may be so many sessions. Those that there are stay.
    pub(crate) fn set_maximum(&self, maximum: usize) {
        self.maximum.store(maximum, Ordering::Relaxed);
    }

    /// The shard that a CONNECT goes to: that of its session, or for a new session the one that `choose` gives. It
    /// holds a reference that must be given back with [`release`](Self::release), or becomes that of a new session
    /// with [`bind`](Self::bind).
    pub(crate) fn place(
        &self,
        key: &SessionKey,
        choose: impl FnOnce() -> ShardId,
    ) -> Result<ShardId, TooMany> {
        let mut part = self.part(key);
        if let Some(entry) = part.get_mut(key) {
            entry.references += 1;
            return Ok(entry.shard);
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.maximum.load(Ordering::Relaxed) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(TooMany);
        }
        let shard = choose();
        self.counts[shard.index()].fetch_add(1, Ordering::Relaxed);
        part.insert(key.clone(), Entry { shard, references: 1, session: None });
        Ok(shard)
    }

    /// Gives a reference back: that of a CONNECT.
    pub(crate) fn release(&self, key: &SessionKey) {
        self.drop_reference(&mut self.part(key), key);
    }

    /// Makes `session` the one with this key; the CONNECT's reference is the session's from here on. Gives the one that
    /// was there before.
    pub(crate) fn bind(&self, key: &SessionKey, session: SessionId) -> Option<SessionId> {
        self.part(key).get_mut(key)?.session.replace(session)
    }

    /// The session with this key has ended.
    pub(crate) fn unbind(&self, key: &SessionKey) {
        let mut part = self.part(key);
        if let Some(entry) = part.get_mut(key) {
            entry.session = None;
            self.drop_reference(&mut part, key);
        }
    }

    /// The session with this key.
    pub(crate) fn session(&self, key: &SessionKey) -> Option<SessionId> {
        self.part(key).get(key)?.session
    }

    /// Where the session with this key is, or will be in a moment.
    pub(crate) fn shard(&self, key: &SessionKey) -> Option<ShardId> {
        self.part(key).get(key).map(|entry| entry.shard)
    }

    /// Sessions of a shard, with those whose CONNECT is on its way there.
    pub(crate) fn sessions_of(&self, shard: ShardId) -> usize {
        self.counts[shard.index()].load(Ordering::Relaxed)
    }

    fn drop_reference(&self, part: &mut Part, key: &SessionKey) {
        let Some(entry) = part.get_mut(key) else { return };
        entry.references -= 1;
        if entry.references == 0 {
            self.counts[entry.shard.index()].fetch_sub(1, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
            part.remove(key);
        }
    }

    fn part(&self, key: &SessionKey) -> MutexGuard<'_, Part> {
        let hash = self.hasher.hash_one(key);
        let part = &self.parts[(hash >> 32) as usize % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SessionKey {
        SessionKey::ClientId(text.into())
    }

    #[test]
    fn a_key_stays_where_it_is_while_anybody_holds_it() {
        let registry = Registry::new(3, 10);
        assert_eq!(registry.place(&key("a"), || ShardId(1)), Ok(ShardId(1)));
        // A second CONNECT before the first has made the session.
        assert_eq!(registry.place(&key("a"), || ShardId(2)), Ok(ShardId(1)));
        registry.release(&key("a"));
        assert_eq!(registry.shard(&key("a")), Some(ShardId(1)));
        assert_eq!(registry.sessions_of(ShardId(1)), 1);
        registry.release(&key("a"));
        assert_eq!(registry.shard(&key("a")), None);
        assert_eq!(registry.place(&key("a"), || ShardId(2)), Ok(ShardId(2)));
        assert_eq!((registry.sessions_of(ShardId(1)), registry.sessions_of(ShardId(2))), (0, 1));
    }

    #[test]
    fn a_session_that_ends_leaves_its_key_to_a_connect_under_way() {
        let registry = Registry::new(2, 10);
        let session = SessionId::new(ShardId(0), 7, 1, false);
        registry.place(&key("a"), || ShardId(0)).unwrap();
        registry.bind(&key("a"), session);
        assert_eq!(registry.session(&key("a")), Some(session));
        registry.place(&key("a"), || ShardId(1)).unwrap();
        registry.unbind(&key("a"));
        assert_eq!((registry.session(&key("a")), registry.shard(&key("a"))), (None, Some(ShardId(0))));
        registry.release(&key("a"));
        assert_eq!(registry.shard(&key("a")), None);
    }

    #[test]
    fn there_are_no_more_sessions_than_allowed() {
        let registry = Registry::new(1, 2);
        let place = |text| registry.place(&key(text), || ShardId(0));
        assert_eq!((place("a"), place("b"), place("c")), (Ok(ShardId(0)), Ok(ShardId(0)), Err(TooMany)));
        assert_eq!(place("a"), Ok(ShardId(0)));
        registry.release(&key("b"));
        assert_eq!(place("c"), Ok(ShardId(0)));
    }
}
