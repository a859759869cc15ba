use std::hash::BuildHasher;
use std::mem;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::TopicName;
use super::arena::{Arena, ID_MAXIMUM, TaggedId};

/// Values by patterns with wildcards, a node for each level.
///
/// * All children with a literal level are in one hash table, keyed by their parent and level. Small nodes
///   without maps of their own keep a deep tree lean. The `+` child is a field of its parent, and what
///   stands under `#` is a value of the node it would be a child of.
/// * A run of literal levels at the end of a pattern stays one node (a *folded* leaf) until a second pattern
///   needs a fork in it. Most filters end in such a run.
/// * Matching goes level by level with the set of nodes reached so far, so each level of the name is found
///   and hashed once, whatever the number of branches, and each stored node is visited at most once.
#[derive(Debug, Clone)]
pub(super) struct PatternTrie<T> {
    /// Empty, or with the root at [`ROOT`].
    nodes: Arena<Node<T>>,
    /// Those that have no place in their nodes.
    values: Arena<T>,
    /// By parent and level.
    literals: HashTable<TaggedId>,
    hasher: DefaultHashBuilder,
    /// How many patterns there are.
    len: usize,
}

/// A position in `PatternTrie::nodes`; half the size of a `usize`, as there are many.
type NodeId = u32;
/// A position in `PatternTrie::values`, or [`OWN`].
type ValueId = u32;

const ROOT: NodeId = 0;
const NONE: u32 = u32::MAX;
/// The value is the node's own.
const OWN: ValueId = u32::MAX - 1;
const _: () = assert!(OWN > ID_MAXIMUM);

/// As long as a cache line, if the value has the size that a broker's have, and beginning with one.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Node<T> {
    /// The level, or all levels of a folded leaf with `/` between them. Empty for the root and for `+`.
    label: Label,
    parent: NodeId,
    plus: NodeId,
    /// How many children in `PatternTrie::literals`.
    literals: u32,
    /// Of the pattern that ends here.
    here: ValueId,
    /// Of the pattern that goes on with `#`.
    below: ValueId,
    /// One of the two. Hardly any node has both.
    value: T,
}

/// Where a pattern's value stands: in the `here` or the `below` of a node.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: NodeId,
    below: bool,
}

impl<T: Default> PatternTrie<T> {
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        Self { nodes: Arena::new(), values: Arena::new(), literals: HashTable::new(), hasher, len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, pattern: &str) -> Option<&T> {
        let place = self.find(pattern.as_bytes())?;
        match self.value_at(place) {
            NONE => None,
            OWN => Some(&self.nodes[place.node].value),
            id => Some(&self.values[id]),
        }
    }

    pub(super) fn get_mut(&mut self, pattern: &str) -> Option<&mut T> {
        let place = self.find(pattern.as_bytes())?;
        match self.value_at(place) {
            NONE => None,
            OWN => Some(&mut self.nodes[place.node].value),
            id => Some(&mut self.values[id]),
        }
    }

    pub(super) fn get_or_default(&mut self, pattern: &str) -> &mut T {
        let place = self.find_or_create(pattern.as_bytes());
        let mut value = self.value_at(place);
        if value == NONE {
            let other = Place { below: !place.below, ..place };
            value = if self.value_at(other) == OWN { self.values.insert(T::default()) } else { OWN };
            self.set_value(place, value);
            self.len += 1;
        }
        if value == OWN { &mut self.nodes[place.node].value } else { &mut self.values[value] }
    }

    pub(super) fn remove(&mut self, pattern: &str) -> Option<T> {
        let place = self.find(pattern.as_bytes())?;
        let removed = match self.value_at(place) {
            NONE => return None,
            OWN => mem::take(&mut self.nodes[place.node].value),
            id => self.values.remove(id)?,
        };
        self.set_value(place, NONE);
        self.len -= 1;
        self.prune(place.node);
        if self.len == 0 {
            *self = Self::new(self.hasher.clone());
        }
        Some(removed)
    }

