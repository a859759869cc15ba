//! CONNECT: who is there, may it come in, and with which session.

use std::num::{NonZero, NonZeroU32};
use std::sync::Arc;

use lapwing_proto::packet::{
    ConnAck, Connect, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketType, ProtocolVersion, Publish, QoS,
    ReasonCode, Will as WillPacket,
};
use lapwing_proto::session::{KeepAlive, Link, LinkLimits};

use super::connection::{Departing, FOR_EVER, Open, Pending, Phase, Reauthentication};
use super::disconnect::End;
use super::publish::Withheld;
use super::route::RoutePlace;
use super::session::{Session, SessionKey, Will};
use super::stored_session::StoredSession;
use super::timer::Timer;
use super::{ConnectionId, SessionId, Shard};
use crate::excerpt::excerpt;
use crate::explanation::Happening;
use crate::hook::{Client, Credentials, Event, Identity, Later, Permit, Verdict};
use crate::message::Message;
use crate::shared::TooMany;

/// Who asks to be let in, as far as a refusal has to do with it.
#[derive(Clone, Copy)]
pub(super) struct Applicant<'a> {
    version: ProtocolVersion,
    maximum_packet_size: Option<NonZeroU32>,
    client_id: &'a str,
    user_name: Option<&'a str>,
}

impl<'a> Applicant<'a> {
    pub(super) fn new(connect: &Connect<'a>) -> Self {
        Self {
            version: connect.version,
            maximum_packet_size: connect.properties.maximum_packet_size,
            client_id: connect.client_id,
            user_name: connect.user_name,
        }
    }

    /// Of whose CONNECT only the version can be made out.
    fn unknown(version: ProtocolVersion) -> Self {
        Self { version, maximum_packet_size: None, client_id: "", user_name: None }
    }
}

impl Shard {
    /// The first packet has arrived: it must be a CONNECT `[MQTT-3.1.0-1]`.
    pub(super) fn handle_first(&mut self, id: ConnectionId, frame: Frame<'_>) {
        if frame.packet_type() != PacketType::Connect {
            return self.fault(id, ReasonCode::ProtocolError, &"the first packet is not a CONNECT");
        }
        let connect = match Connect::decode(frame) {
            Ok(connect) => connect,
            Err(error) => {
                let version = answering_version(Connect::declared_level(frame), error.reason_code());
                return match version {
                    Some(version) => {
                        self.refuse(id, Applicant::unknown(version), error.reason_code(), error.fault());
                    }
                    None => self.malformed(id, error),
                };
            }
        };
        let applicant = Applicant::new(&connect);
        let client_id = match self.choose_client_id(&connect) {
            Ok(client_id) => client_id,
            Err(fault) => {
                return self.refuse(id, applicant, ReasonCode::ClientIdentifierNotValid, fault);
            }
        };
        if let Some(reason) = self.ban_of(id, &client_id, connect.user_name) {
            return self.refuse(id, applicant, ReasonCode::Banned, &reason);
        }
        let of_will = connect.will.map(|will| will.properties.user_properties).unwrap_or_default();
        let properties = connect.properties.user_properties.iter();
        if self.has_too_many_properties(properties) || self.has_too_many_properties(of_will.iter()) {
            return self.refuse(
                id,
                applicant,
                ReasonCode::QuotaExceeded,
                "a CONNECT with too many user properties",
            );
        }
        if let Some((reason_code, fault)) = connect.will.and_then(|will| self.will_fault(&will)) {
            return self.refuse(id, applicant, reason_code, fault);
        }
        let Some(credentials) = self.credentials(id, &connect, &client_id) else { return };
        if let Some(method) = connect.properties.authentication_method {
            let exchange = self.shared.hooks.authenticator.begin_exchange(method, &credentials);
            return self.begin_exchange(id, &connect, client_id, exchange);
        }
        let later = Later::new(self.shared.mailbox(self.id), id);
        match self.shared.hooks.authenticator.authenticate(&credentials, &later) {
            Some(verdict) => self.finish_connect(id, &connect, &client_id, verdict, None),
            None => {
                let pending = Pending::new(&connect, client_id);
                if let Some(connection) = self.connection_mut(id) {
                    connection.phase = Phase::Authenticating(Box::new(pending));
                }
            }
        }
    }

