//! Sessions as they are stored, and as they are again after a start.

use std::sync::Arc;
use std::time::Duration;

use lapwing_proto::packet::{Connect, PacketId, ReasonCode};
use lapwing_proto::session::{Inbound, Instant, Outbound, ServerSession};
use lapwing_proto::topic::TopicFilterBuf;
use lapwing_store::{
    Change, DelayedRecord, FlowState, KeyRecord, PublisherRecord, QueueCount, Sequence, SessionNumber,
    SessionRecord, StoredFlows, WillRecord,
};

use super::connection::{Departing, Pending, Phase};
use super::disconnect::End;
use super::session::{Session, SessionKey, Will};
use super::stored_session::StoredSession;
use super::timer::Timer;
use super::{ConnectionId, SessionId, Shard};
use crate::clock::WallClock;
use crate::hook::{Client, Identity};
use crate::mail::Mail;
use crate::message::Message;
use crate::remnant::InOrder;
use crate::shared::{Added, Subscribed};

/// What an earlier process has stored of the sessions of one shard, piece by piece.
#[derive(Debug)]
pub(crate) enum Remnant {
    /// Its key has been placed on the shard.
    Session(SessionNumber, SessionKey, Box<SessionRecord>),
    /// Behind its session.
    Subscription(SessionNumber, TopicFilterBuf, Subscribed),
    Delayed(u64, Box<DelayedRecord>),
    /// A session has ended, and its messages go to others.
    Estate(SessionNumber),
}

impl Shard {
    /// Takes up what an earlier process has stored.
    pub(crate) fn restore(&mut self, remnants: impl IntoIterator<Item = Remnant>, now: Instant) {
        self.now = now;
        let mut sessions = InOrder::default();
        for remnant in remnants {
            match remnant {
                Remnant::Session(number, key, record) => {
                    sessions.push(number, self.restore_session(number, &key, *record));
                }
                Remnant::Subscription(number, filter, subscribed) => {
                    if let Some(&id) = sessions.get(number) {
                        self.restore_subscription(id, filter, subscribed);
                    }
                }
                Remnant::Delayed(number, record) => self.restore_delayed(number, *record),
                Remnant::Estate(number) => self.begin_estate(number, Sequence(0)),
            }
            self.submit_many();
        }
    }

    /// Has the store know what there is about a session, but for its subscriptions and messages.
    pub(super) fn record_session(&mut self, id: SessionId) {
        let clock = self.shared.stored.wall_clock();
        let Some(session) = self.sessions.get(id.index()).filter(|session| session.id == id) else { return };
        if let Some(number) = session.number() {
            let record = session.record(clock);
            self.ledger.record(Change::Session(number, Box::new(record)));
        }
    }

    /// A session was stored by an earlier process: it is one of this shard's from now on. `key` has been placed.
    fn restore_session(
        &mut self,
        number: SessionNumber,
        key: &SessionKey,
        record: SessionRecord,
    ) -> SessionId {
        let serial = self.next_serial();
        let entry = self.sessions.vacant_entry();
        let id = SessionId::new(self.id, entry.key(), serial, true);
        let (now, clock) = (self.now, self.shared.stored.wall_clock());
        let mut session = Session::new(id, key.clone());
        session.stored = Some(Box::new(StoredSession::dormant(number, record.cursor)));
        session.owner = match record.key {
            KeyRecord::Owned { owner, .. } => Some(owner.into()),
            _ => None,
        };
        self.shared.owners.change(None, session.owner.as_ref());
        session.expiry_interval_s = record.expiry_interval_s;
        // One that was connected when the process ended has lost its connection just now.
        let interval = Duration::from_secs(record.expiry_interval_s.into());
        let lost = (record.expiry_interval_s < u32::MAX).then(|| now + interval);
        session.expires = record.expires.map(|at| clock.instant(at)).or(lost);
        session.will = record.will.and_then(|will| Will::restore(will, clock)).map(Box::new);
        if let Some(will) = &mut session.will {
            let delay = Duration::from_secs(will.delay_s.min(record.expiry_interval_s).into());
            will.due = will.due.or(Some(now + delay));
        }
        let (expires, due) = (session.expires, session.will.as_ref().and_then(|will| will.due));
        // So that the next process counts from here on as well.
        let is_news = record.expires.is_none() && (lost.is_some() || due.is_some());
        entry.insert(session);
        if is_news {
            self.record_session(id);
            self.await_recorded();
        }
        if let Some(older) = self.shared.registry.bind(key, id) {
            self.end_session(older); // its end was not stored
            self.shared.registry.bind(key, id);
        }
        self.shared.stored.add(id, number);
        if let Some(expires) = expires {
            self.set_timer(expires, Timer::Session(id));
        }
        if let Some(due) = due {
            self.set_timer(due, Timer::Will(id));
        }
        id
    }

