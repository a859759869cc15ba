//! Why a client may do something, or why not.

use std::fmt;
use std::sync::Arc;

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};
use serde::Deserialize;

use super::rule::{Effect, Rule};
use super::ruleset::{Acceptance, Ruleset};
use super::subject::{Mismatch, Subject};

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Publish such a message.
    Publish(TopicName<'a>, QoS, bool),
    /// Subscribe with a filter.
    Subscribe(TopicFilter<'a>),
    /// Be given a message.
    Receive(TopicName<'a>),
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is allowed.
    Allow,
    /// It is not.
    Deny,
    /// The subscription is accepted, and each message is checked.
    Checked,
}

/// What comes of it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What comes of it.
    pub answer: Answer,
    /// The rule that decides, with its place; `None` if none does.
    pub rule: Option<String>,
    /// Rules that would have decided otherwise, and why they did not.
    pub near_misses: Vec<String>,
}

/// Near misses that are told.
const NEAR_MISSES_MAXIMUM: usize = 5;

impl Ruleset {
    /// What the rules say about something that a client wants to do, and why.
    pub fn explain(self: &Arc<Self>, subject: &Subject<'_>, action: Action<'_>) -> Explanation {
        let permission = self.compile(subject);
        let (answer, rule) = match action {
            Action::Publish(topic, qos, retain) => {
                let ruling = permission.publish(topic, qos, retain);
                (Answer::of(ruling.is_allowed), ruling.rule)
            }
            Action::Receive(topic) => {
                let ruling = permission.receive(topic);
                (Answer::of(ruling.is_allowed), ruling.rule)
            }
            Action::Subscribe(filter) => match permission.subscribe(filter) {
                Acceptance::Denied(rule) => (Answer::Deny, rule),
                Acceptance::Granted(rule) => (Answer::Allow, rule),
                Acceptance::Checked(rule) => (Answer::Checked, rule),
            },
        };
        let other = if answer == Answer::Allow { Effect::Deny } else { Effect::Allow };
        let others =
            self.rules().iter().zip(0..).filter(|(own, _)| own.effect == other && is_of(own, action));
        let misses = others.filter_map(|(own, place)| {
            let why = near_miss(own, subject, action, rule.filter(|&rule| rule < place))?;
            Some(format!("{} – {why}", self.describe(place)?))
        });
        let near_misses = misses.take(NEAR_MISSES_MAXIMUM).collect();
        Explanation { answer, rule: rule.and_then(|rule| self.describe(rule)), near_misses }
    }
}

impl Answer {
    fn of(is_allowed: bool) -> Self {
        if is_allowed { Self::Allow } else { Self::Deny }
    }
}

fn is_of(rule: &Rule, action: Action<'_>) -> bool {
    match action {
        Action::Publish(..) => rule.actions.publish,
        Action::Subscribe(_) | Action::Receive(_) => rule.actions.is_of_reception(),
    }
}

/// Why a rule did not decide, if but one thing kept it from that.
fn near_miss(rule: &Rule, subject: &Subject<'_>, action: Action<'_>, earlier: Option<u32>) -> Option<String> {
    let mut mismatches = rule.condition.mismatches(subject);
    let (first, more) = (mismatches.next(), mismatches.next());
    let patterns: Vec<String> =
        rule.topics.iter().flat_map(|topic| topic.expand(subject, rule.unusable())).collect();
    let filters: Vec<TopicFilter<'_>> =
        patterns.iter().filter_map(|text| TopicFilter::new(text).ok()).collect();
    let fits = match action {
        Action::Publish(topic, ..) | Action::Receive(topic) => filters.iter().any(|own| own.matches(topic)),
        Action::Subscribe(wanted) => filters.iter().any(|own| shares_a_topic(*own, wanted)),
    };
    if !fits {
        let is_lacking = patterns.is_empty() && first.is_none();
        return is_lacking.then(|| "a placeholder of it has no value that can stand in a topic".to_owned());
    }
    match (first, more) {
        (Some(_), Some(_)) => None,
        (Some(mismatch), None) => Some(format!("the client has another {mismatch}")),
        (None, _) => match action {
            Action::Publish(_, qos, retain) if !rule.messages.fit(qos, retain) => {
                Some("not for messages of this QoS, or with this RETAIN".to_owned())
            }
            Action::Subscribe(wanted) if rule.effect == Effect::Allow && earlier.is_none() => {
                Some(format!("not for all topics that {wanted} matches"))
            }
            _ => earlier.map(|_| "the other rule comes first".to_owned()),
        },
    }
}

/// Whether some topic matches both. (Whether a leading wildcard of either meets a `$` makes no difference to an explanation.)
fn shares_a_topic(one: TopicFilter<'_>, other: TopicFilter<'_>) -> bool {
    let (mut one, mut other) = (one.levels(), other.levels());
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user name, or none that it has proved"),
            Self::ClientId => f.write_str("client identifier"),
            Self::Attribute(name) => write!(f, "value of '{name}'"),
            Self::Listener => f.write_str("listener"),
            Self::Address => f.write_str("address"),
            Self::Anonymous => f.write_str("standing: the rule asks whether it is anonymous"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allowed",
            Self::Deny => "denied",
            Self::Checked => "accepted, and each message is checked",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.rule.as_deref().unwrap_or("no rule speaks of it, or not of all of it");
        write!(f, "{}\n  by: {rule}", self.answer)?;
        self.near_misses.iter().try_for_each(|miss| write!(f, "\n  near: {miss}"))
    }
}
