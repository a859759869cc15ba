use std::collections::VecDeque;

use super::SessionError;
use crate::packet::{PacketId, PacketType, QoS};

/// The QoS 1 and 2 messages that this end sends: a window of consecutive packet identifiers, flat in
/// memory, in the order in which the messages were first sent.
///
/// `M` is whatever stands for a message, typically a reference-counted pointer. The window outlives the
/// connection; how many messages are open is counted from zero on each connection.
///
/// An identifier whose message is done stays in the window, empty, while an older one is not. So the window
/// spans at most the 65,535 identifiers there are: a peer that acknowledges everything but one message
/// is sent 65,534 more and then waited for.
#[derive(Debug, Clone)]
pub struct Outbound<M> {
    /// The identifier of the first slot; the others follow.
    first: PacketId,
    slots: VecDeque<Slot<M>>,
    /// What remains to be sent again on this connection, before anything new. Boxed, as it is rarely there.
    resending: Option<Box<Resending>>,
    /// Messages in flight, sent on this connection or not.
    in_flight: u16,
    /// Those of them that have been sent on this connection.
    open: u16,
    receive_maximum: u16,
    /// Counts PUBRECs, whose order is that of the PUBRELs.
    received: u32,
}

#[derive(Debug, Clone)]
enum Slot<M> {
    /// Acknowledged, or never used for a message.
    Free,
    /// Used by a packet that is not a PUBLISH.
    Reserved,
    /// QoS 1, waiting for PUBACK.
    AwaitPubAck(M),
    /// QoS 2, waiting for PUBREC.
    AwaitPubRec(M),
    /// QoS 2, waiting for PUBCOMP; the number orders the PUBRELs.
    AwaitPubComp(u32),
}

/// What was in flight when a connection began and has not been sent on it.
#[derive(Debug, Clone)]
struct Resending {
    /// The order in which they are sent; some may have been acknowledged meanwhile.
    order: VecDeque<PacketId>,
    /// A bit for each identifier that still waits, from that of the first slot on.
    waiting: Box<[u64]>,
    first: PacketId,
    /// How many wait.
    count: u16,
}

/// What is to be sent again upon resuming a session, with the same packet identifier `[MQTT-4.4.0-1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend<'a, M> {
    /// A PUBLISH, with DUP set `[MQTT-3.3.1-1]`.
    Publish(PacketId, QoS, &'a M),
    /// A PUBREL.
    PubRel(PacketId),
}

const IDS: usize = 65_535;

/// A window that has become longer than this gives its memory back once it is empty: there may be many
/// sessions, most of them at rest.
const KEPT_CAPACITY: usize = 32;

impl<M> Default for Outbound<M> {
    fn default() -> Self {
        Self {
            first: PacketId::FIRST,
            slots: VecDeque::new(),
            resending: None,
            in_flight: 0,
            open: 0,
            receive_maximum: u16::MAX,
            received: 0,
        }
    }
}

impl<M> Outbound<M> {
    /// The QoS 2 messages that were under way when a session was stored, in the order in which they were first sent:
    /// those with a message wait for PUBREC. The others wait for PUBCOMP, and the number orders their PUBRELs.
    /// Identifiers in between are free.
    pub fn restore(messages: impl IntoIterator<Item = (PacketId, Result<M, u32>)>) -> Self {
        let mut outbound = Self::default();
        for (id, state) in messages {
            if outbound.slots.is_empty() {
                outbound.first = id;
            }
            let index = distance(outbound.first, id);
            if index < outbound.slots.len() {
                continue; // an identifier that comes twice: what was sent first has it
            }
            outbound.slots.resize_with(index, || Slot::Free);
            outbound.slots.push_back(match state {
                Ok(message) => Slot::AwaitPubRec(message),
                Err(order) => {
                    outbound.received = outbound.received.max(order.wrapping_add(1));
                    Slot::AwaitPubComp(order)
                }
            });
            outbound.in_flight += 1;
        }
        outbound
    }

