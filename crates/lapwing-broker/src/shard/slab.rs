//! Many values of one kind, each at a place that does not change.
//!
//! Growing copies nothing, so that no turn is longer for the many connections there are; no more than a page is in
//! vain; and pages that many connections needed for a while are given back.

/// Places per page.
const PAGE: usize = 256;
const PAGE_BITS: u32 = PAGE.trailing_zeros();
/// The end of a page's list of free places.
const NONE: u16 = u16::MAX;

/// Values by the places that they were given. A place is used again after its value was removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Page<T>>,
    /// Pages that have room; each of them once.
    with_room: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// As many as were ever needed at a time; without memory while there is no value.
    places: Vec<Place<T>>,
    first_free: u16,
    len: u16,
    is_with_room: bool,
}

#[derive(Debug)]
enum Place<T> {
    Used(T),
    /// The next free one.
    Free(u16),
}

/// A place for a value that needs to know it.
#[derive(Debug)]
pub(super) struct VacantEntry<'a, T> {
    slab: &'a mut Slab<T>,
    key: usize,
}

impl<T> Slab<T> {
    /// Without values; takes no memory.
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), with_room: Vec::new(), len: 0 }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `key`.
    pub(super) fn get(&self, key: usize) -> Option<&T> {
        match self.pages.get(key >> PAGE_BITS)?.places.get(key % PAGE)? {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    /// The value at `key`.
    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        match self.pages.get_mut(key >> PAGE_BITS)?.places.get_mut(key % PAGE)? {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    /// The place that the next value gets.
    pub(super) fn vacant_entry(&mut self) -> VacantEntry<'_, T> {
        let at = match self.with_room.last() {
            Some(&at) => at as usize,
            None => {
                let page = Page { places: Vec::new(), first_free: NONE, len: 0, is_with_room: true };
                self.pages.push(page);
                self.with_room.push(self.pages.len() as u32 - 1);
                self.pages.len() - 1
            }
        };
        let page = &self.pages[at];
        let offset = if page.first_free == NONE { page.places.len() } else { usize::from(page.first_free) };
        VacantEntry { slab: self, key: (at << PAGE_BITS) + offset }
    }

    /// Adds a value; gives its place.
    pub(super) fn insert(&mut self, value: T) -> usize {
        let entry = self.vacant_entry();
        let key = entry.key();
        entry.insert(value);
        key
    }

    /// Takes the value at `key` out.
    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        let page = self.pages.get_mut(key >> PAGE_BITS)?;
        let place = page.places.get_mut(key % PAGE)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let old = std::mem::replace(place, Place::Free(page.first_free));
        page.first_free = (key % PAGE) as u16;
        page.len -= 1;
        self.len -= 1;
        if page.len == 0 {
            page.places = Vec::new();
            page.first_free = NONE;
        }
        if !std::mem::replace(&mut page.is_with_room, true) {
            self.with_room.push((key >> PAGE_BITS) as u32);
        }
        match old {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    /// The values at `key` and behind it with their places. Pages before it are not looked at.
    pub(super) fn iter_from(&self, key: usize) -> impl Iterator<Item = (usize, &T)> {
        let (first, offset) = (key >> PAGE_BITS, key % PAGE);
        self.pages.iter().enumerate().skip(first).flat_map(move |(at, page)| {
            let offset = if at == first { offset } else { 0 };
            page.places.iter().enumerate().skip(offset).filter_map(move |(offset, place)| match place {
                Place::Used(value) => Some(((at << PAGE_BITS) + offset, value)),
                Place::Free(_) => None,
            })
        })
    }

    /// All values with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.iter_from(0)
    }
}

impl<T> VacantEntry<'_, T> {
    /// The place.
    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// Puts the value there.
    pub(super) fn insert(self, value: T) {
        let page = &mut self.slab.pages[self.key >> PAGE_BITS];
        match page.places.get_mut(self.key % PAGE) {
            Some(place) => {
                if let Place::Free(next) = std::mem::replace(place, Place::Used(value)) {
                    page.first_free = next;
                }
            }
            None => {
                if page.places.is_empty() {
                    page.places.reserve_exact(PAGE);
                }
                page.places.push(Place::Used(value));
            }
        }
        page.len += 1;
        if usize::from(page.len) == PAGE {
            page.is_with_room = false;
            self.slab.with_room.pop();
        }
        self.slab.len += 1;
    }
}

/// Bytes that a value takes in its page.
#[cfg(test)]
pub(super) const fn place_size<T>() -> usize {
    size_of::<Place<T>>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shard::test::random::Random;

    #[test]
    fn behaves_as_a_map_from_places_to_values() {
        let mut random = Random::new(7);
        let (mut slab, mut model) = (Slab::new(), BTreeMap::new());
        // Phases that fill and phases that empty, so that pages come and go.
        for step in 0..60_000_u32 {
            let is_filling = step / 5000 % 2 == 0;
            if (random.below(4) > 0) == is_filling {
                let key = slab.insert(step);
                assert_eq!(model.insert(key, step), None, "a place that is in use");
            } else if !model.is_empty() {
                let key = *model.keys().nth(random.below(model.len())).unwrap();
                assert_eq!(slab.remove(key), model.remove(&key));
                assert_eq!((slab.remove(key), slab.get(key)), (None, None));
            }
            assert_eq!((slab.len(), slab.is_empty()), (model.len(), model.is_empty()));
            if step % 1000 == 0 {
                assert!(slab.iter().map(|(key, &value)| (key, value)).eq(model.clone()));
            }
            let key = random.below(6000);
            assert_eq!((slab.get(key).copied(), slab.get_mut(key).copied()), {
                let expected = model.get(&key).copied();
                (expected, expected)
            });
        }
    }

    #[test]
    fn places_are_used_again_and_empty_pages_give_their_memory_back() {
        let mut slab = Slab::new();
        for _ in 0..3 {
            let keys: Vec<_> = (0..10 * PAGE).map(|value| slab.insert(value)).collect();
            assert_eq!(slab.pages.len(), 10);
            let taken =
                |slab: &Slab<usize>| slab.pages.iter().map(|page| page.places.capacity()).sum::<usize>();
            assert_eq!(taken(&slab), 10 * PAGE, "no place is in vain");
            for &key in &keys[PAGE..] {
                slab.remove(key);
            }
            assert_eq!(taken(&slab), PAGE);
            for &key in &keys[..PAGE] {
                slab.remove(key);
            }
            assert_eq!((taken(&slab), slab.len()), (0, 0));
        }
    }
}
