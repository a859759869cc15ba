//! What an earlier process has stored, on its way to the shards.

use std::sync::mpsc::SyncSender;

use hashbrown::HashMap;
use lapwing_proto::packet::{SubscriptionIdentifier, SubscriptionOptions};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilterBuf, TopicName};
use lapwing_store::engine::EngineError;
use lapwing_store::{Recovered, SubscriptionRecord};

use crate::message::Message;
use crate::shard::{Remnant, SessionKey};
use crate::shared::{ShardId, Shared, Subscribed};

/// Pieces on their way to a shard.
pub(crate) const UNDER_WAY: usize = 1024;

/// Shares out what is stored among the shards, and retains what is retained.
pub(crate) fn share_out(
    recovered: &Recovered<'_>,
    shared: &Shared,
    senders: &[SyncSender<Remnant>],
    now: Instant,
) -> Result<(), EngineError> {
    let send = |shard: ShardId, remnant| {
        // It fails only where the shard's thread has ended, and then the broker does not start.
        let _ = senders[shard.index()].send(remnant);
    };
    let mut shards = HashMap::new();
    let mut refused = 0_u64;
    recovered.sessions(|number, record| {
        let key = SessionKey::restore(&record.key);
        match shared.registry.place(&key, || shared.choose_shard(now)) {
            Ok(shard) => {
                shards.insert(number, shard);
                send(shard, Remnant::Session(number, key, Box::new(record)));
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
    recovered.closed(|number| send(ShardId(0), Remnant::Estate(number)))?;
    recovered.subscriptions(|number, filter, record| {
        let subscribed = subscribed(record);
        if let (Some(&shard), Ok(filter), Some(subscribed)) =
            (shards.get(&number), TopicFilterBuf::new(filter.to_owned()), subscribed)
        {
            send(shard, Remnant::Subscription(number, filter, subscribed));
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
        send(ShardId(0), Remnant::Delayed(number, Box::new(record)));
    })
}

fn subscribed(record: SubscriptionRecord) -> Option<Subscribed> {
    let options = SubscriptionOptions::from_byte(record.options)?;
    Some(Subscribed { options, identifier: record.identifier.and_then(SubscriptionIdentifier::new) })
}
