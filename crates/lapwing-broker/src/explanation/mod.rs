//! What has become of a message, or of a client, as far as the shards' records of the last ones reach.
//!
//! Nothing here is kept for the sake of an answer but what `shard/trail.rs` and `shard/incident.rs` keep anyway: who
//! published to which topic and when, and what came of it; never a payload. It ends with the process.

mod search;
mod sentence;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use lapwing_proto::packet::{ProtocolVersion, QoS, ReasonCode};
use lapwing_proto::topic::TopicFilterBuf;
use serde::{Deserialize, Serialize};

pub(crate) use self::search::{
    Cursor, Finding, Found, IncidentPage, IncidentSearch, Inquest, Match, Search, TrailPage, Watched,
};
use crate::hook::RuleId;

/// What is remembered so that it can be explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explain {
    /// Bytes of memory that each shard may take to remember what has become of the last messages and clients, for
    /// `lapwing explain`: who published where and when, who got it, and why not; no payloads. 8 MiB are about 130,000
    /// messages or receivers. They are taken as there is something to remember. 0 for nothing.
    pub memory_bytes: usize,
}

impl Default for Explain {
    fn default() -> Self {
        Self { memory_bytes: 8 * 1024 * 1024 }
    }
}

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Messages to topics that match.
    pub topic: Option<TopicFilterBuf>,
    /// What this client published and was to get, and how it came and went: its client identifier, or else the key of its
    /// session.
    pub client: Option<String>,
    /// How far back.
    pub since: Duration,
    /// Up to so many messages, and as many incidents: the newest ones.
    pub maximum: usize,
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// From the oldest to the newest.
    pub messages: Vec<Message>,
    /// From the oldest to the newest.
    pub incidents: Vec<Incident>,
    /// Which subscriptions match the topics of the messages *now*: they may have been others then.
    pub subscriptions: Vec<Subscription>,
    /// Whether there is more than was asked for.
    pub is_more: bool,
    /// How far back each shard remembers.
    pub reaches: Vec<Reach>,
}

/// How far back a shard remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Whether it remembers anything.
    pub is_on: bool,
    /// Messages from then on; `None` where none has been forgotten since the start.
    pub messages: Option<SystemTime>,
    /// The same for incidents.
    pub incidents: Option<SystemTime>,
}

/// A message, or several that came together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When it was published; where that is not known, when it was first seen.
    pub at: SystemTime,
    /// `None` where it was published longer ago than is remembered.
    pub topic: Option<String>,
    /// Whether the topic is longer than is remembered.
    pub is_topic_cut: bool,
    /// Who published it.
    pub publisher: Publisher,
    /// As it was published.
    pub qos: QoS,
    /// Whether it was to be retained.
    pub retain: bool,
    /// How many messages these are.
    pub count: u32,
    /// What the broker did with it; `None` where it was published longer ago than is remembered.
    pub passage: Option<Passage>,
    /// To how many sessions it went, on all shards.
    pub receivers: u32,
    /// What became of it for those of whom there is a record: all at QoS 1 and 2, and those at QoS 0 that did not get it
    /// or got several together.
    pub deliveries: Vec<Delivery>,
    /// How many of these are left out.
    pub left_out: usize,
}

/// Who has published a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publisher {
    /// A client, or its will.
    Client(String),
    /// A client whose session has ended, and who it was is forgotten.
    Forgotten,
    /// The broker's own program, or an administrator.
    Broker,
    /// The broker, for one session: a retained message for a new subscription, or one that was sent to this session alone.
    Direct,
    /// It was published longer ago than is remembered.
    Unknown,
}

/// What became of a message for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The client identifier, or the key of the session; `None` where it has ended, and whose it was is forgotten.
    pub client_id: Option<String>,
    /// At which it is delivered.
    pub qos: QoS,
    /// How many messages, where several came together.
    pub count: u32,
    /// How far it is.
    pub state: DeliveryState,
    /// Why it waited, if it did.
    pub wait: Wait,
    /// When that began.
    pub at: SystemTime,
    /// When it was sent.
    pub sent_at: Option<SystemTime>,
    /// When the client acknowledged it, or it was dropped.
    pub settled_at: Option<SystemTime>,
    /// With which it was sent.
    pub packet_id: Option<u16>,
    /// Of the client's answer, where that is an error.
    pub reason_code: Option<ReasonCode>,
    /// Whether it was sent again on another connection.
    pub is_resent: bool,
}

/// What the broker did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Passage {
    /// It went to those who had subscribed.
    PassedOn,
    /// Nobody had subscribed.
    NoSubscriber,
    /// It is published later, as its topic asks.
    Delayed,
    /// It could not be kept until later.
    NotDelayed,
    /// There is too little room on the disk: it was refused.
    DiskFull,
    /// A session that would have got it has a full queue: it was refused.
    QueueFull,
    /// There is no room for another retained message: it was refused.
    NoRoomToRetain,
    /// The same, and it was passed on without being retained, since nobody would have been told.
    PassedOnUnretained,
}

