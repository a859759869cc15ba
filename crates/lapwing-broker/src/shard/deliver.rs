//! A message to clients: from the route of its topic to the outboxes and queues.

use std::rc::Rc;
use std::sync::Arc;

use lapwing_proto::packet::{
    Ack, EncodeError, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
};
use lapwing_proto::packet::{SubscriptionIdentifier, SubscriptionOptions};
use lapwing_proto::session::{AliasChoice, Instant, Resend};

use super::connection::{Connection, Open};
use super::permission::is_forbidden;
use super::route::{Known, Route, RouteSessions};
use super::stat::Stat;
use super::trail::{self, Publication, Stamp};
use super::{ConnectionId, DELIVERY_COST, RecordId, SessionId, SessionKey, Shard, Trace};
use crate::excerpt::excerpt;
use crate::explanation::{DeliveryState, Passage, Wait};
use crate::hook::Event;
use crate::limit::QueueOverflow;
use crate::message::{Delivery, Message, StoredPlace};
use crate::shared::{Details, Group, Recipients, Subscribed, Target};

/// The encodings of one message that its receivers have in common, each made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Variants {
    bytes: Vec<u8>,
    /// Bit by bit, which of `places` are set.
    made: u16,
    places: [Place; 12],
}

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    packet_id: usize,
}

impl Variants {
    pub(super) fn reset(&mut self) {
        self.made = 0;
        self.bytes.clear();
    }

    /// The message as its receivers of a version get it at `qos` and with this RETAIN flag, and where in it the packet
    /// identifier stands.
    #[inline]
    fn get(
        &mut self,
        publish: &Publish<'_>,
        version: ProtocolVersion,
        qos: QoS,
        retain: bool,
    ) -> Result<(&[u8], usize), EncodeError> {
        let index = usize::from(version == ProtocolVersion::V5) * 6
            + usize::from(qos.bits()) * 2
            + usize::from(retain);
        if self.made & 1 << index == 0 {
            let start = self.bytes.len();
            let publish = Publish { dup: false, qos, retain, packet_id: Some(PacketId::FIRST), ..*publish };
            publish.encode(version, &mut self.bytes)?;
            let packet_id = publish.packet_id_offset(version)?;
            self.places[index] = Place { start, end: self.bytes.len(), packet_id };
            self.made |= 1 << index;
        }
        let place = self.places[index];
        Ok((&self.bytes[place.start..place.end], place.packet_id))
    }
}

/// A client's PUBLISH in the very bytes in which it came: receivers of the same version, at the same QoS and with the
/// same RETAIN flag, get these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) version: ProtocolVersion,
    /// Where the packet identifier stands.
    packet_id: usize,
}

impl<'a> Original<'a> {
    /// `None` where the bytes have in them what is not passed on.
    pub(super) fn new(frame: Frame<'a>, version: ProtocolVersion, publish: &Publish<'a>) -> Option<Self> {
        const DUP: u8 = 0b1000;
        let is_repeated = frame.bytes().first().is_none_or(|first| first & DUP != 0);
        let name = publish.topic.filter(|_| publish.properties.topic_alias.is_none())?;
        let packet_id = frame.header_size() + 2 + name.as_str().len();
        (!is_repeated && !frame.is_padded()).then_some(Self { frame, version, packet_id })
    }
}

/// What is known of where a message comes from, to spare work.
#[derive(Default)]
pub(super) struct Source<'a> {
    /// Of its topic.
    pub(super) known: Option<&'a Rc<Known>>,
    pub(super) original: Option<Original<'a>>,
    /// Whether it has been kept until now, so that there is room for it.
    pub(super) is_kept: bool,
}

/// A message that is being distributed.
pub(super) struct Distribution<'a> {
    pub(super) publish: &'a Publish<'a>,
    original: Option<Original<'a>>,
    /// The message as it is kept, made when the first receiver needs it.
    pub(super) kept: Option<Message>,
    /// Where it is stored, for those who get it by way of the store.
    pub(super) place: Option<StoredPlace>,
    pub(super) trace: Trace,
    stamp: Stamp,
    now: Instant,
}

