//! What the server sends.

use super::error::ClientError;
use super::event::{Connected, Event, Message, ReceivedPacket};
use super::{Cause, ClientSession, Phase, ServerCapabilities};
use crate::packet::{
    Ack, Auth, ConnAck, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketId, PacketType, ProtocolVersion, Publish,
    QoS, ReasonCode, SubAck,
};
use crate::session::{Instant, KeepAlive, Link, LinkLimits, Receipt, SessionError};

/// The least that a server must take: a PUBREL or PUBCOMP with a reason code.
const SMALLEST_MAXIMUM_PACKET_SIZE: u32 = 5;

impl ClientSession {
    /// `bytes` have arrived at `now`: any piece of the stream. Whole packets are processed, the part of a
    /// packet at the end is kept. While the connection is being closed, and without one, they are ignored.
    ///
    /// # Errors
    /// The server broke the protocol: the connection is to be closed. A 5.0 server is told why, in a
    /// DISCONNECT that is in the output. The packets before the wrong one have been processed.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), ClientError> {
        if !bytes.is_empty() {
            self.heard = self.heard.max(now);
        }
        self.receive_packets(bytes, now).map_err(|error| self.fail(error))
    }

    fn receive_packets(&mut self, mut input: &[u8], now: Instant) -> Result<(), ClientError> {
        let maximum = self.options.maximum_packet_size.get();
        if !self.partial.is_empty() && self.is_receiving() {
            if !self.partial.complete(&mut input, maximum)? {
                return Ok(());
            }
            let mut partial = std::mem::take(&mut self.partial);
            let mut whole = partial.bytes();
            let done = match Frame::split(&mut whole, maximum)? {
                Some(frame) => self.receive_packet(frame, partial.bytes(), now),
                None => Ok(()),
            };
            partial.clear();
            self.partial = partial;
            done?;
        }
        while self.is_receiving() {
            let before = input;
            let Some(frame) = Frame::split(&mut input, maximum)? else {
                self.partial.keep(input);
                break;
            };
            self.receive_packet(frame, &before[..before.len() - input.len()], now)?;
        }
        Ok(())
    }

    fn is_receiving(&self) -> bool {
        matches!(self.phase, Phase::Connecting(_) | Phase::Connected)
    }

    /// `bytes` are those of `frame`.
    fn receive_packet(&mut self, frame: Frame<'_>, bytes: &[u8], now: Instant) -> Result<(), ClientError> {
        let packet_type = frame.packet_type();
        self.check_packet_type(packet_type)?;
        match Packet::decode(frame, self.options.version)? {
            Packet::ConnAck(connack) => self.receive_connack(&connack, bytes),
            Packet::Publish(publish) => self.receive_publish(&publish, bytes),
            Packet::PubAck(ack) => self.receive_puback(&ack, bytes),
            Packet::PubRec(ack) => self.receive_pubrec(&ack, bytes),
            Packet::PubRel(ack) => self.receive_pubrel(ack.packet_id),
            Packet::PubComp(ack) => self.receive_pubcomp(&ack, bytes),
            Packet::SubAck(ack) | Packet::UnsubAck(ack) => self.receive_suback(packet_type, &ack, bytes),
            Packet::PingResp => {
                self.pinged = None;
                Ok(())
            }
            Packet::Disconnect(disconnect) => {
                if disconnect.properties.session_expiry_interval.is_some() {
                    return Err(ClientError::SessionExpiryInDisconnect);
                }
                let packet = ReceivedPacket::new(bytes, self.options.version);
                self.close(Cause::Server(packet));
                Ok(())
            }
            Packet::Auth(auth) => self.receive_auth(&auth, bytes, now),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
                Err(ClientError::UnexpectedPacket(packet_type))
            }
        }
    }

    /// Whether a server may send such a packet now. The first one is CONNACK, or AUTH before it
    /// `[MQTT-3.2.0-1]`; there is one CONNACK `[MQTT-3.2.0-2]`.
    fn check_packet_type(&self, packet_type: PacketType) -> Result<(), ClientError> {
        let has_auth = self.options.version.has_properties() && self.options.authentication_method.is_some();
        let is_allowed = match packet_type {
            PacketType::ConnAck => self.phase != Phase::Connected,
            PacketType::Auth => has_auth, // [MQTT-4.12.0-6]
            PacketType::Disconnect => self.options.version.has_properties() && self.phase == Phase::Connected,
            PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
                false
            }
            _ => self.phase == Phase::Connected,
        };
        if is_allowed { Ok(()) } else { Err(ClientError::UnexpectedPacket(packet_type)) }
    }

    fn receive_connack(&mut self, connack: &ConnAck<'_>, bytes: &[u8]) -> Result<(), ClientError> {
        let version = self.options.version;
        let packet = ReceivedPacket::new(bytes, version);
        if connack.reason_code.is_error() {
            self.events.push_back(Event::Refused(packet));
            self.close(Cause::Refused(connack.reason_code));
            return Ok(());
        }
        let properties = &connack.properties;
        if version.has_properties()
            && properties.authentication_method != self.options.authentication_method.as_deref()
        {
            return Err(ClientError::AuthenticationMethod);
        }
        if connack.session_present && self.clean_start {
            return Err(ClientError::SessionNotDiscarded);
        }
        if connack.session_present && !self.has_session && !self.options.resume_unknown_session {
            return Err(ClientError::UnknownSession);
        }
        let size = properties.maximum_packet_size.map_or(MAXIMUM_PACKET_SIZE, std::num::NonZero::get);
        if size < SMALLEST_MAXIMUM_PACKET_SIZE {
            return Err(ClientError::MaximumPacketSizeTooSmall(size));
        }
        self.begin(connack);
        let resumed = connack.session_present || (version == ProtocolVersion::V31 && !self.clean_start);
        self.phase = Phase::Connected;
        self.events.push_back(Event::Connected(Connected { packet, resumed }));
        if !resumed || !self.has_session {
            self.lose_session();
        }
        self.has_session = true;
        // Before 5.0 a server cannot be told how many messages to have open.
        let own_maximum = if version.has_properties() { self.link.own.receive_maximum } else { u16::MAX };
        self.inbound.begin(own_maximum);
        self.outbound.begin(self.link.peer.receive_maximum);
        self.flush();
        Ok(())
    }

    /// Takes over what holds for the connection.
    fn begin(&mut self, connack: &ConnAck<'_>) {
        let (options, properties) = (&self.options, &connack.properties);
        let own = LinkLimits {
            receive_maximum: options.receive_maximum.get(),
            maximum_packet_size: options.maximum_packet_size.get(),
            topic_alias_maximum: options.topic_alias_maximum,
        };
        let receive_maximum = properties.receive_maximum.map_or(u16::MAX, std::num::NonZero::get);
        let size = properties.maximum_packet_size.map_or(MAXIMUM_PACKET_SIZE, std::num::NonZero::get);
        let peer = LinkLimits {
            receive_maximum: receive_maximum.min(options.limits.send_maximum.get()),
            maximum_packet_size: size.min(MAXIMUM_PACKET_SIZE),
            topic_alias_maximum: properties
                .topic_alias_maximum
                .unwrap_or(0)
                .min(options.limits.topic_aliases),
        };
        // [MQTT-3.2.2-21]
        let keep_alive = KeepAlive::new(properties.server_keep_alive.unwrap_or(options.keep_alive));
        self.link = Link::new(options.version, keep_alive, own, peer);
        let session_expiry_interval = properties.session_expiry_interval;
        self.server = ServerCapabilities {
            maximum_qos: properties.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            retain_available: properties.retain_available.unwrap_or(true),
            wildcard_subscription_available: properties.wildcard_subscription_available.unwrap_or(true),
            subscription_identifier_available: properties.subscription_identifier_available.unwrap_or(true),
            shared_subscription_available: properties.shared_subscription_available.unwrap_or(true),
            session_expiry_interval: session_expiry_interval.unwrap_or(options.session_expiry_interval),
        };
        if let Some(client_id) = properties.assigned_client_identifier {
            self.client_id = client_id.to_owned();
        }
    }

    fn receive_publish(&mut self, publish: &Publish<'_>, bytes: &[u8]) -> Result<(), ClientError> {
        let topic = self.link.inbound_aliases.resolve(publish.topic, publish.properties.topic_alias)?;
        let receipt = match publish.packet_id {
            None => None,
            Some(packet_id) => {
                if self.answers.is_full() {
                    return Err(SessionError::ReceiveMaximumExceeded(self.link.own.receive_maximum).into());
                }
                if self.inbound.receive(publish.qos, packet_id)? == Receipt::Duplicate {
                    self.answers.receive_again(packet_id);
                    self.send_answers();
                    return Ok(());
                }
                Some(self.answers.receive(publish.qos, packet_id))
            }
        };
        let message = Message::new(bytes, publish, topic, self.options.version, receipt);
        self.event_bytes += message.size();
        self.events.push_back(Event::Message(message));
        Ok(())
    }

    /// Sends the answers to received messages that are decided on.
    pub(super) fn send_answers(&mut self) {
        if self.phase != Phase::Connected {
            return;
        }
        while let Some((answer, reason_code)) = self.answers.next() {
            let ack = Ack::new(answer.packet_id, reason_code);
            if answer.qos == QoS::ExactlyOnce {
                self.answer(&Packet::PubRec(ack));
                if reason_code.is_error() {
                    self.inbound.refused(answer.packet_id);
                }
            } else {
                self.answer(&Packet::PubAck(ack));
                self.inbound.acknowledged();
            }
        }
    }

    fn receive_pubrel(&mut self, packet_id: PacketId) -> Result<(), ClientError> {
        if self.answers.is_undecided(packet_id) {
            // It answers a PUBREC that has not been sent.
            return Err(SessionError::WrongAcknowledgement(PacketType::PubRel, packet_id).into());
        }
        let known = self.inbound.completed(packet_id);
        let reason_code = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.answer(&Packet::PubComp(Ack::new(packet_id, reason_code)));
        Ok(())
    }

    fn receive_puback(&mut self, ack: &Ack<'_>, bytes: &[u8]) -> Result<(), ClientError> {
        if let Some(stored) = self.outbound.puback(ack.packet_id)? {
            self.stored_bytes -= stored.size();
            self.publication_ends(stored.token, ack.reason_code, ack, bytes);
        }
        Ok(())
    }

    fn receive_pubrec(&mut self, ack: &Ack<'_>, bytes: &[u8]) -> Result<(), ClientError> {
        let accepted = !ack.reason_code.is_error();
        let stored = self.outbound.pubrec(ack.packet_id, accepted)?;
        let known = stored.is_some() || self.outbound.awaits_pubcomp(ack.packet_id);
        if let Some(stored) = stored {
            self.stored_bytes -= stored.size();
            if accepted {
                self.releasing.insert(ack.packet_id.get(), (stored.token, ack.reason_code));
            } else {
                self.publication_ends(stored.token, ack.reason_code, ack, bytes);
            }
        }
        if accepted {
            let reason_code = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
            self.answer(&Packet::PubRel(Ack::new(ack.packet_id, reason_code)));
        }
        Ok(())
    }

    fn receive_pubcomp(&mut self, ack: &Ack<'_>, bytes: &[u8]) -> Result<(), ClientError> {
        if self.outbound.pubcomp(ack.packet_id)?
            && let Some((token, reason_code)) = self.releasing.remove(&ack.packet_id.get())
        {
            self.publication_ends(token, reason_code, ack, bytes);
        }
        Ok(())
    }

    fn publication_ends(
        &mut self,
        token: super::Token,
        reason_code: ReasonCode,
        ack: &Ack<'_>,
        bytes: &[u8],
    ) {
        self.stored_messages -= 1;
        let properties = &ack.properties;
        let is_told = properties.reason_string.is_some() || !properties.user_properties.is_empty();
        let packet = is_told.then(|| ReceivedPacket::new(bytes, self.options.version));
        self.events.push_back(Event::Published { token, reason_code, packet });
        self.flush();
    }

    fn receive_suback(
        &mut self,
        packet_type: PacketType,
        ack: &SubAck<'_>,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        let request = self.requests.get(&ack.packet_id.get()).copied();
        let request = request
            .filter(|request| request.answer == packet_type)
            .ok_or(ClientError::UnknownRequest(packet_type, ack.packet_id))?;
        let version = self.options.version;
        let has_codes = version.has_properties() || packet_type == PacketType::SubAck;
        let given = ack.reason_codes.iter().count();
        if has_codes && given != request.filters {
            return Err(ClientError::ReasonCodeCount { packet_type, expected: request.filters, given });
        }
        self.requests.remove(&ack.packet_id.get());
        self.outbound.release(ack.packet_id);
        let (token, packet) = (request.token, ReceivedPacket::new(bytes, version));
        self.events.push_back(match packet_type {
            PacketType::SubAck => Event::Subscribed { token, packet },
            _ => Event::Unsubscribed { token, packet },
        });
        self.flush();
        Ok(())
    }

    fn receive_auth(&mut self, auth: &Auth<'_>, bytes: &[u8], now: Instant) -> Result<(), ClientError> {
        if auth.properties.authentication_method != self.options.authentication_method.as_deref() {
            return Err(ClientError::AuthenticationMethod);
        }
        match (self.phase, auth.reason_code) {
            (Phase::Connecting(_), ReasonCode::ContinueAuthentication) => {
                self.phase = Phase::Connecting(now + self.options.connack_timeout);
            }
            (Phase::Connected, ReasonCode::ContinueAuthentication) if self.reauthenticating => {}
            (Phase::Connected, ReasonCode::Success) if self.reauthenticating => self.reauthenticating = false,
            _ => return Err(ClientError::UnexpectedPacket(PacketType::Auth)),
        }
        self.events.push_back(Event::Auth(ReceivedPacket::new(bytes, self.options.version)));
        Ok(())
    }

    /// The server has ended the connection: nothing is to be sent any more.
    fn close(&mut self, cause: Cause) {
        self.output.clear();
        self.answer_bytes = 0;
        self.phase = Phase::Closing;
        self.cause = Some(cause);
    }
}
