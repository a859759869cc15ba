//! The secret that opens the admin channel.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Random bytes of a token: nobody guesses so many.
const BYTES: usize = 32;
/// Its name in a data directory.
const FILE: &str = "admin-token";

/// The secret that opens the admin channel. It is written as hexadecimal digits, and never shown by `Debug`.
#[derive(Clone)]
pub struct Token(String);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file cannot be read or written.
    #[error("the admin token {0} cannot be read or made: {1}")]
    File(PathBuf, #[source] io::Error),
    /// What is in the file is no token.
    #[error("{0} has no admin token in it: remove it, and the broker makes a new one at its next start")]
    Invalid(PathBuf),
    /// The system has no randomness.
    #[error("the system gives no random bytes for an admin token: {0}")]
    Random(String),
}

impl Token {
    /// A new one.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::Random(error.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// One that somebody has at hand; `None` where the text cannot be one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token = text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Where a data directory has it.
    pub fn path(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// The one in a file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path).map_err(|error| TokenError::File(path.to_owned(), error))?;
        Self::new(&text).ok_or_else(|| TokenError::Invalid(path.to_owned()))
    }

    /// The one in a file, or a new one that is put there for its owner alone to read.
    pub fn read_or_create(path: &Path) -> Result<Self, TokenError> {
        match Self::read(path) {
            Err(TokenError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
            found => {
                warn_if_open(path);
                return found;
            }
        }
        let token = Self::generate()?;
        token.write(path).map_err(|error| TokenError::File(path.to_owned(), error))?;
        Ok(token)
    }

    /// Whole or not at all: the file gets its name when it is on the disk.
    fn write(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        // Left over by a process that was killed here.
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(format!("{}\n", self.0).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(unfinished, path)
    }

    /// Whether `presented` is this token: as long for every wrong one, so that the time says nothing.
    pub(crate) fn is(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Somebody has opened the file to others since it was made, or it came from elsewhere.
fn warn_if_open(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            "the admin token {0} can be read by others than its owner: `chmod 600 {0}`",
            path.display()
        );
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = Token::path(directory.path());
        let token = Token::read_or_create(&path).unwrap();
        assert_eq!(token.reveal().len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Token::read_or_create(&path).unwrap().is(token.reveal()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_ne!(Token::generate().unwrap().reveal(), token.reveal());
    }

    // [attack: user-probing]
    #[test]
    fn only_the_token_itself_is_the_token() {
        let token = Token::generate().unwrap();
        assert!(token.is(token.reveal()));
        for wrong in ["", "0", &token.reveal()[1..], &format!("{}0", token.reveal()), &"0".repeat(64)] {
            assert!(!token.is(wrong));
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_file_with_something_else_in_it_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = Token::path(directory.path());
        for text in ["", "secret", &"x".repeat(64)] {
            std::fs::write(&path, text).unwrap();
            let error = Token::read_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("admin-token") && error.contains("remove it"), "{error}");
        }
    }
}
