//! What is wrong with a file, with the place.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a file of users, keys or rules cannot be used. It names the file and, where there is one, the line; and never a secret.
#[derive(Debug, thiserror::Error)]
pub struct FileError {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl FileError {
    /// Something about the whole of a file.
    pub(crate) fn new(path: &Path, message: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line: None, message: message.to_string() }
    }

    /// Something in a line, counted from 1.
    pub(crate) fn at(path: &Path, line: usize, message: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line: Some(line), message: message.to_string() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line, counted from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A text with the places of its lines.
pub(crate) struct Source<'a> {
    path: &'a Path,
    line_ends: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a Path, text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        Self { path, line_ends: ends.map(|(at, _)| at).collect() }
    }

    /// The line of a place in the text, counted from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.line_ends.partition_point(|&end| end < at)
    }

    pub(crate) fn error(&self, span: Option<Range<usize>>, message: impl fmt::Display) -> FileError {
        FileError {
            path: self.path.to_owned(),
            line: span.map(|span| self.line(span.start)),
            message: message.to_string(),
        }
    }

    /// What the TOML reader says, without the lines of the file that it would show.
    pub(crate) fn toml(&self, error: &toml::de::Error) -> FileError {
        let message =
            error.message().replace("unknown field", "unknown key").replace("missing field", "missing key");
        self.error(error.span(), message)
    }

    /// The same for a file with secrets: a value is not shown either.
    pub(crate) fn toml_with_secrets(&self, error: &toml::de::Error) -> FileError {
        if error.message().starts_with("invalid") {
            return self.error(error.span(), "a value is of another kind than it must be");
        }
        self.toml(error)
    }
}

/// Reads the whole of a file as text.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let bytes =
        std::fs::read(path).map_err(|error| FileError::new(path, format_args!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        FileError::at(path, line, "is not UTF-8 text")
    })
}
