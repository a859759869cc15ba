//! Removing what is not as it should be.

use super::{Fault, Finding, Report, TopicOf, check};
use crate::engine::{Durability, Engine, EngineError, Space, WriteBatch};
use crate::key;
use crate::value::{self, Counters};

/// After so many rounds something is wrong with the rules: each round removes what the one before has left without a hold.
const ROUNDS: u32 = 8;
/// Entries removed in a batch.
const BATCH: usize = 1024;

/// Removes what a [`check`] finds, and what refers to it, until there is nothing more. Each entry that is removed is shown.
///
/// # Errors
/// An [`EngineError`] where the engine has one.
pub fn repair(
    engine: &mut dyn Engine,
    topic: &TopicOf<'_>,
    found: &mut dyn FnMut(&Finding),
) -> Result<Report, EngineError> {
    let mut removed = Report::default();
    for _ in 0..ROUNDS {
        let mut findings = Vec::new();
        let report = check(engine, topic, &mut |finding| {
            found(finding);
            findings.push((finding.space, finding.key.clone(), finding.fault));
        })?;
        removed.entries = report.entries;
        removed.faults += report.faults;
        removed.left_over += report.left_over;
        if findings.is_empty() {
            return engine.sync(Durability::Fsync).map(|()| removed);
        }
        for part in findings.chunks(BATCH) {
            let mut batch = WriteBatch::default();
            part.iter().for_each(|(space, key, fault)| change(&mut batch, *space, key, *fault));
            engine.write(&batch)?;
        }
    }
    let what = "what is removed leaves more and more without a hold".to_owned();
    Err(EngineError::Corrupt { file: Space::Meta.name().into(), offset: 0, what })
}

fn change(batch: &mut WriteBatch, space: Space, key: &[u8], fault: Fault) {
    match fault {
        Fault::Numbers { sequence, session } => {
            let counters = Counters { sequence, session };
            batch.insert(Space::Meta, key::COUNTERS, |out| value::write(&counters, &[], out));
        }
        _ => batch.remove(space, key),
    }
}
