//! A message from a client: from its PUBLISH to its acknowledgement.

use lapwing_proto::packet::{
    Ack, AckProperties, Packet, PacketType, ProtocolVersion, Publish, QoS, ReasonCode,
};
use lapwing_proto::session::{Receipt, SessionError};
use lapwing_proto::topic::{TopicName, TopicNameBuf};

use super::retained::NoRoom;
use super::{ConnectionId, SessionId, Shard, delayed};
use crate::excerpt::excerpt;
use crate::hook::{Client, Filtered};
use crate::rule::AppliesTo;

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
    NotAuthorized,
    /// The program around the broker does not want it.
    Filtered(ReasonCode),
}

impl Shard {
    pub(super) fn handle_publish(&mut self, id: ConnectionId, publish: &Publish<'_>) {
        if !publish.properties.subscription_identifiers.is_empty() {
            // [MQTT-3.3.4-6]
            return self.fault(
                id,
                ReasonCode::ProtocolError,
                &"a client's PUBLISH with a subscription identifier",
            );
        }
        let Some(session_id) = self.open_mut(id).map(|open| open.session) else { return };
        let resolved;
        let name = match (publish.topic, publish.properties.topic_alias) {
            (Some(name), None) => name,
            _ => match self.resolve_topic(id, publish) {
                Ok(name) => {
                    resolved = name;
                    resolved.as_name()
                }
                Err(error) => return self.fault(id, error.reason_code(), &error),
            },
        };
        if !self.is_allowed_depth(name.as_str()) {
            return self.fault(id, ReasonCode::TopicNameInvalid, &"a topic name with too many levels");
        }
        if publish.qos > self.shared.limits.qos() {
            return self.fault(id, ReasonCode::QoSNotSupported, &"a message at a QoS above the maximum");
        }
        if publish.retain && !self.shared.limits.retain_available {
            return self.fault(id, ReasonCode::RetainNotSupported, &"a message that is to be retained");
        }
        let receipt = match (self.session_mut(session_id), publish.packet_id) {
            (Some(session), Some(packet_id)) => session.flows().inbound.receive(publish.qos, packet_id),
            _ => Ok(Receipt::New),
        };
        let reason_code = match receipt {
            Err(error) => return self.fault(id, error.reason_code(), &error),
            Ok(Receipt::Duplicate) => {
                self.stat.duplicates_received += 1;
                ReasonCode::Success
            }
            Ok(Receipt::New) => self.accept_message(id, session_id, name, publish),
        };
        self.acknowledge(id, session_id, publish, reason_code);
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
    ) -> ReasonCode {
        self.stat.messages_received.count(publish.qos);
        let Some(open) = self.connection(id).and_then(|connection| connection.open()) else {
            return ReasonCode::UnspecifiedError;
        };
        let has_answer = open.link.version == ProtocolVersion::V5 && publish.qos > QoS::AtMostOnce;
        match self.admit(&open.client, name, publish) {
            Ok(admitted) => self.pass_on(publish, &admitted, session_id, has_answer),
            Err(withheld) => {
                let client_id = self.client_id(id);
                self.withhold(withheld, &client_id, name)
            }
        }
    }

