use std::sync::Arc;

use lapwing_proto::packet::{EncodeError, Frame, ProtocolVersion, Publish, QoS, SubscriptionIdentifier};
use lapwing_proto::session::Instant;

use crate::shared::GroupId;

/// A message that is kept: retained, queued, or in flight.
///
/// It is kept as an encoded 5.0 PUBLISH at QoS 0: one piece of memory whatever properties it has, and
/// decoding it again costs less than a cache miss.
#[derive(Debug)]
pub(crate) struct Message {
    encoded: Box<[u8]>,
    /// The QoS at which it was published.
    pub(crate) qos: QoS,
    /// When it is of no use any more.
    pub(crate) expires: Option<Instant>,
}

impl Message {
    /// Keeps `publish`, which is published now. Its topic must be there; its delivery (flags, packet identifier, alias,
    /// subscription identifiers) is not part of the message.
    pub(crate) fn new(publish: &Publish<'_>, now: Instant) -> Arc<Self> {
        let interval = publish.properties.message_expiry_interval;
        let expires = interval.map(|seconds| now + std::time::Duration::from_secs(seconds.into()));
        Arc::new(Self { expires, ..Self::unpublished(publish) })
    }

    /// As [`new`](Self::new), for a message that is published later, so that its expiry interval has not
    /// begun.
    pub(crate) fn unpublished(publish: &Publish<'_>) -> Self {
        let mut encoded = Vec::new();
        // It was decoded from a packet that had at least these fields, so that it has an encoding.
        encode(publish, &mut encoded).expect("a decoded PUBLISH can be encoded");
        Self { encoded: encoded.into(), qos: publish.qos, expires: None }
    }

    /// The message as a PUBLISH at QoS 0, with what remains of its expiry interval `[MQTT-3.3.2-6]`: 0 if it
    /// has expired.
    pub(crate) fn publish(&self, now: Instant) -> Publish<'_> {
        let mut input = &self.encoded[..];
        let frame = Frame::split(&mut input, u32::MAX).ok().flatten();
        let frame = frame.expect("a message is one whole packet");
        let mut publish = Publish::decode(frame, ProtocolVersion::V5).expect("a message was encoded here");
        if let Some(expires) = self.expires {
            let seconds = expires.since(now).as_millis().div_ceil(1000);
            publish.properties.message_expiry_interval = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        publish
    }

    /// Whether it has expired, so that no delivery of it may begin `[MQTT-3.3.2-5]`.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Bytes that keeping it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.encoded.len()
    }
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
    pub(crate) message: Arc<Message>,
    /// The QoS of this delivery: 1 or 2.
    pub(crate) qos: QoS,
    /// The RETAIN flag of this delivery.
    pub(crate) retain: bool,
    /// Of the subscriptions that selected it.
    pub(crate) identifiers: Identifiers,
    /// The shared subscription by which the session got it.
    pub(crate) group: Option<GroupId>,
}

/// The subscription identifiers of a delivery; nearly always none.
pub(crate) type Identifiers = Option<Arc<[SubscriptionIdentifier]>>;
