//! `lapwing torture` against Lapwing and other brokers, all with the same schedule. `docs/guides/torture.md` says how to
//! read it.

mod option;
mod page;
mod participant;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub(crate) use self::option::Options;
use self::participant::{Kind, Participant};
use crate::bench::machine::{self, Machine};
use crate::bench::peer;
use crate::repository::{self, Repository};

/// Where results are kept, from the root.
const FOLDER: &str = "bench/torture";

/// Runs and writes. Who has broken its word is in the results; it is no failure of this command.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = repository::root()?.join(FOLDER);
    let repository = Repository::load()?;
    let lapwing = peer::lapwing(&repository)?;
    let scratch = repository.target.join("torture");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let date = machine::today()?;
    let name = options.name.clone().unwrap_or_else(|| date.clone());
    let machine = Machine::this()?.to_json();
    let mut runs = Vec::new();
    for &kind in &options.peers {
        let participant = Participant::prepare(kind, &repository, &lapwing);
        let participant =
            participant.with_context(|| format!("cannot prepare {kind}; `--peer` can leave it out"))?;
        println!("{kind}: {}", participant.version);
        runs.push(judge(&participant, options, &lapwing, &scratch)?);
        // A long run that is broken off is still worth something.
        let results = json!({
            "date": date,
            "machine": machine,
            "options": {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "publishers": options.publishers,
                "rate": options.rate,
                "mqtt_version": options.mqtt_version,
                "seed": options.seed,
            },
            "runs": runs,
        });
        write(&folder, &name, &results)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One broker: what `lapwing torture` says, or why it says nothing.
fn judge(participant: &Participant, options: &Options, lapwing: &Path, scratch: &Path) -> Result<Value> {
    let kind = participant.kind;
    let mut run = json!({ "peer": kind.id(), "version": participant.version, "settings": kind.settings() });
    if kind == Kind::Rumqttd && options.mqtt_version == "5" {
        run["failure"] = "it is set up for MQTT 3.1.1".into();
        return Ok(run);
    }
    let number = |option: &str, value: f64| [option.to_owned(), value.to_string()];
    let mut command = Command::new(lapwing);
    command.args(["torture", "--json", "--mqtt-version", &options.mqtt_version]);
    command.args(number("--rounds", options.rounds as f64)).args(number("--seconds", options.seconds));
    command
        .args(number("--publishers", options.publishers as f64))
        .args(number("--rate", options.rate as f64));
    command.args(["--seed", &options.seed.to_string()]).args(participant.arguments(scratch)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start `lapwing torture`")?;
    // Its progress is for who watches; the last line says why it does not go on.
    let mut last = String::new();
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
        last = line.context("`lapwing torture` does not print UTF-8")?;
        println!("{kind}: {last}");
    }
    let output = child.wait_with_output()?;
    match output.status.code() {
        Some(0 | 1) => {
            let verdict = serde_json::from_slice(&output.stdout);
            run["verdict"] = verdict.context("`lapwing torture` did not print JSON")?;
        }
        Some(2) => run["failure"] = last.trim_start_matches("lapwing: ").into(),
        _ => bail!("`lapwing torture` ended with {}", output.status),
    }
    Ok(run)
}

fn write(folder: &Path, name: &str, results: &Value) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {FOLDER}"))?;
    let write = |path: PathBuf, text: String| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(results)? + "\n")?;
    write(folder.join(format!("{name}.md")), page::page(results))?;
    println!("{FOLDER}/{name}.md is written");
    Ok(())
}
