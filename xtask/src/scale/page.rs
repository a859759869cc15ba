//! The results as a page.

use std::fmt::Write;

use serde_json::Value;

/// The page of `results`, as they stand in the JSON file.
pub(super) fn page(results: &Value) -> String {
    let machine = &results["machine"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut page = format!("# Durable sessions at scale, {}\n\n", text(&results["date"]));
    // Writing into a string does not fail.
    let _ = writeln!(
        page,
        "`cargo xtask scale`, on {} with {} cores, {}. [What is measured](../README.md#scale).\n",
        text(&machine["processor"]),
        machine["cores"],
        text(&machine["kernel"]),
    );
    let _ = writeln!(page, "| | measured | goal |\n|---|---:|---:|");
    let mut row = |title: String, value: String, goal: &str| {
        let _ = writeln!(page, "| {title} | {value} | {goal} |");
    };
    let it = &results["throughput"];
    row(
        format!(
            "durable messages/s, {} publishers, window {}, {} bytes",
            it["publishers"], it["window"], it["payload_bytes"]
        ),
        whole(&it["messages_per_s"]),
        "",
    );
    row("… beside the engine alone at 1,024 messages a batch".into(), percent(&it["ratio"]), "≥ 60 %");
    row("… CPU per message".into(), micros(&it["cpu_us_per_message"]), "");
    let it = &results["sessions"];
    row("durable sessions with a subscription each".into(), whole(&it["sessions"]), "1,000,000");
    row("… begun per second".into(), whole(&it["begun_per_s"]), "");
    row("… memory of each".into(), bytes(&it["bytes_per_session"]), "≤ 512 bytes");
    row(
        "… memory of each, of all that the broker has after a restart".into(),
        bytes(&it["bytes_per_session_after_restart"]),
        "",
    );
    row(
        format!(
            "… CPU of a publish that one of them gets, beside {} with {}",
            micros(&it["cpu_us_per_publish_few"]),
            it["few"]
        ),
        micros(&it["cpu_us_per_publish"]),
        "the same",
    );
    row("… after a crash, from the start to the first CONNACK".into(), seconds(&it["restart_s"]), "");
    for (name, goal) in [("queue", "≤ 2 s"), ("queues", "≤ 10 s")] {
        let it = &results[name];
        row(format!("{} messages for each of {} sessions", it["queued"], it["queues"]), String::new(), "");
        row("… after a crash, from the start to the first CONNACK".into(), seconds(&it["restart_s"]), goal);
        row(
            "… from then to the CONNACK of a session with a queue".into(),
            seconds(&it["queue_connack_s"]),
            "",
        );
        row("… fetched, messages/s".into(), whole(&it["drained_per_s"]), "");
        row("… memory at most: while they come".into(), mib(&it["peak_filling"]), "");
        row("… memory after the restart".into(), mib(&it["resident_after_restart"]), "");
        row("… memory at most: while they are fetched".into(), mib(&it["peak_draining"]), "flat");
    }
    page
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn whole(value: &Value) -> String {
    let digits = format!("{:.0}", number(value));
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn percent(value: &Value) -> String {
    format!("{:.0} %", number(value) * 100.0)
}

fn micros(value: &Value) -> String {
    format!("{:.1} µs", number(value))
}

fn seconds(value: &Value) -> String {
    format!("{:.2} s", number(value))
}

fn bytes(value: &Value) -> String {
    format!("{:.0} bytes", number(value))
}

fn mib(value: &Value) -> String {
    format!("{:.0} MiB", number(value) / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_for_people() {
        assert_eq!(whole(&json!(1_234_567.8)), "1,234,568");
        assert_eq!(whole(&json!(12)), "12");
        assert_eq!((percent(&json!(0.625)), mib(&json!(3_145_728))), ("62 %".into(), "3 MiB".into()));
    }
}
