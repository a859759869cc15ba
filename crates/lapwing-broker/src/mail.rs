//! What other threads tell a shard.

use std::collections::VecDeque;
use std::sync::Arc;

use lapwing_net::Stream;
use lapwing_proto::packet::{EncodeError, Frame, ProtocolVersion, Publish, QoS, Run};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicName, TopicNameBuf};
use lapwing_store::{QueueCount, QueueRead, Sequence, SessionNumber, StoredFlows};

use crate::control::Inquiry;
use crate::hook::{Identity, Verdict};
use crate::message::Message;
use crate::origin::Origin;
use crate::shard::{ConnectionId, SessionId, SessionKey, Trace};
use crate::shared::{Recipients, StoredRecipients, Target};

/// What another thread tells a shard.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A verdict on the client of a connection that waits for it.
    Verdict(ConnectionId, Verdict),
    /// A message of the program's own for all who subscribed to its topic, and whether it is retained.
    Publish(Message, bool),
    /// A message for one session, by its key, at this quality of service, whatever it subscribed to.
    Send(SessionKey, Message, QoS),
    /// Messages from the clients of another shard for sessions of this one.
    Batch(Batch),
    /// A connection whose session is one of this shard. The socket is there wherever there are sockets at all.
    Arrival(Box<Arrival>, Option<Stream>),
    /// A mailbox that was full has room again.
    Room,
    /// Messages for stored sessions of this shard, which are durable now, with the place of the first message that was
    /// submitted with them.
    Stored(StoredBatch, Sequence),
    /// What this shard submitted to the store up to this ticket is durable.
    Durable(u64),
    /// What was read of a session's queue.
    QueueRead(SessionId, QueueRead),
    /// How much waits for a session that has not been looked at since the start.
    QueueCount(SessionId, QueueCount),
    /// How far the messages of a session are, to which a connection wants to go if one is named.
    Flows(Option<ConnectionId>, SessionId, Box<(StoredFlows, QueueCount)>),
    /// A publisher was refused because a session's queue is full: what has expired in it makes room.
    TrimQueue(SessionId),
    /// Some of the messages that a session has left which has ended, and which of them are under way.
    Estate(SessionNumber, Box<(StoredFlows, QueueRead)>),
    /// A question or an order from those who watch and steer the broker.
    Inquiry(Box<Inquiry>),
    /// Stop accepting, tell every client, write what waits, and end.
    Shutdown,
}

impl Mail {
    /// About how many bytes it takes while it waits, where that can be many.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.cost(),
            Self::Stored(batch, _) => batch.cost(),
            _ => 0,
        }
    }
}

/// A client that has been let in, on its way to the shard that has its session.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) origin: Origin,
    /// The CONNECT, encoded.
    pub(crate) connect: Vec<u8>,
    /// The client identifier, also where the packet has none.
    pub(crate) client_id: String,
    pub(crate) identity: Identity,
    /// The last of an extended authentication.
    pub(crate) authentication_data: Option<Vec<u8>>,
    /// What was read behind the CONNECT.
    pub(crate) tail: Vec<u8>,
    /// What is still to be written.
    pub(crate) outbox: Vec<u8>,
}

/// Messages for stored sessions, in the order in which they were stored.
#[derive(Debug, Default)]
pub(crate) struct StoredBatch {
    messages: VecDeque<StoredMessage>,
    bytes: usize,
}

/// A message for stored sessions of one shard.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) message: Message,
    pub(crate) retain: bool,
    /// How many stand before it of those that were submitted together.
    pub(crate) offset: u32,
    /// Whether it is stored once for several sessions.
    pub(crate) is_shared: bool,
    pub(crate) recipients: Arc<StoredRecipients>,
    pub(crate) trace: Trace,
}

impl StoredBatch {
    pub(crate) fn push(&mut self, message: StoredMessage) {
        self.bytes += size_of::<StoredMessage>() + message.message.size();
        self.messages.push_back(message);
    }

    /// Takes the next one out.
    pub(crate) fn pop(&mut self) -> Option<StoredMessage> {
        self.messages.pop_front()
    }

    /// About how many bytes it took when it was whole.
    pub(crate) fn cost(&self) -> usize {
        self.bytes
    }
}

/// Messages from one shard to another, in their order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The smaller messages, one behind the other: each a whole PUBLISH.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// To whom: one list for all the messages of a run.
    recipients: Vec<Arc<Recipients>>,
    /// Bytes of the larger messages.
    kept_bytes: usize,
    /// How many of the messages have been taken out.
    taken: usize,
    /// Where the next one begins.
    offset: usize,
    has_retained: bool,
}

#[derive(Debug)]
struct Entry {
    body: Body,
    qos: QoS,
    retain: bool,
    /// Bytes of it.
    payload: u32,
    /// Which of the lists.
    recipients: u32,
    trace: Trace,
}

#[derive(Debug)]
enum Body {
    /// So many of the batch's bytes, as they came from a client of this version.
    Original(u32, ProtocolVersion),
    /// So many of the batch's bytes, a 5.0 PUBLISH at QoS 0.
    Encoded(u32),
    /// A large message, or one that is kept anyway.
    Kept(Message),
    /// A run: so many of the batch's bytes, as they came from clients of this version; so many messages, the largest of
    /// so many bytes.
    Run(u32, ProtocolVersion, u32, u32),
}

/// Messages up to this size are copied into a batch: cheaper than counting references from two threads.
pub(crate) const COPIED_MAXIMUM: usize = 4096;
/// A batch that has been handled keeps no more memory than this for the next use.
const SPARE_CAPACITY: usize = 512 * 1024;

