//! From a topic name to the sessions that its messages go to.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use lapwing_proto::packet::{QoS, SubscriptionIdentifier, SubscriptionOptions};
use lapwing_proto::topic::{FilterTree, TopicFilter, TopicName};
use slab::Slab;

use super::SessionId;
use crate::message::{GroupId, Identifiers};

/// Topics whose routes are remembered, and how many targets and groups these may have in all. A target with many
/// subscription identifiers counts as several.
const CACHE_MAXIMUM: usize = 4096;
const CACHE_TARGETS_MAXIMUM: usize = 256 * 1024;
/// Longer names are not remembered.
const CACHE_NAME_MAXIMUM: usize = 1024;

/// What an exclusive subscription begins with.
pub(super) const EXCLUSIVE: &str = "$exclusive/";

/// The subscriptions of all sessions.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Subscriptions that are not shared.
    own: FilterTree<SessionId, Subscribed>,
    /// Shared subscriptions: the groups by their patterns.
    shared: FilterTree<usize, ()>,
    groups: Slab<Group>,
    group_by_filter: HashMap<Box<str>, usize>,
    group_serial: u32,
    /// Exclusive subscriptions: `$exclusive/FILTER`, by what stands behind the prefix.
    exclusive: FilterTree<SessionId, Subscribed>,
    exclusive_by_filter: HashMap<Box<str>, SessionId>,
    /// Routes of topics published to lately; thrown away when a subscription changes.
    cache: HashMap<Box<str>, Rc<Route>>,
    cache_targets: usize,
    cache_generation: [u64; 3],
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
    /// Shared subscriptions, of which one member each gets the message.
    pub(super) groups: Vec<GroupId>,
}

/// How a session gets the messages of a topic.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) session: SessionId,
    /// The highest of its matching subscriptions `[MQTT-3.3.4-2]`.
    pub(super) qos: QoS,
    /// How it gets the messages that it has published itself.
    pub(super) own: OwnMessages,
    pub(super) retain_as_published: bool,
    pub(super) identifiers: Identifiers,
    /// The shared subscription that this is a member of.
    pub(super) group: Option<GroupId>,
}

/// How a session gets the messages of a topic that it has published itself, given its subscriptions with No
/// Local `[MQTT-3.8.3-3]`.
#[derive(Debug, Clone)]
pub(super) enum OwnMessages {
    /// As those of others.
    Same,
    /// Not at all.
    Not,
    /// As those of its subscriptions say that are without No Local.
    Other(Rc<Target>),
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    New,
    /// It replaced one with the same filter.
    Replaced,
    /// Another session has it, and it is exclusive.
    Occupied,
}

/// The members of a shared subscription.
#[derive(Debug)]
struct Group {
    id: GroupId,
    filter: Box<str>,
    members: Vec<Target>,
    next: usize,
}

impl Routes {
    /// Adds or replaces a subscription.
    pub(super) fn subscribe(
        &mut self,
        session: SessionId,
        filter: TopicFilter<'_>,
        subscribed: Subscribed,
    ) -> Added {
        if filter.share_name().is_some() {
            return self.join(session, filter, &subscribed);
        }
        let Some(pattern) = exclusive(filter) else {
            return added(self.own.insert(filter, session, subscribed));
        };
        let owner = *self.exclusive_by_filter.entry(pattern.as_str().into()).or_insert(session);
        if owner != session {
            return Added::Occupied;
        }
        added(self.exclusive.insert(pattern, session, subscribed))
    }

    /// Makes a session a member of a shared subscription.
    fn join(&mut self, session: SessionId, filter: TopicFilter<'_>, subscribed: &Subscribed) -> Added {
        let index = match self.group_by_filter.get(filter.as_str()) {
            Some(&index) => index,
            None => self.make_group(filter),
        };
        let Group { id, members, .. } = &mut self.groups[index];
        let member = Target { group: Some(*id), ..Target::new(session, subscribed) };
        match members.iter_mut().find(|member| member.session == session) {
            Some(existing) => {
                *existing = member;
                Added::Replaced
            }
            None => {
                members.push(member);
                Added::New
            }
        }
    }