    /// Begins a connection on which the peer takes `receive_maximum` messages at a time. All that is in
    /// flight is to be sent again: call [`resend`](Self::resend) until it gives nothing, and again when
    /// acknowledgements have made room.
    pub fn begin(&mut self, receive_maximum: u16) {
        self.open = 0;
        self.receive_maximum = receive_maximum;
        let mut publishes = VecDeque::new();
        let mut releases = Vec::new();
        let mut id = self.first;
        for slot in &mut self.slots {
            match slot {
                Slot::Free => {}
                Slot::Reserved => *slot = Slot::Free,
                Slot::AwaitPubAck(_) | Slot::AwaitPubRec(_) => publishes.push_back(id),
                Slot::AwaitPubComp(order) => releases.push((*order, id)),
            }
            id = id.next();
        }
        self.drop_free();
        // PUBRELs go out in the order of the PUBRECs [MQTT-4.6.0-4], PUBLISHes in their own [MQTT-4.6.0-1].
        releases.sort_unstable_by_key(|&(order, _)| std::cmp::Reverse(self.received.wrapping_sub(order)));
        let mut order: VecDeque<_> = releases.into_iter().map(|(_, id)| id).collect();
        order.append(&mut publishes);
        self.resending = Resending::new(order, self.first, self.slots.len());
    }