impl<'a> Distribution<'a> {
    pub(super) fn new(
        publish: &'a Publish<'a>,
        original: Option<Original<'a>>,
        kept: Option<Message>,
        (trace, now): (Trace, Instant),
    ) -> Self {
        Self { publish, original, kept, place: None, trace, stamp: Stamp::new(trace, now), now }
    }

    pub(super) fn message(&mut self) -> &Message {
        self.kept.get_or_insert_with(|| {
            let plain = self.original.and_then(|it| Message::plain(it.frame, it.version, self.publish.qos));
            plain.unwrap_or_else(|| Message::new(self.publish, self.now))
        })
    }

    fn delivery(&mut self, target: &Target, qos: QoS, record: RecordId) -> Delivery {
        Delivery {
            message: self.message().clone(),
            place: self.place,
            qos,
            retain: self.publish.retain && target.retain_as_published,
            details: target.details.clone(),
            record,
        }
    }
}

/// The member of a shared subscription that gets a message.
pub(super) struct Member {
    recipients: Arc<Recipients>,
    filter: Arc<str>,
}

impl Member {
    fn choose(group: &Group) -> Option<Self> {
        Some(Self { recipients: group.choose()?, filter: Arc::clone(&group.filter) })
    }

    /// Whether it gets a message of this quality of service by way of the store.
    pub(super) fn is_by_store(&self, qos: QoS) -> bool {
        let is_stored = |target: &Target| target.session.is_stored() && qos.min(target.qos) > QoS::AtMostOnce;
        self.recipients.targets.first().is_some_and(is_stored)
    }
}

impl Shard {
    /// Passes a message to all sessions that its topic leads to. To how many.
    pub(super) fn distribute(
        &mut self,
        publish: &Publish<'_>,
        source: Source<'_>,
        origin: Option<SessionId>,
        trace: Trace,
    ) -> usize {
        let Some(name) = publish.topic else { return 0 };
        let Source { known, original, .. } = source;
        let found = match known {
            Some(known) => self.routes.again(known),
            None => self.routes.route(name),
        };
        let route = found.route();
        let mut distribution = Distribution::new(publish, original, None, (trace, self.now));
        let (mut count, sessions) = self.distribute_stored(route, &mut distribution, origin);
        for (shard, recipients) in &sessions.elsewhere {
            self.dispatch(*shard, (publish, original, None), recipients, trace);
            count += recipients.targets.len();
        }
        count += self.distribute_here(sessions, &mut distribution, origin);
        for group in &route.groups {
            count += usize::from(self.deliver_to_member(group, &mut distribution));
        }
        count
    }

