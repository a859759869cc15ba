//! Marks: comment lines above a test that name the statements which it shows, and the attacks that it makes.
//!
//! `// [MQTT-3.1.4-3], [MQTT-3.1.4-4]` are numbers of 5.0, `// 3.1.1 [MQTT-3.1.4-2]` those of 3.1.1;
//! `// [attack: slow-reader]` is a name of the catalogue in `conformance/attack`.

use anyhow::{Result, bail};

use super::Proofs;
use super::statement::Version;

/// Adds the marked tests of a source, in the language that its path ends in.
pub(super) fn find(path: &str, text: &str, proofs: &mut Proofs) {
    let (comment, read): (&str, fn(&str, &str) -> Line) = match path.rsplit('.').next() {
        Some("rs") => ("//", rust),
        Some("py") => ("#", python),
        _ => ("//", javascript),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut above = Above::default();
    for (index, &line) in lines.iter().enumerate() {
        if let Some(rest) = above.unfinished.take() {
            above.attribute(&format!("{rest} {line}"));
            continue;
        }
        if line.starts_with(comment) && !(comment == "#" && line.starts_with("#[")) {
            above.comment(index + 1, line.trim_start_matches(['/', '#', '!']).trim());
            continue;
        }
        match read(line, lines.get(index + 1).copied().unwrap_or_default()) {
            Line::Attribute => above.attribute(line),
            Line::Test(name) if above.is_test || comment == "#" || path.ends_with("js") => {
                above.settle(path, &name, proofs);
            }
            Line::Test(_) | Line::Other => above = Above::default(),
        }
    }
}

/// Whether `id` has the form `MQTT-3.1.2-24`.
pub(super) fn check_id(id: &str) -> Result<()> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = id.strip_prefix("MQTT-").and_then(|rest| rest.split_once('-'));
    match parts {
        Some((place, number)) if place.split('.').all(is_number) && is_number(number) => Ok(()),
        _ => bail!("`{id}` is not of the form `MQTT-3.1.2-24`"),
    }
}

/// What a mark names.
enum Mark {
    Statement(Version, String),
    Attack(String),
}

/// What a line is, comments apart.
enum Line {
    /// `#[test]` or `@pytest.mark.parametrize(…)`, perhaps only its beginning.
    Attribute,
    /// The line that names a test, or in Rust any function.
    Test(String),
    Other,
}

/// What has been read directly above the line in question.
#[derive(Default)]
struct Above {
    /// Marks that could be read, and lines that look like a mark but are none.
    marks: Vec<Mark>,
    unreadable: Vec<(usize, String)>,
    is_test: bool,
    /// An attribute whose brackets are still open.
    unfinished: Option<String>,
}

impl Above {
    fn comment(&mut self, line: usize, text: &str) {
        match parse(text) {
            Some(Ok(marks)) => self.marks.extend(marks),
            Some(Err(error)) => self.unreadable.push((line, format!("{error:#}"))),
            None => {}
        }
    }

    fn attribute(&mut self, text: &str) {
        let count = |brackets: [char; 3]| text.matches(brackets).count();
        if count(['(', '[', '{']) > count([')', ']', '}']) {
            self.unfinished = Some(text.to_owned());
            return;
        }
        // The last part of the attribute's path: `tokio::test`, but not `cfg(test)`.
        let path = text.trim_start_matches("#[").split(['(', ']', ' ', '=']).next().unwrap_or_default();
        self.is_test |= path.rsplit("::").next().is_some_and(|last| last.contains("test"));
    }

    fn settle(&mut self, path: &str, name: &str, proofs: &mut Proofs) {
        let Self { marks, unreadable, .. } = std::mem::take(self);
        for mark in marks {
            match mark {
                Mark::Statement(version, id) => proofs.add(version, &id, path, name),
                Mark::Attack(attack) => proofs.add_attack(&attack, path, name),
            }
        }
        proofs.problems.extend(unreadable.into_iter().map(|(line, error)| format!("{path}:{line}: {error}")));
    }
}

/// What a comment names: `None` when it is not a mark, an error when it only looks like one.
fn parse(text: &str) -> Option<Result<Vec<Mark>>> {
    let after_version = text.strip_prefix("3.1.1").or_else(|| text.strip_prefix("5.0")).unwrap_or(text);
    let start = after_version.trim_start();
    (start.starts_with("[MQTT-") || start.starts_with("[attack")).then(|| parse_mark(text))
}

