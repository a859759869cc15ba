//! What is stored of sessions and messages, and what changes it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names a stored session. It never names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// The place of a message among all that were ever stored for sessions: the order in which they were committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Sequence(pub u64);

/// Milliseconds since the beginning of 1970 in UTC, by the clock of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub u64);

/// Something that a packet, or a point in time, changes.
#[derive(Debug, Clone)]
pub enum Change {
    /// A session has begun, or something about it is different.
    Session(SessionNumber, Box<SessionRecord>),
    /// A session is over, with all that belongs to it.
    SessionEnded(SessionNumber),
    /// A session is over, but for its messages: those are still passed to others. Its end must follow.
    SessionClosed(SessionNumber),
    /// A session has a subscription, in place of an earlier one with this filter.
    Subscribed(SessionNumber, Arc<str>, SubscriptionRecord),
    /// A session has a subscription no more.
    Unsubscribed(SessionNumber, Arc<str>),
    /// A message waits for sessions. It gets the next [`Sequence`].
    Queued(QueuedMessage),
    /// A message does not wait for a session any more.
    Settled(SessionNumber, Place),
    /// How far the QoS 2 message with this identifier is; `None` if it is done.
    Flow(SessionNumber, FlowKey, Option<FlowState>),
    /// A topic has a retained message.
    Retained(Arc<str>, Box<RetainedRecord>),
    /// A topic has none any more.
    Unretained(Arc<str>),
    /// A message is to be published later, under this number.
    Delayed(u64, Box<DelayedRecord>),
    /// It is not to be published later any more.
    Undelayed(u64),
}

/// Where a message stands that waits for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its place in the queue.
    pub sequence: Sequence,
    /// Whether it is stored once for several sessions.
    pub is_shared: bool,
}

/// A message for sessions.
#[derive(Debug, Clone)]
pub struct QueuedMessage {
    /// The message in the form in which it is kept; the store does not look at it.
    pub message: Arc<[u8]>,
    /// At which quality of service it was published.
    pub qos: u8,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// For whom.
    pub targets: Arc<[QueueTarget]>,
}

/// How a session gets a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueTarget {
    /// Which session.
    pub session: SessionNumber,
    /// The highest quality of service at which it gets it.
    pub qos: u8,
    /// Whether RETAIN is passed on.
    pub retain_as_published: bool,
    /// Subscription identifiers that go with it.
    pub identifiers: Box<[u32]>,
    /// The shared subscription by which it gets it.
    pub share: Option<Arc<str>>,
}

/// A session, but for its subscriptions and messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Under which it is found.
    pub key: KeyRecord,
    /// Seconds that it outlives its connection; `u32::MAX` for ever.
    pub expiry_interval_s: u32,
    /// When it ends, while it has no connection.
    pub expires: Option<WallTime>,
    /// Its Will Message.
    pub will: Option<WillRecord>,
    /// No message that waits for it stands before this place.
    pub cursor: Sequence,
}

/// Under which a session is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyRecord {
    /// The client identifier.
    ClientId(String),
    /// The key that the authenticator gave.
    Identity(String),
    /// The client identifier, and who alone may use the session.
    Owned {
        /// The client identifier.
        client_id: String,
        /// The user.
        owner: String,
    },
}

/// A Will Message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WillRecord {
    /// As it is kept.
    pub message: Vec<u8>,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds from the end of the connection to its publication.
    pub delay_s: u32,
    /// When it is published; `None` while the client is connected.
    pub due: Option<WallTime>,
    /// For whom it is published.
    pub publisher: PublisherRecord,
}

/// Who has published a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherRecord {
    /// The client identifier.
    pub client_id: String,
    /// The user name.
    pub user_name: Option<String>,
    /// The key of the session, where the authenticator gave one.
    pub session_key: Option<String>,
    /// The other end of the connection.
    pub peer: SocketAddr,
}

/// How a subscription's messages are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// The options, as SUBSCRIBE of 5.0 has them in a byte.
    pub options: u8,
    /// The Subscription Identifier.
    pub identifier: Option<u32>,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedRecord {
    /// As it is kept.
    pub message: Vec<u8>,
    /// Who has published it; `None` if it was the broker.
    pub publisher: Option<PublisherRecord>,
}

/// A message that is published later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedRecord {
    /// As it is kept.
    pub message: Vec<u8>,
    /// Whether it is retained then.
    pub retain: bool,
    /// When it is published.
    pub due: WallTime,
    /// Who has published it; `None` if it was the broker.
    pub publisher: Option<PublisherRecord>,
}

/// Names a QoS 2 message under way within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowKey {
    /// From the client, with this packet identifier.
    Inbound(u16),
    /// To the client, with this packet identifier.
    Outbound(u16),
}

/// How far a QoS 2 message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowState {
    /// From the client: received, and not released by it.
    Received,
    /// To the client: sent, perhaps, and not received by it as far as is known. The message waits at this place.
    Sent(Sequence),
    /// To the client: received by it. The number orders the PUBRELs; the place is where the message was.
    Released(u64, Sequence),
}

/// Changes that belong together.
#[derive(Debug, Default)]
pub struct Transaction {
    pub(crate) changes: Vec<Change>,
    pub(crate) is_awaited: bool,
}

impl Transaction {
    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Somebody is told when all of it is durable. Where nobody is, it need not be at once.
    pub fn set_awaited(&mut self) {
        self.is_awaited = true;
    }

    /// Whether somebody is.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// About how many bytes it takes while it waits.
    pub(crate) fn size(&self) -> usize {
        let size = |change: &Change| match change {
            Change::Queued(queued) => queued.message.len() + 32 * queued.targets.len(),
            Change::Session(_, record) => {
                size_of::<SessionRecord>() + record.will.as_ref().map_or(0, |will| will.message.len())
            }
            Change::Subscribed(_, filter, _) | Change::Unsubscribed(_, filter) => filter.len(),
            Change::Retained(topic, record) => topic.len() + record.message.len(),
            Change::Unretained(topic) => topic.len(),
            Change::Delayed(_, record) => record.message.len(),
            _ => 0,
        };
        self.changes.iter().map(|change| size_of::<Change>() + size(change)).sum()
    }
}
