//! Fuzzing with cargo-fuzz, which needs a nightly compiler.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::command;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// One target, or all of them.
    target: Option<String>,
    /// How long to run each target.
    seconds: u64,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { target: None, seconds: 60 };
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            match argument {
                "--seconds" => {
                    let value = arguments.next().context("`--seconds` needs a number")?;
                    options.seconds = value.parse().with_context(|| format!("`--seconds {value}`"))?;
                    if options.seconds == 0 {
                        bail!("`--seconds` must be at least 1");
                    }
                }
                _ if argument.starts_with('-') => bail!("`fuzz` has no option `{argument}`"),
                _ if options.target.is_some() => bail!("`fuzz` takes one target"),
                _ => options.target = Some(argument.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Runs the targets one after the other and stops at the first that finds something.
pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    if !root.join("fuzz/Cargo.toml").is_file() {
        bail!("there is no fuzz/Cargo.toml, so there is nothing to fuzz");
    }
    if !command::succeeds(&mut fuzz(root, &["--version"])) {
        bail!(
            "fuzzing needs a nightly compiler and cargo-fuzz:\n  \
             rustup toolchain install nightly\n  cargo install cargo-fuzz"
        );
    }
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => command::output(&mut fuzz(root, &["list"]))?.lines().map(str::to_owned).collect(),
    };
    for target in &targets {
        let limit = format!("-max_total_time={}", options.seconds);
        command::run_checked(&mut fuzz(root, &["run", target, "--", &limit]))
            .with_context(|| format!("target `{target}`; its input is kept in fuzz/artifacts/{target}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo +nightly fuzz …`: rustup's own `cargo`, since only that understands `+nightly`.
fn fuzz(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).args(arguments).current_dir(root);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = |arguments: &[&str]| Options::parse(arguments).ok();
        assert_eq!(options(&[]), Some(Options { target: None, seconds: 60 }));
        let both = Options { target: Some("packet".to_owned()), seconds: 5 };
        assert_eq!(options(&["packet", "--seconds", "5"]), Some(both));
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "x"], &["--fast"], &["a", "b"]]
        {
            assert_eq!(options(wrong), None, "{wrong:?}");
        }
    }
}