    /// Passes a message to those of its route that get it by way of the store. To how many, and who else gets it.
    #[inline]
    pub(super) fn distribute_stored<'a>(
        &mut self,
        route: &'a Route,
        distribution: &mut Distribution<'_>,
        origin: Option<SessionId>,
    ) -> (usize, &'a RouteSessions) {
        match &route.stored {
            Some(stored) if distribution.publish.qos > QoS::AtMostOnce => {
                (self.queue_stored(&stored.targets, distribution, origin), &stored.others)
            }
            _ => (0, &route.sessions),
        }
    }

    /// Passes a message that is kept anyway to those of its route that are on this shard, and to members of shared
    /// subscriptions. To how many.
    pub(super) fn distribute_kept(
        &mut self,
        (sessions, members): (&RouteSessions, &[Member]),
        publish: &Publish<'_>,
        kept: Option<Message>,
        (origin, trace): (Option<SessionId>, Trace),
    ) -> usize {
        let mut distribution = Distribution::new(publish, None, kept, (trace, self.now));
        let mut count = self.distribute_here(sessions, &mut distribution, origin);
        for member in members {
            count += usize::from(self.deliver_to_chosen(member, &mut distribution));
        }
        count
    }

    /// Passes a message to those who get it directly and are on this shard. To how many.
    fn distribute_here(
        &mut self,
        sessions: &RouteSessions,
        distribution: &mut Distribution<'_>,
        origin: Option<SessionId>,
    ) -> usize {
        self.variants.reset();
        let mut count = 0;
        for target in &sessions.here {
            let Some(target) = target.of_origin(origin) else { continue };
            self.deliver(target, distribution);
            count += 1;
        }
        count
    }

    /// Passes a message of another shard's client to sessions of this one.
    pub(super) fn deliver_here(
        &mut self,
        (publish, original, kept): (&Publish<'_>, Option<Original<'_>>, Option<&Message>),
        targets: &[Target],
        trace: Trace,
    ) {
        let mut distribution = Distribution::new(publish, original, kept.cloned(), (trace, self.now));
        self.variants.reset();
        for target in targets {
            if !self.pass_by(target, &mut distribution) {
                self.deliver(target, &mut distribution);
            }
        }
    }

    /// Passes a message to some sessions of this shard.
    pub(super) fn deliver_to<'a>(
        &mut self,
        publish: &Publish<'_>,
        original: Option<Original<'_>>,
        targets: impl Iterator<Item = &'a Target>,
        trace: Trace,
    ) {
        let mut distribution = Distribution::new(publish, original, None, (trace, self.now));
        self.variants.reset();
        targets.for_each(|target| self.deliver(target, &mut distribution));
    }

    /// Passes a message that was meant for a member of a shared subscription to another one, if that member has
    /// gone meanwhile and another is there.
    fn pass_by(&mut self, target: &Target, distribution: &mut Distribution<'_>) -> bool {
        let Some(group) = Details::group(target.details.as_ref()) else { return false };
        let session = self.session_mut(target.session);
        let exists = session.is_some();
        if session.is_some_and(|session| session.connection.is_some()) {
            return false;
        }
        let Some(group) = self.shared.subscriptions.group(group) else { return false };
        (group.is_served() || !exists) && self.deliver_to_member(&group, distribution)
    }

    /// Passes a message to the member of a shared subscription whose turn it is. `false` if there is none.
    pub(super) fn deliver_to_member(&mut self, group: &Group, distribution: &mut Distribution<'_>) -> bool {
        // One whose session is ending at this moment is passed over.
        for _ in 0..group.len() {
            let Some(member) = Member::choose(group) else { return false };
            if self.deliver_to_chosen(&member, distribution) {
                return true;
            }
        }
        false
    }

    /// The members of shared subscriptions whose turn it is.
    pub(super) fn choose_members(&self, groups: &[Arc<Group>]) -> Vec<Member> {
        groups.iter().filter_map(|group| Member::choose(group)).collect()
    }

    /// Passes a message to a member of a shared subscription that was chosen for it. `false` if its session has ended.
    pub(super) fn deliver_to_chosen(&mut self, member: &Member, distribution: &mut Distribution<'_>) -> bool {
        let Member { recipients: member, filter } = member;
        let Some(target) = member.targets.first() else { return false };
        let qos = distribution.publish.qos.min(target.qos);
        if target.session.is_stored() && qos > QoS::AtMostOnce {
            return self.queue_for_one(target, Some(filter), distribution);
        }
        match target.session.shard() {
            shard if shard == self.id => self.deliver(target, distribution),
            shard => {
                let Distribution { publish, original, kept, trace, .. } = distribution;
                self.dispatch(shard, (publish, *original, kept.as_ref()), member, *trace);
            }
        }
        true
    }

    pub(super) fn deliver(&mut self, target: &Target, distribution: &mut Distribution<'_>) {
        self.spent += DELIVERY_COST;
        let limits = &self.limits;
        let Stat { messages_sent: sent, messages_dropped: dropped, .. } = &mut self.stat;
        let qos = distribution.publish.qos.min(target.qos);
        let (trace, now) = (distribution.trace, self.now);
        let found = self.sessions.get_mut(target.session.index());
        let Some(session) = found.filter(|session| session.id == target.session) else {
            // It has ended while the message was on its way here from another shard.
            let (count, state) = match qos {
                QoS::AtMostOnce => (&mut dropped.not_connected, DeliveryState::NotConnected),
                _ => (&mut dropped.session_ended, DeliveryState::SessionEnded),
            };
            *count += 1;
            self.trail.dropped(trace, target.session, qos, state, now);
            return;
        };
        let connection = session.connection.and_then(|id| self.connections.get_mut(id.index()));
        let Some(connection) = connection else {
            if qos == QoS::AtMostOnce {
                dropped.not_connected += 1;
                self.trail.dropped(trace, target.session, qos, DeliveryState::NotConnected, now);
                return;
            }
            let record = self.trail.queued(trace, target.session, (qos, Wait::Away), now);
            return self.enqueue(target.session, distribution.delivery(target, qos, record));
        };
        let before = connection.outbox.len();
        let is_full = before > limits.outbox_bytes_maximum;
        let retain = distribution.publish.retain && target.retain_as_published;
        let packet_id = if qos == QoS::AtMostOnce {
            if is_full {
                dropped.outbox_full += 1;
                self.trail.dropped(trace, target.session, qos, DeliveryState::OutboxFull, now);
                return;
            }
            None
        } else {
            let mut delivery = distribution.delivery(target, qos, self.trail.next());
            if is_full || session.queue_len() > 0 {
                let wait = if is_full { Wait::Behind } else { Wait::Line };
                delivery.record = self.trail.queued(trace, target.session, (qos, wait), now);
                return self.enqueue(target.session, delivery);
            }
            match session.send(delivery, limits) {
                Ok(packet_id) => {
                    if distribution.place.is_some() {
                        self.ledger.note_sent(
                            session.number(),
                            connection,
                            (qos, packet_id, distribution.place),
                        );
                    }
                    self.trail.sent(distribution.stamp, target.session, (qos, packet_id));
                    Some(packet_id)
                }
                Err(mut delivery) => {
                    let wait = Wait::ReceiveMaximum;
                    delivery.record = self.trail.queued(trace, target.session, (qos, wait), now);
                    return self.enqueue(target.session, delivery);
                }
            }
        };
        connection.outbox.prepare(distribution.publish.payload.len(), &mut self.pool);
        if append(connection, distribution, target, (qos, retain, packet_id), &mut self.variants) {
            sent.count(qos);
            self.spent += connection.outbox.len() - before;
            mark_dirty(&mut self.dirty, connection);
        } else {
            dropped.too_large += 1;
            if let Some(packet_id) = packet_id {
                let record = session.give_up(packet_id, &mut self.ledger);
                self.trail.settle(record, DeliveryState::TooLarge, now);
            } else {
                self.trail.dropped(trace, target.session, qos, DeliveryState::TooLarge, now);
            }
            if !session.replays.is_empty() {
                // Nothing has been written that would let them go on.
                let id = connection.id;
                self.schedule_replay(id);
            }
        }
    }

    /// Puts a delivery into a session's queue. If that is full even without what has expired at its front, the
    /// delivery is dropped.
    pub(super) fn enqueue(&mut self, id: SessionId, delivery: Delivery) {
        let Some(session) = self.sessions.get_mut(id.index()) else { return };
        let limits = &self.limits;
        let dropped = &mut self.stat.messages_dropped;
        let before = session.window().1;
        while session.is_queue_overfull(limits) {
            let is_expired = |first: &Delivery| first.message.is_expired(self.now);
            let is_first_expired = session.first_queued().is_some_and(is_expired);
            let may_drop_first =
                limits.queue_overflow == QueueOverflow::DropOldest && session.first_queued().is_some();
            if !is_first_expired && !may_drop_first {
                self.ledger.settle(session.number(), &delivery);
                self.trail.end(id, &delivery, DeliveryState::QueueFull, self.now);
                if session.stored.is_some() {
                    self.ledger.note_window(before, session.window().1);
                }
                dropped.queue_full += 1;
                session.count_overflow();
                if let Some(suppressed) = self.overflows.allow(self.now) {
                    let (count, session_key) = (session.take_overflow(), session.key.text());
                    if let Some(observer) = &self.shared.hooks.observer {
                        observer.observe(&Event::QueueFull { session_key, count });
                    }
                    tracing::warn!(
                        session_key = &*excerpt(session_key),
                        count,
                        suppressed,
                        "the queue is full: QoS 1 and 2 messages are dropped"
                    );
                }
                return;
            }
            if let Some(expired) = session.dequeue() {
                self.ledger.settle(session.number(), &expired);
                let state = if is_first_expired { DeliveryState::Expired } else { DeliveryState::QueueFull };
                self.trail.end(id, &expired, state, self.now);
            }
            if is_first_expired {
                dropped.expired += 1;
            } else {
                dropped.queue_full += 1;
            }
        }
        session.enqueue(delivery);
        if session.stored.is_some() {
            self.ledger.note_window(before, session.window().1);
        }
        self.note_fullness(id);
    }

    /// Sends to a session's client what waits for it, as far as its receive maximum and its outbox allow.
    pub(super) fn pump(&mut self, id: SessionId) {
        let given = self.checked_queue(id);
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.id == id) else {
            return;
        };
        let Some(connection) = session.connection.and_then(|id| self.connections.get_mut(id.index())) else {
            return;
        };
        let before = connection.outbox.len();
        let window_before = session.window().1;
        let maximum = self.limits.outbox_bytes_maximum;
        let stat = &mut self.stat;
        while connection.outbox.len() <= maximum {
            let Some(resend) = session.resend() else { break };
            let (Resend::Publish(packet_id, ..) | Resend::PubRel(packet_id)) = resend;
            if let Resend::Publish(.., delivery) = resend {
                self.trail.resent(delivery.record);
            }
            connection.outbox.prepare(0, &mut self.pool);
            if append_again(connection, resend, self.now) {
                stat.messages_resent += 1;
            } else {
                stat.messages_dropped.too_large += 1;
                let record = session.give_up(packet_id, &mut self.ledger);
                self.trail.settle(record, DeliveryState::TooLarge, self.now);
            }
        }
        let limits = &self.limits;
        while connection.outbox.len() <= maximum && session.may_send(limits) {
            let Some(mut delivery) = session.dequeue() else { break };
            if delivery.message.is_expired(self.now) {
                stat.messages_dropped.expired += 1;
                self.ledger.settle(session.number(), &delivery);
                self.trail.end(id, &delivery, DeliveryState::Expired, self.now);
                continue;
            }
            if let (Some(given), Some(open)) = (&given, connection.open())
                && is_forbidden(&*open.permit, given, &delivery.message, self.now)
            {
                stat.messages_dropped.not_permitted += 1;
                self.ledger.settle(session.number(), &delivery);
                self.trail.end(id, &delivery, DeliveryState::NotPermitted, self.now);
                continue;
            }
            let (message, qos, retain) = (delivery.message.clone(), delivery.qos, delivery.retain);
            let (details, place) = (delivery.details.clone(), delivery.place);
            let record = self.trail.waiting(id, &delivery, self.now);
            delivery.record = record;
            let Ok(packet_id) = session.send(delivery, limits) else { break };
            self.trail.send(record, packet_id, self.now);
            if place.is_some() {
                self.ledger.note_sent(session.number(), connection, (qos, packet_id, place));
            }
            connection.outbox.prepare(message.size(), &mut self.pool);
            let fields = (qos, retain, Some(packet_id));
            let identifiers = Details::identifiers(details.as_ref());
            let start = connection.outbox.len();
            if append_kept(connection, &message, fields, identifiers, self.now) {
                let is_older = |place: StoredPlace| place.get().sequence < self.shared.stored.first_sequence;
                if qos == QoS::AtLeastOnce && place.is_some_and(is_older) {
                    // An earlier process may have sent it, under another identifier [MQTT-3.3.1-1].
                    connection.outbox.set_dup(start);
                }
                stat.messages_sent.count(qos);
            } else {
                stat.messages_dropped.too_large += 1;
                session.give_up(packet_id, &mut self.ledger);
                self.trail.settle(record, DeliveryState::TooLarge, self.now);
            }
        }
        if connection.outbox.len() > before {
            mark_dirty(&mut self.dirty, connection);
        }
        let connection = connection.id;
        session.is_queue_checked &= session.queue_len() > 0;
        if session.stored.is_some() {
            self.ledger.note_window(window_before, session.window().1);
        }
        if session.queue_len() == 0 && !session.replays.is_empty() {
            self.schedule_replay(connection);
        }
        self.note_fullness(id);
        self.read_queue(id);
    }

    /// Sends a message to one session, whatever it has subscribed to.
    pub(super) fn send_to(&mut self, key: &SessionKey, message: &Message, qos: QoS) {
        let Some(session) = self.shared.registry.session(key).filter(|session| session.shard() == self.id)
        else {
            self.stat.messages_dropped.no_subscriber += 1;
            return;
        };
        let subscribed = Subscribed::new(SubscriptionOptions::new(qos), None);
        let publish = Publish { qos: message.qos(), ..message.publish(self.now) };
        let trace = self.record_direct(&publish);
        let mut distribution = Distribution::new(&publish, None, None, (trace, self.now));
        let target = Target::new(session, &subscribed);
        if session.is_stored() && qos.min(publish.qos) > QoS::AtMostOnce {
            self.queue_for_one(&target, None, &mut distribution);
            return;
        }
        self.variants.reset();
        self.deliver(&target, &mut distribution);
    }

    /// Notes a message that is published to one session.
    pub(super) fn record_direct(&mut self, publish: &Publish<'_>) -> Trace {
        let publication = Publication {
            origin: None,
            name: self.trail.name(publish.topic, None),
            flags: trail::flags(publish.qos, publish.retain) | trail::DIRECT,
            messages: 1,
        };
        let trace = self.trail.begin();
        self.trail.published(trace, &publication, (Passage::PassedOn, 1), self.now);
        trace
    }

    /// Gives a message that a member of a shared subscription has not received, its session having ended, to
    /// another member. It waits its turn there behind what is queued. `false` if there is none.
    pub(super) fn deliver_to_other(&mut self, delivery: &Delivery) -> bool {
        let Some(group) = Details::group(delivery.details.as_ref()) else { return false };
        let message = &delivery.message;
        if message.is_expired(self.now) {
            self.stat.messages_dropped.expired += 1;
            return true; // it takes no member's turn
        }
        let Some(group) = self.shared.subscriptions.group(group) else { return false };
        let publish = Publish { qos: message.qos(), retain: delivery.retain, ..message.publish(self.now) };
        let kept = Some(message.clone());
        let trace = self.trail.trace(delivery.record);
        let mut distribution = Distribution::new(&publish, None, kept, (trace, self.now));
        self.variants.reset();
        self.deliver_to_member(&group, &mut distribution)
    }

    /// Sends one message to one connection, not by way of a subscription's route: a retained one.
    pub(super) fn deliver_retained(&mut self, id: ConnectionId, target: &Target, message: &Message) {
        let qos = message.qos().min(target.qos);
        let Some(connection) = self.connections.get_mut(id.index()) else { return };
        let Some(session) = self.sessions.get_mut(target.session.index()) else { return };
        if qos == QoS::AtMostOnce {
            let publish = Publish { retain: true, ..message.publish(self.now) };
            connection.outbox.prepare(publish.payload.len(), &mut self.pool);
            if append_own(
                connection,
                &with_identifiers(publish, Details::identifiers(target.details.as_ref())),
            ) {
                self.stat.messages_sent.count(qos);
            } else {
                self.stat.messages_dropped.too_large += 1;
            }
        } else {
            let details = target.details.clone();
            let message = message.clone();
            let record = RecordId::default();
            session.enqueue(Delivery { message, place: None, qos, retain: true, details, record });
        }
        mark_dirty(&mut self.dirty, connection);
    }
}

