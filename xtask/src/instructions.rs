//! A gate on how many instructions the broker takes for a message: a count is the same on a busy machine as on an idle
//! one, where a time is not.
//!
//! What is counted is in `crates/lapwing-broker/src/bench.rs`; what is expected, in `bench/instructions.toml`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};

use crate::command;
use crate::interop::debian;
use crate::report::Report;
use crate::repository::Repository;

const FILE: &str = "bench/instructions.toml";
/// How far a count may be from the expected one, in per cent: a change of which it is hardly worth to speak.
const TOLERANCE: f64 = 5.0;
/// The difference between two runs leaves out what they have in common: starting, connecting, ending.
const FEW: u64 = 16_000;
const MANY: u64 = 48_000;

#[derive(Debug, PartialEq)]
struct Expected {
    /// With which, and on what kind of processor, the counts were made: another one may make other code.
    compiler: String,
    counts: BTreeMap<String, u64>,
}

/// Counts, and holds the counts against those that are expected.
pub(crate) fn run(repository: &Repository, report: &mut Report) {
    let Some((program, compiler)) =
        report.prepare("work for the counter of instructions", || prepare(repository))
    else {
        return;
    };
    report.check("instructions per message", || {
        let expected = read(&repository.root)?;
        let counts = count_all(&program)?;
        let (faults, hints) = judge(&expected.counts, &counts);
        hints.iter().for_each(|hint| println!("   {hint}"));
        if faults.is_empty() {
            return Ok(());
        }
        let advice = "if that is worth it, `cargo xtask instructions --accept` writes the new counts";
        let text = format!("{}; {advice}", faults.join("; "));
        if expected.compiler == compiler {
            bail!("{text}");
        }
        println!("   {text}\n   not a failure: {compiler} is not {}", expected.compiler);
        Ok(())
    });
}

/// Writes what is counted as what is expected.
pub(crate) fn accept(repository: &Repository) -> Result<ExitCode> {
    let (program, compiler) = prepare(repository)?;
    let mut text = format!(
        "# Instructions per delivered message, by `cargo xtask instructions --accept`.\n\n\
         compiler = {compiler:?}\n\n[counts]\n"
    );
    for (name, count) in count_all(&program)? {
        writeln!(text, "{name:?} = {count}")?;
    }
    let path = repository.root.join(FILE);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{FILE} is written");
    Ok(ExitCode::SUCCESS)
}

/// Builds the work, and sees that there is a counter. Gives the program and the compiler's version.
fn prepare(repository: &Repository) -> Result<(PathBuf, String)> {
    debian::ensure(&["valgrind"], "valgrind")?;
    let mut cargo = command::cargo("build");
    cargo.args(["--profile", "instructions", "--package", "lapwing-broker", "--features", "bench"]);
    command::run_checked(cargo.args(["--example", "instructions"]).current_dir(&repository.root))?;
    let program = repository.target.join("instructions/examples/instructions");
    let compiler = command::output(Command::new("rustc").arg("-V").current_dir(&repository.root))?;
    Ok((program, format!("{}, {}", compiler.trim(), machine())))
}

/// The kind of processor: libraries have code of their own for some.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx2") {
        return "x86_64 without AVX2".to_owned();
    }
    std::env::consts::ARCH.to_owned()
}

fn read(root: &Path) -> Result<Expected> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    expected(&text).with_context(|| FILE.to_owned())
}

fn expected(text: &str) -> Result<Expected> {
    let table: toml::Table = text.parse()?;
    let compiler = table.get("compiler").and_then(toml::Value::as_str).context("no `compiler`")?.to_owned();
    let counts = table.get("counts").and_then(toml::Value::as_table).context("no `[counts]`")?;
    let count = |(name, value): (&String, &toml::Value)| {
        let count = value.as_integer().and_then(|count| u64::try_from(count).ok());
        Ok((name.clone(), count.with_context(|| format!("`{name}` is no count"))?))
    };
    Ok(Expected { compiler, counts: counts.iter().map(count).collect::<Result<_>>()? })
}

fn count_all(program: &Path) -> Result<BTreeMap<String, u64>> {
    let names = command::output(&mut Command::new(program))?;
    let count = |name: &str| Ok((name.to_owned(), count(program, name)?));
    names.lines().map(count).collect()
}

/// Instructions per message of one scenario.
fn count(program: &Path, name: &str) -> Result<u64> {
    let run = |messages: u64| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
            "--log-fd=1",
        ]);
        let log = command::output(valgrind.arg(program).args([name, &messages.to_string()]))?;
        instructions(&log).ok_or_else(|| anyhow!("{name}: valgrind says nothing of instructions"))
    };
    Ok((run(MANY)?.saturating_sub(run(FEW)?)) / (MANY - FEW))
}

/// The count in the log: `==123== I refs:        1,234,567`.
fn instructions(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains("refs:"))?;
    let (_, number) = line.split_once("refs:")?;
    number.trim().replace(',', "").parse().ok()
}

/// What is too much, and what is less than it was.
fn judge(expected: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) -> (Vec<String>, Vec<String>) {
    let (mut faults, mut hints) = (Vec::new(), Vec::new());
    for (name, &count) in counts {
        let Some(&wanted) = expected.get(name) else {
            faults.push(format!("{name}: no count in {FILE}"));
            continue;
        };
        let change = (count as f64 / wanted as f64 - 1.0) * 100.0;
        let text = format!("{name}: {count} instructions per message, expected {wanted} ({change:+.1} %)");
        if change > TOLERANCE {
            faults.push(text);
        } else if change < -TOLERANCE {
            hints.push(format!("{text}: less than it was"));
        }
    }
    let gone = expected.keys().filter(|name| !counts.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name}: is in {FILE}, and there is no such scenario")));
    (faults, hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read() {
        let log = "==1== Cachegrind\n==1== \n==1== I refs:        1,234,567\n";
        assert_eq!(instructions(log), Some(1_234_567));
        assert_eq!(instructions("==1== Command: x"), None);
    }

    #[test]
    fn what_is_expected_is_read() {
        let found = expected("compiler = 'rustc 1'\n[counts]\n'decode-5.0' = 7").unwrap();
        let counts = BTreeMap::from([("decode-5.0".to_owned(), 7)]);
        assert_eq!(found, Expected { compiler: "rustc 1".to_owned(), counts });
        assert!(expected("compiler = 'x'\n[counts]\na = -1").is_err() && expected("[counts]").is_err());
    }

    #[test]
    fn more_than_the_tolerance_is_a_fault_and_less_a_hint() {
        let counts =
            |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        let expected = counts(&[("same", 1000), ("more", 1000), ("less", 1000), ("gone", 1)]);
        let counted = counts(&[("same", 1049), ("more", 1051), ("less", 949), ("new", 1)]);
        let (faults, hints) = judge(&expected, &counted);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(
            faults[0].starts_with("more: 1051")
                && faults[1].starts_with("new")
                && faults[2].starts_with("gone")
        );
        assert!(hints.len() == 1 && hints[0].starts_with("less: 949"), "{hints:?}");
    }
}
