//! What was presented and found right or wrong a short while ago, so that a storm of clients that come again costs little.

use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use hashbrown::HashMap;

/// Names what was presented, to this process alone: nobody can tell from it what it was, nor find something else with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

/// Verdicts by what was presented. Passwords are not in it.
pub(super) struct Cache<V> {
    key: hmac::Key,
    halves: Mutex<Halves<Digest, (V, Instant)>>,
}

/// At most so many entries. `new` becomes `old` when it is half of them, and what is found in `old` goes back to `new`.
struct Halves<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
    maximum: usize,
}

impl<V: Clone> Cache<V> {
    /// With room for so many; 0 for none. `None` if there is no randomness.
    pub(super) fn new(maximum: usize) -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let halves = Halves { new: HashMap::new(), old: HashMap::new(), maximum };
        Some(Self { key, halves: Mutex::new(halves) })
    }

    /// Names what was presented. Each part is told from the next by its length.
    pub(super) fn digest(&self, parts: &[Option<&[u8]>]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            context.update(&length.to_le_bytes());
            context.update(part.unwrap_or_default());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        Digest(digest)
    }

    /// What was found, if that still holds.
    pub(super) fn get(&self, digest: &Digest, now: Instant) -> Option<V> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, until) = halves.get(digest)?;
        (now < until).then_some(verdict)
    }

    /// Keeps what was found until then.
    pub(super) fn put(&self, digest: Digest, verdict: V, until: Instant) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.put(digest, (verdict, until));
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Halves<K, V> {
    fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.new.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    fn put(&mut self, key: K, value: V) {
        if self.maximum < 2 {
            return;
        }
        if self.new.len() >= self.maximum / 2 && !self.new.contains_key(&key) {
            self.old = std::mem::take(&mut self.new);
        }
        self.old.remove(&key);
        self.new.insert(key, value);
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_the_same_has_another_digest() {
        let cache = Cache::<u32>::new(10).unwrap();
        let presented: [&[Option<&[u8]>]; 7] = [
            &[Some(b"anna"), Some(b"secret")],
            &[Some(b"annas"), Some(b"ecret")],
            &[Some(b"anna"), None],
            &[Some(b"anna"), Some(b"")],
            &[None, Some(b"anna")],
            &[Some(b"anna")],
            &[],
        ];
        for (index, one) in presented.iter().enumerate() {
            for (other_index, other) in presented.iter().enumerate() {
                assert_eq!(cache.digest(one) == cache.digest(other), index == other_index);
            }
            assert_ne!(cache.digest(one), Cache::<u32>::new(10).unwrap().digest(one), "the key is its own");
        }
    }

    #[test]
    fn a_verdict_holds_for_its_time() {
        let (cache, now) = (Cache::new(10).unwrap(), Instant::now());
        let digest = cache.digest(&[Some(b"x")]);
        assert_eq!(cache.get(&digest, now), None);
        cache.put(digest, 1, now + Duration::from_secs(1));
        assert_eq!(cache.get(&digest, now), Some(1));
        assert_eq!(cache.get(&digest, now + Duration::from_secs(1)), None);
    }

    // [attack: password-storm]
    #[test]
    fn it_keeps_what_is_asked_for_and_never_more_than_its_maximum() {
        let (cache, now) = (Cache::new(10).unwrap(), Instant::now());
        let until = now + Duration::from_secs(1);
        let digest = |n: u32| cache.digest(&[Some(&n.to_le_bytes())]);
        cache.put(digest(0), 0, until);
        for n in 1..1000 {
            cache.put(digest(n), n, until);
            assert_eq!(cache.get(&digest(0), now), Some(0), "{n}");
            let halves = cache.halves.lock().unwrap();
            assert!(halves.new.len() + halves.old.len() <= 10);
        }
        assert_eq!(cache.get(&digest(1), now), None);
        let none = Cache::new(0).unwrap();
        none.put(digest(0), 0, until);
        assert_eq!(none.get(&digest(0), now), None);
    }
}
