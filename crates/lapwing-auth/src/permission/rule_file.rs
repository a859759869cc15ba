//! Rules as they are written in a file of ours.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lapwing_proto::packet::QoS;
use serde::Deserialize;
use toml::Spanned;

use super::rule::{Actions, Effect, Messages, Rule};
use super::ruleset::Subscriptions;
use super::subject::{Condition, GROUP, Glob};
use super::template::Template;
use crate::fault::{FileError, Source};
use crate::many::Many;

/// What a file of rules says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleFile {
    /// In their order.
    pub rules: Vec<Rule>,
    /// Which subscriptions are accepted.
    pub subscriptions: Subscriptions,
}

/// Rules that one file may have.
pub(super) const RULES_MAXIMUM: usize = 1_000_000;

impl RuleFile {
    /// Reads the text of a file. `path` is for what is said of it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line. A text without rules is fine, and allows nothing.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let source = Source::new(path, text);
        let raw: RawFile = toml::from_str(text).map_err(|error| source.toml(&error))?;
        if raw.rule.len() > RULES_MAXIMUM {
            return Err(FileError::new(path, format_args!("has more than {RULES_MAXIMUM} rules")));
        }
        let rules = raw.rule.into_iter().map(|rule| read(rule, &source));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, subscriptions: raw.subscriptions })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    subscriptions: Subscriptions,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    allow: Option<Spanned<Many>>,
    deny: Option<Spanned<Many>>,
    topics: Spanned<Many>,
    user: Option<Spanned<Many>>,
    group: Option<Spanned<Many>>,
    client_id: Option<Spanned<Many>>,
    attribute: Option<BTreeMap<String, Spanned<Many>>>,
    listener: Option<Spanned<Many>>,
    address: Option<Spanned<Many>>,
    anonymous: Option<bool>,
    qos_maximum: Option<Spanned<u8>>,
    retain: Option<Spanned<bool>>,
}

fn read(raw: RawRule, source: &Source<'_>) -> Result<Rule, FileError> {
    let (effect, names) = match (raw.allow, raw.deny) {
        (Some(names), None) => (Effect::Allow, names),
        (None, Some(names)) => (Effect::Deny, names),
        (Some(_), Some(names)) => {
            return Err(source.error(Some(names.span()), "a rule has `allow` or `deny`, not both"));
        }
        (None, None) => {
            let message = "a rule has `allow` or `deny`; this one has neither";
            return Err(source.error(Some(raw.topics.span()), message));
        }
    };
    let line = source.line(names.span().start);
    let actions = actions(&names, source)?;
    let topics = each(raw.topics, source, |text| Template::new(&text))?;
    let condition = Condition {
        users: texts(raw.user, source)?,
        client_ids: optional(raw.client_id, source, |text| Ok::<_, String>(Glob::new(&text)))?,
        attributes: attributes(raw.group, raw.attribute, source)?,
        listeners: texts(raw.listener, source)?,
        addresses: optional(raw.address, source, |text| text.parse())?,
        anonymous: raw.anonymous,
    };
    if condition.anonymous == Some(true) && !condition.users.is_empty() {
        return Err(source.error(Some(names.span()), "a client that is anonymous has no `user`"));
    }
    let messages = messages(raw.qos_maximum, raw.retain, effect, actions, source)?;
    Ok(Rule { line, effect, actions, topics, condition, messages })
}

fn actions(names: &Spanned<Many>, source: &Source<'_>) -> Result<Actions, FileError> {
    let mut actions = Actions::default();
    for name in &names.get_ref().0 {
        match &**name {
            "publish" => actions.publish = true,
            "subscribe" => actions.subscribe = true,
            "receive" => actions.receive = true,
            "pubsub" => (actions.publish, actions.subscribe) = (true, true),
            other => {
                let message =
                    format!("'{other}' is no action; there are publish, subscribe, receive and pubsub");
                return Err(source.error(Some(names.span()), message));
            }
        }
    }
    if actions == Actions::default() {
        return Err(source.error(Some(names.span()), "the list of actions is empty"));
    }
    Ok(actions)
}

fn messages(
    qos_maximum: Option<Spanned<u8>>,
    retain: Option<Spanned<bool>>,
    effect: Effect,
    actions: Actions,
    source: &Source<'_>,
) -> Result<Messages, FileError> {
    let span = qos_maximum.as_ref().map(Spanned::span).or(retain.as_ref().map(Spanned::span));
    if span.is_some() && (!actions.publish || actions.is_of_reception()) {
        let message = "`qos_maximum` and `retain` speak of messages that are published: only of rules with `publish` alone";
        return Err(source.error(span, message));
    }
    let qos_maximum = match qos_maximum {
        None => None,
        Some(qos) if effect == Effect::Deny => {
            let message =
                "a rule that denies messages up to a QoS would leave those above it; write what is allowed";
            return Err(source.error(Some(qos.span()), message));
        }
        Some(qos) => {
            let wrong = || source.error(Some(qos.span()), "a quality of service is 0, 1 or 2");
            Some(QoS::from_bits(*qos.get_ref()).ok_or_else(wrong)?)
        }
    };
    Ok(Messages { qos_maximum, retain: retain.map(Spanned::into_inner) })
}

/// The name of an attribute, and values of which one must be there.
type NamedValues = (Arc<str>, Vec<Arc<str>>);