/// How far a message is on its way to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DeliveryState {
    /// It waits.
    Queued = 0,
    /// It was handed to the connection.
    Sent = 1,
    /// A run, of which each message was looked at alone.
    OneByOne = 2,
    /// The client has it: it answered with PUBACK, or at QoS 2 with PUBREC. That is [`Sent`](Self::Sent) with another bit.
    Acknowledged = 3,
    /// The client answered with an error.
    Rejected = 4,
    /// Its expiry interval passed while it waited.
    Expired = 5,
    /// Too many messages were waiting in the session's queue.
    QueueFull = 6,
    /// At QoS 0: too many bytes were waiting to be written to the connection.
    OutboxFull = 7,
    /// At QoS 0: the client was not connected.
    NotConnected = 8,
    /// Larger than the client takes.
    TooLarge = 9,
    /// The session ended before the client had it.
    SessionEnded = 10,
    /// The client may not be given it any more.
    NotPermitted = 11,
    /// Another member of the shared subscription got it instead.
    GivenToOther = 12,
}

/// Why a message waits, or waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Wait {
    /// It did not.
    None,
    /// The client was not connected.
    Away,
    /// As many messages as the client takes at a time were not acknowledged.
    ReceiveMaximum,
    /// Others were waiting before it.
    Line,
    /// Too many bytes were waiting to be written to the connection.
    Behind,
    /// It was left on the disk, until there is room for it in memory.
    Disk,
}

/// Something that happened to a client, or was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// When; for several that are the same, the first time.
    pub at: SystemTime,
    /// The last time.
    pub last_at: SystemTime,
    /// How often, one time right after the other.
    pub count: u32,
    /// The client identifier; empty before a CONNECT.
    pub client_id: String,
    /// What.
    pub happening: Happening,
    /// The rule that says so, in words, where one does.
    pub rule: Option<String>,
}

/// What happened to a client, or was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// It was let in.
    Connected {
        /// The version that it speaks.
        version: ProtocolVersion,
        /// Whether it went on with an earlier session.
        session_present: bool,
        /// The other end.
        peer: SocketAddr,
    },
    /// It was not let in.
    Refused {
        /// What it was told.
        reason_code: ReasonCode,
        /// Why.
        reason: String,
        /// The other end.
        peer: SocketAddr,
    },
    /// The broker ended its connection, for something that it did or did not do.
    Closed {
        /// What it was told.
        reason_code: ReasonCode,
        /// Why.
        reason: String,
        /// The other end.
        peer: SocketAddr,
    },
    /// Its connection ended.
    Disconnected {
        /// Of the DISCONNECT, whoever sent it; `None` if the connection was lost.
        reason_code: Option<ReasonCode>,
    },
    /// Its session ended.
    SessionEnded,
    /// It may not publish there.
    PublishDenied {
        /// The topic.
        topic: String,
        /// The rule that says so, if one does.
        rule: Option<RuleId>,
    },
    /// The program around the broker did not let its message pass.
    Filtered {
        /// The topic.
        topic: String,
        /// What the client was told.
        reason_code: ReasonCode,
    },
    /// It published to what is no topic after the rules.
    Misnamed {
        /// The topic.
        topic: String,
    },
    /// It may not subscribe so.
    SubscribeDenied {
        /// The filter.
        filter: String,
        /// The rule that says so, if one does.
        rule: Option<RuleId>,
    },
    /// A subscription was removed, since the rules do not allow it any more.
    SubscriptionRevoked {
        /// The filter.
        filter: String,
    },
}

impl Happening {
    /// The rule that says so, if one does.
    pub fn rule(&self) -> Option<RuleId> {
        match self {
            Self::PublishDenied { rule, .. } | Self::SubscribeDenied { rule, .. } => *rule,
            _ => None,
        }
    }

    /// The topic or filter that it is about, as far as it is kept.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::PublishDenied { topic, .. } | Self::Filtered { topic, .. } | Self::Misnamed { topic } => {
                Some(topic)
            }
            Self::SubscribeDenied { filter, .. } | Self::SubscriptionRevoked { filter } => Some(filter),
            _ => None,
        }
    }
}

/// A subscription that matches a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The filter.
    pub filter: String,
    /// Whose it is; `None` for a shared one.
    pub client_id: Option<String>,
    /// The highest quality of service that it gives; `None` for a shared one.
    pub qos: Option<QoS>,
    /// How many members a shared one has.
    pub members: usize,
    /// Whether the client is not given this topic, though the filter matches.
    pub is_withheld: bool,
    /// The rule that says so, in words, where one does.
    pub rule: Option<String>,
}
