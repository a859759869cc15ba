//! What has become of the lines, for people.

use std::collections::BTreeMap;

use super::mosquitto::{Fate, Translation};

/// A line for each that could not be carried as it is, and how many were.
pub(super) fn text(translation: &Translation) -> String {
    let mut text = String::new();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (line, fate) in &translation.lines {
        let (count, sentence) = match fate {
            Fate::Carried => ("carried over", None),
            Fate::Usual => ("what Lapwing does anyway", None),
            Fate::Changed(sentence) => ("carried over in another way", Some(sentence)),
            Fate::Left(sentence) => ("not carried over", Some(sentence)),
        };
        *counts.entry(count).or_default() += 1;
        if let Some(sentence) = sentence {
            let sign = if matches!(fate, Fate::Left(_)) { "left out" } else { "changed" };
            text.push_str(&format!(
                "{}:{}: {sign}: {}: {sentence}\n",
                line.file.display(),
                line.number,
                line.name
            ));
        }
    }
    for remark in &translation.remarks {
        text.push_str(&format!("note: {remark}\n"));
    }
    let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    text.push_str(&format!(
        "lines: {}\n",
        if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
    ));
    text
}
