use crate::topic::{FilterTree, NameTree, TopicFilter, TopicName, TopicNameBuf};

/// Applies a list of operations to both trees and compares them with plain lists after each.
///
/// An operation is a line of the input. Its first byte modulo 3 says what to do with the text behind it, as a
/// filter and as a name where it is one: insert it, remove it, or only look. What is left of the byte is the
/// key of the filter, or the number of names to look at in one step. A name is always looked up before.
pub fn topic_filter(data: &[u8]) {
    let mut lists = Lists::default();
    // Each line is compared with all before it.
    for line in data.split(|&byte| byte == b'\n').take(MAX_LINES) {
        let Some((&operation, text)) = line.split_first() else { continue };
        let Ok(text) = str::from_utf8(text) else { continue };
        let (operation, key) = (operation % 3, operation / 3 % 4);
        if let Ok(filter) = TopicFilter::new(text) {
            match operation {
                0 => lists.insert_filter(filter, key),
                1 => lists.remove_filter(filter, key),
                _ => lists.check_filter(filter, usize::from(key)),
            }
        }
        if let Ok(name) = TopicName::new(text) {
            lists.check_name(name);
            match operation {
                0 => lists.insert_name(name),
                1 => lists.remove_name(name),
                _ => {}
            }
        }
    }
}

const MAX_LINES: usize = 200;

/// The trees, and the lists that they must agree with.
#[derive(Default)]
struct Lists<'a> {
    filter_tree: FilterTree<u8, usize>,
    filters: Vec<(TopicFilter<'a>, u8, usize)>,
    name_tree: NameTree<usize>,
    names: Vec<TopicName<'a>>,
    time: usize,
}

impl<'a> Lists<'a> {
    fn insert_filter(&mut self, filter: TopicFilter<'a>, key: u8) {
        self.time += 1;
        let old = self.take_filter(filter, key);
        self.filters.push((filter, key, self.time));
        assert_eq!(self.filter_tree.insert(filter, key, self.time), old);
        assert_eq!(self.filter_tree.get(filter, &key), Some(&self.time));
        assert_eq!(self.filter_tree.len(), self.filters.len());
    }

    fn remove_filter(&mut self, filter: TopicFilter<'a>, key: u8) {
        let old = self.take_filter(filter, key);
        let generation = self.filter_tree.generation();
        assert_eq!(self.filter_tree.remove(filter, &key), old);
        assert_eq!(self.filter_tree.generation() != generation, old.is_some());
        assert_eq!(self.filter_tree.get(filter, &key), None);
        assert_eq!(self.filter_tree.len(), self.filters.len());
    }

    fn take_filter(&mut self, filter: TopicFilter<'a>, key: u8) -> Option<usize> {
        let same = |(own, own_key, _): &(TopicFilter<'_>, u8, usize)| {
            own.pattern() == filter.pattern() && *own_key == key
        };
        let at = self.filters.iter().position(same)?;
        Some(self.filters.swap_remove(at).2)
    }

    fn check_name(&self, name: TopicName<'_>) {
        let mut found = Vec::new();
        self.filter_tree.matches(name, |_, &time| found.push(time));
        found.sort_unstable();
        let matching = self.filters.iter().filter(|(filter, ..)| filter.matches(name));
        let mut wanted: Vec<_> = matching.map(|&(_, _, time)| time).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "filters that match {:?}", name.as_str());
    }

    fn insert_name(&mut self, name: TopicName<'a>) {
        let known = self.names.contains(&name);
        assert_eq!(self.name_tree.insert(name, name.as_str().len()).is_some(), known);
        if !known {
            self.names.push(name);
        }
        assert_eq!(self.name_tree.len(), self.names.len());
    }

    fn remove_name(&mut self, name: TopicName<'a>) {
        let at = self.names.iter().position(|&own| own == name);
        assert_eq!(self.name_tree.get(name).is_some(), at.is_some());
        assert_eq!(self.name_tree.remove(name).is_some(), at.is_some());
        if let Some(at) = at {
            self.names.swap_remove(at);
        }
        assert_eq!(self.name_tree.len(), self.names.len());
    }

    fn check_filter(&self, filter: TopicFilter<'_>, limit: usize) {
        let mut found = Vec::new();
        let mut last: Option<TopicNameBuf> = None;
        loop {
            let after = last.as_ref().map(TopicNameBuf::as_name);
            last = self.name_tree.matches_after(filter, after, limit, |name, &len| {
                assert_eq!(name.as_str().len(), len);
                found.push(name.to_buf());
            });
            if last.is_none() {
                break;
            }
        }
        assert!(found.is_sorted_by(|a, b| a.as_name().levels().lt(b.as_name().levels())));
        let mut found: Vec<_> = found.iter().map(TopicNameBuf::as_name).collect();
        found.sort_unstable();
        let mut wanted: Vec<_> = self.names.iter().copied().filter(|&name| filter.matches(name)).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "names that match {:?}", filter.as_str());
    }
}