    /// Why a will cannot be kept, if it cannot `[MQTT-3.2.2-12]`, `[MQTT-3.2.2-13]`.
    fn will_fault(&self, will: &WillPacket<'_>) -> Option<(ReasonCode, &'static str)> {
        let limits = &self.limits;
        if will.qos > limits.qos() {
            return Some((ReasonCode::QoSNotSupported, "the will has a QoS above the maximum"));
        }
        if will.retain && !limits.retain_available {
            return Some((ReasonCode::RetainNotSupported, "the will is to be retained"));
        }
        if !self.is_allowed_depth(will.topic.as_str()) {
            return Some((ReasonCode::TopicNameInvalid, "the will's topic name has too many levels"));
        }
        None
    }

    fn credentials<'a>(
        &'a self,
        id: ConnectionId,
        connect: &Connect<'a>,
        client_id: &'a str,
    ) -> Option<Credentials<'a>> {
        let origin = &self.connection(id)?.origin;
        Some(Credentials {
            peer: origin.peer,
            is_local: origin.is_local,
            listener: &origin.listener,
            certificate: origin.certificate.as_deref(),
            version: connect.version,
            client_id,
            user_name: connect.user_name,
            password: connect.password,
        })
    }

    /// The client's identifier, or one made for a client that may come without `[MQTT-3.1.3-6]`,
    /// `[MQTT-3.1.3-8]` of 3.1.1.
    fn choose_client_id(&self, connect: &Connect<'_>) -> Result<String, &'static str> {
        if !connect.client_id.is_empty() {
            return Ok(connect.client_id.to_owned());
        }
        match connect.version {
            ProtocolVersion::V31 => Err("the client identifier is empty"),
            ProtocolVersion::V311 if !connect.clean_start => {
                Err("an empty client identifier needs a clean session")
            }
            _ => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).map_err(|_| "no randomness for a client identifier")?;
                Ok(format!("auto-{:032x}", u128::from_ne_bytes(random)))
            }
        }
    }

    /// A verdict has come that was waited for.
    pub(super) fn finish_authentication(&mut self, id: ConnectionId, verdict: Verdict) {
        let now = self.now;
        let Some(connection) = self.connection_mut(id) else { return };
        let Phase::Authenticating(pending) = &mut connection.phase else { return };
        let pending = std::mem::take(&mut **pending);
        connection.heard = now;
        if let Some(connect) = pending.connect() {
            self.finish_connect(id, &connect, &pending.client_id, verdict, None);
        }
    }

    /// The client is let in, or refused. `authentication_data` is the last of an extended authentication.
    pub(super) fn finish_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        client_id: &str,
        verdict: Verdict,
        authentication_data: Option<&[u8]>,
    ) {
        let applicant = Applicant::new(connect);
        let identity = match verdict {
            Verdict::Accept(identity) => identity,
            Verdict::Refuse(reason_code, reason) => {
                let is_possible = reason_code.is_error() && reason_code.is_valid_in(PacketType::ConnAck);
                let reason_code = if is_possible { reason_code } else { ReasonCode::UnspecifiedError };
                return self.refuse(id, applicant, reason_code, &reason);
            }
        };
        let key = SessionKey::new(&identity, client_id);
        let shared = Arc::clone(&self.shared);
        if self.limits.is_short() && shared.registry.session(&key).is_none() {
            let reason = "the broker is short of memory";
            return self.refuse(id, applicant, ReasonCode::QuotaExceeded, reason);
        }
        if self.has_too_many_sessions(&identity) && shared.registry.session(&key).is_none() {
            let reason = "the user has as many sessions as one may have";
            return self.refuse(id, applicant, ReasonCode::QuotaExceeded, reason);
        }
        match shared.registry.place(&key, || shared.choose_shard(self.now)) {
            Err(TooMany) => {
                self.refuse(id, applicant, ReasonCode::QuotaExceeded, "there are too many sessions");
            }
            Ok(shard) if shard == self.id => {
                self.join(id, connect, client_id, &key, identity, authentication_data);
            }
            Ok(shard) => {
                let pending = Pending::new(connect, client_id.to_owned());
                let authentication_data = authentication_data.map(<[u8]>::to_vec);
                let departing = Departing { shard, key, pending, identity, authentication_data };
                self.depart(id, departing);
            }
        }
    }

    /// Whether a user may have no further session. Several that come at the same moment may all find room.
    fn has_too_many_sessions(&self, identity: &Identity) -> bool {
        let maximum = self.limits.sessions_per_user_maximum;
        let count = || identity.owner.as_ref().map_or(0, |owner| self.shared.owners.count(owner));
        maximum > 0 && count() >= maximum
    }

    /// A client that has been let in, and whose session is on this shard, is connected. `key` has been placed.
    pub(super) fn join(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        client_id: &str,
        key: &SessionKey,
        identity: Identity,
        authentication_data: Option<&[u8]>,
    ) {
        let Some(origin) = self.connection(id).map(|connection| &connection.origin) else {
            return self.shared.registry.release(key);
        };
        let (peer, is_local, listener) = (origin.peer, origin.is_local, Arc::clone(&origin.listener));
        if !self.is_owner(key, &identity) {
            self.shared.registry.release(key);
            let reason = "the session with this client identifier belongs to another user";
            return self.refuse(id, Applicant::new(connect), ReasonCode::NotAuthorized, reason);
        }
        if let Some(session) = self.dormant_session(key, connect) {
            let departing = self.departing(connect, client_id, key, identity, authentication_data);
            return self.begin_restore(id, session, departing);
        }
        if self.ledger.is_full() && self.needs_new_stored_session(key, connect) {
            self.shared.registry.release(key);
            let reason = "there is no room on the disk for another session";
            return self.refuse(id, Applicant::new(connect), ReasonCode::QuotaExceeded, reason);
        }
        let client_id = match key {
            SessionKey::ClientId(key) => Arc::clone(key),
            SessionKey::Identity(_) => client_id.into(),
        };
        let client = Client { client_id, identity: identity.into_shared(), peer, is_local, listener };
        if let Some((reason_code, reason)) = self.flapping(&client.client_id) {
            self.shared.registry.release(key);
            return self.refuse(id, Applicant::new(connect), reason_code, &reason);
        }
        let permit = self.shared.hooks.authorizer.permit(&client);
        if connect.will.is_some_and(|will| !self.may_have_will(&*permit, &will)) {
            self.shared.registry.release(key);
            let reason = "the client may not publish to the topic of its will";
            return self.refuse(id, Applicant::new(connect), ReasonCode::NotAuthorized, reason);
        }
        let client_id = &*client.client_id.clone();
        let valid_until = client.identity.valid_for.map(|valid_for| self.now + valid_for);
        let link = self.agree(connect);
        let mut connack = self.connack(connect, &link, client_id);
        connack.properties.authentication_data = authentication_data;
        let is_asked = connect.properties.request_response_information == Some(true); // [MQTT-3.1.2-28]
        let response = self.shared.rules.response_information(&client).filter(|_| is_asked);
        connack.properties.response_information = response.as_deref();
        let size = Packet::ConnAck(connack).size(connect.version).unwrap_or(usize::MAX);
        if size as u64 > u64::from(link.peer.maximum_packet_size) {
            self.shared.registry.release(key);
            // [MQTT-3.1.2-24]: there is nothing that could be sent instead.
            return self.fault(
                id,
                ReasonCode::PacketTooLarge,
                &"the client takes no packet as large as CONNACK",
            );
        }
        let mark = self.ledger.mark();
        let (session_id, session_present) = self.find_session(key, connect);
        let limit = self.limits.session_expiry_maximum_s;
        let Some(session) = self.session_mut(session_id) else { return };
        session.connection = Some(id);
        session.expires = None;
        session.expiry_interval_s = requested_expiry(connect, limit).min(limit);
        let owner = std::mem::replace(&mut session.owner, client.identity.owner.clone());
        session.will = connect.will.as_ref().map(|will| Box::new(keep_will(will, &client)));
        session.begin(&link);
        self.shared.owners.change(owner.as_ref(), client.identity.owner.as_ref());
        self.note_presence(session_id, true);
        self.stat.clients_connected += 1;
        let happening = Happening::Connected { version: link.version, session_present, peer };
        self.note_of(session_id, client_id, happening);
        self.stat.clients += 1;
        self.stat.sessions_resumed += u64::from(session_present);
        if let Some(suppressed) = self.arrivals.allow(self.now) {
            let (client_id, version) = (&*excerpt(&client.client_id), link.version);
            let user_name = connect.user_name.map(excerpt);
            let user_name = user_name.as_deref();
            tracing::info!(%peer, client_id, user_name, %version, session_present, suppressed, "client connected");
        }
        let deadline = link.keep_alive.server_deadline(self.now);
        let connected = self.now;
        let Some(connection) = self.connection_mut(id) else { return };
        let timer = connection.timer;
        let method = connect.properties.authentication_method;
        let reauthentication =
            method.map(|method| Box::new(Reauthentication { method: method.into(), exchange: None }));
        connection.phase = Phase::Open(Open {
            session: session_id,
            route: RoutePlace::default(),
            link: link.into(),
            client,
            permit: Arc::clone(&permit),
            connected,
            valid_until: valid_until.unwrap_or(FOR_EVER),
            reauthentication,
        });
        if let Some(valid_until) = valid_until {
            self.set_timer(valid_until, Timer::Identity(id));
        }
        if session_present {
            self.set_permit(id, permit);
        }
        if let Some(deadline) = deadline.filter(|&deadline| deadline < timer) {
            self.set_connection_timer(id, deadline);
        }
        connack.session_present = session_present;
        if session_id.is_stored() {
            self.record_session(session_id);
        }
        // Also where a stored session has ended for one that is not.
        if self.ledger.mark() != mark {
            self.close_gate(id);
        }
        self.send(id, &Packet::ConnAck(connack));
        self.observe(id, |client| Event::Connected { client, session_present });
        self.pump(session_id);
        self.give_subscriptions(id);
    }

    /// Whether a client may have the session of this key, if there is one already.
    fn is_owner(&mut self, key: &SessionKey, identity: &Identity) -> bool {
        let existing = self.shared.registry.session(key).and_then(|id| self.session_mut(id));
        let owner = existing.and_then(|session| session.owner.as_ref());
        owner.is_none_or(|owner| identity.owner.as_ref() == Some(owner))
    }

    /// Whether a client may publish its will.
    fn may_have_will(&self, permit: &dyn Permit, will: &WillPacket<'_>) -> bool {
        // What is no name by the rules is withheld when the will is published, as with every message.
        !matches!(
            self.permit_publish(permit, will.topic, will.qos, will.retain),
            Err(Withheld::NotAuthorized(_))
        )
    }

    /// The session that the client goes on with, or a new one, and whether it is an earlier one. Another
    /// connection of the session is ended `[MQTT-3.1.4-3]`.
    fn find_session(&mut self, key: &SessionKey, connect: &Connect<'_>) -> (SessionId, bool) {
        let shared = Arc::clone(&self.shared);
        if let Some(existing) = shared.registry.session(key) {
            // Its timers may be due in this very turn.
            self.check_will(existing);
            self.check_session(existing);
        }
        if let Some(existing) = shared.registry.session(key) {
            self.end_restoring(existing);
            let old = self.session_mut(existing).and_then(|session| session.connection);
            if let Some(old) = old {
                let text = "another client has connected with this client identifier";
                self.disconnect(old, ReasonCode::SessionTakenOver, Some(text), End::TakenOver);
            }
            let goes_on = !connect.clean_start
                && self.session_mut(existing).is_some_and(|session| session.expiry_interval_s > 0);
            if goes_on {
                self.settle_will(existing, old.is_some());
                shared.registry.release(key);
                return (existing, true);
            }
            self.end_session(existing); // [MQTT-3.1.2-4]
        }
        let serial = self.next_serial();
        let limit = self.limits.session_expiry_maximum_s;
        let is_lasting = requested_expiry(connect, limit).min(limit) > 0;
        let number = is_lasting.then(|| self.ledger.next_session()).flatten();
        let entry = self.sessions.vacant_entry();
        let id = SessionId::new(self.id, entry.key(), serial, number.is_some());
        let mut session = Session::new(id, key.clone());
        if let Some(number) = number {
            session.stored = Some(Box::new(StoredSession::new(number)));
            shared.stored.add(id, number);
        }
        entry.insert(session);
        shared.registry.bind(key, id);
        (id, false)
    }

    /// The session that a client wants to go on with, if it has not been looked at since the start.
    fn dormant_session(&mut self, key: &SessionKey, connect: &Connect<'_>) -> Option<SessionId> {
        if connect.clean_start || !self.ledger.is_on() {
            return None;
        }
        let id = self.shared.registry.session(key)?;
        self.session_mut(id).filter(|session| session.is_dormant()).map(|session| session.id)
    }

    /// Whether a session would be stored for a client that is not stored yet.
    fn needs_new_stored_session(&self, key: &SessionKey, connect: &Connect<'_>) -> bool {
        let limit = self.limits.session_expiry_maximum_s;
        let goes_on = !connect.clean_start && self.shared.registry.session(key).is_some();
        requested_expiry(connect, limit).min(limit) > 0 && !goes_on
    }

    /// A session goes on with a new connection: a will that still waits for its delay is not published
    /// `[MQTT-3.1.3-9]`; one without a delay is, if the old connection has only now been ended.
    fn settle_will(&mut self, id: SessionId, was_connected: bool) {
        let Some(session) = self.session_mut(id) else { return };
        let has_delay = session.will.as_ref().is_some_and(|will| will.delay_s > 0);
        if was_connected && !has_delay {
            self.publish_will(id);
        } else {
            session.will = None;
        }
    }

    /// What holds for the connection, from what the client asks for and what the limits allow.
    fn agree(&self, connect: &Connect<'_>) -> Link {
        let limits = &self.limits;
        let is_v5 = connect.version == ProtocolVersion::V5;
        let own = LinkLimits {
            // Clients before 5.0 cannot know that there is a limit.
            receive_maximum: if is_v5 { limits.receive_maximum } else { u16::MAX },
            maximum_packet_size: limits.packet_size_maximum,
            topic_alias_maximum: limits.topic_alias_maximum,
        };
        let asked = &connect.properties;
        let default = LinkLimits::default();
        let peer = LinkLimits {
            receive_maximum: asked
                .receive_maximum
                .map_or(default.receive_maximum, NonZero::get)
                .min(limits.client_receive_maximum),
            maximum_packet_size: asked.maximum_packet_size.map_or(default.maximum_packet_size, NonZero::get),
            topic_alias_maximum: asked
                .topic_alias_maximum
                .unwrap_or(0)
                .min(limits.client_topic_alias_maximum),
        };
        let maximum = limits.keep_alive_maximum_s;
        let is_too_long = maximum > 0 && (connect.keep_alive == 0 || connect.keep_alive > maximum);
        // Only 5.0 can tell the client of another keep alive than its own.
        let keep_alive = if is_too_long && is_v5 { maximum } else { connect.keep_alive };
        let mut link = Link::new(connect.version, KeepAlive::new(keep_alive), own, peer);
        link.problem_information = is_v5 && asked.request_problem_information.unwrap_or(true);
        link
    }

    /// The CONNACK that lets a client in, but for Session Present.
    fn connack<'a>(&self, connect: &Connect<'a>, link: &Link, client_id: &'a str) -> ConnAck<'a> {
        let mut connack = ConnAck::new(false, ReasonCode::Success);
        let properties = &mut connack.properties;
        let limits = &self.limits;
        let requested = requested_expiry(connect, limits.session_expiry_maximum_s);
        let maximum = limits.session_expiry_maximum_s;
        properties.session_expiry_interval = (requested > maximum).then_some(maximum);
        properties.receive_maximum = NonZero::new(link.own.receive_maximum);
        properties.maximum_packet_size = NonZero::new(link.own.maximum_packet_size);
        properties.topic_alias_maximum =
            (link.own.topic_alias_maximum > 0).then_some(link.own.topic_alias_maximum);
        properties.maximum_qos = (limits.qos() < QoS::ExactlyOnce).then_some(limits.qos());
        let absent = |is_available: bool| (!is_available).then_some(false);
        properties.retain_available = absent(limits.retain_available);
        properties.wildcard_subscription_available = absent(limits.wildcard_subscription_available);
        properties.subscription_identifier_available = absent(limits.subscription_identifier_available);
        properties.shared_subscription_available = absent(limits.shared_subscription_available);
        properties.authentication_method = connect.properties.authentication_method; // [MQTT-4.12.0-5]
        properties.assigned_client_identifier = connect.client_id.is_empty().then_some(client_id);
        let keep_alive = link.keep_alive.seconds();
        properties.server_keep_alive = (keep_alive != connect.keep_alive).then_some(keep_alive);
        connack
    }

    /// Answers a CONNECT with a CONNACK that refuses it, if the client takes one and its version has one, and ends
    /// the connection `[MQTT-3.1.4-2]`.
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        applicant: Applicant<'_>,
        reason_code: ReasonCode,
        fault: &str,
    ) {
        let Applicant { version, maximum_packet_size: maximum, client_id, user_name } = applicant;
        let mut connack = ConnAck::new(false, reason_code);
        connack.properties.reason_string = Some(fault);
        let maximum = maximum.map_or(MAXIMUM_PACKET_SIZE, NonZero::get);
        let fits =
            |connack| Packet::ConnAck(connack).size(version).is_ok_and(|size| size as u64 <= maximum.into());
        if !fits(connack) {
            connack.properties.reason_string = None; // [MQTT-3.2.2-19]
        }
        let Some(connection) = self.connection_mut(id) else { return };
        if fits(connack) && has_answer(version, reason_code) {
            // It has a size, so that it has an encoding.
            let _ = connack.encode(version, connection.outbox.bytes());
        }
        self.stat.clients_refused.count(reason_code);
        if let (Some(observer), Some(connection)) = (&self.shared.hooks.observer, self.connection(id)) {
            let peer = connection.origin.peer;
            observer.observe(&Event::Refused { peer, client_id, reason_code, reason: fault });
        }
        let Some(peer) = self.connection(id).map(|connection| connection.origin.peer) else { return };
        let reason = excerpt(fault).into_owned();
        self.note(&excerpt(client_id), Happening::Refused { reason_code, reason, peer });
        if let Some(suppressed) = self.faults.allow(self.now) {
            let client_id = &*excerpt(client_id);
            let user_name = user_name.map(excerpt);
            let user_name = user_name.as_deref();
            tracing::warn!(%peer, client_id, user_name, %reason_code, suppressed, "client refused: {fault}");
        }
        self.end(id, End::Lost, Some(reason_code));
    }
}

