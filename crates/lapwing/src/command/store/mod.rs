//! Looking into a store, and moving, saving and mending it while no broker has it.

mod backup;
mod check;
mod place;
mod repair;
mod restore;
mod stat;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use lapwing_store::engine::{EngineError, Options, View};

use crate::config::Config;
use crate::{exit, store};

/// Look into what the broker has stored, save it and mend it.
///
/// The broker must not be running on the same data directory, but for a backup. `check`, `stats` and `backup` change
/// nothing.
#[derive(Debug, Args)]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Stats(stat::Stats),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Repair(repair::Repair),
}

impl StoreCommand {
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Stats(stats) => exit::report(stats.run()),
            Command::Backup(backup) => exit::report(backup.run()),
            Command::Restore(restore) => exit::report(restore.run()),
            Command::Repair(repair) => exit::report(repair.run()),
        }
    }
}

/// Which store.
#[derive(Debug, Args)]
struct Data {
    /// The data directory of the broker
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file of the broker, which may name its data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Data {
    /// The data directory, as the broker would find it.
    fn directory(&self) -> anyhow::Result<PathBuf> {
        let config = match &self.data {
            Some(_) => None,
            None => Config::load(self.config.as_deref(), &[])?.data,
        };
        self.data.clone().or(config).map_or_else(store::default_directory, Ok)
    }

    /// The folder of a store, which must be there.
    fn existing(&self) -> anyhow::Result<PathBuf> {
        let directory = self.directory()?;
        let folder = store::folder(&directory);
        if !folder.exists() {
            bail!("there is no store in {}; --data names another data directory", directory.display());
        }
        Ok(folder)
    }
}

/// Looks at the store in a folder.
fn look(folder: &Path) -> Result<View, EngineError> {
    View::open(folder, Options::default())
}

/// An error of opening a store, with what can be done about it.
fn explain(error: EngineError, doing: &str) -> anyhow::Error {
    match error {
        EngineError::Locked { path } => {
            anyhow!(
                "{} is in use, by a running broker or another command; stop it to {doing}",
                path.display()
            )
        }
        error => error.into(),
    }
}

/// Prints a line. Whoever reads the lines may have seen enough: then nothing more is printed.
fn line(text: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A number and what it counts: `1 message`, `1,234 messages`.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// With a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(count(1000, "entry", "entries"), "1,000 entries");
    }
}
