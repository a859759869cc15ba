//! `docs/reference/conformance.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Proof;
use super::statement::{Statement, Version};

const HEAD: &str = "\
# Conformance

<!-- Written by `cargo xtask conformance`. Change `conformance/statement` or the marks above the tests instead. -->

Every normative statement of MQTT 5.0 and MQTT 3.1.1, and the tests that show that Lapwing keeps it. The statements are
in our own words, and short; what counts is the specification. How tests and statements are tied together, and what is
missing that has no number, is in [conformance](../../conformance/README.md).

*Tested*: a test would fail if the statement were broken. *Planned*: something is missing, the cell says what;
\"test to come\" means that nothing is missing but the test. *Reason*: no test can show it, or the statement is about
something that Lapwing does not have; the cell says why. A statement that binds both sides may have tests of one side only.
";

type Found = BTreeMap<(Version, String), Vec<Proof>>;

/// The whole page.
pub(super) fn render(statements: &[Statement], found: &Found) -> String {
    let mut page = format!("{HEAD}\n{}", summary(statements, found));
    for version in Version::ALL {
        render_version(&mut page, version, statements, found);
    }
    page
}

/// How many statements of each version are tested, planned, or have a reason.
pub(super) fn summary(statements: &[Statement], found: &Found) -> String {
    let mut text = "| | statements | tested | planned | reason |\n|---|---:|---:|---:|---:|\n".to_owned();
    for version in Version::ALL {
        let of_version = || statements.iter().filter(|statement| statement.version == version);
        let planned = of_version().filter(|statement| statement.planned.is_some()).count();
        let reasoned = of_version().filter(|statement| statement.reason.is_some()).count();
        let is_tested = |statement: &&Statement| {
            statement.planned.is_none() && statement.reason.is_none() && found.contains_key(&statement.key())
        };
        let tested = of_version().filter(is_tested).count();
        let name = version.name();
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "| MQTT {name} | {} | {tested} | {planned} | {reasoned} |", of_version().count());
    }
    text
}

fn render_version(page: &mut String, version: Version, statements: &[Statement], found: &Found) {
    let older = version == Version::V311;
    let (column, line, empty) = if older { (" 5.0 |", "---|", " |") } else { ("", "", "") };
    let name = version.name();
    let _ = write!(
        page,
        "\n## MQTT {name}\n\n| id |{column} binds | statement | tests, or why there is none |\n|---|{line}---|---|---|\n"
    );
    let mut section = "";
    for statement in statements.iter().filter(|statement| statement.version == version) {
        if statement.section != section {
            section = &statement.section;
            let _ = writeln!(page, "| **{}** |{empty} | | |", cell(section));
        }
        let same = statement.v5.iter().map(|id| number(id)).collect::<Vec<_>>().join(", ");
        let same = if older { format!(" {same} |") } else { String::new() };
        let tests = found.get(&statement.key()).map_or(&[][..], Vec::as_slice);
        let _ = writeln!(
            page,
            "| {} |{same} {} | {} | {} |",
            number(&statement.id),
            statement.binds,
            cell(&statement.text),
            support(statement, tests)
        );
    }
}

/// The last cell: tests by file, then what is planned or why there is no test.
fn support(statement: &Statement, tests: &[Proof]) -> String {
    let mut tests: Vec<&Proof> = tests.iter().collect();
    tests.sort();
    let mut parts: Vec<String> = Vec::new();
    for of_file in tests.chunk_by(|a, b| a.path == b.path) {
        let names: Vec<String> = of_file.iter().map(|proof| name(&proof.name)).collect();
        parts.push(format!("`{}`: {}", of_file[0].path, names.join(", ")));
    }
    if let Some(planned) = &statement.planned {
        parts.push(format!("*planned*: {}", cell(planned)));
    }
    if let Some(reason) = &statement.reason {
        parts.push(format!("*reason*: {}", cell(reason)));
    }
    if parts.is_empty() { "**nothing**".to_owned() } else { parts.join("<br>") }
}

fn number(id: &str) -> &str {
    id.strip_prefix("MQTT-").unwrap_or(id)
}

/// A test's name as code, and a number of vectors as it is.
fn name(text: &str) -> String {
    let is_count = text.starts_with(|c: char| c.is_ascii_digit());
    if is_count { text.to_owned() } else { format!("`{}`", cell(text)) }
}

/// `text` where a `|` would end the cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_shown_with_their_tests_and_counted() {
        let text = |id: u8, more: &str| {
            format!(
                "[[statement]]\nid = \"MQTT-4.8.0-{id}\"\nsection = \"4.8 Errors\"\nbinds = \"both\"\n\
                 text = \"a|b\"\nv5 = [\"MQTT-4.13.1-1\"]\n{more}\n"
            )
        };
        let text = text(1, "") + &text(2, "planned = \"c\"") + &text(3, "reason = \"d\"") + &text(4, "");
        let statements = super::super::statement::read(Version::V311, Some(&text)).unwrap();
        let proof = |path: &str, name: &str| Proof { path: path.to_owned(), name: name.to_owned() };
        let tests = vec![proof("b.rs", "x_y"), proof("a.json", "2 vectors"), proof("b.rs", "w")];
        let found = [1, 2].map(|id| ((Version::V311, format!("MQTT-4.8.0-{id}")), tests.clone()));
        let page = render(&statements, &found.into());
        let lines: Vec<&str> = page.lines().collect();
        assert!(lines.contains(&"| MQTT 3.1.1 | 4 | 1 | 1 | 1 |"), "{page}");
        let names = "`a.json`: 2 vectors<br>`b.rs`: `w`, `x_y`";
        assert_eq!(
            lines[lines.len() - 5..],
            [
                "| **4.8 Errors** | | | | |",
                &format!("| 4.8.0-1 | 4.13.1-1 | both | a\\|b | {names} |"),
                &format!("| 4.8.0-2 | 4.13.1-1 | both | a\\|b | {names}<br>*planned*: c |"),
                "| 4.8.0-3 | 4.13.1-1 | both | a\\|b | *reason*: d |",
                "| 4.8.0-4 | 4.13.1-1 | both | a\\|b | **nothing** |",
            ]
        );
    }
}
