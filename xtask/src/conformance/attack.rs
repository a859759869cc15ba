//! The classes of attack, as `conformance/attack` has them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use super::{Proof, Proofs, UPDATE};
use crate::repository::Repository;

const FOLDER: &str = "conformance/attack/";
const FIELDS: &[&str] = &["name", "what", "known", "rule", "reason", "planned"];

/// A file of the catalogue: attacks on the same thing.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) attacks: Vec<Attack>,
}

/// One class of attack.
#[derive(Debug)]
pub(crate) struct Attack {
    /// By which tests name it: `slow-reader`.
    pub(crate) name: String,
    /// What is done to a broker.
    pub(crate) what: String,
    /// From where it is known: a CVE, a report, or nothing but experience.
    pub(crate) known: Option<String>,
    /// What Lapwing does about it.
    pub(crate) rule: String,
    /// Why no test makes it.
    pub(crate) reason: Option<String>,
    /// What is missing.
    pub(crate) planned: Option<String>,
}

/// The catalogue, in the order of its files, and a sentence for each file that cannot be read.
pub(crate) fn read_all(repository: &Repository) -> (Vec<Group>, Vec<String>) {
    let (mut groups, mut problems) = (Vec::new(), Vec::new());
    let files = repository.files.iter().filter(|file| file.path.starts_with(FOLDER));
    for file in files.filter(|file| file.extension() == "toml") {
        match read(&file.text) {
            Ok(group) => groups.push(group),
            Err(error) => problems.push(format!("{}: {error:#}", file.path)),
        }
    }
    if groups.is_empty() {
        problems.push(format!("{FOLDER}: there is no catalogue of attacks"));
    }
    (groups, problems)
}

/// A sentence for each name that is there twice or is none, each attack without a test or a reason, and each mark that
/// names no attack.
pub(super) fn check(groups: &[Group], proofs: &Proofs) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut seen = BTreeSet::new();
    for attack in groups.iter().flat_map(|group| &group.attacks) {
        let name = &attack.name;
        if !seen.insert(&**name) {
            sentences.push(format!("attack {name}: there are two"));
        }
        sentences.extend(complaint(attack, proofs));
    }
    for (name, tests) in &proofs.attacks {
        if !seen.contains(&**name) {
            for Proof { path, name: test } in tests {
                sentences.push(format!("{path}: {test}: {FOLDER} has no attack `{name}`"));
            }
        }
    }
    sentences
}

fn complaint(attack: &Attack, proofs: &Proofs) -> Option<String> {
    let Attack { name, reason, planned, .. } = attack;
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !name.split('-').all(is_word) {
        return Some(format!("attack {name}: a name is of lower case words with `-` between them"));
    }
    match (proofs.attacks.contains_key(name), reason, planned) {
        (false, None, None) => Some(format!(
            "attack {name}: no test, no `reason`, and not `planned`; mark a test, then {UPDATE}"
        )),
        (_, Some(_), Some(_)) => Some(format!("attack {name}: either a `reason` or `planned`")),
        (true, Some(_), _) => Some(format!("attack {name}: it has tests; take its `reason` away")),
        _ => None,
    }
}

fn read(text: &str) -> Result<Group> {
    let file: Table = text.parse()?;
    let title = string(&file, "title")?.context("no `title`")?;
    if let Some(unknown) = file.keys().find(|key| !["title", "attack"].contains(&key.as_str())) {
        bail!("there is no field `{unknown}`");
    }
    let list = file.get("attack").and_then(Value::as_array).context("no [[attack]]")?;
    Ok(Group { title, attacks: list.iter().map(read_attack).collect::<Result<_>>()? })
}

fn read_attack(entry: &Value) -> Result<Attack> {
    let entry = entry.as_table().context("an attack is not a table")?;
    let name = string(entry, "name")?.context("an attack without `name`")?;
    let read = || {
        if let Some(unknown) = entry.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            bail!("there is no field `{unknown}`");
        }
        let required = |key: &str| string(entry, key)?.with_context(|| format!("no `{key}`"));
        Ok(Attack {
            name: name.clone(),
            what: required("what")?,
            known: string(entry, "known")?,
            rule: required("rule")?,
            reason: string(entry, "reason")?,
            planned: string(entry, "planned")?,
        })
    };
    read().with_context(|| name.clone())
}

/// A string that is not empty.
fn string(entry: &Table, key: &str) -> Result<Option<String>> {
    match entry.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
        Some(_) => bail!("`{key}` is not a text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "title = \"T\"\n[[attack]]\nname = \"slow-reader\"\nwhat = \"A.\"\nrule = \"B.\"\n";

    /// What is wrong with `text`, where a test is marked with `marked`.
    fn problems(text: &str, marked: &[&str]) -> Vec<String> {
        let mut proofs = Proofs::default();
        for name in marked {
            proofs.add_attack(name, "a.rs", "b");
        }
        check(&[read(text).unwrap()], &proofs)
    }

    #[test]
    fn an_attack_has_a_test_or_a_reason_or_is_planned() {
        let marked = ["slow-reader"];
        assert!(problems(TEXT, &marked).is_empty());
        assert!(problems(TEXT, &[])[0].contains("no test"));
        let reason = format!("{TEXT}reason = \"why\"\n");
        assert!(problems(&reason, &[]).is_empty());
        assert!(problems(&reason, &marked)[0].contains("take its `reason` away"));
        let planned = format!("{TEXT}planned = \"what\"\n");
        assert!(problems(&planned, &[]).is_empty() && problems(&planned, &marked).is_empty());
        assert!(problems(&format!("{reason}planned = \"what\"\n"), &[])[0].contains("either"));
    }

    #[test]
    fn names_are_words_and_each_is_there_once() {
        let twice = format!("{TEXT}{}", TEXT.split_once('\n').unwrap().1);
        assert_eq!(problems(&twice, &["slow-reader"]), ["attack slow-reader: there are two"]);
        for name in ["Slow", "slow reader", "slow--reader", "-"] {
            let text = TEXT.replace("slow-reader", name);
            assert!(problems(&text, &[name])[0].contains("lower case"), "{name}");
        }
        let unknown = problems(TEXT, &["slow-reader", "slow-writer"]);
        assert_eq!(unknown, ["a.rs: b: conformance/attack/ has no attack `slow-writer`"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, reason) in [
            ("[[attack]]\n", "title"),
            ("title = \"T\"\n", "no [[attack]]"),
            ("title = \"T\"\nmore = 1\n", "more"),
            ("title = \"T\"\n[[attack]]\nname = \"a\"\nwhat = \"A\"\n", "a: no `rule`"),
            ("title = \"T\"\n[[attack]]\nname = \"a\"\nwat = \"A\"\n", "a: there is no field `wat`"),
            ("title = \"T\"\n[[attack]]\nname = \"a\"\nwhat = \" \"\n", "a: `what` is not a text"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }
}
