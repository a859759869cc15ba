use std::collections::VecDeque;
use std::sync::Arc;

use lapwing_proto::packet::{PacketId, QoS};
use lapwing_proto::session::{Instant, Link, Resend, ServerSession};
use lapwing_store::FlowKey;

use super::filters::Filters;
use super::ledger::Ledger;
use super::replays::Replays;
use super::stored_session::StoredSession;
use super::{ConnectionId, RecordId, SessionId};
use crate::hook::{Client, Identity};
use crate::limit::{Limits, QueueOverflow};
use crate::memory::Bounds;
use crate::message::{Delivery, Message};

/// What outlives a connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// What there is about it in the store, if it outlives the process.
    pub(super) stored: Option<Box<StoredSession>>,
    /// Under which the shard finds it.
    pub(super) key: SessionKey,
    pub(super) connection: Option<ConnectionId>,
    /// QoS 1 and 2 messages. Many sessions never have any: it is made when the first one comes.
    traffic: Option<Box<Traffic>>,
    /// Messages that each side takes at a time on this connection.
    own_receive_maximum: u16,
    peer_receive_maximum: u16,
    pub(super) filters: Filters,
    /// About how many bytes they and their places in the tree take.
    pub(super) filter_bytes: usize,
    /// How many of them are shared.
    pub(super) memberships: u32,
    /// Retained messages that are still to be sent for new subscriptions.
    pub(super) replays: Replays,
    /// Seconds that the session outlives its connection; `u32::MAX` for ever.
    pub(super) expiry_interval_s: u32,
    /// When it ends, while it has no connection.
    pub(super) expires: Option<Instant>,
    pub(super) will: Option<Box<Will>>,
    /// Whether publishers are told that its queue is full.
    pub(super) is_refusing: bool,
    /// Whether some of its subscriptions are checked message by message.
    pub(super) has_checked: bool,
    /// Whether messages in its queue may be such as its client may not be given any more.
    pub(super) is_queue_checked: bool,
    /// Whose it is; `None` if it is anybody's.
    pub(super) owner: Option<Arc<str>>,
}

