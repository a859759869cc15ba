//! All rules of a file, and what they are for one client.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hashbrown::HashMap;
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize};

use super::coverage::{TooMany, walk};
use super::rule::{Effect, Rule};
use super::rule_file::RuleFile;
use super::subject::Subject;
use super::table::{Place, Table, lower};

/// Rules, ready to be compiled for each client.
///
/// What is the same for several clients, they share: rules without placeholders take memory once for each set of them that some
/// client has.
#[derive(Debug)]
pub struct Ruleset {
    path: PathBuf,
    rules: Vec<Rule>,
    subscriptions: Subscriptions,
    /// The rules that are for some users only, by user name: most rules of a large file are.
    by_user: HashMap<Arc<str>, Vec<Place>>,
    /// The others.
    for_any_user: Vec<Place>,
    fixed: Mutex<HashMap<Box<[Place]>, Weak<Tables>>>,
}

/// Which subscriptions are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscriptions {
    /// Those by which something can be received that is allowed.
    #[default]
    Allowed,
    /// All of them; each message is checked.
    Any,
}

/// What the rules say about one client.
#[derive(Debug, Clone)]
pub struct Permission {
    ruleset: Arc<Ruleset>,
    fixed: Arc<Tables>,
    own: Option<Arc<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    publish: Table,
    receive: Table,
}

/// Whether a message may be published or received, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it may.
    pub is_allowed: bool,
    /// The place of the rule, if one fits.
    pub rule: Option<u32>,
}

/// Whether a subscription may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It may not, since this rule denies topics of it, or none allows them.
    Denied(Option<u32>),
    /// It may: every topic that it matches is allowed, the first by this rule.
    Granted(Option<u32>),
    /// It may, but only some of its topics are allowed, the first by this rule: each message is to be checked.
    Checked(Option<u32>),
}

impl Ruleset {
    /// The rules of a file. `path` is where it is, for what is said of it.
    pub fn new(path: &Path, file: RuleFile) -> Self {
        let RuleFile { rules, subscriptions } = file;
        let mut by_user: HashMap<Arc<str>, Vec<Place>> = HashMap::new();
        let mut for_any_user = Vec::new();
        for (rule, place) in rules.iter().zip(0..) {
            match &*rule.condition.users {
                [] => for_any_user.push(place),
                users => users.iter().for_each(|user| {
                    let places = by_user.entry(Arc::clone(user)).or_default();
                    if places.last() != Some(&place) {
                        places.push(place);
                    }
                }),
            }
        }
        Self {
            path: path.to_owned(),
            rules,
            subscriptions,
            by_user,
            for_any_user,
            fixed: Mutex::new(HashMap::new()),
        }
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule in words, with its place.
    pub fn describe(&self, rule: u32) -> Option<String> {
        let rule = self.rules.get(rule as usize)?;
        let file = self.path.file_name().map_or(self.path.as_os_str(), |name| name);
        Some(format!("{} line {}: {rule}", file.display(), rule.line))
    }

    /// What they say about a client.
    pub fn compile(self: &Arc<Self>, subject: &Subject<'_>) -> Permission {
        let none = Vec::new();
        let of_user = subject.user.and_then(|user| self.by_user.get(user)).unwrap_or(&none);
        let mut places: Vec<Place> = self.for_any_user.iter().chain(of_user).copied().collect();
        places.retain(|&place| self.rule(place).condition.is_met(subject));
        places.sort_unstable();
        let (fixed, own): (Vec<_>, Vec<_>) = places.into_iter().partition(|&place| {
            // A rule is fixed as a whole, so that its patterns stay together.
            self.rule(place).topics.iter().all(super::template::Template::is_fixed)
        });
        let fixed = self.fixed(fixed, subject);
        let own = (!own.is_empty()).then(|| Arc::new(self.tables(&own, subject)));
        Permission { ruleset: Arc::clone(self), fixed, own }
    }

    fn rule(&self, place: Place) -> &Rule {
        &self.rules[place as usize]
    }

    /// The tables of rules that are the same for all clients which have just these.
    fn fixed(&self, places: Vec<Place>, subject: &Subject<'_>) -> Arc<Tables> {
        let mut known = self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = known.get(&*places).and_then(Weak::upgrade) {
            return tables;
        }
        let tables = Arc::new(self.tables(&places, subject));
        if known.len() == known.capacity() {
            known.retain(|_, tables| tables.strong_count() > 0);
        }
        known.insert(places.into(), Arc::downgrade(&tables));
        tables
    }

    fn tables(&self, places: &[Place], subject: &Subject<'_>) -> Tables {
        let (mut publish, mut receive) = (Vec::new(), Vec::new());
        for &place in places {
            let rule = self.rule(place);
            for topic in &rule.topics {
                for pattern in topic.expand(subject, rule.unusable()) {
                    if rule.actions.is_of_reception() {
                        receive.push((pattern.clone(), place, rule.messages));
                    }
                    if rule.actions.publish {
                        publish.push((pattern, place, rule.messages));
                    }
                }
            }
        }
        Tables { publish: Table::new(publish), receive: Table::new(receive) }
    }
}

impl Permission {
    /// Whether a message may be published.
    pub fn publish(&self, topic: TopicName<'_>, qos: QoS, retain: bool) -> Ruling {
        let own = self.own.as_ref().and_then(|own| own.publish.first(topic, qos, retain));
        self.ruling(lower(self.fixed.publish.first(topic, qos, retain), own))
    }

