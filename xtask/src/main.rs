//! Development commands: `cargo xtask help` lists them.
//!
//! Everything a change must pass is [`test`]; the project's own rules about its sources are [`tidy`].
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to a terminal")]

mod attack;
mod bench;
mod command;
mod conformance;
mod fuzz;
mod generate;
mod instructions;
mod interop;
mod report;
mod repository;
mod rust_source;
mod scale;
mod tally;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::report::Report;
use crate::repository::Repository;

const HELP: &str = "\
Usage: cargo xtask <command>

  test [--only lint|rust|instructions|interop]
                                    everything a change must pass; installs what it needs
  interop                           the lapwing binary against real clients of other projects
  tidy                              the project's own rules about its sources
  attack [NAME]                     only the tests that attack, or those of one class of docs/reference/attacks.md
  generate                          write docs/reference
  conformance [--check]             write (or check) docs/reference/conformance.md and attacks.md
  instructions [--accept]           instructions per message against bench/instructions.toml; write that file
  fuzz [TARGET] [--seconds N]       fuzz one target, or each in turn, N seconds each (60)
  bench [OPTION…]                   Lapwing against other brokers; writes bench/results (see bench/README.md)
    --set A,B                       core, latency, idle, connect, wild, retained, offline, blast (all)
    --peer A,B                      lapwing, lapwing-1-shard, lapwing-2-shards, mosquitto, rumqttd, nats, bare, relay (all)
    --rounds N, --seconds S         rounds (5), and how long publishers publish (1)
    --filter TEXT                   only cells with TEXT in their name
    --name NAME, --report NAME      the name of the results; only write the page of these results anew
  torture [OPTION…]                 which brokers keep their word when they are killed; writes bench/torture
    --peer A,B                      lapwing, mosquitto, mosquitto-careful, rumqttd (all)
    --rounds N, --seconds S         kills (200), and the longest time of load before each (3)
    --publishers N, --rate N        publishers (50), and messages a second of each (20; 0: as fast as they can)
    --mqtt-version V, --seed N      3.1.1 or 5 (3.1.1), and what the schedule is derived from (1)
    --name NAME                     the name of the results
  scale [OPTION…]                   durable sessions and queues in great numbers; writes bench/scale
    --sessions N                    sessions that are away (1,000,000)
    --queues N, --queued M          sessions that M messages wait for each (1,000 and 10,000)
    --name NAME                     the name of the results
  help                              this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        ["test", options @ ..] => {
            let scope = test::Scope::parse(options)?;
            with_report(|repository, report| test::run(repository, report, scope))
        }
        ["interop"] => with_report(|repository, report| test::run(repository, report, test::Scope::Interop)),
        ["instructions"] => with_report(instructions::run),
        ["instructions", "--accept"] => instructions::accept(&Repository::load()?),
        ["tidy"] => with_report(tidy::run),
        ["attack", options @ ..] => {
            let tests = attack::tests(&Repository::load()?, options)?;
            with_report(|repository, report| attack::run(repository, report, &tests))
        }
        ["generate"] => {
            generate::run(&repository::root()?)?;
            conformance::run(&Repository::load()?, &[])
        }
        ["conformance", options @ ..] => conformance::run(&Repository::load()?, options),
        ["bench", options @ ..] => bench::run(&bench::Options::parse(options)?),
        ["torture", options @ ..] => torture::run(&torture::Options::parse(options)?),
        ["scale", options @ ..] => scale::run(&scale::Options::parse(options)?),
        ["fuzz", options @ ..] => fuzz::run(&repository::root()?, &fuzz::Options::parse(options)?),
        _ => bail!("unknown command `{}`; see `cargo xtask help`", arguments.join(" ")),
    }
}

/// Runs steps that report as tests do: every failure, then one closing line.
fn with_report(steps: impl FnOnce(&Repository, &mut Report)) -> Result<ExitCode> {
    let repository = Repository::load()?;
    let mut report = Report::default();
    steps(&repository, &mut report);
    Ok(report.finish())
}
