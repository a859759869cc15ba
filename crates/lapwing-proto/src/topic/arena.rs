use std::mem;
use std::ops::{Index, IndexMut};

/// Values of one type, found by the number that each is given.
///
/// They stand in chunks that never move, so that growing copies nothing and takes no more memory than what is
/// used. A number takes half the memory of a pointer.
#[derive(Debug, Clone)]
pub(super) struct Arena<T> {
    chunks: Vec<Vec<Place<T>>>,
    /// The first of a chain of places to be used again; [`END`] if there is none.
    vacant: u32,
    len: usize,
}

#[derive(Debug, Clone)]
enum Place<T> {
    /// With the next one of the chain.
    Vacant(u32),
    Used(T),
}

const CHUNK: usize = 1024;
const END: u32 = u32::MAX;

/// Higher numbers are never given, so that they may have a meaning of their own.
pub(super) const ID_MAXIMUM: u32 = u32::MAX - 16;

impl<T> Arena<T> {
    /// An empty arena, which allocates nothing.
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), vacant: END, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many values there have been at a time since the arena was last empty.
    pub(super) fn places(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if self.vacant != END {
            let id = self.vacant;
            if let Place::Vacant(next) = mem::replace(self.place_mut(id), Place::Used(value)) {
                self.vacant = next;
            }
            return id;
        }
        let id = u32::try_from(self.places()).ok().filter(|&id| id <= ID_MAXIMUM);
        let id = id.expect("four thousand million values do not fit into memory");
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Place::Used(value)),
            // Only the first chunk begins small.
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Place::Used(value));
                self.chunks.push(chunk);
            }
            None => self.chunks.push(vec![Place::Used(value)]),
        }
        id
    }

    /// Takes the value with this number out. When the last one goes, all memory is given back.
    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        if !matches!(self.chunks.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?, Place::Used(_)) {
            return None;
        }
        let next = self.vacant;
        let Place::Used(value) = mem::replace(self.place_mut(id), Place::Vacant(next)) else { return None };
        self.vacant = id;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        Some(value)
    }

    fn place_mut(&mut self, id: u32) -> &mut Place<T> {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

/// Panics where there is no value with this number: the trees keep only numbers of values that are there.
impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        match &self.chunks[id as usize / CHUNK][id as usize % CHUNK] {
            Place::Used(value) => value,
            Place::Vacant(_) => panic!("there is no value with number {id}"),
        }
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        match self.place_mut(id) {
            Place::Used(value) => value,
            Place::Vacant(_) => panic!("there is no value with number {id}"),
        }
    }
}

/// A number in an arena as it stands in a hash table: with a part of its value's hash, so that most other
/// values need not be looked at, nor any when the table grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaggedId {
    pub(super) tag: u32,
    pub(super) id: u32,
}

impl TaggedId {
    /// The hash for the table, which uses bits at both ends.
    pub(super) fn hash(tag: u32) -> u64 {
        u64::from(tag) << 32 | u64::from(tag)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    proptest! {
        #[test]
        fn values_are_found_by_their_numbers(
            before in prop_oneof![Just(0), 1020..1030_usize, 2040..2050_usize],
            steps in prop::collection::vec(prop_oneof![Just(None), any::<Index>().prop_map(Some)], 0..200),
        ) {
            let (mut arena, mut model) = (Arena::new(), BTreeMap::new());
            for number in 0..before {
                prop_assert_eq!(model.insert(arena.insert(number), number), None);
            }
            for (step, number) in steps.into_iter().zip(before..) {
                match step {
                    Some(at) if !model.is_empty() => {
                        let id = *model.keys().nth(at.index(model.len())).unwrap();
                        prop_assert_eq!(arena.remove(id), model.remove(&id));
                        prop_assert_eq!(arena.remove(id), None);
                    }
                    _ => {
                        prop_assert_eq!(model.insert(arena.insert(number), number), None, "a number is given twice");
                    }
                }
                prop_assert_eq!(arena.len(), model.len());
                prop_assert!(arena.places() >= arena.len());
            }
            for (&id, number) in &mut model {
                prop_assert_eq!(arena[id], *number);
                arena[id] += 1;
                *number += 1;
            }
            for (id, number) in model {
                prop_assert_eq!(arena.remove(id), Some(number));
            }
            prop_assert!(arena.is_empty() && arena.chunks.capacity() == 0);
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut arena = Arena::new();
        let stays = arena.insert(0);
        for round in 0..10_000 {
            let id = arena.insert(round);
            assert_eq!(arena.remove(id), Some(round));
        }
        assert_eq!((arena.places(), arena[stays]), (2, 0));
    }

    #[test]
    fn a_number_that_was_never_given_has_no_value() {
        let mut arena = Arena::new();
        assert_eq!(arena.remove(0), None);
        arena.insert(());
        assert_eq!(arena.remove(1), None);
        assert_eq!(arena.remove(u32::MAX), None);
    }
}
