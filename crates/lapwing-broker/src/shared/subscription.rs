//! The subscriptions of all sessions.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{FilterTree, TopicFilter, TopicName};
use slab::Slab;

use super::{Group, GroupId, Subscribed, Target};
use crate::hook::{Permit, RuleId};
use crate::shard::SessionId;
use crate::sync::{AtomicU64, Ordering, RwLock};

/// What an exclusive subscription begins with.
pub(crate) const EXCLUSIVE: &str = "$exclusive/";

/// The subscriptions of all sessions, for all shards: a change holds for every message that is published after
/// it, on whichever shard.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    trees: RwLock<Trees>,
    /// Changes whenever a topic may lead elsewhere.
    generation: AtomicU64,
}

/// From topic names to subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    /// Subscriptions that are not shared.
    own: FilterTree<SessionId, Subscribed>,
    /// Shared subscriptions: the groups by their patterns.
    shared: FilterTree<usize, ()>,
    groups: Slab<Arc<Group>>,
    group_by_filter: HashMap<Box<str>, usize>,
    group_serial: u32,
    /// Exclusive subscriptions: `$exclusive/FILTER`, by what stands behind the prefix.
    exclusive: FilterTree<SessionId, Subscribed>,
    exclusive_by_filter: HashMap<Box<str>, SessionId>,
    /// What the clients of sessions with checked subscriptions may be given.
    readers: HashMap<SessionId, Arc<dyn Permit>>,
}

/// Who has subscriptions that match a topic.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    pub(crate) sessions: Vec<Watcher>,
    pub(crate) groups: Vec<Arc<Group>>,
}

/// A session with a subscription that matches a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watcher {
    pub(crate) session: SessionId,
    /// Whether its client is not given the topic all the same, and by which rule.
    pub(crate) is_withheld: bool,
    pub(crate) rule: Option<RuleId>,
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    /// It replaced one with the same filter.
    Replaced,
    /// Another session has it, and it is exclusive.
    Occupied,
}

impl Subscriptions {
    /// Adds or replaces a subscription of a session whose client is connected.
    pub(crate) fn subscribe(
        &self,
        session: SessionId,
        filter: TopicFilter<'_>,
        subscribed: Subscribed,
    ) -> Added {
        let mut trees = self.write();
        if filter.share_name().is_some() {
            let (added, leads_elsewhere) = trees.join(session, filter, &subscribed);
            if leads_elsewhere {
                self.renew();
            }
            return added;
        }
        let added = trees.subscribe(session, filter, subscribed);
        if added != Added::Occupied {
            self.renew();
        }
        added
    }

    /// Removes a subscription; whether it existed.
    pub(crate) fn unsubscribe(&self, session: SessionId, filter: TopicFilter<'_>) -> bool {
        let mut trees = self.write();
        let existed = trees.unsubscribe(session, filter);
        if existed {
            self.renew();
        }
        existed
    }

    /// Whether a subscription's messages are checked one by one from now on. It keeps everything else.
    pub(crate) fn set_checked(&self, session: SessionId, filter: TopicFilter<'_>, is_checked: bool) {
        let mut trees = self.write();
        let found = match exclusive(filter) {
            Some(pattern) => trees.exclusive.get(pattern, &session).copied(),
            None => trees.own.get(filter, &session).copied(),
        };
        if let Some(subscribed) = found.filter(|found| found.is_checked != is_checked) {
            trees.subscribe(session, filter, Subscribed { is_checked, ..subscribed });
            self.renew();
        }
    }

    /// What a session's client may be given, by which its checked subscriptions are checked.
    pub(crate) fn set_reader(&self, session: SessionId, permit: Option<Arc<dyn Permit>>) {
        let mut trees = self.write();
        match permit {
            Some(permit) => trees.readers.insert(session, permit),
            None => trees.readers.remove(&session),
        };
        self.renew();
    }

    /// The client of a session with this shared subscription has connected, or its connection has ended.
    pub(crate) fn note_presence(&self, session: SessionId, filter: TopicFilter<'_>, is_connected: bool) {
        let trees = self.read();
        if let Some(&index) = trees.group_by_filter.get(filter.as_str()) {
            trees.groups[index].note_presence(session, is_connected);
        }
    }

    /// A shared subscription that still exists.
    pub(crate) fn group(&self, id: GroupId) -> Option<Arc<Group>> {
        self.read().groups.get(id.index as usize).filter(|group| group.id == id).map(Arc::clone)
    }

    /// Which one has this filter, `$share/NAME/` included, if there is one.
    pub(crate) fn group_id(&self, filter: &str) -> Option<GroupId> {
        let trees = self.read();
        trees.group_by_filter.get(filter).map(|&index| trees.groups[index].id)
    }

    /// The highest quality of service that a subscription gives.
    pub(crate) fn qos(&self, session: SessionId, filter: TopicFilter<'_>) -> Option<QoS> {
        let trees = self.read();
        if filter.share_name().is_some() {
            let &index = trees.group_by_filter.get(filter.as_str())?;
            return trees.groups[index].qos(session);
        }
        let subscribed = match exclusive(filter) {
            Some(pattern) => trees.exclusive.get(pattern, &session),
            None => trees.own.get(filter, &session),
        };
        subscribed.map(|subscribed| subscribed.options.qos)
    }

    /// How many subscriptions there are, and how many of them are shared.
    pub(crate) fn count(&self) -> (usize, usize) {
        let trees = self.read();
        let members = trees.groups.iter().map(|(_, group)| group.len()).sum();
        (trees.own.len() + trees.exclusive.len() + members, members)
    }

