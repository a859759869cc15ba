//! Nothing unfinished is committed, and no test is switched off.

use crate::repository::Repository;
use crate::rust_source::code_only;

/// Notes to oneself, as whole words. Put together here so that this file does not break its own rule.
const NOTES: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X")];

/// What Rust code may not contain outside comments and strings.
const CODE: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore")];

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let sources = repository.sources(&["rs", "py", "js", "mjs", "sh", "toml"]);
    sources.flat_map(|file| violations(&file.path, &file.text)).collect()
}

fn violations(path: &str, text: &str) -> Vec<String> {
    let code = if path.ends_with(".rs") { code_only(text) } else { String::new() };
    let notes = places(text, NOTES, has_word);
    let unfinished = places(&code, CODE, |line, what| line.contains(what));
    let sentence =
        |(line, what)| format!("{path}:{line}: `{what}`: finish it, or say in an issue what is left");
    notes.into_iter().chain(unfinished).map(sentence).collect()
}

fn places(text: &str, wanted: &[&'static str], test: fn(&str, &str) -> bool) -> Vec<(usize, &'static str)> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| Some((index + 1, *wanted.iter().find(|what| test(line, what))?)))
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_letter) && !line[at + word.len()..].starts_with(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_is_found() {
        for what in CODE {
            assert_eq!(violations("a.rs", &format!("fn a() {{\n {what} }}")).len(), 1, "{what}");
            assert_eq!(violations("a.rs", &format!("// {what}\nlet a = \"{what}\";")).len(), 0, "{what}");
        }
    }

    #[test]
    fn notes_are_found_as_words() {
        for note in NOTES {
            assert_eq!(violations("a.py", &format!("a = 1  # {note}: b\n")).len(), 1, "{note}");
            assert_eq!(violations("a.sh", &format!("mktemp a.{note}{note}\n")).len(), 0, "{note}");
        }
    }
}
