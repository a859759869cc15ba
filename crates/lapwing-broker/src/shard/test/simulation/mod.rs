//! Several shards in a random order, as threads may run, with clients that come and go meanwhile.
//!
//! A shard may take many turns while another takes none, so that mail waits for any time, connections are long on
//! their way, and messages of different shards come in any order. There are two ways to let them run: [`Stepped`],
//! where a turn is one step, and [`Threads`], where another shard may go on wherever one touches what all share. What
//! must hold is checked once all is quiet:
//!
//! - what was published after a client had read its SUBACK reaches it, on whichever shards the two are;
//! - what was published after it had read its UNSUBACK does not;
//! - nothing comes twice, and the messages of a publisher to a topic come in order;
//! - all who are subscribed get the retained messages of a topic in one order, and the last is what is retained;
//! - what is retained comes to a new subscription behind what is older, and before what is newer;
//! - one member of a shared subscription gets each message;
//! - a client identifier has one connection;
//! - when everybody has gone, nothing is left.

mod check;
mod network;
mod person;
mod schedule;
mod thread;

use std::collections::BTreeMap;
use std::ops::Range;

use lapwing_proto::topic::{TopicFilter, TopicName};

use self::network::{Network, Stepped};
use self::person::{Person, Stage};
use self::thread::with_threads;
use super::message::message;
use super::random::{Random, Seed};
use super::{V5, V311};

const TOPICS: [&str; 3] = ["t/0", "t/1", "t/2"];
const RETAINED: [&str; 2] = ["r/0", "r/1"];
const FILTERS: [&str; 6] = ["#", "t/+", "t/0", "t/1", "r/0", "+/1"];
const SHARED: &str = "$share/g/s";

/// A message that was published.
struct Published {
    payload: String,
    topic: &'static str,
    /// Whether a shard has read it at once.
    is_routed: bool,
    /// To whom it must come.
    sure: BTreeMap<usize, Sure>,
    /// To whom it must not come, unless they have subscribed more often than so many times in the end: it may have
    /// been read after that.
    impossible: BTreeMap<usize, usize>,
    /// To whom it can come by one subscription only, which is new, and how often they had subscribed.
    fresh: BTreeMap<usize, usize>,
}

/// On which conditions a message must come.
struct Sure {
    /// At QoS 0, and where the session ends with its connection: this connection is still there in the end.
    connection: Option<u32>,
    /// Nothing has been changed about the subscriptions since, unless the message had been read by then.
    changed: usize,
}

struct Simulation<N> {
    network: N,
    random: Random,
    publishers: Vec<Person>,
    persons: Vec<Person>,
    members: Vec<Person>,
    published: Vec<Published>,
    shared: Vec<String>,
}

/// How many shards there are, and in pieces of how many bytes everything arrives.
fn setup(random: &mut Random) -> (usize, usize) {
    let shards = 2 + random.below(4);
    (shards, if random.once_in(3) { 7 } else { usize::MAX })
}

impl<N: Network> Simulation<N> {
    fn new(network: N, random: Random) -> Self {
        let person = |group: &str, number: usize, is_lasting| {
            let version = if number.is_multiple_of(2) { V5 } else { V311 };
            Person::new(format!("{group}{number}"), version, is_lasting)
        };
        let mut simulation = Self {
            network,
            random,
            publishers: (0..3).map(|number| person("p", number, false)).collect(),
            // The first two watch everything all the time.
            persons: (0..6).map(|number| person("c", number, number >= 4)).collect(),
            members: (0..3).map(|number| person("m", number, true)).collect(),
            published: Vec::new(),
            shared: Vec::new(),
        };
        simulation.begin();
        simulation
    }

    /// From beginning to end; how many messages came.
    fn run(mut self, steps: usize) -> usize {
        let span = self.random.pick(&[15, 60, steps]);
        for step in 1..=steps {
            self.step();
            if step % span == 0 {
                self.pause();
            }
        }
        self.finish();
        self.check();
        let delivered = self.persons.iter().map(|person| person.got.len()).sum();
        self.end();
        delivered
    }

    /// Those who stay all the time connect, in any order.
    fn begin(&mut self) {
        let Self { network, publishers, persons, members, .. } = self;
        let stay = publishers.iter_mut().chain(&mut persons[..2]).chain(members);
        stay.for_each(|person| person.connect(network));
        self.quiesce();
        let Self { network, persons, members, .. } = self;
        persons[..2].iter_mut().for_each(|person| person.subscribe(network, "#", 0));
        members.iter_mut().for_each(|member| member.subscribe(network, SHARED, 1));
        self.quiesce();
    }

