//! How long the topic trees take: `cargo run --release -p lapwing-proto --example topic_speed`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that prints its results")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lapwing_proto::topic::{FilterTree, NameTree, TopicFilter, TopicName, TopicNameBuf};

fn main() {
    filter_tree(0, "exact filters only");
    filter_tree(30_000, "70 % exact, 20 % '+', 10 % '#'");
    name_tree(100_000);
    name_tree(1_000_000);
}

fn filter_tree(wild: usize, title: &str) {
    let mut tree: FilterTree<u32, u64> = FilterTree::new();
    let start = Instant::now();
    for n in 0..100_000 {
        let (site, device) = (n % 100, scatter(n));
        let filter = match n {
            _ if n >= wild => format!("site/{site}/device/{device:06}/state"),
            _ if n % 3 == 0 => format!("site/{site}/device/{device:06}/#"),
            _ if n % 3 == 1 => format!("site/+/device/{device:06}/state"),
            _ => format!("site/{site}/+/{device:06}/state"),
        };
        tree.insert(TopicFilter::new(&filter).unwrap(), u32::try_from(n).unwrap(), 0);
    }
    println!("filter tree, 100,000 filters, {title}: insert {:?} each", start.elapsed() / 100_000);
    let names: Vec<_> = (0..100_000)
        .map(|n| {
            let n = scatter(n) % 100_000;
            format!("site/{}/device/{:06}/state", n % 100, scatter(n))
        })
        .collect();
    let names: Vec<_> = names.iter().map(|name| TopicName::new(name).unwrap()).collect();
    let mut found = 0;
    let each = best_of_5(|| {
        names.iter().for_each(|&name| tree.matches(name, |_, _| found += 1));
    }) / 100_000;
    println!("  match {each:?}, {} found in each", f64::from(found) / 500_000.0);
    let none: Vec<_> = (0..100_000).map(|n| format!("elsewhere/{n}/device/state")).collect();
    let none: Vec<_> = none.iter().map(|name| TopicName::new(name).unwrap()).collect();
    let each = best_of_5(|| {
        none.iter().for_each(|&name| tree.matches(black_box(name), |_, _| unreachable!("nothing matches")));
    }) / 100_000;
    println!("  match of nothing {each:?}");
}

fn name_tree(count: usize) {
    let mut tree: NameTree<u64> = NameTree::new();
    let names: Vec<_> =
        (0..count).map(|n| format!("site/{}/device/{:06}/state", n % 1_000, scatter(n))).collect();
    let names: Vec<_> = names.iter().map(|name| TopicName::new(name).unwrap()).collect();
    let divisor = u32::try_from(count).unwrap();
    let start = Instant::now();
    for &name in &names {
        tree.insert(name, 0);
    }
    println!("name tree, {count} names: insert {:?}", start.elapsed() / divisor);
    let each = best_of_5(|| {
        assert!(names.iter().all(|&name| tree.get(name).is_some()));
    }) / divisor;
    println!("  get {each:?}");
    for text in
        ["#", "site/7/#", "site/+/device/+/state", "site/+/device/000000/state", "site/+/nothing", "+/+"]
    {
        let mut found = 0;
        let filter = TopicFilter::new(text).unwrap();
        let (mut steps, mut longest) = (0, Duration::ZERO);
        let start = Instant::now();
        let mut last: Option<TopicNameBuf> = None;
        loop {
            let step = Instant::now();
            let after = last.as_ref().map(TopicNameBuf::as_name);
            last = tree.matches_after(filter, after, 256, |_, _| found += 1);
            longest = longest.max(step.elapsed());
            steps += 1;
            if last.is_none() {
                break;
            }
        }
        println!(
            "  {text}: {found} found in {:?}, {steps} steps of 256, longest {longest:?}",
            start.elapsed()
        );
    }
}

/// A bijection, so that neighbours in time are none in memory.
fn scatter(n: usize) -> usize {
    (n * 7_919 + 1) % 1_000_003
}

fn best_of_5(mut run: impl FnMut()) -> Duration {
    let timed = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..5).map(timed).min().unwrap_or_default()
}
