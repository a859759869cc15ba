//! The results as a page to read.

use std::fmt::Write;

use super::goal::{Bound, Goal, all};
use super::metric::{Metric, metrics};
use super::peer::Kind;
use super::result::{Participant, Results};
use super::scenario::{Cell, Set};
use super::verdict::{Faults, Verdict, judge};

/// With more cells than this in a set, each number gets a table whose columns are the cells.
const CELLS_ONE_BY_ONE: usize = 2;

/// The whole page, in Markdown.
pub(super) fn page(results: &Results) -> String {
    let mut page = String::new();
    head(&mut page, results);
    goals(&mut page, results);
    faults(&mut page, results);
    for set in Set::ALL {
        let cells: Vec<&str> =
            results.cells().into_iter().filter(|(of, _)| *of == set).map(|(_, name)| name).collect();
        if cells.is_empty() {
            continue;
        }
        line(&mut page, &format!("## {}\n", set.title()));
        if cells.len() > CELLS_ONE_BY_ONE {
            for metric in metrics(set) {
                by_cell(&mut page, results, &cells, metric);
            }
        } else {
            for cell in cells {
                by_metric(&mut page, results, cell, metrics(set));
            }
        }
    }
    participants(&mut page, results);
    absences(&mut page, results);
    // One line at the end of the file.
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn head(page: &mut String, results: &Results) {
    let machine = &results.machine;
    line(page, "<!-- Written by `cargo xtask bench` from the JSON beside it. -->\n");
    line(page, &format!("# Benchmark {}\n", results.name));
    let gibibytes = format!("{:.1}", machine.memory_kib as f64 / f64::from(1 << 20));
    let hardware = format!(
        "{} cores of {}, {gibibytes} GiB of memory, {}",
        machine.cores, machine.processor, machine.kernel
    );
    line(page, &format!("{}, on {hardware}.", results.date));
    let intro = format!(
        "{} interleaved rounds; publishers publish for {} s where that is a matter of choice. Cells are medians.\n\
         Load and peer share the machine, so messages per second are a figure of the pair. See [how to read \
         this](../README.md).\n",
        results.rounds, results.seconds
    );
    line(page, &intro);
}

fn goals(page: &mut String, results: &Results) {
    let (verdicts, open) = judge(&all(), results);
    let mut rows: Vec<(bool, Vec<String>)> =
        verdicts.iter().map(|verdict| (verdict.is_met, verdict_cells(verdict))).collect();
    rows.extend(correctness(results));
    line(page, "## Goals\n");
    let met = rows.iter().filter(|(is_met, _)| *is_met).count();
    let missed = rows.len() - met;
    line(page, &format!("{met} met, {missed} not met, {} not measured here.\n", open.len()));
    if !rows.is_empty() {
        header(page, &["goal", "cell", "who", "median", "other", "is", "wanted", "verdict"]);
        for (is_met, mut cells) in rows {
            cells.push(if is_met { "met" } else { "**not met**" }.to_owned());
            row(page, &cells);
        }
        line(page, "");
    }
    if !open.is_empty() {
        line(page, &format!("Not measured here:\n\n{}\n", open_goals(&open).join("\n")));
    }
}

fn verdict_cells(verdict: &Verdict) -> Vec<String> {
    let (median, other, is) = match &verdict.comparison {
        None => ("failed".to_owned(), None, ABSENT.to_owned()),
        Some(comparison) => {
            let is = match verdict.goal.bound {
                Bound::AtMost(_) => figure(comparison.figure),
                Bound::AtMostTimes(..) | Bound::TimesAbove(..) => times(comparison.figure),
                Bound::TimesBelow(..) => times(comparison.figure) + " below",
            };
            let other = comparison.other.as_ref();
            let other = other.map(|(name, value)| format!("{name} {}", figure(*value)));
            (figure(comparison.ours), other, is)
        }
    };
    vec![
        verdict.goal.title.to_owned(),
        verdict.goal.cell.unwrap_or("all").to_owned(),
        verdict.who.to_string(),
        median,
        other.unwrap_or_else(|| ABSENT.to_owned()),
        is,
        wanted(verdict.goal.bound),
    ]
}

fn wanted(bound: Bound) -> String {
    match bound {
        Bound::AtMost(limit) => format!("≤ {}", figure(limit)),
        Bound::AtMostTimes(limit, _) => format!("≤ {limit} ×"),
        Bound::TimesBelow(limit, _) => format!("≥ {limit} × below"),
        Bound::TimesAbove(limit, _) => format!("≥ {limit} ×"),
    }
}

/// The goal that needs no comparison: each Lapwing does nothing wrong in any run.
fn correctness(results: &Results) -> Vec<(bool, Vec<String>)> {
    let judged =
        [Kind::Lapwing, Kind::LapwingOneShard, Kind::LapwingTwoShards].into_iter().filter_map(|who| {
            let faults = Faults::of(who, results);
            let is = format!("{} faults in {} runs", number(faults.total() as f64, 0), faults.runs);
            let title = "nothing lost, doubled, reordered or refused; no failed run".to_owned();
            let row =
                vec![title, "all".to_owned(), who.to_string(), ABSENT.to_owned(), ABSENT.to_owned(), is];
            let wanted = "none".to_owned();
            (faults.runs > 0).then(|| (faults.total() == 0, row.into_iter().chain([wanted]).collect()))
        });
    judged.collect()
}

/// A line for each title and limit's kind, with the cells.
fn open_goals(goals: &[Goal]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for goal in goals {
        let title = match goal.bound.other() {
            Some(other) => format!("{}, against {other}", goal.title),
            None => goal.title.to_owned(),
        };
        let cell = goal.cell.unwrap_or("all");
        match lines.iter_mut().find(|(known, _)| *known == title) {
            Some((_, cells)) => cells.push(cell),
            None => lines.push((title, vec![cell])),
        }
    }
    lines.into_iter().map(|(title, cells)| format!("- {title}: {}", cells.join("; "))).collect()
}

fn faults(page: &mut String, results: &Results) {
    line(page, "## Correctness\n");
    line(
        page,
        "Every subscriber checks every message. Losses at QoS 0 without a window are not among these.\n",
    );
    let columns = [
        "peer",
        "runs",
        "failed",
        "died",
        "lost",
        "duplicated",
        "reordered",
        "protocol errors",
        "refused",
        "verdict",
    ];
    header(page, &columns);
    for participant in &results.participants {
        let found = Faults::of(participant.kind, results);
        let counts = [
            found.runs,
            found.failed,
            found.died,
            found.lost,
            found.duplicated,
            found.reordered,
            found.protocol_errors,
            found.refused,
        ];
        let mut cells = vec![participant.kind.to_string()];
        cells.extend(counts.map(|count| number(count as f64, 0)));
        cells.push(if found.total() == 0 { "right" } else { "**wrong**" }.to_owned());
        row(page, &cells);
    }
    line(page, "");
    failures(page, results);
}

/// Each reason for which runs have no values, once for a peer and a cell.
fn failures(page: &mut String, results: &Results) {
    let mut lines: Vec<String> = Vec::new();
    for run in &results.runs {
        let Some(failure) = &run.failure else { continue };
        // What a program says may have any character in it.
        let text = failure.replace(['\n', '|', '<', '[', '`'], " ");
        let text = format!("- {} in {}: {text}", run.peer, run.cell);
        if !lines.contains(&text) {
            lines.push(text);
        }
    }
    if !lines.is_empty() {
        line(page, &format!("Runs without a result:\n\n{}\n", lines.join("\n")));
    }
}

/// One number: peers down, cells across.
fn by_cell(page: &mut String, results: &Results, cells: &[&str], metric: &Metric) {
    let has_value = |kind| cells.iter().any(|cell| value(results, kind, cell, metric) != ABSENT);
    if !results.participants.iter().any(|participant| has_value(participant.kind)) {
        return;
    }
    line(page, &format!("### {}\n", capitalised(metric.title)));
    let mut columns = vec!["peer"];
    columns.extend(cells);
    header(page, &columns);
    for Participant { kind, .. } in &results.participants {
        let values = cells.iter().map(|cell| value(results, *kind, cell, metric));
        row(page, &std::iter::once(kind.to_string()).chain(values).collect::<Vec<_>>());
    }
    line(page, "");
}

/// One cell: peers down, numbers across.
fn by_metric(page: &mut String, results: &Results, cell: &str, metrics: &[Metric]) {
    let is_measured = |metric: &&Metric| {
        results.participants.iter().any(|peer| results.median(peer.kind, cell, metric.field).is_some())
    };
    let metrics: Vec<&Metric> = metrics.iter().filter(is_measured).collect();
    line(page, &format!("### {}\n", capitalised(cell)));
    let mut columns = vec!["peer"];
    columns.extend(metrics.iter().map(|metric| metric.title));
    header(page, &columns);
    for Participant { kind, .. } in &results.participants {
        if results.runs(*kind, cell).next().is_some() {
            let values = metrics.iter().map(|metric| value(results, *kind, cell, metric));
            row(page, &std::iter::once(kind.to_string()).chain(values).collect::<Vec<_>>());
        }
    }
    line(page, "");
}

/// A median, with the number of runs that are not in it because they failed.
fn value(results: &Results, peer: Kind, cell: &str, metric: &Metric) -> String {
    let runs = results.runs(peer, cell).count();
    let without = results.runs(peer, cell).filter(|run| run.has_failed()).count();
    match results.median(peer, cell, metric.field) {
        Some(value) if without == 0 => number(value, metric.decimals),
        Some(value) => format!("{} ({without} of {runs} failed)", number(value, metric.decimals)),
        None if without > 0 => "failed".to_owned(),
        None => ABSENT.to_owned(),
    }
}

fn participants(page: &mut String, results: &Results) {
    line(page, "## Peers\n");
    header(page, &["peer", "version", "settings", "program, MiB, stripped", "resident after start, MiB"]);
    for participant in &results.participants {
        let mebibytes =
            |value: Option<f64>| value.map_or_else(|| ABSENT.to_owned(), |value| number(value, 1));
        let program = participant.binary_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
        let resident = results.median_of_all(participant.kind, "start_rss_kib").map(|kib| kib / 1024.0);
        let cells = [
            participant.kind.to_string(),
            participant.version.clone(),
            participant.kind.settings().to_owned(),
            mebibytes(program),
            mebibytes(resident),
        ];
        row(page, &cells);
    }
    line(page, "");
}

/// Who is left out of which cells, and why: a line for each peer and reason.
fn absences(page: &mut String, results: &Results) {
    let mut lines: Vec<(String, &str, Vec<String>)> = Vec::new();
    let all: Vec<Cell> = Set::ALL.iter().flat_map(|set| set.cells(results.seconds)).collect();
    let measured = results.cells();
    for participant in &results.participants {
        for cell in all.iter().filter(|cell| measured.iter().any(|(_, name)| *name == cell.name)) {
            let Some(reason) = participant.kind.absence(cell) else { continue };
            let who = participant.kind.to_string();
            match lines.iter_mut().find(|(peer, why, _)| *peer == who && *why == reason) {
                Some((_, _, cells)) => cells.push(cell.name.clone()),
                None => lines.push((who, reason, vec![cell.name.clone()])),
            }
        }
    }
    if !lines.is_empty() {
        line(page, "Left out:\n");
        for (who, reason, cells) in lines {
            line(page, &format!("- {who}, since {reason}: {}", cells.join("; ")));
        }
        line(page, "");
    }
}

const ABSENT: &str = "–";

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn header<T: AsRef<str>>(page: &mut String, cells: &[T]) {
    row(page, cells);
    line(page, &format!("|{}", "---|".repeat(cells.len())));
}

fn row<T: AsRef<str>>(page: &mut String, cells: &[T]) {
    page.push('|');
    for cell in cells {
        // Writing to a text does not fail.
        let _ = write!(page, " {} |", cell.as_ref());
    }
    page.push('\n');
}

fn times(ratio: f64) -> String {
    format!("{} ×", number(ratio, if ratio < 10.0 { 2 } else { 1 }))
}

/// A number of unknown size, with about three digits that matter.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    number(value, decimals)
}

