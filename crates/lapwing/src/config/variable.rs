//! Variables of the environment: which are keys of the configuration, and which were perhaps meant to be.

use super::key::{self, Key};

/// With which every variable of Lapwing begins.
const PREFIX: &str = "LAPWING_";

/// Variables that are keys of the top level; all others have `__` in their names.
const TOP_LEVEL: [&str; 1] = ["LAPWING_DATA"];

/// Variables that are no keys: of `pub` and `sub`, of the commands that use the admin channel, of the examples and the tests.
const OTHERS: [&str; 11] = [
    "LAPWING_ADMIN",
    "LAPWING_ADMIN_TOKEN",
    "LAPWING_URL",
    "LAPWING_CA",
    "LAPWING_CERT",
    "LAPWING_KEY",
    "LAPWING_PASSWORD",
    "LAPWING_HOST",
    "LAPWING_PORT",
    "LAPWING_BIN",
    "LAPWING_REQUIREMENTS",
];

/// The key that a variable stands for: `LAPWING_LIMITS__PACKET_SIZE_MAXIMUM` is `limits.packet_size_maximum`.
pub(super) fn key(name: &str) -> Option<String> {
    let key = name.strip_prefix(PREFIX)?;
    let is_key = key.contains("__") || TOP_LEVEL.contains(&name);
    is_key.then(|| key.to_lowercase().replace("__", "."))
}

/// A sentence for each variable of the environment that looks like one of Lapwing's and has no effect.
pub(crate) fn unknown() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut sentences: Vec<_> = names.filter_map(|name| sentence(&name)).collect();
    sentences.sort();
    sentences
}

fn sentence(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    if key(name).is_some() || OTHERS.contains(&name) {
        return None;
    }
    let right = match nearest(rest) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "a key such as log.level is written LAPWING_LOG__LEVEL".to_owned(),
    };
    Some(format!("the environment variable {name} has no effect; {right}"))
}

/// The variable of the key that has nearly this name, one underscore being as good as two.
fn nearest(rest: &str) -> Option<String> {
    let variables = Key::all().into_iter().map(|key| key.path.to_uppercase().replace('.', "__"));
    let candidates = variables.map(|name| (key::distance(rest, &name.replace("__", "_")), name));
    let (distance, name) = candidates.min_by_key(|&(distance, _)| distance)?;
    (distance <= 1 + rest.len() / 5).then(|| format!("{PREFIX}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_keys_only_where_they_look_like_one() {
        assert_eq!(key("LAPWING_LISTENERS__TCP__BIND").as_deref(), Some("listeners.tcp.bind"));
        assert_eq!(key("LAPWING_DATA").as_deref(), Some("data"));
        assert_eq!(key("LAPWING_HOST"), None);
        assert_eq!(key("HOME"), None);
    }

    #[test]
    fn a_variable_without_effect_is_told_the_right_form() {
        for (name, expected) in [
            ("LAPWING_LOG_LEVEL", Some("did you mean LAPWING_LOG__LEVEL?")),
            ("LAPWING_LIMITS_RECEIVE_MAXIMUN", Some("did you mean LAPWING_LIMITS__RECEIVE_MAXIMUM?")),
            ("LAPWING_DATAS", Some("did you mean LAPWING_DATA?")),
            ("LAPWING_ELEPHANTS", Some("written LAPWING_LOG__LEVEL")),
            ("LAPWING_LOG__LEVEL", None),
            ("LAPWING_DATA", None),
            ("LAPWING_URL", None),
            ("LAPWING_HOST", None),
            ("HOME", None),
        ] {
            let sentence = sentence(name);
            assert_eq!(sentence.is_some(), expected.is_some(), "{name}: {sentence:?}");
            let sentence = sentence.unwrap_or_default();
            assert!(
                expected.is_none_or(|text| sentence.contains(name) && sentence.contains(text)),
                "{sentence}"
            );
        }
    }
}
