//! The topics of a rule: topic filters in which placeholders stand for what is known of a client.

use std::fmt;

use lapwing_proto::topic::{TopicError, TopicFilter};

/// Levels that the topics of a rule may have. Nobody needs so many, and what looks at them goes as deep.
pub(super) const LEVELS_MAXIMUM: usize = 128;
/// Filters that one template may become, where attributes have several values.
const EXPANSIONS_MAXIMUM: usize = 64;

/// A topic filter with placeholders: `%c` for the client identifier, `%u` for the user name, `%{NAME}` for an attribute, `%%` for
/// a percent sign.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(Box<str>),
    Placeholder(Placeholder),
}

/// What stands for something that is known of a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `%c`.
    ClientId,
    /// `%u`.
    User,
    /// `%{NAME}`.
    Attribute(Box<str>),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It would be no topic filter.
    #[error("'{0}' is no topic filter: {1}")]
    Filter(String, TopicError),
    /// A `%` with something else behind it.
    #[error("'{0}' has a '%' that begins none of %c, %u, %{{NAME}} and %%")]
    Placeholder(String),
    /// A shared subscription is a way to subscribe, and no topic.
    #[error("'{0}' names a shared subscription; a rule names topics, and holds for shared subscriptions too")]
    Shared(String),
    /// It has too many levels.
    #[error("'{0}' has more than 128 levels")]
    TooDeep(String),
}

/// What is put in for placeholders.
pub trait Values {
    /// Calls `visit` with each value of a placeholder.
    fn each<'a>(&'a self, placeholder: &Placeholder, visit: &mut dyn FnMut(&'a str));
}

/// What becomes of a placeholder whose value cannot stand in a topic: because there is none, or it would be more than one level, or
/// a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The template matches nothing: so it must be where it allows something.
    Nothing,
    /// Any level matches: so it must be where it denies something.
    AnyLevel,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// If it would not be a topic filter, whatever is put in.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut sample = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('%') {
            plain.push_str(before);
            let wrong = || TemplateError::Placeholder(text.to_owned());
            let (placeholder, behind) = match behind.chars().next() {
                Some('%') => {
                    plain.push('%');
                    rest = &behind[1..];
                    continue;
                }
                Some('c') => (Placeholder::ClientId, &behind[1..]),
                Some('u') => (Placeholder::User, &behind[1..]),
                Some('{') => {
                    let (name, behind) = behind[1..].split_once('}').ok_or_else(wrong)?;
                    if name.is_empty() || name.contains(['{', '%', '/']) {
                        return Err(wrong());
                    }
                    (Placeholder::Attribute(name.into()), behind)
                }
                _ => return Err(wrong()),
            };
            sample.push_str(&plain);
            sample.push('x');
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Placeholder(placeholder));
            rest = behind;
        }
        plain.push_str(rest);
        sample.push_str(&plain);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        let filter =
            TopicFilter::new(&sample).map_err(|error| TemplateError::Filter(text.to_owned(), error))?;
        if filter.share_name().is_some() {
            return Err(TemplateError::Shared(text.to_owned()));
        }
        if filter.levels().count() > LEVELS_MAXIMUM {
            return Err(TemplateError::TooDeep(text.to_owned()));
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// A template of a text in which `%` has no meaning.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn verbatim(text: &str) -> Result<Self, TemplateError> {
        Self::new(&text.replace('%', "%%"))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is the same for all clients.
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The topic filters that it is for a client: none, one, or several where a placeholder has several values.
    pub fn expand(&self, values: &dyn Values, unusable: Unusable) -> Vec<String> {
        let mut filters = vec![String::new()];
        for part in &self.parts {
            match part {
                Part::Text(text) => filters.iter_mut().for_each(|filter| filter.push_str(text)),
                Part::Placeholder(placeholder) => {
                    filters = put_in(&filters, &usable(placeholder, values, unusable), unusable);
                }
            }
        }
        if unusable == Unusable::AnyLevel {
            filters.iter_mut().for_each(|filter| *filter = widened(filter));
        }
        // A value can make a name of a system of its own, or a filter that is too long.
        filters.retain(|filter| {
            let is_moved = filter.starts_with('$') && !self.text.starts_with('$');
            (unusable == Unusable::AnyLevel || !is_moved)
                && TopicFilter::new(filter).is_ok_and(|filter| filter.share_name().is_none())
        });
        filters
    }
}

/// Stands for any level until the filter is complete: no value can have it.
const ANY: char = '\0';

fn put_in(filters: &[String], values: &[&str], unusable: Unusable) -> Vec<String> {
    let is_usable = !values.is_empty() && filters.len() * values.len() <= EXPANSIONS_MAXIMUM;
    match (is_usable, unusable) {
        (true, _) => {
            let with = |filter: &String| {
                let filter = filter.clone();
                values.iter().map(move |value| format!("{filter}{value}"))
            };
            filters.iter().flat_map(with).collect()
        }
        (false, Unusable::Nothing) => Vec::new(),
        (false, Unusable::AnyLevel) => filters.iter().map(|filter| format!("{filter}{ANY}")).collect(),
    }
}

/// The values that are one level and no wildcard. Where something is denied, one that is not makes all of them useless.
fn usable<'a>(placeholder: &Placeholder, values: &'a dyn Values, unusable: Unusable) -> Vec<&'a str> {
    let (mut found, mut is_clean) = (Vec::new(), true);
    values.each(placeholder, &mut |value| {
        if value.is_empty() || value.contains(['+', '#', '/', '\0']) {
            is_clean = false;
        } else if !found.contains(&value) {
            found.push(value);
        }
    });
    if is_clean || unusable == Unusable::Nothing { found } else { Vec::new() }
}

