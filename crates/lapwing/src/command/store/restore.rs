use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use lapwing_broker::stored_topic;
use lapwing_store::archive::{self, ArchiveError, Summary};
use lapwing_store::check::{self, Finding};
use lapwing_store::engine::{EngineError, Lock, Space};

use super::place::{self, Building};
use super::{Data, backup, count, explain, line};
use crate::store;

/// Make a store from a file that `lapwing store backup` has written.
///
/// The data directory must have no store. The file is read and checked as a whole before anything is put there.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The file to read
    file: PathBuf,
    #[command(flatten)]
    data: Data,
    /// Move a store that is there aside; it is not removed
    #[arg(long)]
    force: bool,
    /// Leave out entries that make no sense, which are named; without this option nothing is restored then
    #[arg(long)]
    repair: bool,
}

impl Restore {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let directory = self.data.directory()?;
        let folder = store::folder(&directory);
        let is_vacant = place::is_vacant(&folder);
        if !is_vacant && !self.force {
            bail!(
                "{} is there already; --force moves it aside, and --data names another data directory",
                folder.display()
            );
        }
        let expected = self.read(|_, _, _| Ok(()))?;
        store::prepare(&directory)?;
        // Nobody may have the old one while it is moved.
        let lock = if is_vacant { None } else { lock(&folder)? };
        let mut building = Building::begin(&folder, "restoring")?;
        let found =
            self.read(|space, key, value| building.add(space, key, value).map_err(ReadError::Other))?;
        if found != expected {
            bail!("{shown} has changed while it was read; nothing has been restored");
        }
        self.look(&mut building)?;
        let aside = building.put(&folder)?;
        drop(lock);
        if let Some(aside) = aside {
            line(format_args!("the store that was there is now {}", aside.display()));
        }
        line(format_args!("{}: {}", folder.display(), backup::content(&found)));
        Ok(())
    }

    fn read(
        &self,
        visit: impl FnMut(Space, &[u8], &[u8]) -> Result<(), ReadError>,
    ) -> anyhow::Result<Summary> {
        let shown = self.file.display();
        let file = File::open(&self.file).with_context(|| format!("cannot open {shown}"))?;
        archive::read(BufReader::with_capacity(1024 * 1024, file), visit).map_err(|error| match error {
            ReadError::Archive(error) => anyhow::Error::from(error)
                .context(format!("{shown} cannot be restored; nothing has been changed")),
            ReadError::Other(error) => error,
        })
    }

    /// Looks whether what was restored can be used.
    fn look(&self, building: &mut Building) -> anyhow::Result<()> {
        let engine = building.engine()?;
        let mut show = |finding: &Finding| {
            if self.repair || !finding.is_left_over() {
                line(finding);
            }
        };
        if self.repair {
            let report = check::repair(engine, &stored_topic, &mut show)?;
            if report.faults > 0 {
                line(format_args!("left out: {}", count(report.faults, "entry", "entries")));
            }
            return Ok(());
        }
        let report = check::check(engine, &stored_topic, &mut show)?;
        if report.faults > 0 {
            let faults = count(report.faults, "entry", "entries");
            bail!(
                "{faults} of the archive cannot be used; --repair leaves them out. Nothing has been restored"
            );
        }
        Ok(())
    }
}

/// What can go wrong while an archive is read.
enum ReadError {
    Archive(ArchiveError),
    Other(anyhow::Error),
}

impl From<ArchiveError> for ReadError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// Locks the store that is moved aside. It may be damaged, or be something else: then nobody can have it open.
fn lock(folder: &Path) -> anyhow::Result<Option<Lock>> {
    match Lock::new(folder) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ EngineError::Locked { .. }) => Err(explain(error, "put another store in its place")),
        Err(EngineError::Foreign { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
