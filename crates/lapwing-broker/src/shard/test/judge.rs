//! Permits for tests, from functions that judge one client's request.

use std::sync::Arc;

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};

use crate::hook::{Authorizer, Client, Decision, Grant, Permit};

/// Says what a client may do each time that it is asked.
pub(super) trait Judge: Send + Sync + 'static {
    fn may_publish(&self, _: &Client, _: TopicName<'_>, _: QoS, _: bool) -> bool {
        true
    }

    fn may_subscribe(&self, _: &Client, _: TopicFilter<'_>) -> Grant {
        Grant::Granted(None)
    }

    fn may_receive(&self, _: &Client, _: TopicName<'_>) -> bool {
        true
    }
}

/// An authorizer that asks a judge.
pub(super) struct Judged<J>(pub(super) Arc<J>);

pub(super) fn judged(judge: impl Judge) -> Arc<dyn Authorizer> {
    Arc::new(Judged(Arc::new(judge)))
}

/// What a subscription is that is allowed or not.
pub(super) fn grant(is_allowed: bool) -> Grant {
    if is_allowed { Grant::Granted(None) } else { Grant::Denied(None) }
}

impl<J: Judge> Authorizer for Judged<J> {
    fn permit(&self, client: &Client) -> Arc<dyn Permit> {
        Arc::new(JudgedPermit { judge: Arc::clone(&self.0), client: client.clone() })
    }
}

struct JudgedPermit<J> {
    judge: Arc<J>,
    client: Client,
}

impl<J: Judge> Permit for JudgedPermit<J> {
    fn may_publish(&self, topic: TopicName<'_>, qos: QoS, retain: bool) -> Decision {
        decision(self.judge.may_publish(&self.client, topic, qos, retain))
    }

    fn may_subscribe(&self, filter: TopicFilter<'_>) -> Grant {
        self.judge.may_subscribe(&self.client, filter)
    }

    fn may_receive(&self, topic: TopicName<'_>) -> Decision {
        decision(self.judge.may_receive(&self.client, topic))
    }
}

fn decision(is_allowed: bool) -> Decision {
    if is_allowed { Decision::ALLOWED } else { Decision::DENIED }
}
