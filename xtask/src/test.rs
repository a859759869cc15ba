//! Everything a change must pass.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::report::Report;
use crate::repository::Repository;
use crate::{command, instructions, interop, tally, tidy};

/// Which steps to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    /// Format, clippy and our own rules.
    Lint,
    /// The tests of the Rust workspace, foreign Rust clients included.
    Rust,
    /// How many instructions a message takes.
    Instructions,
    /// The `lapwing` binary against clients of other projects, in any language.
    Interop,
}

impl Scope {
    pub(crate) fn parse(options: &[&str]) -> Result<Self> {
        match options {
            [] => Ok(Self::Everything),
            ["--only", "lint"] => Ok(Self::Lint),
            ["--only", "rust"] => Ok(Self::Rust),
            ["--only", "instructions"] => Ok(Self::Instructions),
            ["--only", "interop"] => Ok(Self::Interop),
            _ => {
                bail!("`test` takes `--only lint`, `--only rust`, `--only instructions` or `--only interop`")
            }
        }
    }
}

pub(crate) fn run(repository: &Repository, report: &mut Report, scope: Scope) {
    if matches!(scope, Scope::Everything | Scope::Lint) {
        lint(repository, report);
    }
    if matches!(scope, Scope::Everything | Scope::Instructions) {
        instructions::run(repository, report);
    }
    let binary = match scope {
        Scope::Everything | Scope::Rust => {
            // The same packages and targets as the tests, so that nothing is compiled a second time.
            build(repository, report, &["--workspace", "--all-targets"])
        }
        Scope::Interop => build(repository, report, &["--package", "lapwing", "--bins"]),
        Scope::Lint | Scope::Instructions => return,
    };
    let Some(binary) = binary else { return };
    match scope {
        Scope::Interop => {
            rust_tests(repository, report, &binary, "foreign Rust clients", "--package=interop-rust");
        }
        _ => {
            rust_tests(repository, report, &binary, "Rust tests", "--workspace");
            shard_tests(repository, report, "three shards", &[("LAPWING_TEST_SHARDS", "3")]);
            let stored = [("LAPWING_TEST_SHARDS", "2"), ("LAPWING_TEST_STORE", "1")];
            shard_tests(repository, report, "stored sessions, two shards", &stored);
            documentation_tests(repository, report);
        }
    }
    if scope != Scope::Rust {
        interop::run(repository, report, &binary);
    }
}

fn lint(repository: &Repository, report: &mut Report) {
    let root = &repository.root;
    report.prepare("rustfmt and clippy", || {
        let missing = |subcommand: &str| !command::succeeds(command::cargo(subcommand).arg("--version"));
        if missing("fmt") || missing("clippy") {
            command::run_checked(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))?;
        }
        Ok(())
    });
    report.check("format", || {
        let result = command::run_checked(command::cargo("fmt").args(["--all", "--check"]).current_dir(root));
        result.context("run `cargo fmt`")
    });
    report.check("clippy", || {
        let arguments = ["--workspace", "--all-targets", "--", "-D", "warnings"];
        command::run_checked(command::cargo("clippy").args(arguments).current_dir(root))
    });
    tidy::run(repository, report);
}

/// Builds, and returns the absolute path of the `lapwing` binary.
fn build(repository: &Repository, report: &mut Report, what: &[&str]) -> Option<PathBuf> {
    report.prepare("build", || {
        command::run_checked(command::cargo("build").args(what).current_dir(&repository.root))?;
        let binary = repository.target.join("debug").join(format!("lapwing{}", std::env::consts::EXE_SUFFIX));
        if !binary.is_file() {
            bail!("the build left no {}", binary.display());
        }
        Ok(binary)
    })
}

fn rust_tests(repository: &Repository, report: &mut Report, binary: &Path, name: &str, package: &str) {
    let (mut cargo, read) = runner(
        &["run", package, "--no-tests=pass"],
        &[package, "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"],
    );
    report.tests(name, cargo.env("LAPWING_BIN", binary).current_dir(&repository.root), read);
}

/// The tests of the broker's shard once more, set up as `variables` say: whatever holds for one shard and for sessions
/// in memory must hold for several, and for sessions in a store.
fn shard_tests(repository: &Repository, report: &mut Report, name: &str, variables: &[(&str, &str)]) {
    // The whole workspace, so that nothing is compiled a second time, and of it what is needed.
    let (mut cargo, read) = runner(
        &["run", "--workspace", "-E", "package(lapwing-broker) & test(shard::test::)"],
        &["--workspace", "--lib", "--no-fail-fast", "--", "shard::test::"],
    );
    report.tests(name, cargo.envs(variables.iter().copied()).current_dir(&repository.root), read);
}

/// What runs tests, with the arguments for it, and what reads its counts.
pub(crate) fn runner(nextest: &[&str], test: &[&str]) -> (Command, tally::Reader) {
    let has_nextest = command::succeeds(command::cargo("nextest").arg("--version"));
    let (subcommand, arguments) = if has_nextest { ("nextest", nextest) } else { ("test", test) };
    let mut cargo = command::cargo(subcommand);
    cargo.args(arguments);
    (cargo, if has_nextest { tally::nextest } else { tally::cargo_test })
}

/// The examples in the documentation of libraries, which nextest does not run.
fn documentation_tests(repository: &Repository, report: &mut Report) {
    let mut cargo = command::cargo("test");
    cargo.args(["--doc", "--workspace", "--no-fail-fast"]).current_dir(&repository.root);
    report.tests("documentation examples", &mut cargo, tally::cargo_test);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        assert_eq!(Scope::parse(&[]).unwrap(), Scope::Everything);
        assert_eq!(Scope::parse(&["--only", "interop"]).unwrap(), Scope::Interop);
        assert!(Scope::parse(&["--only"]).is_err());
        assert!(Scope::parse(&["--only", "python"]).is_err());
    }
}