/// What a batch has for some sessions.
pub(crate) enum Entrusted<'a> {
    Message {
        publish: Publish<'a>,
        /// The very bytes that came from a client.
        original: Option<(Frame<'a>, ProtocolVersion)>,
        kept: Option<&'a Message>,
    },
    Run(Run<'a>),
}

/// Bytes of a PUBLISH that came from a client with this name and QoS, without properties and payload.
fn plain_size(frame: Frame<'_>, version: ProtocolVersion, qos: QoS, name: TopicName<'_>) -> usize {
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { 2 };
    let properties = usize::from(version.has_properties());
    frame.header_size() + 2 + name.as_str().len() + packet_id + properties
}

impl Batch {
    /// Adds a message for `recipients`. `original` where it is in the bytes in which it came, `kept` where it is kept
    /// already.
    ///
    /// # Errors
    /// An [`EncodeError`] where the message has no encoding, which no decoded one lacks.
    pub(crate) fn push(
        &mut self,
        publish: &Publish<'_>,
        original: Option<(Frame<'_>, ProtocolVersion)>,
        kept: Option<&Message>,
        (recipients, trace): (&Arc<Recipients>, Trace),
        now: Instant,
    ) -> Result<(), EncodeError> {
        let body = if publish.payload.len() > COPIED_MAXIMUM {
            let message = kept.map_or_else(|| Message::new(publish, now), Message::clone);
            self.kept_bytes += message.size();
            Body::Kept(message)
        } else if let Some((frame, version)) = original {
            self.bytes.extend_from_slice(frame.bytes());
            Body::Original(frame.bytes().len() as u32, version)
        } else {
            let start = self.bytes.len();
            crate::message::encode(publish, &mut self.bytes)?;
            Body::Encoded((self.bytes.len() - start) as u32)
        };
        let recipients = self.list(recipients);
        self.has_retained |= publish.retain;
        let payload = publish.payload.len() as u32;
        self.entries.push(Entry {
            body,
            qos: publish.qos,
            retain: publish.retain,
            payload,
            recipients,
            trace,
        });
        Ok(())
    }

    /// Adds a run for `recipients`, whose topic is that of the run.
    pub(crate) fn push_run(&mut self, run: &Run<'_>, recipients: &Arc<Recipients>, trace: Trace) {
        self.bytes.extend_from_slice(run.bytes);
        let body = Body::Run(run.bytes.len() as u32, run.version, run.count, run.largest);
        let recipients = self.list(recipients);
        self.entries.push(Entry { body, qos: QoS::AtMostOnce, retain: false, payload: 0, recipients, trace });
    }

    /// Which of the lists `recipients` is. A publisher's messages of one read have one route: theirs is the last.
    fn list(&mut self, recipients: &Arc<Recipients>) -> u32 {
        let is_last = self.recipients.last().is_some_and(|last| Arc::ptr_eq(last, recipients));
        if !is_last {
            self.recipients.push(Arc::clone(recipients));
        }
        (self.recipients.len() - 1) as u32
    }

    /// What comes next, as it is delivered at `now`, to whom, and which message it is.
    #[inline(always)] // so that the result, which is large, need not be copied
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Entrusted<'_>, &[Target], Trace)> {
        let Entry { body, qos, retain, payload, recipients, trace } = self.entries.get(self.taken)?;
        self.taken += 1;
        let recipients = self.recipients.get(*recipients as usize)?;
        let targets = &*recipients.targets;
        let (size, version) = match body {
            Body::Kept(kept) => {
                let publish = Publish { qos: *qos, retain: *retain, ..kept.publish(now) };
                return Some((
                    Entrusted::Message { publish, original: None, kept: Some(kept) },
                    targets,
                    *trace,
                ));
            }
            Body::Original(size, version) | Body::Run(size, version, ..) => (*size as usize, *version),
            Body::Encoded(size) => (*size as usize, ProtocolVersion::V5),
        };
        let payload = *payload as usize;
        let mut input = self.bytes.get(self.offset..self.offset + size)?;
        self.offset += size;
        let name = recipients.name.as_ref().map(TopicNameBuf::as_name);
        if let &Body::Run(_, version, count, largest) = body {
            let run = Run { bytes: input, version, name: name?, count, largest };
            return Some((Entrusted::Run(run), targets, *trace));
        }
        let frame = Frame::split(&mut input, u32::MAX).ok().flatten()?;
        let is_original = matches!(body, Body::Original(..));
        let bytes = frame.bytes();
        let mut publish = match name.filter(|_| is_original) {
            // Nothing but its topic, which is known, and its payload.
            Some(name) if bytes.len() == plain_size(frame, version, *qos, name) + payload => {
                Publish::new(name, &bytes[bytes.len() - payload..])
            }
            _ => Publish::decode_known(frame, version, name).ok()?,
        };
        publish.qos = *qos;
        publish.retain = *retain;
        let original = is_original.then_some((frame, version));
        Some((Entrusted::Message { publish, original, kept: None }, targets, *trace))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.len() == self.taken
    }

    /// Whether one of the messages was published with RETAIN.
    pub(crate) fn has_retained(&self) -> bool {
        self.has_retained
    }

    /// About how many bytes it takes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.kept_bytes + self.entries.len() * size_of::<Entry>()
    }

    /// Empties it for another use.
    pub(crate) fn clear(&mut self) {
        let Self { mut bytes, mut entries, mut recipients, .. } = std::mem::take(self);
        bytes.clear();
        bytes.shrink_to(SPARE_CAPACITY);
        entries.clear();
        entries.shrink_to(SPARE_CAPACITY / size_of::<Entry>());
        recipients.clear();
        recipients.shrink_to(1024);
        *self = Self { bytes, entries, recipients, ..Self::default() };
    }
}
