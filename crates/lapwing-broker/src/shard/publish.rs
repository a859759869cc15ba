//! A message from a client: from its PUBLISH to its acknowledgement.

use lapwing_proto::packet::{
    Ack, AckProperties, Frame, Packet, PacketId, PacketType, ProtocolVersion, Publish, QoS, ReasonCode,
};
use lapwing_proto::session::{Receipt, SessionError};
use lapwing_proto::topic::{TopicName, TopicNameBuf};
use lapwing_store::{FlowKey, FlowState};

use super::deliver::{Original, Source};
use super::retained::NoRoom;
use super::route::Found;
use super::trail::{self, Publication};
use super::{ConnectionId, SessionId, Shard, Trace, delayed};
use crate::excerpt::excerpt;
use crate::explanation::{Happening, Passage};
use crate::hook::{Client, Filtered, Permit, RuleId};
use crate::rule::AppliesTo;
use crate::shared::Shared;

/// A client's message that is to be passed on.
pub(super) struct Admitted<'a> {
    /// Behind the delay that the client asked for.
    name: TopicName<'a>,
    /// What the rules made of the name.
    rewritten: Option<TopicNameBuf>,
    delay_s: Option<u32>,
}

impl Admitted<'_> {
    fn name(&self) -> TopicName<'_> {
        self.rewritten.as_ref().map_or(self.name, TopicNameBuf::as_name)
    }

    fn message<'a>(&'a self, publish: &Publish<'a>) -> Publish<'a> {
        let mut message = *publish;
        message.topic = Some(self.name());
        message.properties.topic_alias = None;
        message.dup = false; // the flag of one delivery, not of the next [MQTT-3.3.1-3]
        message
    }
}

/// Why a client's message is not passed on.
pub(super) enum Withheld {
    /// The topic name is none after its delay was split off or the rules were applied.
    Misnamed,
    NotAuthorized(Option<RuleId>),
    /// The program around the broker does not want it.
    Filtered(ReasonCode),
}

impl Shard {
    /// A PUBLISH has arrived from a connected client.
    pub(super) fn handle_publish(&mut self, id: ConnectionId, frame: Frame<'_>, version: ProtocolVersion) {
        let Some(open) = self.open_mut(id) else { return };
        let (session_id, place) = (open.session, open.route);
        let known = self.routes.at(place).cloned();
        // A client publishes to the same topic again and again: that need not be checked each time.
        let known_name = known.as_ref().map(|known| known.name());
        let publish = match Publish::decode_known(frame, version, known_name) {
            Ok(publish) => publish,
            Err(error) => return self.malformed(id, error),
        };
        let resolved;
        let name = match (publish.topic, publish.properties.topic_alias) {
            (Some(name), None) => name,
            _ => match self.resolve_topic(id, &publish) {
                Ok(name) => {
                    resolved = name;
                    resolved.as_name()
                }
                Err(error) => return self.fault(id, error.reason_code(), &error),
            },
        };
        let known = known.as_ref().filter(|known| known.is_plain && known.is_name(name));
        if let Some((reason_code, fault)) = self.publish_fault(&publish, name, known.is_some()) {
            return self.fault(id, reason_code, &fault);
        }
        let receipt = match publish.packet_id {
            Some(packet_id) => match self.session_mut(session_id) {
                Some(session) => session.flows().inbound.receive(publish.qos, packet_id),
                None => Ok(Receipt::New),
            },
            None => Ok(Receipt::New),
        };
        let mark = self.ledger.mark();
        let reason_code = match receipt {
            Err(error) => return self.fault(id, error.reason_code(), &error),
            Ok(Receipt::Duplicate) => {
                self.stat.duplicates_received += 1;
                ReasonCode::Success
            }
            Ok(Receipt::New) => {
                let original = Original::new(frame, version, &publish);
                let source = Source { known, original, is_kept: false };
                // First of all, so that it goes to the store together with the message.
                if session_id.is_stored() {
                    self.note_received(session_id, &publish);
                }
                self.accept_message(id, session_id, name, &publish, source)
            }
        };
        if let Some(packet_id) = publish.packet_id {
            let is_duplicate = receipt == Ok(Receipt::Duplicate);
            let is_changed = self.ledger.mark() != mark || is_duplicate;
            let may_be_held = self.ledger.is_on() || reason_code == ReasonCode::QuotaExceeded;
            if may_be_held && !self.hold_answer(id, &publish, version, reason_code, is_changed) {
                return;
            }
            self.acknowledge(id, session_id, publish.qos, packet_id, reason_code);
        }
    }