pub(super) fn mark_dirty(dirty: &mut Vec<ConnectionId>, connection: &mut Connection) {
    if !connection.is_dirty {
        connection.is_dirty = true;
        dirty.push(connection.id);
    }
}

/// Appends a PUBLISH to a connection's outbox: a copy of the common encoding where the connection needs
/// nothing of its own. `false` if the client does not take a packet so large: then that is as if the message
/// had been delivered `[MQTT-3.1.2-25]`.
#[inline]
fn append(
    connection: &mut Connection,
    distribution: &Distribution<'_>,
    target: &Target,
    (qos, retain, packet_id): (QoS, bool, Option<PacketId>),
    variants: &mut Variants,
) -> bool {
    let Some(open) = connection.open_mut() else { return false };
    let Distribution { publish, original, .. } = distribution;
    let (version, maximum) = (open.link.version, open.link.peer.maximum_packet_size);
    let is_v5 = version == ProtocolVersion::V5;
    if is_v5 && (target.details.is_some() || open.link.takes_aliases()) {
        let publish = Publish { dup: false, qos, retain, packet_id, ..**publish };
        return append_own(
            connection,
            &with_identifiers(publish, Details::identifiers(target.details.as_ref())),
        );
    }
    let is_same = |original: &&Original<'_>| {
        (original.version == ProtocolVersion::V5) == is_v5 && publish.qos == qos && publish.retain == retain
    };
    let (bytes, place) = match original.as_ref().filter(is_same) {
        Some(original) => (original.frame.bytes(), original.packet_id),
        None => match variants.get(publish, version, qos, retain) {
            Ok(variant) => variant,
            Err(_) => return false,
        },
    };
    if bytes.len() as u64 > u64::from(maximum) {
        return false;
    }
    let out = connection.outbox.bytes();
    let start = out.len();
    out.extend_from_slice(bytes);
    if let Some(packet_id) = packet_id
        && let Some(field) = out[start..].get_mut(place..place + 2)
    {
        field.copy_from_slice(&packet_id.get().to_be_bytes());
    }
    true
}

