//! Properties of topic names, filters and the two trees, held against the plainest way to say the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::fuzzing;
use lapwing_proto::topic::{FilterTree, NameTree, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The matching rules of the specification, level by level.
fn naive_match(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        (["+" | "#", ..], [first, ..]) if first.starts_with('$') => false,
        _ => naive_levels(pattern, name),
    }
}

fn naive_levels(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        (["#"], _) | ([], []) => true,
        (["+", pattern @ ..], [_, name @ ..]) => naive_levels(pattern, name),
        ([wanted, pattern @ ..], [level, name @ ..]) => wanted == level && naive_levels(pattern, name),
        _ => false,
    }
}

fn naive(filter: &TopicFilterBuf, name: &TopicNameBuf) -> bool {
    let pattern: Vec<&str> = match filter.as_str().strip_prefix("$share/") {
        Some(shared) => shared.split('/').skip(1).collect(),
        None => filter.as_str().split('/').collect(),
    };
    naive_match(&pattern, &name.as_str().split('/').collect::<Vec<_>>())
}

/// Few different levels, so that names and filters often meet; some sort before `/`, some have several bytes.
fn level() -> impl Strategy<Value = &'static str> {
    select(&["", "a", "b", "a!", "a-", "ab", "é", "$", "$SYS", "\u{1}", "a level longer than inline"][..])
}

fn name() -> impl Strategy<Value = TopicNameBuf> {
    vec(level(), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter_map("an empty name", |text| TopicNameBuf::new(text).ok())
}

fn filter() -> impl Strategy<Value = TopicFilterBuf> {
    let level = prop_oneof![3 => level(), 2 => Just("+")];
    let share = prop_oneof![9 => Just(""), 1 => Just("$share/g/")];
    (share, vec(level, 0..6), any::<bool>()).prop_filter_map(
        "an empty filter",
        |(share, mut levels, hash)| {
            levels.extend(hash.then_some("#"));
            TopicFilterBuf::new(format!("{share}{}", levels.join("/"))).ok()
        },
    )
}

#[derive(Debug, Clone)]
enum Change<T> {
    Insert(T, u8),
    /// Removes one inserted before, if there is any.
    Remove(Index),
}

fn changes<T: std::fmt::Debug + Clone>(
    of: impl Strategy<Value = T>,
    count: usize,
) -> impl Strategy<Value = Vec<Change<T>>> {
    let insert = (of, 0_u8..4).prop_map(|(item, key)| Change::Insert(item, key));
    vec(prop_oneof![3 => insert, 2 => any::<Index>().prop_map(Change::Remove)], 0..count)
}

/// Without a share name.
fn pattern(filter: &TopicFilterBuf) -> String {
    filter.as_filter().pattern().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_a_topic_or_an_error(text: String, raw in "[+#/$a\0]{0,12}", share in r"\$share/?[+#/a]{0,6}") {
        for text in [text, raw, share] {
            let special = text.is_empty() || text.contains('\0');
            let name = TopicName::new(&text);
            prop_assert_eq!(name.is_ok(), !special && !text.contains(['+', '#']));
            if let Ok(filter) = TopicFilter::new(&text) {
                prop_assert!(!special);
                prop_assert_eq!(filter.as_str(), &text);
                prop_assert!(!filter.pattern().is_empty());
                prop_assert!(filter.levels().all(|level| level.len() == 1 || !level.contains(['+', '#'])));
                let rest = filter.share_name().map_or(String::new(), |name| format!("$share/{name}/"));
                prop_assert_eq!(rest + filter.pattern(), text);
            } else if let Ok(name) = name {
                prop_assert!(name.as_str().starts_with("$share"), "any other name is a filter too");
            }
        }
    }

    #[test]
    fn a_filter_matches_what_the_rules_say(filter in filter(), names in vec(name(), 1..20)) {
        for name in names {
            prop_assert_eq!(filter.as_filter().matches(name.as_name()), naive(&filter, &name), "{}", name);
        }
    }

    #[test]
    fn the_filter_tree_finds_what_each_filter_matches(
        changes in changes(filter(), 60),
        names in vec(name(), 1..20),
    ) {
        let mut tree = FilterTree::new();
        let mut model: BTreeMap<(String, u8), (TopicFilterBuf, usize)> = BTreeMap::new();
        for (change, time) in changes.into_iter().zip(0..) {
            let before = tree.generation();
            match change {
                Change::Insert(filter, key) => {
                    let old = tree.insert(filter.as_filter(), key, time);
                    prop_assert_ne!(tree.generation(), before);
                    let known = model.insert((pattern(&filter), key), (filter, time));
                    prop_assert_eq!(old, known.map(|(_, time)| time));
                }
                Change::Remove(_) if model.is_empty() => {}
                Change::Remove(at) => {
                    let own = model.keys().nth(at.index(model.len())).cloned().unwrap();
                    let (filter, time) = model.remove(&own).unwrap();
                    prop_assert_eq!(tree.get(filter.as_filter(), &own.1), Some(&time));
                    prop_assert_eq!(tree.remove(filter.as_filter(), &own.1), Some(time));
                    prop_assert_eq!(tree.remove(filter.as_filter(), &own.1), None);
                    prop_assert_ne!(tree.generation(), before);
                }
            }
            prop_assert_eq!((tree.len(), tree.is_empty()), (model.len(), model.is_empty()));
        }
        for name in &names {
            let mut found = Vec::new();
            tree.matches(name.as_name(), |&key, &time| found.push((key, time)));
            found.sort_unstable();
            let matching = model.iter().filter(|(_, (filter, _))| naive(filter, name));
            let mut wanted: Vec<_> = matching.map(|((_, key), (_, time))| (*key, *time)).collect();
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted, "{}", name);
        }
        for ((_, key), (filter, time)) in model {
            prop_assert_eq!(tree.remove(filter.as_filter(), &key), Some(time));
        }
        prop_assert!(tree.is_empty());
        for name in &names {
            tree.matches(name.as_name(), |_, _| unreachable!("an empty tree"));
        }
    }

    #[test]
    fn the_name_tree_finds_what_a_filter_matches(
        changes in changes(name(), 60),
        filters in vec(filter(), 1..20),
        limit in 0_usize..5,
    ) {
        let mut tree = NameTree::new();
        let mut model = BTreeMap::new();
        for change in changes {
            apply(&mut tree, &mut model, change)?;
        }
        for filter in &filters {
            let whole = run(&tree, filter, usize::MAX);
            prop_assert!(whole.is_sorted_by(|a, b| a.split('/').lt(b.split('/'))));
            let found: BTreeSet<_> = whole.iter().cloned().collect();
            prop_assert_eq!(found.len(), whole.len(), "each once");
            let wanted = model.keys().filter(|&name| naive(filter, &TopicNameBuf::new(name.as_str()).unwrap()));
            prop_assert_eq!(found, wanted.cloned().collect(), "{}", filter);
            prop_assert_eq!(run(&tree, filter, limit), whole, "in steps of {}", limit);
        }
    }

    #[test]
    fn names_that_come_and_go_meanwhile_do_not_disturb_the_others(
        names in vec(name(), 0..40),
        steps in vec(changes(name(), 6), 0..30),
        filter in filter(),
        limit in 1_usize..4,
    ) {
        let mut tree = NameTree::new();
        let mut model = BTreeMap::new();
        for name in names {
            apply(&mut tree, &mut model, Change::Insert(name, 0))?;
        }
        let mut always: BTreeSet<String> = model.keys().cloned().collect();
        let mut ever = always.clone();
        let mut found = Vec::new();
        let mut steps = steps.into_iter();
        let mut last: Option<TopicNameBuf> = None;
        loop {
            let after = last.as_ref().map(TopicNameBuf::as_name);
            let next = tree.matches_after(filter.as_filter(), after, limit, |name, _| {
                found.push(name.as_str().to_owned());
            });
            prop_assert!(next.as_ref().is_none_or(|next| {
                after.is_none_or(|after| after.levels().lt(next.as_name().levels()))
            }), "the cursor only goes on");
            last = next;
            if last.is_none() {
                break;
            }
            for change in steps.next().unwrap_or_default() {
                apply(&mut tree, &mut model, change)?;
                always.retain(|name| model.contains_key(name));
                ever.extend(model.keys().cloned());
            }
        }
        let once: BTreeSet<_> = found.iter().cloned().collect();
        prop_assert_eq!(once.len(), found.len(), "no name twice");
        let is_match = |name: &&String| naive(&filter, &TopicNameBuf::new(name.as_str()).unwrap());
        prop_assert!(always.iter().filter(is_match).all(|name| once.contains(name)));
        prop_assert!(once.iter().all(|name| ever.contains(name) && is_match(&name)));
    }

    #[test]
    fn the_fuzz_harness_accepts_any_bytes(data in vec(any::<u8>(), 0..400)) {
        fuzzing::topic_filter(&data);
    }

    #[test]
    fn the_fuzz_harness_holds_for_likely_lines(lines in vec("[!-,][ab+/#$]{1,7}", 0..60)) {
        fuzzing::topic_filter(lines.join("\n").as_bytes());
    }
}