    /// Before a message is acknowledged: the acknowledgement is held back until the store has what it confirms, if it
    /// confirms anything that is stored. `false` if there is none, and the connection ends.
    #[cold]
    fn hold_answer(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        version: ProtocolVersion,
        reason_code: ReasonCode,
        is_changed: bool,
    ) -> bool {
        let session_id = self.open_mut(id).map(|open| open.session);
        if let (Some(session_id), Some(packet_id)) = (session_id, publish.packet_id) {
            self.note_answer(session_id, publish.qos, packet_id, reason_code);
            if is_unanswerable(reason_code, publish.qos, version) {
                // The client still has the message, which is new when it comes again.
                if let Some(session) = self.session_mut(session_id) {
                    session.flows().acknowledge(publish.qos, packet_id, reason_code);
                }
                let fault = "there is no room for its message";
                self.fault(id, ReasonCode::QuotaExceeded, &fault);
                return false;
            }
        }
        if is_changed {
            self.close_gate(id);
        }
        true
    }

    /// A QoS 2 message has arrived from a client: if its session is stored, so is its identifier.
    #[cold]
    fn note_received(&mut self, session_id: SessionId, publish: &Publish<'_>) {
        if let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            let number = self.session_mut(session_id).and_then(|session| session.number());
            self.ledger.flow(number, FlowKey::Inbound(packet_id.get()), Some(FlowState::Received));
        }
    }

    /// Such a message is about to be acknowledged: one that is refused is not under way any more.
    fn note_answer(&mut self, session_id: SessionId, qos: QoS, packet_id: PacketId, reason_code: ReasonCode) {
        if session_id.is_stored() && qos == QoS::ExactlyOnce && reason_code.is_error() {
            let number = self.session_mut(session_id).and_then(|session| session.number());
            self.ledger.flow(number, FlowKey::Inbound(packet_id.get()), None);
        }
    }

    /// What is wrong with a client's PUBLISH to `name`, if something is.
    fn publish_fault(
        &self,
        publish: &Publish<'_>,
        name: TopicName<'_>,
        is_known: bool,
    ) -> Option<(ReasonCode, &'static str)> {
        let limits = &self.limits;
        if !publish.properties.subscription_identifiers.is_empty() {
            // [MQTT-3.3.4-6]
            return Some((ReasonCode::ProtocolError, "a client's PUBLISH with a subscription identifier"));
        }
        if !publish.properties.user_properties.is_empty()
            && self.has_too_many_properties(publish.properties.user_properties.iter())
        {
            return Some((ReasonCode::QuotaExceeded, "a message with too many user properties"));
        }
        if !is_known && !is_allowed_depth(&self.shared, name.as_str()) {
            return Some((ReasonCode::TopicNameInvalid, "a topic name with too many levels"));
        }
        if publish.qos > limits.qos() {
            return Some((ReasonCode::QoSNotSupported, "a message at a QoS above the maximum"));
        }
        if publish.retain && !limits.retain_available {
            return Some((ReasonCode::RetainNotSupported, "a message that is to be retained"));
        }
        None
    }

    /// The topic name of a PUBLISH that has an alias.
    fn resolve_topic(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
    ) -> Result<TopicNameBuf, SessionError> {
        let open = self.open_mut(id).ok_or(SessionError::TopicAliasUnknown(0))?;
        let aliases = open.link.inbound_aliases();
        aliases.resolve(publish.topic, publish.properties.topic_alias).map(TopicName::to_buf)
    }

    /// A new message from a client: it is passed on, if the client may publish it.
    fn accept_message(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        name: TopicName<'_>,
        publish: &Publish<'_>,
        source: Source<'_>,
    ) -> ReasonCode {
        self.stat.messages_received.count(publish.qos);
        let Some(open) = self.connection(id).and_then(|connection| connection.open()) else {
            return ReasonCode::UnspecifiedError;
        };
        let has_answer = open.link.version == ProtocolVersion::V5 && publish.qos > QoS::AtMostOnce;
        if source.known.is_some() && self.shared.hooks.publish_filter.is_none() {
            let decision = open.permit.may_publish(name, publish.qos, publish.retain);
            if decision.is_allowed {
                return self.publish(publish, source, Some(session_id), has_answer);
            }
            let client_id = self.client_id(id);
            return self.withhold(Withheld::NotAuthorized(decision.rule), &client_id, name);
        }
        let reason_code = match self.admit(&open.client, &*open.permit, name, publish) {
            Ok(admitted) => self.pass_on(publish, &admitted, source, session_id, has_answer),
            Err(withheld) => {
                // Before 5.0 such a message is acknowledged all the same.
                let is_dropped = matches!(withheld, Withheld::Filtered(_)) && !has_answer;
                let client_id = self.client_id(id);
                let reason_code = self.withhold(withheld, &client_id, name);
                if is_dropped { ReasonCode::Success } else { reason_code }
            }
        };
        let place = self.routes.last();
        if let Some(open) = self.open_mut(id) {
            open.route = place;
        }
        reason_code
    }

    /// Whether a client's message, or its will, is to be passed on, and where to.
    pub(super) fn admit<'a>(
        &self,
        client: &Client,
        permit: &dyn Permit,
        name: TopicName<'a>,
        publish: &Publish<'_>,
    ) -> Result<Admitted<'a>, Withheld> {
        let admitted = self.permit_publish(permit, name, publish.qos, publish.retain)?;
        let Some(filter) = &self.shared.hooks.publish_filter else { return Ok(admitted) };
        match filter.filter(client, &admitted.message(publish)) {
            Filtered::Pass => Ok(admitted),
            Filtered::Drop => Err(Withheld::Filtered(ReasonCode::Success)),
            Filtered::Refuse(reason_code) => {
                let is_possible = reason_code.is_error() && reason_code.is_valid_in(PacketType::PubAck);
                let reason_code = if is_possible { reason_code } else { ReasonCode::UnspecifiedError };
                Err(Withheld::Filtered(reason_code))
            }
        }
    }

    /// Whether a client may publish to a topic, and what the rules make of its name.
    pub(super) fn permit_publish<'a>(
        &self,
        permit: &dyn Permit,
        name: TopicName<'a>,
        qos: QoS,
        retain: bool,
    ) -> Result<Admitted<'a>, Withheld> {
        let (delay_s, name) = delayed::split(name).ok_or(Withheld::Misnamed)?;
        let rewritten = self.shared.rules.rewrite(name.as_str(), AppliesTo::Publish);
        let rewritten = rewritten.map(TopicNameBuf::new).transpose().map_err(|_| Withheld::Misnamed)?;
        let admitted = Admitted { name, rewritten, delay_s };
        // Names of the server's own are for nobody [MQTT-4.7.2-1].
        if is_own(admitted.name()) {
            return Err(Withheld::NotAuthorized(None));
        }
        let decision = permit.may_publish(admitted.name(), qos, retain);
        if decision.is_allowed { Ok(admitted) } else { Err(Withheld::NotAuthorized(decision.rule)) }
    }

    /// Publishes what was admitted, or keeps it until its delay has passed.
    pub(super) fn pass_on(
        &mut self,
        publish: &Publish<'_>,
        admitted: &Admitted<'_>,
        source: Source<'_>,
        origin: SessionId,
        has_answer: bool,
    ) -> ReasonCode {
        let message = admitted.message(publish);
        match admitted.delay_s {
            Some(delay_s) => {
                let reason_code = self.delay(&message, delay_s, origin);
                self.record_delayed(&message, origin, reason_code);
                reason_code
            }
            None => {
                let original = source.original.filter(|_| admitted.rewritten.is_none());
                let source = Source { known: None, original, ..source };
                self.publish(&message, source, Some(origin), has_answer)
            }
        }
    }

    /// Counts a message that is not passed on; what its publisher is told.
    pub(super) fn withhold(
        &mut self,
        withheld: Withheld,
        client_id: &str,
        name: TopicName<'_>,
    ) -> ReasonCode {
        let topic = excerpt(name.as_str()).into_owned();
        match withheld {
            Withheld::Misnamed => {
                self.note(client_id, Happening::Misnamed { topic });
                ReasonCode::TopicNameInvalid
            }
            Withheld::NotAuthorized(rule) => {
                self.note(client_id, Happening::PublishDenied { topic, rule });
                self.stat.messages_dropped.not_authorized += 1;
                if let Some(suppressed) = self.faults.allow(self.now) {
                    let topic = &*excerpt(name.as_str());
                    tracing::warn!(client_id, topic, suppressed, "not authorized to publish");
                }
                ReasonCode::NotAuthorized
            }
            Withheld::Filtered(reason_code) => {
                self.note(client_id, Happening::Filtered { topic, reason_code });
                self.stat.messages_dropped.filtered += 1;
                reason_code
            }
        }
    }

    /// Passes a message on to the sessions that subscribed to it, and retains it if it says so. If it cannot be
    /// retained it is refused, or where nobody would learn of that, passed on all the same.
    pub(super) fn publish(
        &mut self,
        message: &Publish<'_>,
        source: Source<'_>,
        origin: Option<SessionId>,
        has_answer: bool,
    ) -> ReasonCode {
        let trace = self.trail.begin();
        let name = self.trail.name(message.topic, source.known.map(|known| &**known));
        let (passage, receivers) = self.publish_as(trace, message, source, origin, has_answer);
        let flags = trail::flags(message.qos, message.retain);
        let publication = Publication { origin, name, flags, messages: 1 };
        self.trail.published(trace, &publication, (passage, receivers), self.now);
        match passage {
            Passage::NoSubscriber => ReasonCode::NoMatchingSubscribers,
            Passage::DiskFull | Passage::QueueFull | Passage::NoRoomToRetain => ReasonCode::QuotaExceeded,
            _ => ReasonCode::Success,
        }
    }

    /// What comes of a message, and to how many it goes.
    fn publish_as(
        &mut self,
        trace: Trace,
        message: &Publish<'_>,
        source: Source<'_>,
        origin: Option<SessionId>,
        has_answer: bool,
    ) -> (Passage, usize) {
        if self.ledger.is_full() && !source.is_kept && self.must_be_stored(message, &source) {
            self.stat.messages_dropped.disk_full += 1;
            return (Passage::DiskFull, 0);
        }
        let may_be_refused = message.qos > QoS::AtMostOnce && !source.is_kept;
        if may_be_refused
            && !self.shared.full_queues.is_empty()
            && self.leads_to_full_queue(message, &source, origin)
        {
            self.stat.messages_dropped.queue_refused += 1;
            return (Passage::QueueFull, 0);
        }
        let retained = message.retain.then(|| self.publish_retained(message, origin, trace));
        if let Some(Err(NoRoom)) = retained {
            self.stat.messages_dropped.not_retained += 1;
            if let Some(suppressed) = self.overflows.allow(self.now) {
                let topic = message.topic.map(|name| excerpt(name.as_str()));
                let topic = topic.as_deref();
                tracing::warn!(topic, suppressed, "there is no room for another retained message");
            }
            if has_answer {
                return (Passage::NoRoomToRetain, 0);
            }
        }
        let count = match retained {
            Some(Ok(count)) => count,
            _ => self.distribute(message, source, origin, trace),
        };
        if count == 0 {
            self.stat.messages_dropped.no_subscriber += 1;
            return (Passage::NoSubscriber, 0);
        }
        let is_retained = !matches!(retained, Some(Err(NoRoom)));
        (if is_retained { Passage::PassedOn } else { Passage::PassedOnUnretained }, count)
    }

    /// Notes a message that is to be published later, or cannot be.
    #[cold]
    fn record_delayed(&mut self, message: &Publish<'_>, origin: SessionId, reason_code: ReasonCode) {
        let publication = Publication {
            origin: Some(origin),
            name: self.trail.name(message.topic, None),
            flags: trail::flags(message.qos, message.retain),
            messages: 1,
        };
        let passage = if reason_code.is_error() { Passage::NotDelayed } else { Passage::Delayed };
        let trace = self.trail.begin();
        self.trail.published(trace, &publication, (passage, 0), self.now);
    }

    /// Whether a message cannot be passed on without the store.
    fn must_be_stored(&mut self, message: &Publish<'_>, source: &Source<'_>) -> bool {
        let Some(found) = self.route_ahead(message, source) else { return false };
        if message.retain && !message.payload.is_empty() {
            return true;
        }
        let route = found.route();
        let is_by_store = route.stored.is_some() || route.groups.iter().any(|group| group.is_by_store());
        message.qos > QoS::AtMostOnce && is_by_store
    }

    /// Where a message would go, before it does. Nobody is refused a message of the server's own.
    pub(super) fn route_ahead(&mut self, message: &Publish<'_>, source: &Source<'_>) -> Option<Found> {
        let name = message.topic.filter(|name| !is_own(*name))?;
        Some(match source.known {
            Some(known) => self.routes.again(known),
            None => self.routes.route(name),
        })
    }

    /// Sends the PUBACK or PUBREC that the QoS demands. Before 5.0 it cannot say that the message was
    /// refused.
    fn acknowledge(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        qos: QoS,
        packet_id: PacketId,
        reason_code: ReasonCode,
    ) {
        if let Some(session) = self.session_mut(session_id) {
            session.flows().acknowledge(qos, packet_id, reason_code);
        }
        let mut ack = Ack::new(packet_id, reason_code);
        let packet_type = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => PacketType::PubAck,
            QoS::ExactlyOnce => PacketType::PubRec,
        };
        if reason_code.is_error() {
            ack.properties.reason_string = self.reason_string(id, explain(reason_code), |text| {
                let properties = AckProperties { reason_string: Some(text), ..AckProperties::default() };
                // The two are of one size.
                Packet::PubAck(Ack { properties, ..ack })
            });
        }
        self.send_ack(id, packet_type, &ack);
    }

    /// `text`, if the client wants to be told in words `[MQTT-3.1.2-29]` and takes the packet with it
    /// `[MQTT-3.4.2-2]`.
    fn reason_string<'a>(
        &self,
        id: ConnectionId,
        text: &'a str,
        packet: impl FnOnce(&'a str) -> Packet<'a>,
    ) -> Option<&'a str> {
        let link = &self.connection(id)?.open()?.link;
        let size = packet(text).size(link.version).ok()?;
        (link.problem_information && size as u64 <= link.peer.maximum_packet_size.into()).then_some(text)
    }

    pub(super) fn is_allowed_depth(&self, topic: &str) -> bool {
        is_allowed_depth(&self.shared, topic)
    }
}