/// The QoS 1 and 2 messages of a session.
#[derive(Debug, Default)]
struct Traffic {
    flows: ServerSession<Delivery>,
    /// What waits for the client, or for room in its receive maximum.
    queue: VecDeque<Delivery>,
    queue_bytes: usize,
    /// Of the messages in flight.
    in_flight_bytes: usize,
    /// Messages that found the queue full since this was last logged.
    overflow: u64,
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
            Some(key) => Self::Identity(Arc::clone(key)),
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
            stored: None,
            key,
            connection: None,
            traffic: None,
            own_receive_maximum: u16::MAX,
            peer_receive_maximum: u16::MAX,
            filters: Filters::default(),
            filter_bytes: 0,
            memberships: 0,
            replays: Replays::default(),
            expiry_interval_s: 0,
            expires: None,
            will: None,
            is_refusing: false,
            has_checked: false,
            is_queue_checked: false,
            owner: None,
        }
    }

    /// The session goes on, or begins, on a new connection.
    pub(super) fn begin(&mut self, link: &Link) {
        self.own_receive_maximum = link.own.receive_maximum;
        self.peer_receive_maximum = link.peer.receive_maximum;
        match &mut self.traffic {
            Some(traffic) if !traffic.is_idle() => {
                traffic.flows.inbound.begin(self.own_receive_maximum);
                traffic.flows.outbound.begin(self.peer_receive_maximum);
            }
            traffic => *traffic = None,
        }
    }

    /// The messages under way in both directions.
    #[inline]
    pub(super) fn flows(&mut self) -> &mut ServerSession<Delivery> {
        &mut self.traffic_mut().flows
    }

    #[inline]
    fn traffic_mut(&mut self) -> &mut Traffic {
        let maxima = (self.own_receive_maximum, self.peer_receive_maximum);
        self.traffic.get_or_insert_with(|| Traffic::begin(maxima))
    }

    /// Takes up a delivery that is about to be sent, if one may be sent now; gives it back otherwise.
    pub(super) fn send(&mut self, delivery: Delivery, limits: &Limits) -> Result<PacketId, Delivery> {
        let traffic = self.traffic_mut();
        if traffic.in_flight_bytes > limits.in_flight_bytes_maximum {
            return Err(delivery);
        }
        let (qos, size) = (delivery.qos, delivery.message.size());
        let packet_id = traffic.flows.outbound.send(qos, delivery)?;
        traffic.in_flight_bytes += size;
        Ok(packet_id)
    }

    /// The next packet to send again on a new connection.
    pub(super) fn resend(&mut self) -> Option<Resend<'_, Delivery>> {
        self.traffic.as_mut()?.flows.outbound.resend()
    }

    /// Whether messages wait for the client that could be sent to it.
    pub(super) fn has_waiting(&self) -> bool {
        let in_traffic =
            |traffic: &Traffic| !traffic.queue.is_empty() || traffic.flows.outbound.is_resending();
        self.traffic.as_deref().is_some_and(in_traffic) || !self.replays.is_empty() || self.spill().is_some()
    }

    /// A message that was taken up cannot be sent. Where it is recorded.
    pub(super) fn give_up(&mut self, packet_id: PacketId, ledger: &mut Ledger) -> RecordId {
        let delivery = self.flows().outbound.give_up(packet_id);
        let record = delivery.as_ref().map_or(RecordId::default(), |delivery| delivery.record);
        if delivery.as_ref().is_some_and(|it| it.place.is_some() && it.qos == QoS::ExactlyOnce) {
            ledger.flow(self.number(), FlowKey::Outbound(packet_id.get()), None);
        }
        self.settle_stored(delivery, ledger);
        record
    }

    /// The client has a message, or will never have it: it is not in flight any more.
    #[inline]
    pub(super) fn settle(&mut self, delivery: Option<Delivery>) {
        if let (Some(delivery), Some(traffic)) = (delivery, &mut self.traffic) {
            traffic.in_flight_bytes -= delivery.message.size();
        }
    }

    /// As [`settle`](Self::settle): nor does it wait in the store any more, if it does.
    pub(super) fn settle_stored(&mut self, delivery: Option<Delivery>, ledger: &mut Ledger) {
        if let Some(delivery) = &delivery {
            ledger.settle(self.number(), delivery);
        }
        self.settle(delivery);
    }

    /// Whether the next message of the queue may be sent now.
    pub(super) fn may_send(&self, limits: &Limits) -> bool {
        self.traffic.as_ref().is_none_or(|traffic| {
            traffic.in_flight_bytes <= limits.in_flight_bytes_maximum && traffic.flows.outbound.is_open()
        })
    }

    /// Puts a delivery at the end of the queue.
    pub(super) fn enqueue(&mut self, delivery: Delivery) {
        let traffic = self.traffic_mut();
        traffic.queue_bytes += size(&delivery);
        traffic.queue.push_back(delivery);
    }

    /// Whether nothing more is to come into the queue.
    pub(super) fn is_queue_full(&self, limits: &Limits) -> bool {
        self.has_queued(limits.queue_messages_maximum, limits.queue_bytes_maximum)
    }

    /// Whether a message that has been accepted has no place in the queue. Where publishers are refused there is one for
    /// what was on its way when the queue became full.
    pub(super) fn is_queue_overfull(&self, limits: &Bounds) -> bool {
        if self.stored.is_none() && self.queue_bytes() >= limits.memory_queue_bytes() {
            return true;
        }
        let factor = if limits.queue_overflow == QueueOverflow::Refuse { 2 } else { 1 };
        self.has_queued(
            limits.queue_messages_maximum.saturating_mul(factor),
            limits.queue_bytes_maximum.saturating_mul(factor),
        )
    }

    fn has_queued(&self, messages: usize, bytes: usize) -> bool {
        self.queue_len() >= messages || self.queue_bytes() >= bytes
    }

    /// How many messages are in the queue.
    pub(super) fn queue_len(&self) -> usize {
        self.window().0 + self.spill().map_or(0, |spill| spill.messages)
    }

    /// How many bytes the messages in the queue take.
    pub(super) fn queue_bytes(&self) -> usize {
        self.window().1 + self.spill().map_or(0, |spill| spill.bytes)
    }

    /// How many messages of the queue are in memory, and how many bytes these take.
    pub(super) fn window(&self) -> (usize, usize) {
        self.traffic.as_ref().map_or((0, 0), |traffic| (traffic.queue.len(), traffic.queue_bytes))
    }

    /// The messages in flight, in no order of their places, and the first of those that wait in memory.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Delivery> {
        let traffic = self.traffic.iter();
        traffic.flat_map(|traffic| traffic.flows.outbound.messages().chain(traffic.queue.front()))
    }

    /// The messages under way are those that were stored.
    pub(super) fn restore(&mut self, flows: ServerSession<Delivery>, in_flight_bytes: usize) {
        let traffic = self.traffic_mut();
        traffic.flows = flows;
        traffic.in_flight_bytes = in_flight_bytes;
    }

    /// How many messages are in flight.
    pub(super) fn in_flight_len(&self) -> usize {
        self.traffic.as_ref().map_or(0, |traffic| traffic.flows.outbound.len())
    }

    /// How many bytes the messages in flight take.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.traffic.as_ref().map_or(0, |traffic| traffic.in_flight_bytes)
    }

    /// The delivery at the front of the queue.
    pub(super) fn first_queued(&self) -> Option<&Delivery> {
        self.traffic.as_ref()?.queue.front()
    }

    /// Takes the delivery at the front of the queue.
    pub(super) fn dequeue(&mut self) -> Option<Delivery> {
        let traffic = self.traffic.as_mut()?;
        let delivery = traffic.queue.pop_front()?;
        traffic.queue_bytes -= size(&delivery);
        if traffic.queue.is_empty() && traffic.queue.capacity() > 64 {
            traffic.queue = VecDeque::new();
        }
        Some(delivery)
    }

    /// Takes the delivery at the front of the queue if its message has expired.
    pub(super) fn dequeue_expired(&mut self, now: Instant) -> Option<Delivery> {
        if self.first_queued()?.message.is_expired(now) { self.dequeue() } else { None }
    }

    /// Counts a message that found the queue full.
    pub(super) fn count_overflow(&mut self) {
        self.traffic_mut().overflow += 1;
    }

    /// How many messages found the queue full since this was last asked.
    pub(super) fn take_overflow(&mut self) -> u64 {
        self.traffic.as_mut().map_or(0, |traffic| std::mem::take(&mut traffic.overflow))
    }

    /// All that the client has not received, in order, each with whether it may go to another client: a QoS 2
    /// delivery that has begun may not `[MQTT-4.8.2-5]`.
    pub(super) fn into_undelivered(self) -> impl Iterator<Item = (Delivery, bool)> {
        let Traffic { mut flows, queue, .. } = *self.traffic.unwrap_or_default();
        let begun = flows.outbound.take().map(|(qos, delivery)| (delivery, qos < QoS::ExactlyOnce));
        begun.chain(queue.into_iter().map(|delivery| (delivery, true)))
    }
}

impl Traffic {
    #[cold]
    fn begin((own_receive_maximum, peer_receive_maximum): (u16, u16)) -> Box<Self> {
        let mut traffic = Box::<Self>::default();
        traffic.flows.inbound.begin(own_receive_maximum);
        traffic.flows.outbound.begin(peer_receive_maximum);
        traffic
    }

    /// Whether nothing is under way that must be remembered.
    fn is_idle(&self) -> bool {
        self.flows.outbound.is_empty()
            && self.flows.inbound.unreleased() == 0
            && self.queue.is_empty()
            && self.overflow == 0
    }
}

/// Bytes that a delivery in a queue takes. Its message may be in other queues as well, but who knows for how long.
fn size(delivery: &Delivery) -> usize {
    size_of::<Delivery>() + delivery.message.size()
}
