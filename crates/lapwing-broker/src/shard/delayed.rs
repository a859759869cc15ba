//! Messages that are published later: `$delayed/SECONDS/TOPIC`.

use std::collections::BTreeMap;
use std::time::Duration;

use lapwing_proto::packet::{Publish, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicName;
use lapwing_store::{Change, DelayedRecord};

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
    /// Of the publisher: may have ended by then. Absent if an earlier process got the message.
    origin: Option<SessionId>,
    /// Under which it is stored, if it is.
    number: u64,
}

impl Shard {
    /// Keeps a message until its delay has passed. `publish` has its real topic.
    pub(super) fn delay(&mut self, publish: &Publish<'_>, delay_s: u32, origin: SessionId) -> ReasonCode {
        let Shared { delayed: total, delayed_bytes: total_bytes, .. } = &*self.shared;
        let limits = &self.limits;
        let is_full = total.load(Ordering::Relaxed) >= limits.delayed_messages_maximum
            || total_bytes.load(Ordering::Relaxed) >= limits.delayed_bytes_maximum;
        if is_full || limits.delay_maximum_s == 0 || delay_s > limits.delay_maximum_s || self.ledger.is_full()
        {
            return ReasonCode::QuotaExceeded;
        }
        let message = Message::unpublished(publish);
        let due = self.now + Duration::from_secs(delay_s.into());
        let number = self.shared.stored.next_delayed();
        if self.ledger.is_on() {
            let clock = self.shared.stored.wall_clock();
            let record = DelayedRecord {
                message: message.to_stored(clock).to_vec(),
                retain: publish.retain,
                due: clock.wall(due),
                publisher: self.publisher(origin),
            };
            self.ledger.record(Change::Delayed(number, Box::new(record)));
        }
        self.keep_delayed(due, number, message, publish.retain, Some(origin));
        ReasonCode::Success
    }

    pub(super) fn keep_delayed(
        &mut self,
        due: Instant,
        number: u64,
        message: Message,
        retain: bool,
        origin: Option<SessionId>,
    ) {
        self.shared.delayed.fetch_add(1, Ordering::Relaxed);
        self.shared.delayed_bytes.fetch_add(message.size(), Ordering::Relaxed);
        let Delayed { messages, count } = &mut self.delayed;
        *count += 1;
        messages.insert((due, *count), Held { message, retain, origin, number });
        self.set_timer(due, Timer::Delayed);
    }

    /// Publishes the messages whose time has come, as far as this turn can.
    pub(super) fn publish_delayed(&mut self) {
        while !self.is_spent() {
            let Some(entry) = self.delayed.messages.first_entry() else { break };
            if entry.key().0 > self.now {
                break;
            }
            let Held { message, retain, origin, number } = entry.remove();
            // Together with the message, so that it is not published twice.
            if self.ledger.is_on() {
                self.ledger.record(Change::Undelayed(number));
            }
            self.shared.delayed.fetch_sub(1, Ordering::Relaxed);
            self.shared.delayed_bytes.fetch_sub(message.size(), Ordering::Relaxed);
            let mut publish = message.publish(self.now);
            publish.qos = message.qos();
            publish.retain = retain;
            let source = Source { is_kept: true, ..Source::default() };
            self.publish(&publish, source, origin, false);
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