    /// A subscription of such a session.
    fn restore_subscription(&mut self, id: SessionId, filter: TopicFilterBuf, subscribed: Subscribed) {
        let added = self.shared.subscriptions.subscribe(id, filter.as_filter(), subscribed);
        let is_shared = filter.as_filter().share_name().is_some();
        if is_shared {
            self.shared.subscriptions.note_presence(id, filter.as_filter(), false);
        }
        if added == Added::Occupied {
            return;
        }
        let bytes = super::subscribe::size(filter.as_filter());
        if let Some(session) = self.session_mut(id)
            && session.filters.insert(filter)
        {
            session.filter_bytes += bytes;
            session.memberships += u32::from(is_shared);
        }
    }

    /// A message that is to be published later.
    fn restore_delayed(&mut self, number: u64, record: DelayedRecord) {
        let clock = self.shared.stored.wall_clock();
        if let Some(message) = Message::from_stored(record.message.into(), clock) {
            self.keep_delayed(clock.instant(record.due), number, message, record.retain, None);
        }
    }

    /// A CONNECT wants to go on with a session that has not been looked at since the start: it waits until it is known
    /// how far that one's messages are.
    pub(super) fn begin_restore(&mut self, id: ConnectionId, session: SessionId, departing: Departing) {
        let Some(connection) = self.connection_mut(id) else {
            return self.shared.registry.release(&departing.key);
        };
        connection.phase = Phase::Restoring(Box::new(departing));
        self.end_restoring(session);
        if let Some(stored) = self.session_mut(session).and_then(|session| session.stored.as_mut()) {
            stored.restoring = Some(id);
        }
        self.ledger.read_flows(Some(id), session);
    }

    /// A connection that waits to go on with a session has come too late: another one has.
    pub(super) fn end_restoring(&mut self, session: SessionId) {
        let stored = self.session_mut(session).and_then(|session| session.stored.as_mut());
        if let Some(older) = stored.and_then(|stored| stored.restoring.take()) {
            self.end(older, End::TakenOver, Some(ReasonCode::SessionTakenOver));
        }
    }

    /// Asks the store for the messages under way of sessions that clients want to go on with.
    pub(super) fn ask_for_flows(&mut self) {
        for (connection, id) in self.ledger.take_flow_reads() {
            let number = self.session_mut(id).and_then(|session| session.number());
            let (shared, shard) = (Arc::clone(&self.shared), self.id);
            let answer = move |flows, count| {
                shared.mailbox(shard).send(Mail::Flows(connection, id, Box::new((flows, count))));
            };
            match (number, self.ledger.store().cloned()) {
                (Some(number), Some(store)) => {
                    let counting = store.clone();
                    store.read_flows(number, move |flows| {
                        // Nothing is removed in between: the session has no connection.
                        counting.count(number, move |count| answer(flows, count));
                    });
                }
                // It has ended in this very turn.
                _ => answer(StoredFlows::default(), QueueCount::default()),
            }
        }
    }

    /// It is known how far the messages of a session are: the connection that waits for that goes on.
    pub(super) fn take_flows(
        &mut self,
        id: Option<ConnectionId>,
        session_id: SessionId,
        (flows, count): (StoredFlows, QueueCount),
    ) {
        self.restore_flows(session_id, flows, count);
        let Some(id) = id else { return };
        let Some(connection) = self.connection_mut(id) else { return };
        if !matches!(connection.phase, Phase::Restoring(_)) {
            return;
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitingConnect);
        if let Some(stored) = self.session_mut(session_id).and_then(|session| session.stored.as_mut()) {
            stored.restoring = None;
        }
        let Phase::Restoring(departing) = phase else { return };
        let Departing { key, pending, identity, authentication_data, .. } = *departing;
        match pending.connect() {
            Some(connect) => {
                self.join(id, &connect, &pending.client_id, &key, identity, authentication_data.as_deref());
            }
            None => self.shared.registry.release(&key),
        }
        self.handle_tail(id);
        self.resumed.push(id);
    }

