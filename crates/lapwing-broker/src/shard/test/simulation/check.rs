//! What must hold when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::packet::ReasonCode;
use lapwing_proto::topic::TopicFilter;

use super::network::Network;
use super::person::{Got, Person, Stage};
use super::{Published, RETAINED, Simulation};

impl<N: Network> Simulation<N> {
    pub(super) fn check(&self) {
        for (number, person) in self.persons.iter().enumerate() {
            let live: Vec<&Got> = person.got.iter().filter(|got| !got.retain).collect();
            self.check_delivery(number, person, &live);
            check_order(&person.name, &live);
            self.check_replays(number, person);
            let is_awaited = |stage: &Stage| matches!(stage, Stage::Open(packet_id) if *packet_id > 0);
            let has_awaited = person.filters.values().any(|(_, stage)| is_awaited(stage));
            assert!(!has_awaited, "{} has no SUBACK", person.name);
        }
        self.check_retained();
        self.check_shared();
        let stat = self.network.shared().stat();
        let dropped = stat.messages_dropped;
        assert_eq!((dropped.outbox_full, dropped.queue_full, dropped.too_large), (0, 0, 0));
        let taken_over = stat.disconnected_by_broker.get(ReasonCode::SessionTakenOver);
        assert_eq!(stat.disconnected_by_broker.total(), taken_over);
        let everybody = || self.publishers.iter().chain(&self.persons).chain(&self.members);
        for &id in everybody().flat_map(|person| &person.replaced) {
            assert!(self.network.is_closed(id), "a connection that was taken over is still there");
        }
        assert!(everybody().all(|person| person.is_connected));
        assert_eq!(stat.clients as usize, everybody().count(), "a client identifier has two connections");
    }

    fn check_delivery(&self, number: usize, person: &Person, live: &[&Got]) {
        let mut times = BTreeMap::<&str, usize>::new();
        for got in live.iter().filter(|got| !(got.qos == 1 && got.dup)) {
            *times.entry(&got.payload).or_default() += 1;
        }
        let all: BTreeSet<&str> = live.iter().map(|got| &*got.payload).collect();
        for Published { payload, topic, is_routed, sure, impossible, .. } in &self.published {
            let name = &person.name;
            let count = times.get(&**payload).copied().unwrap_or(0);
            assert!(count <= 1, "{name} got {payload:?} to {topic} {count} times");
            let is_sure = sure.get(&number).is_some_and(|sure| {
                sure.connection.is_none_or(|it| it == person.connection)
                    && (*is_routed || sure.changed == person.changed)
            });
            assert!(!is_sure || all.contains(&**payload), "{name} did not get {payload:?} to {topic}");
            let is_possible = impossible.get(&number).is_none_or(|&times| times < person.subscribed);
            assert!(
                is_possible || !all.contains(&**payload),
                "{name} got {payload:?} to {topic} all the same"
            );
        }
    }

    /// Everybody has got a message who was to get it.
    pub(super) fn check_at_once(&self, published: &Published) {
        let Published { payload, topic, sure, .. } = published;
        for person in sure.keys().map(|&number| &self.persons[number]) {
            let has_got = person.got.iter().any(|got| got.payload == *payload);
            assert!(has_got, "{} did not get {payload:?} to {topic} at once", person.name);
        }
    }

    /// Those who watched all the time got the retained messages of a topic in the same order, and last what is
    /// retained.
    fn check_retained(&self) {
        for topic in RETAINED {
            let (one, other) = (self.watched(0, topic), self.watched(1, topic));
            assert_eq!(one, other, "the retained messages of {topic}");
            let mut kept = Vec::new();
            let filter = TopicFilter::new(topic).unwrap();
            self.network.shared().retained.lock().matches_after(filter, None, 1, |message| {
                kept.push(String::from_utf8(message.publish(super::thread::NOW).payload.to_vec()).unwrap());
            });
            assert_eq!(one.last().copied(), kept.last().map(String::as_str), "what is retained of {topic}");
        }
    }

