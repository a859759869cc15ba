use std::collections::BTreeMap;

use lapwing_proto::topic::TopicFilterBuf;

use super::retained::Replay;

/// Retained messages on their way to the new subscriptions of one session, by the filters of these. Nearly always
/// there are none, and then nothing is kept for them; one takes no tree.
#[derive(Debug, Default)]
pub(super) enum Replays {
    #[default]
    None,
    One(Box<(TopicFilterBuf, Replay)>),
    #[expect(clippy::box_collection, reason = "a session without replays is not to have room for a tree")]
    Many(Box<BTreeMap<TopicFilterBuf, Replay>>),
}

impl Replays {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Adds one, in place of an earlier one of the same filter.
    pub(super) fn insert(&mut self, filter: TopicFilterBuf, replay: Replay) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(Box::new((filter, replay))),
            Self::One(only) if only.0 == filter => Self::One(Box::new((filter, replay))),
            Self::One(only) => Self::Many(Box::new([*only, (filter, replay)].into())),
            Self::Many(mut replays) => {
                replays.insert(filter, replay);
                Self::Many(replays)
            }
        };
    }

    /// Removes the one of a filter, if there is one.
    pub(super) fn remove(&mut self, filter: &TopicFilterBuf) {
        match self {
            Self::None => {}
            Self::One(only) if only.0 != *filter => {}
            Self::One(_) => *self = Self::None,
            Self::Many(replays) => {
                replays.remove(filter);
            }
        }
        self.tidy();
    }

    /// Takes the first one.
    pub(super) fn pop_first(&mut self) -> Option<(TopicFilterBuf, Replay)> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(only) => Some(*only),
            Self::Many(mut replays) => {
                let first = replays.pop_first();
                *self = Self::Many(replays);
                self.tidy();
                first
            }
        }
    }

    /// Keeps those for which `is_kept` says so.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&TopicFilterBuf, &Replay) -> bool) {
        match self {
            Self::None => {}
            Self::One(only) if is_kept(&only.0, &only.1) => {}
            Self::One(_) => *self = Self::None,
            Self::Many(replays) => replays.retain(|filter, replay| is_kept(filter, replay)),
        }
        self.tidy();
    }

    /// An empty tree has memory of its own.
    fn tidy(&mut self) {
        if matches!(self, Self::Many(replays) if replays.is_empty()) {
            *self = Self::None;
        }
    }
}
