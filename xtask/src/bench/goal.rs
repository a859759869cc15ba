//! What Lapwing is to reach, as limits on ratios of medians in the same rounds.

use std::fmt;

use super::peer::Kind;

/// One limit that is to hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Goal {
    pub(super) title: &'static str,
    /// Where it is measured; without one, in every cell.
    pub(super) cell: Option<&'static str>,
    /// The number that is looked at, by the load generator's name.
    pub(super) field: &'static str,
    pub(super) bound: Bound,
    pub(super) of: Variant,
}

/// What the number is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    /// The number itself is at most this.
    AtMost(f64),
    /// It is at most so many times the other's.
    AtMostTimes(f64, Other),
    /// The other's is at least so many times it.
    TimesBelow(f64, Other),
    /// It is at least so many times the other's.
    TimesAbove(f64, Other),
}

/// Who else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Other {
    Peer(Kind),
    /// Each of them that was measured.
    Each(&'static [Kind]),
    /// Lapwing itself, in another cell.
    OwnCell(&'static str),
}

impl Bound {
    /// Who the number is compared with.
    pub(super) fn other(self) -> Option<Other> {
        match self {
            Self::AtMost(_) => None,
            Self::AtMostTimes(_, other) | Self::TimesBelow(_, other) | Self::TimesAbove(_, other) => {
                Some(other)
            }
        }
    }
}

impl fmt::Display for Other {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => write!(formatter, "{peer}"),
            Self::Each(peers) => {
                let names: Vec<&str> = peers.iter().map(|peer| peer.id()).collect();
                formatter.write_str(&names.join(", "))
            }
            Self::OwnCell(cell) => formatter.write_str(cell),
        }
    }
}

/// Which Lapwing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// Each that was measured.
    Any,
    Default,
    OneShard,
    TwoShards,
}

const CPU: &str = "broker_cpu_us_per_msg";
const RATE: &str = "msgs_per_s";
const MEDIAN: &str = "p50_us";
const BROKERS: &[Kind] = &[Kind::Mosquitto, Kind::Rumqttd, Kind::Nats];

const CPU_PER_MESSAGE: &str = "CPU per message";
const CPU_OF_SHARDS: &str = "CPU per message, two shards";
const MESSAGES: &str = "messages per second";
const ONE_AT_A_TIME: &str = "one message at a time, p50";
const OPEN_LOOP: &str = "open loop, p50";

/// For each cell: at most so many times the toy, and at least so many times below Mosquitto.
const THROUGHPUT: &[(&str, Option<f64>, Option<f64>)] = &[
    ("fan-in q0", Some(4.0), Some(40.0)),
    ("fan-out50 q0", Some(4.0), Some(50.0)),
    ("pairs50 q0", Some(5.0), Some(38.0)),
    ("fan-in q1", Some(3.5), Some(45.0)),
    ("fan-out50 q1", Some(3.0), Some(40.0)),
    ("pairs50 q1", Some(3.5), Some(40.0)),
    ("fan-in q2", None, Some(37.0)),
    ("fan-out50 q2", None, Some(37.0)),
    ("pairs50 q2", None, Some(40.0)),
    ("pairs50 q0 1 KiB", Some(2.0), None),
    ("fan-out500 q0", Some(1.7), None),
];

/// All of them.
pub(super) fn all() -> Vec<Goal> {
    let mut goals = Vec::new();
    let toy = THROUGHPUT.iter().filter_map(|&(cell, times, _)| Some((cell, times?)));
    goals.extend(toy.map(|(cell, times)| {
        any(CPU_PER_MESSAGE, cell, CPU, Bound::AtMostTimes(times, Other::Peer(Kind::Bare)))
    }));
    let mosquitto = THROUGHPUT.iter().filter_map(|&(cell, _, times)| Some((cell, times?)));
    goals.extend(mosquitto.map(|(cell, times)| {
        any(CPU_PER_MESSAGE, cell, CPU, Bound::TimesBelow(times, Other::Peer(Kind::Mosquitto)))
    }));
    for &(cell, _, _) in THROUGHPUT {
        goals.push(any(MESSAGES, cell, RATE, Bound::TimesAbove(1.0, Other::Each(BROKERS))));
    }
    for &(cell, _, _) in THROUGHPUT {
        let bound = Bound::AtMostTimes(1.4, Other::Peer(Kind::LapwingOneShard));
        goals.push(any(CPU_OF_SHARDS, cell, CPU, bound).of(Variant::TwoShards));
    }
    goals.extend(latency());
    goals.extend(store());
    goals
}

