use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::Arc;

use lapwing_proto::packet::{EncodeError, Frame, PacketId, ProtocolVersion, Publish, QoS};
use lapwing_proto::session::Instant;
use lapwing_store::{Place, Sequence, WallTime};

use crate::clock::WallClock;
use crate::shard::RecordId;
use crate::shared::Details;

/// A message that is kept: retained, queued, or in flight. A clone is another reference to it.
///
/// It is one piece of memory, whatever properties it has: a byte with its QoS and whether it expires, when it does
/// so, and an encoded 5.0 PUBLISH at QoS 0. Decoding that again costs less than a cache miss.
#[derive(Debug, Clone)]
pub(crate) struct Message(Arc<[u8]>);

const QOS: u8 = 0b011;
const EXPIRES: u8 = 0b100;
/// What is before the PUBLISH: without and with the point in time of expiry.
const HEADER: usize = 1;
const HEADER_EXPIRES: usize = 1 + size_of::<u64>();
/// References to it that are counted in front of the bytes.
const COUNTERS: usize = 2 * size_of::<usize>();
/// What the buffer in which messages are put together may keep from one to the next.
const SCRATCH_MAXIMUM: usize = 64 * 1024;

thread_local! {
    /// Where messages are put together before their size is known.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Message {
    /// Keeps `publish`, which is published now. Its topic must be there; its delivery (flags, packet identifier, alias,
    /// subscription identifiers) is not part of the message.
    pub(crate) fn new(publish: &Publish<'_>, now: Instant) -> Self {
        let interval = publish.properties.message_expiry_interval;
        let expires = interval.map(|seconds| now + std::time::Duration::from_secs(seconds.into()));
        Self::keep(publish, expires)
    }

    /// As [`new`](Self::new), for a message that is published later, so that its expiry interval has not
    /// begun.
    pub(crate) fn unpublished(publish: &Publish<'_>) -> Self {
        Self::keep(publish, None)
    }

    fn keep(publish: &Publish<'_>, expires: Option<Instant>) -> Self {
        let message = Self::build(|scratch| {
            match expires {
                Some(expires) => {
                    scratch.push(publish.qos.bits() | EXPIRES);
                    scratch.extend_from_slice(&expires.as_millis().to_ne_bytes());
                }
                None => scratch.push(publish.qos.bits()),
            }
            encode(publish, scratch).ok()
        });
        // It was decoded from a packet that had at least these fields, so that it has an encoding.
        message.expect("a decoded PUBLISH can be encoded")
    }

    /// Puts a message together.
    fn build(write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<Self> {
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let message = write(&mut scratch).map(|()| Self(Arc::from(&scratch[..])));
        if scratch.capacity() <= SCRATCH_MAXIMUM {
            SCRATCH.set(scratch);
        }
        message
    }

    /// The message as a PUBLISH at QoS 0, with what remains of its expiry interval `[MQTT-3.3.2-6]`: 0 if it
    /// has expired.
    pub(crate) fn publish(&self, now: Instant) -> Publish<'_> {
        let expires = self.expires();
        let mut input = &self.0[if expires.is_some() { HEADER_EXPIRES } else { HEADER }..];
        let frame = Frame::split(&mut input, u32::MAX).ok().flatten();
        let frame = frame.expect("a message is one whole packet");
        let mut publish = Publish::decode(frame, ProtocolVersion::V5).expect("a message was encoded here");
        if let Some(expires) = expires {
            let seconds = expires.since(now).as_millis().div_ceil(1000);
            publish.properties.message_expiry_interval = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        publish
    }

    /// Appends the message as a PUBLISH of a delivery to a client, if it has no properties; `false` if it has.
    pub(crate) fn append_plain(
        &self,
        version: ProtocolVersion,
        (qos, retain, packet_id): (QoS, bool, Option<PacketId>),
        out: &mut Vec<u8>,
    ) -> bool {
        let mut input = &self.0[HEADER..];
        let frame =
            if self.expires().is_some() { None } else { Frame::split(&mut input, u32::MAX).ok().flatten() };
        let Some(frame) = frame else { return false };
        Publish::recode(frame, ProtocolVersion::V5, version, qos, retain, packet_id, out).is_some()
    }

    /// Keeps a message that has come as the PUBLISH in `frame`, if it has no properties.
    pub(crate) fn plain(frame: Frame<'_>, version: ProtocolVersion, qos: QoS) -> Option<Self> {
        Self::build(|scratch| {
            scratch.push(qos.bits());
            let none = QoS::AtMostOnce;
            Publish::recode(frame, version, ProtocolVersion::V5, none, false, None, scratch).map(|_| ())
        })
    }

    /// As it is stored: the point in time of its expiry by the clock of the machine, `clock` ahead of that of the
    /// broker.
    pub(crate) fn to_stored(&self, clock: WallClock) -> Arc<[u8]> {
        let Some(expires) = self.expires() else { return Arc::clone(&self.0) };
        let mut bytes: Box<[u8]> = (&*self.0).into();
        if let Some(field) = bytes.get_mut(HEADER..HEADER_EXPIRES) {
            field.copy_from_slice(&clock.wall(expires).0.to_be_bytes());
        }
        bytes.into()
    }

    /// The message that was stored in this form; `None` if the bytes are none.
    pub(crate) fn from_stored(bytes: Arc<[u8]>, clock: WallClock) -> Option<Self> {
        let is_expiring = bytes.first()? & EXPIRES != 0;
        let mut message = Self(bytes);
        if is_expiring {
            let mut bytes: Box<[u8]> = (&*message.0).into();
            let field = bytes.get_mut(HEADER..HEADER_EXPIRES)?;
            let wall = u64::from_be_bytes((&*field).try_into().ok()?);
            let expires = clock.instant(WallTime(wall));
            field.copy_from_slice(&expires.as_millis().to_ne_bytes());
            message = Self(bytes.into());
        }
        let mut input = message.0.get(if is_expiring { HEADER_EXPIRES } else { HEADER }..)?;
        let frame = Frame::split(&mut input, u32::MAX).ok().flatten()?;
        let is_whole = input.is_empty() && Publish::decode(frame, ProtocolVersion::V5).is_ok();
        is_whole.then_some(message)
    }

    /// The QoS at which it was published.
    pub(crate) fn qos(&self) -> QoS {
        QoS::from_bits(self.0[0] & QOS).unwrap_or(QoS::AtMostOnce)
    }

    /// When it is of no use any more.
    pub(crate) fn expires(&self) -> Option<Instant> {
        let is_expiring = self.0[0] & EXPIRES != 0;
        let (ms, _) = self.0[HEADER..].split_first_chunk().filter(|_| is_expiring)?;
        Some(Instant::from_millis(u64::from_ne_bytes(*ms)))
    }

    /// Whether it has expired, so that no delivery of it may begin `[MQTT-3.3.2-5]`.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// Bytes that keeping it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + COUNTERS + self.0.len()
    }
}

