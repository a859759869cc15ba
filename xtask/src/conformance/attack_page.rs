//! `docs/reference/attacks.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Proof;
use super::attack::{Attack, Group};
use super::page::cell;

const HEAD: &str = "\
# Attacks

<!-- Written by `cargo xtask conformance`. Change `conformance/attack` or the marks above the tests instead. -->

What has been done to brokers, and what Lapwing does about it. Each line is a class of attack, with where it is known from;
one without a source follows from what the protocol and the system allow. The last column says how many tests make the attack:
they are part of `cargo xtask test`, and `cargo xtask attack NAME` runs those of one class. Those in
`crates/lapwing/tests/hostile` make it on the real program, beside a client that behaves: it must be served all the time, and
memory must stay bounded.

*Planned*: something is missing, the cell says what. A class without tests says why.

";

type Found = BTreeMap<String, Vec<Proof>>;

/// The whole page.
pub(super) fn render(groups: &[Group], found: &Found) -> String {
    let mut page = format!("{HEAD}{}\n", summary(groups, found));
    for group in groups {
        // Writing to a string does not fail.
        let _ = write!(
            page,
            "\n## {}\n\n| attack | what is done | known from | what Lapwing does | tests |\n|---|---|---|---|---|\n",
            group.title
        );
        for attack in &group.attacks {
            let known = attack.known.as_deref().unwrap_or_default();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} |",
                attack.name,
                cell(&attack.what),
                cell(known),
                cell(&attack.rule),
                support(attack, found)
            );
        }
    }
    page
}

/// How many attacks there are, and what shows what comes of them.
pub(super) fn summary(groups: &[Group], found: &Found) -> String {
    let attacks = || groups.iter().flat_map(|group| &group.attacks);
    let tested = attacks().filter(|attack| found.contains_key(&attack.name)).count();
    let planned = attacks().filter(|attack| attack.planned.is_some()).count();
    let reasoned = attacks().filter(|attack| attack.reason.is_some()).count();
    let mut tests: Vec<&Proof> = found.values().flatten().collect();
    tests.sort();
    tests.dedup();
    format!(
        "{} classes of attack: {tested} are made by {} tests, {planned} have something planned, {reasoned} have a reason to \
         have no test.",
        attacks().count(),
        tests.len()
    )
}

fn support(attack: &Attack, found: &Found) -> String {
    let mut parts = Vec::new();
    if let Some(tests) = found.get(&attack.name) {
        parts.push(tests.len().to_string());
    }
    if let Some(planned) = &attack.planned {
        parts.push(format!("*planned*: {}", cell(planned)));
    }
    if let Some(reason) = &attack.reason {
        parts.push(cell(reason));
    }
    parts.join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_shown_with_the_number_of_their_tests() {
        let attack = |name: &str, reason: Option<&str>, planned: Option<&str>| Attack {
            name: name.to_owned(),
            what: "a|b".to_owned(),
            known: planned.map(|_| "CVE".to_owned()),
            rule: "c".to_owned(),
            reason: reason.map(str::to_owned),
            planned: planned.map(str::to_owned),
        };
        let attacks =
            vec![attack("x", None, None), attack("y", Some("why"), None), attack("z", None, Some("what"))];
        let groups = [Group { title: "T".to_owned(), attacks }];
        let proof = |name: &str| Proof { path: "a.rs".to_owned(), name: name.to_owned() };
        let found = [("x", vec![proof("b"), proof("c")]), ("z", vec![proof("b")])];
        let page = render(&groups, &found.map(|(name, tests)| (name.to_owned(), tests)).into());
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(
            lines[lines.len() - 3..],
            [
                "| `x` | a\\|b |  | c | 2 |",
                "| `y` | a\\|b |  | c | why |",
                "| `z` | a\\|b | CVE | c | 1<br>*planned*: what |"
            ]
        );
        let summary = "3 classes of attack: 2 are made by 2 tests, 1 have something planned, 1 have a reason to have no test.";
        assert!(lines.contains(&summary), "{page}");
    }
}
