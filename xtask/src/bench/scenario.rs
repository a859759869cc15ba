//! What is measured: cells, each a scenario of the load generator with its arguments.

use std::fmt;
use std::time::Duration;

/// Cells that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// As many messages as go through, in the three usual patterns.
    Core,
    /// One message at a time, and messages at a fixed rate.
    Latency,
    /// Connections that do nothing.
    Idle,
    /// How fast clients come in.
    Connect,
    /// Very many subscriptions, some with wildcards.
    Wild,
    /// Retained messages for a newcomer.
    Retained,
    /// Messages for clients that are away.
    Offline,
    /// More at QoS 0 than the subscriber takes.
    Blast,
}

impl Set {
    pub(super) const ALL: [Self; 8] = [
        Self::Core,
        Self::Latency,
        Self::Idle,
        Self::Connect,
        Self::Wild,
        Self::Retained,
        Self::Offline,
        Self::Blast,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Core => "Throughput",
            Self::Latency => "Latency",
            Self::Idle => "Idle connections",
            Self::Connect => "Connects",
            Self::Wild => "Many filters",
            Self::Retained => "Retained messages",
            Self::Offline => "Offline queues",
            Self::Blast => "QoS 0 without a window",
        }
    }

    /// The cells of the set. Where there is a choice, publishers publish for `seconds`.
    pub(super) fn cells(self, seconds: f64) -> Vec<Cell> {
        let cell = |name: &str, arguments: &str| Cell::new(self, name, arguments);
        match self {
            Self::Core => core(seconds),
            Self::Latency => vec![
                cell("pingpong q0", &format!("pingpong --qos 0 --secs {seconds}")),
                cell("pingpong q1", &format!("pingpong --qos 1 --secs {seconds}")),
                cell("open loop 20k q0", "latency --qos 0 --rate 20000 --secs 2 --warm 0.5 --quiet 2"),
                cell("open loop 50k q0", "latency --qos 0 --rate 50000 --secs 2 --warm 0.5 --quiet 2"),
            ],
            Self::Idle => vec![
                cell("idle 8k", "idle --conns 8000 --hold 2"),
                cell("idle 8k, 1 filter", "idle --conns 8000 --subs 1 --hold 2"),
            ],
            Self::Connect => vec![cell("connect 8k", "idle --conns 8000 --hold 0.2")],
            Self::Wild => {
                let rest = "--count 150000 --singles 2000";
                vec![
                    cell("wild 100k", &format!("wildsubs --filters 100000 {rest} --timeout 10")),
                    cell("wild 1M", &format!("wildsubs --filters 1000000 {rest} --timeout 30")).limit(150),
                ]
            }
            Self::Retained => vec![
                cell("retained 100k", "retained --count 100000 --timeout 10"),
                // Often enough for the bystander to live through many replays.
                cell("retained 100k, bystander", "retained --count 100000 --rounds 20 --timeout 10")
                    .limit(90)
                    .bystander(6.0),
            ],
            Self::Offline => vec![cell("offline 10 x 10k", "offline --subs 10 --count 10000 --timeout 10")],
            Self::Blast => vec![
                cell("blast fan-in q0", "fan-in --qos 0 --pubs 50 --count 2000000 --quiet 3 --timeout 20")
                    .bystander(2.0),
                cell("blast fan-out50 q0", "fan-out --qos 0 --subs 50 --count 10000 --quiet 3 --timeout 20")
                    .bystander(2.0),
            ],
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Core => "core",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Wild => "wild",
            Self::Retained => "retained",
            Self::Offline => "offline",
            Self::Blast => "blast",
        })
    }
}

/// One scenario with its arguments: a cell of the tables.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) set: Set,
    pub(super) name: String,
    /// The scenario of the load generator, and its arguments but for those that name the server.
    pub(super) arguments: Vec<String>,
    /// For how many seconds another client sends messages to itself, one at a time, beside the load.
    pub(super) bystander_s: Option<f64>,
    /// When a run is given up.
    pub(super) limit: Duration,
}

impl Cell {
    fn new(set: Set, name: &str, arguments: &str) -> Self {
        Self {
            set,
            name: name.to_owned(),
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            bystander_s: None,
            limit: Duration::from_secs(60),
        }
    }

    fn limit(self, seconds: u64) -> Self {
        Self { limit: Duration::from_secs(seconds), ..self }
    }

    fn bystander(self, seconds: f64) -> Self {
        Self { bystander_s: Some(seconds), ..self }
    }

    /// The quality of service of its messages, where the arguments name one.
    pub(super) fn qos(&self) -> Option<&str> {
        let at = self.arguments.iter().position(|argument| argument == "--qos")?;
        self.arguments.get(at + 1).map(String::as_str)
    }
}

/// Closed loops: at most as many deliveries are outstanding as the window says, so that nobody can look fast by
/// dropping messages.
fn core(seconds: f64) -> Vec<Cell> {
    let fan_in = "fan-in --pubs 50 --window 5000";
    let fan_out = "fan-out --subs 50 --window 20000";
    let pairs = "pairs --pubs 50 --window 5000";
    let cell = |name: &str, shape: &str, qos: u8, payload: u32| {
        let arguments = format!("{shape} --qos {qos} --payload {payload} --secs {seconds}");
        Cell::new(Set::Core, name, &arguments)
    };
    let mut cells = Vec::new();
    for qos in 0..=2 {
        for (name, shape) in [("fan-in", fan_in), ("fan-out50", fan_out), ("pairs50", pairs)] {
            cells.push(cell(&format!("{name} q{qos}"), shape, qos, 64));
        }
    }
    cells.push(cell("pairs50 q0 1 KiB", pairs, 0, 1024));
    cells.push(cell("fan-out500 q0", "fan-out --subs 500 --window 50000", 0, 64));
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cells_have_names_of_their_own() {
        let cells: Vec<Cell> = Set::ALL.iter().flat_map(|set| set.cells(1.0)).collect();
        let names: BTreeSet<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names.len(), cells.len());
    }

    #[test]
    fn a_cell_knows_its_quality_of_service() {
        let cells = Set::Core.cells(0.5);
        assert_eq!(cells.len(), 11);
        assert_eq!(cells[4].name, "fan-out50 q1");
        assert_eq!(cells[4].qos(), Some("1"));
        assert_eq!(
            cells[4].arguments.join(" "),
            "fan-out --subs 50 --window 20000 --qos 1 --payload 64 --secs 0.5"
        );
        assert_eq!(Set::Idle.cells(1.0)[0].qos(), None);
    }
}
