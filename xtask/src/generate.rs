//! Pages that the program makes from its sources. Tests fail when one of them is not what it would be.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::command;

/// Each page, and the arguments with which the program prints it.
const PAGES: &[(&str, &[&str])] = &[
    ("docs/reference/configuration.md", &["config", "reference"]),
    ("docs/reference/openapi.json", &["config", "openapi"]),
    ("docs/reference/lapwing.schema.json", &["config", "schema"]),
];

/// Writes them all.
pub(crate) fn run(root: &Path) -> Result<()> {
    for (page, arguments) in PAGES {
        let mut program = command::cargo("run");
        program.args(["--quiet", "--package", "lapwing", "--"]).args(*arguments);
        let output =
            program.current_dir(root).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("`lapwing {}` failed", arguments.join(" "));
        }
        std::fs::write(root.join(page), output.stdout).with_context(|| format!("cannot write {page}"))?;
        println!("{page} is written");
    }
    Ok(())
}
