//! The files of this repository, and what Cargo knows about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// The repository as the steps see it.
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
    /// Where Cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// Every file that git tracks or would track, sorted by path.
    pub(crate) files: Vec<File>,
    /// The packages of the workspace and everything they depend on, on all platforms.
    pub(crate) packages: Vec<Package>,
}

/// A file, with its path from the root (`/` between the parts) and its text (empty when it is not UTF-8).
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A package as `cargo metadata` describes it.
pub(crate) struct Package {
    pub(crate) name: String,
    /// The SPDX expression of its manifest.
    pub(crate) licence: Option<String>,
    /// Whether it is one of the workspace's own.
    pub(crate) member: bool,
    pub(crate) dependencies: Vec<Dependency>,
}

/// An arrow from one package to another.
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether only tests, examples and benchmarks have it.
    pub(crate) development: bool,
}

impl Repository {
    pub(crate) fn load() -> Result<Self> {
        let root = root()?;
        let mut cargo = command::cargo("metadata");
        cargo.args(["--format-version", "1"]).current_dir(&root);
        let metadata: Value = serde_json::from_str(&command::output(&mut cargo)?)?;
        let target = metadata["target_directory"].as_str().context("cargo metadata names no target")?;
        let packages = list(&metadata["packages"]).iter().map(Package::read).collect::<Result<_>>()?;
        Ok(Self { files: files(&root)?, target: PathBuf::from(target), packages, root })
    }

    /// The text of the file at `path`, from the root, if there is one.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| &*file.text)
    }

    /// The files whose names end in one of `extensions`, but neither vendored nor generated.
    pub(crate) fn sources<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(|file| file.is_ours() && extensions.contains(&file.extension()))
    }
}

impl File {
    /// What follows the last dot of the file's name, or nothing.
    pub(crate) fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn is_ours(&self) -> bool {
        !self.path.split('/').any(|part| matches!(part, "vendor" | "vendored" | "generated"))
    }
}

impl Package {
    fn read(package: &Value) -> Result<Self> {
        Ok(Self {
            name: package["name"].as_str().context("a package without a name")?.to_owned(),
            licence: package["license"].as_str().map(str::to_owned),
            member: package["source"].is_null(),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(|dependency| Dependency {
                    name: dependency["name"].as_str().unwrap_or_default().to_owned(),
                    development: dependency["kind"] == "dev",
                })
                .collect(),
        })
    }
}

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("xtask has no parent folder")?.to_owned())
}

fn files(root: &Path) -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
    let listed = command::output(git.current_dir(root)).context("the steps need a git checkout")?;
    let mut files = Vec::new();
    for path in listed.split_terminator('\0') {
        // A file that was removed but not yet committed is still listed.
        let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
        files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_can_be_read() {
        let repository = Repository::load().unwrap();
        assert!(repository.files.iter().any(|file| file.path == "xtask/src/repository.rs"));
        let xtask = repository.packages.iter().find(|package| package.name == "xtask").unwrap();
        assert!(xtask.member && xtask.licence.as_deref() == Some("MIT OR Apache-2.0"));
        assert!(xtask.dependencies.iter().any(|d| d.name == "anyhow" && !d.development));
        assert!(xtask.dependencies.iter().any(|d| d.name == "tempfile" && d.development));
    }

    #[test]
    fn vendored_files_are_not_ours() {
        let file = |path: &str| File { path: path.to_owned(), text: String::new() };
        assert!(file("crates/a/src/b.rs").is_ours());
        assert!(!file("console/vendor/chart.mjs").is_ours());
        assert_eq!(file("a.b/c").extension(), "");
        assert_eq!(file("a/b.test.mjs").extension(), "mjs");
    }
}
