//! Values by topic name, in an order that a filter can be run through in steps.
//!
//! This is the standard library's B-tree and a way to order names: `/` comes before all other characters. So
//! the order is that of the levels: a name comes right before all names below it. What a filter selects below a fixed prefix is then one range, and
//! where a `+` leaves gaps, the next name that could match is one search away. A trie would visit the same
//! branches, but its iterator would have to survive changes between the steps; here a name is all the state
//! that a step leaves to the next one. It is lean, too: some 50 bytes for an entry beside name and value.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::fmt;
use std::ops::Bound;

use super::{TopicFilter, TopicName, TopicNameBuf};

/// Values by topic name, such as retained messages, found by the filters that match the names.
///
/// # Cost
///
/// Finding, storing and removing take one search in a B-tree. See [`matches_after`](Self::matches_after) for
/// what a filter costs.
///
/// ```
/// use lapwing_proto::topic::{NameTree, TopicFilter, TopicName};
///
/// let mut tree = NameTree::new();
/// for name in ["plant/1/temperature", "plant/2/temperature", "plant/2/pressure"] {
///     tree.insert(TopicName::new(name)?, name.len());
/// }
/// let filter = TopicFilter::new("plant/+/temperature")?;
/// let mut found = Vec::new();
/// let mut last = None;
/// loop {
///     let after = last.as_ref().map(|last: &lapwing_proto::topic::TopicNameBuf| last.as_name());
///     last = tree.matches_after(filter, after, 2, |name, _| found.push(name.as_str().to_owned()));
///     if last.is_none() {
///         break;
///     }
///     // Here the tree may change.
/// }
/// assert_eq!(found, ["plant/1/temperature", "plant/2/temperature"]);
/// # Ok::<(), lapwing_proto::topic::TopicError>(())
/// ```
#[derive(Clone)]
pub struct NameTree<V> {
    names: BTreeMap<StoredName, V>,
}

/// A name in the order of its levels.
#[derive(Clone)]
struct StoredName(Box<str>);

/// Text that names are compared with, be it stored or not. A map can be searched for what its keys can be
/// borrowed as, and it is this that they have in common with any text.
trait Text {
    fn text(&self) -> &str;
}

impl<V> NameTree<V> {
    /// An empty tree, which allocates nothing.
    pub const fn new() -> Self {
        Self { names: BTreeMap::new() }
    }

    /// Stores `value`, and gives back the one that was there for the same name.
    pub fn insert(&mut self, name: TopicName<'_>, value: V) -> Option<V> {
        self.names.insert(StoredName(name.as_str().into()), value)
    }

    /// The value for this very name.
    pub fn get(&self, name: TopicName<'_>) -> Option<&V> {
        self.names.get(&name.as_str() as &dyn Text)
    }

    /// The value for this very name, to be changed in place.
    pub fn get_mut(&mut self, name: TopicName<'_>) -> Option<&mut V> {
        self.names.get_mut(&name.as_str() as &dyn Text)
    }