    /// As of which change the trees are. Where it is the same as before, every topic leads where it led before.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Trees> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Trees> {
        self.trees.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the trees locked, so that whoever looks at them afterwards knows that they have changed.
    fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Trees {
    fn subscribe(&mut self, session: SessionId, filter: TopicFilter<'_>, subscribed: Subscribed) -> Added {
        let Some(pattern) = exclusive(filter) else {
            return added(self.own.insert(filter, session, subscribed));
        };
        let owner = *self.exclusive_by_filter.entry(pattern.as_str().into()).or_insert(session);
        if owner != session {
            return Added::Occupied;
        }
        added(self.exclusive.insert(pattern, session, subscribed))
    }

    /// Makes a session a member of a shared subscription, and says whether that is a new one.
    fn join(
        &mut self,
        session: SessionId,
        filter: TopicFilter<'_>,
        subscribed: &Subscribed,
    ) -> (Added, bool) {
        let existing = self.group_by_filter.get(filter.as_str()).copied();
        let index = existing.unwrap_or_else(|| self.make_group(filter));
        let group = &self.groups[index];
        let member = Target::member(session, subscribed, group.id);
        let added = if group.join(member, true) { Added::New } else { Added::Replaced };
        (added, existing.is_none())
    }

    fn make_group(&mut self, filter: TopicFilter<'_>) -> usize {
        self.group_serial = self.group_serial.wrapping_add(1);
        let serial = NonZeroU32::new(self.group_serial).unwrap_or(NonZeroU32::MIN);
        let entry = self.groups.vacant_entry();
        let index = entry.key();
        let id = GroupId { index: index as u32, serial };
        entry.insert(Arc::new(Group::new(id, filter.as_str().into())));
        self.group_by_filter.insert(filter.as_str().into(), index);
        self.shared.insert(filter, index, ());
        index
    }

    fn unsubscribe(&mut self, session: SessionId, filter: TopicFilter<'_>) -> bool {
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
        let existed = self.groups[index].leave(session);
        if self.groups[index].len() == 0 {
            let group = self.groups.remove(index);
            self.group_by_filter.remove(&*group.filter);
            self.shared.remove(filter, &index);
        }
        existed
    }

    /// Shows every subscription that matches `name` and is not shared, and every shared one. One that is checked is not
    /// shown if its client may not be given the message.
    pub(crate) fn matches(
        &self,
        name: TopicName<'_>,
        mut own: impl FnMut(SessionId, Subscribed),
        mut shared: impl FnMut(&Arc<Group>),
    ) {
        let mut show = |&session: &SessionId, &subscribed: &Subscribed| {
            if !subscribed.is_checked || self.may_receive(session, name) {
                own(session, subscribed);
            }
        };
        self.own.matches(name, &mut show);
        if !self.exclusive.is_empty() {
            self.exclusive.matches(name, &mut show);
        }
        if !self.shared.is_empty() {
            self.shared.matches(name, |&group, &()| shared(&self.groups[group]));
        }
    }

    /// Up to so many sessions with subscriptions that match and are not shared, with those that are not given this topic;
    /// and the shared subscriptions.
    pub(crate) fn watchers(&self, name: TopicName<'_>, maximum: usize) -> Watchers {
        let mut watchers = Watchers::default();
        let mut show = |&session: &SessionId, &subscribed: &Subscribed| {
            if watchers.sessions.len() < maximum {
                let permit = self.readers.get(&session).filter(|_| subscribed.is_checked);
                let denied = permit.map(|permit| permit.may_receive(name)).filter(|it| !it.is_allowed);
                let is_withheld = denied.is_some() || (subscribed.is_checked && permit.is_none());
                watchers.sessions.push(Watcher { session, is_withheld, rule: denied.and_then(|it| it.rule) });
            }
        };
        self.own.matches(name, &mut show);
        self.exclusive.matches(name, &mut show);
        self.shared.matches(name, |&group, &()| {
            if watchers.groups.len() < maximum {
                watchers.groups.push(Arc::clone(&self.groups[group]));
            }
        });
        watchers
    }

    /// Whether the messages of a subscription are checked one by one.
    pub(crate) fn is_checked(&self, session: SessionId, filter: TopicFilter<'_>) -> bool {
        let subscribed = match exclusive(filter) {
            Some(pattern) => self.exclusive.get(pattern, &session),
            None => self.own.get(filter, &session),
        };
        subscribed.is_some_and(|subscribed| subscribed.is_checked)
    }

    fn may_receive(&self, session: SessionId, name: TopicName<'_>) -> bool {
        self.readers.get(&session).is_some_and(|permit| permit.may_receive(name).is_allowed)
    }
}

/// What stands behind `$exclusive/`. A subscription cannot be exclusive and shared.
fn exclusive(filter: TopicFilter<'_>) -> Option<TopicFilter<'_>> {
    let pattern = TopicFilter::new(filter.as_str().strip_prefix(EXCLUSIVE)?).ok()?;
    pattern.share_name().is_none().then_some(pattern)
}

/// The filter that topic names are compared with: without `$exclusive/`.
pub(crate) fn pattern(filter: TopicFilter<'_>) -> TopicFilter<'_> {
    exclusive(filter).unwrap_or(filter)
}

fn added<T>(replaced: Option<T>) -> Added {
    if replaced.is_some() { Added::Replaced } else { Added::New }
}
