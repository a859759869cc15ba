//! `node --test`, with packages as `package-lock.json` pins them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::report::Report;
use crate::tally;

/// Runs the tests in `folder`.
pub(super) fn run(folder: &Path, report: &mut Report, binary: &Path) {
    if report.prepare("Node packages", || prepare(folder)).is_none() {
        return;
    }
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec"]).current_dir(folder).env("LAPWING_BIN", binary);
    report.tests("node --test", &mut node, tally::node);
}

/// Installs the packages, unless those of an earlier run are still the right ones.
fn prepare(folder: &Path) -> Result<()> {
    let read = |name: &str| {
        fs::read_to_string(folder.join(name))
            .with_context(|| format!("cannot read {name} of {}", folder.display()))
    };
    let wanted = format!("{}{}", read("package.json")?, read("package-lock.json")?);
    // Inside the folder it speaks of, so that the stamp goes when the packages go.
    let modules = folder.join("node_modules");
    let stamp = modules.join(".lapwing-stamp");
    if fs::read_to_string(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    command::run_checked(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))?;
    fs::create_dir_all(modules)?;
    fs::write(stamp, wanted)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_lock_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("package.json"), "{}").unwrap();
        assert!(format!("{:#}", prepare(folder.path()).unwrap_err()).contains("package-lock.json"));
    }

    #[test]
    fn packages_with_the_right_stamp_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("package.json", "{}");
        write("package-lock.json", "[]");
        fs::create_dir(folder.path().join("node_modules")).unwrap();
        write("node_modules/.lapwing-stamp", "{}[]");
        // npm would reject this lock file, so success means that it was not run.
        prepare(folder.path()).unwrap();
    }
}