    /// The retained messages of a topic, as one got them who watched all the time.
    fn watched(&self, number: usize, topic: &str) -> Vec<&str> {
        let is_retained = |got: &&Got| got.topic == topic && is_retained(&got.payload) && !got.retain;
        self.persons[number].got.iter().filter(is_retained).map(|got| &*got.payload).collect()
    }

    /// The retained messages of a topic come in one order to everybody, those for a new subscription among the
    /// others; and a message that came by a new subscription does not come before what was retained earlier by the
    /// same publisher.
    fn check_replays(&self, number: usize, person: &Person) {
        for topic in RETAINED {
            let order: BTreeMap<&str, usize> =
                self.watched(0, topic).into_iter().enumerate().map(|(at, payload)| (payload, at)).collect();
            let mut last = [None; 3];
            let mut seen = BTreeSet::new();
            let all = person.got.iter().filter(|got| got.topic == topic && is_retained(&got.payload));
            for got in all.filter(|got| got.retain || seen.insert(&got.payload)) {
                let at = order.get(&*got.payload);
                let before = last[usize::from(got.qos)].replace(at);
                assert!(before.is_none_or(|before| before <= at), "{} got {got:?} late", person.name);
            }
        }
        for (at, replayed) in person.got.iter().enumerate().filter(|(_, got)| got.retain) {
            let overtakes = |got: &&Got| {
                let Got { topic, qos, payload, retain, .. } = *got;
                !retain
                    && (topic, qos) == (&replayed.topic, &replayed.qos)
                    && publisher(payload) == publisher(&replayed.payload)
                    && count(payload) > count(&replayed.payload)
                    && self.published[count(payload)].fresh.get(&number) == Some(&replayed.subscribed)
            };
            let overtaking = person.got[..at].iter().find(overtakes);
            assert_eq!(overtaking, None, "{} got it before {replayed:?}", person.name);
        }
    }

    fn check_shared(&self) {
        let mut times = BTreeMap::<&str, usize>::new();
        for got in self.members.iter().flat_map(|member| &member.got).filter(|got| !got.dup) {
            *times.entry(&got.payload).or_default() += 1;
        }
        let again: BTreeSet<&str> =
            self.members.iter().flat_map(|member| &member.got).map(|got| &*got.payload).collect();
        for payload in &self.shared {
            assert!(times.get(&**payload).copied().unwrap_or(0) <= 1, "two members got {payload:?}");
            assert!(again.contains(&**payload), "no member got {payload:?}");
        }
    }

    pub(super) fn check_end(&self) {
        let shared = self.network.shared();
        let sessions: usize = shared.shards().map(|shard| shared.registry.sessions_of(shard)).sum();
        assert_eq!(sessions, 0, "the registry still knows sessions");
        assert_eq!(shared.subscriptions.count(), (0, 0));
        let stat = shared.stat();
        assert_eq!((stat.sessions, stat.connections, stat.clients), (0, 0, 0));
    }
}

/// The messages of a publisher to a topic at one QoS, each as it came first, are in order.
fn check_order(name: &str, live: &[&Got]) {
    let mut last = BTreeMap::<(&str, &str, u8), usize>::new();
    let mut seen = BTreeSet::new();
    for got in live.iter().filter(|got| seen.insert(&got.payload)) {
        let number = count(&got.payload);
        let before = last.insert((publisher(&got.payload), &got.topic, got.qos), number);
        assert!(before.is_none_or(|before| before < number), "{name} got {got:?} after {before:?}");
    }
}

fn is_retained(payload: &str) -> bool {
    payload.ends_with("retained")
}

/// Who has published it.
fn publisher(payload: &str) -> &str {
    payload.split(' ').next().unwrap()
}

/// As the how manieth of all.
fn count(payload: &str) -> usize {
    payload.split(' ').nth(1).unwrap().parse().unwrap()
}
