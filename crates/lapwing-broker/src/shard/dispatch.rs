//! Messages for sessions of other shards, and those of other shards for sessions of this one.

use std::sync::Arc;

use lapwing_proto::packet::{Publish, Run};
use lapwing_proto::session::Instant;

use super::deliver::Original;
use super::{ConnectionId, DELIVERY_COST, Shard, Trace};
use crate::mail::{Batch, Entrusted, Mail};
use crate::message::Message;
use crate::shared::{Recipients, ShardId};

/// A batch of this size goes on its way before the turn is over.
const BATCH_BYTES: usize = 128 * 1024;

/// What a shard has for the others.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    /// This turn's messages, by the shard that they are for.
    batches: Vec<Option<Batch>>,
    /// Whether one of the messages since this was last asked was for a shard that has enough.
    is_full: bool,
    /// Connections whose clients published messages for a shard that had enough; they wait for room.
    held: Vec<ConnectionId>,
}

impl Dispatch {
    /// A message was for somebody who has enough.
    pub(super) fn note_full(&mut self) {
        self.is_full = true;
    }
}

impl Shard {
    /// Adds a message to what this turn has for another shard.
    pub(super) fn dispatch(
        &mut self,
        shard: ShardId,
        (publish, original, kept): (&Publish<'_>, Option<Original<'_>>, Option<&Message>),
        recipients: &Arc<Recipients>,
        trace: Trace,
    ) {
        let now = self.now;
        let original = original.map(|original| (original.frame, original.version));
        let batch = self.batch(shard);
        if batch.push(publish, original, kept, (recipients, trace), now).is_err() {
            return; // what was decoded has an encoding
        }
        let is_full = batch.cost() > BATCH_BYTES;
        self.spent += DELIVERY_COST + publish.payload.len();
        if is_full {
            self.send_full_batch(shard);
        }
    }

    /// Adds a run to what this turn has for another shard.
    pub(super) fn dispatch_run(
        &mut self,
        shard: ShardId,
        run: &Run<'_>,
        recipients: &Arc<Recipients>,
        trace: Trace,
    ) {
        let batch = self.batch(shard);
        batch.push_run(run, recipients, trace);
        let is_full = batch.cost() > BATCH_BYTES;
        self.spent += DELIVERY_COST * run.count as usize + run.bytes.len();
        if is_full {
            self.send_full_batch(shard);
        }
    }

    /// What there is for another shard so far.
    #[inline]
    fn batch(&mut self, shard: ShardId) -> &mut Batch {
        let batches = &mut self.dispatch.batches;
        if batches.len() <= shard.index() {
            batches.resize_with(shard.index() + 1, || None);
        }
        batches[shard.index()].get_or_insert_with(|| {
            self.dispatch.is_full |= self.shared.mailbox(shard).is_full();
            self.shared.take_batch()
        })
    }

    /// Sends another shard a batch before the turn is over.
    fn send_full_batch(&mut self, shard: ShardId) {
        self.send_batch(shard);
        self.dispatch.is_full |= self.shared.mailbox(shard).is_full();
    }

    /// Sends another shard what there is for it.
    pub(super) fn send_batch(&mut self, shard: ShardId) {
        let batch = self.dispatch.batches.get_mut(shard.index()).and_then(Option::take);
        if let Some(batch) = batch {
            self.shared.mailbox(shard).send(Mail::Batch(batch));
        }
    }

    /// Sends the other shards what there is for them. Called before anything is written, so that no message
    /// is acknowledged that is not on its way.
    pub(crate) fn send_batches(&mut self) {
        self.submit();
        self.ask_store();
        for at in 0..self.dispatch.batches.len() {
            self.send_batch(ShardId(at as u8));
        }
    }

    /// Holds a connection back whose messages another shard has no room for: its bytes wait, and no more are
    /// read, until there is room. Whether it is.
    #[inline]
    pub(super) fn hold_back(&mut self, id: ConnectionId) -> bool {
        (self.dispatch.is_full || self.ledger.is_recorded()) && self.hold_back_if_full(id)
    }

    fn hold_back_if_full(&mut self, id: ConnectionId) -> bool {
        // Whoever fills the store waits for it, and for nobody's mailbox.
        let fills_store = self.ledger.take_recorded() && self.ledger.is_behind();
        if !std::mem::take(&mut self.dispatch.is_full) && !fills_store {
            return false;
        }
        let mailboxes = self.shared.mailboxes.iter();
        let mut full = mailboxes.filter(|mailbox| mailbox.is_full());
        let store_is_behind =
            self.ledger.store().is_some_and(|store| store.is_behind() && store.await_room());
        if !store_is_behind && !full.any(crate::mailbox::MailboxSender::await_room) {
            return false;
        }
        let Some(connection) = self.connection_mut(id) else { return false };
        if !std::mem::replace(&mut connection.is_unfinished, true) {
            self.dispatch.held.push(id);
            self.stat.held_back += 1;
        }
        true
    }

    /// A shard that had enough has room again.
    pub(super) fn release_held(&mut self) {
        self.unfinished.extend(self.dispatch.held.drain(..));
    }

    /// Passes messages of another shard's clients on to sessions of this one, as far as the turn's budget goes;
    /// `true` if that was all.
    pub(super) fn deliver_batch(&mut self, batch: &mut Batch, now: Instant, may_stop: bool) -> bool {
        while !(may_stop && self.is_spent()) {
            match batch.next(now) {
                Some((Entrusted::Message { publish, original, kept }, targets, trace)) => {
                    let original =
                        original.and_then(|(frame, version)| Original::new(frame, version, &publish));
                    self.deliver_here((&publish, original, kept), targets, trace);
                }
                Some((Entrusted::Run(run), targets, trace)) => {
                    self.deliver_run(&run, targets, None, trace);
                }
                None => return true,
            }
        }
        batch.is_empty()
    }

    /// The batch has been handled: whoever waits for room is told.
    pub(super) fn finish_batch(&mut self, batch: Batch) {
        self.settle_mail(batch.cost());
        self.shared.give_batch(batch);
    }

    /// Mail of this cost has been handled: whoever waits for room is told.
    pub(super) fn settle_mail(&mut self, cost: usize) {
        if self.mailbox.settle(cost) {
            self.release_held();
            for other in self.shared.shards().filter(|&other| other != self.id) {
                self.shared.mailbox(other).send(Mail::Room);
            }
        }
    }

    /// Delivers what came before a retained message of this shard's clients, so that every session gets
    /// retained messages in the order in which they replaced each other.
    pub(super) fn catch_up(&mut self) {
        let is_retained = |mail: &Mail| matches!(mail, Mail::Batch(batch) if batch.has_retained());
        let Some(last) = self.mail.iter().rposition(is_retained) else { return };
        let mut others = std::collections::VecDeque::new();
        for mail in self.mail.drain(..=last).collect::<Vec<_>>() {
            match mail {
                Mail::Batch(mut batch) => {
                    self.deliver_batch(&mut batch, self.now, false);
                    self.finish_batch(batch);
                }
                other => others.push_back(other),
            }
        }
        others.append(&mut self.mail);
        self.mail = others;
    }
}
