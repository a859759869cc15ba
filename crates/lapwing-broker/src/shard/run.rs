//! Runs: many small messages of one read, from one client to one topic.
//!
//! Checks and permission are the same for all of them, and each target gets them in one piece: so the work for a message
//! is little more than copying its bytes, and those of an outbox stay in the processor's cache while they are written.

use std::rc::Rc;

use lapwing_proto::packet::{ProtocolVersion, QoS, Run, RunLimit};

use super::deliver::{self, Original};
use super::route::Known;
use super::trail::{self, Publication, Stamp};
use super::{ConnectionId, DELIVERY_COST, SessionId, Shard, TURN_BUDGET, Trace};
use crate::explanation::{DeliveryState, Passage};
use crate::mail::COPIED_MAXIMUM;
use crate::shared::{OwnMessages, Target};

/// What a run may cost each shard with its targets. A shard that gets it from another one may have spent nearly all of
/// its turn's budget before.
const RUN_COST: usize = TURN_BUDGET / 4;
/// Bytes of a run, so that it stays in a processor's cache, and a batch does not become much larger than it should.
const RUN_BYTES: usize = 64 * 1024;

impl Shard {
    /// Takes a run off the front of what a connection has sent, and passes it on. `false`, with `input` as it was, where
    /// there is none, or its messages must be looked at one by one.
    #[inline(never)] // other packets need not pay for its size
    pub(super) fn handle_run(&mut self, id: ConnectionId, input: &mut &[u8]) -> bool {
        let Some(known) = self.known_topic(id, input) else { return false };
        let Some(open) = self.connection(id).and_then(|connection| connection.open()) else { return false };
        let (version, origin) = (open.link.version, open.session);
        let hooks = &self.shared.hooks;
        if !known.route().groups.is_empty() || hooks.publish_filter.is_some() {
            return false;
        }
        let left = RUN_COST.min(TURN_BUDGET.saturating_sub(self.spent));
        let limit = RunLimit {
            packet_size: self.limits.packet_size_maximum.min(COPIED_MAXIMUM as u32),
            cost: (left / known.route().width().max(1)).min(RUN_BYTES),
            packet_cost: DELIVERY_COST,
        };
        let mut rest = *input;
        let Some(run) = Run::split(&mut rest, version, known.name(), limit) else { return false };
        if !open.permit.may_publish(known.name(), QoS::AtMostOnce, false).is_allowed {
            return false; // which is said for each of them
        }
        *input = rest;
        self.stat.packets_received += u64::from(run.count);
        self.stat.messages_received.count_many(QoS::AtMostOnce, run.count);
        let now = self.now;
        if let Some(connection) = self.connection_mut(id) {
            connection.heard = now;
        }
        let publication = Publication {
            origin: Some(origin),
            name: self.trail.name(Some(known.name()), Some(&known)),
            flags: trail::flags(QoS::AtMostOnce, false),
            messages: run.count,
        };
        let sessions = &known.route().sessions;
        if let ([target], true) = (&sessions.here[..], sessions.elsewhere.is_empty())
            && matches!(target.own, OwnMessages::Same)
            && let Some(state) = self.append_run(&run, target)
        {
            self.trail.lone(&publication, (target.session, state), now);
            return true;
        }
        let trace = self.trail.begin();
        let mut count = 0;
        for (shard, recipients) in &sessions.elsewhere {
            self.dispatch_run(*shard, &run, recipients, trace);
            count += recipients.targets.len();
        }
        count += self.deliver_run(&run, &sessions.here, Some(origin), trace);
        let passage = if count == 0 { Passage::NoSubscriber } else { Passage::PassedOn };
        self.trail.published(trace, &publication, (passage, count), now);
        if count == 0 {
            self.stat.messages_dropped.no_subscriber += u64::from(run.count);
        }
        true
    }

    /// What is remembered of the topic of the PUBLISH at the front of what a connection has sent, where a run may begin
    /// with it.
    #[inline]
    fn known_topic(&mut self, id: ConnectionId, input: &[u8]) -> Option<Rc<Known>> {
        let topic = Run::topic(input)?;
        let is_it = |known: &&Rc<Known>| known.name().as_str().as_bytes() == topic;
        let mut place = self.connection(id)?.open()?.route;
        // Clients publish to the same topic again and again, or take turns among some.
        if self.routes.at(place).filter(is_it).is_none() {
            place = self.routes.place(topic)?;
            self.open_mut(id)?.route = place;
        }
        let known = self.routes.at(place)?;
        (known.is_plain && known.is_current(&self.shared)).then(|| Rc::clone(known))
    }

    /// Passes the messages of a run to sessions of this shard. To how many.
    pub(super) fn deliver_run(
        &mut self,
        run: &Run<'_>,
        targets: &[Target],
        origin: Option<SessionId>,
        trace: Trace,
    ) -> usize {
        let stamp = Stamp::new(trace, self.now);
        let mut singly = std::mem::take(&mut self.singly);
        let mut count = 0;
        for (at, target) in targets.iter().enumerate() {
            let Some(target) = target.of_origin(origin) else { continue };
            count += 1;
            let state = self.append_run(run, target);
            // Where many get it, only those who do not are worth a record.
            if targets.len() == 1 || state != Some(DeliveryState::Sent) {
                let state = state.unwrap_or(DeliveryState::OneByOne);
                self.trail.run(stamp, target.session, (run.count, state));
            }
            if state.is_none() {
                singly.push(at);
            }
        }
        if !singly.is_empty() {
            for (frame, publish) in run.messages() {
                let original = Original::new(frame, run.version, &publish);
                let targets = singly.iter().filter_map(|&at| targets[at].of_origin(origin));
                self.deliver_to(&publish, original, targets, trace);
            }
        }
        singly.clear();
        self.singly = singly;
        count
    }

    /// Passes the messages of a run to a session in one piece. What came of that; `None` if it needs, or gets, some of them in another way
    /// than others.
    #[inline(always)] // what comes of it is nearly always the same
    fn append_run(&mut self, run: &Run<'_>, target: &Target) -> Option<DeliveryState> {
        let session = self.sessions.get_mut(target.session.index());
        let session = session.filter(|session| session.id == target.session);
        let connection = session.and_then(|session| session.connection);
        let Some(connection) = connection.and_then(|id| self.connections.get_mut(id.index())) else {
            self.spent += DELIVERY_COST;
            self.stat.messages_dropped.not_connected += u64::from(run.count);
            return Some(DeliveryState::NotConnected);
        };
        let open = connection.open()?;
        let is_v5 = open.link.version == ProtocolVersion::V5;
        let needs_own = is_v5 && (target.details.is_some() || open.link.takes_aliases());
        let is_same = (run.version == ProtocolVersion::V5) == is_v5;
        let fits = run.largest <= open.link.peer.maximum_packet_size
            && connection.outbox.len() + run.bytes.len() <= self.limits.outbox_bytes_maximum;
        if needs_own || !is_same || !fits {
            return None;
        }
        connection.outbox.prepare(run.bytes.len(), &mut self.pool);
        connection.outbox.bytes().extend_from_slice(run.bytes);
        self.stat.messages_sent.count_many(QoS::AtMostOnce, run.count);
        self.spent += DELIVERY_COST * run.count as usize + run.bytes.len();
        deliver::mark_dirty(&mut self.dirty, connection);
        Some(DeliveryState::Sent)
    }
}
