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
    /// Checks `text`: not empty `[MQTT-4.7.3-1]`, at most 65,535 bytes `[MQTT-4.7.3-3]`, no U+0000
    /// `[MQTT-4.7.3-2]`, wildcards only as whole levels, `#` only last `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`,
    /// and behind `$share/` a name and a filter `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`. `$share` alone is
    /// refused as well: it can only be a shared subscription that lost its rest.
    ///
    /// # Errors
    ///
    /// The first of these that does not hold.
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

    /// Whether a message published to `name` is selected. For a shared filter, whether it is for the group.
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

impl fmt::Display for ShareName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).unwrap()
    }

    fn matches(pattern: &str, name: &str) -> bool {
        filter(pattern).matches(TopicName::new(name).unwrap())
    }

    // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
    // 3.1.1 [MQTT-4.7.1-2], [MQTT-4.7.1-3]
    #[test]
    fn wildcards_are_whole_levels() {
        for text in ["#", "+", "a/#", "+/#", "+/a/+", "/+", "+/", "/", "//#", "a b", "$SYS/#", "ä/+/é"] {
            assert!(TopicFilter::new(text).is_ok(), "{text}");
        }
        for text in ["a#", "#a", "a/#/b", "#/", "##", "#/#", "a/#b", "+#", "#+", "a/b#"] {
            assert_eq!(TopicFilter::new(text), Err(TopicError::MisplacedHash), "{text}");
        }
        for text in ["a+", "+a", "++", "a/b+/c", "a/+b", "$share/g/a+"] {
            assert_eq!(TopicFilter::new(text), Err(TopicError::MisplacedPlus), "{text}");
        }
    }

    // [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3]
    // 3.1.1 [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3]
    #[test]
    fn text_has_bounds() {
        assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::new("a\0/+"), Err(TopicError::Null));
        assert_eq!(TopicFilter::new("$share/a\0/+"), Err(TopicError::Null));
        assert!(TopicFilter::new(&"/".repeat(65_535)).is_ok());
        assert_eq!(TopicFilter::new(&"/".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(TopicFilter::new(&"é".repeat(32_768)), Err(TopicError::TooLong), "bytes are counted");
    }

    // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[test]
    fn a_shared_filter_has_a_name_and_a_filter() {
        for text in ["$share", "$share/", "$share/a", "$share/a/", "$share//x", "$share//", "$share///"] {
            assert_eq!(TopicFilter::new(text), Err(TopicError::InvalidShare), "{text}");
        }
        for text in ["$share/+/x", "$share/a#/x", "$share/#/x", "$share/#", "$share/a+b/x"] {
            assert_eq!(TopicFilter::new(text), Err(TopicError::InvalidShare), "{text}");
        }
        assert_eq!(TopicFilter::new("$share/g/#/a"), Err(TopicError::MisplacedHash));
        for (text, pattern) in [
            ("$share/g/#", "#"),
            ("$share/g//", "/"),
            ("$share/g/$share/h/x", "$share/h/x"),
            ("$share/$/+", "+"),
        ] {
            let filter = filter(text);
            assert_eq!((filter.as_str(), filter.pattern()), (text, pattern));
            assert_eq!(
                filter.share_name().map(|name| name.to_string()),
                text.split('/').nth(1).map(str::to_owned)
            );
        }
    }

    // [attack: dollar-topic]
    #[test]
    fn what_only_resembles_a_share_is_an_ordinary_filter() {
        for text in ["$shared/x", "$shar/e", "share/a", "$SHARE/a", "a/$share/b", "/$share"] {
            assert_eq!((filter(text).share_name(), filter(text).pattern()), (None, text));
        }
        assert!(matches("$shared/+", "$shared/x"));
    }

    // [MQTT-4.7.2-1], [MQTT-4.7.3-4]
    // 3.1.1 [MQTT-4.7.2-1], [MQTT-4.7.3-4]
    #[test]
    fn matches_by_the_rules_of_the_specification() {
        for (pattern, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("sport/+", "sport/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("#", "/"),
            ("//#", "/"),
            ("$share/g/#", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("sport/#", "sports"),
            ("a", "A"),
            ("a", "a/"),
            ("a/", "a"),
            ("/a", "a"),
            ("#", "$SYS"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("$share/g/#", "$SYS/a"),
            ("$share/g/a", "$share/g/a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn knows_its_wildcards_and_levels() {
        assert!(
            filter("a/+").has_wildcard() && filter("#").has_wildcard() && filter("$share/g/#").has_wildcard()
        );
        assert!(!filter("a/b").has_wildcard() && !filter("$share/g/b").has_wildcard());
        assert!(filter("$share/g/a//+").levels().eq(["a", "", "+"]));
    }

    #[test]
    fn the_owned_form_is_the_same() {
        let owned = TopicFilterBuf::new("$share/g/a/+").unwrap();
        assert_eq!(owned.as_filter(), filter("$share/g/a/+"));
        assert_eq!(owned, owned.as_filter().to_buf());
        assert_eq!(TopicFilterBuf::new("a+"), Err(TopicError::MisplacedPlus));
        assert_eq!(owned.to_string(), owned.as_str());
    }
}
