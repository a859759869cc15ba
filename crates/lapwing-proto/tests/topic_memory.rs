//! How much memory the trees take. Alone in its process: what other tests allocate would be counted too.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lapwing_proto::topic::{FilterTree, NameTree, TopicFilter, TopicName};

const COUNT: usize = 100_000;

#[test]
fn entries_are_lean() {
    let exact = texts("exact/NNN/floor/sensor/state");
    let wild = texts("device/NNN/+/status/errors/#");
    let names = texts("retained/NNN/building/room/dry");
    // Everything is kept until the end, so that no measure reuses the memory of another.
    let mut exact_tree: FilterTree<u32, u64> = FilterTree::new();
    let per_exact = growth(|| insert_all(&mut exact_tree, &exact));
    let mut wild_tree: FilterTree<u32, u64> = FilterTree::new();
    let per_wild = growth(|| insert_all(&mut wild_tree, &wild));
    let mut name_tree: NameTree<u64> = NameTree::new();
    let per_name = growth(|| {
        for name in &names {
            name_tree.insert(TopicName::new(name).unwrap(), 0);
        }
    });
    println!("bytes for each exact filter {per_exact}, filter with wildcards {per_wild}, name {per_name}");
    assert!((20..=200).contains(&per_exact), "{per_exact} bytes for each exact filter");
    assert!((20..=240).contains(&per_wild), "{per_wild} bytes for each filter with wildcards");
    assert!((20..=150).contains(&per_name), "{per_name} bytes for each name");
    assert_eq!((exact_tree.len(), wild_tree.len(), name_tree.len()), (COUNT, COUNT, COUNT));
}

fn texts(shape: &str) -> Vec<String> {
    (0..COUNT).map(|n| shape.replace("NNN", &format!("{n:06}"))).collect()
}

fn insert_all(tree: &mut FilterTree<u32, u64>, filters: &[String]) {
    for (filter, key) in filters.iter().zip(0..) {
        tree.insert(TopicFilter::new(filter).unwrap(), key, 0);
    }
}

/// The bytes that `fill` adds to the memory in use, for each of `COUNT`.
fn growth(fill: impl FnOnce()) -> usize {
    let before = resident_bytes();
    fill();
    resident_bytes().saturating_sub(before) / COUNT
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
