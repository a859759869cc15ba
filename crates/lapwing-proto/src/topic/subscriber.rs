use std::hash::{BuildHasher, Hash};
use std::mem;

use hashbrown::HashTable;

/// The values stored under one filter, one for each key.
///
/// Nearly every filter has one subscriber, so that one costs no allocation of its own. A filter with many is
/// a list, quick to go through at each publish, and beyond [`INDEX_FROM`] keys an index into it, so that
/// subscribing and unsubscribing do not slow down with the number of subscribers.
#[derive(Debug, Clone, Default)]
pub(super) enum Subscribers<K, V> {
    #[default]
    None,
    One(K, V),
    Many(Box<List<K, V>>),
}

#[derive(Debug, Clone)]
pub(super) struct List<K, V> {
    items: Vec<(K, V)>,
    /// Positions in `items`, by the hash of the key. Empty while the list is short.
    index: HashTable<u32>,
}

const INDEX_FROM: usize = 16;
/// Lower than [`INDEX_FROM`], so that one subscriber coming and going does not rebuild the index each time.
const INDEX_UNTIL: usize = 8;

impl<K: Copy + Eq + Hash, V> Subscribers<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn get(&self, key: &K, hasher: &impl BuildHasher) -> Option<&V> {
        match self {
            Self::None => None,
            Self::One(own, value) => (own == key).then_some(value),
            Self::Many(list) => list.position(key, hasher).map(|at| &list.items[at].1),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V, hasher: &impl BuildHasher) -> Option<V> {
        match self {
            Self::None => {
                *self = Self::One(key, value);
                None
            }
            Self::One(own, old) if *own == key => Some(mem::replace(old, value)),
            Self::One(..) => {
                if let Self::One(own, old) = mem::take(self) {
                    let items = vec![(own, old), (key, value)];
                    *self = Self::Many(Box::new(List { items, index: HashTable::new() }));
                }
                None
            }
            Self::Many(list) => list.insert(key, value, hasher),
        }
    }

    pub(super) fn remove(&mut self, key: &K, hasher: &impl BuildHasher) -> Option<V> {
        match self {
            Self::One(own, _) if own == key => match mem::take(self) {
                Self::One(_, value) => Some(value),
                Self::None | Self::Many(_) => None,
            },
            Self::None | Self::One(..) => None,
            Self::Many(list) => {
                let value = list.remove(key, hasher)?;
                if let [_] = list.items[..]
                    && let Some((key, value)) = list.items.pop()
                {
                    *self = Self::One(key, value);
                }
                Some(value)
            }
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        match self {
            Self::None => {}
            Self::One(key, value) => visit(key, value),
            Self::Many(list) => list.items.iter().for_each(|(key, value)| visit(key, value)),
        }
    }
}

impl<K: Copy + Eq + Hash, V> List<K, V> {
    fn position(&self, key: &K, hasher: &impl BuildHasher) -> Option<usize> {
        if self.index.is_empty() {
            return self.items.iter().position(|(own, _)| own == key);
        }
        let found = self.index.find(hasher.hash_one(key), |&at| self.items[at as usize].0 == *key);
        found.map(|&at| at as usize)
    }

    fn insert(&mut self, key: K, value: V, hasher: &impl BuildHasher) -> Option<V> {
        if let Some(at) = self.position(&key, hasher) {
            return Some(mem::replace(&mut self.items[at].1, value));
        }
        self.items.push((key, value));
        if self.items.len() <= INDEX_FROM && self.index.is_empty() {
            return None;
        }
        for at in self.index.len()..self.items.len() {
            let rehash = |&at: &u32| hasher.hash_one(self.items[at as usize].0);
            self.index.insert_unique(hasher.hash_one(self.items[at].0), position_id(at), rehash);
        }
        None
    }

    fn remove(&mut self, key: &K, hasher: &impl BuildHasher) -> Option<V> {
        let at = self.position(key, hasher)?;
        let last = self.items.len() - 1;
        if !self.index.is_empty() {
            self.unindex(at, hasher);
            // The last item takes the place of the removed one, below.
            let moved = hasher.hash_one(self.items[last].0);
            if let Some(place) = self.index.find_mut(moved, |&own| own as usize == last) {
                *place = position_id(at);
            }
        }
        let (_, value) = self.items.swap_remove(at);
        if self.items.len() <= INDEX_UNTIL {
            self.index = HashTable::new();
        }
        if self.items.len() * 4 < self.items.capacity() {
            self.items.shrink_to(self.items.len() * 2);
            let rehash = |&at: &u32| hasher.hash_one(self.items[at as usize].0);
            self.index.shrink_to(self.index.len() * 2, rehash);
        }
        Some(value)
    }

    fn unindex(&mut self, at: usize, hasher: &impl BuildHasher) {
        let hash = hasher.hash_one(self.items[at].0);
        if let Ok(entry) = self.index.find_entry(hash, |&own| own as usize == at) {
            entry.remove();
        }
    }
}

fn position_id(at: usize) -> u32 {
    u32::try_from(at).expect("four thousand million subscribers of one filter do not fit into memory")
}

#[cfg(test)]
mod tests {
    use hashbrown::DefaultHashBuilder;

    use super::*;

    fn all(set: &Subscribers<u32, u32>) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        set.for_each(|&key, &value| all.push((key, value)));
        all.sort_unstable();
        all
    }

    #[test]
    fn grows_and_shrinks_through_every_form() {
        let hasher = DefaultHashBuilder::default();
        let mut set = Subscribers::default();
        for round in 0..2 {
            for key in 0..100 {
                assert_eq!(set.insert(key, round, &hasher), None);
                assert_eq!(set.insert(key, key, &hasher), Some(round));
                assert_eq!(all(&set), (0..=key).map(|key| (key, key)).collect::<Vec<_>>());
            }
            for key in (0..100).step_by(2).chain((1..100).step_by(2)) {
                assert_eq!(set.get(&key, &hasher), Some(&key));
                assert_eq!(set.remove(&key, &hasher), Some(key));
                assert_eq!(set.remove(&key, &hasher), None);
                assert_eq!(set.get(&key, &hasher), None);
            }
            assert!(set.is_empty());
        }
    }

    #[test]
    fn one_subscriber_left_of_many_needs_no_allocation() {
        let hasher = DefaultHashBuilder::default();
        let mut set = Subscribers::default();
        for key in 0..50 {
            set.insert(key, (), &hasher);
        }
        for key in 1..50 {
            set.remove(&key, &hasher);
        }
        assert!(matches!(set, Subscribers::One(0, ())));
    }
}
