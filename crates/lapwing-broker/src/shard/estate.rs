//! What a session with a shared subscription has left in the store when it ended: its messages go to other members.
//!
//! A message goes on and is settled in one transaction, and the session's end is stored when all have gone. So a
//! process that ends meanwhile leaves to the next one what is left.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use lapwing_store::{
    Change, FlowState, QueueRead, QueueRequest, Sequence, SessionNumber, StoredDelivery, StoredFlows,
};

use super::Shard;
use super::session::Session;
use crate::mail::Mail;

/// Messages and bytes that are read at a time.
const READ_MESSAGES: usize = 1024;
const READ_BYTES: usize = 1024 * 1024;

/// What sessions have left, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Estates {
    /// What has not been looked at stands behind these places.
    after: HashMap<SessionNumber, Sequence>,
}

impl Estates {
    /// Whether a session has left something that is still being passed on.
    pub(super) fn contains(&self, number: SessionNumber) -> bool {
        self.after.contains_key(&number)
    }

    pub(super) fn has(&self, number: Option<SessionNumber>) -> bool {
        number.is_some_and(|number| self.contains(number))
    }
}

impl Session {
    /// Behind which place the messages stand that are in the store only, if other members may get some of them.
    pub(super) fn estate(&self) -> Option<Sequence> {
        if self.memberships == 0 {
            return None;
        }
        let spilled = self.spill().filter(|_| !self.is_dormant()).map(|spill| spill.after);
        spilled.or_else(|| self.is_dormant().then_some(Sequence(0)))
    }
}

impl Shard {
    /// A session has ended whose messages behind a place are in the store only.
    pub(super) fn begin_estate(&mut self, number: SessionNumber, after: Sequence) {
        self.ledger.record(Change::SessionClosed(number));
        self.estates.after.insert(number, after);
        self.ledger.read_estate(number);
    }

    /// Has the store read some of what ended sessions have left.
    pub(super) fn ask_for_estates(&mut self) {
        for number in self.ledger.take_estate_reads() {
            let (Some(&after), Some(store)) = (self.estates.after.get(&number), self.ledger.store()) else {
                continue;
            };
            let request = QueueRequest { session: number, after, messages: READ_MESSAGES, bytes: READ_BYTES };
            let (shared, shard, reading) = (Arc::clone(&self.shared), self.id, store.clone());
            store.read_flows(number, move |flows| {
                reading.read(request, move |read| {
                    shared.mailbox(shard).send(Mail::Estate(number, Box::new((flows, read))));
                });
            });
        }
    }

    /// Some of what a session has left has been read.
    pub(super) fn take_estate(&mut self, number: SessionNumber, (flows, read): (StoredFlows, QueueRead)) {
        let QueueRead { deliveries, is_all, last, .. } = read;
        let begun = |(_, state): &(u16, FlowState)| match state {
            FlowState::Sent(sequence) => Some(*sequence),
            _ => None,
        };
        let begun: HashSet<Sequence> = flows.sent.iter().filter_map(begun).collect();
        for delivery in deliveries {
            let place = delivery.place;
            // One that the client may have already goes to nobody [MQTT-4.8.2-5].
            let is_passed = !begun.contains(&place.sequence) && self.pass_left(delivery);
            self.stat.messages_dropped.session_ended += u64::from(!is_passed);
            self.ledger.record(Change::Settled(number, place));
        }
        if let Some(last) = last {
            self.estates.after.insert(number, last);
        }
        if is_all {
            self.estates.after.remove(&number);
            self.ledger.record(Change::SessionEnded(number));
        } else {
            self.ledger.read_estate(number);
        }
    }

    /// Passes a message on that a session has left; `false` if there is nobody to get it.
    fn pass_left(&mut self, stored: StoredDelivery) -> bool {
        self.revive(stored).is_some_and(|delivery| self.deliver_to_other(&delivery))
    }
}
