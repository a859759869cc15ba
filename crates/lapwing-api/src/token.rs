//! The secret that opens the admin channel.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::SHA256;

/// Random bytes of a token: nobody guesses so many.
const BYTES: usize = 32;
/// What a token begins with, so that whoever looks for secrets in files and logs finds it. Earlier ones have none.
const PREFIX: &str = "lw_";
/// Its name in a data directory.
const FILE: &str = "admin-token";

/// The secret that opens the admin channel. It is written as `lw_` and hexadecimal digits, and never shown by `Debug`.
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
    /// What is in the file is no list of tokens.
    #[error("{0} is no list of tokens: {1}")]
    List(PathBuf, String),
    /// The system has no randomness.
    #[error("the system gives no random bytes for an admin token: {0}")]
    Random(String),
}

impl Token {
    /// A new one.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::Random(error.to_string()))?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{PREFIX}{digits}")))
    }

    /// One that somebody has at hand; `None` where the text cannot be one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.strip_prefix(PREFIX).unwrap_or(text);
        let is_token = digits.len() == 2 * BYTES && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
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
        let line = format!("{}\n", token.0);
        write_private(path, line.as_bytes()).map_err(|error| TokenError::File(path.to_owned(), error))?;
        Ok(token)
    }

    /// What is kept of it where the secret itself is not.
    pub(crate) fn digest(&self) -> Digest {
        digest(&self.0)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of a token. There is no way back: a token has too much randomness for anybody to try them all, so it
/// needs none of the slow hashes that passwords do.
pub(crate) type Digest = [u8; 32];

/// That of what somebody presents. Comparing digests says nothing of how much of a wrong token was right.
pub(crate) fn digest(presented: &str) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, presented.as_bytes()).as_ref());
    digest
}

/// Writes a file for its owner alone, whole or not at all: it gets its name when it is on the disk.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    // Left over by a process that was killed here.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
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
        assert_eq!(token.reveal().len(), 3 + 64);
        assert!(token.reveal().starts_with("lw_"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::read_or_create(&path).unwrap().reveal(), token.reveal());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_ne!(Token::generate().unwrap().reveal(), token.reveal());
    }

    // [attack: user-probing]
    #[test]
    fn a_token_of_an_earlier_version_is_still_one() {
        let earlier = "0A".repeat(32);
        assert_eq!(Token::new(&earlier).unwrap().reveal(), earlier.to_lowercase());
        assert!(Token::new(&format!("lw_{earlier}")).is_some());
        for wrong in ["", "lw_", &earlier[1..], &format!("lw_{earlier}0"), &format!("lx_{earlier}")] {
            assert!(Token::new(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{:?}", Token::generate().unwrap()), "Token(..)");
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
