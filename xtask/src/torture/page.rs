//! The results as a page.

use std::fmt::Write;

use serde_json::Value;

/// The rows: the name of a figure in JSON, below `breaches` if it is one, and what a person reads.
const ROWS: [(&str, &str); 18] = [
    ("acknowledged", "acknowledged"),
    ("acknowledged_per_s", "acknowledged per second"),
    ("lost_online", "acknowledged but lost: online"),
    ("lost_offline", "acknowledged but lost: offline"),
    ("lost_flapping", "acknowledged but lost: flapping"),
    ("qos2_twice", "delivered twice at QoS 2"),
    ("reordered", "delivered out of order"),
    ("other_qos", "delivered at another QoS"),
    ("altered", "altered, or never published"),
    ("sessions_lost", "sessions lost"),
    ("probe_sessions_lost", "new sessions lost"),
    ("probe_subscriptions_lost", "new subscriptions lost"),
    ("retained_lost", "retained messages lost"),
    ("retained_old", "retained messages too old"),
    ("retained_back", "retained messages back after deletion"),
    ("died", "ended by itself"),
    ("restart_median_ms", "restart to CONNACK, median in ms"),
    ("restart_max_ms", "restart to CONNACK, longest in ms"),
];

/// The page of `results`, as they stand in the JSON file.
pub(super) fn page(results: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (options, machine) = (&results["options"], &results["machine"]);
    let mut page = format!("# Kept promises, {}\n\n", text(&results["date"]));
    // Writing into a string does not fail.
    let _ = writeln!(
        page,
        "Each broker killed {} times under load with SIGKILL, and started again on what it had stored. {} publishers, {} \
         messages a second each, QoS 1 and 2 mixed, MQTT {}, seed {}. [What each figure \
         means](../../docs/guides/torture.md).\n",
        options["rounds"],
        options["publishers"],
        options["rate"],
        text(&options["mqtt_version"]),
        options["seed"],
    );
    let _ = writeln!(
        page,
        "Measured on {} with {} cores, {}.\n",
        text(&machine["processor"]),
        machine["cores"],
        text(&machine["kernel"]),
    );
    let runs = results["runs"].as_array().map_or(&[][..], Vec::as_slice);
    let judged: Vec<&Value> = runs.iter().filter(|run| run["verdict"].is_object()).collect();
    let head: String = judged.iter().map(|run| format!(" {} |", text(&run["peer"]))).collect();
    let _ = writeln!(page, "| |{head}\n|---|{}", "---:|".repeat(judged.len()));
    for (name, title) in ROWS {
        let cells: String = judged.iter().map(|run| format!(" {} |", cell(&run["verdict"], name))).collect();
        let _ = writeln!(page, "| {title} |{cells}");
    }
    page.push('\n');
    for run in runs {
        let (peer, version, settings) = (text(&run["peer"]), text(&run["version"]), text(&run["settings"]));
        let _ = write!(page, "- **{peer}**: {version}; {settings}.");
        if let Some(failure) = run["failure"].as_str() {
            let _ = write!(page, " Not judged: {failure}.");
        }
        page.push('\n');
    }
    page
}

fn cell(verdict: &Value, name: &str) -> String {
    let value = verdict["breaches"].get(name).unwrap_or(&verdict[name]);
    let number = value.as_f64().map_or_else(|| "–".to_owned(), |number| format!("{number:.0}"));
    if verdict["breaches"].get(name).is_some_and(|count| count != 0) {
        format!("**{number}**")
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_for_each_that_was_judged() {
        let page = page(&json!({
            "date": "2026-01-31",
            "machine": { "processor": "An X", "cores": 2, "memory_kib": 1, "kernel": "Linux 6" },
            "options": { "rounds": 200, "publishers": 50, "rate": 20, "mqtt_version": "3.1.1", "seed": 1 },
            "runs": [
                { "peer": "one", "version": "one 1.0", "settings": "defaults", "verdict": {
                    "acknowledged": 1000, "acknowledged_per_s": 99.6, "restart_max_ms": null,
                    "breaches": { "lost_online": 0, "lost_offline": 7 },
                } },
                { "peer": "two", "version": "two 2.0", "settings": "defaults", "failure": "it refused" },
            ],
        }));
        assert!(page.starts_with("# Kept promises, 2026-01-31\n"), "{page}");
        assert!(page.contains("| | one |\n|---|---:|\n| acknowledged | 1000 |\n"), "{page}");
        assert!(page.contains("| acknowledged per second | 100 |"), "{page}");
        assert!(page.contains("online | 0 |") && page.contains("offline | **7** |"), "{page}");
        assert!(page.contains("longest in ms | – |"), "{page}");
        assert!(page.ends_with("- **two**: two 2.0; defaults. Not judged: it refused.\n"), "{page}");
    }
}