fn attributes(
    group: Option<Spanned<Many>>,
    attribute: Option<BTreeMap<String, Spanned<Many>>>,
    source: &Source<'_>,
) -> Result<Vec<NamedValues>, FileError> {
    let group = group.map(|values| (GROUP.to_owned(), values));
    let all = group.into_iter().chain(attribute.into_iter().flatten());
    all.map(|(name, values)| Ok((name.into(), texts(Some(values), source)?))).collect()
}

fn texts(many: Option<Spanned<Many>>, source: &Source<'_>) -> Result<Vec<Arc<str>>, FileError> {
    optional(many, source, |text| Ok::<_, String>(text.into()))
}

/// A condition that is not there is met by everybody; one with an empty list would be met by nobody, or so one thinks.
fn optional<T, E: fmt::Display>(
    many: Option<Spanned<Many>>,
    source: &Source<'_>,
    parse: impl Fn(String) -> Result<T, E>,
) -> Result<Vec<T>, FileError> {
    many.map_or(Ok(Vec::new()), |many| each(many, source, parse))
}

fn each<T, E: fmt::Display>(
    many: Spanned<Many>,
    source: &Source<'_>,
    parse: impl Fn(String) -> Result<T, E>,
) -> Result<Vec<T>, FileError> {
    let span = many.span();
    let texts = many.into_inner().0;
    if texts.is_empty() {
        return Err(source.error(Some(span), "the list is empty"));
    }
    let parse = |text| parse(text).map_err(|error| source.error(Some(span.clone()), error));
    texts.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RuleFile, String> {
        RuleFile::parse(Path::new("acl.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_says_what_was_written() {
        let file = parse(
            r#"
            # Doors say what happens to them.
            [[rule]]
            allow = "publish"
            topics = ["door/%c/#", "log/%u"]
            group = ["doors", "gates"]
            client_id = "door-*"
            qos_maximum = 1
            retain = false

            [[rule]]
            deny = ["pubsub", "receive"]
            topics = "secret/#"
            user = "anna"
            attribute = { site = ["north", "south"] }
            listener = "lan"
            address = ["10.0.0.0/8", "::1"]
            anonymous = false
            "#,
        )
        .unwrap();
        let lines: Vec<_> = file.rules.iter().map(|rule| (rule.line, rule.to_string())).collect();
        let expected = [
            (
                4,
                "allow publish door/%c/#, log/%u up to QoS 1 without RETAIN for client_id door-*, group doors or gates",
            ),
            (
                12,
                "deny publish, subscribe, receive secret/# for user anna, attribute site north or south, listener lan, \
                 address 10.0.0.0/8 or ::1, who is not anonymous",
            ),
        ];
        assert_eq!(lines, expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(file.subscriptions, Subscriptions::Allowed);
        assert_eq!(parse("subscriptions = 'any'").unwrap().subscriptions, Subscriptions::Any);
        assert_eq!(parse("# nothing\n").unwrap(), RuleFile::default());
    }

    // [attack: faulty-rules]
    #[test]
    fn what_is_wrong_has_a_line() {
        for (text, line, expected) in [
            ("[[rule]]\nallow = 'publish'\n", 1, "missing key `topics`"),
            ("[[rule]]\nallow = 'publish'\ntopics = 'a/#/b'\n", 3, "'a/#/b' is no topic filter"),
            ("[[rule]]\nallow = 'publish'\ntopics = ['a', '%x']\n", 3, "'%x'"),
            ("[[rule]]\nallow = 'publish'\ntopics = []\n", 3, "the list is empty"),
            ("[[rule]]\nallow = []\ntopics = 'a'\n", 2, "the list of actions is empty"),
            ("[[rule]]\nallow = 'write'\ntopics = 'a'\n", 2, "'write' is no action"),
            ("\n[[rule]]\ntopics = 'a'\n", 3, "neither"),
            ("[[rule]]\nallow = 'publish'\ndeny = 'publish'\ntopics = 'a'\n", 3, "not both"),
            ("[[rule]]\nallow = 'publish'\ntopics = 'a'\nusr = 'anna'\n", 4, "unknown key `usr`"),
            ("[[rules]]\nallow = 'publish'\n", 1, "unknown key `rules`"),
            ("[[rule]]\nallow = 'publish'\ntopics = 1\n", 3, "text or a list of texts"),
            ("[[rule]]\nallow = 'publish'\ntopics = 'a'\nuser = []\n", 4, "the list is empty"),
            ("[[rule]]\nallow = 'publish'\ntopics = 'a'\naddress = '10.0.0.1/8'\n", 4, "10.0.0.0/8"),
            ("[[rule]]\nallow = 'publish'\ntopics = 'a'\nqos_maximum = 3\n", 4, "0, 1 or 2"),
            ("[[rule]]\nallow = 'pubsub'\ntopics = 'a'\nqos_maximum = 1\n", 4, "`publish` alone"),
            ("[[rule]]\nallow = 'receive'\ntopics = 'a'\nretain = true\n", 4, "`publish` alone"),
            ("[[rule]]\ndeny = 'publish'\ntopics = 'a'\nqos_maximum = 1\n", 4, "write what is allowed"),
            ("[[rule]]\nallow = 'publish'\ntopics = 'a'\nanonymous = true\nuser = 'a'\n", 2, "no `user`"),
            ("subscriptions = 'some'\n", 1, "unknown variant"),
            ("[[rule]\n", 1, "acl.toml line 1: "),
        ] {
            let error = parse(text).unwrap_err();
            let place = format!("acl.toml line {line}: ");
            assert!(error.starts_with(&place) && error.contains(expected), "{text:?}: {error}");
        }
    }
}
