//! From a topic name to the sessions that its messages go to, as a shard remembers it.

use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use lapwing_proto::topic::{TopicName, TopicNameBuf};

use super::{SessionId, publish};
use crate::hash::HashBuilder;
use crate::shared::{Group, Recipients, ShardId, Shared, Subscribed, Target, Trees};

/// Topics whose routes are remembered, and how many targets and groups these may have in all. A target with many
/// subscription identifiers counts as several.
const PLACES: usize = 4096;
const TARGETS_MAXIMUM: usize = 256 * 1024;
/// Longer names are not remembered.
const NAME_MAXIMUM: usize = 1024;

/// Where the messages of a topic go.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// Sessions of this shard.
    pub(super) targets: Vec<Target>,
    /// Sessions of other shards.
    pub(super) elsewhere: Vec<(ShardId, Arc<Recipients>)>,
    /// Shared subscriptions, of which one member each gets the message.
    pub(super) groups: Vec<Arc<Group>>,
}

/// A topic that is remembered, with its route.
#[derive(Debug)]
pub(super) struct Known {
    name: TopicNameBuf,
    /// Whether a client's message to it is published just there and now, if the client may: no rule rewrites it, it asks
    /// for no delay, and it is neither too deep nor one of the server's own.
    pub(super) is_plain: bool,
    /// As of which change of the subscriptions the route is.
    generation: u64,
    route: Route,
}

/// Where a topic is remembered, if it still is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoutePlace(u16);

/// The routes of topics that a shard's clients have published to lately: devices publish to the same few again
/// and again.
pub(super) struct Routes {
    shard: ShardId,
    shared: Arc<Shared>,
    hasher: HashBuilder,
    /// By the hash of the name: a topic has one place, and takes it from another one.
    places: Vec<Place>,
    weight: usize,
    /// The route of a topic that is not remembered.
    passing: Rc<Route>,
    /// The matching subscriptions of a topic, while its route is made.
    selected: Vec<(SessionId, Subscribed)>,
}

#[derive(Debug, Default, Clone)]
struct Place {
    known: Option<Rc<Known>>,
    /// From the hash of the last topic that was not here. Only one that comes again is worth remembering.
    missed: u32,
}

/// A route that was found.
pub(super) enum Found {
    Known(Rc<Known>),
    Passing(Rc<Route>),
}

impl Found {
    pub(super) fn route(&self) -> &Route {
        match self {
            Self::Known(known) => &known.route,
            Self::Passing(route) => route,
        }
    }
}

impl Known {
    pub(super) fn name(&self) -> TopicName<'_> {
        self.name.as_name()
    }

    /// Whether `name` is this very name, not only one that reads the same.
    pub(super) fn is_name(&self, name: TopicName<'_>) -> bool {
        std::ptr::eq(self.name().as_str(), name.as_str())
    }

    /// The route, if it still holds.
    fn is_current(&self, shared: &Shared) -> bool {
        self.generation == shared.subscriptions.generation()
    }
}

impl Routes {
    pub(super) fn new(shard: ShardId, shared: Arc<Shared>) -> Self {
        Self {
            shard,
            shared,
            hasher: HashBuilder::default(),
            places: Vec::new(),
            weight: 0,
            passing: Rc::default(),
            selected: Vec::new(),
        }
    }

    /// What is remembered at a place, perhaps of another topic by now.
    #[inline]
    pub(super) fn at(&self, place: RoutePlace) -> Option<&Rc<Known>> {
        self.places.get(usize::from(place.0))?.known.as_ref()
    }

    /// Where `name` is remembered, if it is.
    pub(super) fn place(&self, name: TopicName<'_>) -> RoutePlace {
        RoutePlace((self.hasher.hash_one(name.as_str()) as usize % PLACES) as u16)
    }

    /// Where messages published to a topic go that has been found before.
    pub(super) fn again(&mut self, known: &Rc<Known>) -> Found {
        if known.is_current(&self.shared) { Found::Known(Rc::clone(known)) } else { self.route(known.name()) }
    }

    /// Where messages published to `name` go.
    pub(super) fn route(&mut self, name: TopicName<'_>) -> Found {
        let hash = self.hasher.hash_one(name.as_str());
        let at = hash as usize % PLACES;
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        let Place { known, missed } = &mut self.places[at];
        let is_here = known.as_ref().is_some_and(|known| known.name().as_str() == name.as_str());
        if let Some(known) = known.as_ref().filter(|known| is_here && known.is_current(&self.shared)) {
            return Found::Known(Rc::clone(known));
        }
        let mark = (hash >> 32) as u32;
        let is_again = std::mem::replace(missed, mark) == mark || is_here;
        let trees = self.shared.subscriptions.read();
        // It cannot change while the trees are being looked at.
        let generation = self.shared.subscriptions.generation();
        if !is_again || name.as_str().len() > NAME_MAXIMUM {
            if Rc::get_mut(&mut self.passing).is_none() {
                self.passing = Rc::default();
            }
            if let Some(route) = Rc::get_mut(&mut self.passing) {
                route.resolve(name, &trees, self.shard, &mut self.selected);
            }
            return Found::Passing(Rc::clone(&self.passing));
        }
        let mut route = Route::default();
        route.resolve(name, &trees, self.shard, &mut self.selected);
        drop(trees);
        let is_plain = publish::is_plain(&self.shared, name);
        let known = Rc::new(Known { name: name.to_buf(), is_plain, generation, route });
        self.remember(at, &known);
        Found::Known(known)
    }

    fn remember(&mut self, at: usize, known: &Rc<Known>) {
        let weight = |known: &Rc<Known>| known.route.weight();
        self.weight -= self.places[at].known.as_ref().map_or(0, weight);
        if self.weight + weight(known) > TARGETS_MAXIMUM {
            self.places.fill(Place::default());
            self.weight = 0;
        }
        self.weight += weight(known);
        self.places[at].known = Some(Rc::clone(known));
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
        if let [(session, subscribed)] = &selected[..]
            && session.shard() == here
        {
            return self.targets.push(Target::new(*session, subscribed));
        }
        selected.sort_unstable_by_key(|&(session, _)| session);
        for of_shard in selected.chunk_by(|one, other| one.0.shard() == other.0.shard()) {
            let targets = of_shard.chunk_by(|one, other| one.0 == other.0).map(Target::overlapping);
            match of_shard[0].0.shard() {
                shard if shard == here => self.targets.extend(targets),
                shard => {
                    let recipients = Recipients { name: Some(name.to_buf()), targets: targets.collect() };
                    self.elsewhere.push((shard, Arc::new(recipients)));
                }
            }
        }
        selected.clear();
        selected.shrink_to(1024);
    }

    /// How much of what may be remembered it takes.
    fn weight(&self) -> usize {
        let elsewhere = self.elsewhere.iter().flat_map(|(_, recipients)| recipients.targets.iter());
        1 + self.groups.len() + self.targets.iter().chain(elsewhere).map(Target::weight).sum::<usize>()
    }
}
