//! A test waits for the event itself, with a limit, and does not sleep and hope.
//!
//! A line that must sleep (to show that nothing happens for a while) says why at its end: `// sleep: reason`,
//! in Python `# sleep: reason`.

use crate::repository::Repository;
use crate::rust_source::{code_only, named_paths, unit_tests_start};

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let sources = repository.sources(&["rs", "py", "js", "mjs"]);
    sources.flat_map(|file| violations(&file.path, &file.text)).collect()
}

fn violations(path: &str, text: &str) -> Vec<String> {
    let is_test =
        path.split('/').any(|part| part == "tests" || part == "interop") && !path.starts_with("xtask/src/");
    let sleeps =
        if path.ends_with(".rs") { rust_sleeps(text, is_test) } else { script_sleeps(text, is_test) };
    let lines: Vec<&str> = text.lines().collect();
    let unexcused =
        sleeps.into_iter().filter(|line| !lines.get(line - 1).is_some_and(|line| has_reason(line)));
    unexcused
        .map(|line| {
            format!(
                "{path}:{line}: sleeps in a test: wait for the event, or end the line with `sleep: reason`"
            )
        })
        .collect()
}

/// The lines that name a function `sleep`: of std, tokio or anything else.
fn rust_sleeps(text: &str, is_test: bool) -> Vec<usize> {
    let code = code_only(text);
    let start = if is_test { Some(1) } else { unit_tests_start(&code) };
    let Some(start) = start else { return Vec::new() };
    let mut lines: Vec<usize> = named_paths(&code)
        .iter()
        .filter(|named| {
            named.line >= start
                && named
                    .segments
                    .last()
                    .is_some_and(|name| matches!(name.as_str(), "sleep" | "sleep_until" | "sleep_ms"))
        })
        .map(|named| named.line)
        .collect();
    lines.dedup();
    lines
}

fn script_sleeps(text: &str, is_test: bool) -> Vec<usize> {
    if !is_test {
        return Vec::new();
    }
    let calls = |code: &str, call: &str| {
        code.match_indices(call)
            .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let sleeps = |line: &str| {
        let code = line.trim_start();
        !code.starts_with(['#', '/'])
            && ["sleep(", "delay(", "await setTimeout("].iter().any(|call| calls(code, call))
    };
    text.lines().enumerate().filter(|(_, line)| sleeps(line)).map(|(index, _)| index + 1).collect()
}

fn has_reason(line: &str) -> bool {
    ["// sleep:", "# sleep:"]
        .iter()
        .any(|mark| line.split_once(mark).is_some_and(|(_, why)| !why.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_rust_tests() {
        let path = "crates/a/tests/b.rs";
        assert_eq!(violations(path, "fn a() { std::thread::sleep(b); }").len(), 1);
        assert_eq!(violations(path, "use tokio::time::{self, sleep};\nfn a() { time::sleep(b) }").len(), 2);
        assert_eq!(violations(path, "thread::sleep(b); // sleep: shows that nothing is sent").len(), 0);
        assert_eq!(violations(path, "thread::sleep(b); // sleep:").len(), 1);
        assert_eq!(violations("crates/a/src/b.rs", "fn a() { thread::sleep(b) }").len(), 0);
        let unit = "fn a() {}\n#[cfg(test)]\nmod tests {\n thread::sleep(b);\n}";
        assert_eq!(violations("crates/a/src/b.rs", unit).len(), 1);
    }

    #[test]
    fn sleeping_scripts() {
        let python = "interop/python/tests/test_a.py";
        assert_eq!(violations(python, "time.sleep(1)\nawait asyncio.sleep(1)\n# sleep(1)\n").len(), 2);
        assert_eq!(violations(python, "time.sleep(1)  # sleep: the keep alive must run out\n").len(), 0);
        assert_eq!(
            violations("interop/node/a.test.mjs", "await setTimeout(100)\nsetTimeout(fail, 9)").len(),
            1
        );
        assert_eq!(violations(python, "def test_a_will_comes_after_its_delay(peer):").len(), 0);
        assert_eq!(violations("examples/a.py", "time.sleep(1)").len(), 0);
    }
}
