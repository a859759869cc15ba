//! The statements that packet vectors name.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::statement::{Statement, Version};
use super::{Proofs, mark};

/// Adds the vectors of a file: as one test for each statement, with how many there are.
pub(super) fn find(path: &str, text: &str, statements: &[Statement], proofs: &mut Proofs) {
    match count(text, statements) {
        Ok(counts) => {
            for ((version, id), number) in counts {
                let name = if number == 1 { "1 vector".to_owned() } else { format!("{number} vectors") };
                proofs.add(version, &id, path, &name);
            }
        }
        Err(error) => proofs.problems.push(format!("{path}: {error:#}")),
    }
}

fn count(text: &str, statements: &[Statement]) -> Result<BTreeMap<(Version, String), usize>> {
    let file: Value = serde_json::from_str(text)?;
    let groups = file["groups"].as_array().context("no `groups`")?;
    let mut counts = BTreeMap::new();
    for vector in groups.iter().filter_map(|group| group["tests"].as_array()).flatten() {
        let Some(ids) = vector["id"].as_str() else { continue };
        for key in keys(ids, vector["version"].as_str().unwrap_or_default(), statements)? {
            *counts.entry(key).or_default() += 1;
        }
    }
    Ok(counts)
}

/// The statements that a vector shows: its identifiers are those of 5.0 unless they say otherwise, so that one
/// for 3.1.1 shows the statements of 3.1.1 about the same matter.
fn keys(ids: &str, version: &str, statements: &[Statement]) -> Result<Vec<(Version, String)>> {
    let mut keys = Vec::new();
    for id in ids.split(',').map(str::trim) {
        let (numbers, id) = match id.split_once(' ') {
            Some(("3.1.1", id)) => (Version::V311, id),
            _ => (Version::V5, id),
        };
        mark::check_id(id)?;
        match (numbers, version) {
            (Version::V5, "3.1.1") => keys.extend(
                statements
                    .iter()
                    .filter(|statement| statement.v5.iter().any(|same| same == id))
                    .map(Statement::key),
            ),
            (Version::V5, "5.0") | (Version::V311, "3.1.1") => keys.push((numbers, id.to_owned())),
            _ => {}
        }
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements() -> Vec<Statement> {
        let text = "[[statement]]\nid = \"MQTT-1.5.3-1\"\nsection = \"1.5.3 a\"\nbinds = \"both\"\ntext = \"b\"\n\
                    v5 = [\"MQTT-1.5.4-1\"]\n";
        super::super::statement::read(Version::V311, Some(text)).unwrap()
    }

    fn key(version: Version, id: &str) -> (Version, String) {
        (version, id.to_owned())
    }

    #[test]
    fn numbers_are_those_of_5() {
        let keys = |ids, version| keys(ids, version, &statements()).unwrap();
        assert_eq!(keys("MQTT-1.5.4-1", "5.0"), [key(Version::V5, "MQTT-1.5.4-1")]);
        assert_eq!(keys("MQTT-1.5.4-1", "3.1.1"), [key(Version::V311, "MQTT-1.5.3-1")]);
        assert_eq!(keys("3.1.1 MQTT-3.1.2-22", "3.1.1"), [key(Version::V311, "MQTT-3.1.2-22")]);
        assert_eq!(keys("MQTT-1.5.4-1, MQTT-1.5.7-1", "5.0").len(), 2);
        assert!(keys("MQTT-1.5.4-1", "3.1").is_empty());
        assert!(super::keys("1.5.4-1", "5.0", &[]).is_err());
    }

    #[test]
    fn vectors_are_counted() {
        let text = r#"{"groups": [{"tests": [
            {"version": "5.0", "id": "MQTT-1.5.4-1"}, {"version": "5.0", "id": "MQTT-1.5.4-1"}, {"version": "5.0"}]}]}"#;
        let counts = count(text, &[]).unwrap();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(key(Version::V5, "MQTT-1.5.4-1"), 2)]);
        assert!(count("{}", &[]).is_err());
    }
}