/// Every level with [`ANY`] in it becomes a wildcard.
fn widened(filter: &str) -> String {
    let levels = filter.split('/').map(|level| if level.contains(ANY) { "+" } else { level });
    levels.collect::<Vec<_>>().join("/")
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known<'a>(&'a str, Option<&'a str>, &'a [(&'a str, &'a str)]);

    impl Values for Known<'_> {
        fn each<'a>(&'a self, placeholder: &Placeholder, visit: &mut dyn FnMut(&'a str)) {
            match placeholder {
                Placeholder::ClientId => visit(self.0),
                Placeholder::User => self.1.into_iter().for_each(visit),
                Placeholder::Attribute(name) => {
                    self.2.iter().filter(|(own, _)| *own == &**name).for_each(|(_, value)| visit(value));
                }
            }
        }
    }

    fn expand(text: &str, known: &Known<'_>, unusable: Unusable) -> Vec<String> {
        Template::new(text).unwrap().expand(known, unusable)
    }

    // [attack: missing-user-name]
    #[test]
    fn placeholders_become_what_is_known_of_a_client() {
        let known = Known("door", Some("anna"), &[("site", "north"), ("site", "south"), ("room", "1")]);
        for (text, expected) in [
            ("a/%c/#", &["a/door/#"][..]),
            ("%u", &["anna"]),
            ("100%%/%c-%u/+", &["100%/door-anna/+"]),
            ("%{site}/%{room}", &["north/1", "south/1"]),
            ("plain/+", &["plain/+"]),
            ("%{nothing}/a", &[]),
            ("$SYS/%u", &["$SYS/anna"]),
        ] {
            assert_eq!(expand(text, &known, Unusable::Nothing), expected, "{text}");
        }
        assert_eq!(expand("a/%{nothing}-%c/b", &known, Unusable::AnyLevel), ["a/+/b"]);
        let nameless = Known("door", None, &[]);
        assert_eq!(expand("a/%u/#", &nameless, Unusable::Nothing), [""; 0]);
        assert_eq!(expand("a/%u/#", &nameless, Unusable::AnyLevel), ["a/+/#"]);
    }

    /// A client whose name is a wildcard is not allowed what the others are (CVE-2017-7650), and what is denied to them
    /// is denied to it too.
    // [attack: wildcard-in-name]
    #[test]
    fn a_value_never_widens_what_is_allowed_nor_narrows_what_is_denied() {
        for value in ["+", "#", "a/b", "a/#", "", "x+", "#x", "\0", "a\0"] {
            let known = Known(value, Some(value), &[]);
            for text in ["a/%c/#", "%c", "a/x%u", "%c/%u"] {
                assert_eq!(expand(text, &known, Unusable::Nothing), [""; 0], "{text} {value:?}");
            }
            assert_eq!(expand("a/%c/#", &known, Unusable::AnyLevel), ["a/+/#"], "{value:?}");
            assert_eq!(expand("a/x%u", &known, Unusable::AnyLevel), ["a/+"], "{value:?}");
        }
        let some = Known("c", None, &[("g", "one"), ("g", "+")]);
        assert_eq!(expand("%{g}/x", &some, Unusable::Nothing), ["one/x"]);
        assert_eq!(expand("%{g}/x", &some, Unusable::AnyLevel), ["+/x"]);
    }

    // [attack: wildcard-in-name]
    #[test]
    fn nobody_names_himself_into_the_topics_of_the_system() {
        let known = Known("$SYS", Some("$share"), &[]);
        assert_eq!(expand("%c/#", &known, Unusable::Nothing), [""; 0]);
        assert_eq!(expand("%c/#", &known, Unusable::AnyLevel), ["$SYS/#"]);
        assert_eq!(expand("%u/g/x", &known, Unusable::Nothing), [""; 0]);
        assert_eq!(expand("a/%c", &known, Unusable::Nothing), ["a/$SYS"]);
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again_and_is_not_without_end() {
        let known = Known("%u", Some("%c"), &[]);
        assert_eq!(expand("%c/%u", &known, Unusable::Nothing), ["%u/%c"]);
        let names: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| ("g", name.as_str())).collect();
        assert_eq!(expand("%{g}", &Known("c", None, &many), Unusable::Nothing).len(), 0);
        assert_eq!(expand("%{g}", &Known("c", None, &many), Unusable::AnyLevel), ["+"]);
        assert_eq!(expand("%{g}", &Known("c", None, &many[1..]), Unusable::Nothing).len(), 64);
        assert_eq!(expand("%c", &Known(&"x".repeat(70_000), None, &[]), Unusable::Nothing).len(), 0);
    }

    #[test]
    fn a_text_that_is_no_template_is_said() {
        for (text, expected) in [
            ("", "no topic filter"),
            ("a/#/b", "'#' must be"),
            ("a/+%c", "'+' must be"),
            ("%c#", "'#' must be"),
            ("a/%x", "begins none of"),
            ("a/%", "begins none of"),
            ("a/%{}", "begins none of"),
            ("a/%{b", "begins none of"),
            ("$share/g/a", "shared subscription"),
            (&"/".repeat(128), "128 levels"),
        ] {
            let error = Template::new(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Template::new(&"/".repeat(127)).is_ok());
        assert_eq!(Template::verbatim("%c/100%").unwrap().as_str(), "%%c/100%%");
        assert!(Template::verbatim("%c").unwrap().is_fixed());
    }
}
