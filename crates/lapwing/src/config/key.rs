//! The keys there are, as the structs have them: for the reference page, and to find the one that was meant.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::Config;

/// A key of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// As in `limits.receive_maximum`; `NAME` stands for a name of the user's choice, and `[]` behind a name says
    /// that there may be many of these tables.
    pub(crate) path: String,
    /// What it means: the documentation of the field.
    pub(crate) meaning: String,
    /// What it can be, as JSON Schema says it.
    pub(crate) schema: Json,
}

/// What stands in a path for a name of the user's choice.
const NAME: &str = "NAME";
/// What stands behind the path of a list of tables.
const LIST: &str = "[]";

impl Key {
    /// All keys, section by section.
    pub(crate) fn all() -> Vec<Self> {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let schema = settings.into_generator().into_root_schema_for::<Config>();
        let mut keys = Vec::new();
        collect(schema.as_value(), "", &mut keys);
        keys.sort_by(|one, other| one.section().cmp(other.section()));
        keys
    }

    /// The table that it stands in; empty for the top level.
    pub(crate) fn section(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its last part.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

fn collect(schema: &Json, path: &str, keys: &mut Vec<Key>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let named = schema["additionalProperties"].is_object();
    if named {
        collect(&schema["additionalProperties"], &join(NAME), keys);
    }
    if schema["items"]["properties"].is_object() {
        return collect(&schema["items"], &format!("{path}{LIST}"), keys);
    }
    match schema["properties"].as_object() {
        Some(properties) => properties.iter().for_each(|(name, schema)| collect(schema, &join(name), keys)),
        None if named => {}
        None => {
            let meaning = schema["description"].as_str().unwrap_or_default();
            keys.push(Key { path: path.to_owned(), meaning: one_line(meaning), schema: schema.clone() });
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A sentence for the first key in `table` that there is not, with the one that may have been meant.
pub(crate) fn suggestion(table: &Table) -> Option<String> {
    let keys = Key::all();
    let mut written = Vec::new();
    paths(table, "", &mut written);
    let unknown = written.iter().find(|path| !keys.iter().any(|key| is_same(path, &key.path)))?;
    let meant = nearest(unknown, &keys)?;
    Some(format!("did you mean `{meant}`?"))
}

fn paths(table: &Table, path: &str, written: &mut Vec<String>) {
    for (name, value) in table {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Table(table) if !table.is_empty() => paths(table, &path, written),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                let tables = items.iter().filter_map(Value::as_table);
                tables.for_each(|table| paths(table, &format!("{path}{LIST}"), written));
            }
            _ => written.push(path),
        }
    }
}

/// Whether a path is that of a key, whatever name stands where one may be chosen.
fn is_same(written: &str, key: &str) -> bool {
    let mut pairs = written.split('.').zip(key.split('.'));
    written.split('.').count() == key.split('.').count()
        && pairs.all(|(written, key)| key == NAME || written == key)
}

/// The key that is nearest to a path, or to whose last part it is near, if one is near enough.
fn nearest(written: &str, keys: &[Key]) -> Option<String> {
    let last = written.rsplit('.').next().unwrap_or_default();
    let candidates = keys.iter().map(|key| {
        let path = with_names(&key.path, written);
        let whole = (distance(written, &path), written.len());
        // The right word in the wrong place is worth a little more than one that is misspelt.
        let part = (distance(last, key.name()) + 1, last.len());
        let (distance, length) = whole.min(part);
        (distance, length, path)
    });
    let (distance, length, path) = candidates.min_by_key(|&(distance, ..)| distance)?;
    (distance <= 1 + length / 5).then_some(path)
}

/// The key's path with the user's own names where one may be chosen.
fn with_names(key: &str, written: &str) -> String {
    let mut written = written.split('.');
    let parts = key.split('.').map(|part| match written.next() {
        Some(name) if part == NAME => name,
        _ => part,
    });
    parts.collect::<Vec<_>>().join(".")
}

/// How many characters must be inserted, removed or replaced to make one text of the other.
pub(super) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, wanted) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (at, &found) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(wanted != found);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_changes() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("maximun", "maximum", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn the_key_that_was_meant_is_found_by_its_spelling_or_its_name() {
        let suggestion = |text: &str| suggestion(&text.parse().unwrap());
        for (text, expected) in [
            ("[limits]\nreceive_maximun = 1", Some("limits.receive_maximum")),
            ("receive_maximum = 1", Some("limits.receive_maximum")),
            ("[limit]\nreceive_maximum = 1", Some("limits.receive_maximum")),
            ("[listeners.lan]\nbnd = 'x'", Some("listeners.lan.bind")),
            ("dta = 'x'", Some("data")),
            ("[limits]\nelephants = 1", None),
            ("[listeners.lan]\nbind = 'x'", None),
        ] {
            let expected = expected.map(|key| format!("did you mean `{key}`?"));
            assert_eq!(suggestion(text), expected, "{text}");
        }
    }

    #[test]
    fn every_key_has_a_meaning() {
        let keys = Key::all();
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys {
            assert!(key.meaning.ends_with('.'), "{}: {:?}", key.path, key.meaning);
        }
    }
}
