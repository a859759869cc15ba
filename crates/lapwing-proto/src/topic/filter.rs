use std::fmt;

use super::{TopicError, TopicName};

/// A valid topic filter: what a client subscribes to. It may name a shared subscription
/// (`$share/NAME/FILTER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

/// The name of a group of clients that share a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName<'a>(&'a str);

const SHARE: &str = "$share/";

impl<'a> TopicFilter<'a> {
    /// Checks `text`: not empty, at most 65,535 bytes, no U+0000, wildcards only as whole levels, `#`
    /// only last, and a `$share` filter with a name and a filter behind it.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(TopicError::TooLong);
        }
        if memchr::memchr(0, text.as_bytes()).is_some() {
            return Err(TopicError::Null);
        }
        let pattern = match text.strip_prefix(SHARE) {
            None if text == "$share" => return Err(TopicError::InvalidShare),
            None => text,
            Some(shared) => {
                let (name, pattern) = shared.split_once('/').ok_or(TopicError::InvalidShare)?;
                if name.is_empty() || pattern.is_empty() || name.contains(['+', '#']) {
                    return Err(TopicError::InvalidShare);
                }
                pattern
            }
        };
        check_wildcards(pattern)?;
        Ok(Self(text))
    }

    /// The filter as text, with its `$share/NAME/` if it has one.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The group's name, if the subscription is shared.
    pub fn share_name(self) -> Option<ShareName<'a>> {
        let (name, _) = self.0.strip_prefix(SHARE)?.split_once('/')?;
        Some(ShareName(name))
    }

    /// What is matched against topic names: the filter without `$share/NAME/`.
    pub fn pattern(self) -> &'a str {
        match self.0.strip_prefix(SHARE).and_then(|shared| shared.split_once('/')) {
            Some((_, pattern)) => pattern,
            None => self.0,
        }
    }

    /// The levels of [`pattern`](Self::pattern).
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.pattern().split('/')
    }

    /// Whether the pattern has a wildcard.
    pub fn has_wildcard(self) -> bool {
        memchr::memchr2(b'+', b'#', self.pattern().as_bytes()).is_some()
    }

    /// Whether a message published to `name` is selected.
    pub fn matches(self, name: TopicName<'_>) -> bool {
        let pattern = self.pattern();
        if name.is_system() && pattern.starts_with(['+', '#']) {
            return false; // [MQTT-4.7.2-1]
        }
        let mut levels = name.levels();
        for wanted in pattern.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// An owned copy.
    pub fn to_buf(self) -> TopicFilterBuf {
        TopicFilterBuf(self.0.into())
    }
}

fn check_wildcards(pattern: &str) -> Result<(), TopicError> {
    let mut at_hash = false;
    for level in pattern.split('/') {
        if at_hash {
            return Err(TopicError::MisplacedHash);
        }
        match memchr::memchr2(b'+', b'#', level.as_bytes()) {
            None => {}
            Some(_) if level == "#" => at_hash = true,
            Some(_) if level == "+" => {}
            Some(_) if level.contains('#') => return Err(TopicError::MisplacedHash),
            Some(_) => return Err(TopicError::MisplacedPlus),
        }
    }
    Ok(())
}

impl<'a> ShareName<'a> {
    /// The name as text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An owned [`TopicFilter`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilterBuf(Box<str>);

impl TopicFilterBuf {
    /// As [`TopicFilter::new`], keeping the text.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, TopicError> {
        let text = text.into();
        TopicFilter::new(&text)?;
        Ok(Self(text))
    }

    /// The borrowed form.
    pub fn as_filter(&self) -> TopicFilter<'_> {
        TopicFilter(&self.0)
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicFilterBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
