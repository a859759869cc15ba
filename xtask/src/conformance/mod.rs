//! Which test shows which normative statement of MQTT: `docs/reference/conformance.md` is written from the
//! statements in `conformance/statement`, the marks above tests and the packet vectors. And which test makes which attack:
//! `docs/reference/attacks.md`, from the catalogue in `conformance/attack` and the same kind of marks.

mod attack;
mod attack_page;
mod mark;
mod page;
mod statement;
mod vector;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::repository::Repository;
use attack::Group;
use statement::{Statement, TEST_TO_COME, Version};

const PAGE: &str = "docs/reference/conformance.md";
const ATTACK_PAGE: &str = "docs/reference/attacks.md";
const UPDATE: &str = "run `cargo xtask conformance`";

/// A test: the file that it is in, and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proof {
    pub(crate) path: String,
    pub(crate) name: String,
}

/// The tests of each statement and of each attack, and what is wrong with the marks.
#[derive(Default)]
struct Proofs {
    found: BTreeMap<(Version, String), Vec<Proof>>,
    attacks: BTreeMap<String, Vec<Proof>>,
    problems: Vec<String>,
}

/// Writes the pages, or with `--check` only says what is wrong.
pub(crate) fn run(repository: &Repository, arguments: &[&str]) -> Result<ExitCode> {
    let problems = match arguments {
        [] => write(repository)?,
        ["--check"] => check(repository),
        _ => bail!("`conformance` takes nothing but `--check`"),
    };
    for problem in &problems {
        println!("{problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A sentence for each statement without a test or a reason, each mark of an unknown statement, and a page
/// that is out of date.
pub(crate) fn check(repository: &Repository) -> Vec<String> {
    let Survey { statements, groups, proofs, mut problems, .. } = survey(repository);
    if problems.is_empty() {
        for (path, page) in [
            (PAGE, page::render(&statements, &proofs.found)),
            (ATTACK_PAGE, attack_page::render(&groups, &proofs.attacks)),
        ] {
            if repository.text(path) != Some(&*page) {
                problems.push(format!("{path} is out of date: {UPDATE}"));
            }
        }
    }
    problems
}

/// The tests in Rust that make the attack with this name, or all attacks.
pub(crate) fn attack_tests(repository: &Repository, name: Option<&str>) -> Result<Vec<Proof>> {
    let Survey { groups, proofs, .. } = survey(repository);
    let mut names = groups.iter().flat_map(|group| &group.attacks).map(|attack| &attack.name);
    if let Some(name) = name
        && !names.any(|other| other == name)
    {
        bail!("there is no attack `{name}`; {ATTACK_PAGE} has them all");
    }
    let attacks = proofs.attacks.into_iter().filter(|(other, _)| name.is_none_or(|name| name == other));
    let mut tests: Vec<Proof> = attacks.flat_map(|(_, tests)| tests).collect();
    tests.retain(|test| test.path.starts_with("crates/"));
    tests.sort();
    tests.dedup();
    Ok(tests)
}

/// Takes back each promise of a test that is there by now, and writes the pages.
fn write(repository: &Repository) -> Result<Vec<String>> {
    let Survey { mut statements, groups, proofs, problems, kept } = survey(repository);
    for (path, text) in kept {
        write_file(&repository.root.join(path), &text)?;
    }
    for statement in &mut statements {
        if is_kept(statement, &proofs) {
            statement.planned = None;
        }
    }
    // The page shows the statements without a test too, so that one sees where one is.
    write_file(&repository.root.join(PAGE), &page::render(&statements, &proofs.found))?;
    write_file(&repository.root.join(ATTACK_PAGE), &attack_page::render(&groups, &proofs.attacks))?;
    println!("{}", page::summary(&statements, &proofs.found));
    println!("{}", attack_page::summary(&groups, &proofs.attacks));
    Ok(problems.into_iter().filter(|problem| !problem.ends_with(UPDATE)).collect())
}

struct Survey {
    statements: Vec<Statement>,
    groups: Vec<Group>,
    proofs: Proofs,
    problems: Vec<String>,
    /// Files of statements in which a promised test is there by now, and their texts without the promise.
    kept: Vec<(String, String)>,
}

fn survey(repository: &Repository) -> Survey {
    let mut problems = Vec::new();
    let mut statements = Vec::new();
    for version in Version::ALL {
        match statement::read(version, repository.text(&version.path())) {
            Ok(read) => statements.extend(read),
            Err(error) => problems.push(format!("{}: {error:#}", version.path())),
        }
    }
    problems.extend(statement::check(&statements));
    let mut proofs = Proofs::default();
    let marked =
        |path: &str| ["crates/", "interop/", "python/"].iter().any(|folder| path.starts_with(folder));
    for file in repository.sources(&["rs", "py", "js", "mjs"]).filter(|file| marked(&file.path)) {
        mark::find(&file.path, &file.text, &mut proofs);
    }
    for file in repository.files.iter().filter(|file| file.path.starts_with("conformance/packet/")) {
        vector::find(&file.path, &file.text, &statements, &mut proofs);
    }
    problems.append(&mut proofs.problems);
    let (groups, unread) = attack::read_all(repository);
    problems.extend(unread);
    problems.extend(attack::check(&groups, &proofs));
    problems.extend(unknown(&statements, &proofs));
    problems.extend(statements.iter().filter_map(|statement| complaint(statement, &proofs)));
    let kept = Version::ALL.into_iter().filter_map(|version| {
        let path = version.path();
        let text = repository.text(&path)?;
        let is_kept = |id: &str| {
            statements.iter().any(|statement| {
                (statement.version, &*statement.id) == (version, id) && is_kept(statement, &proofs)
            })
        };
        let shorter = statement::without_promises(text, is_kept);
        (shorter != text).then_some((path, shorter))
    });
    Survey { kept: kept.collect(), statements, groups, proofs, problems }
}

fn unknown(statements: &[Statement], proofs: &Proofs) -> Vec<String> {
    let exists = |version, id: &str| {
        statements.iter().any(|statement| statement.version == version && statement.id == id)
    };
    let mut sentences = Vec::new();
    for ((version, id), tests) in &proofs.found {
        if !exists(*version, id) {
            for Proof { path, name } in tests {
                sentences.push(format!("{path}: {name}: MQTT {} has no statement {id}", version.name()));
            }
        }
    }
    sentences
}

fn complaint(statement: &Statement, proofs: &Proofs) -> Option<String> {
    let Statement { id, reason, planned, .. } = statement;
    let version = statement.version.name();
    let has_tests = proofs.found.contains_key(&statement.key());
    match (has_tests, reason, planned) {
        (false, None, None) => Some(format!("{version} {id}: no test, no `reason`, and not `planned`")),
        (_, Some(_), Some(_)) => Some(format!("{version} {id}: either a `reason` or `planned`")),
        (true, Some(_), _) => Some(format!("{version} {id}: it has tests; take its `reason` away")),
        _ if is_kept(statement, proofs) => Some(format!("{version} {id}: its test is there; {UPDATE}")),
        _ => None,
    }
}

/// Whether nothing was missing but a test, and it is there.
fn is_kept(statement: &Statement, proofs: &Proofs) -> bool {
    statement.planned.as_deref() == Some(TEST_TO_COME) && proofs.found.contains_key(&statement.key())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Proofs {
    fn add(&mut self, version: Version, id: &str, path: &str, name: &str) {
        insert(self.found.entry((version, id.to_owned())).or_default(), path, name);
    }

    fn add_attack(&mut self, attack: &str, path: &str, name: &str) {
        insert(self.attacks.entry(attack.to_owned()).or_default(), path, name);
    }
}

fn insert(tests: &mut Vec<Proof>, path: &str, name: &str) {
    let proof = Proof { path: path.to_owned(), name: name.to_owned() };
    if !tests.contains(&proof) {
        tests.push(proof);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(reason: Option<&str>, planned: Option<&str>) -> Statement {
        Statement {
            version: Version::V5,
            id: "MQTT-1.1.1-1".to_owned(),
            section: String::new(),
            binds: String::new(),
            text: String::new(),
            v5: Vec::new(),
            reason: reason.map(str::to_owned),
            planned: planned.map(str::to_owned),
        }
    }

    fn is_sound(with_test: bool, reason: Option<&str>, planned: Option<&str>) -> bool {
        let mut proofs = Proofs::default();
        if with_test {
            proofs.add(Version::V5, "MQTT-1.1.1-1", "a.rs", "b");
        }
        proofs.add(Version::V311, "MQTT-1.1.1-1", "a.rs", "b");
        complaint(&statement(reason, planned), &proofs).is_none()
    }

    #[test]
    fn a_statement_has_a_test_or_a_reason_or_is_planned() {
        assert!(is_sound(true, None, None));
        assert!(is_sound(false, Some("why"), None));
        assert!(is_sound(false, None, Some(TEST_TO_COME)));
        assert!(is_sound(true, None, Some("the other half")));
        assert!(!is_sound(false, None, None));
        assert!(!is_sound(false, Some("why"), Some("what")));
        assert!(!is_sound(true, Some("why"), None));
        assert!(!is_sound(true, None, Some(TEST_TO_COME)));
    }

    #[test]
    fn a_test_of_an_unknown_statement_is_named() {
        let mut proofs = Proofs::default();
        proofs.add(Version::V5, "MQTT-1.1.1-1", "a.rs", "b");
        proofs.add(Version::V311, "MQTT-1.1.1-1", "a.rs", "c");
        let sentences = unknown(&[statement(None, None)], &proofs);
        assert_eq!(sentences, ["a.rs: c: MQTT 3.1.1 has no statement MQTT-1.1.1-1"]);
    }
}
