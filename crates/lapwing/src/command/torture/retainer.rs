//! A client that sets, replaces and deletes retained messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapwing_proto::packet::Publish;
use lapwing_proto::session::{Event, Token};
use lapwing_proto::topic::TopicNameBuf;

use super::breach::Breach;
use super::connection::{Connection, Network};
use super::payload;
use super::publisher::QoSChoice;
use super::random::Random;
use super::turn::Turn;

/// The time between two changes.
const INTERVAL: Duration = Duration::from_millis(5);
/// One in so many changes is a deletion.
const DELETIONS: usize = 4;

pub(super) struct Retainer {
    pub(super) connection: Connection,
    run: u32,
    topics: Vec<TopicNameBuf>,
    qos: QoSChoice,
    random: Random,
    next_at: Instant,
    /// The topics and versions that wait for their acknowledgement.
    unacknowledged: BTreeMap<Token, (usize, usize)>,
}

impl Retainer {
    pub(super) fn new(
        connection: Connection,
        run: u32,
        topics: Vec<TopicNameBuf>,
        qos: QoSChoice,
        random: Random,
    ) -> Self {
        let unacknowledged = BTreeMap::new();
        Self { connection, run, topics, qos, random, next_at: Instant::now(), unacknowledged }
    }

    pub(super) fn turn(&mut self, network: &mut Network, turn: &mut Turn<'_>) {
        self.connection.advance(network, turn.now);
        while let Some(event) = self.connection.poll_event() {
            self.handle(&event, turn);
        }
        if turn.is_load_on && self.connection.session.is_connected() && self.next_at <= turn.now {
            self.next_at = turn.now + INTERVAL;
            self.change(turn);
        }
        self.connection.flush(network, turn.now);
    }

    fn handle(&mut self, event: &Event, turn: &mut Turn<'_>) {
        match event {
            Event::Connected(connected) if self.connection.loses_session(connected) => {
                turn.breaches.add(Breach::SessionLost, || format!("the retainer's, by round {}", turn.round));
            }
            // One that is refused stays open: the topic is not changed again.
            Event::Published { token, reason_code, .. } if !reason_code.is_error() => {
                if let Some((topic, version)) = self.unacknowledged.remove(token) {
                    turn.retained.acknowledge(topic, version);
                }
            }
            _ => {}
        }
    }

    fn change(&mut self, turn: &mut Turn<'_>) {
        let topic = self.random.below(self.topics.len());
        let is_message = !self.random.one_in(DELETIONS);
        let qos = self.qos.choose(&mut self.random);
        if !turn.retained.is_settled(topic) {
            return;
        }
        let version = turn.retained.change(topic, is_message);
        let text = if is_message { payload::write_version(self.run, topic, version) } else { Vec::new() };
        let mut message = Publish::new(self.topics[topic].as_name(), &text);
        (message.qos, message.retain) = (qos, true);
        if let Ok(token) = self.connection.session.publish(&message) {
            self.unacknowledged.insert(token, (topic, version));
        }
    }
}