fn parse_mark(text: &str) -> Result<Vec<Mark>> {
    let mut version = Version::V5;
    let mut marks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix([',', ' ']) {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("3.1.1 ") {
            (version, rest) = (Version::V311, after);
        } else if let Some(after) = rest.strip_prefix("5.0 ") {
            (version, rest) = (Version::V5, after);
        } else if let Some((attack, after)) =
            rest.strip_prefix("[attack: ").and_then(|rest| rest.split_once(']'))
        {
            marks.push(Mark::Attack(attack.to_owned()));
            rest = after;
        } else if let Some((ids, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            for id in ids.split(',').map(str::trim) {
                check_id(id)?;
                marks.push(Mark::Statement(version, id.to_owned()));
            }
            rest = after;
        } else {
            bail!(
                "`{text}`: a mark has nothing but `[MQTT-…]` and `[attack: …]`, separated by commas, and `3.1.1` \
                 before numbers"
            );
        }
    }
    Ok(marks)
}

fn rust(line: &str, _: &str) -> Line {
    if line.starts_with("#[") {
        return Line::Attribute;
    }
    let function = line.split_once("fn ").filter(|(before, _)| {
        before.split(' ').all(|word| matches!(word, "" | "pub" | "pub(crate)" | "async" | "const" | "unsafe"))
    });
    match function {
        Some((_, rest)) => Line::Test(rest.split(['(', '<']).next().unwrap_or_default().to_owned()),
        None => Line::Other,
    }
}

fn python(line: &str, _: &str) -> Line {
    if line.starts_with('@') {
        return Line::Attribute;
    }
    let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ");
    match function.and_then(|rest| rest.split('(').next()) {
        Some(name) if name.starts_with("test") => Line::Test(name.to_owned()),
        _ => Line::Other,
    }
}

fn javascript(line: &str, next: &str) -> Line {
    let call = line.strip_prefix("await ").unwrap_or(line);
    let Some(rest) = call.strip_prefix("test(").or_else(|| call.strip_prefix("it(")) else {
        return Line::Other;
    };
    let argument = if rest.is_empty() { next } else { rest };
    let mut chars = argument.chars();
    match chars.next() {
        Some(quote @ ('"' | '\'' | '`')) => {
            Line::Test(chars.as_str().split(quote).next().unwrap_or_default().to_owned())
        }
        _ => Line::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests of `path`, as `5.0 1.1.1-1 name`.
    fn found(path: &str, text: &str) -> Vec<String> {
        let mut proofs = Proofs::default();
        find(path, text, &mut proofs);
        assert_eq!(proofs.problems, Vec::<String>::new());
        let name = |((version, id), tests): ((Version, String), Vec<super::super::Proof>)| {
            let names: Vec<String> = tests.into_iter().map(|proof| proof.name).collect();
            format!("{} {} {}", version.name(), id.replace("MQTT-", ""), names.join(" "))
        };
        proofs.found.into_iter().map(name).collect()
    }

    #[test]
    fn rust_tests() {
        let text = "\
/// It works. // [MQTT-9.9.9-9]
// [MQTT-1.1.1-1], [MQTT-1.1.1-2]
#[test]
// 3.1.1 [MQTT-1.1.1-3, MQTT-1.1.1-4]
#[should_panic(
    expected = \"x\"
)]
fn one() {
    // [MQTT-1.1.1-5]
    call();
}

// [MQTT-1.1.1-1]
#[tokio::test(flavor = \"current_thread\")]
    async fn two() {}

// [MQTT-1.1.1-6]

#[test]
fn three() {}

// [MQTT-1.1.1-7]
#[cfg(test)]
fn four() {}
";
        let wanted = ["5.0 1.1.1-1 one two", "5.0 1.1.1-2 one", "3.1.1 1.1.1-3 one", "3.1.1 1.1.1-4 one"];
        assert_eq!(found("a.rs", text), wanted);
    }

    #[test]
    fn python_and_javascript_tests() {
        let python = "\
# [MQTT-1.1.1-1]
@pytest.mark.parametrize(
    \"qos\", [0, 1, 2],
)
async def test_one(qos):
    # [MQTT-1.1.1-2]
    assert qos

# 3.1.1 [MQTT-1.1.1-3], 5.0 [MQTT-1.1.1-4]
def test_two(): ...

# [MQTT-1.1.1-5]
def helper(): ...
";
        assert_eq!(
            found("a.py", python),
            ["5.0 1.1.1-1 test_one", "5.0 1.1.1-4 test_two", "3.1.1 1.1.1-3 test_two"]
        );
        let script =
            "  // [MQTT-1.1.1-1]\n  test(`at QoS ${qos}`, () => {});\n// [MQTT-1.1.1-2]\ntest(\n  \"b\",\n);";
        assert_eq!(found("a.test.mjs", script), ["5.0 1.1.1-1 at QoS ${qos}", "5.0 1.1.1-2 b"]);
    }

    #[test]
    fn attacks_are_named_as_well() {
        let text = "// [attack: a-b], [attack: c]\n// [MQTT-1.1.1-1], [attack: d]\n#[test]\nfn one() {}\n\n\
                    // [attack: c]\nfn no_test() {}\n";
        let mut proofs = Proofs::default();
        find("a.rs", text, &mut proofs);
        let attacks: Vec<&str> = proofs.attacks.keys().map(String::as_str).collect();
        assert_eq!((attacks, proofs.found.len()), (vec!["a-b", "c", "d"], 1));
        assert_eq!(proofs.attacks["c"].len(), 1);
    }

    #[test]
    fn what_looks_like_a_mark_must_be_one() {
        for line in [
            "[MQTT-1.1.1-1] of 3.1.1",
            "[MQTT-1.1.1-1]: why",
            "[MQTT-1.1-x]",
            "3.1.1 [MQTT-1.1.1-1",
            "[attack: a",
            "[attack: a]: why",
            "[attack a]",
        ] {
            let mut proofs = Proofs::default();
            find("a.rs", &format!("// {line}\n#[test]\nfn one() {{}}"), &mut proofs);
            assert_eq!((proofs.problems.len(), proofs.found.len()), (1, 0), "{line}");
            // In other places it is a comment as any other.
            find("a.rs", &format!("// {line}\nfn one() {{}}"), &mut proofs);
            assert_eq!(proofs.problems.len(), 1);
        }
    }
}
