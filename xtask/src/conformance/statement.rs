//! The statements, as `conformance/statement` has them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// What `planned` says where nothing is missing but a test.
pub(crate) const TEST_TO_COME: &str = "test to come";

const FIELDS: &[&str] = &["id", "section", "binds", "text", "v5", "reason", "planned"];

/// Whose numbers are meant. MQTT 3.1 has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V5,
    V311,
}

/// One normative statement, in our own words.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) version: Version,
    /// `MQTT-3.1.2-24`
    pub(crate) id: String,
    /// Number and title of the section that it is in.
    pub(crate) section: String,
    /// `server`, `client` or `both`.
    pub(crate) binds: String,
    pub(crate) text: String,
    /// On a statement of 3.1.1: the statements of 5.0 about the same matter.
    pub(crate) v5: Vec<String>,
    /// Why no test shows it.
    pub(crate) reason: Option<String>,
    /// What is missing.
    pub(crate) planned: Option<String>,
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::V5, Self::V311];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5 => "5.0",
            Self::V311 => "3.1.1",
        }
    }

    /// The file of its statements, from the root.
    pub(crate) fn path(self) -> String {
        format!("conformance/statement/mqtt-{}.toml", self.name())
    }
}

impl Statement {
    pub(crate) fn key(&self) -> (Version, String) {
        (self.version, self.id.clone())
    }
}

/// The statements of a file; `None` stands for one that does not exist.
pub(crate) fn read(version: Version, text: Option<&str>) -> Result<Vec<Statement>> {
    let file: Table = text.context("there is no such file")?.parse()?;
    let list = file.get("statement").and_then(Value::as_array).context("no [[statement]]")?;
    list.iter().map(|entry| read_statement(version, entry)).collect()
}

/// What no statement may be: there twice, out of its section, or about a statement that 5.0 does not have.
pub(crate) fn check(statements: &[Statement]) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut seen = BTreeSet::new();
    for statement in statements {
        let mut complain = |what: String| {
            sentences.push(format!("{} {}: {what}", statement.version.name(), statement.id));
        };
        if !seen.insert(statement.key()) {
            complain("there are two".to_owned());
        }
        if !["server", "client", "both"].contains(&&*statement.binds) {
            complain(format!("`binds` is `{}`, not server, client or both", statement.binds));
        }
        if !is_in_section(&statement.id, &statement.section) {
            complain(format!("it cannot be in section `{}`", statement.section));
        }
        if statement.version == Version::V5 && !statement.v5.is_empty() {
            complain("`v5` is for statements of 3.1.1".to_owned());
        }
        for id in &statement.v5 {
            if !statements.iter().any(|other| other.version == Version::V5 && other.id == *id) {
                complain(format!("5.0 has no {id}"));
            }
        }
    }
    sentences
}

/// `text` without the promises of a test for the statements that `is_kept` names.
pub(crate) fn without_promises(text: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let promise = format!("planned = \"{TEST_TO_COME}\"");
    let mut id = "";
    let mut left = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if let Some(value) = line.trim_end().strip_prefix("id = ") {
            id = value.trim_matches('"');
        }
        if line.trim_end() != promise || !is_kept(id) {
            left.push_str(line);
        }
    }
    left
}

fn read_statement(version: Version, entry: &Value) -> Result<Statement> {
    let entry = entry.as_table().context("a statement is not a table")?;
    let id = string(entry, "id")?.context("a statement without `id`")?;
    let read = || {
        if let Some(unknown) = entry.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            bail!("there is no field `{unknown}`");
        }
        let required = |key: &str| string(entry, key)?.with_context(|| format!("no `{key}`"));
        let v5 = entry.get("v5").map_or(Some(Vec::new()), strings).context("`v5` is a list of strings")?;
        Ok(Statement {
            version,
            id: id.clone(),
            section: required("section")?,
            binds: required("binds")?,
            text: required("text")?,
            v5,
            reason: string(entry, "reason")?,
            planned: string(entry, "planned")?,
        })
    };
    read().with_context(|| id.clone())
}

/// A string that is not empty.
fn string(entry: &Table, key: &str) -> Result<Option<String>> {
    match entry.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
        Some(_) => bail!("`{key}` is not a text"),
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// `MQTT-3.1.0-2` is in section `3.1 CONNECT`, `MQTT-3.1.2-24` in `3.1.2 CONNECT variable header`.
fn is_in_section(id: &str, section: &str) -> bool {
    let Some((place, number)) = id.strip_prefix("MQTT-").and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let place = place.trim_end_matches(".0");
    number.parse::<u16>().is_ok_and(|number| number > 0) && section.split(' ').next() == Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[statement]]
id = "MQTT-3.1.0-1"
section = "3.1 CONNECT"
binds = "client"
text = "First."
v5 = ["MQTT-3.1.0-1"]
planned = "test to come"

[[statement]]
id = "MQTT-3.1.0-2"
section = "3.1 CONNECT"
binds = "server"
text = "Second."
planned = "test to come"
"#;

    fn problems(version: Version, text: &str) -> usize {
        check(&read(version, Some(text)).unwrap()).len()
    }

    #[test]
    fn fields_are_read() {
        let statements = read(Version::V311, Some(TEXT)).unwrap();
        assert_eq!(
            (statements.len(), &*statements[0].id, &*statements[1].text),
            (2, "MQTT-3.1.0-1", "Second.")
        );
        assert_eq!(statements[0].v5, ["MQTT-3.1.0-1"]);
        assert_eq!(statements[1].planned.as_deref(), Some(TEST_TO_COME));
        for wrong in ["[[statement]]\n", "a = 1", "[[statement]]\nid = \"MQTT-1.1.1-1\"\ntext = \"a\""] {
            assert!(read(Version::V5, Some(wrong)).is_err(), "{wrong}");
        }
        assert!(read(Version::V5, Some(&TEXT.replace("planned", "plan"))).is_err());
        assert!(read(Version::V5, None).is_err());
    }

    #[test]
    fn statements_that_contradict_themselves_are_found() {
        // 5.0 was not read, and `v5` is not for 5.0.
        assert_eq!((problems(Version::V311, TEXT), problems(Version::V5, TEXT)), (1, 1));
        assert_eq!(problems(Version::V5, &TEXT.replace("0-2", "0-1")), 2);
        assert_eq!(problems(Version::V5, &TEXT.replace("3.1 CONNECT", "3.2 CONNACK")), 3);
        assert_eq!(problems(Version::V5, &TEXT.replace("server", "nobody")), 2);
    }

    #[test]
    fn a_kept_promise_is_taken_away() {
        let left = without_promises(TEXT, |id| id == "MQTT-3.1.0-2");
        assert_eq!(left.matches(TEST_TO_COME).count(), 1);
        assert!(read(Version::V311, Some(&left)).unwrap()[0].planned.is_some());
        assert_eq!(without_promises(TEXT, |_| false), TEXT);
    }
}
