use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::arena::{Arena, TaggedId};

/// Values by filters without wildcards.
///
/// The hash table has nothing but numbers, so that much of it fits into a processor's cache, whatever the number
/// of filters. A filter's text and value are side by side: with a short text it takes one access to main memory
/// to find a value among millions.
#[derive(Debug, Clone)]
pub(super) struct ExactMap<T> {
    ids: HashTable<TaggedId>,
    entries: Arena<Entry<T>>,
    hasher: DefaultHashBuilder,
}

/// As long as a cache line, if the value has the size that a broker's have, and beginning with one.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Entry<T> {
    text: Text,
    value: T,
}

/// Short text, which nearly all is, without an allocation.
#[derive(Debug, Clone)]
enum Text {
    Inline { len: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

const INLINE: usize = 46;

impl<T: Default> ExactMap<T> {
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        Self { ids: HashTable::new(), entries: Arena::new(), hasher }
    }

    pub(super) fn get(&self, text: &str) -> Option<&T> {
        self.find(text).map(|id| &self.entries[id].value)
    }

    pub(super) fn get_mut(&mut self, text: &str) -> Option<&mut T> {
        self.find(text).map(|id| &mut self.entries[id].value)
    }

    pub(super) fn get_or_default(&mut self, text: &str) -> &mut T {
        let id = self.find(text).unwrap_or_else(|| {
            let id = self.entries.insert(Entry { text: Text::new(text), value: T::default() });
            let tag = self.tag(text);
            self.ids.insert_unique(TaggedId::hash(tag), TaggedId { tag, id }, |own| TaggedId::hash(own.tag));
            id
        });
        &mut self.entries[id].value
    }

    pub(super) fn remove(&mut self, text: &str) -> Option<T> {
        let tag = self.tag(text);
        let entries = &self.entries;
        let is_it = |own: &TaggedId| own.tag == tag && entries[own.id].text.is(text);
        let (TaggedId { id, .. }, _) = self.ids.find_entry(TaggedId::hash(tag), is_it).ok()?.remove();
        let entry = self.entries.remove(id)?;
        self.shrink();
        Some(entry.value)
    }

    /// Gives memory back where little of it is used.
    fn shrink(&mut self) {
        let len = self.entries.len();
        if len * 8 < self.ids.capacity() {
            self.ids.shrink_to(len * 2, |own| TaggedId::hash(own.tag));
        }
        if len * 8 < self.entries.places() {
            let mut entries = Arena::new();
            for own in self.ids.iter_mut() {
                if let Some(entry) = self.entries.remove(own.id) {
                    own.id = entries.insert(entry);
                }
            }
            self.entries = entries;
        }
    }

    fn find(&self, text: &str) -> Option<u32> {
        if self.entries.is_empty() {
            return None; // a broker has trees that are often empty: do not even hash
        }
        let tag = self.tag(text);
        let is_it = |own: &TaggedId| own.tag == tag && self.entries[own.id].text.is(text);
        self.ids.find(TaggedId::hash(tag), is_it).map(|own| own.id)
    }

    fn tag(&self, text: &str) -> u32 {
        (self.hasher.hash_one(text) >> 32) as u32
    }

    /// How many filters there could be without another allocation.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.ids.capacity().max(self.entries.places())
    }
}

impl Text {
    fn new(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(len), Some(space)) => {
                space.copy_from_slice(text.as_bytes());
                Self::Inline { len, bytes }
            }
            _ => Self::Boxed(text.as_bytes().into()),
        }
    }

    fn is(&self, text: &str) -> bool {
        let bytes = match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        };
        bytes == text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::subscriber::Subscribers;
    use super::*;

    #[test]
    fn an_entry_is_as_small_as_planned() {
        type Options = (std::num::NonZeroU64, bool);
        assert_eq!(size_of::<Text>(), 48);
        assert_eq!(size_of::<Entry<Subscribers<u64, ()>>>(), 64);
        assert_eq!(size_of::<Option<Entry<Subscribers<u64, ()>>>>(), 64, "an arena needs no more");
        assert_eq!(size_of::<Subscribers<(), Options>>(), 16);
    }

    proptest! {
        #[test]
        fn is_a_map(steps in prop::collection::vec((0..60_usize, 0..3_u8), 0..300), spread in 1..400_usize) {
            // Texts of all lengths, some with a common beginning.
            let text = |n: usize| "a/".repeat(n % 7) + &"x".repeat(n * spread % 101) + &n.to_string();
            let (mut map, mut model) = (ExactMap::new(DefaultHashBuilder::default()), BTreeMap::new());
            for ((n, action), time) in steps.into_iter().zip(1..) {
                let text = text(n);
                prop_assert_eq!(map.get(&text), model.get(&text));
                prop_assert_eq!(map.get_mut(&text), model.get_mut(&text));
                if action == 0 {
                    prop_assert_eq!(map.remove(&text), model.remove(&text));
                } else {
                    *map.get_or_default(&text) = time;
                    model.insert(text, time);
                }
                prop_assert_eq!(map.entries.len(), model.len());
                prop_assert_eq!(map.ids.len(), model.len());
            }
            prop_assert!(model.iter().all(|(text, time)| map.get(text) == Some(time)));
        }
    }

    #[test]
    fn little_is_kept_for_few() {
        let mut map = ExactMap::new(DefaultHashBuilder::default());
        for n in 0..10_000 {
            *map.get_or_default(&n.to_string()) = n;
        }
        for n in 10..10_000 {
            assert_eq!(map.remove(&n.to_string()), Some(n));
        }
        assert!(map.capacity() <= 128, "{}", map.capacity());
        assert!((0..10).all(|n| map.get(&n.to_string()) == Some(&n)));
        for n in 0..10 {
            map.remove(&n.to_string());
        }
        assert_eq!(map.capacity(), 0);
    }
}
