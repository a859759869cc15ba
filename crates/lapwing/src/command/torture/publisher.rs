//! A client that publishes, QoS 1 and 2, and remembers what the broker has taken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapwing_proto::packet::{Publish, QoS};
use lapwing_proto::session::{Event, Token};
use lapwing_proto::topic::TopicNameBuf;

use super::breach::Breach;
use super::connection::{Connection, Network};
use super::random::Random;
use super::turn::Turn;

/// A publisher that could not publish for a while catches up on no more than that.
const ARREARS: Duration = Duration::from_secs(1);

/// Which QoS messages have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum QoSChoice {
    #[value(name = "1")]
    AtLeastOnce,
    #[value(name = "2")]
    ExactlyOnce,
    Mixed,
}

impl QoSChoice {
    pub(super) fn choose(self, random: &mut Random) -> QoS {
        match self {
            Self::AtLeastOnce => QoS::AtLeastOnce,
            Self::ExactlyOnce => QoS::ExactlyOnce,
            Self::Mixed if random.one_in(2) => QoS::AtLeastOnce,
            Self::Mixed => QoS::ExactlyOnce,
        }
    }

    /// The highest that there is.
    pub(super) fn highest(self) -> QoS {
        if self == Self::AtLeastOnce { QoS::AtLeastOnce } else { QoS::ExactlyOnce }
    }
}

/// How much a publisher does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Messages that may be unacknowledged at a time.
    pub(super) window: usize,
    /// The time between two messages; `None`: as fast as the window allows.
    pub(super) interval: Option<Duration>,
    /// Bytes of a payload.
    pub(super) payload: usize,
    pub(super) qos: QoSChoice,
}

pub(super) struct Publisher {
    pub(super) connection: Connection,
    number: usize,
    topic: TopicNameBuf,
    pace: Pace,
    /// When the next message is due.
    next_at: Instant,
    random: Random,
    /// Sequence numbers of the messages that wait for their acknowledgement.
    unacknowledged: BTreeMap<Token, u64>,
    payload: Vec<u8>,
}

impl Publisher {
    pub(super) fn new(
        connection: Connection,
        number: usize,
        topic: TopicNameBuf,
        pace: Pace,
        random: Random,
    ) -> Self {
        let (next_at, payload) = (Instant::now(), Vec::new());
        let unacknowledged = BTreeMap::new();
        Self { connection, number, topic, pace, next_at, random, unacknowledged, payload }
    }

    /// Whether the broker has answered everything.
    pub(super) fn is_done(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    pub(super) fn turn(&mut self, network: &mut Network, turn: &mut Turn<'_>) {
        self.connection.advance(network, turn.now);
        while let Some(event) = self.connection.poll_event() {
            self.handle(&event, turn);
        }
        if turn.is_load_on {
            self.publish(turn);
        }
        self.connection.flush(network, turn.now);
    }

    fn handle(&mut self, event: &Event, turn: &mut Turn<'_>) {
        match event {
            Event::Connected(connected) if self.connection.loses_session(connected) => {
                turn.breaches.add(Breach::SessionLost, || {
                    format!("publisher {}, by round {}", self.number, turn.round)
                });
                // What is under way is published again by the session, as new messages.
                for &sequence in self.unacknowledged.values() {
                    turn.history.renew(self.number, sequence);
                }
            }
            Event::Published { token, reason_code, .. } => {
                self.answered(*token, !reason_code.is_error(), turn);
            }
            Event::PublishFailed { token, .. } => self.answered(*token, false, turn),
            _ => {}
        }
    }

    fn answered(&mut self, token: Token, is_taken: bool, turn: &mut Turn<'_>) {
        match self.unacknowledged.remove(&token) {
            Some(sequence) if is_taken => turn.history.acknowledge(self.number, sequence),
            Some(_) => turn.history.refuse(),
            None => {}
        }
    }

    fn publish(&mut self, turn: &mut Turn<'_>) {
        self.next_at = self.next_at.max(turn.now.checked_sub(ARREARS).unwrap_or(turn.now));
        while self.connection.session.is_connected()
            && self.unacknowledged.len() < self.pace.window
            && (self.pace.interval.is_none() || self.next_at <= turn.now)
        {
            let qos = self.pace.qos.choose(&mut self.random);
            let stamp = turn.history.publish(self.number, qos);
            stamp.write(self.pace.payload, &mut self.payload);
            let mut message = Publish::new(self.topic.as_name(), &self.payload);
            message.qos = qos;
            match self.connection.session.publish(&message) {
                Ok(token) => drop(self.unacknowledged.insert(token, stamp.sequence)),
                // It is too large for this broker, say, which is no breach.
                Err(_) => return turn.history.refuse(),
            }
            self.next_at += self.pace.interval.unwrap_or_default();
        }
    }
}