    /// Visits the value of each pattern that matches `name`.
    pub(super) fn for_each_match(&self, name: TopicName<'_>, mut visit: impl FnMut(&T)) {
        if self.is_empty() {
            return;
        }
        let root = &self.nodes[ROOT];
        // No wildcard in the first level matches a name that starts with '$' [MQTT-4.7.2-1].
        let mut wildcard = !name.is_system();
        if wildcard {
            self.visit(root, root.below, &mut visit);
        }
        // References change places below, since the sets themselves are larger.
        let mut sets = (NodeSet::default(), NodeSet::default());
        let (mut reached, mut next) = (&mut sets.0, &mut sets.1);
        reached.push(ROOT);
        let mut rest = name.as_str().as_bytes();
        loop {
            let level = first_level(rest);
            let last = level.len() == rest.len();
            let hash = self.hasher.hash_one(level);
            for at in reached.iter() {
                let node = &self.nodes[at];
                if wildcard && node.plus != NONE {
                    self.arrive(node.plus, last, next, &mut visit);
                }
                if node.literals == 0 {
                    continue;
                }
                let Some(child) = self.literal(at, level, hash) else { continue };
                let label = self.nodes[child].label.as_bytes();
                if label.len() == level.len() {
                    self.arrive(child, last, next, &mut visit);
                } else if rest.starts_with(label) {
                    self.arrive_at_leaf(child, &rest[label.len()..], &mut visit);
                }
            }
            if last || next.is_empty() {
                return;
            }
            rest = &rest[level.len() + 1..];
            wildcard = true;
            mem::swap(&mut reached, &mut next);
            next.clear();
        }
    }

    fn arrive(&self, at: NodeId, last: bool, next: &mut NodeSet, visit: &mut impl FnMut(&T)) {
        let node = &self.nodes[at];
        self.visit(node, node.below, visit);
        if last {
            self.visit(node, node.here, visit);
        } else if node.plus != NONE || node.literals > 0 {
            next.push(at);
        }
    }

    /// `rest`: what of the name is behind the leaf's levels.
    fn arrive_at_leaf(&self, at: NodeId, rest: &[u8], visit: &mut impl FnMut(&T)) {
        let node = &self.nodes[at];
        if rest.is_empty() {
            self.visit(node, node.here, visit);
        }
        if rest.is_empty() || rest[0] == b'/' {
            self.visit(node, node.below, visit);
        }
    }

    fn visit(&self, node: &Node<T>, value: ValueId, visit: &mut impl FnMut(&T)) {
        match value {
            NONE => {}
            OWN => visit(&node.value),
            id => visit(&self.values[id]),
        }
    }

    fn find(&self, pattern: &[u8]) -> Option<Place> {
        if self.nodes.is_empty() {
            return None;
        }
        let (mut at, mut rest) = (ROOT, pattern);
        loop {
            let level = first_level(rest);
            match level {
                b"#" => return Some(Place { node: at, below: true }),
                b"+" => at = Some(self.nodes[at].plus).filter(|&plus| plus != NONE)?,
                _ => {
                    at = self.literal(at, level, self.hasher.hash_one(level))?;
                    let label = self.nodes[at].label.as_bytes();
                    if label.len() > level.len() {
                        let (levels, below) = split_hash(rest);
                        return (levels == label).then_some(Place { node: at, below });
                    }
                }
            }
            if level.len() == rest.len() {
                return Some(Place { node: at, below: false });
            }
            rest = &rest[level.len() + 1..];
        }
    }

