//! Several shards and the store, stepped in a random order, with processes that end and power that is lost at any
//! moment.
//!
//! Clients keep their ends of the sessions as the specification wants it: they send again what was not acknowledged.
//! So these must hold, whatever happens, for what was acknowledged to a client:
//!
//! - the message reaches every session that was subscribed to its topic all the while;
//! - at QoS 2 it does so once;
//! - the messages of a publisher to a topic and at a QoS come in order: when a client sends again, a QoS 1 message comes
//!   behind a QoS 2 message that is known;
//! - the session is there, with its subscriptions and no others;
//! - what is retained is what was retained last, or what was sent later;
//! - when everybody has gone, nothing is left on the disk.

mod client;
mod publisher;
mod subscriber;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lapwing_proto::topic::{TopicFilter, TopicName};
use lapwing_store::engine::{Cut, Fault, FaultyDisk, Space};

use self::publisher::Publisher;
use self::subscriber::{Got, Stage, Subscriber};
use super::broker::Broker;
use super::random::{Random, Seed};
use super::{V5, V311};
use crate::shard::{SessionKey, Shard};

const TOPICS: [&str; 3] = ["t/0", "t/1", "t/2"];
/// Each is one publisher's own and has messages of one QoS, so that it is known what comes after what.
const RETAINED: [&str; 3] = ["r/0", "r/1", "r/2"];
const FILTERS: [&str; 6] = ["#", "t/+", "t/0", "t/1", "r/+", "t/2"];

/// A message that was published.
struct Published {
    topic: &'static str,
    payload: String,
    qos: u8,
    retain: bool,
    is_acknowledged: bool,
    /// The sessions that are subscribed, each with the QoS that was granted and with how often it had changed anything
    /// by then.
    sure: BTreeMap<usize, (u8, usize)>,
    /// The same when it was first sent.
    subscribed: BTreeMap<usize, (u8, usize)>,
}

