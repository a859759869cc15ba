//! One rule: whom it is for, what it speaks of, and what it says.

use std::fmt::{self, Write};

use lapwing_proto::packet::QoS;

use super::subject::{Condition, GROUP, Glob};
use super::template::{Template, Unusable};

/// A rule. The first one that fits decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The line of its file in which it begins.
    pub line: usize,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// What it speaks of.
    pub actions: Actions,
    /// Of which topics.
    pub topics: Vec<Template>,
    /// For whom.
    pub condition: Condition,
    /// Of which messages, where it speaks of publishing.
    pub messages: Messages,
}

/// Whether a rule allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies.
    Deny,
}

/// What rules speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions {
    /// Publishing to a topic.
    pub publish: bool,
    /// Subscribing with a filter that matches such topics only, and being given their messages.
    pub subscribe: bool,
    /// Being given messages of a topic, also by a filter that matches other topics as well.
    pub receive: bool,
}

impl Actions {
    /// Whether it speaks of what comes to a client.
    pub fn is_of_reception(self) -> bool {
        self.subscribe || self.receive
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.publish, "publish"), (self.subscribe, "subscribe"), (self.receive, "receive")];
        all.into_iter().filter_map(|(is_set, name)| is_set.then_some(name))
    }
}

/// Which of the messages to a topic a rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Messages {
    /// Those up to this quality of service; `None` for all.
    pub qos_maximum: Option<QoS>,
    /// Those with, or those without RETAIN; `None` for both.
    pub retain: Option<bool>,
}

impl Messages {
    /// Whether a message is one of them.
    pub fn fit(self, qos: QoS, retain: bool) -> bool {
        self.qos_maximum.is_none_or(|maximum| qos <= maximum)
            && self.retain.is_none_or(|wanted| wanted == retain)
    }
}

impl Rule {
    /// What becomes of placeholders for which a client has no value that can stand in a topic.
    pub(super) fn unusable(&self) -> Unusable {
        match self.effect {
            Effect::Allow => Unusable::Nothing,
            Effect::Deny => Unusable::AnyLevel,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl fmt::Display for Rule {
    /// In one line: what it says, of which topics, and for whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effect, actions, topics, condition, messages, .. } = self;
        write!(f, "{effect} {}", actions.names().collect::<Vec<_>>().join(", "))?;
        for (index, topic) in topics.iter().enumerate() {
            write!(f, "{} {topic}", if index > 0 { "," } else { "" })?;
        }
        if let Some(qos) = messages.qos_maximum {
            write!(f, " up to QoS {}", qos.bits())?;
        }
        match messages.retain {
            Some(true) => f.write_str(" with RETAIN")?,
            Some(false) => f.write_str(" without RETAIN")?,
            None => {}
        }
        let mut who = String::new();
        list(&mut who, "user", condition.users.iter())?;
        list(&mut who, "client_id", condition.client_ids.iter().map(Glob::as_str))?;
        for (name, values) in &condition.attributes {
            let name = if &**name == GROUP { GROUP.to_owned() } else { format!("attribute {name}") };
            list(&mut who, &name, values.iter())?;
        }
        list(&mut who, "listener", condition.listeners.iter())?;
        list(&mut who, "address", condition.addresses.iter())?;
        match condition.anonymous {
            Some(true) => who.push_str(", who is anonymous"),
            Some(false) => who.push_str(", who is not anonymous"),
            None => {}
        }
        match who.strip_prefix(", ") {
            Some(who) => write!(f, " for {who}"),
            None => f.write_str(" for everybody"),
        }
    }
}

fn list(to: &mut String, name: &str, values: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    for (index, value) in values.enumerate() {
        if index > 0 {
            write!(to, " or {value}")?;
        } else {
            write!(to, ", {name} {value}")?;
        }
    }
    Ok(())
}
