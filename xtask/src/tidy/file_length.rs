//! A file is read in one sitting.

use crate::repository::Repository;

const LIMIT: usize = 800;

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let sources = repository.sources(&["rs", "py", "js", "mjs"]);
    sources.filter_map(|file| violation(&file.path, &file.text)).collect()
}

fn violation(path: &str, text: &str) -> Option<String> {
    let length = text.lines().count();
    (length > LIMIT).then(|| format!("{path}: {length} lines; split what has more than {LIMIT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed() {
        assert_eq!(violation("a.rs", &"\n".repeat(800)), None);
        assert!(violation("a.rs", &"\n".repeat(801)).is_some());
    }
}
