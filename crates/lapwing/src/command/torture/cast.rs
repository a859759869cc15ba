//! All clients of a run.

use std::time::{Duration, Instant};

use anyhow::Result;
use lapwing_proto::topic::{TopicFilterBuf, TopicNameBuf};
use mio::Token;

use super::connection::{Connection, Login, Network};
use super::history::{Attendance, History};
use super::inspector::Inspector;
use super::probe::Probe;
use super::publisher::{Pace, Publisher};
use super::random::Random;
use super::retainer::Retainer;
use super::subscriber::Subscriber;
use super::turn::Turn;

/// Topics with retained messages.
pub(super) const RETAINED_TOPICS: usize = 20;
/// A connection that is to be cut after some bytes is cut after this time at the latest.
const CUT_LIMIT: Duration = Duration::from_millis(100);

/// Of the purposes for which there is chance.
const PUBLISHERS: u64 = 1 << 32;
const SUBSCRIBERS: u64 = 2 << 32;
const RETAINER: u64 = 3 << 32;

/// How many clients of which kind.
#[derive(Debug, Clone)]
pub(super) struct Casting {
    pub(super) run: u32,
    pub(super) seed: u64,
    pub(super) publishers: usize,
    pub(super) flapping: usize,
    pub(super) pace: Pace,
    pub(super) login: Login,
}

pub(super) struct Cast {
    casting: Casting,
    pub(super) publishers: Vec<Publisher>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) retainer: Retainer,
    /// Waits for the broker's first CONNACK.
    pub(super) herald: Option<Connection>,
    pub(super) inspector: Option<Inspector>,
    pub(super) probe: Option<Probe>,
    /// Sessions that the broker may have at the end.
    pub(super) client_ids: Vec<String>,
    retained_topics: Vec<TopicNameBuf>,
}

impl Cast {
    pub(super) fn new(casting: Casting, history: &mut History) -> Result<Self> {
        let Casting { run, seed, pace, .. } = casting;
        let topic =
            |kind: &str, number: usize| TopicNameBuf::new(format!("torture/{run:08x}/{kind}/{number}"));
        let load = TopicFilterBuf::new(format!("torture/{run:08x}/load/+"))?;
        let topics = (0..casting.publishers).map(|n| topic("load", n)).collect::<Result<Vec<_>, _>>()?;
        let retained_topics =
            (0..RETAINED_TOPICS).map(|n| topic("retained", n)).collect::<Result<Vec<_>, _>>()?;
        let mut maker = Maker { casting: casting.clone(), client_ids: Vec::new() };
        let mut publishers = Vec::new();
        for (number, topic) in topics.iter().enumerate() {
            let connection = maker.durable(&format!("publisher-{number}"))?;
            let random = Random::new(seed, PUBLISHERS + number as u64);
            publishers.push(Publisher::new(connection, number, topic.clone(), pace, random));
        }
        let flapping = (1..=casting.flapping).map(|n| (format!("flapping-{n}"), Attendance::Flapping));
        let steady = [("online", Attendance::Online), ("offline", Attendance::Offline)];
        let steady = steady.map(|(name, attendance)| (name.to_owned(), attendance));
        let mut subscribers = Vec::new();
        for (number, (name, attendance)) in steady.into_iter().chain(flapping).enumerate() {
            let connection = maker.durable(&name)?;
            let index = history.subscribe(&name, attendance);
            let random = Random::new(seed, SUBSCRIBERS + number as u64);
            let subscription = (load.clone(), pace.qos.highest());
            let who = (name, index, attendance);
            subscribers.push(Subscriber::new(connection, who, subscription, topics.clone(), random));
        }
        let connection = maker.durable("retainer")?;
        let random = Random::new(seed, RETAINER);
        let retainer = Retainer::new(connection, run, retained_topics.clone(), pace.qos, random);
        Ok(Self {
            casting,
            publishers,
            subscribers,
            retainer,
            herald: None,
            inspector: None,
            probe: None,
            client_ids: maker.client_ids,
            retained_topics,
        })
    }

    /// Everybody does what there is to do.
    pub(super) fn turn(&mut self, network: &mut Network, turn: &mut Turn<'_>) {
        for publisher in &mut self.publishers {
            publisher.turn(network, turn);
        }
        for subscriber in &mut self.subscribers {
            subscriber.turn(network, turn);
        }
        self.retainer.turn(network, turn);
        if let Some(inspector) = &mut self.inspector {
            inspector.turn(network, turn.now);
        }
        if let Some(probe) = &mut self.probe {
            probe.turn(network, turn.now);
        }
        if let Some(herald) = &mut self.herald {
            herald.advance(network, turn.now);
            while herald.poll_event().is_some() {}
            herald.flush(network, turn.now);
        }
    }

