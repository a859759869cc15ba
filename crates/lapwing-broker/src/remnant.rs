//! What an earlier process has stored, on its way to the shards.

use std::cell::RefCell;
use std::sync::mpsc::SyncSender;

use lapwing_proto::packet::{SubscriptionIdentifier, SubscriptionOptions};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilterBuf, TopicName};
use lapwing_store::engine::EngineError;
use lapwing_store::{Recovered, SessionNumber, SubscriptionRecord};

use crate::message::Message;
use crate::shard::{Remnant, SessionKey};
use crate::shared::{ShardId, Shared, Subscribed};

/// Pieces that go to a shard together: waking a thread takes longer than taking a piece up.
const TOGETHER: usize = 512;
/// How often that many may be on their way to a shard.
pub(crate) const UNDER_WAY: usize = 4;

/// Where the pieces for each shard go.
struct Post<'a> {
    senders: &'a [SyncSender<Vec<Remnant>>],
    waiting: RefCell<Vec<Vec<Remnant>>>,
}

impl Post<'_> {
    fn send(&self, shard: ShardId, remnant: Remnant) {
        let waiting = &mut self.waiting.borrow_mut()[shard.index()];
        waiting.push(remnant);
        if waiting.len() >= TOGETHER {
            let full = std::mem::replace(waiting, Vec::with_capacity(TOGETHER));
            // It fails only where the shard's thread has ended, and then the broker does not start.
            let _ = self.senders[shard.index()].send(full);
        }
    }

    fn flush(self) {
        for (sender, rest) in self.senders.iter().zip(self.waiting.into_inner()) {
            let _ = sender.send(rest);
        }
    }
}

/// What is known of sessions, which come in the order of their numbers, and are asked for in that order.
#[derive(Debug)]
pub(crate) struct InOrder<T> {
    sessions: Vec<(SessionNumber, T)>,
    /// Those before it will not be asked for any more.
    next: usize,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { sessions: Vec::new(), next: 0 }
    }
}

impl<T> InOrder<T> {
    pub(crate) fn push(&mut self, number: SessionNumber, value: T) {
        debug_assert!(self.sessions.last().is_none_or(|last| last.0 < number));
        self.sessions.push((number, value));
    }

    pub(crate) fn get(&mut self, number: SessionNumber) -> Option<&T> {
        let behind = &self.sessions[self.next..];
        self.next += behind.iter().position(|it| it.0 >= number).unwrap_or(behind.len());
        self.sessions.get(self.next).filter(|it| it.0 == number).map(|it| &it.1)
    }
}

/// Shares out what is stored among the shards, and retains what is retained.
pub(crate) fn share_out(
    recovered: &Recovered<'_>,
    shared: &Shared,
    senders: &[SyncSender<Vec<Remnant>>],
    now: Instant,
) -> Result<(), EngineError> {
    let post = Post { senders, waiting: RefCell::new(senders.iter().map(|_| Vec::new()).collect()) };
    let mut shards = InOrder::default();
    let mut refused = 0_u64;
    recovered.sessions(|number, record| {
        let key = SessionKey::restore(&record.key);
        match shared.registry.place(&key, || shared.choose_shard(now)) {
            Ok(shard) => {
                shards.push(number, shard);
                post.send(shard, Remnant::Session(number, key, Box::new(record)));
            }
            Err(_) => refused += 1,
        }
    })?;
    if refused > 0 {
        tracing::error!(
            refused,
            "more sessions are stored than limits.sessions_maximum allows: these cannot be gone on with until it is raised"
        );
    }
    recovered.closed(|number| post.send(ShardId(0), Remnant::Estate(number)))?;
    recovered.subscriptions(|number, filter, record| {
        let subscribed = subscribed(record);
        if let (Some(&shard), Ok(filter), Some(subscribed)) =
            (shards.get(number), TopicFilterBuf::new(filter.to_owned()), subscribed)
        {
            post.send(shard, Remnant::Subscription(number, filter, subscribed));
        }
    })?;
    let clock = shared.stored.wall_clock();
    recovered.retained(|topic, record| {
        let message = Message::from_stored(record.message.into(), clock);
        if let (Ok(name), Some(message)) = (TopicName::new(topic), message) {
            shared.retained.restore(name, message);
        }
    })?;
    recovered.delayed(|number, record| {
        shared.stored.note_delayed(number);
        post.send(ShardId(0), Remnant::Delayed(number, Box::new(record)));
    })?;
    post.flush();
    Ok(())
}

fn subscribed(record: SubscriptionRecord) -> Option<Subscribed> {
    let options = SubscriptionOptions::from_byte(record.options)?;
    Some(Subscribed::new(options, record.identifier.and_then(SubscriptionIdentifier::new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_is_found_once_those_before_it_are_done() {
        let mut sessions = InOrder::default();
        for number in [2, 3, 7] {
            sessions.push(SessionNumber(number), number * 10);
        }
        let asked = [1, 2, 2, 4, 7, 7, 8, 9];
        let found = asked.map(|number| sessions.get(SessionNumber(number)).copied());
        assert_eq!(found, [None, Some(20), Some(20), None, Some(70), Some(70), None, None]);
    }
}
