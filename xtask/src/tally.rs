//! How many tests passed and failed, read from the summaries that test runners print.

use std::ops::AddAssign;

/// Counts of tests. Skipped tests count neither as passed nor as failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Reads a runner's output: `None` when there is no summary in it.
pub(crate) type Reader = fn(&str) -> Option<Tally>;

/// cargo-nextest: `Summary [ 1.2s] 9/10 tests run: 7 passed (1 slow), 2 failed, 1 skipped`.
pub(crate) fn nextest(output: &str) -> Option<Tally> {
    let summary = output.lines().rev().map(str::trim).find(|line| line.starts_with("Summary ["))?;
    let (_, summary) = summary.split_once(']')?;
    let (run, results) = summary.split_once(" run:")?;
    let mut tally = Tally::default();
    for (count, label) in counts(&without_parentheses(results)) {
        match label.as_str() {
            "passed" => tally.passed += count,
            "skipped" => tally.skipped += count,
            _ => tally.failed += count,
        }
    }
    // With a slash, the run was cut short: what was not run did not pass.
    if let Some((finished, planned)) = run.trim().split(' ').next()?.split_once('/') {
        tally.failed += planned.parse::<u64>().ok()?.saturating_sub(finished.parse().ok()?);
    }
    Some(tally)
}

/// `cargo test`, which prints one `test result: ok. 3 passed; 0 failed; 1 ignored; …` per test program.
pub(crate) fn cargo_test(output: &str) -> Option<Tally> {
    let mut total: Option<Tally> = None;
    for result in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
        let tally = total.get_or_insert_default();
        let (_, results) = result.split_once(". ")?;
        for (count, label) in counts(&results.replace(';', ",")) {
            match label.as_str() {
                "passed" => tally.passed += count,
                "failed" => tally.failed += count,
                "ignored" => tally.skipped += count,
                _ => {}
            }
        }
    }
    total
}

/// pytest: `=== 1 failed, 12 passed, 2 skipped in 3.21s ===`, or `no tests ran in 0.01s`.
pub(crate) fn pytest(output: &str) -> Option<Tally> {
    output.lines().rev().find_map(|line| {
        let (results, duration) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
        if !duration.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        if results == "no tests ran" {
            return Some(Tally::default());
        }
        let counts = counts(results);
        if counts.is_empty() {
            return None;
        }
        let mut tally = Tally::default();
        for (count, label) in counts {
            match label.as_str() {
                "passed" => tally.passed += count,
                "failed" | "error" | "errors" | "xpassed" => tally.failed += count,
                "skipped" | "xfailed" => tally.skipped += count,
                _ => {}
            }
        }
        Some(tally)
    })
}

/// `node --test`: lines like `ℹ pass 3` or `# fail 0`.
pub(crate) fn node(output: &str) -> Option<Tally> {
    let mut tally = Tally::default();
    let mut found = false;
    for line in output.lines() {
        let Some(line) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# ")) else { continue };
        let Some((label, count)) = line.trim().split_once(' ') else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        match label {
            "pass" => (tally.passed, found) = (count, true),
            "fail" | "cancelled" => tally.failed += count,
            "skipped" | "todo" => tally.skipped += count,
            _ => {}
        }
    }
    found.then_some(tally)
}

/// The `3 passed` and `1 timed out` of a list separated by commas. Anything else in it is left out.
fn counts(list: &str) -> Vec<(u64, String)> {
    let count = |item: &str| {
        let (number, label) = item.trim().split_once(' ')?;
        Some((number.parse().ok()?, label.trim().to_owned()))
    };
    list.split(',').filter_map(count).collect()
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::new();
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally { passed, failed, skipped })
    }

    #[test]
    fn nextest_summaries() {
        let plain = "   PASS [   0.1s] a b\n     Summary [   0.005s] 3 tests run: 3 passed, 2 skipped\n";
        assert_eq!(nextest(plain), tally(3, 0, 2));
        let mixed = "Summary [ 9.0s] 12 tests run: 8 passed (1 slow, 2 leaky), 2 failed, 1 exec failed, 1 timed out, 0 skipped";
        assert_eq!(nextest(mixed), tally(8, 4, 0));
        assert_eq!(nextest("Summary [ 0.1s] 1 test run: 1 passed, 0 skipped\nerror: x"), tally(1, 0, 0));
        assert_eq!(nextest("error: could not compile"), None);
    }

    #[test]
    fn nextest_tests_that_were_not_run_have_failed() {
        assert_eq!(nextest("Summary [ 1s] 5/10 tests run: 4 passed, 1 failed, 0 skipped"), tally(4, 6, 0));
    }

    #[test]
    fn cargo_test_results_are_summed() {
        let output = "\
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";
        assert_eq!(cargo_test(output), tally(5, 4, 1));
        assert_eq!(cargo_test("running 0 tests"), None);
    }

    #[test]
    fn pytest_summaries() {
        let loud = "=========== 1 failed, 12 passed, 2 skipped, 1 warning in 3.21s ===========";
        assert_eq!(pytest(loud), tally(12, 1, 2));
        assert_eq!(pytest("....\n5 passed in 0.12s\n"), tally(5, 0, 0));
        assert_eq!(pytest("2 passed, 1 error in 62.12s (0:01:02)"), tally(2, 1, 0));
        assert_eq!(pytest("no tests ran in 0.01s"), tally(0, 0, 0));
        assert_eq!(pytest("found 3 things in 2 places"), None);
    }

    #[test]
    fn node_summaries() {
        let spec =
            "✔ a (1ms)\nℹ tests 6\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\n";
        assert_eq!(node(spec), tally(3, 2, 1));
        assert_eq!(node("ok 1 - a\n# tests 1\n# pass 1\n# fail 0\n"), tally(1, 0, 0));
        assert_eq!(node("Error: no such file"), None);
    }
}
