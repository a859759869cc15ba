//! Messages on their way to the server.

use super::error::PublishError;
use super::event::{Event, Token};
use super::{ClientSession, Phase};
use crate::packet::{
    Ack, EncodeError, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
};
use crate::session::{AliasChoice, Link, Resend};

/// How many bytes a topic alias may add to a PUBLISH: the property, and one more for each of two lengths.
const ALIAS_SIZE: usize = 5;

/// A message at QoS 1 or 2 as the PUBLISH that it is sent as, save for packet identifier, DUP and alias.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    bytes: Box<[u8]>,
    /// Where in it the packet identifier stands.
    packet_id_at: u32,
    pub(super) token: Token,
}

impl Stored {
    fn new(publish: &Publish<'_>, version: ProtocolVersion, token: Token) -> Result<Self, EncodeError> {
        let mut bytes = Vec::with_capacity(publish.size(version)?);
        publish.encode(version, &mut bytes)?;
        let packet_id_at = publish.packet_id_offset(version)? as u32;
        Ok(Self { bytes: bytes.into(), packet_id_at, token })
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    fn qos(&self) -> QoS {
        QoS::from_bits(self.bytes[0] >> 1 & 0b11).unwrap_or_default()
    }

    fn retain(&self) -> bool {
        self.bytes[0] & 1 != 0
    }

    fn publish(&self, version: ProtocolVersion) -> Option<Publish<'_>> {
        let frame = Frame::split(&mut &self.bytes[..], MAXIMUM_PACKET_SIZE).ok().flatten()?;
        Publish::decode(frame, version).ok()
    }

    /// Appends the PUBLISH as it is sent the first time; gives where its packet identifier is to be put.
    fn encode(&self, link: &mut Link, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        if link.outbound_aliases.is_enabled()
            && let Some(publish) = self.publish(link.version)
        {
            let publish = with_alias(&publish, self.size(), link);
            if let (Ok(()), Ok(at)) =
                (publish.encode(link.version, out), publish.packet_id_offset(link.version))
            {
                return start + at;
            }
            out.truncate(start);
        }
        out.extend_from_slice(&self.bytes);
        start + self.packet_id_at as usize
    }

    /// Appends the PUBLISH as it is sent again: with DUP `[MQTT-3.3.1-1]`, and its topic name.
    fn encode_again(&self, packet_id: PacketId, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start] |= 0b1000;
        put_packet_id(out, start + self.packet_id_at as usize, packet_id);
    }
}

impl ClientSession {
    /// Sends a message, or takes it up to be sent. DUP and the packet identifier in `publish` mean nothing
    /// here; topic aliases are given by the session.
    ///
    /// At QoS 0 the message is in the output when this returns, and no event follows. At QoS 1 and 2,
    /// [`Event::Published`] follows when the server has it, or [`Event::PublishFailed`].
    ///
    /// # Errors
    /// See [`PublishError`]; the message is not sent then. What the server takes is checked at once when
    /// connected, otherwise when the message is about to be sent.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<Token, PublishError> {
        let version = self.options.version;
        let packet_id = (publish.qos > QoS::AtMostOnce).then_some(PacketId::FIRST);
        let publish = Publish { dup: false, packet_id, ..*publish };
        check(&publish, version)?;
        let size = publish.size(version)?;
        if self.is_connected() {
            self.check_server(publish.qos, publish.retain, size)?;
        }
        let limits = &self.options.limits;
        if publish.qos == QoS::AtMostOnce {
            if !self.is_connected() {
                return Err(PublishError::NotConnected);
            }
            if self.output.len() >= limits.output_bytes.max(1) {
                return Err(PublishError::OutputFull);
            }
            with_alias(&publish, size, &mut self.link).encode(version, self.output.bytes())?;
            return Ok(self.next_token());
        }
        let full = self.stored_messages >= limits.stored_messages
            || self.stored_bytes.saturating_add(size) > limits.stored_bytes;
        if full {
            return Err(PublishError::StoreFull);
        }
        let token = Token(self.last_token + 1);
        self.queue.push_back(Stored::new(&publish, version, token)?);
        self.last_token = token.0;
        self.stored_messages += 1;
        self.stored_bytes += size;
        self.flush();
        Ok(token)
    }

    /// Sends what there is room for: first again what was in flight, then what is queued.
    pub(super) fn flush(&mut self) {
        if self.phase != Phase::Connected {
            return;
        }
        let room = self.options.limits.output_bytes.max(1);
        while self.output.len() < room && self.send_again() {}
        while self.output.len() < room && self.outbound.is_open() && self.send_new() {}
    }

    /// Whether there was something to be sent again.
    fn send_again(&mut self) -> bool {
        let (packet_id, qos, refused) = match self.outbound.resend() {
            None => return false,
            Some(Resend::PubRel(packet_id)) => {
                let pubrel = Packet::PubRel(Ack::new(packet_id, ReasonCode::Success));
                self.answer(&pubrel);
                return true;
            }
            Some(Resend::Publish(packet_id, qos, stored)) => {
                let refused = check_stored(stored, &self.server, &self.link);
                if refused.is_none() {
                    stored.encode_again(packet_id, self.output.bytes());
                }
                (packet_id, qos, refused)
            }
        };
        if let Some(error) = refused {
            let stored = match qos {
                QoS::ExactlyOnce => self.outbound.pubrec(packet_id, false),
                _ => self.outbound.puback(packet_id),
            };
            if let Ok(Some(stored)) = stored {
                self.give_up(&stored, error);
            }
        }
        true
    }

    /// Whether there was something to be sent.
    fn send_new(&mut self) -> bool {
        let Some(stored) = self.queue.pop_front() else { return false };
        if let Some(error) = check_stored(&stored, &self.server, &self.link) {
            self.give_up(&stored, error);
            return true;
        }
        let pending = self.output.len();
        let start = self.output.bytes().len();
        let packet_id_at = stored.encode(&mut self.link, self.output.bytes());
        match self.outbound.send(stored.qos(), stored) {
            Ok(packet_id) => {
                put_packet_id(self.output.bytes(), packet_id_at, packet_id);
                debug_assert!(self.output.len() > pending);
                true
            }
            Err(stored) => {
                self.output.bytes().truncate(start);
                self.queue.push_front(stored);
                false
            }
        }
    }

    fn give_up(&mut self, stored: &Stored, error: PublishError) {
        self.stored_messages -= 1;
        self.stored_bytes -= stored.size();
        self.events.push_back(Event::PublishFailed { token: stored.token, error });
    }

    /// The server has forgotten the session: what it did not get goes to the front of the queue.
    pub(super) fn lose_session(&mut self) {
        let in_flight: Vec<Stored> = self.outbound.take().map(|(_, stored)| stored).collect();
        for stored in in_flight.into_iter().rev() {
            self.queue.push_front(stored);
        }
        // The server has taken these; only that it may forget about them was still to be said.
        let mut released: Vec<(Token, ReasonCode)> = self.releasing.drain().map(|(_, done)| done).collect();
        released.sort_unstable_by_key(|&(token, _)| token);
        self.stored_messages -= released.len();
        for (token, reason_code) in released {
            self.events.push_back(Event::Published { token, reason_code, packet: None });
        }
        self.inbound = super::Inbound::default();
        self.answers.end_session();
    }

    fn check_server(&self, qos: QoS, retain: bool, size: usize) -> Result<(), PublishError> {
        refusal(qos, retain, size, &self.server, &self.link).map_or(Ok(()), Err)
    }
}