    /// Whether a client's message, or its will, is to be passed on, and where to.
    pub(super) fn admit<'a>(
        &self,
        client: &Client,
        name: TopicName<'a>,
        publish: &Publish<'_>,
    ) -> Result<Admitted<'a>, Withheld> {
        let (delay_s, name) = delayed::split(name).ok_or(Withheld::Misnamed)?;
        let rewritten = self.shared.rules.rewrite(name.as_str(), AppliesTo::Publish);
        let rewritten = rewritten.map(TopicNameBuf::new).transpose().map_err(|_| Withheld::Misnamed)?;
        let admitted = Admitted { name, rewritten, delay_s };
        if !self.may_publish(client, admitted.name(), publish.qos, publish.retain) {
            return Err(Withheld::NotAuthorized);
        }
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

    /// Publishes what was admitted, or keeps it until its delay has passed.
    pub(super) fn pass_on(
        &mut self,
        publish: &Publish<'_>,
        admitted: &Admitted<'_>,
        origin: SessionId,
        has_answer: bool,
    ) -> ReasonCode {
        let message = admitted.message(publish);
        match admitted.delay_s {
            Some(delay_s) => self.delay(&message, delay_s, origin),
            None => self.publish(&message, Some(origin), has_answer),
        }
    }

    /// Counts a message that is not passed on; what its publisher is told.
    pub(super) fn withhold(
        &mut self,
        withheld: Withheld,
        client_id: &str,
        name: TopicName<'_>,
    ) -> ReasonCode {
        match withheld {
            Withheld::Misnamed => ReasonCode::TopicNameInvalid,
            Withheld::NotAuthorized => {
                self.stat.messages_dropped.not_authorized += 1;
                if let Some(suppressed) = self.faults.allow(self.now) {
                    let topic = &*excerpt(name.as_str());
                    tracing::warn!(client_id, topic, suppressed, "not authorized to publish");
                }
                ReasonCode::NotAuthorized
            }
            Withheld::Filtered(reason_code) => {
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
        origin: Option<SessionId>,
        has_answer: bool,
    ) -> ReasonCode {
        let retained = message.retain.then(|| self.publish_retained(message, origin));
        if let Some(Err(NoRoom)) = retained {
            self.stat.messages_dropped.not_retained += 1;
            if let Some(suppressed) = self.overflows.allow(self.now) {
                let topic = message.topic.map(|name| excerpt(name.as_str()));
                let topic = topic.as_deref();
                tracing::warn!(topic, suppressed, "there is no room for another retained message");
            }
            if has_answer {
                return ReasonCode::QuotaExceeded;
            }
        }
        let count = match retained {
            Some(Ok(count)) => count,
            _ => self.distribute(message, origin),
        };
        if count == 0 {
            self.stat.messages_dropped.no_subscriber += 1;
            return ReasonCode::NoMatchingSubscribers;
        }
        ReasonCode::Success
    }

    /// Sends the PUBACK or PUBREC that the QoS demands. Before 5.0 it cannot say that the message was
    /// refused.
    fn acknowledge(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        publish: &Publish<'_>,
        reason_code: ReasonCode,
    ) {
        let Some(packet_id) = publish.packet_id else { return };
        if let Some(session) = self.session_mut(session_id) {
            session.flows().acknowledge(publish.qos, packet_id, reason_code);
        }
        let mut ack = Ack::new(packet_id, reason_code);
        let packet = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => Packet::PubAck,
            QoS::ExactlyOnce => Packet::PubRec,
        };
        if reason_code.is_error() {
            ack.properties.reason_string = self.reason_string(id, explain(reason_code), |text| {
                let properties = AckProperties { reason_string: Some(text), ..AckProperties::default() };
                packet(Ack { properties, ..ack })
            });
        }
        self.send(id, &packet(ack));
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

    /// Whether a client may publish to a topic. Names of the server's own are for nobody `[MQTT-4.7.2-1]`.
    fn may_publish(&self, client: &Client, name: TopicName<'_>, qos: QoS, retain: bool) -> bool {
        let starts = |prefix: &&str| name.as_str().starts_with(prefix);
        let is_own = name.is_system() && (["$SYS/", "$share/"].iter().any(starts) || name.as_str() == "$SYS");
        !is_own && self.shared.hooks.authorizer.may_publish(client, name, qos, retain)
    }

    pub(super) fn is_allowed_depth(&self, topic: &str) -> bool {
        let maximum = usize::from(self.shared.limits.topic_levels_maximum);
        // Every level takes a byte for its separator: most topics need not be counted.
        topic.len() < maximum || memchr::memchr_iter(b'/', topic.as_bytes()).count() < maximum
    }
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
