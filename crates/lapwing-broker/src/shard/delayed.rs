//! Messages that are published later: `$delayed/SECONDS/TOPIC`.

use std::collections::BTreeMap;
use std::time::Duration;

use lapwing_proto::packet::{Publish, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicName;

use super::deliver::Source;
use super::timer::Timer;
use super::{SessionId, Shard};
use crate::message::Message;
use crate::shared::Shared;
use crate::sync::Ordering;

const PREFIX: &str = "$delayed/";

/// Messages whose time has not come.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    /// By when they are due, and in the order of their arrival.
    messages: BTreeMap<(Instant, u64), Held>,
    count: u64,
}

#[derive(Debug)]
struct Held {
    message: Message,
    retain: bool,
    /// Of the publisher: may have ended by then.
    origin: SessionId,
}

impl Shard {
    /// Keeps a message until its delay has passed. `publish` has its real topic.
    pub(super) fn delay(&mut self, publish: &Publish<'_>, delay_s: u32, origin: SessionId) -> ReasonCode {
        let Shared { limits, delayed: total, delayed_bytes: total_bytes, .. } = &*self.shared;
        let Delayed { messages, count } = &mut self.delayed;
        let is_full = total.load(Ordering::Relaxed) >= limits.delayed_messages_maximum
            || total_bytes.load(Ordering::Relaxed) >= limits.delayed_bytes_maximum;
        if is_full || limits.delay_maximum_s == 0 || delay_s > limits.delay_maximum_s {
            return ReasonCode::QuotaExceeded;
        }
        let message = Message::unpublished(publish);
        let due = self.now + Duration::from_secs(delay_s.into());
        total.fetch_add(1, Ordering::Relaxed);
        total_bytes.fetch_add(message.size(), Ordering::Relaxed);
        *count += 1;
        messages.insert((due, *count), Held { message, retain: publish.retain, origin });
        self.set_timer(due, Timer::Delayed);
        ReasonCode::Success
    }

    /// Publishes the messages whose time has come, as far as this turn can.
    pub(super) fn publish_delayed(&mut self) {
        while !self.is_spent() {
            let Some(entry) = self.delayed.messages.first_entry() else { break };
            if entry.key().0 > self.now {
                break;
            }
            let Held { message, retain, origin } = entry.remove();
            self.shared.delayed.fetch_sub(1, Ordering::Relaxed);
            self.shared.delayed_bytes.fetch_sub(message.size(), Ordering::Relaxed);
            let mut publish = message.publish(self.now);
            publish.qos = message.qos();
            publish.retain = retain;
            self.publish(&publish, Source::default(), Some(origin), false);
        }
    }
}

impl Delayed {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// When they are due.
    pub(super) fn due(&self) -> impl Iterator<Item = Instant> {
        self.messages.keys().map(|&(due, _)| due)
    }
}

/// The delay that a topic name asks for, if it does, and the topic name to publish to. `None` if it asks for one
/// and has no number, or no topic name behind it.
pub(super) fn split(name: TopicName<'_>) -> Option<(Option<u32>, TopicName<'_>)> {
    let Some(rest) = name.as_str().strip_prefix(PREFIX) else { return Some((None, name)) };
    let (seconds, topic) = rest.split_once('/')?;
    Some((Some(seconds.parse().ok()?), TopicName::new(topic).ok()?))
}