/// The topic of a message in the form in which it is stored; `None` if the bytes are none.
///
/// For tools that look into a store: the store itself does not know the form of messages.
pub fn stored_topic(bytes: &[u8]) -> Option<String> {
    let mut input = bytes.get(if bytes.first()? & EXPIRES != 0 { HEADER_EXPIRES } else { HEADER }..)?;
    let frame = Frame::split(&mut input, u32::MAX).ok().flatten().filter(|_| input.is_empty())?;
    let publish = Publish::decode(frame, ProtocolVersion::V5).ok()?;
    Some(publish.topic?.as_str().to_owned())
}

/// Appends a message as it is kept: a 5.0 PUBLISH at QoS 0 without what belongs to one delivery.
///
/// # Errors
/// An [`EncodeError`] where it has no encoding. One that was decoded has.
pub(crate) fn encode(publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut kept = *publish;
    kept.qos = QoS::AtMostOnce;
    kept.dup = false;
    kept.retain = false;
    kept.packet_id = None;
    kept.properties.topic_alias = None;
    kept.properties.subscription_identifiers = [].as_slice().into();
    kept.encode(ProtocolVersion::V5, out)
}

/// A message on its way to one session.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// Where it is stored, if it is.
    pub(crate) place: Option<StoredPlace>,
    pub(crate) message: Message,
    /// The QoS of this delivery: 1 or 2.
    pub(crate) qos: QoS,
    /// The RETAIN flag of this delivery.
    pub(crate) retain: bool,
    /// Of the subscriptions that selected it.
    pub(crate) details: Option<Arc<Details>>,
    /// Where is recorded what becomes of it.
    pub(crate) record: RecordId,
}

