//! From a topic name to the sessions that its messages go to, as a shard remembers it.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicName, TopicNameBuf};

use super::trail::KeptName;
use super::{SessionId, publish};
use crate::hash::HashBuilder;
use crate::shared::{
    Group, OwnMessages, Recipients, ShardId, Shared, Stored, StoredRecipients, StoredTargets, Subscribed,
    Target, Trees,
};

/// Topics whose routes are remembered, at first and where that is not enough; and how many targets and groups these may
/// have in all. A target with many subscription identifiers counts as several.
const PLACES: usize = 4096;
const PLACES_MAXIMUM: usize = 1 << 16;
const TARGETS_MAXIMUM: usize = 256 * 1024;
/// Longer names are not remembered.
const NAME_MAXIMUM: usize = 1024;

/// Where the messages of a topic go.
#[derive(Debug, Default)]
pub(super) struct Route {
    pub(super) sessions: RouteSessions,
    /// Shared subscriptions, of which one member each gets the message.
    pub(super) groups: Vec<Arc<Group>>,
    /// What is different for messages at QoS 1 and 2, if anything is.
    pub(super) stored: Option<Box<StoredRoute>>,
}

/// The sessions that get the messages of a topic.
#[derive(Debug, Default)]
pub(super) struct RouteSessions {
    /// Of this shard.
    pub(super) here: Vec<Target>,
    /// Of other shards.
    pub(super) elsewhere: Vec<(ShardId, Arc<Recipients>)>,
}

/// Where the messages of a topic at QoS 1 and 2 go, if stored sessions are among those that get them.
#[derive(Debug)]
pub(super) struct StoredRoute {
    /// By way of the store.
    pub(super) targets: StoredTargets,
    /// Directly.
    pub(super) others: RouteSessions,
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
    /// Where the name is kept in the shard's trail, if it still is.
    pub(super) recorded: Cell<KeptName>,
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
    /// By the hash of the name. A topic takes the place of another one where its bucket is full.
    buckets: Vec<Bucket>,
    weight: usize,
    /// Where the last topic is remembered, if it is.
    last: RoutePlace,
    /// Topics that came and were not remembered, since there are as many places as there are.
    misses: usize,
    /// The route of a topic that is not remembered.
    passing: Rc<Route>,
    /// The matching subscriptions of a topic, while its route is made.
    selected: Vec<(SessionId, Subscribed)>,
}

/// Places that a topic may take, by its hash, with what decides among them: one line of a processor's cache.
#[derive(Debug, Default, Clone)]
#[repr(align(64))]
struct Bucket {
    known: [Option<Rc<Known>>; WAYS],
    /// From the hash of the topic that is known there.
    marks: [u32; WAYS],
    /// From the hashes of the last topics that were not here. Only one that comes again is worth remembering.
    missed: [u32; WAYS],
}

const WAYS: usize = 4;

impl Bucket {
    /// Where a topic stands, if it does.
    #[inline]
    fn find(&self, mark: u32, name: &[u8]) -> Option<usize> {
        let is_it = |known: &Rc<Known>| known.name().as_str().as_bytes() == name;
        (0..WAYS).find(|&way| self.marks[way] == mark && self.known[way].as_ref().is_some_and(is_it))
    }

    /// Notes a topic that is not here; whether it is one of the last of these.
    fn miss(&mut self, mark: u32) -> bool {
        let is_again = self.missed.contains(&mark);
        if !is_again {
            self.missed.rotate_right(1);
            self.missed[0] = mark;
        }
        is_again
    }

    /// The place for a topic that is not here.
    fn vacate(&self, mark: u32) -> usize {
        // The lower bits are the same for all here.
        self.known.iter().position(Option::is_none).unwrap_or((mark >> 30) as usize % WAYS)
    }

    fn set(&mut self, way: usize, mark: u32, known: Rc<Known>) {
        (self.known[way], self.marks[way]) = (Some(known), mark);
    }
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

    /// Whether the route still holds.
    pub(super) fn is_current(&self, shared: &Shared) -> bool {
        self.generation == shared.subscriptions.generation()
    }

    pub(super) fn route(&self) -> &Route {
        &self.route
    }
}

impl Routes {
    pub(super) fn new(shard: ShardId, shared: Arc<Shared>) -> Self {
        Self {
            shard,
            shared,
            hasher: HashBuilder::default(),
            buckets: Vec::new(),
            weight: 0,
            last: RoutePlace::default(),
            misses: 0,
            passing: Rc::default(),
            selected: Vec::new(),
        }
    }

    /// What is remembered at a place, perhaps of another topic by now.
    #[inline]
    pub(super) fn at(&self, place: RoutePlace) -> Option<&Rc<Known>> {
        let place = usize::from(place.0);
        self.buckets.get(place / WAYS)?.known[place % WAYS].as_ref()
    }

