//! What came of a run, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::breach::{Breach, Breaches};

pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) mqtt_version: &'static str,
    /// Whether the broker was killed; otherwise connections were cut.
    pub(super) is_killed: bool,
    pub(super) rounds: u64,
    pub(super) publishers: usize,
    pub(super) window: usize,
    pub(super) published: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) loaded: Duration,
    pub(super) restarts: Vec<Duration>,
    pub(super) probes: u64,
    pub(super) retained_checks: u64,
    pub(super) breaches: Breaches,
}

impl Report {
    pub(super) fn has_kept_word(&self) -> bool {
        self.breaches.is_empty()
    }

    fn acknowledged_per_s(&self) -> f64 {
        let seconds = self.loaded.as_secs_f64();
        if seconds > 0.0 { (self.acknowledged as f64 / seconds).round() } else { 0.0 }
    }

    /// The median and the longest, in milliseconds.
    fn restart_ms(&self) -> Option<(u64, u64)> {
        let mut sorted = self.restarts.clone();
        sorted.sort_unstable();
        let ms = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Some((ms(sorted.get(sorted.len() / 2)?), ms(sorted.last()?)))
    }

    pub(super) fn to_json(&self) -> Value {
        let breaches: Map<String, Value> = Breach::ALL
            .iter()
            .map(|&breach| (breach.id().to_owned(), self.breaches.count(breach).into()))
            .collect();
        let examples: Map<String, Value> = Breach::ALL
            .iter()
            .filter(|&&breach| self.breaches.count(breach) > 0)
            .map(|&breach| (breach.id().to_owned(), self.breaches.examples(breach).into()))
            .collect();
        let restart = self.restart_ms();
        json!({
            "seed": self.seed,
            "mqtt_version": self.mqtt_version,
            "fault": if self.is_killed { "kill" } else { "cut" },
            "rounds": self.rounds,
            "publishers": self.publishers,
            "window": self.window,
            "published": self.published,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "acknowledged_per_s": self.acknowledged_per_s(),
            "probes": self.probes,
            "retained_checks": self.retained_checks,
            "restart_median_ms": restart.map(|(median, _)| median),
            "restart_max_ms": restart.map(|(_, longest)| longest),
            "kept_word": self.has_kept_word(),
            "breaches": breaches,
            "examples": examples,
        })
    }

    pub(super) fn to_table(&self) -> String {
        let fault = if self.is_killed { "kills" } else { "times all connections cut" };
        let mut rows = vec![
            ("published", self.published.to_string()),
            ("acknowledged", self.acknowledged.to_string()),
            ("acknowledged per second", self.acknowledged_per_s().to_string()),
        ];
        if self.refused > 0 {
            rows.push(("refused by the broker", self.refused.to_string()));
        }
        for breach in Breach::ALL {
            let count = self.breaches.count(breach);
            let of = match breach {
                Breach::ProbeSessionLost | Breach::ProbeSubscriptionLost => Some(self.probes),
                Breach::RetainedLost | Breach::RetainedOld | Breach::RetainedBack => {
                    Some(self.retained_checks)
                }
                _ => None,
            };
            rows.push((breach.title(), of.map_or(count.to_string(), |of| format!("{count} of {of}"))));
        }
        if let Some((median, longest)) = self.restart_ms() {
            rows.push(("restart to CONNACK, median / longest", format!("{median} / {longest} ms")));
        }
        let Self { seed, mqtt_version, rounds, publishers, window, .. } = self;
        let mut text = format!(
            "MQTT {mqtt_version}, {rounds} {fault}, {publishers} publishers with a window of {window}, seed {seed}\n\n"
        );
        let width = rows.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
        for (title, value) in rows {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{title:width$}  {value:>12}");
        }
        for breach in Breach::ALL {
            let examples = self.breaches.examples(breach);
            if !examples.is_empty() {
                let _ = writeln!(text, "\n{}, the first:", breach.title());
                for example in examples {
                    let _ = writeln!(text, "  {example}");
                }
            }
        }
        let verdict =
            if self.has_kept_word() { "The broker kept its word." } else { "The broker broke its word." };
        let _ = writeln!(text, "\n{verdict}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(breaches: Breaches) -> Report {
        Report {
            seed: 7,
            mqtt_version: "5",
            is_killed: true,
            rounds: 3,
            publishers: 2,
            window: 20,
            published: 110,
            acknowledged: 100,
            refused: 0,
            loaded: Duration::from_secs(4),
            restarts: [30, 10, 20].map(Duration::from_millis).to_vec(),
            probes: 3,
            retained_checks: 60,
            breaches,
        }
    }

    #[test]
    fn nothing_broken() {
        let report = report(Breaches::default());
        assert!(report.has_kept_word());
        let table = report.to_table();
        assert!(table.starts_with("MQTT 5, 3 kills, 2 publishers with a window of 20, seed 7\n"), "{table}");
        assert!(table.ends_with("The broker kept its word.\n"), "{table}");
        assert!(table.contains("20 / 30 ms") && !table.contains("the first"), "{table}");
        let json = report.to_json();
        assert_eq!((&json["kept_word"], &json["acknowledged_per_s"]), (&json!(true), &json!(25.0)));
        assert!(json["breaches"].as_object().unwrap().values().all(|count| count == 0));
    }

    #[test]
    fn something_broken_has_an_example() {
        let mut breaches = Breaches::default();
        breaches.add(Breach::RetainedBack, || "retained topic 4".to_owned());
        let report = report(breaches);
        let table = report.to_table();
        assert!(table.contains("1 of 60") && table.contains("\n  retained topic 4\n"), "{table}");
        assert!(table.ends_with("The broker broke its word.\n"), "{table}");
        let json = report.to_json();
        assert_eq!(json["breaches"]["retained_back"], 1);
        assert_eq!(json["examples"], json!({ "retained_back": ["retained topic 4"] }));
    }
}
