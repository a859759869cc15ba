//! The raw runs with what belongs to them, as they are kept in a file.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::load::Values;
use super::machine::Machine;
use super::peer::Kind;
use super::scenario::Set;

/// One scenario against one peer, once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) set: Set,
    pub(super) cell: String,
    pub(super) peer: Kind,
    pub(super) round: u64,
    /// Why there are no values.
    pub(super) failure: Option<String>,
    /// Whether the peer had ended by itself when the load was over.
    pub(super) died: bool,
    pub(super) values: Values,
}

impl Run {
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some() || self.died
    }

    /// The number that the run has for `field`. A run that failed has none.
    pub(super) fn number(&self, field: &str) -> Option<f64> {
        if self.has_failed() { None } else { self.values.get(field)?.as_f64() }
    }
}

/// A peer as it took part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Participant {
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) binary_bytes: Option<u64>,
}

/// Everything that one call measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Results {
    pub(super) name: String,
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(super) rounds: u64,
    pub(super) seconds: f64,
    pub(super) participants: Vec<Participant>,
    pub(super) runs: Vec<Run>,
}

impl Results {
    pub(super) fn participant(&self, kind: Kind) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.kind == kind)
    }

    /// The cells that have runs, in the order in which they ran.
    pub(super) fn cells(&self) -> Vec<(Set, &str)> {
        let mut cells: Vec<(Set, &str)> = Vec::new();
        for run in &self.runs {
            if !cells.iter().any(|(_, name)| *name == run.cell) {
                cells.push((run.set, &run.cell));
            }
        }
        cells
    }

    pub(super) fn runs<'a>(&'a self, peer: Kind, cell: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.peer == peer && run.cell == cell)
    }

    /// The median of `field` over all rounds in which there is one.
    pub(super) fn median(&self, peer: Kind, cell: &str, field: &str) -> Option<f64> {
        median(self.runs(peer, cell).filter_map(|run| run.number(field)).collect())
    }

    /// The median of `field` over all cells of a peer.
    pub(super) fn median_of_all(&self, peer: Kind, field: &str) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.peer == peer);
        median(runs.filter_map(|run| run.number(field)).collect())
    }

    /// The medians of `field` at two places, over the rounds that have it at both. A comparison of other rounds would
    /// compare the hours of the day.
    pub(super) fn medians_of_same_rounds(
        &self,
        (peer, cell): (Kind, &str),
        (other_peer, other_cell): (Kind, &str),
        field: &str,
    ) -> Option<(f64, f64)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in self.runs(peer, cell) {
            let other = self.runs(other_peer, other_cell).find(|other| other.round == run.round);
            if let (Some(a), Some(b)) = (run.number(field), other.and_then(|other| other.number(field))) {
                ours.push(a);
                theirs.push(b);
            }
        }
        Some((median(ours)?, median(theirs)?))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "date": self.date,
            "machine": self.machine.to_json(),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "peers": self.participants.iter().map(participant_to_json).collect::<Vec<_>>(),
            "medians": self.all_medians(),
            "runs": self.runs.iter().map(run_to_json).collect::<Vec<_>>(),
        })
    }

    /// Reads what [`Results::to_json`] wrote. The medians are not read: they follow from the runs.
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        let text = |name: &str| value[name].as_str().with_context(|| format!("no `{name}`"));
        let list = |name: &str| value[name].as_array().with_context(|| format!("no `{name}`"));
        Ok(Self {
            name: text("name")?.to_owned(),
            date: text("date")?.to_owned(),
            machine: Machine::from_json(&value["machine"]).context("no `machine`")?,
            rounds: value["rounds"].as_u64().context("no `rounds`")?,
            seconds: value["seconds"].as_f64().context("no `seconds`")?,
            participants: list("peers")?
                .iter()
                .map(|peer| participant_from_json(peer).with_context(|| format!("not a peer: {peer}")))
                .collect::<Result<_>>()?,
            runs: list("runs")?
                .iter()
                .map(|run| run_from_json(run).with_context(|| format!("not a run: {run}")))
                .collect::<Result<_>>()?,
        })
    }

    /// Every number's median, by cell, peer and field.
    fn all_medians(&self) -> Value {
        let mut cells = Map::new();
        for (_, cell) in self.cells() {
            let mut peers = Map::new();
            for participant in &self.participants {
                let medians = self.medians_of_fields(participant.kind, cell);
                if !medians.is_empty() {
                    peers.insert(participant.kind.id().to_owned(), medians.into());
                }
            }
            cells.insert(cell.to_owned(), peers.into());
        }
        cells.into()
    }

    fn medians_of_fields(&self, peer: Kind, cell: &str) -> Map<String, Value> {
        let Some(run) = self.runs(peer, cell).find(|run| !run.has_failed()) else { return Map::new() };
        let numbers = run.values.iter().filter(|(_, value)| value.is_number());
        numbers
            .filter_map(|(field, _)| Some((field.clone(), self.median(peer, cell, field)?.into())))
            .collect()
    }
}