    /// Where the topic with this name is remembered, if it is.
    #[inline]
    pub(super) fn place(&self, name: &[u8]) -> Option<RoutePlace> {
        let mark = self.mark(name);
        let at = self.bucket(mark);
        self.buckets.get(at)?.find(mark, name).map(|way| RoutePlace::new(at, way))
    }

    /// Where the topic is remembered for which [`route`](Self::route) was called last, if it is.
    pub(super) fn last(&self) -> RoutePlace {
        self.last
    }

    /// From the hash of a name: which bucket it belongs to, whatever their number, and a little more.
    fn mark(&self, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name);
        (hasher.finish() >> 32) as u32
    }

    /// Their number is a power of two.
    fn bucket(&self, mark: u32) -> usize {
        mark as usize & self.buckets.len().saturating_sub(1)
    }

    /// Where messages published to a topic go that has been found before.
    pub(super) fn again(&mut self, known: &Rc<Known>) -> Found {
        if known.is_current(&self.shared) { Found::Known(Rc::clone(known)) } else { self.route(known.name()) }
    }

    /// Where messages published to `name` go.
    pub(super) fn route(&mut self, name: TopicName<'_>) -> Found {
        let mark = self.mark(name.as_str().as_bytes());
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); PLACES / WAYS];
        }
        let at = self.bucket(mark);
        let bucket = &mut self.buckets[at];
        let here = bucket.find(mark, name.as_str().as_bytes());
        if let Some(way) = here {
            self.last = RoutePlace::new(at, way);
            if let Some(known) = bucket.known[way].as_ref().filter(|known| known.is_current(&self.shared)) {
                return Found::Known(Rc::clone(known));
            }
        }
        let is_again = here.is_some() || bucket.miss(mark);
        let trees = self.shared.subscriptions.read();
        // It cannot change while the trees are being looked at.
        let generation = self.shared.subscriptions.generation();
        self.misses += usize::from(!is_again);
        if !is_again || name.as_str().len() > NAME_MAXIMUM {
            if Rc::get_mut(&mut self.passing).is_none() {
                self.passing = Rc::default();
            }
            if let Some(route) = Rc::get_mut(&mut self.passing) {
                route.resolve(name, &trees, self.shard, &self.shared.stored, &mut self.selected);
            }
            drop(trees);
            if self.misses > WAYS * self.buckets.len() {
                self.spread();
            }
            return Found::Passing(Rc::clone(&self.passing));
        }
        let mut route = Route::default();
        route.resolve(name, &trees, self.shard, &self.shared.stored, &mut self.selected);
        drop(trees);
        let is_plain = publish::is_plain(&self.shared, name);
        let known =
            Rc::new(Known { name: name.to_buf(), is_plain, generation, route, recorded: Cell::default() });
        let way = here.unwrap_or_else(|| self.buckets[at].vacate(mark));
        self.remember(RoutePlace::new(at, way), mark, &known);
        Found::Known(known)
    }

    /// More topics come again and again than there are places, or else very many that come once: more places, as far as
    /// there may be more.
    #[cold]
    fn spread(&mut self) {
        self.misses = 0;
        let count = (self.buckets.len() * 4).min(PLACES_MAXIMUM / WAYS);
        if count == self.buckets.len() {
            return;
        }
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::default(); count]);
        for Bucket { known, marks, missed } in old {
            for (known, mark) in known.into_iter().zip(marks) {
                let Some(known) = known else { continue };
                let at = self.bucket(mark);
                // All that are in a bucket now come from one that had no more of them.
                let way = self.buckets[at].vacate(mark);
                self.buckets[at].set(way, mark, known);
            }
            for mark in missed {
                let at = self.bucket(mark);
                self.buckets[at].miss(mark);
            }
        }
    }

    fn remember(&mut self, place: RoutePlace, mark: u32, known: &Rc<Known>) {
        let weight = |known: &Rc<Known>| known.route.weight();
        self.weight -= self.at(place).map_or(0, weight);
        if self.weight + weight(known) > TARGETS_MAXIMUM {
            self.buckets.fill(Bucket::default());
            self.weight = 0;
        }
        self.weight += weight(known);
        let (at, way) = (usize::from(place.0) / WAYS, usize::from(place.0) % WAYS);
        self.buckets[at].set(way, mark, Rc::clone(known));
        self.last = place;
    }
}

impl RoutePlace {
    fn new(bucket: usize, way: usize) -> Self {
        Self((bucket * WAYS + way) as u16)
    }
}

