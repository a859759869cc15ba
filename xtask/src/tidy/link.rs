//! Links between our documents lead somewhere, and every translation has its original.

use std::collections::BTreeSet;

use crate::repository::Repository;

const TRANSLATION: &str = ".zh-CN.md";

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let mut places: BTreeSet<&str> = BTreeSet::from([""]);
    for file in &repository.files {
        places.insert(&file.path);
        places.extend(file.path.match_indices('/').map(|(at, _)| &file.path[..at]));
    }
    repository.sources(&["md"]).flat_map(|file| violations(&file.path, &file.text, &places)).collect()
}

/// `places` are the files and folders that exist, from the root.
fn violations(path: &str, text: &str, places: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(original) = path.strip_suffix(TRANSLATION).map(|stem| format!("{stem}.md"))
        && !places.contains(original.as_str())
    {
        found.push(format!("{path}: there is no {original} that it translates"));
    }
    for (line, target) in targets(text) {
        match resolve(path, &target) {
            Some(place) if places.contains(place.as_str()) => {}
            _ => found.push(format!("{path}:{line}: the link to {target} leads nowhere")),
        }
    }
    found
}

/// The relative links of a document, without their `#section`, and their lines.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                let links = links(&without_code(line)).into_iter().filter_map(|target| relative(&target));
                found.extend(links.map(|target| (index + 1, target)));
            }
        }
    }
    found
}

/// The targets of `[text](target "title")` and of a line `[name]: target`.
fn links(line: &str) -> Vec<String> {
    let mut found: Vec<String> =
        line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect();
    if let Some((_, target)) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        found.push(target.to_owned());
    }
    found
}

fn relative(target: &str) -> Option<String> {
    let target = target.trim();
    let target = match target.strip_prefix('<') {
        Some(bracketed) => bracketed.split('>').next()?,
        None => target.split_whitespace().next()?,
    };
    let target = target.split('#').next()?;
    let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
    (!elsewhere).then(|| target.to_owned())
}

/// Where `target` leads from the document at `path`: `None` when that is outside the repository.
fn resolve(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// `line` without what stands between backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: &[&str] =
        &["", "README.md", "docs", "docs/a.md", "docs/a.zh-CN.md", "docs/deep", "docs/deep/b.md"];

    fn broken(path: &str, text: &str) -> usize {
        violations(path, text, &PLACES.iter().copied().collect()).len()
    }

    #[test]
    fn links_that_lead_somewhere() {
        let text = "[a](a.md#part), [b](deep/b.md \"title\"), ![c](../README.md)\n[d]: <deep/>\n[e](/docs/a.md) [f](#here)";
        assert_eq!(broken("docs/a.md", text), 0);
        assert_eq!(broken("docs/a.md", "[a](https://example.org/x.md) [b](mailto:a@example.org)"), 0);
    }

    #[test]
    fn links_that_lead_nowhere() {
        assert_eq!(broken("docs/a.md", "[a](b.md) and [c](../../README.md)\n\n[d]: e.md"), 3);
        assert_eq!(
            violations("a.md", "\n\n[x](y.md)", &BTreeSet::new())[0],
            "a.md:3: the link to y.md leads nowhere"
        );
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(broken("docs/a.md", "`[a](b.md)` \n```text\n[a](b.md)\n```\n"), 0);
        assert_eq!(broken("docs/a.md", "```text\n```\n[a](b.md)\n"), 1);
    }

    #[test]
    fn translations_have_an_original() {
        assert_eq!(broken("docs/a.zh-CN.md", ""), 0);
        assert_eq!(broken("docs/c.zh-CN.md", ""), 1);
    }
}