    /// Removes the value for this name.
    pub fn remove(&mut self, name: TopicName<'_>) -> Option<V> {
        self.names.remove(&name.as_str() as &dyn Text)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Visits names that `filter` matches, in level order, from the first one behind `after` (or from the
    /// very first) on. It looks at no more than `limit` names (0 counts as 1), whether they match or not, so
    /// that no filter can hold up its caller. The last name looked at is the result, and the `after` of the
    /// next step; `None` says that all is done.
    ///
    /// Between the steps the tree may change: each name that is there all the time is visited exactly once,
    /// one that comes or goes meanwhile at most once, and `after` itself need not be there any more.
    ///
    /// Names outside the filter's levels before its first wildcard are never looked at, and what a `+` rules
    /// out is skipped, a branch at a time. Each name looked at costs at most one search.
    pub fn matches_after(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        limit: usize,
        mut visit: impl FnMut(TopicName<'_>, &V),
    ) -> Option<TopicNameBuf> {
        let pattern = filter.pattern();
        let start = literal_prefix(pattern);
        let after = after.map(TopicName::as_str).filter(|after| level_order(after, start).is_ge());
        if !filter.has_wildcard() {
            if let (None, Some(value)) = (after, self.names.get(&start as &dyn Text)) {
                visit(TopicName::from_valid(pattern), value);
            }
            return None;
        }
        let mut names = match &after {
            Some(after) => self.range(Bound::Excluded(after)),
            None => self.range(Bound::Included(&start)),
        };
        // A filter that only ends with a wildcard.
        let below = pattern.strip_suffix('#').filter(|below| !below.contains('+'));
        let mut target = String::new();
        let mut looked = 0;
        loop {
            let (StoredName(name), value) = names.next()?;
            looked += 1;
            let step = match below {
                Some(below) if !below.is_empty() => step_below(start, name),
                _ => step(pattern, name, &mut target),
            };
            match step {
                Step::Match => visit(TopicName::from_valid(name), value),
                Step::Next => {}
                Step::Seek if looked < limit => names = self.range(Bound::Included(&target.as_str())),
                Step::Seek => {}
                Step::End => return None,
            }
            if looked >= limit {
                return Some(TopicName::from_valid(name).to_buf());
            }
        }
    }

    fn range(&self, from: Bound<&&str>) -> Range<'_, StoredName, V> {
        self.names.range::<dyn Text, _>((from.map(|text| text as &dyn Text), Bound::Unbounded))
    }
}

/// What to do about a name, and where to go on.
enum Step {
    /// It matches; go on with the next name.
    Match,
    /// It does not match, but the next name may.
    Next,
    /// No name before the target matches.
    Seek,
    /// No later name matches.
    End,
}

/// Holds the pattern `PREFIX/#` against a name that does not come before the prefix.
fn step_below(prefix: &str, name: &str) -> Step {
    match name.strip_prefix(prefix).map(str::as_bytes) {
        Some([] | [b'/', ..]) => Step::Match,
        _ => Step::End,
    }
}

/// Holds a pattern against a stored name. For [`Step::Seek`] the target is left in `target`.
fn step(pattern: &str, name: &str, target: &mut String) -> Step {
    if name.starts_with('$') && pattern.starts_with(['+', '#']) {
        target.clear();
        target.push('%'); // The character behind '$': all names with '$' are skipped [MQTT-4.7.2-1].
        return Step::Seek;
    }
    // Where in the name the level of the last '+' ends.
    let mut plus_end = None;
    let mut at = 0;
    for wanted in pattern.split('/') {
        if wanted == "#" {
            return Step::Match;
        }
        let Some(rest) = name.get(at..) else { return Step::Next };
        let end = memchr::memchr(b'/', rest.as_bytes()).map_or(name.len(), |len| at + len);
        let level = &name[at..end];
        if wanted == "+" {
            plus_end = Some(end);
        } else if level < wanted {
            target.clear();
            target.push_str(&name[..at]);
            target.push_str(wanted);
            return Step::Seek;
        } else if level > wanted {
            return skip_branch(name, plus_end, target);
        }
        at = end + 1;
    }
    if at > name.len() { Step::Match } else { skip_branch(name, plus_end, target) }
}

/// Nothing else with the same levels up to `plus_end` can match.
fn skip_branch(name: &str, plus_end: Option<usize>, target: &mut String) -> Step {
    let Some(end) = plus_end else { return Step::End };
    target.clear();
    target.push_str(&name[..end]);
    target.push('\u{1}'); // The first text behind all that goes on with a separator.
    Step::Seek
}

/// The levels before the first wildcard.
fn literal_prefix(pattern: &str) -> &str {
    match memchr::memchr2(b'+', b'#', pattern.as_bytes()) {
        None => pattern,
        Some(wildcard) => &pattern[..wildcard.saturating_sub(1)],
    }
}

/// The order of the levels: `/` comes before all other characters.
fn level_order(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let at = shared_length(one, other);
    // No name has U+0000.
    let rank = |&byte: &u8| if byte == b'/' { 0 } else { byte };
    one.get(at).map(rank).cmp(&other.get(at).map(rank))
}

/// How many bytes are the same at the beginning of both.
fn shared_length(one: &[u8], other: &[u8]) -> usize {
    let (one_words, other_words) = (one.as_chunks::<8>().0, other.as_chunks::<8>().0);
    let mut at = 0;
    for (one, other) in one_words.iter().zip(other_words) {
        let difference = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return at + difference.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + one[at..].iter().zip(&other[at..]).take_while(|(one, other)| one == other).count()
}

impl Text for StoredName {
    fn text(&self) -> &str {
        &self.0
    }
}

impl Text for &str {
    fn text(&self) -> &str {
        self
    }
}

impl<'a> Borrow<dyn Text + 'a> for StoredName {
    fn borrow(&self) -> &(dyn Text + 'a) {
        self
    }
}

impl Ord for dyn Text + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        level_order(self.text(), other.text())
    }
}

impl PartialOrd for dyn Text + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Text + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for dyn Text + '_ {}

impl Ord for StoredName {
    fn cmp(&self, other: &Self) -> Ordering {
        level_order(&self.0, &other.0)
    }
}

impl PartialOrd for StoredName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for StoredName {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for StoredName {}

impl<V> Default for NameTree<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for NameTree<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameTree").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName<'_> {
        TopicName::new(text).unwrap()
    }

