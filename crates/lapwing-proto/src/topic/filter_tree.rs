//! Which subscriptions match a topic name.
//!
//! Filters without a wildcard, nearly always the most, are found by one look into a hash table, whatever
//! their number. Those with wildcards are in a trie of levels. One trie for all would be simpler, but then
//! each publish would pay a random memory access for each level of its name.

use std::fmt;
use std::hash::Hash;

use hashbrown::DefaultHashBuilder;

use super::exact_map::ExactMap;
use super::pattern_trie::PatternTrie;
use super::subscriber::Subscribers;
use super::{TopicFilter, TopicName};

/// Values by topic filter and key, found by the topic names that the filters match.
///
/// In a broker the key is a session and the value its subscription's options. A share name is no part of the
/// filter here: `$share/g/a` and `a` are the same. Whoever serves shared subscriptions keeps them in a tree
/// of their own.
///
/// # Cost
///
/// [`matches`](Self::matches) costs one hash lookup, and if there are filters with wildcards, one more for
/// each stored branch that the name leads to; never more than there are stored branches, nor is a level of
/// the name looked at more than once for all of them. Nothing recurses. The other operations cost as much as
/// the filter has levels, and do not depend on the number of filters or keys, except that the hash tables grow
/// by doubling, which looks at no filter. A filter with one key takes some 80 bytes, and its text again where it has
/// more than 46 bytes, or with wildcards, a run of levels of more than 22. But each level before the last `+`
/// that no other filter has takes another 80 bytes: set a limit on the number of levels where strangers
/// subscribe. Storage of removed filters is used again, and given back when few or none of their kind are left.
///
/// ```
/// use lapwing_proto::topic::{FilterTree, TopicFilter, TopicName};
///
/// let mut tree = FilterTree::new();
/// tree.insert(TopicFilter::new("plant/+/temperature")?, 7, "options");
/// let mut sessions = Vec::new();
/// tree.matches(TopicName::new("plant/3/temperature")?, |&session, _| sessions.push(session));
/// assert_eq!(sessions, [7]);
/// # Ok::<(), lapwing_proto::topic::TopicError>(())
/// ```
#[derive(Clone)]
pub struct FilterTree<K, V> {
    exact: ExactMap<Subscribers<K, V>>,
    wild: PatternTrie<Subscribers<K, V>>,
    hasher: DefaultHashBuilder,
    len: usize,
    generation: u64,
}

impl<K: Copy + Eq + Hash, V> FilterTree<K, V> {
    /// An empty tree, which allocates nothing.
    pub fn new() -> Self {
        let hasher = DefaultHashBuilder::default();
        Self {
            exact: ExactMap::new(hasher.clone()),
            wild: PatternTrie::new(hasher.clone()),
            hasher,
            len: 0,
            generation: 0,
        }
    }

    /// Stores `value`, and gives back the one that was there for the same filter and key `[MQTT-3.8.4-3]`.
    pub fn insert(&mut self, filter: TopicFilter<'_>, key: K, value: V) -> Option<V> {
        self.generation += 1;
        let subscribers = if filter.has_wildcard() {
            self.wild.get_or_default(filter.pattern())
        } else {
            self.exact.get_or_default(filter.pattern())
        };
        let replaced = subscribers.insert(key, value, &self.hasher);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes the value for this filter and key.
    pub fn remove(&mut self, filter: TopicFilter<'_>, key: &K) -> Option<V> {
        let pattern = filter.pattern();
        let removed;
        if filter.has_wildcard() {
            let subscribers = self.wild.get_mut(pattern)?;
            removed = subscribers.remove(key, &self.hasher)?;
            if subscribers.is_empty() {
                self.wild.remove(pattern);
            }
        } else {
            let subscribers = self.exact.get_mut(pattern)?;
            removed = subscribers.remove(key, &self.hasher)?;
            if subscribers.is_empty() {
                self.exact.remove(pattern);
            }
        }
        self.len -= 1;
        self.generation += 1;
        Some(removed)
    }

    /// The value for this very filter and key.
    pub fn get(&self, filter: TopicFilter<'_>, key: &K) -> Option<&V> {
        let pattern = filter.pattern();
        let subscribers =
            if filter.has_wildcard() { self.wild.get(pattern)? } else { self.exact.get(pattern)? };
        subscribers.get(key, &self.hasher)
    }

    /// Visits each stored filter and key whose filter matches `name`, once. A key with several such filters
    /// comes several times. The order means nothing, but depends only on what was inserted and removed when.
    pub fn matches(&self, name: TopicName<'_>, mut visit: impl FnMut(&K, &V)) {
        if let Some(subscribers) = self.exact.get(name.as_str()) {
            subscribers.for_each(&mut visit);
        }
        if !self.wild.is_empty() {
            self.wild.for_each_match(name, |subscribers| subscribers.for_each(&mut visit));
        }
    }

    /// How many pairs of filter and key there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A number that changes with each change to the tree. As long as it is the same, earlier results of
    /// [`matches`](Self::matches) are still true.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl<K: Copy + Eq + Hash, V> Default for FilterTree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for FilterTree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, generation, .. } = self;
        f.debug_struct("FilterTree").field("len", len).field("generation", generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).unwrap()
    }

