//! What a shard has for the store, and what waits until the store has it.
//!
//! What one packet changes goes into the turn's [`Transaction`] as a whole. The acknowledgement goes into its outbox at
//! once, behind a gate: nothing behind it is written before the store says that the transaction is durable. So
//! acknowledgements stay in their order, and who has nothing stored waits for nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use lapwing_proto::packet::{PacketId, QoS};
use lapwing_store::{Change, Condition, FlowKey, FlowState, Place, SessionNumber, Store, Transaction};

use super::connection::Connection;
use super::deliver::mark_dirty;
use super::{ConnectionId, SessionId, Shard, Trace};
use crate::clock::WallClock;
use crate::control::ControlError;
use crate::mail::{Mail, StoredBatch, StoredMessage};
use crate::message::{Delivery, Message, StoredPlace};
use crate::shared::{ShardId, StoredTargets};

/// Changes that are submitted together while a shard takes up what an earlier process has stored.
const CHANGES_MAXIMUM: usize = 1024;

/// Numbers what a shard has submitted, from 1 on.
pub(super) type Ticket = u64;

/// What a shard has for the store.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    store: Option<Store>,
    /// What this turn has changed.
    transaction: Transaction,
    changes: usize,
    /// Whether something was recorded since somebody last asked.
    is_recorded: bool,
    /// Messages in it.
    queued: u32,
    /// The same messages for the shards of their sessions, which get them when they are durable.
    deliveries: Vec<(ShardId, StoredBatch)>,
    submitted: Ticket,
    /// The last ticket that somebody waits for.
    awaited: Ticket,
    /// The last ticket of which is known that it is durable.
    durable: Ticket,
    /// Connections with closed gates, in the order of their tickets.
    gated: VecDeque<(Ticket, ConnectionId)>,
    /// Bytes of messages that wait in memory for stored sessions.
    pub(super) window_bytes: usize,
    /// What this turn wants to know of the store.
    questions: Questions,
    /// Who is told when all that was recorded so far is durable.
    answers: Vec<SyncSender<Result<(), ControlError>>>,
}

/// Queues of a shard that are read at a time.
const READS_MAXIMUM: usize = 8;

/// What a turn wants to know of the store, once it has what the turn has changed.
#[derive(Debug, Default)]
struct Questions {
    queues: VecDeque<SessionId>,
    /// Queues that are being read.
    reading: usize,
    counts: Vec<(SessionId, SessionNumber)>,
    flows: Vec<(Option<ConnectionId>, SessionId)>,
    estates: Vec<SessionNumber>,
}

/// How far a ledger is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(Ticket, usize);

impl Ledger {
    pub(super) fn new(store: Option<Store>) -> Self {
        Self { store, ..Self::default() }
    }

    /// Whether sessions outlive the process at all.
    pub(super) fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// A number for a new session.
    pub(super) fn next_session(&self) -> Option<SessionNumber> {
        self.store.as_ref().map(Store::next_session)
    }

    /// Whether the store takes nothing new.
    pub(super) fn is_full(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.condition() != Condition::Ready)
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Adds a change to this turn's.
    pub(super) fn record(&mut self, change: Change) {
        self.is_recorded = true;
        self.changes += 1;
        self.transaction.push(change);
    }

    /// The client has a message of a stored session, or will never have it.
    pub(super) fn settle(&mut self, number: Option<SessionNumber>, delivery: &Delivery) {
        if let Some(place) = delivery.place {
            self.settle_place(number, place.get());
        }
    }

    /// What waits at a place is of no use to a session any more.
    pub(super) fn settle_place(&mut self, number: Option<SessionNumber>, place: Place) {
        if let Some(number) = number {
            self.record(Change::Settled(number, place));
        }
    }

    /// How far a QoS 2 message of a session is, if it is stored.
    pub(super) fn flow(&mut self, number: Option<SessionNumber>, flow: FlowKey, state: Option<FlowState>) {
        if let Some(number) = number {
            self.record(Change::Flow(number, flow, state));
        }
    }

