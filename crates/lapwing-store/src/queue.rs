//! What is read of a session's queue and flows.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use crate::engine::{Engine, EngineError, Space};
use crate::inbox::QueueRequest;
use crate::key::{self, OfSession};
use crate::message::SharedMessages;
use crate::record::{FlowKey, FlowState, Place, Sequence, SessionNumber};
use crate::value::{self, QueueEntry};

/// A message as it waits for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Where it stands.
    pub place: Place,
    /// The quality of service of the delivery.
    pub qos: u8,
    /// Its RETAIN flag.
    pub retain: bool,
    /// Subscription identifiers that go with it.
    pub identifiers: Box<[u32]>,
    /// The shared subscription by which the session gets it.
    pub share: Option<Box<str>>,
    /// As it is kept.
    pub message: Arc<[u8]>,
}

/// Messages of a queue, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QueueRead {
    /// The messages.
    pub deliveries: Vec<StoredDelivery>,
    /// Whether there are none behind them.
    pub is_all: bool,
    /// The last place that was looked at, if there was one.
    pub last: Option<Sequence>,
    /// Places whose messages are not there: they are of no use.
    pub missing: Vec<Place>,
}

/// How much waits for a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCount {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The QoS 2 messages of a session that are under way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StoredFlows {
    /// Packet identifiers that the client has used and not released.
    pub received: Vec<u16>,
    /// Packet identifiers used for messages to the client, in the order in which these were sent.
    pub sent: Vec<(u16, FlowState)>,
    /// The messages among these that the client has not received as far as is known, in the same order.
    pub deliveries: Vec<StoredDelivery>,
}

/// Reads queues of an engine.
pub(crate) struct Reader<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) shared: &'a mut SharedMessages,
}

impl Reader<'_> {
    pub(crate) fn queue(&mut self, request: &QueueRequest) -> Result<QueueRead, EngineError> {
        let of_session = OfSession::new(request.session);
        let after = key::queue(request.session, request.after);
        let (mut found, mut bytes, mut is_all) = (Vec::new(), 0, true);
        self.engine.scan(Space::Queue, of_session.behind(&after), &mut |key, value| {
            if found.len() >= request.messages || bytes > request.bytes {
                is_all = false;
                return ControlFlow::Break(());
            }
            if let Some(entry) = Found::parse(key, value) {
                bytes += entry.header.size as usize;
                found.push(entry);
            }
            ControlFlow::Continue(())
        })?;
        let mut read =
            QueueRead { is_all, last: found.last().map(|found| found.sequence), ..QueueRead::default() };
        for found in found {
            let place = Place { sequence: found.sequence, is_shared: found.header.is_shared };
            match self.complete(found)? {
                Some(delivery) => read.deliveries.push(delivery),
                None => read.missing.push(place),
            }
        }
        Ok(read)
    }

    pub(crate) fn count(&self, session: SessionNumber) -> Result<QueueCount, EngineError> {
        let mut count = QueueCount::default();
        self.engine.scan(Space::Queue, OfSession::new(session).range(), &mut |_, value| {
            if let Some((entry, _)) = value::read::<QueueEntry>(value) {
                count.messages += 1;
                count.bytes += u64::from(entry.size);
            }
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    pub(crate) fn flows(&mut self, session: SessionNumber) -> Result<StoredFlows, EngineError> {
        let mut flows = StoredFlows::default();
        self.engine.scan(Space::Flow, OfSession::new(session).range(), &mut |key, value| {
            let state = value::read_all::<FlowState>(value);
            if let (Some((_, flow)), Some(state)) = (key::parse_flow(key), state) {
                match flow {
                    FlowKey::Inbound(packet_id) => flows.received.push(packet_id),
                    FlowKey::Outbound(packet_id) => flows.sent.push((packet_id, state)),
                }
            }
            ControlFlow::Continue(())
        })?;
        flows.sent.sort_by_key(|&(_, state)| match state {
            FlowState::Sent(sequence) | FlowState::Released(_, sequence) => sequence,
            FlowState::Received => Sequence(0),
        });
        for &(_, state) in &flows.sent {
            let FlowState::Sent(sequence) = state else { continue };
            let key = key::queue(session, sequence);
            let value = self.engine.get(Space::Queue, &key)?;
            if let Some(found) = value.and_then(|value| Found::parse(&key, &value)) {
                flows.deliveries.extend(self.complete(found)?);
            }
        }
        Ok(flows)
    }

    /// Finds the message of an entry. `None` where there is none: then the entry is of no use.
    fn complete(&mut self, found: Found) -> Result<Option<StoredDelivery>, EngineError> {
        let Found { sequence, header, message } = found;
        let message = match message {
            Some(message) => message,
            None => match self.shared.get(self.engine, sequence)? {
                Some(message) => message,
                None => {
                    tracing::error!(sequence = sequence.0, "a message that a session waits for is not there");
                    return Ok(None);
                }
            },
        };
        Ok(Some(StoredDelivery {
            place: Place { sequence, is_shared: header.is_shared },
            qos: header.qos,
            retain: header.retain,
            identifiers: header.identifiers,
            share: header.share,
            message,
        }))
    }
}

/// An entry of a queue.
struct Found {
    sequence: Sequence,
    header: QueueEntry,
    /// Where it is for this session alone.
    message: Option<Arc<[u8]>>,
}

impl Found {
    fn parse(key: &[u8], value: &[u8]) -> Option<Self> {
        let (_, sequence) = key::parse_queue(key)?;
        let (header, rest) = value::read::<QueueEntry>(value)?;
        let message = (!header.is_shared).then(|| Arc::from(rest));
        Some(Self { sequence, header, message })
    }
}

/// The places of a session's queue, from the first on, at most so many.
pub(crate) fn first_places(
    engine: &dyn Engine,
    session: SessionNumber,
    maximum: usize,
) -> Result<Vec<Place>, EngineError> {
    let mut places = Vec::new();
    engine.scan(Space::Queue, OfSession::new(session).range(), &mut |key, value| {
        let is_shared = value::read::<QueueEntry>(value).is_some_and(|(header, _)| header.is_shared);
        places.extend(key::parse_queue(key).map(|(_, sequence)| Place { sequence, is_shared }));
        if places.len() < maximum { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(places)
}

/// The first session behind `after` for which messages wait.
pub(crate) fn next_session(
    engine: &dyn Engine,
    after: Option<SessionNumber>,
) -> Result<Option<SessionNumber>, EngineError> {
    let first = after.map_or(0, |after| after.0 + 1).to_be_bytes();
    let mut next = None;
    engine.scan(Space::Queue, (Bound::Included(&first), Bound::Unbounded), &mut |key, _| {
        next = key::parse_session(key);
        ControlFlow::Break(())
    })?;
    Ok(next)
}