fn apply(
    tree: &mut NameTree<usize>,
    model: &mut BTreeMap<String, usize>,
    change: Change<TopicNameBuf>,
) -> Result<(), TestCaseError> {
    match change {
        Change::Insert(name, _) => {
            let value = name.as_str().len();
            prop_assert_eq!(
                tree.insert(name.as_name(), value),
                model.insert(name.as_str().to_owned(), value)
            );
            prop_assert_eq!(tree.get(name.as_name()), Some(&value));
            prop_assert_eq!(tree.get_mut(name.as_name()).copied(), Some(value));
        }
        Change::Remove(_) if model.is_empty() => {}
        Change::Remove(at) => {
            let name = model.keys().nth(at.index(model.len())).cloned().unwrap();
            let value = model.remove(&name);
            let name = TopicName::new(&name).unwrap();
            prop_assert_eq!(tree.remove(name), value);
            prop_assert_eq!(tree.remove(name), None);
            prop_assert_eq!(tree.get(name), None);
        }
    }
    prop_assert_eq!((tree.len(), tree.is_empty()), (model.len(), model.is_empty()));
    Ok(())
}

fn run(tree: &NameTree<usize>, filter: &TopicFilterBuf, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut last: Option<TopicNameBuf> = None;
    loop {
        let after = last.as_ref().map(TopicNameBuf::as_name);
        last = tree.matches_after(filter.as_filter(), after, limit, |name, &len| {
            assert_eq!(name.as_str().len(), len);
            found.push(name.as_str().to_owned());
        });
        if last.is_none() {
            return found;
        }
    }
}
