//! The rules that hold for a client, ready to be asked for each message.

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{FilterTree, TopicFilter, TopicName};

use super::pattern;
use super::rule::Messages;

/// The place of a rule among all rules of a file, counted from 0. The lower place decides.
pub(super) type Place = u32;

/// Topic filters with the places of their rules, in the order of those.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// The same, where they are many.
    tree: Option<FilterTree<u32, ()>>,
}

#[derive(Debug)]
struct Entry {
    pattern: Box<str>,
    place: Place,
    messages: Messages,
}

/// From so many filters on, a tree finds the ones that fit sooner than a look at each of them: see the measurements in
/// `bench/security/README.md`.
const MANY: usize = 12;

impl Table {
    /// `patterns` are in the order of their places.
    pub(super) fn new(patterns: Vec<(String, Place, Messages)>) -> Self {
        let new =
            |(pattern, place, messages): (String, _, _)| Entry { pattern: pattern.into(), place, messages };
        let entries: Vec<_> = patterns.into_iter().map(new).collect();
        let tree = (entries.len() >= MANY).then(|| {
            let mut tree = FilterTree::new();
            for (entry, index) in entries.iter().zip(0..) {
                if let Ok(filter) = TopicFilter::new(&entry.pattern) {
                    tree.insert(filter, index, ());
                }
            }
            tree
        });
        Self { entries, tree }
    }

    /// The first rule that fits a message of this topic.
    pub(super) fn first(&self, topic: TopicName<'_>, qos: QoS, retain: bool) -> Option<Place> {
        let Some(tree) = &self.tree else {
            let fits = |entry: &&Entry| {
                pattern::matches(&entry.pattern, topic.as_str()) && entry.messages.fit(qos, retain)
            };
            return self.entries.iter().find(fits).map(|entry| entry.place);
        };
        let mut first = None;
        tree.matches(topic, |&index, ()| {
            let entry = &self.entries[index as usize];
            if first.is_none_or(|first| entry.place < first) && entry.messages.fit(qos, retain) {
                first = Some(entry.place);
            }
        });
        first
    }

    pub(super) fn patterns(&self) -> impl Iterator<Item = (&str, Place)> {
        self.entries.iter().map(|entry| (&*entry.pattern, entry.place))
    }
}

/// The lower of two places, where there are any.
pub(super) fn lower(one: Option<Place>, other: Option<Place>) -> Option<Place> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