    fn tree(names: &[&str]) -> NameTree<usize> {
        let mut tree = NameTree::new();
        for text in names {
            assert_eq!(tree.insert(name(text), text.len()), None);
        }
        tree
    }

    /// Runs through the tree in steps of `limit` and returns what was visited and how many steps it took.
    fn run(tree: &NameTree<usize>, filter: &str, limit: usize) -> (Vec<String>, usize) {
        let filter = TopicFilter::new(filter).unwrap();
        let (mut found, mut steps) = (Vec::new(), 0);
        let mut last: Option<TopicNameBuf> = None;
        loop {
            steps += 1;
            last = tree.matches_after(
                filter,
                last.as_ref().map(TopicNameBuf::as_name),
                limit,
                |name, &value| {
                    assert_eq!(name.as_str().len(), value);
                    found.push(name.as_str().to_owned());
                },
            );
            if last.is_none() {
                return (found, steps);
            }
        }
    }

    fn matching(tree: &NameTree<usize>, filter: &str) -> Vec<String> {
        let (whole, steps) = run(tree, filter, usize::MAX);
        assert_eq!(steps, 1);
        for limit in [0, 1, 2, 3] {
            assert_eq!(run(tree, filter, limit).0, whole);
        }
        whole
    }

    #[test]
    fn stores_finds_and_removes_by_name() {
        let mut tree = tree(&["a", "a/b", "/a", "/", "a/", "$SYS/a"]);
        assert_eq!(tree.len(), 6);
        assert_eq!(tree.insert(name("a/b"), 9), Some(3));
        assert_eq!(tree.len(), 6);
        assert_eq!(tree.get(name("a/b")), Some(&9));
        assert_eq!(tree.get(name("b")), None);
        *tree.get_mut(name("a/")).unwrap() += 1;
        assert_eq!(tree.remove(name("a/")), Some(3));
        assert_eq!(tree.remove(name("a/")), None);
        assert_eq!(tree.get_mut(name("a/")), None);
        for text in ["a", "a/b", "/a", "/", "$SYS/a"] {
            assert!(tree.remove(name(text)).is_some());
        }
        assert!(tree.is_empty());
    }

    #[test]
    fn level_order_keeps_a_name_and_those_below_it_together() {
        let tree = tree(&["a-b", "a", "a/b", "a.b/c", "a/b/c", "a//b", "a!", "a\u{1}"]);
        assert_eq!(matching(&tree, "a/#"), ["a", "a//b", "a/b", "a/b/c"]);
        assert_eq!(matching(&tree, "#"), ["a", "a//b", "a/b", "a/b/c", "a\u{1}", "a!", "a-b", "a.b/c"]);
        assert_eq!(matching(&tree, "+"), ["a", "a\u{1}", "a!", "a-b"]);
    }

