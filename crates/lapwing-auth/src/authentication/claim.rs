//! What whoever vouches for a client says of it in JSON: attributes, and rules.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::permission::{RuleFile, Ruleset};

/// Rules: a list as in a file, or a table of lists of topics by action.
///
/// # Errors
///
/// A sentence that says what is wrong. It names keys and shows topics.
pub(super) fn rules(value: &Value, origin: &Path) -> Result<Arc<Ruleset>, String> {
    let list = match value {
        Value::Array(rules) => Value::Array(rules.clone()),
        Value::Object(by_action) => {
            let rule = |(action, topics): (&String, &Value)| serde_json::json!({ "allow": action, "topics": topics });
            // A list without topics says nothing.
            let is_empty = |topics: &Value| topics.as_array().is_some_and(Vec::is_empty);
            by_action.iter().filter(|(_, topics)| !is_empty(topics)).map(rule).collect()
        }
        _ => return Err("neither a list of rules nor a table of topics by action".to_owned()),
    };
    // By way of the text of a file, so that there is one reader of rules.
    let text = toml::to_string(&serde_json::json!({ "rule": list })).map_err(|error| error.to_string())?;
    let file = RuleFile::parse(origin, &text).map_err(|error| error.to_string())?;
    Ok(Arc::new(Ruleset::new(origin, file)))
}
