//! Messages for stored sessions: into the store, and once they are durable, on to the sessions.
//!
//! A message that a stored session gets at QoS 1 or 2 goes to its shard by way of the store, in the order in which it
//! was committed. So a session's messages have one order, in memory and on the disk, and what is in memory is always
//! the front of what is stored: the rest is read when there is room for it.

use std::sync::Arc;

use lapwing_proto::packet::{Ack, PacketType, Publish, QoS, SubscriptionIdentifier};
use lapwing_store::{
    FlowKey, FlowState, Place, QueueCount, QueueRead, QueueRequest, Sequence, SessionNumber, StoredDelivery,
};

use super::deliver::Distribution;
use super::session::Session;
use super::{ConnectionId, DELIVERY_COST, RecordId, SessionId, Shard, Trace};
use crate::explanation::{DeliveryState, Wait};
use crate::limit::QueueOverflow;
use crate::mail::{Mail, StoredBatch, StoredMessage};
use crate::message::{Delivery, Message, StoredPlace};
use crate::shared::{Details, OwnMessages, ShardId, StoredRecipients, StoredTargets, Target};

/// Messages and bytes that are read of a queue at a time.
const READ_MESSAGES: usize = 2048;
const READ_BYTES: usize = 1024 * 1024;
/// With fewer messages in memory, more are read.
const READ_BELOW: usize = 1024;
/// A connected client's session may have so many messages in memory, however little memory is left.
const WINDOW_MINIMUM: usize = 64;

impl Shard {
    /// Gives the store a message for the sessions that a topic leads to. To how many.
    pub(super) fn queue_stored(
        &mut self,
        targets: &StoredTargets,
        distribution: &mut Distribution<'_>,
        origin: Option<SessionId>,
    ) -> usize {
        let own = origin.filter(|_| targets.has_own).and_then(|origin| targets.for_own(origin));
        let Some((others, own)) = own else { return self.queue(targets, distribution) };
        let mut count = if others.queue.is_empty() { 0 } else { self.queue(&others, distribution) };
        if let Some(own) = own {
            count += 1;
            if own.qos == QoS::AtMostOnce {
                self.variants.reset();
                self.deliver(&own, distribution);
            } else {
                self.queue_for_one(&own, None, distribution);
            }
        }
        count
    }

    /// Gives the store a message for one session. `share` is the filter of the shared subscription by which it gets
    /// it. `false` if the session has ended.
    pub(super) fn queue_for_one(
        &mut self,
        target: &Target,
        share: Option<&str>,
        distribution: &mut Distribution<'_>,
    ) -> bool {
        let Some(queue_target) = self.shared.stored.queue_target(target, share) else { return false };
        let recipients = StoredRecipients { targets: [(target.clone(), queue_target.session)].into() };
        let targets = StoredTargets {
            recipients: vec![(target.session.shard(), Arc::new(recipients))],
            queue: [queue_target].into(),
            has_own: false,
        };
        self.queue(&targets, distribution) > 0
    }

    fn queue(&mut self, targets: &StoredTargets, distribution: &mut Distribution<'_>) -> usize {
        let fields = (distribution.publish.qos.bits(), distribution.publish.retain);
        let how = (self.shared.stored.wall_clock(), distribution.trace);
        let message = distribution.message();
        self.spent += DELIVERY_COST * targets.queue.len() + message.size();
        self.ledger.queue(message, fields, targets, how);
        let is_full = |(shard, _): &(ShardId, _)| self.shared.mailbox(*shard).is_full();
        if targets.recipients.iter().any(is_full) {
            self.dispatch.note_full();
        }
        targets.queue.len()
    }

    /// Passes messages on that are durable now, as far as the turn's budget goes.
    pub(super) fn deliver_stored(&mut self, mut batch: StoredBatch, first: Sequence) {
        while !self.is_spent() {
            let Some(message) = batch.pop() else {
                return self.settle_mail(batch.cost());
            };
            self.deliver_stored_message(&message, first);
        }
        self.mail.push_front(Mail::Stored(batch, first));
    }