/// `value` with a comma at each thousand.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((&*text, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let is_negative = value < 0.0 && text.contains(|c: char| c.is_ascii_digit() && c != '0');
    let sign = if is_negative { "-" } else { "" };
    fraction.map_or_else(|| format!("{sign}{grouped}"), |fraction| format!("{sign}{grouped}.{fraction}"))
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + characters.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::{results, run};
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(999.96, 1), "1,000.0");
        assert_eq!((number(-0.001, 2), number(-1500.5, 1)), ("0.00".to_owned(), "-1,500.5".to_owned()));
        assert_eq!([0.0625, 2.345, 42.0, 1536.0].map(figure), ["0.062", "2.35", "42.0", "1,536"]);
        assert_eq!((times(1.049), times(41.25)), ("1.05 ×".to_owned(), "41.2 ×".to_owned()));
    }

    #[test]
    fn a_page_shows_what_is_met_and_what_is_not() {
        let field = "broker_cpu_us_per_msg";
        let mut runs = Vec::new();
        for (cell, ours) in [("fan-in q0", 0.3), ("pairs50 q0", 0.7)] {
            runs.push(run(cell, Kind::Lapwing, 1, field, ours));
            runs.push(run(cell, Kind::Bare, 1, field, 0.1));
        }
        runs.push(run("fan-out50 q0", Kind::Bare, 1, field, 0.1));
        runs.push(run("pairs50 q2", Kind::Mosquitto, 1, "x", 1.0));
        runs[3].values.insert("lost".to_owned(), 7.into());
        let page = page(&results(runs));
        for expected in [
            "2026-01-31, on 2 cores of An X, 4.0 GiB of memory, Linux 6.1.",
            "2 met, 1 not met, ",
            "| CPU per message | fan-in q0 | lapwing | 0.300 | bare 0.100 | 3.00 × | ≤ 4 × | met |",
            "| CPU per message | pairs50 q0 | lapwing | 0.700 | bare 0.100 | 7.00 × | ≤ 5 × | **not met** |",
            "- CPU per message, against bare: fan-out50 q0; fan-in q1;",
            "| lapwing | – | – | 0 faults in 2 runs | none | met |",
            "| lapwing | 2 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | right |",
            "| bare | 3 | 0 | 0 | 7 | 0 | 0 | 0 | 0 | **wrong** |",
            "### CPU µs per delivered message\n\n| peer | fan-in q0 | pairs50 q0 | fan-out50 q0 | pairs50 q2 |\n|---|---|---|---|---|\n",
            "| lapwing | 0.300 | 0.700 | – | – |\n",
            "- bare, since it knows QoS 0 and 1 only: pairs50 q2\n",
            "| bare | bare 1.0 | a toy that parses and forwards, and nothing else | 3.0 | – |",
        ] {
            assert!(page.contains(expected), "{expected}\n\n{page}");
        }
    }

    #[test]
    fn failures_are_not_hidden() {
        let mut runs = vec![
            run("connect 8k", Kind::Lapwing, 1, "conns_per_s", 1000.0),
            run("connect 8k", Kind::Lapwing, 2, "conns_per_s", 9000.0),
            run("connect 8k", Kind::Nats, 1, "conns_per_s", 9000.0),
        ];
        for run in &mut runs {
            run.set = Set::Connect;
        }
        runs[1].failure = Some("it said a|b\nand c".to_owned());
        runs[2].died = true;
        let page = page(&results(runs));
        assert!(page.contains("| lapwing | 1,000 (1 of 2 failed) |"), "{page}");
        assert!(page.contains("| nats | failed |"), "{page}");
        assert!(page.contains("- lapwing in connect 8k: it said a b and c"), "{page}");
    }
}
