//! pytest, once for every set of requirements.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian;
use crate::command;
use crate::report::Report;
use crate::tally;

/// Runs `folder/tests` once for each `folder/requirements/*.txt`, in an environment of its own below `environments`.
pub(super) fn run(folder: &Path, environments: &Path, report: &mut Report, binary: &Path) {
    let Some(sets) = report.prepare("Python requirements", || requirement_sets(folder)) else { return };
    for requirements in sets {
        let stem = requirements.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let environment = environments.join(&stem);
        let python = report.prepare(&format!("environment {stem}"), || prepare(&requirements, &environment));
        let Some(python) = python else { continue };
        let mut pytest = Command::new(python);
        pytest.args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "tests"]).current_dir(folder);
        pytest
            .env("LAPWING_BIN", binary)
            .env("LAPWING_REQUIREMENTS", &stem)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        report.tests(&format!("pytest {stem}"), &mut pytest, tally::pytest);
    }
}

fn requirement_sets(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join("requirements");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut sets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            sets.push(path);
        }
    }
    if sets.is_empty() {
        bail!("{} holds no *.txt", folder.display());
    }
    sets.sort();
    Ok(sets)
}

/// Returns the interpreter of an environment that has `requirements`. The one of an earlier run is kept
/// when neither the requirements nor the version of Python have changed.
pub(crate) fn prepare(requirements: &Path, environment: &Path) -> Result<PathBuf> {
    let version = command::output(Command::new("python3").arg("--version")).context("Python 3 is needed")?;
    let wanted = format!("{version}{}", fs::read_to_string(requirements)?);
    let python = interpreter(environment);
    if !is_current(environment, &wanted) {
        create(environment)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        command::run_checked(pip.arg(requirements))?;
        fs::write(stamp(environment), wanted)?;
    }
    Ok(python)
}

/// Whether the environment was made for `wanted`, to the end, and its interpreter still starts.
fn is_current(environment: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp(environment)).is_ok_and(|present| present == wanted)
        && command::succeeds(Command::new(interpreter(environment)).arg("--version"))
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}

fn stamp(environment: &Path) -> PathBuf {
    environment.join("requirements.stamp")
}

/// Makes an empty environment. Debian's Python can do it only with the package `python3-venv`.
fn create(environment: &Path) -> Result<()> {
    let venv =
        || command::run_checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment));
    if venv().is_ok() {
        return Ok(());
    }
    debian::install("python3-venv").context("Python has no working module `venv`")?;
    venv()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_the_text_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        assert!(requirement_sets(folder.path()).is_err());
        let requirements = folder.path().join("requirements");
        fs::create_dir(&requirements).unwrap();
        assert!(requirement_sets(folder.path()).is_err());
        for name in ["paho-2.1.txt", "asyncio.txt", "README.md"] {
            fs::write(requirements.join(name), "").unwrap();
        }
        let sets = requirement_sets(folder.path()).unwrap();
        let stems: Vec<_> = sets.iter().map(|set| set.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(stems, ["asyncio", "paho-2.1"]);
    }

    #[test]
    fn an_environment_is_kept_while_its_stamp_is_right() {
        let environment = tempfile::tempdir().unwrap();
        let environment = environment.path();
        fs::write(stamp(environment), "Python 3.11.7\npytest==1\n").unwrap();
        assert!(!is_current(environment, "Python 3.11.7\npytest==1\n"), "it has no interpreter");
        fs::create_dir(environment.join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/true", interpreter(environment)).unwrap();
        assert!(is_current(environment, "Python 3.11.7\npytest==1\n"));
        assert!(!is_current(environment, "Python 3.11.7\npytest==2\n"));
        assert!(!is_current(environment, "Python 3.12.0\npytest==1\n"));
    }
}