    /// Whether a message may be received.
    pub fn receive(&self, topic: TopicName<'_>) -> Ruling {
        // Rules about reception fit all messages of a topic.
        let (qos, retain) = (QoS::AtMostOnce, false);
        let own = self.own.as_ref().and_then(|own| own.receive.first(topic, qos, retain));
        self.ruling(lower(self.fixed.receive.first(topic, qos, retain), own))
    }

    /// Whether a subscription may be made. Of a shared one the topics count, not the name.
    pub fn subscribe(&self, filter: TopicFilter<'_>) -> Acceptance {
        let patterns = self.receive_patterns();
        let (mut denied, mut allowed, mut is_whole) = (None, None, true);
        let walked = walk(filter, patterns.iter().map(|&(pattern, _)| pattern), |found| {
            let rule = found.map(|found| patterns[found].1);
            match rule.map(|place| (place, self.ruleset.rule(place))) {
                Some((place, rule)) if rule.effect == Effect::Allow => {
                    is_whole &= rule.actions.subscribe;
                    allowed = lower(allowed, Some(place));
                }
                _ => denied = denied.or(Some(rule)),
            }
            // Now the answer is known.
            if denied.is_some() && !is_whole { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if walked == Err(TooMany) {
            denied = denied.or(Some(None));
        }
        match denied {
            None => Acceptance::Granted(allowed),
            Some(_) if !is_whole || self.ruleset.subscriptions == Subscriptions::Any => {
                Acceptance::Checked(allowed)
            }
            Some(rule) => Acceptance::Denied(rule),
        }
    }

    /// The rules that it comes from.
    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// What is said of reception, in the order of the rules.
    fn receive_patterns(&self) -> Vec<(&str, Place)> {
        let own = self.own.iter().flat_map(|own| own.receive.patterns());
        let mut patterns: Vec<_> = self.fixed.receive.patterns().chain(own).collect();
        patterns.sort_by_key(|&(_, place)| place);
        patterns
    }

    fn ruling(&self, rule: Option<Place>) -> Ruling {
        let is_allowed = rule.is_some_and(|place| self.ruleset.rule(place).effect == Effect::Allow);
        Ruling { is_allowed, rule }
    }
}

#[cfg(test)]
impl Permission {
    pub(super) fn fixed_tables(&self) -> &Arc<impl Sized> {
        &self.fixed
    }
}