impl Route {
    fn resolve(
        &mut self,
        name: TopicName<'_>,
        trees: &Trees,
        here: ShardId,
        stored: &Stored,
        selected: &mut Vec<(SessionId, Subscribed)>,
    ) {
        self.sessions.here.clear();
        self.sessions.elsewhere.clear();
        self.groups.clear();
        self.stored = None;
        selected.clear();
        let groups = &mut self.groups;
        trees.matches(
            name,
            |session, subscribed| selected.push((session, subscribed)),
            |group| groups.push(Arc::clone(group)),
        );
        if let [(session, subscribed)] = &selected[..]
            && session.shard() == here
            && !session.is_stored()
        {
            return self.sessions.here.push(Target::new(*session, subscribed));
        }
        selected.sort_unstable_by_key(|&(session, _)| session);
        self.sessions.resolve(name, here, selected);
        if selected.iter().any(|(session, subscribed)| is_stored(*session, subscribed.options.qos)) {
            self.stored = StoredRoute::resolve(name, here, selected, stored).map(Box::new);
        }
        selected.clear();
        selected.shrink_to(1024);
    }

    /// To how many sessions the shard that has most of them delivers each message.
    pub(super) fn width(&self) -> usize {
        let RouteSessions { here, elsewhere } = &self.sessions;
        elsewhere.iter().map(|(_, recipients)| recipients.targets.len()).fold(here.len(), usize::max)
    }

    /// How much of what may be remembered it takes.
    fn weight(&self) -> usize {
        let stored = self.stored.as_ref();
        let recipients = stored.into_iter().flat_map(|stored| &stored.targets.recipients);
        // Each is there as the shards are told and as the store is.
        let by_store: usize = recipients.flat_map(|(_, it)| &it.targets).map(|(it, _)| 2 * it.weight()).sum();
        let others = stored.map_or(0, |stored| stored.others.weight());
        1 + self.groups.len() + self.sessions.weight() + by_store + others
    }
}

/// Whether a session with such a subscription gets messages by way of the store.
fn is_stored(session: SessionId, qos: QoS) -> bool {
    session.is_stored() && qos > QoS::AtMostOnce
}

impl RouteSessions {
    /// `selected` is sorted by session.
    fn resolve(&mut self, name: TopicName<'_>, here: ShardId, selected: &[(SessionId, Subscribed)]) {
        for of_shard in selected.chunk_by(|one, other| one.0.shard() == other.0.shard()) {
            let targets = of_shard.chunk_by(|one, other| one.0 == other.0).map(Target::overlapping);
            self.add(name, here, of_shard[0].0.shard(), targets);
        }
    }

    fn add(
        &mut self,
        name: TopicName<'_>,
        here: ShardId,
        shard: ShardId,
        targets: impl Iterator<Item = Target>,
    ) {
        if shard == here {
            return self.here.extend(targets);
        }
        let recipients = Recipients { name: Some(name.to_buf()), targets: targets.collect() };
        self.elsewhere.push((shard, Arc::new(recipients)));
    }

    fn weight(&self) -> usize {
        let elsewhere = self.elsewhere.iter().flat_map(|(_, recipients)| recipients.targets.iter());
        self.here.iter().chain(elsewhere).map(Target::weight).sum()
    }
}

impl StoredRoute {
    /// `selected` is sorted by session. `None` if the stored sessions among them have ended meanwhile.
    fn resolve(
        name: TopicName<'_>,
        here: ShardId,
        selected: &[(SessionId, Subscribed)],
        stored: &Stored,
    ) -> Option<Self> {
        let (mut recipients, mut queue) = (Vec::new(), Vec::new());
        let mut others = RouteSessions::default();
        for of_shard in selected.chunk_by(|one, other| one.0.shard() == other.0.shard()) {
            let shard = of_shard[0].0.shard();
            let targets = of_shard.chunk_by(|one, other| one.0 == other.0).map(Target::overlapping);
            let (by_store, directly): (Vec<_>, Vec<_>) =
                targets.partition(|target| is_stored(target.session, target.qos));
            if !directly.is_empty() {
                others.add(name, here, shard, directly.into_iter());
            }
            let mut targets = Vec::new();
            for target in by_store {
                if let Some(queue_target) = stored.queue_target(&target, None) {
                    targets.push((target, queue_target.session));
                    queue.push(queue_target);
                }
            }
            if !targets.is_empty() {
                recipients.push((shard, Arc::new(StoredRecipients { targets: targets.into() })));
            }
        }
        let all = recipients.iter().flat_map(|(_, recipients)| &recipients.targets);
        let has_own = all.into_iter().any(|(target, _)| !matches!(target.own, OwnMessages::Same));
        let targets = StoredTargets { recipients, queue: queue.into(), has_own };
        (!targets.queue.is_empty()).then_some(Self { targets, others })
    }
}
