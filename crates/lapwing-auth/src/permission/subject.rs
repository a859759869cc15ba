//! Of whom rules speak.

use std::net::IpAddr;
use std::sync::Arc;

use lapwing_broker::Network;

use super::template::{Placeholder, Values};

/// What is known of a client, as far as rules speak of it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The client identifier.
    pub client_id: &'a str,
    /// The user name, if the client has shown that it is its own.
    pub user: Option<&'a str>,
    /// What else is known, by name. Groups are attributes with the name `group`.
    pub attributes: &'a [(Arc<str>, Arc<str>)],
    /// The name of the listener, empty for one without a name.
    pub listener: &'a str,
    /// The address of the other end.
    pub address: IpAddr,
}

/// The attribute that says in which groups a user is.
pub const GROUP: &str = "group";

impl<'s> Subject<'s> {
    /// The values of an attribute.
    pub fn attribute<'n>(&self, name: &'n str) -> impl Iterator<Item = &'s str> + use<'s, 'n> {
        self.attributes.iter().filter(move |(own, _)| &**own == name).map(|(_, value)| &**value)
    }
}

impl Values for Subject<'_> {
    fn each<'a>(&'a self, placeholder: &Placeholder, visit: &mut dyn FnMut(&'a str)) {
        match placeholder {
            Placeholder::ClientId => visit(self.client_id),
            Placeholder::User => self.user.into_iter().for_each(visit),
            Placeholder::Attribute(name) => self.attribute(name).for_each(visit),
        }
    }
}

/// Whom a rule is for. A client must meet each of the conditions that there are; of the values of one condition, any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// User names.
    pub users: Vec<Arc<str>>,
    /// Patterns of client identifiers.
    pub client_ids: Vec<Glob>,
    /// Attributes: for each name, values. Groups are among them.
    pub attributes: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// Names of listeners.
    pub listeners: Vec<Arc<str>>,
    /// Addresses.
    pub addresses: Vec<Network>,
    /// Whether it has not shown who it is.
    pub anonymous: Option<bool>,
}

/// What of a client does not meet a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// Its user name.
    User,
    /// Its client identifier.
    ClientId,
    /// The attribute with this name.
    Attribute(&'a str),
    /// Its listener.
    Listener,
    /// Its address.
    Address,
    /// It has, or has not, shown who it is.
    Anonymous,
}

impl Condition {
    /// Whether `subject` meets it.
    pub fn is_met(&self, subject: &Subject<'_>) -> bool {
        self.mismatches(subject).next().is_none()
    }

    /// What does not meet it.
    pub fn mismatches<'a>(&'a self, subject: &'a Subject<'_>) -> impl Iterator<Item = Mismatch<'a>> {
        let Self { users, client_ids, attributes, listeners, addresses, anonymous } = self;
        let any = |list: &[Arc<str>], value: &str| list.iter().any(|own| &**own == value);
        let user = !users.is_empty() && !subject.user.is_some_and(|user| any(users, user));
        let client_id =
            !client_ids.is_empty() && !client_ids.iter().any(|glob| glob.matches(subject.client_id));
        let listener = !listeners.is_empty() && !any(listeners, subject.listener);
        let address =
            !addresses.is_empty() && !addresses.iter().any(|network| network.contains(subject.address));
        let is_other = anonymous.is_some_and(|anonymous| anonymous != subject.user.is_none());
        let lacking = attributes
            .iter()
            .filter(move |(name, values)| !subject.attribute(name).any(|own| any(values, own)))
            .map(|(name, _)| Mismatch::Attribute(name));
        let others = [
            (user, Mismatch::User),
            (client_id, Mismatch::ClientId),
            (listener, Mismatch::Listener),
            (address, Mismatch::Address),
            (is_other, Mismatch::Anonymous),
        ];
        others.into_iter().filter_map(|(is_wrong, what)| is_wrong.then_some(what)).chain(lacking)
    }
}

/// A text in which `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// Every text is one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` fits the whole of it.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return &*self.0 == text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let mut pieces = rest.split('*');
        let Some(last) = pieces.next_back() else { return true };
        // The earliest place of each piece leaves the most for those behind it.
        for piece in pieces {
            match text.split_once(piece) {
                Some((_, behind)) => text = behind,
                None => return false,
            }
        }
        text.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (glob, yes, no) in [
            ("", &[""][..], &["a"][..]),
            ("door", &["door"], &["doors", "", "a door"]),
            ("door-*", &["door-", "door-1", "door-*"], &["door", "a-door-1"]),
            ("*-1", &["-1", "door-1", "-1-1"], &["-12"]),
            ("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb", "abcd"]),
            ("*a*", &["a", "xax"], &["", "x"]),
            ("*", &["", "x"], &[]),
            ("ab*bc", &["abbc"], &["abc"]),
            ("**", &["", "x"], &[]),
            ("ü*ß", &["üß", "üäß"], &["ü"]),
        ] {
            let matches = |text: &&&str| Glob::new(glob).matches(text);
            assert_eq!(yes.iter().find(|text| !matches(text)), None, "{glob} does not match");
            assert_eq!(no.iter().find(matches), None, "{glob} matches");
        }
    }

    #[test]
    fn a_client_meets_each_condition_with_any_value() {
        let attributes: Vec<(Arc<str>, Arc<str>)> =
            vec![("group".into(), "a".into()), ("group".into(), "b".into()), ("site".into(), "north".into())];
        let subject = Subject {
            client_id: "door-1",
            user: Some("anna"),
            attributes: &attributes,
            listener: "lan",
            address: [10, 0, 0, 1].into(),
        };
        let full = Condition {
            users: vec!["bert".into(), "anna".into()],
            client_ids: vec![Glob::new("door-*")],
            attributes: vec![
                ("group".into(), vec!["b".into(), "c".into()]),
                ("site".into(), vec!["north".into()]),
            ],
            listeners: vec!["lan".into()],
            addresses: vec!["10.0.0.0/8".parse().unwrap()],
            anonymous: Some(false),
        };
        assert!(full.is_met(&subject) && Condition::default().is_met(&subject));
        let stranger = Subject { user: None, attributes: &attributes[..1], ..subject };
        let wrong: Vec<_> = full.mismatches(&stranger).collect();
        let expected =
            [Mismatch::User, Mismatch::Anonymous, Mismatch::Attribute("group"), Mismatch::Attribute("site")];
        assert_eq!(wrong, expected);
        let elsewhere =
            Subject { listener: "", address: [11, 0, 0, 1].into(), client_id: "window", ..subject };
        let wrong: Vec<_> = full.mismatches(&elsewhere).collect();
        assert_eq!(wrong, [Mismatch::ClientId, Mismatch::Listener, Mismatch::Address]);
        let nobody = Condition { anonymous: Some(true), ..Condition::default() };
        assert!(nobody.is_met(&stranger) && !nobody.is_met(&subject));
    }
}