    /// Adds a message for stored sessions.
    pub(super) fn queue(
        &mut self,
        message: &Message,
        (qos, retain): (u8, bool),
        targets: &StoredTargets,
        (clock, trace): (WallClock, Trace),
    ) {
        self.record(Change::Queued(lapwing_store::QueuedMessage {
            message: message.to_stored(clock),
            qos,
            retain,
            targets: Arc::clone(&targets.queue),
        }));
        // Nobody gets what could be lost: a message that is published again would come twice.
        self.transaction.set_awaited();
        for (shard, recipients) in &targets.recipients {
            let at = self.deliveries.iter().position(|(other, _)| other == shard).unwrap_or_else(|| {
                self.deliveries.push((*shard, StoredBatch::default()));
                self.deliveries.len() - 1
            });
            self.deliveries[at].1.push(StoredMessage {
                message: message.clone(),
                retain,
                offset: self.queued,
                is_shared: targets.queue.len() > 1,
                recipients: Arc::clone(recipients),
                trace,
            });
        }
        self.queued += 1;
    }

    /// A message is about to be sent to a stored session's client. At QoS 2 its identifier must be durable before the client
    /// sees it, or the message could come again under another one.
    pub(super) fn note_sent(
        &mut self,
        number: Option<SessionNumber>,
        connection: &mut Connection,
        (qos, packet_id, place): (QoS, PacketId, Option<StoredPlace>),
    ) {
        if let (QoS::ExactlyOnce, Some(place)) = (qos, place) {
            let state = FlowState::Sent(place.get().sequence);
            self.flow(number, FlowKey::Outbound(packet_id.get()), Some(state));
            self.close_gate(connection);
        }
    }

    /// How far it is, so that one can see whether anything was recorded.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.submitted, self.changes)
    }

    /// Lets nothing that is appended to a connection's outbox be written before all that was recorded is durable.
    pub(super) fn close_gate(&mut self, connection: &mut Connection) {
        let ticket = if self.changes > 0 {
            self.transaction.set_awaited();
            self.submitted + 1
        } else {
            self.awaited
        };
        if ticket > self.durable && connection.outbox.close_gate(ticket) {
            self.gated.push_back((ticket, connection.id));
        }
    }

    /// Somebody outside waits for what was recorded in this turn. Should the store fail, there is no answer.
    pub(super) fn answer_when_durable(&mut self, reply: SyncSender<Result<(), ControlError>>) {
        if self.changes == 0 {
            // Nobody may be waiting any more.
            let _ = reply.try_send(Ok(()));
            return;
        }
        self.transaction.set_awaited();
        self.answers.push(reply);
    }

    /// A session's messages in memory took so many bytes before, and take so many now.
    pub(super) fn note_window(&mut self, before: usize, now: usize) {
        self.window_bytes = self.window_bytes + now - before;
    }

    /// Whether something was recorded since [`take_recorded`](Self::take_recorded) was called.
    #[inline]
    pub(super) fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// The same; from here on, since now.
    pub(super) fn take_recorded(&mut self) -> bool {
        std::mem::take(&mut self.is_recorded)
    }

    /// Whether so much waits for the store that those who publish should wait.
    pub(super) fn is_behind(&self) -> bool {
        self.store.as_ref().is_some_and(Store::is_behind)
    }

    /// Has more of a session's queue read.
    pub(super) fn read_queue(&mut self, id: SessionId) {
        self.questions.queues.push_back(id);
    }

    /// The next session of whose queue more is to be read, if it may be now: what has been read and is on its way takes
    /// memory that nobody has counted. The others have their turn when answers have come.
    pub(super) fn next_read(&mut self) -> Option<SessionId> {
        if self.questions.reading >= READS_MAXIMUM {
            return None;
        }
        self.questions.queues.pop_front()
    }

    /// A queue is being read.
    pub(super) fn begin_read(&mut self) {
        self.questions.reading += 1;
    }

    /// What was read has come.
    pub(super) fn note_read(&mut self) {
        self.questions.reading -= 1;
    }

    /// Has a session's queue counted.
    pub(super) fn count_queue(&mut self, id: SessionId, number: SessionNumber) {
        self.questions.counts.push((id, number));
    }

    pub(super) fn take_counts(&mut self) -> Vec<(SessionId, SessionNumber)> {
        std::mem::take(&mut self.questions.counts)
    }

    /// Has the messages under way of a session read, for a connection that waits for them if there is one.
    pub(super) fn read_flows(&mut self, id: Option<ConnectionId>, session: SessionId) {
        self.questions.flows.push((id, session));
    }

    pub(super) fn take_flow_reads(&mut self) -> Vec<(Option<ConnectionId>, SessionId)> {
        std::mem::take(&mut self.questions.flows)
    }

    /// Has more read of what a session has left that has ended.
    pub(super) fn read_estate(&mut self, number: SessionNumber) {
        self.questions.estates.push(number);
    }

    pub(super) fn take_estate_reads(&mut self) -> Vec<SessionNumber> {
        std::mem::take(&mut self.questions.estates)
    }

    /// Whether all that somebody waits for is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.store.as_ref().is_none_or(|store| {
            store.condition() == Condition::Failed || (self.changes == 0 && self.awaited <= self.durable)
        })
    }
}