    /// Those who have a session that is to outlive everything.
    pub(super) fn durable(&mut self) -> impl Iterator<Item = &mut Connection> {
        let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.connection);
        let subscribers = self.subscribers.iter_mut().map(|subscriber| &mut subscriber.connection);
        publishers.chain(subscribers).chain([&mut self.retainer.connection])
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Connection> {
        let inspector = self.inspector.as_mut().map(|inspector| &mut inspector.connection);
        let probe = self.probe.as_mut().map(|probe| &mut probe.connection);
        let others = [inspector, probe, self.herald.as_mut()];
        let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.connection);
        let subscribers = self.subscribers.iter_mut().map(|subscriber| &mut subscriber.connection);
        let durable = publishers.chain(subscribers).chain([&mut self.retainer.connection]);
        durable.chain(others.into_iter().flatten())
    }

    /// Who waits for the broker's first answer.
    pub(super) fn send_herald(&mut self) -> Result<()> {
        let mut herald = self.maker().clean("herald", 0)?;
        herald.is_early = true;
        self.herald = Some(herald);
        Ok(())
    }

    pub(super) fn send_inspector(&mut self, round: u64) -> Result<()> {
        let run = self.casting.run;
        let filter = TopicFilterBuf::new(format!("torture/{run:08x}/retained/+"))?;
        let connection = self.maker().clean(&format!("inspector-{round}"), 1)?;
        self.inspector = Some(Inspector::new(connection, run, filter));
        Ok(())
    }

    pub(super) fn send_probe(&mut self, round: u64) -> Result<()> {
        let topic = format!("torture/{:08x}/probe/{round}", self.casting.run);
        let mut maker = self.maker();
        let connection = maker.durable(&format!("probe-{round}"))?;
        self.client_ids.append(&mut maker.client_ids);
        self.probe =
            Some(Probe::new(connection, TopicNameBuf::new(topic.clone())?, TopicFilterBuf::new(topic)?));
        Ok(())
    }

    /// One of those who are there is to lose its connection, perhaps in the middle of a packet.
    pub(super) fn cut_one(&mut self, random: &mut Random, now: Instant) {
        let bytes = random.below(self.casting.pace.payload + 64);
        let mut connected: Vec<_> =
            self.durable().filter(|connection| connection.session.is_connected()).collect();
        if !connected.is_empty() {
            let index = random.below(connected.len());
            connected[index].cut_after(bytes, now + CUT_LIMIT);
        }
    }

    /// Clean clients under the names of all sessions that the broker may have.
    pub(super) fn successors(&self) -> Result<Vec<Connection>> {
        let login = &self.casting.login;
        let connections =
            self.client_ids.iter().enumerate().map(|(number, client_id)| {
                Ok(Connection::new(login.clean(client_id.clone()), Token(number))?)
            });
        connections.collect()
    }

    pub(super) fn retained_topics(&self) -> &[TopicNameBuf] {
        &self.retained_topics
    }

    fn maker(&self) -> Maker {
        Maker { casting: self.casting.clone(), client_ids: Vec::new() }
    }
}

/// Makes connections with their client identifiers and tokens.
struct Maker {
    casting: Casting,
    client_ids: Vec<String>,
}

impl Maker {
    fn durable(&mut self, name: &str) -> Result<Connection> {
        let client_id = format!("torture-{:08x}-{name}", self.casting.run);
        // The first tokens are those of the clean clients; several may have the same one, one after the other.
        let token = if name.starts_with("probe") { PROBE } else { FIRST + self.client_ids.len() };
        self.client_ids.push(client_id.clone());
        let window = u16::try_from(self.casting.pace.window.max(RETAINED_TOPICS)).unwrap_or(u16::MAX);
        Ok(Connection::new(self.casting.login.durable(client_id, window), Token(token))?)
    }

    fn clean(&self, name: &str, token: usize) -> Result<Connection> {
        let client_id = format!("torture-{:08x}-{name}", self.casting.run);
        Ok(Connection::new(self.casting.login.clean(client_id), Token(token))?)
    }
}

/// Of the probe, and of the first of the others.
const PROBE: usize = 2;
const FIRST: usize = 3;
