//! A new client that looks at what the broker has after a restart: retained messages, and the probe's subscription.

use std::collections::BTreeMap;
use std::time::Instant;

use lapwing_proto::packet::{Publish, QoS, SubscribeProperties, Subscription, SubscriptionOptions};
use lapwing_proto::session::{Event, Token};
use lapwing_proto::topic::{TopicFilterBuf, TopicNameBuf};

use super::connection::{Connection, Network};
use super::payload;

pub(super) struct Inspector {
    pub(super) connection: Connection,
    run: u32,
    filter: TopicFilterBuf,
    request: Option<Token>,
    is_subscribed: bool,
    /// The version that has come for each topic.
    pub(super) versions: BTreeMap<usize, usize>,
    /// When the subscription was there, or the last message came.
    pub(super) heard_at: Instant,
}

impl Inspector {
    pub(super) fn new(connection: Connection, run: u32, filter: TopicFilterBuf) -> Self {
        Self {
            connection,
            run,
            filter,
            request: None,
            is_subscribed: false,
            versions: BTreeMap::new(),
            heard_at: Instant::now(),
        }
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    pub(super) fn turn(&mut self, network: &mut Network, now: Instant) {
        self.connection.advance(network, now);
        while let Some(event) = self.connection.poll_event() {
            match event {
                // It starts clean each time.
                Event::Connected(_) => (self.request, self.is_subscribed) = (None, false),
                Event::Subscribed { token, .. } if Some(token) == self.request => {
                    (self.is_subscribed, self.heard_at) = (true, now);
                }
                Event::Message(message) => {
                    self.heard_at = now;
                    if let Some((topic, version)) = payload::read_version(self.run, message.payload()) {
                        self.versions.insert(topic, version);
                    }
                }
                _ => {}
            }
        }
        if self.connection.session.is_connected() && self.request.is_none() {
            let options = SubscriptionOptions::new(QoS::AtLeastOnce);
            let subscriptions = [Subscription { filter: self.filter.as_filter(), options }];
            let properties = SubscribeProperties::default();
            self.request = self.connection.session.subscribe(&subscriptions, properties).ok();
        }
        self.connection.flush(network, now);
    }

    /// Publishes what the probe's subscription must select.
    pub(super) fn call(&mut self, topic: &TopicNameBuf) {
        let mut message = Publish::new(topic.as_name(), b"are you there?");
        message.qos = QoS::AtLeastOnce;
        // It is kept for the next connection where there is none.
        let _ = self.connection.session.publish(&message);
    }
}