    fn deliver_stored_message(&mut self, stored: &StoredMessage, first: Sequence) {
        let StoredMessage { message, retain, offset, is_shared, recipients, trace } = stored;
        let place = Place { sequence: Sequence(first.0 + u64::from(*offset)), is_shared: *is_shared };
        let publish = Publish { qos: message.qos(), retain: *retain, ..message.publish(self.now) };
        let kept = Some(message.clone());
        let mut distribution = Distribution::new(&publish, None, kept, (*trace, self.now));
        distribution.place = StoredPlace::new(place);
        self.variants.reset();
        for (target, number) in &recipients.targets {
            if self.pass_by_stored(target, *number, place, &distribution) {
                continue;
            }
            let qos = publish.qos.min(target.qos);
            if self.takes_stored((target.session, *number), place, message, (*trace, qos)) {
                self.deliver(target, &mut distribution);
            }
        }
    }

    /// Whether a session takes a message that is stored for it now. If not it is left in the store for later, or
    /// dropped.
    fn takes_stored(
        &mut self,
        (id, number): (SessionId, SessionNumber),
        place: Place,
        message: &Message,
        (trace, qos): (Trace, QoS),
    ) -> bool {
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
            if self.estates.contains(number) {
                return false; // it is read with the others that the session has left
            }
            // It has ended while the message was on its way: what came behind its end is removed, too.
            self.ledger.record(lapwing_store::Change::SessionEnded(number));
            self.stat.messages_dropped.session_ended += 1;
            self.trail.dropped(trace, id, qos, DeliveryState::SessionEnded, self.now);
            return false;
        };
        if session.is_queue_overfull(&self.limits) && !self.make_room(id) {
            return true; // nor is there room for it where it is counted and dropped
        }
        let has_room = self.has_window(id);
        let Some(session) = self.sessions.get_mut(id.index()) else { return false };
        if session.is_dormant() && session.spill().is_none() {
            session.begin_spill(session.cursor());
            self.ledger.count_queue(id, number);
        } else if session.spill().is_none() && !has_room {
            session.begin_spill(Sequence(place.sequence.0 - 1));
        }
        let Some(spill) = session.spill_mut() else {
            session.note_seen(place.sequence);
            return true;
        };
        spill.messages += 1;
        spill.bytes += message.size();
        self.trail.queued(trace, id, (qos, Wait::Disk), self.now);
        self.note_fullness(id);
        false
    }

    /// Whether another message of a session may be in memory.
    fn has_window(&mut self, id: SessionId) -> bool {
        let maximum = self.limits.queue_memory_bytes / self.shared.mailboxes.len();
        let used = self.ledger.window_bytes;
        let Some(session) = self.session_mut(id) else { return false };
        let (messages, bytes) = session.window();
        let is_needed = session.connection.is_some() && messages < WINDOW_MINIMUM;
        is_needed || (used < maximum && bytes < maximum / 4)
    }

    /// Drops something of a full queue; whether another message may be put there.
    fn make_room(&mut self, id: SessionId) -> bool {
        let limits = self.limits.clone();
        self.drop_expired(id, |session| session.is_queue_overfull(&limits));
        let Some(session) = self.sessions.get_mut(id.index()) else { return false };
        let is_full = session.is_queue_overfull(&limits);
        if is_full && limits.queue_overflow == QueueOverflow::DropOldest {
            self.drop_oldest(id);
            return true;
        }
        !is_full
    }

    /// Drops the first message of a queue, of which it is not known yet that it is in memory.
    fn drop_oldest(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id.index()) else { return };
        let (before, is_dormant) = (session.window().1, session.is_dormant());
        if let Some(oldest) = session.dequeue() {
            self.ledger.settle(session.number(), &oldest);
            self.trail.end(id, &oldest, DeliveryState::QueueFull, self.now);
            self.ledger.note_window(before, session.window().1);
            self.stat.messages_dropped.queue_full += 1;
        } else if let Some(spill) = session.spill_mut() {
            spill.surplus += 1;
            if !is_dormant {
                self.ledger.read_queue(id);
            } else if !std::mem::replace(&mut spill.is_reading, true) {
                // Which of them are in flight must be known first.
                self.ledger.read_flows(None, id);
            }
        }
    }

    /// Passes a message that was stored for a member of a shared subscription to another one, if that member's client
    /// has gone meanwhile and another is there.
    fn pass_by_stored(
        &mut self,
        target: &Target,
        number: SessionNumber,
        place: Place,
        distribution: &Distribution<'_>,
    ) -> bool {
        let Some(group) = Details::group(target.details.as_ref()) else { return false };
        let session = self.session_mut(target.session);
        let exists = session.is_some();
        if session.is_some_and(|session| session.connection.is_some()) {
            return false;
        }
        let Some(group) = self.shared.subscriptions.group(group) else { return false };
        if (exists && !group.is_served()) || self.estates.contains(number) {
            return false;
        }
        let kept = distribution.kept.clone();
        let mut onward = Distribution::new(distribution.publish, None, kept, (distribution.trace, self.now));
        let is_passed = self.deliver_to_member(&group, &mut onward);
        if is_passed {
            self.ledger.record(lapwing_store::Change::Settled(number, place));
        }
        is_passed
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP from the client of a stored session.
    #[cold]
    pub(super) fn handle_stored_ack(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        packet_type: PacketType,
        ack: &Ack<'_>,
    ) {
        let found = self.sessions.get_mut(session_id.index());
        let Some(session) = found.filter(|session| session.id == session_id) else { return };
        let (number, flows) = (session.number(), session.flows());
        let (order, mut pubrel) = (flows.outbound.next_order(), None);
        let settled = match packet_type {
            PacketType::PubAck => flows.receive_puback(ack.packet_id),
            PacketType::PubRec => flows.receive_pubrec(ack).map(|(delivery, answer)| {
                pubrel = answer;
                delivery
            }),
            PacketType::PubRel => {
                let pubcomp = flows.receive_pubrel(ack.packet_id);
                self.ledger.flow(number, FlowKey::Inbound(ack.packet_id.get()), None);
                self.close_gate(id);
                return self.send_ack(id, PacketType::PubComp, &pubcomp);
            }
            _ => flows.receive_pubcomp(ack.packet_id).map(|_| None),
        };
        let delivery = match settled {
            Ok(delivery) => delivery,
            Err(error) => return self.fault(id, error.reason_code(), &error),
        };
        if let Some(delivery) = &delivery {
            self.trail.answered(delivery.record, ack.reason_code, self.now);
        }
        let place = delivery.as_ref().and_then(|delivery| delivery.place).map(StoredPlace::get);
        let released = place.filter(|_| pubrel.is_some());
        let state = released.map(|place| FlowState::Released(order.into(), place.sequence));
        // A PUBREC that comes again changes nothing.
        let is_change =
            packet_type == PacketType::PubComp || (packet_type == PacketType::PubRec && place.is_some());
        if is_change {
            self.ledger.flow(number, FlowKey::Outbound(ack.packet_id.get()), state);
        }
        session.settle_stored(delivery, &mut self.ledger);
        if session.has_waiting() {
            self.with_room = Some(session_id);
        }
        if let Some(pubrel) = pubrel {
            self.close_gate(id);
            self.send_ack(id, PacketType::PubRel, &pubrel);
        }
    }

    /// Has messages read that wait for a session in the store only, if its client could take them.
    pub(super) fn read_queue(&mut self, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        let is_wanted = session.connection.is_some() && session.window().0 < READ_BELOW;
        let is_idle = session.spill().is_some_and(|spill| !spill.is_reading);
        if is_wanted && is_idle && self.has_window(id) {
            self.ledger.read_queue(id);
        }
    }

    /// Asks the store for what this turn wants to know. Called when all that the turn has changed is submitted.
    pub(super) fn ask_store(&mut self) {
        while let Some(id) = self.ledger.next_read() {
            let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
                continue;
            };
            let Some(number) = session.number() else { continue };
            let Some(spill) = session.spill_mut().filter(|spill| !spill.is_reading) else { continue };
            spill.is_reading = true;
            self.ledger.begin_read();
            let request = QueueRequest {
                session: number,
                after: spill.after,
                messages: READ_MESSAGES,
                bytes: READ_BYTES,
            };
            let (shared, shard) = (Arc::clone(&self.shared), self.id);
            if let Some(store) = self.ledger.store() {
                store.read(request, move |read| shared.mailbox(shard).send(Mail::QueueRead(id, read)));
            }
        }
        for (id, number) in self.ledger.take_counts() {
            let (shared, shard) = (Arc::clone(&self.shared), self.id);
            if let Some(store) = self.ledger.store() {
                store.count(number, move |count| shared.mailbox(shard).send(Mail::QueueCount(id, count)));
            }
        }
        self.ask_for_flows();
        self.ask_for_estates();
    }

    /// Messages of a session's queue have been read.
    pub(super) fn take_queue_read(&mut self, id: SessionId, read: QueueRead) {
        self.ledger.note_read();
        let QueueRead { deliveries, mut is_all, last, missing } = read;
        let found = self.sessions.get_mut(id.index()).filter(|session| session.id == id);
        let Some(session) = found else { return };
        for place in missing {
            self.ledger.settle_place(session.number(), place);
        }
        let Some(spill) = session.spill_mut() else { return };
        spill.is_reading = false;
        let mut is_whole = true;
        for delivery in deliveries {
            if !self.has_surplus(id) && !self.has_window(id) {
                // What is left is read again when there is room for it.
                (is_all, is_whole) = (false, false);
                break;
            }
            self.take_read(id, delivery);
        }
        let spill = self.session_mut(id).and_then(Session::spill_mut);
        if let (Some(spill), Some(last), true) = (spill, last, is_whole) {
            spill.after = spill.after.max(last);
        }
        if is_all && let Some(session) = self.session_mut(id) {
            session.end_spill();
        } else if self.has_surplus(id) {
            self.ledger.read_queue(id);
        }
        self.pump(id);
    }

    /// Whether the first messages of a queue that are read are to be dropped.
    fn has_surplus(&mut self, id: SessionId) -> bool {
        let session = self.session_mut(id);
        session.and_then(|session| session.spill()).is_some_and(|spill| spill.surplus > 0)
    }

    fn take_read(&mut self, id: SessionId, stored: StoredDelivery) {
        let place = stored.place;
        let delivery = self.revive(stored);
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
            return;
        };
        let number = session.number();
        let Some(spill) = session.spill_mut() else { return };
        spill.after = place.sequence;
        if spill.in_flight.contains(&place.sequence) {
            return;
        }
        spill.messages = spill.messages.saturating_sub(1);
        spill.bytes =
            spill.bytes.saturating_sub(delivery.as_ref().map_or(0, |delivery| delivery.message.size()));
        let is_surplus = spill.surplus > 0;
        spill.surplus -= usize::from(is_surplus);
        match delivery {
            Some(delivery) if !is_surplus => {
                session.note_seen(place.sequence);
                let before = session.window().1;
                session.enqueue(delivery);
                self.ledger.note_window(before, session.window().1);
            }
            surplus => {
                if let Some(surplus) = surplus {
                    self.trail.end(id, &surplus, DeliveryState::QueueFull, self.now);
                }
                self.stat.messages_dropped.queue_full += 1;
                if let Some(number) = number {
                    self.ledger.record(lapwing_store::Change::Settled(number, place));
                }
            }
        }
    }

    /// A delivery as it was stored. `None` if its message is none.
    pub(super) fn revive(&self, stored: StoredDelivery) -> Option<Delivery> {
        let StoredDelivery { place, qos, retain, identifiers, share, message } = stored;
        let message = Message::from_stored(message, self.shared.stored.wall_clock())?;
        let identifiers = identifiers.iter().copied().filter_map(SubscriptionIdentifier::new);
        let group = share.and_then(|filter| self.shared.subscriptions.group_id(&filter));
        let details = Details::new(identifiers, group);
        let (place, qos, record) = (StoredPlace::new(place), QoS::from_bits(qos)?, RecordId::default());
        Some(Delivery { message, place, qos, retain, details, record })
    }

    /// How much waits for a session that has not been looked at since the start.
    pub(super) fn take_queue_count(&mut self, id: SessionId, count: QueueCount) {
        let Some(session) = self.session_mut(id).filter(|session| session.is_dormant()) else { return };
        if let Some(spill) = session.spill_mut() {
            spill.note_count(count);
        }
        self.note_fullness(id);
    }
}

impl StoredTargets {
    /// The targets of a message that `origin` has published, if it gets that otherwise than those of others: all others,
    /// and how it gets it, if it does.
    fn for_own(&self, origin: SessionId) -> Option<(Self, Option<Target>)> {
        let mut all = self.recipients.iter().flat_map(|(_, recipients)| &recipients.targets);
        let (own, number) = all.find(|(target, _)| target.session == origin)?;
        let own = match &own.own {
            OwnMessages::Same => return None,
            OwnMessages::Not => None,
            OwnMessages::Other(own) => Some((**own).clone()),
        };
        let without = |recipients: &StoredRecipients| {
            let others = recipients.targets.iter().filter(|(target, _)| target.session != origin);
            StoredRecipients { targets: others.cloned().collect() }
        };
        let recipients =
            self.recipients.iter().map(|(shard, recipients)| (*shard, Arc::new(without(recipients))));
        let queue = self.queue.iter().filter(|target| target.session != *number).cloned().collect();
        Some((Self { recipients: recipients.collect(), queue, has_own: false }, own))
    }
}