    /// The broker, and everybody.
    fn all(&mut self) -> (&mut N, impl Iterator<Item = &mut Person>) {
        let Self { network, publishers, persons, members, .. } = self;
        (network, publishers.iter_mut().chain(persons).chain(members))
    }

    /// Until nothing happens any more.
    fn quiesce(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never becomes quiet");
            let (network, everybody) = self.all();
            network.settle();
            let mut is_busy = false;
            for person in everybody {
                is_busy |= person.handle_inbox(network);
            }
            if !is_busy && !network.has_unread() {
                break;
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=9 => self.network.go_on(&mut self.random),
            10..=12 => self.publish(),
            13 => self.publish_shared(),
            14 | 15 => self.handle_somebody(),
            16 | 17 => self.change_subscription(),
            18 => self.come_or_go(),
            _ => self.block_or_unblock(),
        }
    }

    fn handle_somebody(&mut self) {
        let count = self.publishers.len() + self.persons.len() + self.members.len();
        let chosen = self.random.below(count);
        let (network, mut everybody) = self.all();
        if let Some(person) = everybody.nth(chosen) {
            person.handle_inbox(network);
        }
    }

    /// A publisher sends a few messages at once, some of them to be retained.
    fn publish(&mut self) {
        let number = self.random.below(self.publishers.len());
        let (mut bytes, first) = (Vec::new(), self.published.len());
        for _ in 0..1 + self.random.below(4) {
            let is_retained = self.random.once_in(3);
            let topic = if is_retained || self.random.once_in(4) {
                self.random.pick(&RETAINED)
            } else {
                self.random.pick(&TOPICS)
            };
            let qos = self.random.below(3) as u8;
            let mark = if is_retained { "retained" } else { "" };
            let payload = format!("{number} {} {mark}", self.published.len());
            let publisher = &mut self.publishers[number];
            let mut sent = message(topic, &payload).qos(qos);
            if is_retained {
                sent = sent.retained();
            }
            if qos > 0 {
                sent = sent.id(publisher.next_id());
            }
            bytes.extend(sent.encode(publisher.version()));
            let published = self.expect(topic, payload, qos);
            self.published.push(published);
        }
        let publisher = &self.publishers[number];
        publisher.send_bytes(&mut self.network, &bytes);
        if let (Some(wire), true) = (publisher.wire, self.random.once_in(2)) {
            let is_routed = self.network.read_at_once(wire);
            self.published[first..].iter_mut().for_each(|published| published.is_routed = is_routed);
        }
    }

    fn expect(&self, topic: &'static str, payload: String, qos: u8) -> Published {
        let (mut sure, mut impossible, mut fresh) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let name = TopicName::new(topic).unwrap();
        for (number, person) in self.persons.iter().enumerate() {
            let matches = |filter: &str| TopicFilter::new(filter).unwrap().matches(name);
            let matching = || person.filters.iter().filter(|(filter, _)| matches(filter));
            let held = matching().filter(|(_, (_, stage))| *stage == Stage::Held);
            if matching().count() == 0 {
                impossible.insert(number, person.subscribed);
            }
            if matching().count() == 1 && matching().all(|(filter, _)| person.fresh.contains(filter)) {
                fresh.insert(number, person.subscribed);
            }
            let Some(granted) = held.map(|(_, (granted, _))| *granted).max() else { continue };
            let is_kept = person.is_lasting && qos.min(granted) > 0;
            if is_kept || person.is_connected {
                let connection = (!is_kept).then_some(person.connection);
                sure.insert(number, Sure { connection, changed: person.changed });
            }
        }
        Published { payload, topic, is_routed: false, sure, impossible, fresh }
    }

    fn publish_shared(&mut self) {
        let number = self.random.below(self.publishers.len());
        let payload = format!("{number} {}", self.shared.len());
        let publisher = &mut self.publishers[number];
        let sent = message("s", &payload).qos(1).id(publisher.next_id());
        let bytes = sent.encode(publisher.version());
        publisher.send_bytes(&mut self.network, &bytes);
        self.shared.push(payload);
    }

