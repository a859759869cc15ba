//! Subscribing, unsubscribing, authenticating, and saying good-bye.

use super::error::RequestError;
use super::event::Token;
use super::{Cause, ClientSession, Phase};
use crate::packet::{
    Auth, Disconnect, Packet, PacketId, PacketType, ReasonCode, Subscribe, SubscribeProperties, Subscription,
    Unsubscribe, UnsubscribeProperties, UserProperty,
};
use crate::topic::TopicFilter;

/// A SUBSCRIBE or UNSUBSCRIBE that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) token: Token,
    /// SUBACK or UNSUBACK.
    pub(super) answer: PacketType,
    pub(super) filters: usize,
}

/// The reason codes of a client's DISCONNECT; the others are a server's.
const DISCONNECT_CODES: &[u8] =
    &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

impl ClientSession {
    /// Sends a SUBSCRIBE. [`Event::Subscribed`](super::Event::Subscribed) follows, or
    /// [`Event::Abandoned`](super::Event::Abandoned) when the connection ends before.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent then.
    pub fn subscribe(
        &mut self,
        subscriptions: &[Subscription<'_>],
        properties: SubscribeProperties<'_>,
    ) -> Result<Token, RequestError> {
        self.check_room()?;
        if self.options.version.has_properties() {
            if properties.subscription_identifier.is_some() && !self.server.subscription_identifier_available
            {
                return Err(RequestError::SubscriptionIdentifiersNotSupported);
            }
            check_pairs(properties.user_properties.iter())?;
        }
        for subscription in subscriptions {
            let is_shared = subscription.filter.share_name().is_some();
            if is_shared && !self.server.shared_subscription_available {
                return Err(RequestError::SharedNotSupported);
            }
            if subscription.filter.has_wildcard() && !self.server.wildcard_subscription_available {
                return Err(RequestError::WildcardsNotSupported);
            }
            if is_shared && subscription.options.no_local && self.options.version.has_properties() {
                return Err(RequestError::NoLocalShared);
            }
        }
        self.request(PacketType::SubAck, subscriptions.len(), |packet_id| {
            Packet::Subscribe(Subscribe { packet_id, properties, subscriptions: subscriptions.into() })
        })
    }

    /// Sends an UNSUBSCRIBE. [`Event::Unsubscribed`](super::Event::Unsubscribed) follows, or
    /// [`Event::Abandoned`](super::Event::Abandoned) when the connection ends before.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent then.
    pub fn unsubscribe(
        &mut self,
        filters: &[TopicFilter<'_>],
        properties: UnsubscribeProperties<'_>,
    ) -> Result<Token, RequestError> {
        self.check_room()?;
        if self.options.version.has_properties() {
            check_pairs(properties.user_properties.iter())?;
        }
        self.request(PacketType::UnsubAck, filters.len(), |packet_id| {
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: filters.into() })
        })
    }

    /// Answers an AUTH of the server that asks for it, while connecting or re-authenticating.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent then.
    pub fn auth(&mut self, data: &[u8]) -> Result<(), RequestError> {
        let is_under_way = match self.phase {
            Phase::Connecting(_) => true,
            Phase::Connected => self.reauthenticating,
            Phase::Disconnected | Phase::Closing => return Err(RequestError::NotConnected),
        };
        if !is_under_way {
            return Err(RequestError::NoAuthentication);
        }
        self.send_auth(ReasonCode::ContinueAuthentication, data)
    }

    /// Begins a new authentication on a connection whose CONNECT named a method `[MQTT-4.12.1-1]`. Its end is
    /// an [`Event::Auth`](super::Event::Auth) with success.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent then.
    pub fn reauthenticate(&mut self, data: &[u8]) -> Result<(), RequestError> {
        self.check_room()?;
        self.send_auth(ReasonCode::ReAuthenticate, data)?;
        self.reauthenticating = true;
        Ok(())
    }

    /// Sends a DISCONNECT, after which the transport is to be closed once the output is sent. Messages that
    /// the server has not acknowledged stay for a later connection. What is still received is ignored.
    ///
    /// With [`ReasonCode::Success`] the server discards the will, with
    /// [`ReasonCode::DisconnectWithWillMessage`] it publishes it. `session_expiry_interval`, in seconds,
    /// replaces the one in CONNECT. Before 5.0 there are neither.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent then.
    pub fn disconnect(
        &mut self,
        reason_code: ReasonCode,
        session_expiry_interval: Option<u32>,
    ) -> Result<(), RequestError> {
        if !matches!(self.phase, Phase::Connecting(_) | Phase::Connected) {
            return Err(RequestError::NotConnected);
        }
        let has_codes = self.options.version.has_properties();
        let may_be = if has_codes { DISCONNECT_CODES } else { &DISCONNECT_CODES[..1] };
        if !may_be.contains(&reason_code.value()) {
            return Err(RequestError::ReasonCode(reason_code));
        }
        let prolongs = session_expiry_interval.is_some_and(|seconds| seconds > 0);
        if has_codes && prolongs && self.options.session_expiry_interval == 0 {
            return Err(RequestError::SessionExpiry);
        }
        let mut disconnect = Disconnect::new(reason_code);
        disconnect.properties.session_expiry_interval = session_expiry_interval;
        let disconnect = Packet::Disconnect(disconnect);
        self.check_size(&disconnect)?;
        self.answer(&disconnect);
        self.phase = Phase::Closing;
        self.cause = Some(Cause::Requested);
        Ok(())
    }

    fn request<'a>(
        &mut self,
        answer: PacketType,
        filters: usize,
        packet: impl Fn(PacketId) -> Packet<'a>,
    ) -> Result<Token, RequestError> {
        self.check_size(&packet(PacketId::FIRST))?;
        let packet_id = self.outbound.reserve().ok_or(RequestError::NoPacketId)?;
        packet(packet_id).encode(self.options.version, self.output.bytes())?;
        let token = self.next_token();
        self.requests.insert(packet_id.get(), Request { token, answer, filters });
        Ok(token)
    }

    fn send_auth(&mut self, reason_code: ReasonCode, data: &[u8]) -> Result<(), RequestError> {
        let version = self.options.version;
        if !version.has_properties() {
            return Err(RequestError::NotInVersion(version));
        }
        let method = self.options.authentication_method.clone().ok_or(RequestError::NoAuthentication)?;
        let auth = Packet::Auth(Auth::new(reason_code, &method, data));
        self.check_size(&auth)?;
        self.answer(&auth);
        Ok(())
    }

    fn check_room(&self) -> Result<(), RequestError> {
        if !self.is_connected() {
            return Err(RequestError::NotConnected);
        }
        if self.output.len() >= self.options.limits.output_bytes.max(1) {
            return Err(RequestError::OutputFull);
        }
        Ok(())
    }

    fn check_size(&self, packet: &Packet<'_>) -> Result<(), RequestError> {
        let size = packet.size(self.options.version)?;
        let maximum = self.link.peer.maximum_packet_size;
        if size as u64 > u64::from(maximum) {
            return Err(RequestError::PacketTooLarge { size, maximum });
        }
        Ok(())
    }
}

fn check_pairs<'a>(mut pairs: impl Iterator<Item = UserProperty<'a>>) -> Result<(), RequestError> {
    if pairs.any(|pair| pair.name.contains('\0') || pair.value.contains('\0')) {
        return Err(RequestError::Null);
    }
    Ok(())
}
