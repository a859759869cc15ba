//! What clients may do, as the program around the broker decides it.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};

use crate::hook::Client;

/// Says what each client may do.
pub trait Authorizer: Send + Sync + 'static {
    /// What a client may do, by the rules as they are now. Asked when a client is let in, when it has authenticated anew, and
    /// after [`Control::rules_changed`](crate::Control::rules_changed) for every client that is connected: so it is
    /// worth preparing here what is asked for each message.
    fn permit(&self, client: &Client) -> Arc<dyn Permit>;

    /// A rule in words for people: where it stands and what it says. `None` if there is no such rule any more.
    fn rule(&self, rule: RuleId) -> Option<String> {
        let _ = rule;
        None
    }
}

/// What one client may do. It is asked on the thread that serves a share of all clients, for every message: an answer takes
/// nanoseconds.
pub trait Permit: Send + Sync + 'static {
    /// Whether the client may publish to `topic`. Asked once for messages at QoS 0 that arrive together.
    fn may_publish(&self, topic: TopicName<'_>, qos: QoS, retain: bool) -> Decision;

    /// Whether the client may subscribe with `filter`, which may be that of a shared subscription.
    fn may_subscribe(&self, filter: TopicFilter<'_>) -> Grant;

    /// Whether the client may be given a message of `topic`. Asked for each topic where a subscription is
    /// [`Checked`](Grant::Checked), and for messages that were queued before the rules changed or the client came back. It
    /// must be allowed for every topic that matches a filter which is [`Granted`](Grant::Granted).
    fn may_receive(&self, topic: TopicName<'_>) -> Decision;

    /// Whether everything is allowed, so that nobody needs to ask.
    fn is_unlimited(&self) -> bool {
        false
    }
}

impl fmt::Debug for dyn Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("is_unlimited", &self.is_unlimited()).finish()
    }
}

/// Whether something is allowed, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is.
    pub is_allowed: bool,
    /// The rule that says so; `None` where none speaks of it.
    pub rule: Option<RuleId>,
}

impl Decision {
    /// It is allowed, by no rule in particular.
    pub const ALLOWED: Self = Self { is_allowed: true, rule: None };
    /// It is denied, since no rule allows it.
    pub const DENIED: Self = Self { is_allowed: false, rule: None };
}

/// Whether a client may have a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// It may not.
    Denied(Option<RuleId>),
    /// It may, and be given every message that matches.
    Granted(Option<RuleId>),
    /// It may, and be given those of the matching messages that [`Permit::may_receive`] allows. A shared
    /// subscription cannot be so, and is denied.
    Checked(Option<RuleId>),
}

impl Grant {
    /// The rule that says so, if one does.
    pub fn rule(self) -> Option<RuleId> {
        match self {
            Self::Denied(rule) | Self::Granted(rule) | Self::Checked(rule) => rule,
        }
    }
}

/// Names a rule of an [`Authorizer`], for as long as its rules are what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub NonZeroU32);

/// Allows everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl AllowAll {
    /// The permit of everybody.
    pub(crate) fn shared() -> Arc<dyn Permit> {
        static EVERYTHING: LazyLock<Arc<AllowAll>> = LazyLock::new(Arc::default);
        Arc::<Self>::clone(&EVERYTHING)
    }
}

impl Authorizer for AllowAll {
    fn permit(&self, _: &Client) -> Arc<dyn Permit> {
        Self::shared()
    }
}

impl Permit for AllowAll {
    fn may_publish(&self, _: TopicName<'_>, _: QoS, _: bool) -> Decision {
        Decision::ALLOWED
    }

    fn may_subscribe(&self, _: TopicFilter<'_>) -> Grant {
        Grant::Granted(None)
    }

    fn may_receive(&self, _: TopicName<'_>) -> Decision {
        Decision::ALLOWED
    }

    fn is_unlimited(&self) -> bool {
        true
    }
}
