//! What rules say, in the words of the broker.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lapwing_broker::hook::{Decision, Grant, Permit, RuleId};
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};

use crate::permission::{Acceptance, Permission, Ruling};

/// What the rules in force say about a client.
pub(crate) struct RulePermit {
    permission: Permission,
    /// Whether its rules are those of the file, so that they can be named.
    is_named: bool,
}

impl RulePermit {
    pub(crate) fn new(permission: Permission, is_named: bool) -> Self {
        Self { permission, is_named }
    }

    fn name(&self, rule: Option<u32>) -> Option<RuleId> {
        rule.filter(|_| self.is_named).and_then(|place| NonZeroU32::new(place.checked_add(1)?)).map(RuleId)
    }

    fn decision(&self, ruling: Ruling) -> Decision {
        Decision { is_allowed: ruling.is_allowed, rule: self.name(ruling.rule) }
    }
}

/// The place of a rule that was named by a permit.
pub(crate) fn place(rule: RuleId) -> u32 {
    rule.0.get() - 1
}

impl Permit for RulePermit {
    fn may_publish(&self, topic: TopicName<'_>, qos: QoS, retain: bool) -> Decision {
        self.decision(self.permission.publish(topic, qos, retain))
    }

    fn may_subscribe(&self, filter: TopicFilter<'_>) -> Grant {
        match self.permission.subscribe(filter) {
            Acceptance::Denied(rule) => Grant::Denied(self.name(rule)),
            Acceptance::Granted(rule) => Grant::Granted(self.name(rule)),
            Acceptance::Checked(rule) => Grant::Checked(self.name(rule)),
        }
    }

    fn may_receive(&self, topic: TopicName<'_>) -> Decision {
        self.decision(self.permission.receive(topic))
    }
}

/// Asks other rules as well, and notes where they differ. What it answers is what the rules in force say.
pub(crate) struct WatchedPermit {
    pub(crate) in_force: Arc<dyn Permit>,
    pub(crate) other: Permission,
    pub(crate) client_id: Arc<str>,
    pub(crate) watch: Arc<Watch>,
}

/// What rules that are not in force would do otherwise.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) would_deny: AtomicU64,
    pub(crate) would_allow: AtomicU64,
    lines: Mutex<Lines>,
}

/// Log lines of one second.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    count: u32,
    suppressed: u64,
}

const LINES_PER_SECOND: u32 = 10;

impl Watch {
    fn note(&self, permit: &WatchedPermit, action: &str, topic: &str, is_allowed: bool, rule: Option<u32>) {
        let (count, would) = match is_allowed {
            true => (&self.would_allow, "allow"),
            false => (&self.would_deny, "deny"),
        };
        count.fetch_add(1, Relaxed);
        if let Some(suppressed) = self.allow(Instant::now()) {
            let rule = rule.and_then(|rule| permit.other.ruleset().describe(rule));
            let rule = rule.unwrap_or_else(|| "no rule allows it".to_owned());
            let (client_id, topic) = (excerpt(&permit.client_id), excerpt(topic));
            tracing::warn!(
                client_id,
                action,
                topic,
                suppressed,
                "the rules of permissions.report_only would {would} what those in force do not: {rule}"
            );
        }
    }

    /// Whether a line may be written now; if so, how many were not.
    fn allow(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (lines.since, lines.count) = (Some(now), 0);
        }
        if lines.count >= LINES_PER_SECOND {
            lines.suppressed += 1;
            return None;
        }
        lines.count += 1;
        Some(std::mem::take(&mut lines.suppressed))
    }
}

/// What a log line shows of a peer's text, which may be of any length; control characters are escaped by the writer of the log.
fn excerpt(text: &str) -> &str {
    const BYTES: usize = 200;
    let end = text.char_indices().map(|(at, _)| at).take_while(|&at| at <= BYTES).last();
    if text.len() <= BYTES { text } else { &text[..end.unwrap_or(0)] }
}

impl Permit for WatchedPermit {
    fn may_publish(&self, topic: TopicName<'_>, qos: QoS, retain: bool) -> Decision {
        let decision = self.in_force.may_publish(topic, qos, retain);
        let other = self.other.publish(topic, qos, retain);
        if decision.is_allowed != other.is_allowed {
            self.watch.note(self, "publish", topic.as_str(), other.is_allowed, other.rule);
        }
        decision
    }

    fn may_subscribe(&self, filter: TopicFilter<'_>) -> Grant {
        let grant = self.in_force.may_subscribe(filter);
        let (other, rule) = match self.other.subscribe(filter) {
            Acceptance::Denied(rule) => (false, rule),
            Acceptance::Granted(rule) | Acceptance::Checked(rule) => (true, rule),
        };
        if other == matches!(grant, Grant::Denied(_)) {
            self.watch.note(self, "subscribe", filter.as_str(), other, rule);
        }
        grant
    }

    fn may_receive(&self, topic: TopicName<'_>) -> Decision {
        let decision = self.in_force.may_receive(topic);
        let other = self.other.receive(topic);
        if decision.is_allowed != other.is_allowed {
            self.watch.note(self, "receive", topic.as_str(), other.is_allowed, other.rule);
        }
        decision
    }
}