    fn find_or_create(&mut self, pattern: &[u8]) -> Place {
        if self.nodes.is_empty() {
            self.nodes.insert(Node::new(Label::default(), NONE));
        }
        // Behind the last '+', a new run of levels is folded.
        let fold_from = memchr::memrchr(b'+', pattern).map_or(0, |plus| plus + 1);
        let (mut at, mut rest) = (ROOT, pattern);
        loop {
            let level = first_level(rest);
            match level {
                b"#" => return Place { node: at, below: true },
                b"+" => at = self.find_or_create_plus(at),
                _ => match self.literal(at, level, self.hasher.hash_one(level)) {
                    None if pattern.len() - rest.len() >= fold_from => {
                        let (levels, below) = split_hash(rest);
                        return Place { node: self.create_literal(at, levels), below };
                    }
                    None => at = self.create_literal(at, level),
                    Some(child) => {
                        at = child;
                        let label = self.nodes[at].label.as_bytes();
                        let (levels, below) = split_hash(rest);
                        if label.len() > level.len() {
                            if label == levels {
                                return Place { node: at, below };
                            }
                            self.unfold(at, rest);
                        }
                    }
                },
            }
            if level.len() == rest.len() {
                return Place { node: at, below: false };
            }
            rest = &rest[level.len() + 1..];
        }
    }

    fn find_or_create_plus(&mut self, at: NodeId) -> NodeId {
        let plus = self.nodes[at].plus;
        if plus != NONE {
            return plus;
        }
        let plus = self.nodes.insert(Node::new(Label::default(), at));
        self.nodes[at].plus = plus;
        plus
    }

    fn literal(&self, parent: NodeId, level: &[u8], level_hash: u64) -> Option<NodeId> {
        let tag = literal_tag(parent, level_hash);
        let is_it = |own: &TaggedId| {
            let is_likely = own.tag == tag;
            is_likely && {
                let node = &self.nodes[own.id];
                node.parent == parent && node.label.starts_with_level(level)
            }
        };
        self.literals.find(TaggedId::hash(tag), is_it).map(|own| own.id)
    }

    fn create_literal(&mut self, parent: NodeId, levels: &[u8]) -> NodeId {
        let id = self.nodes.insert(Node::new(Label::new(levels), parent));
        self.nodes[parent].literals += 1;
        let tag = literal_tag(parent, self.hasher.hash_one(first_level(levels)));
        self.literals.insert_unique(TaggedId::hash(tag), TaggedId { tag, id }, |own| TaggedId::hash(own.tag));
        id
    }

    /// Turns a folded leaf into a chain of nodes, as far as its levels are those of `wanted` (they share the
    /// first), and what is left into a leaf at the end of it. The node given becomes the first of the chain.
    fn unfold(&mut self, leaf: NodeId, wanted: &[u8]) {
        let node = &mut self.nodes[leaf];
        let label = mem::take(&mut node.label);
        let (here, below) = (mem::replace(&mut node.here, NONE), mem::replace(&mut node.below, NONE));
        let value = mem::take(&mut node.value);
        let shared =
            levels(label.as_bytes()).zip(levels(wanted)).take_while(|(own, other)| own == other).count();
        let mut levels = label.as_bytes().splitn(shared + 1, |&byte| byte == b'/');
        node.label = Label::new(levels.next().unwrap_or_default());
        // `splitn` leaves all levels behind the shared ones in one piece.
        let end = levels.fold(leaf, |parent, levels| self.create_literal(parent, levels));
        let end = &mut self.nodes[end];
        (end.here, end.below, end.value) = (here, below, value);
    }

    /// Removes `at` and those above it that are there for nothing.
    fn prune(&mut self, mut at: NodeId) {
        while at != ROOT && self.nodes[at].is_bare() {
            let parent = self.nodes[at].parent;
            if self.nodes[parent].plus == at {
                self.nodes[parent].plus = NONE;
            } else {
                let level_hash = self.hasher.hash_one(first_level(self.nodes[at].label.as_bytes()));
                let hash = TaggedId::hash(literal_tag(parent, level_hash));
                if let Ok(entry) = self.literals.find_entry(hash, |own| own.id == at) {
                    entry.remove();
                }
                self.nodes[parent].literals -= 1;
            }
            self.nodes.remove(at);
            at = parent;
        }
    }