    /// The next packet to send again, if the receive maximum allows one.
    pub fn resend(&mut self) -> Option<Resend<'_, M>> {
        if self.open >= self.receive_maximum {
            return None;
        }
        let id = self.resending.as_mut()?.next()?;
        self.settle(id);
        self.open += 1;
        match self.slot(id)? {
            Slot::AwaitPubAck(message) => Some(Resend::Publish(id, QoS::AtLeastOnce, message)),
            Slot::AwaitPubRec(message) => Some(Resend::Publish(id, QoS::ExactlyOnce, message)),
            _ => Some(Resend::PubRel(id)),
        }
    }

    /// Whether a new message may be sent now: the receive maximum is not reached `[MQTT-3.3.4-7]`, an
    /// identifier is free, and nothing remains to be sent again before it.
    pub fn is_open(&self) -> bool {
        self.open < self.receive_maximum && self.slots.len() < IDS && self.resending.is_none()
    }

    /// Whether something remains to be sent again.
    pub fn is_resending(&self) -> bool {
        self.resending.is_some()
    }

    /// Takes up a message that is about to be sent, at QoS 1 or 2, and gives its packet identifier; gives
    /// the message back when none may be sent now.
    pub fn send(&mut self, qos: QoS, message: M) -> Result<PacketId, M> {
        if !self.is_open() {
            return Err(message);
        }
        debug_assert_ne!(qos, QoS::AtMostOnce);
        let id = self.next_id();
        self.slots.push_back(match qos {
            QoS::ExactlyOnce => Slot::AwaitPubRec(message),
            _ => Slot::AwaitPubAck(message),
        });
        self.in_flight += 1;
        self.open += 1;
        Ok(id)
    }

    /// An identifier for a SUBSCRIBE or UNSUBSCRIBE, which no receive maximum limits; `None` when all are
    /// in use. It is given back with [`release`](Self::release), or by [`begin`](Self::begin).
    pub fn reserve(&mut self) -> Option<PacketId> {
        if self.slots.len() >= IDS {
            return None;
        }
        let id = self.next_id();
        self.slots.push_back(Slot::Reserved);
        Some(id)
    }

    /// Gives back an identifier of [`reserve`](Self::reserve); `false` if it was none.
    pub fn release(&mut self, packet_id: PacketId) -> bool {
        let reserved = matches!(self.slot(packet_id), Some(Slot::Reserved));
        if reserved {
            self.free(packet_id);
        }
        reserved
    }

    /// A PUBACK has arrived: gives the message, or `None` if no message waits under that identifier.
    #[inline]
    pub fn puback(&mut self, packet_id: PacketId) -> Result<Option<M>, SessionError> {
        let is_first = packet_id == self.first && self.resending.is_none();
        if is_first
            && matches!(self.slots.front(), Some(Slot::AwaitPubAck(_)))
            && let Some(Slot::AwaitPubAck(message)) = self.slots.pop_front()
        {
            self.count_first_off();
            self.in_flight -= 1;
            return Ok(Some(message));
        }
        self.puback_out_of_order(packet_id)
    }

    fn puback_out_of_order(&mut self, packet_id: PacketId) -> Result<Option<M>, SessionError> {
        match self.slot(packet_id) {
            Some(Slot::AwaitPubAck(_)) => {}
            Some(Slot::AwaitPubRec(_) | Slot::AwaitPubComp(_)) => {
                return Err(SessionError::WrongAcknowledgement(PacketType::PubAck, packet_id));
            }
            _ => return Ok(None),
        }
        Ok(self.close(packet_id))
    }

    /// A PUBREC has arrived. With `accepted` (a reason code below 0x80) a PUBREL answers it and the message
    /// is given; otherwise the message is given and nothing is sent `[MQTT-4.3.3-4]`. `None` if no message
    /// waits under that identifier: a PUBREL with "packet identifier not found" then answers it, or a plain
    /// PUBREL where [`awaits_pubcomp`](Self::awaits_pubcomp).
    #[inline(always)]
    pub fn pubrec(&mut self, packet_id: PacketId, accepted: bool) -> Result<Option<M>, SessionError> {
        let Some(index) = self.index(packet_id) else { return Ok(None) };
        match &self.slots[index] {
            Slot::AwaitPubRec(_) if !accepted => Ok(self.close(packet_id)),
            Slot::AwaitPubRec(_) => {
                let released = Slot::AwaitPubComp(self.received);
                self.received = self.received.wrapping_add(1);
                // The peer may know the message without its having been sent again on this connection; the
                // PUBREL that answers is then the one that would have been sent later.
                if self.settle(packet_id) {
                    self.open = self.open.saturating_add(1);
                }
                match std::mem::replace(&mut self.slots[index], released) {
                    Slot::AwaitPubRec(message) => Ok(Some(message)),
                    _ => Ok(None),
                }
            }
            Slot::AwaitPubAck(_) => Err(SessionError::WrongAcknowledgement(PacketType::PubRec, packet_id)),
            _ => Ok(None),
        }
    }

    /// The number that orders the next PUBREL, see [`restore`](Self::restore).
    pub fn next_order(&self) -> u32 {
        self.received
    }

    /// Whether a PUBREL has been sent under that identifier and not been answered.
    pub fn awaits_pubcomp(&self, packet_id: PacketId) -> bool {
        matches!(self.slot(packet_id), Some(Slot::AwaitPubComp(_)))
    }

    /// A PUBCOMP has arrived; `false` if nothing waits under that identifier.
    #[inline(always)]
    pub fn pubcomp(&mut self, packet_id: PacketId) -> Result<bool, SessionError> {
        match self.slot(packet_id) {
            Some(Slot::AwaitPubComp(_)) => {
                self.close(packet_id);
                Ok(true)
            }
            Some(Slot::AwaitPubAck(_) | Slot::AwaitPubRec(_)) => {
                Err(SessionError::WrongAcknowledgement(PacketType::PubComp, packet_id))
            }
            _ => Ok(false),
        }
    }

    /// The message that was taken up last cannot be sent after all: it is given back, and its identifier is free again.
    pub fn give_up(&mut self, packet_id: PacketId) -> Option<M> {
        self.close(packet_id)
    }

    /// The messages that the peer has not received as far as is known, in the order in which they were first sent.
    pub fn messages(&self) -> impl Iterator<Item = &M> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::AwaitPubAck(message) | Slot::AwaitPubRec(message) => Some(message),
            _ => None,
        })
    }

    /// How many messages are in flight, over all connections of the session.
    pub fn len(&self) -> usize {
        usize::from(self.in_flight)
    }

    /// Whether no message is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0
    }

    /// Gives all messages that the peer has not yet received, in order, and forgets the rest, also the
    /// identifiers of [`reserve`](Self::reserve): the session has ended.
    pub fn take(&mut self) -> impl Iterator<Item = (QoS, M)> + use<M> {
        self.first = self.next_id();
        self.resending = None;
        self.in_flight = 0;
        self.open = 0;
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| match slot {
            Slot::AwaitPubAck(message) => Some((QoS::AtLeastOnce, message)),
            Slot::AwaitPubRec(message) => Some((QoS::ExactlyOnce, message)),
            Slot::Free | Slot::Reserved | Slot::AwaitPubComp(_) => None,
        })
    }

    fn next_id(&self) -> PacketId {
        // There are fewer slots than identifiers.
        let number = usize::from(self.first.get()) + self.slots.len();
        let number = if number > IDS { number - IDS } else { number };
        PacketId::new(number as u16).unwrap_or(PacketId::FIRST)
    }

    fn index(&self, id: PacketId) -> Option<usize> {
        let index = distance(self.first, id);
        (index < self.slots.len()).then_some(index)
    }

    fn slot(&self, id: PacketId) -> Option<&Slot<M>> {
        self.index(id).map(|index| &self.slots[index])
    }

    /// Ends a message's flow and counts it off.
    fn close(&mut self, id: PacketId) -> Option<M> {
        if id == self.first && self.resending.is_none() {
            return self.close_first();
        }
        // One that the peer acknowledges before it was sent again on this connection was not counted.
        if !self.settle(id) {
            self.open = self.open.saturating_sub(1);
        }
        self.free(id)
    }

    /// The same for the oldest one where nothing is to be sent again, which is so nearly always.
    #[inline]
    fn close_first(&mut self) -> Option<M> {
        let slot = self.slots.pop_front()?;
        self.count_first_off();
        if !matches!(slot, Slot::Free | Slot::Reserved) {
            self.in_flight -= 1;
        }
        match slot {
            Slot::AwaitPubAck(message) | Slot::AwaitPubRec(message) => Some(message),
            _ => None,
        }
    }

    /// The oldest slot has been taken out.
    #[inline]
    fn count_first_off(&mut self) {
        self.first = self.first.next();
        self.open = self.open.saturating_sub(1);
        if matches!(self.slots.front(), None | Some(Slot::Free)) {
            self.drop_free();
        }
    }

    /// The message does not wait any more to be sent again; whether it did.
    fn settle(&mut self, id: PacketId) -> bool {
        let Some(resending) = &mut self.resending else { return false };
        let waited = resending.settle(id);
        if resending.count == 0 {
            self.resending = None;
        }
        waited
    }

    fn free(&mut self, id: PacketId) -> Option<M> {
        let index = self.index(id)?;
        let slot = std::mem::replace(&mut self.slots[index], Slot::Free);
        if index == 0 {
            self.drop_free();
        }
        if !matches!(slot, Slot::Free | Slot::Reserved) {
            self.in_flight -= 1;
        }
        match slot {
            Slot::AwaitPubAck(message) | Slot::AwaitPubRec(message) => Some(message),
            _ => None,
        }
    }

    fn drop_free(&mut self) {
        while let Some(Slot::Free) = self.slots.front() {
            self.slots.pop_front();
            self.first = self.first.next();
        }
        if self.slots.is_empty() && self.slots.capacity() > KEPT_CAPACITY {
            self.slots = VecDeque::new();
        }
    }
}

