use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use lapwing_broker::stored_topic;
use lapwing_store::check::{self, Report};
use lapwing_store::engine::{Engine, EngineError, Loss, Options, Salvage, Space, TornTail, disk_bytes};

use super::check::torn_tail;
use super::place::{self, Building};
use super::{Data, count, explain, grouped, line, look};

/// Make a store anew from what can be read and used of a damaged one, and say what is lost.
///
/// The damaged store is kept beside the new one, under a name that is printed. A sound store is left as it is. The exit
/// code is 0 if the store is sound afterwards, and 1 if it cannot be repaired; nothing has been changed then.
#[derive(Debug, Args)]
pub(super) struct Repair {
    #[command(flatten)]
    data: Data,
    /// Only say what would be lost
    #[arg(long)]
    dry_run: bool,
    /// Remove the damaged store once it is repaired
    #[arg(long)]
    no_copy: bool,
}

impl Repair {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.data.existing()?;
        let Some(damage) = damage(&folder)? else {
            line(format_args!("{} is sound; there is nothing to repair", folder.display()));
            return Ok(());
        };
        let salvage = Salvage::open(&folder, Options::default());
        let mut salvage = salvage
            .map_err(|error| explain(error, "repair the store"))
            .context("this damage cannot be repaired: restore a backup, or move the store away")?;
        let mut building = Building::begin(&folder, "repairing")?;
        copy(&mut salvage, &mut building)?;
        let engine = building.engine()?;
        let mut lost = [0_u64; Space::ALL.len()];
        let report = check::repair(engine, &stored_topic, &mut |finding| {
            let done = if finding.space == Space::Meta { "corrected" } else { "removed" };
            line(format_args!("{done}: {finding}"));
            lost[finding.space as usize] += 1;
        })?;
        for loss in salvage.losses().iter().filter(|loss| !damage.is_torn_tail(loss)) {
            line(format_args!("lost: {}", describe_loss(loss, engine)));
        }
        summarize(report, &lost);
        if self.dry_run {
            line("nothing has been changed");
            return Ok(());
        }
        let aside = building.put(&folder)?;
        drop(salvage);
        if let Some(aside) = aside {
            if self.no_copy {
                place::remove(&aside)?;
            } else {
                let bytes = disk_bytes(&aside)?;
                line(format_args!("the damaged store is now {} ({} bytes)", aside.display(), grouped(bytes)));
            }
        }
        line(format_args!("{} is repaired", folder.display()));
        Ok(())
    }
}

/// Why a store is to be repaired.
struct Damage {
    /// What a crash has left half written, where that is all that is wrong with the journals.
    torn: Option<TornTail>,
}

impl Damage {
    /// Whether this was never acknowledged, so that nothing is lost with it.
    fn is_torn_tail(&self, loss: &Loss) -> bool {
        match (loss, &self.torn) {
            (Loss::Journal { file, offset, .. }, Some(torn)) => (file, offset) == (&torn.file, &torn.offset),
            _ => false,
        }
    }
}

/// What is wrong with a store, if something is. It is printed as far as it is not what is removed.
fn damage(folder: &Path) -> anyhow::Result<Option<Damage>> {
    let mut torn = None;
    let result = look(folder).and_then(|view| {
        torn = view.torn_tail().cloned();
        check::check(view.engine(), &stored_topic, &mut |_| ()).map_err(|error| view.original(error))
    });
    match result {
        Ok(report) => {
            torn.iter().for_each(|torn| line(torn_tail(torn)));
            Ok((report.faults > 0).then_some(Damage { torn }))
        }
        Err(error @ EngineError::Corrupt { .. }) => {
            line(format_args!("damaged: {error}"));
            Ok(Some(Damage { torn }))
        }
        Err(error) => Err(explain(error, "repair the store")),
    }
}

/// Copies all that can be read.
fn copy(salvage: &mut Salvage, building: &mut Building) -> anyhow::Result<()> {
    let mut result = Ok(());
    salvage.scan(&mut |space, key, value| {
        result = building.add(space, key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    result
}

fn describe_loss(loss: &Loss, engine: &dyn Engine) -> String {
    match loss {
        Loss::Journal { file, offset, bytes } => format!(
            "what {} from byte {offset} of {} on had, if it was in no table",
            count(*bytes, "byte", "bytes"),
            file.display()
        ),
        Loss::Tables { space, what } => {
            format!("{}, but for those that the journals have ({what})", content(*space))
        }
        Loss::Entries { space, after, before, what } => {
            let subject = |key: &Vec<u8>| check::subject(engine, &stored_topic, *space, key);
            let after = after.as_ref().map_or_else(|| "the beginning".to_owned(), subject);
            let before = before.as_ref().map_or_else(|| "the end".to_owned(), subject);
            format!("{}, from {after} to {before}, these excepted ({what})", content(*space))
        }
    }
}

fn content(space: Space) -> &'static str {
    match space {
        Space::Meta => "the numbers to give next, and which sessions are over",
        Space::Session => "sessions",
        Space::Subscription => "subscriptions",
        Space::Queue => "queued messages",
        Space::Message => "messages for several sessions",
        Space::Flow => "QoS 2 messages under way",
        Space::Retained => "retained messages",
        Space::Delayed => "delayed messages",
    }
}

fn summarize(report: Report, lost: &[u64; Space::ALL.len()]) {
    line(format_args!("kept: {}", count(report.entries, "entry", "entries")));
    let lost = Space::ALL.into_iter().zip(lost).filter(|(space, count)| **count > 0 && *space != Space::Meta);
    let lost: Vec<_> =
        lost.map(|(space, count)| format!("{}: {}", content(space), grouped(*count))).collect();
    if !lost.is_empty() {
        line(format_args!("removed in all: {}", lost.join(", ")));
    }
}
