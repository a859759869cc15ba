//! From a topic name to the sessions that its messages go to.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use lapwing_proto::packet::{QoS, SubscriptionIdentifier, SubscriptionOptions};
use lapwing_proto::topic::{FilterTree, TopicFilter, TopicName};
use slab::Slab;

use super::SessionId;
use crate::message::Identifiers;

/// Topics whose routes are remembered, and how many targets and groups these may have in all. A target with many
/// subscription identifiers counts as several.
const CACHE_MAXIMUM: usize = 4096;
const CACHE_TARGETS_MAXIMUM: usize = 256 * 1024;
/// Longer names are not remembered.
const CACHE_NAME_MAXIMUM: usize = 1024;

/// The subscriptions of all sessions.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Subscriptions that are not shared.
    own: FilterTree<SessionId, Subscribed>,
    /// Shared subscriptions: the groups by their patterns.
    shared: FilterTree<usize, ()>,
    groups: Slab<Group>,
    group_by_filter: HashMap<Box<str>, usize>,
    /// Routes of topics published to lately; thrown away when a subscription changes.
    cache: HashMap<Box<str>, Rc<Route>>,
    cache_targets: usize,
    cache_generation: (u64, u64),
}

/// A subscription as the broker keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscribed {
    pub(super) options: SubscriptionOptions,
    pub(super) identifier: Option<SubscriptionIdentifier>,
}

/// Where the messages of a topic go.
#[derive(Debug, Default)]
pub(super) struct Route {
    pub(super) targets: Vec<Target>,
    /// Groups, of which one member each gets the message.
    pub(super) groups: Vec<usize>,
}

/// How a session gets the messages of a topic.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) session: SessionId,
    /// The highest of its matching subscriptions `[MQTT-3.3.4-2]`.
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifiers: Identifiers,
}

/// The members of a shared subscription.
#[derive(Debug)]
struct Group {
    filter: Box<str>,
    members: Vec<Target>,
    next: usize,
}

impl Routes {
    /// Adds or replaces a subscription; whether it existed before.
    pub(super) fn subscribe(
        &mut self,
        session: SessionId,
        filter: TopicFilter<'_>,
        subscribed: Subscribed,
    ) -> bool {
        if filter.share_name().is_none() {
            return self.own.insert(filter, session, subscribed).is_some();
        }
        let index = match self.group_by_filter.get(filter.as_str()) {
            Some(&index) => index,
            None => {
                let group = Group { filter: filter.as_str().into(), members: Vec::new(), next: 0 };
                let index = self.groups.insert(group);
                self.group_by_filter.insert(filter.as_str().into(), index);
                self.shared.insert(filter, index, ());
                index
            }
        };
        let members = &mut self.groups[index].members;
        let member = Target::new(session, &subscribed);
        match members.iter_mut().find(|member| member.session == session) {
            Some(existing) => {
                *existing = member;
                true
            }
            None => {
                members.push(member);
                false
            }
        }
    }

    /// Removes a subscription; whether it existed.
    pub(super) fn unsubscribe(&mut self, session: SessionId, filter: TopicFilter<'_>) -> bool {
        if filter.share_name().is_none() {
            return self.own.remove(filter, &session).is_some();
        }
        let Some(&index) = self.group_by_filter.get(filter.as_str()) else { return false };
        let members = &mut self.groups[index].members;
        let Some(at) = members.iter().position(|member| member.session == session) else { return false };
        members.remove(at);
        if members.is_empty() {
            let group = self.groups.remove(index);
            self.group_by_filter.remove(&group.filter);
            self.shared.remove(filter, &index);
        }
        true
    }

    /// Where messages published to `name` go.
    pub(super) fn route(&mut self, name: TopicName<'_>) -> Rc<Route> {
        let generation = (self.own.generation(), self.shared.generation());
        if self.cache_generation != generation {
            self.forget_routes();
            self.cache_generation = generation;
        }
        if let Some(route) = self.cache.get(name.as_str()) {
            return Rc::clone(route);
        }
        let route = Rc::new(self.resolve(name));
        if name.as_str().len() <= CACHE_NAME_MAXIMUM {
            let targets = self.cache_targets + route.weight();
            if self.cache.len() >= CACHE_MAXIMUM || targets > CACHE_TARGETS_MAXIMUM {
                self.forget_routes();
            }
            self.cache_targets += route.weight();
            self.cache.insert(name.as_str().into(), Rc::clone(&route));
        }
        route
    }

    fn forget_routes(&mut self) {
        self.cache.clear();
        self.cache_targets = 0;
    }

    fn resolve(&self, name: TopicName<'_>) -> Route {
        let mut route = Route::default();
        let mut selected = Vec::new();
        self.own.matches(name, |&session, &subscribed| selected.push((session, subscribed)));
        self.shared.matches(name, |&group, &()| route.groups.push(group));
        selected.sort_unstable_by_key(|&(session, _)| session);
        let same_session = |one: &(SessionId, _), other: &(SessionId, _)| one.0 == other.0;
        route.targets = selected.chunk_by(same_session).map(Target::overlapping).collect();
        route
    }

    /// The member of a group whose turn it is among those that are connected, or among all if none is.
    pub(super) fn choose(
        &mut self,
        group: usize,
        is_connected: impl Fn(SessionId) -> bool,
    ) -> Option<&Target> {
        let Group { members, next, .. } = self.groups.get_mut(group)?;
        let (first, count) = (*next, members.len());
        let mut in_turn = (0..count).map(|offset| (first + offset) % count);
        let connected = in_turn.clone().find(|&at| is_connected(members[at].session));
        let at = connected.or_else(|| in_turn.next())?;
        *next = at + 1;
        members.get(at)
    }
}

impl Route {
    /// How much of what may be remembered it takes.
    fn weight(&self) -> usize {
        let of_target = |target: &Target| 1 + target.identifiers.as_ref().map_or(0, |some| some.len() / 8);
        self.groups.len() + self.targets.iter().map(of_target).sum::<usize>()
    }
}

impl Target {
    pub(super) fn new(session: SessionId, subscribed: &Subscribed) -> Self {
        Self {
            session,
            qos: subscribed.options.qos,
            no_local: subscribed.options.no_local,
            retain_as_published: subscribed.options.retain_as_published,
            identifiers: subscribed.identifier.map(|identifier| Arc::from([identifier].as_slice())),
        }
    }

    /// A session's overlapping subscriptions, of which there is at least one, deliver one copy, at the
    /// highest QoS and with every identifier. Only if each of them says no-local is the session's own message
    /// kept from it.
    fn overlapping(selected: &[(SessionId, Subscribed)]) -> Self {
        let (session, first) = &selected[0];
        let mut target = Self::new(*session, first);
        for (_, Subscribed { options, .. }) in &selected[1..] {
            target.qos = target.qos.max(options.qos);
            target.no_local &= options.no_local;
            target.retain_as_published |= options.retain_as_published;
        }
        if selected.len() > 1 {
            let identifiers: Arc<[_]> = selected.iter().filter_map(|(_, one)| one.identifier).collect();
            target.identifiers = Some(identifiers).filter(|identifiers| !identifiers.is_empty());
        }
        target
    }
}