    #[test]
    fn filters_select_by_the_rules() {
        let tree = tree(&["$SYS", "$SYS/a", "$a/b", "/", "/finance", "a", "a/", "a/b", "a/b/c", "b/b", "~"]);
        assert_eq!(matching(&tree, "+/+"), ["/", "/finance", "a/", "a/b", "b/b"]);
        assert_eq!(matching(&tree, "/+"), ["/", "/finance"]);
        assert_eq!(matching(&tree, "+"), ["a", "~"]);
        assert_eq!(matching(&tree, "#"), ["/", "/finance", "a", "a/", "a/b", "a/b/c", "b/b", "~"]);
        assert_eq!(matching(&tree, "+/b"), ["a/b", "b/b"]);
        assert_eq!(matching(&tree, "+/b/#"), ["a/b", "a/b/c", "b/b"]);
        assert_eq!(matching(&tree, "$SYS/#"), ["$SYS", "$SYS/a"]);
        assert_eq!(matching(&tree, "$SYS/+"), ["$SYS/a"]);
        assert_eq!(matching(&tree, "a/b"), ["a/b"]);
        assert_eq!(matching(&tree, "$share/group/a/b"), ["a/b"]);
        assert_eq!(matching(&tree, "$share/group/a/+"), ["a/", "a/b"]);
        assert_eq!(matching(&tree, "a/c"), [""; 0]);
    }

    #[test]
    fn a_filter_without_wildcard_is_done_when_its_name_was_visited() {
        let tree = tree(&["a/b"]);
        let filter = TopicFilter::new("a/b").unwrap();
        for (after, visits) in [(None, 1), (Some("a"), 1), (Some("a/b"), 0), (Some("b"), 0)] {
            let mut count = 0;
            assert_eq!(tree.matches_after(filter, after.map(name), 1, |_, _| count += 1), None);
            assert_eq!(count, visits, "after {after:?}");
        }
    }

    #[test]
    fn only_the_branches_of_the_filter_are_looked_at() {
        let mut tree = NameTree::new();
        for site in 0..100 {
            for device in 0..100 {
                let text = format!("site/{site}/device/{device}/state");
                tree.insert(name(&text), text.len());
            }
        }
        // With a limit of 1, the steps are the names looked at, and one more to see the end.
        assert_eq!(run(&tree, "site/42/#", 1).1, 100 + 1);
        let (found, steps) = run(&tree, "site/+/device/7/state", usize::MAX);
        assert_eq!((found.len(), steps), (100, 1));
        let (found, steps) = run(&tree, "site/+/device/7/state", 8);
        assert_eq!(found.len(), 100);
        assert!(steps < 60, "{steps} steps of 8 for 100 branches");
        assert_eq!(run(&tree, "site/+/none", 1_000), (vec![], 1));
        assert_eq!(run(&tree, "elsewhere/+", 1), (vec![], 1));
    }

    // [attack: wildcard-explosion]
    #[test]
    fn a_step_is_bounded_even_if_nothing_matches() {
        let mut tree = NameTree::new();
        for n in 0..1_000 {
            tree.insert(name(&format!("{n}/a")), 0);
        }
        assert_eq!(run(&tree, "+/b", 100), (vec![], 1_000 / 100 + 1));
    }

    // [attack: subscription-list-race]
    #[test]
    fn the_tree_may_change_between_the_steps() {
        let mut tree = tree(&["a/1", "a/3", "a/5", "a/7"]);
        let filter = TopicFilter::new("a/+").unwrap();
        let mut found = Vec::new();
        let last = tree.matches_after(filter, None, 2, |name, _| found.push(name.as_str().to_owned()));
        assert_eq!(last.as_ref().map(TopicNameBuf::as_str), Some("a/3"));
        tree.remove(name("a/3"));
        tree.remove(name("a/5"));
        for text in ["a/2", "a/3", "a/4", "a/8"] {
            tree.insert(name(text), 0);
        }
        let after = last.as_ref().map(TopicNameBuf::as_name);
        assert_eq!(
            tree.matches_after(filter, after, 9, |name, _| found.push(name.as_str().to_owned())),
            None
        );
        assert_eq!(found, ["a/1", "a/3", "a/4", "a/7", "a/8"]);
    }

    // [attack: deep-topic]
    #[test]
    fn thousands_of_levels_are_no_trouble() {
        let slashes = "/".repeat(65_535);
        let tree = tree(&[&slashes, &slashes[1..], &slashes[..32_767]]);
        let plusses = format!("{}+", "+/".repeat(32_767));
        assert_eq!(matching(&tree, &plusses), [&slashes[..32_767]]);
        assert_eq!(matching(&tree, &format!("+/{}#", "/".repeat(65_532))), [&slashes[1..], &slashes]);
        assert_eq!(matching(&tree, &slashes), [slashes.as_str()]);
    }
}
