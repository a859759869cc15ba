//! Lapwing against other brokers and two yardsticks, in interleaved rounds. `bench/README.md` says how to read it.

mod goal;
mod load;
pub(crate) mod machine;
mod metric;
pub(crate) mod option;
pub(crate) mod peer;
mod result;
mod scenario;
pub(crate) mod server;
mod table;
mod verdict;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use self::load::{Load, Values};
use self::machine::Machine;
pub(crate) use self::option::Options;
use self::peer::{Kind, Peer};
use self::result::{Participant, Results, Run};
use self::scenario::{Cell, Set};
use self::server::{Scratch, Server};
use crate::repository::{self, Repository};

/// Where results are kept, from the root.
const FOLDER: &str = "bench/results";

/// Measures and writes, or only writes an earlier table anew.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = repository::root()?.join(FOLDER);
    if let Some(name) = &options.report {
        let path = folder.join(format!("{name}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let results = serde_json::from_str::<Value>(&text).map_err(anyhow::Error::from);
        let results = results.and_then(|json| Results::from_json(&json));
        write_page(&folder, &results.with_context(|| format!("{name}.json"))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cells = cells(options)?;
    let repository = Repository::load()?;
    let machine = Machine::this()?;
    let load = Load::build(&repository)?;
    let lapwing = peer::lapwing(&repository)?;
    let peers = kinds(options, &cells)?
        .into_iter()
        .map(|kind| {
            let peer = Peer::prepare(kind, &repository, &load, &lapwing);
            peer.with_context(|| format!("cannot prepare {kind}; `--peer` can leave it out"))
        })
        .collect::<Result<Vec<Peer>>>()?;
    let date = machine::today()?;
    let mut results = Results {
        name: options.name.clone().unwrap_or_else(|| default_name(&date, &options.sets)),
        date,
        machine,
        rounds: options.rounds,
        seconds: options.seconds,
        participants: peers.iter().map(participant).collect(),
        runs: Vec::new(),
    };
    for round in 1..=options.rounds {
        for cell in &cells {
            measure(round, cell, &peers, &load, &mut results);
        }
        // A long measurement that is broken off is still worth something.
        write(&folder, &results)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(options: &Options) -> Result<Vec<Cell>> {
    let mut cells: Vec<Cell> = options.sets.iter().flat_map(|set| set.cells(options.seconds)).collect();
    if let Some(filter) = &options.filter {
        cells.retain(|cell| cell.name.contains(filter.as_str()));
    }
    if cells.is_empty() {
        bail!("no cell of these sets has `{}` in its name", options.filter.as_deref().unwrap_or_default());
    }
    Ok(cells)
}

/// Who takes part in one of the cells.
fn kinds(options: &Options, cells: &[Cell]) -> Result<Vec<Kind>> {
    let mut kinds = options.peers.clone().unwrap_or_else(|| Kind::ALL.to_vec());
    kinds.retain(|kind| cells.iter().any(|cell| kind.absence(cell).is_none()));
    if kinds.is_empty() {
        bail!("none of these peers can do what these cells ask for");
    }
    Ok(kinds)
}

fn default_name(date: &str, sets: &[Set]) -> String {
    if sets.len() == Set::ALL.len() {
        return date.to_owned();
    }
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    format!("{date}-{}", sets.join("-"))
}

fn participant(peer: &Peer) -> Participant {
    Participant { kind: peer.kind, version: peer.version.clone(), binary_bytes: peer.binary_bytes }
}

/// One cell against all peers, whose order rotates from round to round.
fn measure(round: u64, cell: &Cell, peers: &[Peer], load: &Load, results: &mut Results) {
    let mut order: Vec<&Peer> = peers.iter().filter(|peer| peer.kind.absence(cell).is_none()).collect();
    let start = (round - 1) % order.len().max(1) as u64;
    order.rotate_left(usize::try_from(start).unwrap_or_default());
    for peer in order {
        let mut died = false;
        let result = once(cell, peer, load, &mut died);
        let (values, failure) = match result {
            Ok(values) => (values, None),
            Err(error) => (Map::new(), Some(format!("{error:#}"))),
        };
        let run =
            Run { set: cell.set, cell: cell.name.clone(), peer: peer.kind, round, failure, died, values };
        println!("{}", summary(&run));
        results.runs.push(run);
    }
}

/// Starts `peer`, runs `cell` against it, and stops it, so that no run sees what another has left.
fn once(cell: &Cell, peer: &Peer, load: &Load, died: &mut bool) -> Result<Values> {
    let folder = Scratch::new();
    let mut server = Server::start(peer, &folder)?;
    let (started, busy_before) = (Instant::now(), machine::busy_s());
    let result = load.run(cell, peer, server.as_ref());
    let (elapsed_s, busy_after) = (started.elapsed().as_secs_f64(), machine::busy_s());
    *died = server.as_mut().is_some_and(Server::has_died);
    let mut values = result?;
    values.insert("wall_s".to_owned(), rounded(elapsed_s).into());
    if let (Some(before), Some(after)) = (busy_before, busy_after) {
        values.insert("machine_busy_cores".to_owned(), rounded((after - before) / elapsed_s).into());
    }
    if let Some(kib) = server.and_then(|server| server.start_rss_kib) {
        values.insert("start_rss_kib".to_owned(), kib.into());
    }
    Ok(values)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A line about a run for who watches.
fn summary(run: &Run) -> String {
    const SHOWN: [&str; 13] = [
        "broker_cpu_us_per_msg",
        "msgs_per_s",
        "p50_us",
        "p99_us",
        "conns_per_s",
        "bytes_per_conn",
        "subs_per_s",
        "receive_per_s",
        "drain_per_s",
        "bystander_max_us",
        "lost",
        "machine_busy_cores",
        "wall_s",
    ];
    let shown = SHOWN.iter().filter_map(|name| Some(format!("{name} {}", run.values.get(*name)?)));
    let mut parts = vec![format!("{} {:22} {:16}", run.round, run.cell, run.peer.id())];
    parts.extend(shown);
    parts.extend(run.failure.clone());
    if run.died {
        parts.push("DIED".to_owned());
    }
    parts.join("  ")
}

fn write(folder: &Path, results: &Results) -> Result<()> {
    let text = serde_json::to_string_pretty(&results.to_json())? + "\n";
    let path = folder.join(format!("{}.json", results.name));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {FOLDER}"))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    write_page(folder, results)
}

fn write_page(folder: &Path, results: &Results) -> Result<()> {
    let path = folder.join(format!("{}.md", results.name));
    fs::write(&path, table::page(results)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{FOLDER}/{}.md is written", results.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_can_be_chosen_by_name() {
        let cells = |arguments: &[&str]| cells(&Options::parse(arguments).unwrap());
        let q1 = cells(&["--set", "core,latency", "--filter", "q1"]).unwrap();
        let names: Vec<&str> = q1.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names, ["fan-in q1", "fan-out50 q1", "pairs50 q1", "pingpong q1"]);
        assert!(cells(&["--set", "idle", "--filter", "q1"]).is_err());
    }

    #[test]
    fn who_can_do_nothing_takes_no_part() {
        let kinds = |arguments: &[&str]| {
            let options = Options::parse(arguments).unwrap();
            kinds(&options, &cells(&options).unwrap())
        };
        assert_eq!(kinds(&[]).unwrap(), Kind::ALL);
        let idle = kinds(&["--set", "idle", "--peer", "lapwing,bare,relay"]).unwrap();
        assert_eq!(idle, [Kind::Lapwing]);
        assert!(kinds(&["--set", "idle", "--peer", "bare"]).is_err());
    }

    #[test]
    fn names_of_results() {
        assert_eq!(default_name("2026-01-31", &Set::ALL), "2026-01-31");
        assert_eq!(default_name("2026-01-31", &[Set::Core, Set::Idle]), "2026-01-31-core-idle");
    }
}
