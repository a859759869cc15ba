//! A file's name says what is in it.

use std::collections::BTreeSet;

use crate::repository::Repository;

const FORBIDDEN: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "misc", "manager"];

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let sentences: BTreeSet<String> =
        repository.files.iter().filter_map(|file| violation(&file.path)).collect();
    sentences.into_iter().collect()
}

/// Folders count too. The sentence ends at the part that breaks the rule.
fn violation(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let forbidden = |part: &&str| FORBIDDEN.contains(&part.split('.').next().unwrap_or_default());
    let position = parts.iter().position(forbidden)?;
    Some(format!("{}: the name says nothing; name it after what it holds", parts[..=position].join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing() {
        for path in ["a/utils.rs", "a/common/mod.rs", "a/types.d.ts", "manager.py"] {
            assert!(violation(path).is_some(), "{path}");
        }
        for path in ["a/topic.rs", "a/type_name.rs", "a/session_manager_note.md", "commons/a.rs"] {
            assert_eq!(violation(path), None, "{path}");
        }
        assert!(violation("a/common/mod.rs").unwrap().starts_with("a/common: "));
    }
}
