use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashSet;
use lapwing_proto::packet::PacketId;
use lapwing_proto::session::{Instant, ServerSession};
use lapwing_proto::topic::TopicFilterBuf;

use super::retained::Replay;
use super::{ConnectionId, SessionId};
use crate::hook::{Client, Identity};
use crate::limit::Limits;
use crate::message::{Delivery, Message};

/// What outlives a connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Under which the shard finds it.
    pub(super) key: SessionKey,
    pub(super) connection: Option<ConnectionId>,
    pub(super) flows: ServerSession<Delivery>,
    /// QoS 1 and 2 messages that wait for the client, or for room in its receive maximum.
    pub(super) queue: VecDeque<Delivery>,
    pub(super) queue_bytes: usize,
    /// Of the messages in flight.
    pub(super) in_flight_bytes: usize,
    /// Messages that found the queue full since this was last logged.
    pub(super) overflow: u64,
    pub(super) filters: HashSet<TopicFilterBuf>,
    /// About how many bytes they and their places in the tree take.
    pub(super) filter_bytes: usize,
    /// How many of them are shared.
    pub(super) memberships: u32,
    /// Retained messages that are still to be sent for new subscriptions.
    pub(super) replays: BTreeMap<TopicFilterBuf, Replay>,
    /// Seconds that the session outlives its connection; `u32::MAX` for ever.
    pub(super) expiry_interval_s: u32,
    /// When it ends, while it has no connection.
    pub(super) expires: Option<Instant>,
    pub(super) will: Option<Box<Will>>,
}

/// Under which a session is found. A client identifier, which anybody may choose, is never taken for a key that
/// the authenticator gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SessionKey {
    ClientId(Arc<str>),
    Identity(Arc<str>),
}

impl SessionKey {
    /// Of a client with this identity and client identifier.
    pub(super) fn new(identity: &Identity, client_id: &str) -> Self {
        match &identity.session_key {
            Some(key) => Self::Identity(key.as_str().into()),
            None => Self::ClientId(client_id.into()),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> &str {
        let (Self::ClientId(key) | Self::Identity(key)) = self;
        key
    }
}

/// A Will Message with what is needed to publish it.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) message: Message,
    pub(super) retain: bool,
    pub(super) delay_s: u32,
    /// Who it is published for.
    pub(super) client: Client,
    /// When it is published, once the connection has ended.
    pub(super) due: Option<Instant>,
}

impl Session {
    pub(super) fn new(id: SessionId, key: SessionKey) -> Self {
        Self {
            id,
            key,
            connection: None,
            flows: ServerSession::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            in_flight_bytes: 0,
            overflow: 0,
            filters: HashSet::new(),
            filter_bytes: 0,
            memberships: 0,
            replays: BTreeMap::new(),
            expiry_interval_s: 0,
            expires: None,
            will: None,
        }
    }

    /// Takes up a delivery that is about to be sent, if one may be sent now; gives it back otherwise.
    pub(super) fn send(&mut self, delivery: Delivery, limits: &Limits) -> Result<PacketId, Delivery> {
        if self.in_flight_bytes > limits.in_flight_bytes_maximum {
            return Err(delivery);
        }
        let (qos, size) = (delivery.qos, delivery.message.size());
        let packet_id = self.flows.outbound.send(qos, delivery)?;
        self.in_flight_bytes += size;
        Ok(packet_id)
    }

    /// A message that was taken up cannot be sent.
    pub(super) fn give_up(&mut self, packet_id: PacketId) {
        let delivery = self.flows.outbound.give_up(packet_id);
        self.settle(delivery);
    }

    /// The client has a message, or will never have it: it is not in flight any more.
    pub(super) fn settle(&mut self, delivery: Option<Delivery>) {
        if let Some(delivery) = delivery {
            self.in_flight_bytes -= delivery.message.size();
        }
    }

    /// Whether another message may be sent now.
    pub(super) fn may_send(&self, limits: &Limits) -> bool {
        self.in_flight_bytes <= limits.in_flight_bytes_maximum && self.flows.outbound.is_open()
    }

    /// Puts a delivery at the end of the queue.
    pub(super) fn enqueue(&mut self, delivery: Delivery) {
        self.queue_bytes += size(&delivery);
        self.queue.push_back(delivery);
    }

    /// Whether nothing may be put into the queue.
    pub(super) fn is_queue_full(&self, limits: &Limits) -> bool {
        self.queue.len() >= limits.queue_messages_maximum || self.queue_bytes >= limits.queue_bytes_maximum
    }

    /// Takes the delivery at the front of the queue.
    pub(super) fn dequeue(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.queue_bytes -= size(&delivery);
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Some(delivery)
    }
}

/// Bytes that a delivery in a queue takes. Its message may be in other queues as well, but who knows for how long.
fn size(delivery: &Delivery) -> usize {
    size_of::<Delivery>() + delivery.message.size()
}
