//! A shared subscription: sessions that take turns.

use std::num::NonZeroU32;
use std::sync::{Arc, MutexGuard, PoisonError};

use lapwing_proto::packet::QoS;

use super::{Recipients, Target};
use crate::shard::SessionId;
use crate::sync::Mutex;

/// Names a shared subscription. Not used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId {
    pub(crate) index: u32,
    pub(crate) serial: NonZeroU32,
}

/// The members of a shared subscription, on whatever shards they are.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) filter: Arc<str>,
    members: Mutex<Members>,
}

/// Each member is there in the form in which it is handed to another shard.
#[derive(Debug, Default)]
struct Members {
    connected: Vec<Arc<Recipients>>,
    /// Whose sessions are kept without a connection.
    absent: Vec<Arc<Recipients>>,
    next: usize,
}

impl Group {
    pub(super) fn new(id: GroupId, filter: Arc<str>) -> Self {
        Self { id, filter, members: Mutex::default() }
    }

    /// Adds or replaces a member; whether it is new.
    pub(super) fn join(&self, member: Target, is_connected: bool) -> bool {
        let mut members = self.members();
        let Members { connected, absent, .. } = &mut *members;
        let existing = connected.iter_mut().chain(absent).find(|it| it.targets[0].session == member.session);
        if let Some(existing) = existing {
            *existing = alone(member);
            return false;
        }
        let list = if is_connected { &mut members.connected } else { &mut members.absent };
        list.push(alone(member));
        true
    }

    /// Removes a member; whether it was one.
    pub(super) fn leave(&self, session: SessionId) -> bool {
        let mut members = self.members();
        let Members { connected, absent, .. } = &mut *members;
        take(connected, session).or_else(|| take(absent, session)).is_some()
    }

    /// A member's client has connected, or its connection has ended.
    pub(super) fn note_presence(&self, session: SessionId, is_connected: bool) {
        let mut members = self.members();
        let Members { connected, absent, .. } = &mut *members;
        let (from, to) = if is_connected { (absent, connected) } else { (connected, absent) };
        to.extend(take(from, session));
    }

    /// The highest quality of service that a member gets.
    pub(super) fn qos(&self, session: SessionId) -> Option<QoS> {
        let members = self.members();
        let mut all = members.connected.iter().chain(&members.absent).map(|member| &member.targets[0]);
        all.find(|target| target.session == session).map(|target| target.qos)
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        let members = self.members();
        members.connected.len() + members.absent.len()
    }

    /// Whether a member is connected.
    pub(crate) fn is_served(&self) -> bool {
        !self.members().connected.is_empty()
    }

    /// Whether whichever member gets the next message gets it by way of the store, at QoS 1 and 2.
    pub(crate) fn is_by_store(&self) -> bool {
        let members = self.members();
        let list = if members.connected.is_empty() { &members.absent } else { &members.connected };
        let is_by_store = |target: &Target| target.session.is_stored() && target.qos > QoS::AtMostOnce;
        !list.is_empty() && list.iter().all(|member| is_by_store(&member.targets[0]))
    }

    /// The member that gets the next message: the next one that is connected, or if none is, the next one, whose
    /// session keeps it.
    pub(crate) fn choose(&self) -> Option<Arc<Recipients>> {
        let mut members = self.members();
        let Members { connected, absent, next } = &mut *members;
        let list = if connected.is_empty() { absent } else { connected };
        let at = if *next < list.len() { *next } else { 0 };
        *next = at + 1;
        list.get(at).map(Arc::clone)
    }

    /// One of those of whom one would get the next message, if all of them are full.
    pub(crate) fn full_member(&self, is_full: impl Fn(&Target) -> bool) -> Option<SessionId> {
        let members = self.members();
        let list = if members.connected.is_empty() { &members.absent } else { &members.connected };
        let are_full = list.iter().all(|member| is_full(&member.targets[0]));
        list.first().filter(|_| are_full).map(|member| member.targets[0].session)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alone(member: Target) -> Arc<Recipients> {
    Arc::new(Recipients { name: None, targets: Box::new([member]) })
}

fn take(list: &mut Vec<Arc<Recipients>>, session: SessionId) -> Option<Arc<Recipients>> {
    let at = list.iter().position(|member| member.targets[0].session == session)?;
    Some(list.remove(at))
}