fn participant_to_json(participant: &Participant) -> Value {
    json!({
        "peer": participant.kind.id(),
        "version": participant.version,
        "settings": participant.kind.settings(),
        "binary_bytes": participant.binary_bytes,
    })
}

fn participant_from_json(value: &Value) -> Option<Participant> {
    Some(Participant {
        kind: kind(value)?,
        version: value["version"].as_str()?.to_owned(),
        binary_bytes: value["binary_bytes"].as_u64(),
    })
}

fn run_to_json(run: &Run) -> Value {
    json!({
        "set": run.set.to_string(),
        "cell": run.cell,
        "peer": run.peer.id(),
        "round": run.round,
        "failure": run.failure,
        "died": run.died,
        "values": run.values,
    })
}

fn run_from_json(value: &Value) -> Option<Run> {
    let set = value["set"].as_str()?;
    Some(Run {
        set: Set::ALL.into_iter().find(|known| known.to_string() == set)?,
        cell: value["cell"].as_str()?.to_owned(),
        peer: kind(value)?,
        round: value["round"].as_u64()?,
        failure: value["failure"].as_str().map(str::to_owned),
        died: value["died"].as_bool()?,
        values: value["values"].as_object()?.clone(),
    })
}

fn kind(value: &Value) -> Option<Kind> {
    let id = value["peer"].as_str()?;
    Kind::ALL.into_iter().find(|kind| kind.id() == id)
}

/// The middle one, or the mean of the two in the middle.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = *numbers.get(middle)?;
    Some(if numbers.len() % 2 == 1 { upper } else { f64::midpoint(numbers[middle - 1], upper) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run of the set `core` with one value.
    pub(in crate::bench) fn run(cell: &str, peer: Kind, round: u64, field: &str, value: f64) -> Run {
        let values = Map::from_iter([(field.to_owned(), value.into())]);
        Run { set: Set::Core, cell: cell.to_owned(), peer, round, failure: None, died: false, values }
    }

    /// Results with these runs, and a participant for every peer that has one.
    pub(in crate::bench) fn results(runs: Vec<Run>) -> Results {
        let took_part = |kind: &Kind| runs.iter().any(|run| run.peer == *kind);
        let participant =
            |kind| Participant { kind, version: format!("{kind} 1.0"), binary_bytes: Some(3 << 20) };
        Results {
            name: "try".to_owned(),
            date: "2026-01-31".to_owned(),
            machine: Machine {
                processor: "An X".to_owned(),
                cores: 2,
                memory_kib: 4 << 20,
                kernel: "Linux 6.1".to_owned(),
            },
            rounds: 3,
            seconds: 1.0,
            participants: Kind::ALL.into_iter().filter(took_part).map(participant).collect(),
            runs,
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![5.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn only_rounds_of_both_are_compared() {
        let (us, them) = (Kind::Lapwing, Kind::Mosquitto);
        let mut runs: Vec<Run> =
            [(1, 1.0), (2, 2.0), (3, 90.0)].map(|(round, value)| run("a", us, round, "x", value)).into();
        runs.extend([(1, 10.0), (2, 30.0), (3, 1000.0)].map(|(round, x)| run("a", them, round, "x", x)));
        runs[5].failure = Some("not done".to_owned());
        let results = results(runs);
        assert_eq!(results.medians_of_same_rounds((us, "a"), (them, "a"), "x"), Some((1.5, 20.0)));
        assert_eq!(results.median(us, "a", "x"), Some(2.0));
        assert_eq!(results.medians_of_same_rounds((us, "a"), (Kind::Bare, "a"), "x"), None);
        assert_eq!(results.median(us, "a", "y"), None);
    }

    #[test]
    fn a_peer_that_died_has_no_numbers() {
        let mut run = run("a", Kind::Nats, 1, "x", 1.0);
        assert_eq!(run.number("x"), Some(1.0));
        run.died = true;
        assert_eq!(run.number("x"), None);
    }

    #[test]
    fn results_survive_their_json() {
        let mut runs = vec![run("a", Kind::Lapwing, 1, "x", 1.0), run("b", Kind::Relay, 1, "x", 2.5)];
        runs[1].failure = Some("not done after 60 s".to_owned());
        let results = results(runs);
        let json = results.to_json();
        assert_eq!(json["medians"], json!({"a": {"lapwing": {"x": 1.0}}, "b": {}}));
        assert_eq!(Results::from_json(&json).unwrap(), results);
        assert!(Results::from_json(&json!({})).is_err());
    }
}
