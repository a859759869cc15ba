use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow};
use clap::Args;
use lapwing_store::archive::{ArchiveError, Summary};
use lapwing_store::engine::{Engine, EngineError, Space, View};
use lapwing_store::{BackupTarget, receive_backup, write_backup};

use super::{Data, count, line, look};
use crate::command::admin::Door;

/// Write everything that is stored to one file, which `lapwing store restore` reads.
///
/// While a broker runs on the data directory, it is asked through its admin channel, and makes the backup as of one
/// moment without a pause. The file is for its owner alone, and appears under its name when it is complete and on the
/// disk. The store is not changed.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write; - is standard output
    file: PathBuf,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    door: Door,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.data.existing()?;
        let is_stdout = self.file.as_os_str() == "-";
        if !is_stdout && !self.force && self.file.exists() {
            return Err(anyhow!("{} is there already; --force replaces it", self.file.display()));
        }
        let summary = match look(&folder) {
            Ok(view) => self.offline(&view, is_stdout)?,
            Err(EngineError::Locked { .. }) => self.online(is_stdout)?,
            Err(error) => return Err(error).context("`lapwing store repair` keeps what can be read"),
        };
        if !is_stdout {
            line(format_args!("{}: {}", self.file.display(), content(&summary)));
        }
        Ok(())
    }

    fn offline(&self, view: &View, is_stdout: bool) -> anyhow::Result<Summary> {
        let snapshot = view.engine().snapshot()?;
        write_backup(snapshot, self.target(is_stdout), &AtomicBool::new(false)).map_err(|error| match error {
            ArchiveError::Engine(error) => view.original(error).into(),
            error => error.into(),
        })
    }

    /// Another process has the store, most likely a broker: it makes the backup then, and is asked for it.
    fn online(&self, is_stdout: bool) -> anyhow::Result<Summary> {
        let directory = self.data.directory()?;
        let ask =
            || self.door.caller(&directory)?.download("/api/v1/store/backup").map_err(anyhow::Error::from);
        let archive = ask().with_context(|| {
            format!(
                "{} is in use; a running broker makes a backup when its admin channel is asked to (--admin)",
                directory.display()
            )
        })?;
        Ok(receive_backup(BufReader::with_capacity(256 * 1024, archive), self.target(is_stdout))?)
    }

    fn target(&self, is_stdout: bool) -> BackupTarget {
        match is_stdout {
            true => BackupTarget::Writer(Box::new(io::stdout())),
            false => BackupTarget::File { path: self.file.clone(), replace: self.force },
        }
    }
}

/// What an archive has, in words.
pub(super) fn content(summary: &Summary) -> String {
    let parts = [
        (Space::Session, "session", "sessions"),
        (Space::Subscription, "subscription", "subscriptions"),
        (Space::Queue, "queued message", "queued messages"),
        (Space::Retained, "retained message", "retained messages"),
        (Space::Delayed, "delayed message", "delayed messages"),
    ];
    parts.map(|(space, one, many)| count(summary.entries(space), one, many)).join(", ")
}