struct Simulation {
    broker: Broker,
    random: Random,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    published: Vec<Published>,
    crashes: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        // Seeds that are neighbours are not to give nearly the same numbers.
        let mut random = Random::new(seed << 32);
        let shards = 1 + random.below(3);
        let memory = if random.once_in(3) { 2000 } else { usize::MAX };
        let broker = Broker::with(|setup| {
            setup.shards = shards;
            setup.disk = Some(FaultyDisk::new(seed));
            setup.limits.queue_memory_bytes = setup.limits.queue_memory_bytes.min(memory);
        });
        broker.world().is_stepwise = true;
        broker.world().is_held = true;
        let version = |number: usize| if number.is_multiple_of(2) { V5 } else { V311 };
        Self {
            broker,
            random,
            publishers: (0..3).map(|number| Publisher::new(format!("p{number}"), version(number))).collect(),
            subscribers: (0..4)
                .map(|number| Subscriber::new(format!("s{number}"), version(number)))
                .collect(),
            published: Vec::new(),
            crashes: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..=13 => self.turn(),
            14..=18 => drop(self.broker.world().store_turn()),
            19 => self.leisure_turn(),
            20..=25 => self.publish(),
            26..=33 => self.handle_somebody(),
            34 | 35 => self.change_subscription(),
            36..=38 => self.come_or_go(),
            _ if self.random.once_in(3) => self.crash(),
            _ => {}
        }
    }

    fn turn(&mut self) {
        let count = self.broker.world().shards.len();
        let at = self.random.below(count);
        self.broker.world().turn(at);
    }

    /// The store has a turn without anything new to do.
    fn leisure_turn(&mut self) {
        let mut world = self.broker.world();
        if let Some(writer) = world.writer.as_mut().filter(|writer| !writer.has_requests()) {
            writer.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    fn publish(&mut self) {
        let chosen = self.random.below(self.publishers.len());
        if !self.publishers[chosen].may_publish() {
            return;
        }
        let retain = self.random.once_in(4);
        let topic = if retain { RETAINED[chosen] } else { self.random.pick(&TOPICS) };
        let qos = 1 + if retain { chosen % 2 } else { self.random.below(2) } as u8;
        let number = self.published.len();
        let is_deletion = retain && self.random.once_in(4);
        let payload = if is_deletion { String::new() } else { format!("{chosen}/{qos} {number}") };
        let sure = self.subscribed(topic);
        let publisher = &mut self.publishers[chosen];
        publisher.publish(&mut self.broker.world(), number, (topic, &payload), (qos, retain));
        self.published.push(Published {
            topic,
            payload,
            qos,
            retain,
            is_acknowledged: false,
            subscribed: sure.clone(),
            sure,
        });
    }

    /// Who is surely subscribed to a topic.
    fn subscribed(&self, topic: &str) -> BTreeMap<usize, (u8, usize)> {
        let name = TopicName::new(topic).unwrap();
        let matches = |filter: &str| TopicFilter::new(filter).unwrap().matches(name);
        let granted = |subscriber: &Subscriber| {
            let matching = subscriber.filters.iter().filter(|(filter, _)| matches(filter));
            let held = matching.filter(|(_, (_, stage))| *stage == Stage::Held);
            held.map(|(_, (qos, _))| (*qos, subscriber.changed)).max()
        };
        let all = self.subscribers.iter().enumerate();
        all.filter_map(|(number, subscriber)| Some((number, granted(subscriber)?))).collect()
    }

    fn handle_somebody(&mut self) {
        let chosen = self.random.below(self.publishers.len() + self.subscribers.len());
        let mut world = self.broker.world();
        match chosen.checked_sub(self.publishers.len()) {
            None => drop(self.publishers[chosen].handle_inbox(&mut world)),
            Some(chosen) => drop(self.subscribers[chosen].handle_inbox(&mut world)),
        }
        drop(world);
        self.note_acknowledged();
    }

    /// What has been acknowledged must be kept for those who are still subscribed as they were.
    fn note_acknowledged(&mut self) {
        for publisher in &mut self.publishers {
            for number in std::mem::take(&mut publisher.acknowledged) {
                let published = &mut self.published[number];
                published.is_acknowledged = true;
                published
                    .sure
                    .retain(|&number, &mut (_, changed)| self.subscribers[number].changed == changed);
            }
        }
    }

    fn change_subscription(&mut self) {
        let chosen = self.random.below(self.subscribers.len());
        let filter = self.random.pick(&FILTERS);
        let qos = self.random.below(3) as u8;
        let is_leaving = self.random.once_in(3);
        let subscriber = &mut self.subscribers[chosen];
        if !subscriber.client.is_connected {
            return;
        }
        let is_awaited =
            subscriber.filters.get(filter).is_some_and(|(_, stage)| !matches!(stage, Stage::Held));
        let mut world = self.broker.world();
        match subscriber.filters.contains_key(filter) {
            _ if is_awaited && !is_leaving => {}
            true if is_leaving => subscriber.unsubscribe(&mut world, filter),
            _ => subscriber.subscribe(&mut world, filter, qos),
        }
    }

    /// Somebody connects, over the old connection if there is one, or its connection is lost, or it becomes slow.
    fn come_or_go(&mut self) {
        let chosen = self.random.below(self.publishers.len() + self.subscribers.len());
        let (is_lost, is_clean, is_slow) =
            (self.random.once_in(2), self.random.once_in(12), self.random.once_in(4));
        let mut world = self.broker.world();
        match chosen.checked_sub(self.publishers.len()) {
            None => {
                let client = &mut self.publishers[chosen].client;
                match client.wire {
                    Some(wire) if is_lost => {
                        world.close(wire);
                        client.forget_connection();
                    }
                    _ => client.connect(&mut world, false),
                }
            }
            Some(chosen) => {
                let subscriber = &mut self.subscribers[chosen];
                subscriber.is_slow = is_slow;
                match subscriber.client.wire {
                    Some(wire) if is_lost => {
                        world.close(wire);
                        subscriber.note_lost();
                    }
                    _ => subscriber.connect(&mut world, is_clean),
                }
                if subscriber.client.is_unsure() {
                    // What has not come yet goes with the old session.
                    self.published
                        .iter_mut()
                        .for_each(|published| published.sure.retain(|&it, _| it != chosen));
                }
            }
        }
    }

    /// The process ends, or the power: between two turns of the store or in the middle of one.
    fn crash(&mut self) {
        self.crashes += 1;
        let cut = if self.random.once_in(2) { Cut::Power } else { Cut::Process };
        let is_in_the_middle = self.random.once_in(2);
        let calls = self.random.below(3) as u64;
        let mut world = self.broker.world();
        if is_in_the_middle && let Some(disk) = world.plan.disk.clone() {
            disk.fail_after(calls, Fault::InputOutput);
            world.store_turn();
            for at in 0..world.shards.len() {
                world.turn(at);
            }
        }
        world.restart(cut, 0);
        drop(world);
        self.check_restored();
    }

    /// Until nothing happens any more.
    fn quiesce(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never becomes quiet");
            let mut world = self.broker.world();
            world.is_held = false;
            world.settle();
            let mut is_busy = false;
            for subscriber in &mut self.subscribers {
                is_busy |= subscriber.handle_inbox(&mut world);
            }
            for publisher in &mut self.publishers {
                is_busy |= publisher.handle_inbox(&mut world);
            }
            let has_unread = world.wires.values().any(|wire| !wire.unread.is_empty() && !wire.is_closed);
            drop(world);
            self.note_acknowledged();
            if !is_busy && !has_unread {
                break;
            }
        }
    }

    /// Everybody comes back, sends what is left, and reads what there is.
    fn finish(&mut self) {
        {
            let mut world = self.broker.world();
            for publisher in &mut self.publishers {
                publisher.client.connect(&mut world, false);
            }
            for subscriber in &mut self.subscribers {
                subscriber.is_slow = false;
                subscriber.connect(&mut world, false);
            }
        }
        self.quiesce();
        for publisher in &self.publishers {
            assert!(publisher.client.is_connected, "{} is not connected", publisher.client.name);
            assert!(publisher.is_done(), "{} waits for acknowledgements", publisher.client.name);
        }
    }

    fn check(&self) {
        for (number, subscriber) in self.subscribers.iter().enumerate() {
            assert!(subscriber.client.is_connected);
            self.check_delivery(number, subscriber);
            self.check_order(number, subscriber);
        }
        self.check_restored();
    }

    fn check_delivery(&self, number: usize, subscriber: &Subscriber) {
        let name = &subscriber.client.name;
        let live = subscriber.got.iter().filter(|got| !got.retain);
        let (mut times, mut all) = (BTreeMap::<&str, usize>::new(), BTreeSet::new());
        for got in live {
            all.insert(&*got.payload);
            if got.qos == 2 {
                *times.entry(&got.payload).or_default() += 1;
            }
        }
        for published in self.published.iter().filter(|published| !published.payload.is_empty()) {
            let Published { payload, topic, qos, .. } = published;
            let count = times.get(&**payload).copied().unwrap_or(0);
            assert!(count <= 1, "{name} got {payload:?} to {topic} {count} times");
            let granted = published.sure.get(&number).map_or(0, |&(granted, _)| granted.min(*qos));
            let is_sure = published.is_acknowledged && granted > 0;
            assert!(!is_sure || all.contains(&**payload), "{name} did not get {payload:?} to {topic}");
        }
    }

    /// The messages of a publisher to a topic at one QoS, each as it came first, are in order: those that were sent while
    /// the subscriptions were the same.
    fn check_order(&self, number: usize, subscriber: &Subscriber) {
        let mut last = BTreeMap::<(&str, &str, u8, usize), usize>::new();
        let mut seen = BTreeSet::new();
        // At QoS 0 one may have been lost, and come when its publisher sends again.
        let is_live = |got: &&Got| !got.retain && !got.payload.is_empty() && got.qos > 0;
        let live = subscriber.got.iter().filter(is_live);
        for got in live.filter(|got| seen.insert(&got.payload)) {
            let (publisher, message) = got.payload.split_once(' ').unwrap();
            let message = message.parse().unwrap();
            let Published { subscribed, .. } = &self.published[message];
            let Some(&(_, changed)) = subscribed.get(&number) else { continue };
            let before = last.insert((publisher, &got.topic, got.qos, changed), message);
            let name = &subscriber.client.name;
            assert!(before.is_none_or(|before| before < message), "{name} got {got:?} after {before:?}");
        }
    }

    /// What is there is what was acknowledged, or what was asked for later.
    fn check_restored(&self) {
        let mut world = self.broker.world();
        let shared = Arc::clone(&world.shared);
        for subscriber in &self.subscribers {
            let name = &subscriber.client.name;
            let Some(id) = shared.registry.session(&SessionKey::ClientId(name.as_str().into())) else {
                assert!(!subscriber.client.has_session, "the session of {name} is lost");
                continue;
            };
            if subscriber.client.is_unsure() {
                continue; // the session may be another one
            }
            let session = world.shards[id.shard().index()].session_mut(id).unwrap();
            let there: BTreeSet<_> =
                session.filters.iter().map(|filter| filter.as_filter().as_str().to_owned()).collect();
            for (filter, (_, stage)) in &subscriber.filters {
                let is_held = *stage == Stage::Held;
                assert!(!is_held || there.contains(filter), "{name} has lost its subscription to {filter}");
            }
            for filter in &there {
                assert!(subscriber.filters.contains_key(filter), "{name} has not subscribed to {filter}");
            }
        }
        for topic in RETAINED {
            let filter = TopicFilter::new(topic).unwrap();
            let mut kept = String::new();
            shared.retained.lock().matches_after(filter, None, 1, |message| {
                kept = String::from_utf8(message.publish(world.now).payload.to_vec()).unwrap();
            });
            self.check_retained(topic, &kept);
        }
    }

    fn check_retained(&self, topic: &str, kept: &str) {
        let all: Vec<_> = self.published.iter().filter(|it| it.topic == topic && it.retain).collect();
        let first = all.iter().rposition(|published| published.is_acknowledged);
        let is_possible = |it: &&&Published| it.payload == kept;
        let is_found = all[first.unwrap_or(0)..].iter().any(|it| is_possible(&it))
            || (first.is_none() && kept.is_empty());
        assert!(is_found, "{kept:?} is retained of {topic}, which is older than what was acknowledged");
    }

    /// When every session has ended, nothing is left.
    fn end(&mut self) {
        {
            let mut world = self.broker.world();
            let subscribers = self.subscribers.iter_mut().map(|subscriber| &mut subscriber.client);
            let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.client);
            subscribers.chain(publishers).for_each(|client| client.connect_for_the_last_time(&mut world));
        }
        self.quiesce();
        {
            let mut world = self.broker.world();
            let ids: Vec<_> = world.wires.keys().copied().collect();
            ids.into_iter().for_each(|id| world.close(id));
            world.settle();
            world.shards.iter().for_each(Shard::leave_report);
            assert_eq!(world.shared.stat().sessions, 0);
        }
        self.broker.expect_no_remains();
        let retained = self.broker.world().shared.retained.lock().size().0;
        assert_eq!(self.broker.stored(Space::Retained), retained);
    }
}

/// Seeds, unless the environment says how many.
const SEEDS: u64 = 1000;

// [attack: qos-2-crash]
#[test]
fn whatever_fails_and_when() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match number("LAPWING_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LAPWING_CRASH_SEEDS").unwrap_or(SEEDS),
    };
    let is_one = seeds.end - seeds.start == 1;
    let (mut delivered, mut crashes) = (0, 0);
    for seed in seeds {
        let seed = Seed(seed);
        let mut simulation = Simulation::new(seed.0);
        for _ in 0..600 {
            simulation.step();
        }
        simulation.finish();
        simulation.check();
        delivered += simulation.subscribers.iter().map(|it| it.got.len()).sum::<usize>();
        crashes += simulation.crashes;
        simulation.end();
    }
    assert!(is_one || (delivered > 10_000 && crashes > 1000), "{delivered} delivered, {crashes} crashes");
}