impl Resending {
    /// `None` if there is nothing to send again. All identifiers are among the `span` from `first` on.
    fn new(order: VecDeque<PacketId>, first: PacketId, span: usize) -> Option<Box<Self>> {
        if order.is_empty() {
            return None;
        }
        let mut waiting = vec![0; span.div_ceil(64)].into_boxed_slice();
        for &id in &order {
            let at = distance(first, id);
            waiting[at / 64] |= 1 << (at % 64);
        }
        // The identifiers are different ones, so that there are no more of them than fit.
        let count = u16::try_from(order.len()).unwrap_or(u16::MAX);
        Some(Box::new(Self { order, waiting, first, count }))
    }

    /// The next one that still waits.
    fn next(&mut self) -> Option<PacketId> {
        loop {
            let id = self.order.pop_front()?;
            if self.waits(id) {
                return Some(id);
            }
        }
    }

    fn waits(&self, id: PacketId) -> bool {
        let at = distance(self.first, id);
        self.waiting.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn settle(&mut self, id: PacketId) -> bool {
        let waited = self.waits(id);
        if waited {
            let at = distance(self.first, id);
            self.waiting[at / 64] &= !(1 << (at % 64));
            self.count -= 1;
        }
        waited
    }
}

/// How many identifiers `id` comes after `first`.
fn distance(first: PacketId, id: PacketId) -> usize {
    let (id, first) = (usize::from(id.get()), usize::from(first.get()));
    if id >= first { id - first } else { id + IDS - first }
}
