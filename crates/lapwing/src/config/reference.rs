//! The reference page of the configuration.

use serde_json::Value as Json;
use toml::Value;

use super::Config;
use super::key::Key;

const HEAD: &str = "\
<!-- Generated from the sources by `cargo xtask generate`; change the documentation of the fields instead. -->

# Configuration

`lapwing serve` runs without any configuration. What is to be different is said in up to four places; the later ones go over the
earlier ones, key by key:

1. a file in [TOML](https://toml.io), named by `--config`;
2. environment variables: `LAPWING_LIMITS__RECEIVE_MAXIMUM=100` is `limits.receive_maximum = 100`, two underscores for each dot;
   `LAPWING_DATA` is `data`;
3. `--set limits.receive_maximum=100`, any number of times;
4. `--listen` and `--data`, instead of all `listeners` and of `data`.

`lapwing config check FILE` says what is wrong with a file. `lapwing config show --config FILE` prints what holds in the end, and
`lapwing config default` what holds without any configuration. A key that there is not is an error.

[Configuring the broker](../guides/configuration.md) shows all of this at work.
";

/// The page in Markdown.
pub(crate) fn page() -> anyhow::Result<String> {
    let defaults = Value::try_from(Config::default())?;
    let mut page = HEAD.to_owned();
    let keys = Key::all();
    for section in keys.chunk_by(|one, other| one.section() == other.section()) {
        let heading = match section[0].section() {
            "" => "Top level".to_owned(),
            section if section.ends_with("[]") => format!("`[[{}]]`", section.trim_end_matches("[]")),
            section => format!("`[{section}]`"),
        };
        page.push_str(&format!(
            "\n## {heading}\n\n| Key | Type | Unit | Default | Meaning |\n|---|---|---|---|---|\n"
        ));
        for key in section {
            let (kind, unit, default) = (kind(&key.schema), unit(key.name()), default(&defaults, key));
            page.push_str(&format!("| `{}` | {kind} | {unit} | {default} | {} |\n", key.name(), key.meaning));
        }
    }
    Ok(page)
}

fn kind(schema: &Json) -> String {
    let words = choices(schema);
    if !words.is_empty() {
        return words.join(", ");
    }
    let kind = match &schema["type"] {
        Json::Array(kinds) => kinds.first().and_then(Json::as_str),
        kind => kind.as_str(),
    };
    match (kind, schema["format"].as_str()) {
        (Some("integer"), Some("uint8")) => "number, up to 255".to_owned(),
        (Some("integer"), Some("uint16")) => "number, up to 65,535".to_owned(),
        (Some("integer"), Some("uint32")) => "number, up to 4,294,967,295".to_owned(),
        (Some("integer"), _) => "number".to_owned(),
        (Some("string"), _) => "text".to_owned(),
        (kind, _) => kind.unwrap_or_default().to_owned(),
    }
}

/// The words that a value is one of; none if it is not so simple.
fn choices(schema: &Json) -> Vec<String> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let documented = schema["oneOf"].as_array().into_iter().flatten();
    let words = documented.flat_map(|choice| match choice["enum"].as_array() {
        Some(words) => words.iter().collect(),
        None => vec![&choice["const"]],
    });
    plain.chain(words).filter_map(Json::as_str).map(|word| format!("`{word}`")).collect()
}

/// By the end of its name, as the conventions have it.
fn unit(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("_s") => "seconds",
        _ if name.contains("bytes") || name.contains("_size_") => "bytes",
        _ => "",
    }
}

fn default(defaults: &Value, key: &Key) -> String {
    let value = key.path.split('.').try_fold(defaults, |value, part| value.get(part));
    let of_list = Some(&key.schema["default"]).filter(|default| !default.is_null());
    match (value, of_list) {
        (Some(value), _) => format!("`{value}`"),
        (None, Some(default)) => format!("`{default}`"),
        (None, None) => "none".to_owned(),
    }
}
