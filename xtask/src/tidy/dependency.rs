//! A dependency earns its place with a line in the table of dependencies.

use std::collections::BTreeSet;

use crate::repository::Repository;

const TABLE: &str = "docs/design/dependencies.md";
/// The manifests whose dependencies the table explains.
const MANIFESTS: &[&str] = &["Cargo.toml", "fuzz/Cargo.toml"];
/// What fuzzing needs, whether or not there are targets yet.
const FUZZING: [&str; 1] = ["libfuzzer-sys"];

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let text =
        |path: &str| repository.files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let Some(table) = text(TABLE) else { return vec![format!("{TABLE} is missing")] };
    let mut names = BTreeSet::from(FUZZING.map(str::to_owned));
    for (path, manifest) in MANIFESTS.iter().filter_map(|path| Some((path, text(path)?))) {
        match dependencies(manifest) {
            Ok(found) => names.extend(found),
            Err(error) => return vec![format!("{path}: {error}")],
        }
    }
    violations(&names, table)
}

fn violations(names: &BTreeSet<String>, table: &str) -> Vec<String> {
    let explained: BTreeSet<&str> = table.lines().filter_map(first_cell).collect();
    let missing = names.iter().filter(|name| !explained.contains(name.as_str()));
    let stale = explained.iter().filter(|name| !names.contains(**name));
    let missing = missing.map(|name| format!("{TABLE}: no line says what `{name}` is for"));
    missing.chain(stale.map(|name| format!("{TABLE}: `{name}` is no dependency any more"))).collect()
}

/// The packages of others that a manifest depends on, its own or for its workspace.
fn dependencies(manifest: &str) -> Result<Vec<String>, toml::de::Error> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let workspace = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let tables = [workspace, manifest.get("dependencies")];
    let entries = tables.into_iter().flatten().filter_map(toml::Value::as_table).flatten();
    Ok(entries.filter(|(_, value)| value.get("path").is_none()).map(|(name, _)| name.clone()).collect())
}

/// The `name` of a table line that starts with `` | `name` | ``.
fn first_cell(line: &str) -> Option<&str> {
    line.trim().strip_prefix('|')?.split('|').next()?.trim().strip_prefix('`')?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
        [workspace.dependencies]
        own = { path = \"crates/own\" }
        mio = { version = \"1\", features = [\"net\"] }
        slab = \"0.4\"
    ";

    #[test]
    fn every_dependency_of_others_has_a_line() {
        let names: BTreeSet<String> = dependencies(MANIFEST).unwrap().into_iter().collect();
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["mio", "slab"]);
        let table = "| Crate | What for |\n|---|---|\n| `mio` | sockets |\n| `slab` | connections |\n";
        assert_eq!(violations(&names, table).len(), 0);
        assert_eq!(violations(&names, "| `mio` | for `slab` |").len(), 1);
        assert_eq!(violations(&names, &format!("{table}| `old` | gone |\n")).len(), 1);
    }
}