    fn change_subscription(&mut self) {
        let Self { network, random, persons, .. } = self;
        let chosen = 2 + random.below(persons.len() - 2);
        let person = &mut persons[chosen];
        if !person.is_connected {
            return;
        }
        let filter = random.pick(&FILTERS);
        let is_open = person.filters.get(filter).is_some_and(|(_, stage)| *stage != Stage::Held);
        match person.filters.contains_key(filter) {
            _ if is_open => {} // the answer is awaited
            true if random.once_in(2) => person.unsubscribe(network, filter),
            _ => person.subscribe(network, filter, random.below(3) as u8),
        }
    }

    /// Somebody connects, over the old connection if there is one; or its connection is lost, and it connects at once
    /// or later.
    fn come_or_go(&mut self) {
        let Self { network, random, persons, members, .. } = self;
        let others = persons.len();
        let chosen = 2 + random.below(others + members.len() - 2);
        let is_lost = random.once_in(2);
        let person = if chosen < others { &mut persons[chosen] } else { &mut members[chosen - others] };
        if let (Some(wire), true) = (person.wire, is_lost) {
            network.close(wire);
            person.forget_connection();
            if random.once_in(2) {
                return;
            }
        }
        person.connect(network);
        if chosen < others && random.once_in(2) {
            // What comes behind a CONNECT goes with it to another shard.
            person.subscribe(network, "t/+", 1);
        }
    }

    fn block_or_unblock(&mut self) {
        let id = self.random.below(self.network.count());
        self.network.block(id, !self.network.is_blocked(id));
    }

    /// When all is quiet, what is published to any topic comes to all who are subscribed: no shard takes it where it
    /// would have gone before.
    fn pause(&mut self) {
        for id in 0..self.network.count() {
            self.network.block(id, false);
        }
        self.quiesce();
        let first = self.published.len();
        for number in 0..self.publishers.len() {
            for topic in TOPICS.into_iter().chain(RETAINED) {
                let payload = format!("{number} {} ", self.published.len());
                let published = self.expect(topic, payload, 0);
                let sent = message(topic, &published.payload).encode(self.publishers[number].version());
                self.publishers[number].send_bytes(&mut self.network, &sent);
                self.published.push(Published { is_routed: true, ..published });
            }
        }
        self.quiesce();
        self.published[first..].iter().for_each(|published| self.check_at_once(published));
    }

    /// Everybody comes back, and reads what there is.
    fn finish(&mut self) {
        self.pause();
        let (network, everybody) = self.all();
        for person in everybody.filter(|person| !person.is_connected) {
            person.connect(network);
        }
        self.quiesce();
    }

    /// When every session has ended, nothing is left.
    fn end(&mut self) {
        let (network, everybody) = self.all();
        for person in everybody {
            // A clean session takes the place of one that stays, and ends with its connection.
            person.is_lasting = false;
            person.connect(network);
        }
        self.quiesce();
        for id in 0..self.network.count() {
            self.network.close(id);
        }
        self.network.settle();
        self.check_end();
    }
}

/// The seeds of a run, or the only one that is asked for.
fn seeds(count: u64) -> (Range<u64>, bool) {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().unwrap());
    match number("LAPWING_SIMULATION_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..number("LAPWING_SIMULATION_SEEDS").unwrap_or(count), false),
    }
}

// [attack: takeover-race]
#[test]
fn whatever_the_order_in_which_shards_take_turns() {
    let (seeds, is_only) = seeds(1500);
    let mut delivered = 0;
    for seed in seeds {
        let seed = Seed(seed);
        let mut random = Random::new(seed.0);
        let (shards, chunk) = setup(&mut random);
        delivered += Simulation::new(Stepped::new(shards, chunk), random).run(300);
    }
    assert!(delivered > 100_000 || is_only, "hardly anything was delivered: {delivered}");
}

/// A run with threads: how many messages came, and at how many points another thread could have gone on.
fn run_threads(seed: u64) -> (usize, usize) {
    let seed = Seed(seed);
    let mut random = Random::new(seed.0);
    let (shards, chunk) = setup(&mut random);
    let mut delivered = 0;
    let points = with_threads(shards, chunk, seed.0, |threads| {
        delivered = Simulation::new(threads, random).run(300);
    });
    (delivered, points)
}

// [attack: takeover-race]
#[test]
fn whatever_the_others_do_in_the_middle_of_a_turn() {
    let (seeds, is_only) = seeds(200);
    let delivered: usize = seeds.map(|seed| run_threads(seed).0).sum();
    assert!(delivered > 10_000 || is_only, "hardly anything was delivered: {delivered}");
}

#[test]
fn a_run_with_threads_can_be_repeated() {
    for seed in 0..5 {
        assert_eq!(run_threads(seed), run_threads(seed));
    }
}