/// In which version a CONNECT is answered that could not be decoded: a level that is too high gets the
/// answer of 5.0, any other unknown one that of 3.1.1 `[MQTT-3.1.2-2]`. Bridges set the highest bit of the
/// level, and understand the answer of their version. Before 5.0 there is no return code for what is
/// malformed.
fn answering_version(level: Option<u8>, reason_code: ReasonCode) -> Option<ProtocolVersion> {
    let is_unknown = reason_code == ReasonCode::UnsupportedProtocolVersion;
    match level? {
        0x83 | 0x84 if is_unknown => Some(ProtocolVersion::V311),
        5.. => Some(ProtocolVersion::V5),
        _ if is_unknown => Some(ProtocolVersion::V311),
        _ => None,
    }
}

/// Whether CONNACK can say why a client is refused. Before 5.0 there is no return code that fits a will which
/// cannot be kept `[MQTT-3.2.2-6]` of 3.1.1.
fn has_answer(version: ProtocolVersion, reason_code: ReasonCode) -> bool {
    use ReasonCode::{QoSNotSupported, RetainNotSupported, TopicNameInvalid};
    let is_of_will = matches!(reason_code, QoSNotSupported | RetainNotSupported | TopicNameInvalid);
    version == ProtocolVersion::V5 || !is_of_will
}

/// Seconds that the client wants its session to outlive the connection. Before 5.0 a session without Clean
/// Session lasts as long as the server keeps any.
fn requested_expiry(connect: &Connect<'_>, limit: u32) -> u32 {
    match connect.version {
        ProtocolVersion::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
        _ if connect.clean_start => 0,
        _ => limit,
    }
}

fn keep_will(will: &WillPacket<'_>, client: &Client) -> Will {
    let mut publish = Publish::new(will.topic, will.payload);
    publish.qos = will.qos;
    let properties = &will.properties;
    publish.properties.payload_format_indicator = properties.payload_format_indicator;
    publish.properties.message_expiry_interval = properties.message_expiry_interval;
    publish.properties.content_type = properties.content_type;
    publish.properties.response_topic = properties.response_topic;
    publish.properties.correlation_data = properties.correlation_data;
    publish.properties.user_properties = properties.user_properties;
    Will {
        message: Message::unpublished(&publish),
        retain: will.retain,
        delay_s: properties.will_delay_interval.unwrap_or(0),
        client: client.clone(),
        due: None,
    }
}