    fn restore_flows(&mut self, id: SessionId, flows: StoredFlows, count: QueueCount) {
        if !self.session_mut(id).is_some_and(|session| session.is_dormant()) {
            return; // another connection was quicker, or the session has ended
        }
        let mut deliveries: Vec<_> = flows.deliveries.into_iter().map(Some).collect();
        let mut sent = Vec::new();
        let (mut in_flight, mut in_flight_bytes) = (Vec::new(), 0);
        for (packet_id, state) in flows.sent {
            let Some(packet_id) = PacketId::new(packet_id) else { continue };
            match state {
                FlowState::Sent(sequence) => {
                    let is_it = |it: &&mut Option<lapwing_store::StoredDelivery>| {
                        it.as_ref().is_some_and(|it| it.place.sequence == sequence)
                    };
                    let stored = deliveries.iter_mut().find(is_it).and_then(Option::take);
                    let Some(delivery) = stored.and_then(|stored| self.revive(stored)) else { continue };
                    in_flight.push(sequence);
                    in_flight_bytes += delivery.message.size();
                    sent.push((packet_id, Ok(delivery)));
                }
                FlowState::Released(order, _) => sent.push((packet_id, Err(order as u32))),
                FlowState::Received => {}
            }
        }
        let received = flows.received.into_iter().filter_map(PacketId::new);
        let restored =
            ServerSession { inbound: Inbound::restore(received), outbound: Outbound::restore(sent) };
        let Some(session) = self.session_mut(id) else { return };
        session.restore(restored, in_flight_bytes);
        let Some(stored) = &mut session.stored else { return };
        stored.is_dormant = false;
        let cursor = stored.seen;
        let surplus = session.spill().map_or(0, |spill| spill.surplus);
        let Some(spill) = session.begin_spill(cursor) else { return };
        spill.note_count(count);
        spill.messages = spill.messages.saturating_sub(in_flight.len());
        spill.bytes = spill.bytes.saturating_sub(in_flight_bytes);
        spill.in_flight = in_flight;
        spill.surplus = surplus;
        if surplus > 0 {
            self.ledger.read_queue(id);
        }
        self.note_fullness(id);
    }

    /// The parts of a CONNECT that waits.
    pub(super) fn departing(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        key: &SessionKey,
        identity: Identity,
        authentication_data: Option<&[u8]>,
    ) -> Departing {
        Departing {
            shard: self.id,
            key: key.clone(),
            pending: Pending::new(connect, client_id.to_owned()),
            identity,
            authentication_data: authentication_data.map(<[u8]>::to_vec),
        }
    }
}

impl Session {
    /// As it is stored.
    fn record(&self, clock: WallClock) -> SessionRecord {
        SessionRecord {
            key: self.key.record(self.owner.as_deref()),
            expiry_interval_s: self.expiry_interval_s,
            expires: self.expires.map(|at| clock.wall(at)),
            will: self.will.as_ref().map(|will| will.record(clock)),
            cursor: self.cursor(),
        }
    }
}

impl SessionKey {
    fn record(&self, owner: Option<&str>) -> KeyRecord {
        match (self, owner) {
            (Self::ClientId(key), Some(owner)) => {
                KeyRecord::Owned { client_id: (**key).into(), owner: owner.into() }
            }
            (Self::ClientId(key), None) => KeyRecord::ClientId((**key).into()),
            (Self::Identity(key), _) => KeyRecord::Identity((**key).into()),
        }
    }

    pub(crate) fn restore(record: &KeyRecord) -> Self {
        match record {
            KeyRecord::ClientId(key) | KeyRecord::Owned { client_id: key, .. } => {
                Self::ClientId(key.as_str().into())
            }
            KeyRecord::Identity(key) => Self::Identity(key.as_str().into()),
        }
    }
}

impl Will {
    fn record(&self, clock: WallClock) -> WillRecord {
        WillRecord {
            message: self.message.to_stored(clock).to_vec(),
            retain: self.retain,
            delay_s: self.delay_s,
            due: self.due.map(|at| clock.wall(at)),
            publisher: publisher(&self.client),
        }
    }

    fn restore(record: WillRecord, clock: WallClock) -> Option<Self> {
        let WillRecord { message, retain, delay_s, due, publisher } = record;
        let PublisherRecord { client_id, user_name, session_key, peer } = publisher;
        let identity = Identity {
            user_name: user_name.map(Into::into),
            session_key: session_key.map(Into::into),
            ..Identity::default()
        };
        Some(Self {
            message: Message::from_stored(message.into(), clock)?,
            retain,
            delay_s,
            client: Client {
                client_id: client_id.into(),
                identity: identity.into_shared(),
                peer,
                is_local: false,
                listener: Arc::default(),
            },
            due: due.map(|at| clock.instant(at)),
        })
    }
}

/// Who has published a message.
pub(super) fn publisher(client: &Client) -> PublisherRecord {
    PublisherRecord {
        client_id: (*client.client_id).into(),
        user_name: client.identity.user_name.as_deref().map(Into::into),
        session_key: client.identity.session_key.as_deref().map(Into::into),
        peer: client.peer,
    }
}
