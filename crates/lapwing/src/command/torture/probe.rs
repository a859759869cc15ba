//! A client whose session and subscription are made shortly before the end of the broker's process.

use std::time::Instant;

use lapwing_proto::packet::{QoS, SubscribeProperties, Subscription, SubscriptionOptions};
use lapwing_proto::session::{Event, Token};
use lapwing_proto::topic::{TopicFilterBuf, TopicNameBuf};

use super::connection::{Connection, Network};

pub(super) struct Probe {
    pub(super) connection: Connection,
    pub(super) topic: TopicNameBuf,
    filter: TopicFilterBuf,
    request: Option<Token>,
    /// Whether the broker has acknowledged the subscription, which is made once.
    pub(super) is_subscribed: bool,
    /// Whether the first connection after that one went on with the session.
    pub(super) resumed: Option<bool>,
    pub(super) has_heard: bool,
}

impl Probe {
    pub(super) fn new(connection: Connection, topic: TopicNameBuf, filter: TopicFilterBuf) -> Self {
        Self {
            connection,
            topic,
            filter,
            request: None,
            is_subscribed: false,
            resumed: None,
            has_heard: false,
        }
    }

    pub(super) fn turn(&mut self, network: &mut Network, now: Instant) {
        self.connection.advance(network, now);
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Connected(connected) if self.is_subscribed => {
                    self.resumed.get_or_insert(connected.resumed);
                }
                Event::Subscribed { token, packet } if Some(token) == self.request => {
                    self.is_subscribed = packet.reason_codes().all(|code| !code.is_error());
                }
                Event::Abandoned { .. } => self.request = None,
                Event::Message(message) => self.has_heard |= message.topic() == self.topic.as_str(),
                _ => {}
            }
        }
        let session = &mut self.connection.session;
        if session.is_connected() && !self.is_subscribed && self.request.is_none() {
            let options = SubscriptionOptions::new(QoS::AtLeastOnce);
            let subscriptions = [Subscription { filter: self.filter.as_filter(), options }];
            self.request = session.subscribe(&subscriptions, SubscribeProperties::default()).ok();
        }
        self.connection.flush(network, now);
    }
}
