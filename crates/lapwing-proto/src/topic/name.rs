use std::fmt;

use super::TopicError;

/// A valid topic name: what a message is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text`: not empty `[MQTT-4.7.3-1]`, at most 65,535 bytes `[MQTT-4.7.3-3]`, no U+0000
    /// `[MQTT-4.7.3-2]`, no wildcard `[MQTT-3.3.2-2]`. All else is allowed, and nothing is normalized
    /// `[MQTT-4.7.3-4]`.
    ///
    /// # Errors
    ///
    /// What of this does not hold.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(TopicError::TooLong);
        }
        if !may_have_special(text.as_bytes()) {
            return Ok(Self(text));
        }
        match memchr::memchr3(0, b'+', b'#', text.as_bytes()) {
            None => Ok(Self(text)),
            Some(at) if text.as_bytes()[at] == 0 => Err(TopicError::Null),
            Some(_) => Err(TopicError::WildcardInName),
        }
    }

    /// For text that was a name before.
    pub(super) fn from_valid(text: &'a str) -> Self {
        debug_assert!(Self::new(text).is_ok());
        Self(text)
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

/// Whether there may be a character that no name has: `true` wherever there is one, and for text of less than eight
/// or more than 128 bytes. Most names are of a length for which this costs less than the way into a search.
#[inline]
fn may_have_special(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks();
    let Some(last) = bytes.last_chunk().filter(|_| chunks.len() <= 16) else { return true };
    if !rest.is_empty() && has_special(last) {
        return true;
    }
    chunks.iter().any(has_special)
}

fn has_special(chunk: &[u8; 8]) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    let word = u64::from_ne_bytes(*chunk);
    // '+' is 0x2b, and '#' differs in one bit alone.
    let sign = (word | (EACH * 0b1000)) ^ (EACH * 0x2b);
    // A byte's highest bit tells whether it or one before it was zero.
    let zeros = (word.wrapping_sub(EACH) & !word) | (sign.wrapping_sub(EACH) & !sign);
    zeros & (EACH << 7) != 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_special_character_is_found_anywhere() {
        for len in (1..40).chain(120..140) {
            for filler in ["x", "*", ",", "\"", "$", "\u{1}", "\u{3}", "\u{b}", "\u{7f}"] {
                let text = filler.repeat(len);
                assert_eq!(TopicName::new(&text), Ok(TopicName(&text)));
                for at in 0..len {
                    for (special, error) in [
                        ("\0", TopicError::Null),
                        ("+", TopicError::WildcardInName),
                        ("#", TopicError::WildcardInName),
                    ] {
                        let mut text = text.clone();
                        text.replace_range(at..=at, special);
                        assert_eq!(TopicName::new(&text), Err(error), "{text:?}");
                    }
                }
            }
            let text = "é\u{ff}\u{a3}\u{ab}€𐀀".repeat(len);
            assert_eq!(TopicName::new(&text), Ok(TopicName(&text)));
        }
    }

    // [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-2]
    // 3.1.1 [MQTT-3.3.2-2], [MQTT-4.7.1-1], [MQTT-4.7.3-2]
    #[test]
    fn all_but_wildcards_and_null_is_allowed() {
        for text in ["a", "/", "//", " ", "$SYS/a", "$share/g/a", "\u{1}", "温度/1", "a\u{fffe}"] {
            let name = TopicName::new(text).unwrap();
            assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
            assert!(name.levels().eq(text.split('/')));
            assert_eq!(name.is_system(), text.starts_with('$'));
        }
        for text in ["+", "#", "a/+", "a/b#", "a+b"] {
            assert_eq!(TopicName::new(text), Err(TopicError::WildcardInName));
        }
        assert_eq!(TopicName::new("a\0"), Err(TopicError::Null));
    }

    // [MQTT-4.7.3-1], [MQTT-4.7.3-3]
    // 3.1.1 [MQTT-4.7.3-1], [MQTT-4.7.3-3]
    #[test]
    fn length_has_bounds() {
        assert_eq!(TopicName::new(""), Err(TopicError::Empty));
        assert!(TopicName::new(&"x".repeat(65_535)).is_ok());
        assert_eq!(TopicName::new(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(TopicName::new(&"é".repeat(32_768)), Err(TopicError::TooLong), "bytes are counted");
    }

    #[test]
    fn the_owned_form_is_the_same() {
        let owned = TopicNameBuf::new("a//b").unwrap();
        assert_eq!(owned.as_name(), TopicName::new("a//b").unwrap());
        assert_eq!(owned, owned.as_name().to_buf());
        assert_eq!(TopicNameBuf::new("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(owned.to_string(), owned.as_str());
    }
}
