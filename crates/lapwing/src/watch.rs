//! Looking at the configuration file and the files of users and rules, to read them anew when they have changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// Files that are looked at from time to time.
#[derive(Debug)]
pub(crate) struct Watch {
    files: Vec<PathBuf>,
    /// As they were when they were read last.
    read: Vec<Stamp>,
    /// As they were at the last look.
    seen: Vec<Stamp>,
}

/// What tells one state of a file from another: when and where it was written, and its length; `None` where there is none.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Watch {
    /// Of the configuration file, before it is read: so no change is missed.
    pub(crate) fn new(file: Option<&Path>) -> Self {
        Self::of(file.map(Path::to_owned).into_iter().collect())
    }

    /// Of the files that the configuration names as well, before these are read.
    pub(crate) fn add(&mut self, config: &Config) {
        let (jwt, http) = (&config.authentication.jwt, &config.authentication.http);
        let named = [
            &jwt.key_file,
            &jwt.jwks_file,
            &jwt.secret_file,
            &config.authentication.password.file,
            &config.permissions.file,
            &config.permissions.report_only,
            &http.ca_file,
        ];
        let secrets = http.header_files.values().map(|file| &file.0);
        for file in named.into_iter().flatten().chain(secrets) {
            self.files.push(file.clone());
            let stamp = stamp(file);
            self.read.push(stamp);
            self.seen.push(stamp);
        }
    }

    fn of(files: Vec<PathBuf>) -> Self {
        let stamps: Vec<_> = files.iter().map(|file| stamp(file)).collect();
        Self { files, read: stamps.clone(), seen: stamps }
    }

    /// Looks. Whether they are to be read: they have changed since they were read last, and not since the last look, so
    /// that nobody is in the middle of writing them. What was wrong with them is not read again until it has changed.
    pub(crate) fn look(&mut self) -> bool {
        let now: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
        let is_still = std::mem::replace(&mut self.seen, now.clone()) == now;
        let is_due = is_still && self.read != now;
        if is_due {
            self.read = now;
        }
        is_due
    }

    /// They are being read for another reason.
    pub(crate) fn note_read(&mut self) {
        self.seen = self.files.iter().map(|file| stamp(file)).collect();
        self.read.clone_from(&self.seen);
    }
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_it_has_changed_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("1");
        let mut watch = Watch::of(vec![file.clone(), directory.path().join("b")]);
        let mut looks = |count: usize| (0..count).map(|_| watch.look()).collect::<Vec<_>>();
        assert_eq!(looks(2), [false, false]);
        write("12");
        assert_eq!(looks(1), [false], "it may not be whole");
        write("123");
        assert_eq!(looks(3), [false, true, false]);
        std::fs::write(directory.path().join("b"), "new").unwrap();
        assert_eq!(looks(3), [false, true, false]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(looks(3), [false, true, false]);
        // Another file under the same name, as long as the one before.
        write("321");
        let other = directory.path().join("c");
        assert_eq!(looks(2), [false, true]);
        std::fs::write(&other, "456").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_eq!(looks(3), [false, true, false]);
        write("4567");
        watch.note_read();
        assert_eq!((0..3).map(|_| watch.look()).collect::<Vec<_>>(), [false; 3]);
    }
}