// There is one for every message that waits or is in flight.
const _: () = assert!(size_of::<Delivery>() == 40);

/// A [`Place`], small: there is one with every delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredPlace(NonZeroU64);

const SHARED: u64 = 1 << 63;

impl StoredPlace {
    /// The first place there is comes after 0, and there are not so many that the highest bit is in use.
    pub(crate) fn new(place: Place) -> Option<Self> {
        let shared = if place.is_shared { SHARED } else { 0 };
        NonZeroU64::new(place.sequence.0 | shared).map(Self)
    }

    pub(crate) fn get(self) -> Place {
        Place { sequence: Sequence(self.0.get() & !SHARED), is_shared: self.0.get() & SHARED != 0 }
    }
}

#[cfg(test)]
mod tests {
    use lapwing_proto::topic::TopicName;

    use super::*;

    #[test]
    fn a_message_is_what_was_kept_but_for_its_delivery() {
        let (now, later) = (Instant::from_millis(5_000), Instant::from_millis(7_001));
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for interval in [None, Some(0), Some(3), Some(u32::MAX)] {
                let mut publish = Publish::new(TopicName::new("a/b").unwrap(), b"payload");
                publish.properties.content_type = Some("text");
                publish.properties.message_expiry_interval = interval;
                let delivered = Publish { qos, dup: true, retain: true, ..publish };
                let message = Message::new(&delivered, now);
                assert_eq!(message.qos(), qos);
                let after = |seconds: u32| now + std::time::Duration::from_secs(seconds.into());
                assert_eq!(message.expires(), interval.map(after));
                assert_eq!(message.publish(now), publish);
                assert_eq!(message.is_expired(later), interval == Some(0));
                // Two seconds and a bit later the third has begun.
                publish.properties.message_expiry_interval =
                    interval.map(|seconds| seconds.saturating_sub(2));
                assert_eq!(message.publish(later), publish);

                let unpublished = Message::unpublished(&delivered);
                assert_eq!((unpublished.qos(), unpublished.expires()), (qos, None));
                assert_eq!(unpublished.publish(later).properties.message_expiry_interval, interval);
            }
        }
    }

    #[test]
    fn a_stored_message_has_its_topic() {
        let mut publish = Publish::new(TopicName::new("gate/door_1").unwrap(), b"payload");
        for interval in [None, Some(3)] {
            publish.properties.message_expiry_interval = interval;
            let bytes = Message::new(&publish, Instant::from_millis(5_000)).0;
            assert_eq!(stored_topic(&bytes).as_deref(), Some("gate/door_1"));
            for wrong in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), b"", b"\0"] {
                assert_eq!(stored_topic(wrong), None);
            }
        }
    }

    #[test]
    fn the_size_of_a_message_is_nearly_that_of_its_packet() {
        let publish = Publish::new(TopicName::new("a/b").unwrap(), &[7; 100_000]);
        let (size, packet) =
            (Message::unpublished(&publish).size(), publish.size(ProtocolVersion::V5).unwrap());
        assert!((packet..packet + 48).contains(&size), "{size}");
    }
}
