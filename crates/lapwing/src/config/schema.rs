//! The configuration file as JSON Schema, for editors and other programs.

use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

use super::Config;

/// What a file can have, as JSON Schema of the draft 2020-12. It says which keys there are and of which kind they are; what
/// their values mean together is for `lapwing config check`.
pub(crate) fn document() -> anyhow::Result<String> {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>().to_value();
    schema["title"] = json!("lapwing.toml");
    schema["description"] = json!("The configuration of a Lapwing broker.");
    tidy(&mut schema);
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// TOML has no null: what may be missing is left out. And a sentence stands on one line.
fn tidy(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            if let Some(Json::Array(kinds)) = object.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = &kinds[..] {
                    let kind = kind.clone();
                    object.insert("type".to_owned(), kind);
                }
            }
            if let Some(Json::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
            }
            if object.get("default").is_some_and(Json::is_null) {
                object.remove("default");
            }
            if let Some(Json::String(text)) = object.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            object.values_mut().for_each(tidy);
        }
        Json::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table says that there are no other keys, so that a misspelt one is shown while it is written.
    #[test]
    fn there_are_no_keys_but_those_that_are_named_and_nothing_is_null() {
        fn look(schema: &Json, tables: &mut usize) {
            match schema {
                Json::Object(object) => {
                    if object.get("properties").is_some_and(Json::is_object) && object.get("type").is_some() {
                        *tables += 1;
                        let others = &schema["additionalProperties"];
                        let refused =
                            *others == json!(false) || schema["unevaluatedProperties"] == json!(false);
                        assert!(refused, "{schema}");
                    }
                    assert_ne!(schema["type"], "null");
                    object.values().for_each(|schema| look(schema, tables));
                }
                Json::Array(items) => items.iter().for_each(|schema| look(schema, tables)),
                _ => {}
            }
        }
        let schema: Json = serde_json::from_str(&document().unwrap()).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let mut tables = 0;
        look(&schema, &mut tables);
        assert!(tables > 10, "{tables}");
    }
}