    fn tree<'a>(filters: &[&'a str]) -> FilterTree<u32, &'a str> {
        let mut tree = FilterTree::new();
        for (&text, key) in filters.iter().zip(0..) {
            assert_eq!(tree.insert(filter(text), key, text), None);
        }
        tree
    }

    fn matching<'a>(tree: &FilterTree<u32, &'a str>, name: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        tree.matches(TopicName::new(name).unwrap(), |_, &value| found.push(value));
        found.sort_unstable();
        found
    }

    #[test]
    fn finds_the_filters_of_the_specification_by_its_names() {
        let sport =
            tree(&["sport/tennis/player1/#", "sport/#", "#", "sport/tennis/+", "sport/+", "+", "+/+"]);
        assert_eq!(matching(&sport, "sport"), ["#", "+", "sport/#"]);
        assert_eq!(matching(&sport, "sport/"), ["#", "+/+", "sport/#", "sport/+"]);
        let player = ["#", "sport/#", "sport/tennis/+", "sport/tennis/player1/#"];
        assert_eq!(matching(&sport, "sport/tennis/player1"), player);
        assert_eq!(
            matching(&sport, "sport/tennis/player1/ranking"),
            ["#", "sport/#", "sport/tennis/player1/#"]
        );
        let finance = tree(&["+/+", "/+", "+", "/finance"]);
        assert_eq!(matching(&finance, "/finance"), ["+/+", "/+", "/finance"]);
    }

    // [MQTT-4.7.2-1]
    // 3.1.1 [MQTT-4.7.2-1]
    #[test]
    fn leading_wildcards_do_not_match_names_with_a_dollar() {
        let tree =
            tree(&["#", "+", "+/#", "+/monitor/Clients", "$SYS/#", "$SYS/monitor/+", "$SYS/+/#", "+/+"]);
        assert_eq!(matching(&tree, "$SYS/monitor/Clients"), ["$SYS/#", "$SYS/+/#", "$SYS/monitor/+"]);
        assert_eq!(matching(&tree, "$SYS"), ["$SYS/#"]);
        assert_eq!(matching(&tree, "a/$SYS"), ["#", "+/#", "+/+"]);
    }

    #[test]
    fn empty_levels_are_levels() {
        let tree = tree(&["/", "//", "+", "+/+", "+//+", "/#", "//#", "/+/", "a//b", "a/b"]);
        assert_eq!(matching(&tree, "/"), ["+/+", "/", "/#", "//#"]);
        assert_eq!(matching(&tree, "//"), ["+//+", "/#", "/+/", "//", "//#"]);
        assert_eq!(matching(&tree, "a//b"), ["+//+", "a//b"]);
        assert_eq!(matching(&tree, "a/b"), ["+/+", "a/b"]);
    }

    #[test]
    fn the_pattern_of_a_shared_filter_is_what_counts() {
        let mut tree = FilterTree::new();
        tree.insert(filter("$share/g/a/+"), 1, "shared");
        tree.insert(filter("$share/h/a/b"), 2, "exact");
        assert_eq!(matching(&tree, "a/b"), ["exact", "shared"]);
        assert_eq!(tree.get(filter("a/+"), &1), Some(&"shared"));
        assert_eq!(tree.remove(filter("$share/other/a/+"), &1), Some("shared"));
        assert_eq!(matching(&tree, "a/b"), ["exact"]);
    }

    #[test]
    fn a_pair_of_filter_and_key_has_one_value() {
        for text in ["a/b", "a/+", "#"] {
            let mut tree = FilterTree::new();
            assert_eq!(tree.insert(filter(text), 1, "old"), None);
            assert_eq!(tree.insert(filter(text), 2, "other"), None);
            assert_eq!(tree.insert(filter(text), 1, "new"), Some("old"));
            assert_eq!(tree.len(), 2);
            assert_eq!(matching(&tree, "a/b"), ["new", "other"]);
            assert_eq!(tree.remove(filter(text), &1), Some("new"));
            assert_eq!(tree.remove(filter(text), &1), None);
            assert_eq!(matching(&tree, "a/b"), ["other"]);
            assert_eq!(tree.remove(filter(text), &2), Some("other"));
            assert!(tree.is_empty());
            assert_eq!(matching(&tree, "a/b"), [""; 0]);
        }
    }

    // [attack: subscription-list-race]
    #[test]
    fn the_generation_changes_with_each_change_only() {
        let mut tree = FilterTree::new();
        let mut last = tree.generation();
        let mut changed = |now| std::mem::replace(&mut last, now) != now;
        tree.insert(filter("a/+"), 1, 1);
        assert!(changed(tree.generation()));
        tree.insert(filter("a/+"), 1, 2);
        assert!(changed(tree.generation()), "the options are part of the result");
        tree.remove(filter("a/+"), &2);
        tree.remove(filter("a/b"), &1);
        tree.matches(TopicName::new("a/b").unwrap(), |_, _| {});
        assert!(!changed(tree.generation()));
        tree.remove(filter("a/+"), &1);
        assert!(changed(tree.generation()));
    }

    #[test]
    fn exact_filters_give_their_storage_back() {
        let mut tree = FilterTree::new();
        let texts: Vec<String> = (0..10_000).map(|n| format!("a/{n}")).collect();
        for text in &texts {
            tree.insert(filter(text), 1, ());
        }
        for text in &texts {
            tree.remove(filter(text), &1);
        }
        assert!(tree.is_empty());
        assert_eq!(tree.exact.capacity(), 0);
    }

    // [attack: deep-topic]
    #[test]
    fn thousands_of_levels_neither_recurse_nor_take_quadratic_time() {
        let slashes = "/".repeat(65_535);
        let plusses = format!("{}+", "+/".repeat(32_767));
        let long_run = format!("+/{}", "/".repeat(65_533));
        let longer_run = format!("+/{}x", "/".repeat(65_532));
        let tail_hash = format!("+{}#", "/".repeat(65_533));
        let late_plus = format!("{}+", "/".repeat(65_534));
        let mut tree = FilterTree::new();
        let filters = [&slashes, &plusses, &long_run, &longer_run, &tail_hash, &late_plus];
        for _ in 0..3 {
            for (text, key) in filters.into_iter().zip(0..) {
                assert_eq!(tree.insert(filter(text), key, ()), None);
            }
            let mut found = Vec::new();
            tree.matches(TopicName::new(&slashes).unwrap(), |&key, _| found.push(key));
            found.sort_unstable();
            // 65,535 slashes make 65,536 levels.
            assert_eq!(found, [0, 4]);
            let name = &slashes[..65_534];
            let mut found = Vec::new();
            tree.matches(TopicName::new(name).unwrap(), |&key, _| found.push(key));
            found.sort_unstable();
            assert_eq!(found, [2, 4, 5]);
            let name = &slashes[..32_767];
            let mut found = Vec::new();
            tree.matches(TopicName::new(name).unwrap(), |&key, _| found.push(key));
            assert_eq!(found, [1]);
            for (text, key) in filters.into_iter().zip(0..) {
                assert_eq!(tree.remove(filter(text), &key), Some(()));
            }
            assert!(tree.is_empty());
        }
    }

    // [attack: wildcard-explosion]
    #[test]
    fn a_long_level_is_looked_at_once_for_all_branches() {
        // Every way to write 12 levels with "a" or "+": 4,096 branches that all reach the last level.
        let mut tree = FilterTree::new();
        for bits in 0_u32..1 << 12 {
            let levels: Vec<_> =
                (0..12).map(|level| if bits >> level & 1 == 1 { "a" } else { "+" }).collect();
            tree.insert(filter(&format!("{}/b", levels.join("/"))), bits, ());
        }
        let mut count = 0;
        let prefix = "a/".repeat(12);
        tree.matches(TopicName::new(&format!("{prefix}b")).unwrap(), |_, _| count += 1);
        assert_eq!(count, 1 << 12);
        let name = format!("{prefix}{}", "x".repeat(65_000));
        tree.matches(TopicName::new(&name).unwrap(), |_, _| count += 1);
        assert_eq!(count, 1 << 12);
    }
}