/// What no server takes.
fn check(publish: &Publish<'_>, version: ProtocolVersion) -> Result<(), PublishError> {
    if publish.topic.is_none() {
        return Err(EncodeError::NoTopic.into());
    }
    if !version.has_properties() {
        return Ok(());
    }
    let properties = &publish.properties;
    if properties.topic_alias.is_some() {
        return Err(PublishError::TopicAlias);
    }
    if !properties.subscription_identifiers.is_empty() {
        return Err(PublishError::SubscriptionIdentifier);
    }
    let has_null = |text: &str| memchr::memchr(0, text.as_bytes()).is_some();
    if properties.content_type.is_some_and(has_null)
        || properties.user_properties.iter().any(|pair| has_null(pair.name) || has_null(pair.value))
    {
        return Err(PublishError::Null);
    }
    Ok(())
}

/// What this server does not take.
fn refusal(
    qos: QoS,
    retain: bool,
    size: usize,
    server: &super::ServerCapabilities,
    link: &Link,
) -> Option<PublishError> {
    let maximum = link.peer.maximum_packet_size;
    if qos > server.maximum_qos {
        Some(PublishError::QoSNotSupported(server.maximum_qos))
    } else if retain && !server.retain_available {
        Some(PublishError::RetainNotSupported)
    } else if size as u64 > u64::from(maximum) {
        Some(PublishError::PacketTooLarge { size, maximum })
    } else {
        None
    }
}

fn check_stored(stored: &Stored, server: &super::ServerCapabilities, link: &Link) -> Option<PublishError> {
    refusal(stored.qos(), stored.retain(), stored.size(), server, link)
}

/// The message with an alias for its topic, or instead of it, where the server takes one.
fn with_alias<'a>(publish: &Publish<'a>, size: usize, link: &mut Link) -> Publish<'a> {
    let mut publish = *publish;
    let Some(topic) = publish.topic else { return publish };
    let fits = size + ALIAS_SIZE <= link.peer.maximum_packet_size as usize;
    if !link.outbound_aliases.is_enabled() || !fits {
        return publish;
    }
    match link.outbound_aliases.choose(topic) {
        AliasChoice::Name => {}
        AliasChoice::NameAndAlias(alias) => publish.properties.topic_alias = Some(alias),
        AliasChoice::Alias(alias) => {
            publish.topic = None;
            publish.properties.topic_alias = Some(alias);
        }
    }
    publish
}

fn put_packet_id(out: &mut [u8], at: usize, packet_id: PacketId) {
    out[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
}
