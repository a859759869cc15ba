use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use lapwing_broker::stored_topic;
use lapwing_store::check::{self, Report};
use lapwing_store::engine::{EngineError, TornTail};

use super::{Data, count, explain, line, look};
use crate::exit;

/// Say whether the store is sound: journals and tables, each entry, and what belongs together.
///
/// It prints a line for each fault, and changes nothing. The exit code is 0 if the store is sound, 1 if it is not, and 2
/// if that cannot be said, as when a broker is running on it.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    data: Data,
}

/// It cannot be said whether the store is sound.
const NO_VERDICT: u8 = 2;

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let checked = self
            .data
            .existing()
            .and_then(|folder| check(&folder).map_err(|error| explain(error, "check the store")));
        match checked {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => exit::fail(&error, NO_VERDICT),
        }
    }
}

/// Whether the store in a folder is sound.
fn check(folder: &Path) -> Result<bool, EngineError> {
    let result = look(folder).and_then(|view| {
        view.torn_tail().into_iter().for_each(|torn| line(torn_tail(torn)));
        let mut shown = |finding: &check::Finding| line(describe(finding));
        check::check(view.engine(), &stored_topic, &mut shown).map_err(|error| view.original(error))
    });
    match result {
        Ok(report) => {
            line(summary(folder, report));
            Ok(report.faults == 0)
        }
        // What is damaged like this is not read any further.
        Err(error @ EngineError::Corrupt { .. }) => {
            line(&error);
            line(format_args!(
                "{} is damaged; `lapwing store repair` keeps what can be read",
                folder.display()
            ));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn summary(folder: &Path, report: Report) -> String {
    let Report { entries, faults, left_over } = report;
    let entries = count(entries, "entry", "entries");
    let mut text = match faults {
        0 => format!("{} is sound: {entries}", folder.display()),
        _ => {
            let faults = count(faults, "fault", "faults");
            format!("{} is not sound: {faults} in {entries}", folder.display())
        }
    };
    if left_over > 0 {
        text += &format!(", {left_over} of them left over");
    }
    if faults > 0 {
        text += "; `lapwing store repair` removes what is at fault";
    }
    text
}

/// A line about an entry that is not as it should be.
fn describe(finding: &check::Finding) -> String {
    match finding.is_left_over() {
        true => format!("{finding} (left over; the broker removes it)"),
        false => finding.to_string(),
    }
}

/// A line about what a crash has left half written.
pub(super) fn torn_tail(torn: &TornTail) -> String {
    let TornTail { file, offset, bytes } = torn;
    format!(
        "{}: {} from byte {offset} on were left half written by a crash; nothing acknowledged is in them, and the broker cuts them off",
        file.display(),
        count(*bytes, "byte", "bytes"),
    )
}
