use std::fmt;

use super::TopicError;

/// A valid topic name: what a message is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text`: not empty, at most 65,535 bytes, no U+0000, no wildcard.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(TopicError::TooLong);
        }
        match memchr::memchr3(0, b'+', b'#', text.as_bytes()) {
            None => Ok(Self(text)),
            Some(at) if text.as_bytes()[at] == 0 => Err(TopicError::Null),
            Some(_) => Err(TopicError::WildcardInName),
        }
    }

    /// The name as text.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels, separated by `/`; there is at least one, and a level may be empty.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Whether the name starts with `$`, so that no leading wildcard matches it `[MQTT-4.7.2-1]`.
    pub fn is_system(self) -> bool {
        self.0.as_bytes()[0] == b'$'
    }

    /// An owned copy.
    pub fn to_buf(self) -> TopicNameBuf {
        TopicNameBuf(self.0.into())
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An owned [`TopicName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNameBuf(Box<str>);

impl TopicNameBuf {
    /// As [`TopicName::new`], keeping the text.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, TopicError> {
        let text = text.into();
        TopicName::new(&text)?;
        Ok(Self(text))
    }

    /// The borrowed form.
    pub fn as_name(&self) -> TopicName<'_> {
        TopicName(&self.0)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicNameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
