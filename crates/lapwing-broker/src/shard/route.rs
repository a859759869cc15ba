//! From a topic name to the sessions that its messages go to, as a shard remembers it.

use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use lapwing_proto::topic::TopicName;

use super::SessionId;
use crate::shared::{Group, ShardId, Subscribed, Subscriptions, Target, Trees};

/// Topics whose routes are remembered, and how many targets and groups these may have in all. A target with many
/// subscription identifiers counts as several.
const SLOTS: usize = 4096;
const TARGETS_MAXIMUM: usize = 256 * 1024;
/// Longer names are not remembered.
const NAME_MAXIMUM: usize = 1024;

/// Where the messages of a topic go.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// Sessions of this shard.
    pub(super) targets: Vec<Target>,
    /// Sessions of other shards.
    pub(super) elsewhere: Vec<(ShardId, Arc<[Target]>)>,
    /// Shared subscriptions, of which one member each gets the message.
    pub(super) groups: Vec<Arc<Group>>,
}

/// The routes of topics that a shard's clients have published to lately: devices publish to the same few again
/// and again.
#[derive(Debug)]
pub(super) struct Routes {
    shard: ShardId,
    hasher: DefaultHashBuilder,
    /// By the hash of the name: a topic has one place, and takes it from another one.
    slots: Vec<Slot>,
    weight: usize,
    /// The route of a topic that is not remembered.
    passing: Rc<Route>,
    /// The matching subscriptions of a topic, while its route is made.
    selected: Vec<(SessionId, Subscribed)>,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    name: Box<str>,
    /// As of which change of the subscriptions.
    generation: u64,
    route: Option<Rc<Route>>,
    /// From the hash of the last topic that was not here. Only one that comes again is worth remembering.
    missed: u32,
}

impl Routes {
    pub(super) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            weight: 0,
            passing: Rc::default(),
            selected: Vec::new(),
        }
    }

    /// Where messages published to `name` go.
    pub(super) fn route(&mut self, name: TopicName<'_>, subscriptions: &Subscriptions) -> Rc<Route> {
        let generation = subscriptions.generation();
        let hash = self.hasher.hash_one(name.as_str());
        let at = hash as usize % SLOTS;
        if let Some(Slot { name: known, generation: of, route: Some(route), .. }) = self.slots.get(at)
            && *of == generation
            && **known == *name.as_str()
        {
            return Rc::clone(route);
        }
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SLOTS];
        }
        let slot = &mut self.slots[at];
        let mark = (hash >> 32) as u32;
        let is_again = slot.missed == mark || *slot.name == *name.as_str();
        slot.missed = mark;
        let trees = subscriptions.read();
        // It cannot change while the trees are being looked at.
        let generation = subscriptions.generation();
        if !is_again || name.as_str().len() > NAME_MAXIMUM {
            if Rc::get_mut(&mut self.passing).is_none() {
                self.passing = Rc::default();
            }
            if let Some(route) = Rc::get_mut(&mut self.passing) {
                route.resolve(name, &trees, self.shard, &mut self.selected);
            }
            return Rc::clone(&self.passing);
        }
        let mut route = Route::default();
        route.resolve(name, &trees, self.shard, &mut self.selected);
        drop(trees);
        self.remember(at, name, generation, Rc::new(route))
    }

    fn remember(&mut self, at: usize, name: TopicName<'_>, generation: u64, route: Rc<Route>) -> Rc<Route> {
        let weight = |route: &Option<Rc<Route>>| route.as_ref().map_or(0, |route| route.weight());
        self.weight -= weight(&self.slots[at].route);
        if self.weight + route.weight() > TARGETS_MAXIMUM {
            self.slots.fill(Slot::default());
            self.weight = 0;
        }
        self.weight += route.weight();
        let slot = &mut self.slots[at];
        if *slot.name != *name.as_str() {
            slot.name = name.as_str().into();
        }
        slot.generation = generation;
        slot.route = Some(Rc::clone(&route));
        route
    }
}

impl Route {
    fn resolve(
        &mut self,
        name: TopicName<'_>,
        trees: &Trees,
        here: ShardId,
        selected: &mut Vec<(SessionId, Subscribed)>,
    ) {
        self.targets.clear();
        self.elsewhere.clear();
        self.groups.clear();
        selected.clear();
        let groups = &mut self.groups;
        trees.matches(
            name,
            |session, subscribed| selected.push((session, subscribed)),
            |group| groups.push(Arc::clone(group)),
        );
        if selected.len() > 1 {
            selected.sort_unstable_by_key(|&(session, _)| session);
        }
        for of_shard in selected.chunk_by(|one, other| one.0.shard() == other.0.shard()) {
            let targets = of_shard.chunk_by(|one, other| one.0 == other.0).map(Target::overlapping);
            match of_shard[0].0.shard() {
                shard if shard == here => self.targets.extend(targets),
                shard => self.elsewhere.push((shard, targets.collect())),
            }
        }
        selected.clear();
        selected.shrink_to(1024);
    }

    /// How much of what may be remembered it takes.
    fn weight(&self) -> usize {
        let elsewhere = self.elsewhere.iter().flat_map(|(_, targets)| targets.iter());
        self.groups.len() + self.targets.iter().chain(elsewhere).map(Target::weight).sum::<usize>()
    }
}
