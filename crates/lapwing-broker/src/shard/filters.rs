use hashbrown::HashSet;
use lapwing_proto::topic::TopicFilterBuf;

/// The filters of one session's subscriptions. Most sessions have one or a few: these take no table.
#[derive(Debug, Default)]
pub(super) enum Filters {
    #[default]
    None,
    One(TopicFilterBuf),
    Few(Vec<TopicFilterBuf>),
    Many(Box<HashSet<TopicFilterBuf>>),
}

/// So many are looked through one by one.
const FEW: usize = 8;

impl Filters {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Few(filters) => filters.len(),
            Self::Many(filters) => filters.len(),
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TopicFilterBuf> {
        let (few, many) = match self {
            Self::None => (&[][..], None),
            Self::One(filter) => (std::slice::from_ref(filter), None),
            Self::Few(filters) => (&filters[..], None),
            Self::Many(filters) => (&[][..], Some(filters.iter())),
        };
        few.iter().chain(many.into_iter().flatten())
    }

    /// Whether `filter` is one of them.
    pub(super) fn contains(&self, filter: &TopicFilterBuf) -> bool {
        match self {
            Self::None => false,
            Self::One(own) => own == filter,
            Self::Few(filters) => filters.contains(filter),
            Self::Many(filters) => filters.contains(filter),
        }
    }

    /// Adds a filter; `false` if it was there.
    pub(super) fn insert(&mut self, filter: TopicFilterBuf) -> bool {
        if self.contains(&filter) {
            return false;
        }
        *self = match std::mem::take(self) {
            Self::None => Self::One(filter),
            Self::One(own) => Self::Few(vec![own, filter]),
            Self::Few(filters) if filters.len() == FEW => {
                Self::Many(Box::new(filters.into_iter().chain([filter]).collect()))
            }
            Self::Few(mut filters) => {
                filters.push(filter);
                Self::Few(filters)
            }
            Self::Many(mut filters) => {
                filters.insert(filter);
                Self::Many(filters)
            }
        };
        true
    }

    /// Removes a filter; whether it was there.
    pub(super) fn remove(&mut self, filter: &TopicFilterBuf) -> bool {
        if !self.contains(filter) {
            return false;
        }
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Few(filters) => filters.retain(|own| own != filter),
            Self::Many(filters) => {
                filters.remove(filter);
                if filters.len() * 8 < filters.capacity() {
                    filters.shrink_to(filters.len() * 2);
                }
            }
        }
        if self.len() == 0 {
            *self = Self::None;
        }
        true
    }
}

impl IntoIterator for Filters {
    type Item = TopicFilterBuf;
    type IntoIter = Box<dyn Iterator<Item = TopicFilterBuf>>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::One(filter) => Box::new(std::iter::once(filter)),
            Self::Few(filters) => Box::new(filters.into_iter()),
            Self::Many(filters) => Box::new(filters.into_iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::shard::test::random::Random;

    #[test]
    fn behaves_as_a_set_whatever_its_size() {
        for size in [1, 2, 5, 40] {
            let mut random = Random::new(size as u64);
            let (mut filters, mut model) = (Filters::default(), BTreeSet::new());
            for _ in 0..2000 {
                let text = format!("a/{}", random.below(size));
                let filter = TopicFilterBuf::new(text).unwrap();
                if random.once_in(2) {
                    assert_eq!(filters.insert(filter.clone()), model.insert(filter.clone()));
                } else {
                    assert_eq!(filters.remove(&filter), model.remove(&filter));
                }
                assert_eq!(filters.contains(&filter), model.contains(&filter));
                assert_eq!(filters.len(), model.len());
            }
            assert_eq!(filters.into_iter().collect::<BTreeSet<_>>(), model);
        }
    }
}
