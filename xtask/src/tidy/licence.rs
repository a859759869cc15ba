//! The licences of everything we depend on.

use crate::repository::Repository;

const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "0BSD",
];

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let packages = repository.packages.iter();
    packages.filter_map(|package| violation(&package.name, package.licence.as_deref())).collect()
}

fn violation(name: &str, licence: Option<&str>) -> Option<String> {
    match licence {
        None => Some(format!("`{name}` names no licence in its manifest")),
        Some(expression) if allows(expression) => None,
        Some(expression) => {
            Some(format!("`{name}` has the licence `{expression}`, which is not on our list"))
        }
    }
}

/// Whether an SPDX expression lets us choose only licences that are on the list. `/` is an old way to
/// write `OR`. An expression that cannot be read is not allowed.
fn allows(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().collect::<Vec<_>>();
    words.reverse();
    any_of(&mut words) == Some(true) && words.is_empty()
}

/// `A OR B …`. The words are in reverse, so that the next one is the last.
fn any_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = all_of(words)?;
    while words.last() == Some(&"OR") {
        words.pop();
        allowed |= all_of(words)?;
    }
    Some(allowed)
}

/// `A AND B …`, which binds more tightly than `OR`.
fn all_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = single(words)?;
    while words.last() == Some(&"AND") {
        words.pop();
        allowed &= single(words)?;
    }
    Some(allowed)
}

fn single(words: &mut Vec<&str>) -> Option<bool> {
    match words.pop()? {
        "(" => {
            let allowed = any_of(words)?;
            (words.pop()? == ")").then_some(allowed)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence if words.last() == Some(&"WITH") => {
            words.pop();
            // An exception only adds permissions, so the licence decides.
            words.pop()?;
            Some(ALLOWED.contains(&licence))
        }
        licence => Some(ALLOWED.contains(&licence)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_on_the_list() {
        for expression in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Unlicense OR MIT",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0-only OR (ISC AND MIT)",
        ] {
            assert!(allows(expression), "{expression}");
        }
    }

    #[test]
    fn licences_that_are_not() {
        for expression in [
            "GPL-3.0-only",
            "MIT AND MPL-2.0",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "MIT AND GPL-2.0-only OR AGPL-3.0-only",
            "",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT ISC",
        ] {
            assert!(!allows(expression), "{expression}");
        }
        assert!(violation("a", None).is_some());
    }
}