    fn value_at(&self, place: Place) -> ValueId {
        let node = &self.nodes[place.node];
        if place.below { node.below } else { node.here }
    }

    fn set_value(&mut self, place: Place, value: ValueId) {
        let node = &mut self.nodes[place.node];
        *(if place.below { &mut node.below } else { &mut node.here }) = value;
    }
}

impl<T: Default> Node<T> {
    fn new(label: Label, parent: NodeId) -> Self {
        Self { label, parent, plus: NONE, literals: 0, here: NONE, below: NONE, value: T::default() }
    }

    fn is_bare(&self) -> bool {
        self.here == NONE && self.below == NONE && self.plus == NONE && self.literals == 0
    }
}

/// For a node with a literal level. The hash of the level, which no peer knows, is spread anew for each parent.
fn literal_tag(parent: NodeId, level_hash: u64) -> u32 {
    ((level_hash ^ u64::from(parent)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

fn levels(levels: &[u8]) -> impl Iterator<Item = &[u8]> {
    levels.split(|&byte| byte == b'/')
}

fn first_level(levels: &[u8]) -> &[u8] {
    // Most levels end before a search with vector instructions would have begun.
    let near = &levels[..levels.len().min(12)];
    let end = near.iter().position(|&byte| byte == b'/');
    let end = end.or_else(|| Some(near.len() + memchr::memchr(b'/', &levels[near.len()..])?));
    end.map_or(levels, |end| &levels[..end])
}

/// The levels without a `#` at the end, and whether there was one. Not for `#` alone.
fn split_hash(levels: &[u8]) -> (&[u8], bool) {
    levels.strip_suffix(b"/#").map_or((levels, false), |levels| (levels, true))
}

/// One level or several; short ones, which nearly all are, without an allocation.
#[derive(Debug, Clone)]
enum Label {
    Inline { len: u8, bytes: [u8; INLINE_LABEL] },
    Boxed(Box<[u8]>),
}

/// As many bytes as a `Label` takes no more memory with.
const INLINE_LABEL: usize = 22;

impl Label {
    fn new(levels: &[u8]) -> Self {
        let mut bytes = [0; INLINE_LABEL];
        match (u8::try_from(levels.len()), bytes.get_mut(..levels.len())) {
            (Ok(len), Some(space)) => {
                space.copy_from_slice(levels);
                Self::Inline { len, bytes }
            }
            _ => Self::Boxed(levels.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }

    fn starts_with_level(&self, level: &[u8]) -> bool {
        self.as_bytes().strip_prefix(level).is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'))
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE_LABEL] }
    }
}

/// The nodes reached at one level. A few need no allocation.
#[derive(Default)]
struct NodeSet {
    first: [NodeId; 16],
    len: usize,
    more: Vec<NodeId>,
}

impl NodeSet {
    fn push(&mut self, node: NodeId) {
        if let Some(place) = self.first.get_mut(self.len) {
            *place = node;
            self.len += 1;
        } else {
            self.more.push(node);
        }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.more.clear();
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.first[..self.len].iter().chain(&self.more).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscriber::Subscribers;
    use super::*;

    fn trie(patterns: &[&str]) -> PatternTrie<String> {
        let mut trie = PatternTrie::new(DefaultHashBuilder::default());
        for &pattern in patterns {
            *trie.get_or_default(pattern) = pattern.to_owned();
        }
        trie
    }

    fn matches(trie: &PatternTrie<String>, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        trie.for_each_match(TopicName::new(name).unwrap(), |value| found.push(value.clone()));
        found.sort_unstable();
        found
    }

    #[test]
    fn nodes_are_as_small_as_planned() {
        assert_eq!(size_of::<Label>(), 24);
        assert_eq!(size_of::<Node<Subscribers<u64, ()>>>(), 64);
        assert_eq!(size_of::<Option<Node<Subscribers<u64, ()>>>>(), 64, "an arena needs no more");
    }

    #[test]
    fn a_run_of_literal_levels_is_one_node_until_it_forks() {
        let mut trie = trie(&["+/a/b/c/d"]);
        assert_eq!(trie.nodes.len(), 3, "root, '+' and the run");
        *trie.get_or_default("+/a/b/x/#") = "+/a/b/x/#".to_owned();
        assert_eq!(trie.nodes.len(), 6, "root, '+', a, b, and the runs c/d and x");
        assert_eq!(matches(&trie, "1/a/b/c/d"), ["+/a/b/c/d"]);
        assert_eq!(matches(&trie, "1/a/b/x"), ["+/a/b/x/#"]);
        assert_eq!(matches(&trie, "1/a/b/x/y"), ["+/a/b/x/#"]);
        assert_eq!(matches(&trie, "1/a/b/c"), [""; 0]);
        assert_eq!(matches(&trie, "1/a/b/c/d/e"), [""; 0]);
        assert_eq!(matches(&trie, "1/a/b/c/dd"), [""; 0]);
    }

    #[test]
    fn a_run_forks_where_another_pattern_ends_or_has_a_wildcard() {
        for other in ["+/a/#", "+/a/b", "+/a/+/c", "+/a/b/c/d/e", "+/a/b/c/d/#", "+/a/b/c/d/+", "+/+", "+//a"]
        {
            let mut trie = trie(&["+/a/b/c/d", other]);
            assert_eq!(trie.get("+/a/b/c/d").map(String::as_str), Some("+/a/b/c/d"));
            assert_eq!(trie.get(other).map(String::as_str), Some(other));
            assert!(matches(&trie, "1/a/b/c/d").contains(&"+/a/b/c/d".to_owned()), "beside {other}");
            assert_eq!(trie.remove(other).as_deref(), Some(other));
            assert_eq!(matches(&trie, "1/a/b/c/d"), ["+/a/b/c/d"]);
        }
    }

    #[test]
    fn removing_everything_gives_everything_back() {
        let patterns = ["#", "+", "a/#", "a/+/b", "+/a/b/c", "+/a/b/d", "+/a/b/c/#", "/#", "+//+//", "+/a/b"];
        for by in 1..patterns.len() {
            let mut trie = trie(&patterns);
            let mut order = patterns;
            order.rotate_left(by);
            for (at, pattern) in order.into_iter().enumerate() {
                assert_eq!(trie.remove(pattern).as_deref(), Some(pattern));
                assert_eq!(trie.remove(pattern), None);
                let left = order.iter().skip(at + 1);
                assert!(left.clone().all(|&pattern| trie.get(pattern).is_some_and(|value| value == pattern)));
            }
            assert!(trie.is_empty());
            assert_eq!(trie.nodes.places(), 0);
            assert_eq!(trie.literals.capacity(), 0);
        }
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut trie = trie(&["+/stays"]);
        for round in 0..1_000 {
            let pattern = format!("round/{round}/+/x/#");
            *trie.get_or_default(&pattern) = pattern.clone();
            assert_eq!(trie.remove(&pattern), Some(pattern));
        }
        assert_eq!(trie.nodes.len(), 3);
        assert!(trie.nodes.places() <= 16);
        assert!(trie.values.is_empty());
    }

    #[test]
    fn long_and_short_labels_are_kept() {
        for len in [0, 1, 21, 22, 23, 300] {
            let level = "x".repeat(len);
            let pattern = format!("+/{level}");
            let trie = trie(&[&pattern]);
            assert_eq!(matches(&trie, &format!("a/{level}")), [pattern]);
        }
    }

    #[test]
    fn a_set_of_nodes_outgrows_its_first_places() {
        let mut set = NodeSet::default();
        for _ in 0..2 {
            (0..100).for_each(|node| set.push(node));
            assert!(set.iter().eq(0..100));
            set.clear();
            assert!(set.is_empty() && set.iter().next().is_none());
        }
    }
}