    fn make_group(&mut self, filter: TopicFilter<'_>) -> usize {
        self.group_serial = self.group_serial.wrapping_add(1);
        let serial = NonZeroU32::new(self.group_serial).unwrap_or(NonZeroU32::MIN);
        let entry = self.groups.vacant_entry();
        let index = entry.key();
        let id = GroupId { index: index as u32, serial };
        entry.insert(Group { id, filter: filter.as_str().into(), members: Vec::new(), next: 0 });
        self.group_by_filter.insert(filter.as_str().into(), index);
        self.shared.insert(filter, index, ());
        index
    }

    /// Removes a subscription; whether it existed.
    pub(super) fn unsubscribe(&mut self, session: SessionId, filter: TopicFilter<'_>) -> bool {
        if let Some(pattern) = exclusive(filter) {
            let existed = self.exclusive.remove(pattern, &session).is_some();
            if existed {
                self.exclusive_by_filter.remove(pattern.as_str());
            }
            return existed;
        }
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

    /// How many subscriptions there are, and how many shared ones.
    pub(super) fn count(&self) -> (usize, usize) {
        let members = self.groups.iter().map(|(_, group)| group.members.len()).sum();
        (self.own.len() + self.exclusive.len() + members, members)
    }

    /// Where messages published to `name` go.
    pub(super) fn route(&mut self, name: TopicName<'_>) -> Rc<Route> {
        let generation = [self.own.generation(), self.shared.generation(), self.exclusive.generation()];
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
        self.exclusive.matches(name, |&session, &subscribed| selected.push((session, subscribed)));
        self.shared.matches(name, |&group, &()| route.groups.push(self.groups[group].id));
        selected.sort_unstable_by_key(|&(session, _)| session);
        let same_session = |one: &(SessionId, _), other: &(SessionId, _)| one.0 == other.0;
        route.targets = selected.chunk_by(same_session).map(Target::overlapping).collect();
        route
    }

    /// The member of a group whose turn it is among those that are connected, or among all if none is.
    pub(super) fn choose(
        &mut self,
        group: GroupId,
        is_connected: impl Fn(SessionId) -> bool,
    ) -> Option<&Target> {
        let found = self.groups.get_mut(group.index as usize).filter(|found| found.id == group);
        let Group { members, next, .. } = found?;
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
            own: if subscribed.options.no_local { OwnMessages::Not } else { OwnMessages::Same },
            retain_as_published: subscribed.options.retain_as_published,
            identifiers: subscribed.identifier.map(|identifier| Arc::from([identifier].as_slice())),
            group: None,
        }
    }

    /// A session's overlapping subscriptions, of which there is at least one, deliver one copy, at the
    /// highest QoS and with every identifier.
    fn overlapping(selected: &[(SessionId, Subscribed)]) -> Self {
        let [(session, only)] = selected else {
            let mut target = Self::merge(selected);
            let is_local = |(_, subscribed): &&(SessionId, Subscribed)| !subscribed.options.no_local;
            let local: Vec<_> = selected.iter().filter(is_local).copied().collect();
            target.own = match local.len() {
                0 => OwnMessages::Not,
                count if count == selected.len() => OwnMessages::Same,
                _ => OwnMessages::Other(Rc::new(Self::merge(&local))),
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
        let identifiers: Arc<[_]> = selected.iter().filter_map(|(_, one)| one.identifier).collect();
        target.identifiers = Some(identifiers).filter(|identifiers| !identifiers.is_empty());
        target
    }
}

/// What stands behind `$exclusive/`. A subscription cannot be exclusive and shared.
fn exclusive(filter: TopicFilter<'_>) -> Option<TopicFilter<'_>> {
    let pattern = TopicFilter::new(filter.as_str().strip_prefix(EXCLUSIVE)?).ok()?;
    pattern.share_name().is_none().then_some(pattern)
}

/// The filter that topic names are compared with: without `$exclusive/`.
pub(super) fn pattern(filter: TopicFilter<'_>) -> TopicFilter<'_> {
    exclusive(filter).unwrap_or(filter)
}

fn added<T>(replaced: Option<T>) -> Added {
    if replaced.is_some() { Added::Replaced } else { Added::New }
}
