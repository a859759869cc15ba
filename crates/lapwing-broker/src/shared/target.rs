//! How a session gets the messages of a topic.

use std::sync::Arc;

use lapwing_proto::packet::{QoS, SubscriptionIdentifier, SubscriptionOptions};
use lapwing_proto::topic::TopicNameBuf;

use super::GroupId;
use crate::shard::SessionId;

/// A subscription as the broker keeps it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscribed {
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<SubscriptionIdentifier>,
    /// Whether its client may be given only some of the messages that match.
    pub(crate) is_checked: bool,
}

impl Subscribed {
    /// For every message that matches.
    pub(crate) fn new(options: SubscriptionOptions, identifier: Option<SubscriptionIdentifier>) -> Self {
        Self { options, identifier, is_checked: false }
    }
}

/// How a session gets the messages of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) session: SessionId,
    /// The highest of its matching subscriptions `[MQTT-3.3.4-2]`.
    pub(crate) qos: QoS,
    /// How it gets the messages that it has published itself.
    pub(crate) own: OwnMessages,
    pub(crate) retain_as_published: bool,
    pub(crate) details: Option<Arc<Details>>,
}

/// What few subscriptions have.
#[derive(Debug)]
pub(crate) struct Details {
    /// Of all the session's subscriptions that match.
    identifiers: Box<[SubscriptionIdentifier]>,
    /// The shared subscription that this is a member of.
    group: Option<GroupId>,
}

impl Details {
    pub(crate) fn new(
        identifiers: impl IntoIterator<Item = SubscriptionIdentifier>,
        group: Option<GroupId>,
    ) -> Option<Arc<Self>> {
        let identifiers: Box<[_]> = identifiers.into_iter().collect();
        let is_any = group.is_some() || !identifiers.is_empty();
        is_any.then(|| Arc::new(Self { identifiers, group }))
    }

    /// The subscription identifiers, if there are any.
    pub(crate) fn identifiers(details: Option<&Arc<Self>>) -> Option<&[SubscriptionIdentifier]> {
        Some(&*details?.identifiers).filter(|identifiers| !identifiers.is_empty())
    }

    /// The shared subscription, if it is one.
    pub(crate) fn group(details: Option<&Arc<Self>>) -> Option<GroupId> {
        details?.group
    }
}

/// Sessions of one shard that get the same messages.
#[derive(Debug)]
pub(crate) struct Recipients {
    /// The topic of all the messages, where it is one.
    pub(crate) name: Option<TopicNameBuf>,
    pub(crate) targets: Box<[Target]>,
}

/// How a session gets the messages of a topic that it has published itself, given its subscriptions with No
/// Local `[MQTT-3.8.3-3]`.
#[derive(Debug, Clone)]
pub(crate) enum OwnMessages {
    /// As those of others.
    Same,
    /// Not at all.
    Not,
    /// As those of its subscriptions say that are without No Local.
    Other(Arc<Target>),
}

impl Target {
    pub(crate) fn new(session: SessionId, subscribed: &Subscribed) -> Self {
        Self {
            session,
            qos: subscribed.options.qos,
            own: if subscribed.options.no_local { OwnMessages::Not } else { OwnMessages::Same },
            retain_as_published: subscribed.options.retain_as_published,
            details: Details::new(subscribed.identifier, None),
        }
    }

    /// A member of a shared subscription.
    pub(crate) fn member(session: SessionId, subscribed: &Subscribed, group: GroupId) -> Self {
        let details = Details::new(subscribed.identifier, Some(group));
        Self { details, ..Self::new(session, subscribed) }
    }

    /// A session's overlapping subscriptions, of which there is at least one, deliver one copy, at the
    /// highest QoS and with every identifier.
    pub(crate) fn overlapping(selected: &[(SessionId, Subscribed)]) -> Self {
        let [(session, only)] = selected else {
            let mut target = Self::merge(selected);
            let is_local = |(_, subscribed): &&(SessionId, Subscribed)| !subscribed.options.no_local;
            let local: Vec<_> = selected.iter().filter(is_local).copied().collect();
            target.own = match local.len() {
                0 => OwnMessages::Not,
                count if count == selected.len() => OwnMessages::Same,
                _ => OwnMessages::Other(Arc::new(Self::merge(&local))),
            };
            return target;
        };
        Self::new(*session, only)
    }

    fn merge(selected: &[(SessionId, Subscribed)]) -> Self {
        let (session, first) = &selected[0];
        let mut target = Self::new(*session, first);
        for (_, Subscribed { options, .. }) in &selected[1..] {
            target.qos = target.qos.max(options.qos);
            target.retain_as_published |= options.retain_as_published;
        }
        target.details = Details::new(selected.iter().filter_map(|(_, one)| one.identifier), None);
        target
    }

    /// How its session gets a message that the session `origin` has published; `None` if not at all.
    pub(crate) fn of_origin(&self, origin: Option<SessionId>) -> Option<&Self> {
        match &self.own {
            OwnMessages::Not if origin == Some(self.session) => None,
            OwnMessages::Other(own) if origin == Some(self.session) => Some(own),
            _ => Some(self),
        }
    }

    /// How much of what may be remembered it takes.
    pub(crate) fn weight(&self) -> usize {
        1 + Details::identifiers(self.details.as_ref()).map_or(0, |identifiers| identifiers.len() / 8)
    }
}