fn latency() -> [Goal; 4] {
    let relay = |times| Bound::AtMostTimes(times, Other::Peer(Kind::Relay));
    [
        any(ONE_AT_A_TIME, "pingpong q0", MEDIAN, relay(1.05)).of(Variant::OneShard),
        any(ONE_AT_A_TIME, "pingpong q0", MEDIAN, relay(1.2)).of(Variant::Default),
        any(OPEN_LOOP, "open loop 20k q0", MEDIAN, relay(1.1)),
        any(OPEN_LOOP, "open loop 50k q0", MEDIAN, relay(1.6)),
    ]
}

/// Connections, filters and messages that are kept.
fn store() -> Vec<Goal> {
    let mosquitto = Other::Peer(Kind::Mosquitto);
    vec![
        any("bytes per connection", "idle 8k", "bytes_per_conn", Bound::AtMost(700.0)),
        any("bytes per connection", "idle 8k, 1 filter", "bytes_per_conn", Bound::AtMost(1500.0)),
        // A thousandth of a core is what the clock ticks and the topics of the broker itself may take.
        any("idle CPU, ms per s", "idle 8k", "idle_cpu_ms_per_s", Bound::AtMost(1.0)),
        any("idle CPU, ms per s", "idle 8k, 1 filter", "idle_cpu_ms_per_s", Bound::AtMost(1.0)),
        any("connects per second", "connect 8k", "conns_per_s", Bound::TimesAbove(2.4, mosquitto)),
        any(CPU_PER_MESSAGE, "wild 100k", CPU, Bound::TimesBelow(15.0, mosquitto)),
        any("CPU per message, µs", "wild 100k", CPU, Bound::AtMost(1.5)),
        any("bytes per filter", "wild 100k", "bytes_per_sub", Bound::AtMost(400.0)),
        any(CPU_PER_MESSAGE, "wild 1M", CPU, Bound::AtMostTimes(1.5, Other::OwnCell("wild 100k"))),
        any(
            "retained to a newcomer, per second",
            "retained 100k",
            "receive_per_s",
            Bound::TimesAbove(10.0, mosquitto),
        ),
        any(
            "round trip of a bystander, worst, µs",
            "retained 100k, bystander",
            "bystander_max_us",
            Bound::AtMost(20_000.0),
        ),
        any("drained per second", "offline 10 x 10k", "drain_per_s", Bound::TimesAbove(10.0, mosquitto)),
        // Twice the limit of an outbox, what is in sockets' buffers, and the program itself: a limit of ours.
        any("resident KiB after the flood", "blast fan-in q0", "broker_rss_kb", Bound::AtMost(65_536.0)),
        // Served means that nobody would take it for broken: a limit of ours, too.
        any(
            "round trip of a bystander, worst, µs",
            "blast fan-in q0",
            "bystander_max_us",
            Bound::AtMost(250_000.0),
        ),
        Goal {
            title: "resident KiB after start",
            cell: None,
            field: "start_rss_kib",
            bound: Bound::AtMost(12_288.0),
            of: Variant::Any,
        },
    ]
}

fn any(title: &'static str, cell: &'static str, field: &'static str, bound: Bound) -> Goal {
    Goal { title, cell: Some(cell), field, bound, of: Variant::Any }
}

impl Goal {
    fn of(self, of: Variant) -> Self {
        Self { of, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Cell, Set};
    use super::*;

    #[test]
    fn goals_name_cells_where_the_other_is_measured() {
        let cells: Vec<Cell> = Set::ALL.iter().flat_map(|set| set.cells(1.0)).collect();
        let find = |name: &str| cells.iter().find(|cell| cell.name == name).unwrap();
        for goal in all() {
            let Some(cell) = goal.cell.map(find) else { continue };
            let Some(other) = goal.bound.other() else { continue };
            match other {
                Other::Peer(peer) => assert_eq!(peer.absence(cell), None, "{goal:?}"),
                Other::Each(peers) => assert!(peers.iter().any(|peer| peer.absence(cell).is_none())),
                Other::OwnCell(name) => assert_eq!(find(name).arguments[0], cell.arguments[0]),
            }
        }
    }
}
