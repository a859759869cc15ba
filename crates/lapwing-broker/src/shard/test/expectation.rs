//! What the sessions of a broker must get, as simply as it can be said.

use std::collections::BTreeMap;

use lapwing_proto::packet::{RetainHandling, SubscriptionOptions};
use lapwing_proto::topic::TopicName;

use super::client::filter;
use super::message::Message;

/// A broker that knows its sessions by number, and writes down what each is to get.
#[derive(Default)]
pub(super) struct Expectation {
    pub(super) sessions: BTreeMap<usize, Session>,
    retained: BTreeMap<String, Message>,
}

#[derive(Default)]
pub(super) struct Session {
    subscriptions: BTreeMap<String, (SubscriptionOptions, Option<u32>)>,
    pub(super) is_connected: bool,
    /// What is to come at QoS 0, and at QoS 1 and 2.
    pub(super) fleeting: Vec<Message>,
    pub(super) sure: Vec<Message>,
}

impl Session {
    fn expect(&mut self, message: &Message, granted: u8, retain: bool, mut identifiers: Vec<u32>) {
        identifiers.sort_unstable();
        let qos = message.qos.min(granted);
        let delivery = Message { qos, retain, identifiers, ..message.clone() };
        if qos > 0 {
            self.sure.push(delivery);
        } else if self.is_connected {
            self.fleeting.push(delivery);
        }
    }
}

impl Expectation {
    pub(super) fn publish(&mut self, origin: usize, message: &Message) {
        if message.retain {
            if message.payload.is_empty() {
                self.retained.remove(&message.topic);
            } else {
                self.retained.insert(message.topic.clone(), message.clone());
            }
        }
        let name = TopicName::new(&message.topic).unwrap();
        for (&number, session) in &mut self.sessions {
            let matching = session.subscriptions.iter().filter(|(text, _)| filter(text).matches(name));
            // A session's own messages are as if the subscriptions with No Local were not there.
            let counts = |(options, _): &(SubscriptionOptions, _)| number != origin || !options.no_local;
            let matching: Vec<_> = matching.map(|(_, subscription)| *subscription).filter(counts).collect();
            let Some(granted) = matching.iter().map(|(options, _)| options.qos).max() else { continue };
            let as_published = matching.iter().any(|(options, _)| options.retain_as_published);
            let identifiers = matching.iter().filter_map(|&(_, identifier)| identifier).collect();
            session.expect(message, granted.bits(), message.retain && as_published, identifiers);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        number: usize,
        text: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) {
        let session = self.sessions.get_mut(&number).unwrap();
        let existed = session.subscriptions.insert(text.into(), (options, identifier)).is_some();
        match options.retain_handling {
            RetainHandling::DoNotSend => return,
            RetainHandling::SendIfNew if existed => return,
            _ => {}
        }
        let matches = |name: &str| filter(text).matches(TopicName::new(name).unwrap());
        let mut found: Vec<_> = self.retained.values().filter(|it| matches(&it.topic)).collect();
        found.sort_by_key(|it| it.topic.replace('/', "\0"));
        for message in found {
            session.expect(message, options.qos.bits(), true, identifier.into_iter().collect());
        }
    }

    /// Whether the subscription existed.
    pub(super) fn unsubscribe(&mut self, number: usize, text: &str) -> bool {
        self.sessions.get_mut(&number).unwrap().subscriptions.remove(text).is_some()
    }
}
