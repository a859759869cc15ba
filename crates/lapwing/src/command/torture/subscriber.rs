//! A client with a session that outlives its connections, subscribed to the whole load.

use std::time::{Duration, Instant};

use lapwing_proto::packet::{QoS, SubscribeProperties, Subscription, SubscriptionOptions};
use lapwing_proto::session::{Event, Token};
use lapwing_proto::topic::{TopicFilterBuf, TopicNameBuf};

use super::breach::Breach;
use super::connection::{Connection, Network};
use super::history::Attendance;
use super::random::Random;
use super::turn::Turn;

/// How long a flapping subscriber stays, or stays away.
const FLAP: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));

pub(super) struct Subscriber {
    pub(super) connection: Connection,
    name: String,
    /// In the history.
    index: usize,
    attendance: Attendance,
    filter: TopicFilterBuf,
    /// At which it subscribes, and which must be granted.
    qos: QoS,
    /// The topic of each publisher.
    topics: Vec<TopicNameBuf>,
    /// The SUBSCRIBE under way.
    request: Option<Token>,
    is_subscribed: bool,
    /// Whether the broker has said no, or granted a lower QoS.
    pub(super) is_refused: bool,
    /// Decides about a flapping subscriber, and when it does so next.
    flap: (Random, Instant),
}

impl Subscriber {
    pub(super) fn new(
        connection: Connection,
        (name, index, attendance): (String, usize, Attendance),
        (filter, qos): (TopicFilterBuf, QoS),
        topics: Vec<TopicNameBuf>,
        random: Random,
    ) -> Self {
        Self {
            connection,
            name,
            index,
            attendance,
            filter,
            qos,
            topics,
            request: None,
            is_subscribed: false,
            is_refused: false,
            flap: (random, Instant::now()),
        }
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    pub(super) fn is_offline(&self) -> bool {
        self.attendance == Attendance::Offline
    }

    pub(super) fn turn(&mut self, network: &mut Network, turn: &mut Turn<'_>) {
        if self.attendance == Attendance::Flapping && turn.is_load_on {
            self.flap(turn.now);
        }
        self.connection.advance(network, turn.now);
        while let Some(event) = self.connection.poll_event() {
            self.handle(&event, turn);
        }
        if self.connection.session.is_connected() && !self.is_subscribed && self.request.is_none() {
            let options = SubscriptionOptions::new(self.qos);
            let subscriptions = [Subscription { filter: self.filter.as_filter(), options }];
            let properties = SubscribeProperties::default();
            self.request = self.connection.session.subscribe(&subscriptions, properties).ok();
        }
        self.connection.flush(network, turn.now);
    }

    /// Comes or goes when it is time: half of the times it goes without a word.
    fn flap(&mut self, now: Instant) {
        let (random, at) = &mut self.flap;
        if *at > now {
            return;
        }
        *at = now + random.duration(FLAP.0, FLAP.1);
        let connection = &mut self.connection;
        if !connection.is_wanted {
            connection.is_wanted = true;
        } else if random.one_in(2) {
            connection.leave();
        } else {
            connection.is_wanted = false;
            connection.abort(now);
        }
    }

    fn handle(&mut self, event: &Event, turn: &mut Turn<'_>) {
        match event {
            Event::Connected(connected) => {
                if self.connection.loses_session(connected) {
                    let (name, round) = (&self.name, turn.round);
                    turn.breaches.add(Breach::SessionLost, || format!("subscriber {name}, by round {round}"));
                }
                self.is_subscribed &= connected.resumed;
            }
            Event::Subscribed { token, packet } if Some(*token) == self.request => {
                self.request = None;
                self.is_refused = packet.reason_codes().any(|code| code.value() != self.qos as u8);
                self.is_subscribed = true;
            }
            Event::Abandoned { token } if Some(*token) == self.request => self.request = None,
            Event::Message(message) => {
                let topic = message.topic();
                let publisher = topic.rsplit('/').next().and_then(|number| number.parse().ok());
                let publisher = publisher.filter(|&number: &usize| {
                    self.topics.get(number).is_some_and(|name| name.as_str() == topic)
                });
                turn.history.deliver(self.index, message.payload(), message.qos(), publisher, turn.breaches);
            }
            _ => {}
        }
    }
}
