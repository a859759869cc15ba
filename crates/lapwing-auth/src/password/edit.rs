//! Changing a file of users, and leaving in it whatever else is there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::hash::PasswordHash;
use super::scram::Verifier;
use super::users::Users;
use crate::fault::{self, FileError};

/// A file of users that is being changed.
pub struct UserFile {
    path: PathBuf,
    document: DocumentMut,
}

/// Why a file of users cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is not in order.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be written.
    #[error("{0} cannot be written: {1}")]
    Write(PathBuf, #[source] io::Error),
    /// There is no such user.
    #[error("{0} has no user {1:?}")]
    Unknown(PathBuf, String),
}

const HEAD: &str =
    "# Users of Lapwing, one table each; `lapwing passwd` changes them. Keep it from the eyes of others.\n";

impl UserFile {
    /// Reads a file, or begins a new one where there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or anything in it is wrong.
    pub fn open(path: &Path) -> Result<Self, EditError> {
        let text = if path.try_exists().unwrap_or(true) { fault::read(path)? } else { HEAD.to_owned() };
        Users::parse(path, &text)?;
        // Whoever comes so far has a file that is right: this reader and the other are of one house.
        let document = text.parse().map_err(|_| FileError::new(path, "is no TOML"))?;
        Ok(Self { path: path.to_owned(), document })
    }

    /// Whether there is a user with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.document.get("users").and_then(|users| users.get(name)).is_some()
    }

    /// Sets what is kept of a user's password, and makes the user if there is none. The rest of an existing one stays.
    pub fn set_password(&mut self, name: &str, password: &PasswordHash, scram: Option<&Verifier>) {
        self.set(name, "no_password", None);
        self.set(name, "password", Some(toml_edit::value(password.to_text())));
        // One that is there is of the old password.
        self.set(name, "scram_sha_256", scram.map(|scram| toml_edit::value(scram.to_text())));
    }

    /// Sets the groups of a user.
    pub fn set_groups(&mut self, name: &str, groups: &[String]) {
        self.set(name, "groups", Some(list(groups)));
    }

    /// Sets the patterns of the client identifiers that a user may have.
    pub fn set_client_ids(&mut self, name: &str, patterns: &[String]) {
        self.set(name, "client_ids", Some(list(patterns)));
    }

    /// Removes a user.
    ///
    /// # Errors
    ///
    /// If there is none with this name.
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        let users = self.document.get_mut("users").and_then(Item::as_table_like_mut);
        match users.and_then(|users| users.remove(name)) {
            Some(_) => Ok(()),
            None => Err(EditError::Unknown(self.path.clone(), name.to_owned())),
        }
    }

    /// Writes the file: whole or not at all, and for its owner alone to read.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or would not be in order, as where a user has an impossible name.
    pub fn save(&self) -> Result<(), EditError> {
        let text = self.document.to_string();
        Users::parse(&self.path, &text)?;
        write(&self.path, text.as_bytes()).map_err(|error| EditError::Write(self.path.clone(), error))
    }

    /// Sets a key of a user, who is made if there is none with this name, or removes it.
    fn set(&mut self, name: &str, key: &str, value: Option<Item>) {
        let mut users = Table::new();
        users.set_implicit(true);
        let users = self.document.entry("users").or_insert(Item::Table(users));
        let user = &mut users[name];
        if user.is_none() {
            *user = Item::Table(Table::new());
        }
        let Some(user) = user.as_table_like_mut() else { return };
        match value {
            Some(value) => drop(user.insert(key, value)),
            None => drop(user.remove(key)),
        }
    }
}

impl std::fmt::Debug for UserFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn list(texts: &[String]) -> Item {
    Item::Value(Value::Array(texts.iter().map(String::as_str).collect::<Array>()))
}

/// The file gets its name when it is on the disk.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Where the name is a link, the file that it leads to is the one to be replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)
    })();
    if written.is_err() {
        // What went wrong is the first error.
        let _ = std::fs::remove_file(&unfinished);
        return written;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Whether others than its owner can read or write a file.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::{Cost, Verification, Workspace};

    fn hash(password: &str) -> PasswordHash {
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        PasswordHash::new(password.as_bytes(), cost, &mut Workspace::default()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    // [attack: readable-data]
    #[test]
    fn a_file_is_made_for_its_owner_and_keeps_what_is_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let mut file = UserFile::open(&path).unwrap();
        file.set_password("anna", &hash("one"), None);
        file.set_groups("anna", &["a".into(), "b".into()]);
        file.set_password("bert \"b\".\u{e9}", &hash("two"), Some(&Verifier::new("two").unwrap()));
        file.save().unwrap();
        assert_eq!(mode(&path), 0o600);

        let text = std::fs::read_to_string(&path).unwrap();
        let text =
            text.replace("[users.anna]", "# the first\n[users.anna] # she\nattributes = { site = 'x' }");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(is_open_to_others(&path));
        let mut file = UserFile::open(&path).unwrap();
        assert!(file.contains("anna") && !file.contains("carl"));
        file.set_password("anna", &hash("three"), None);
        file.save().unwrap();
        assert!(!is_open_to_others(&path));

        let text = std::fs::read_to_string(&path).unwrap();
        for kept in ["# the first", "# she", "attributes = { site = 'x' }", "groups = [\"a\", \"b\"]"] {
            assert!(text.contains(kept), "{text}");
        }
        let users = Users::read(&path).unwrap();
        let mut workspace = Workspace::default();
        let mut is_correct = |name: &str, password: &str| {
            matches!(users.verify(name, password.as_bytes(), &mut workspace), Verification::Correct(_))
        };
        assert!(is_correct("anna", "three") && !is_correct("anna", "one"));
        assert!(is_correct("bert \"b\".\u{e9}", "two"));
        assert_eq!(users.get("anna").unwrap().attributes.len(), 3);

        let mut file = UserFile::open(&path).unwrap();
        file.remove("anna").unwrap();
        assert!(file.remove("anna").unwrap_err().to_string().ends_with("has no user \"anna\""));
        file.save().unwrap();
        assert_eq!(Users::read(&path).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_in_order_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        std::fs::write(&path, "[users.anna]\n").unwrap();
        assert!(matches!(UserFile::open(&path), Err(EditError::File(_))));
        std::fs::write(&path, "").unwrap();
        let mut file = UserFile::open(&path).unwrap();
        file.set_password("", &hash("x"), None);
        assert!(matches!(file.save(), Err(EditError::File(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        assert!(UserFile::open(directory.path()).is_err(), "a directory is no file");
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("real.toml"), directory.path().join("link.toml"));
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = UserFile::open(&link).unwrap();
        file.set_password("anna", &hash("x"), None);
        file.save().unwrap();
        assert!(link.is_symlink());
        assert_eq!(Users::read(&path).unwrap().len(), 1);
    }
}