/// Whether a message is refused for want of room, on the disk or in a queue, and the client cannot be told: before 5.0 an
/// acknowledgement says that the message is taken.
fn is_unanswerable(reason_code: ReasonCode, qos: QoS, version: ProtocolVersion) -> bool {
    reason_code == ReasonCode::QuotaExceeded && qos > QoS::AtMostOnce && version != ProtocolVersion::V5
}

/// Whether a client's message to `name` is published just there and now, if the client may.
pub(super) fn is_plain(shared: &Shared, name: TopicName<'_>) -> bool {
    let has_delay = !matches!(delayed::split(name), Some((None, _)));
    let is_rewritten = shared.rules.rewrite(name.as_str(), AppliesTo::Publish).is_some();
    is_allowed_depth(shared, name.as_str()) && !has_delay && !is_rewritten && !is_own(name)
}

/// Whether a name is one of the server's own.
pub(super) fn is_own(name: TopicName<'_>) -> bool {
    let starts = |prefix: &&str| name.as_str().starts_with(prefix);
    name.is_system() && (["$SYS/", "$share/"].iter().any(starts) || name.as_str() == "$SYS")
}

fn is_allowed_depth(shared: &Shared, topic: &str) -> bool {
    let maximum = shared.topic_levels_maximum();
    // Every level takes a byte for its separator: most topics need not be counted.
    topic.len() < maximum || memchr::memchr_iter(b'/', topic.as_bytes()).count() < maximum
}

/// Why a message was refused, in words.
fn explain(reason_code: ReasonCode) -> &'static str {
    match reason_code {
        ReasonCode::NotAuthorized => "the client may not publish to this topic",
        ReasonCode::QuotaExceeded => "the server keeps no more messages of this kind",
        ReasonCode::TopicNameInvalid => "the topic is not one that the server takes messages for",
        _ => reason_code.name(),
    }
}
