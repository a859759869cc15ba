use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;
use lapwing_proto::session::{Instant, ServerSession};
use lapwing_proto::topic::TopicFilterBuf;

use super::{ConnectionId, SessionId};
use crate::hook::Client;
use crate::message::{Delivery, Message};

/// What outlives a connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Under which the shard finds it.
    pub(super) key: Arc<str>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) flows: ServerSession<Delivery>,
    /// QoS 1 and 2 messages that wait for the client, or for room in its receive maximum.
    pub(super) queue: VecDeque<Delivery>,
    pub(super) queue_bytes: usize,
    pub(super) filters: HashSet<TopicFilterBuf>,
    /// Seconds that the session outlives its connection; `u32::MAX` for ever.
    pub(super) expiry_interval_s: u32,
    /// When it ends, while it has no connection.
    pub(super) expires: Option<Instant>,
    pub(super) will: Option<Box<Will>>,
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
    pub(super) fn new(id: SessionId, key: Arc<str>) -> Self {
        Self {
            id,
            key,
            connection: None,
            flows: ServerSession::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            filters: HashSet::new(),
            expiry_interval_s: 0,
            expires: None,
            will: None,
        }
    }

    /// Puts a delivery at the end of the queue.
    pub(super) fn enqueue(&mut self, delivery: Delivery) {
        self.queue_bytes += delivery.message.size();
        self.queue.push_back(delivery);
    }

    /// Takes the delivery at the front of the queue.
    pub(super) fn dequeue(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.queue_bytes -= delivery.message.size();
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Some(delivery)
    }
}