impl Shard {
    /// As [`Ledger::close_gate`].
    pub(super) fn close_gate(&mut self, id: ConnectionId) {
        if !self.ledger.is_on() {
            return;
        }
        if let Some(connection) =
            self.connections.get_mut(id.index()).filter(|connection| connection.id == id)
        {
            self.ledger.close_gate(connection);
        }
    }

    /// Somebody waits for what this turn has recorded so far.
    pub(super) fn await_recorded(&mut self) {
        self.ledger.transaction.set_awaited();
    }

    /// Does as [`submit`](Self::submit) where much has gathered.
    pub(super) fn submit_many(&mut self) {
        if self.ledger.changes >= CHANGES_MAXIMUM {
            self.submit();
        }
    }

    /// Gives the store what this turn has changed so far. Called before other shards learn of it.
    pub(super) fn submit(&mut self) {
        let ledger = &mut self.ledger;
        let Some(store) = ledger.store.as_ref().filter(|_| ledger.changes > 0) else { return };
        let transaction = std::mem::take(&mut ledger.transaction);
        ledger.changes = 0;
        ledger.queued = 0;
        ledger.submitted += 1;
        let ticket = transaction.is_awaited().then_some(ledger.submitted);
        ledger.awaited = ticket.unwrap_or(ledger.awaited);
        let deliveries = std::mem::take(&mut ledger.deliveries);
        let answers = std::mem::take(&mut ledger.answers);
        if deliveries.is_empty() && ticket.is_none() {
            return store.submit(transaction, |_| ());
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        store.submit(transaction, move |first| {
            for (shard, batch) in deliveries {
                shared.mailbox(shard).send(Mail::Stored(batch, first));
            }
            if let Some(ticket) = ticket {
                shared.mailbox(id).send(Mail::Durable(ticket));
            }
            for answer in answers {
                let _ = answer.try_send(Ok(()));
            }
        });
    }

    /// All that was submitted up to this ticket is durable: what waited for it is written.
    pub(super) fn note_durable(&mut self, ticket: Ticket) {
        self.ledger.durable = self.ledger.durable.max(ticket);
        while let Some(&(waits_for, id)) = self.ledger.gated.front() {
            if waits_for > ticket {
                break;
            }
            self.ledger.gated.pop_front();
            let Some(connection) = self.connections.get_mut(id.index()).filter(|it| it.id == id) else {
                continue;
            };
            connection.outbox.open_gates(ticket);
            mark_dirty(&mut self.dirty, connection);
        }
    }
}