/// Appends a message that has waited. `false` as with [`append`].
fn append_kept(
    connection: &mut Connection,
    message: &Message,
    fields: (QoS, bool, Option<PacketId>),
    identifiers: Option<&[SubscriptionIdentifier]>,
    now: Instant,
) -> bool {
    let Some(open) = connection.open() else { return false };
    let (version, maximum) = (open.link.version, open.link.peer.maximum_packet_size);
    let needs_own = version == ProtocolVersion::V5 && (identifiers.is_some() || open.link.takes_aliases());
    if !needs_own {
        let out = connection.outbox.bytes();
        let start = out.len();
        if message.append_plain(version, fields, out) {
            let fits = (out.len() - start) as u64 <= u64::from(maximum);
            if !fits {
                out.truncate(start);
            }
            return fits;
        }
    }
    let (qos, retain, packet_id) = fields;
    let publish = Publish { qos, retain, packet_id, ..message.publish(now) };
    append_own(connection, &with_identifiers(publish, identifiers))
}

/// Appends a PUBLISH that is encoded for this connection alone.
fn append_own(connection: &mut Connection, publish: &Publish<'_>) -> bool {
    let Some(open) = connection.open_mut() else { return false };
    let maximum = u64::from(open.link.peer.maximum_packet_size);
    // An alias only makes the packet larger that introduces it.
    let fits =
        |publish: &Publish<'_>, version| publish.size(version).is_ok_and(|size| size as u64 <= maximum);
    let Open { link, .. } = open;
    let version = link.version;
    if !fits(publish, version) {
        return false;
    }
    let mut publish = *publish;
    if let (Some(name), true) = (publish.topic, link.takes_aliases()) {
        match link.outbound_aliases().choose(name) {
            AliasChoice::Name => {}
            AliasChoice::NameAndAlias(alias) => {
                publish.properties.topic_alias = Some(alias);
                if !fits(&publish, version) {
                    link.outbound_aliases().forget(name);
                    publish.properties.topic_alias = None;
                }
            }
            AliasChoice::Alias(alias) => {
                publish.properties.topic_alias = Some(alias);
                publish.topic = None;
            }
        }
    }
    publish.encode(version, connection.outbox.bytes()).is_ok()
}

/// Appends what is sent again upon resuming a session, with DUP `[MQTT-3.3.1-1]`. `false` if the client does
/// not take a packet so large.
fn append_again(connection: &mut Connection, resend: Resend<'_, Delivery>, now: Instant) -> bool {
    match resend {
        Resend::PubRel(packet_id) => {
            let Some(version) = connection.version() else { return false };
            let pubrel = Packet::PubRel(Ack::new(packet_id, ReasonCode::Success));
            // Two bytes of header and two of identifier: always encodable.
            pubrel.encode(version, connection.outbox.bytes()).is_ok()
        }
        Resend::Publish(packet_id, qos, delivery) => {
            // Sent even if it has expired: its delivery has begun.
            let kept = delivery.message.publish(now);
            let publish =
                Publish { dup: true, qos, retain: delivery.retain, packet_id: Some(packet_id), ..kept };
            append_own(
                connection,
                &with_identifiers(publish, Details::identifiers(delivery.details.as_ref())),
            )
        }
    }
}

fn with_identifiers<'a>(
    mut publish: Publish<'a>,
    identifiers: Option<&'a [SubscriptionIdentifier]>,
) -> Publish<'a> {
    publish.properties.subscription_identifiers = identifiers.unwrap_or_default().into();
    publish
}
