//! Extended authentication: AUTH packets before CONNACK, and by connected clients that authenticate anew.

use std::num::NonZero;

use lapwing_proto::packet::{
    Auth, AuthProperties, Connect, Frame, MAXIMUM_PACKET_SIZE, Packet, PacketType, ProtocolVersion,
    ReasonCode,
};

use super::connect::Applicant;
use super::connection::{Exchanging, FOR_EVER, Pending, Phase};
use super::disconnect::End;
use super::timer::Timer;
use super::{ConnectionId, Shard};
use crate::hook::{Credentials, Exchange, Identity, Step, Verdict};

/// Answers that a client may give in one exchange. No method in use needs more than a few.
const STEPS_MAXIMUM: u8 = 16;

impl Shard {
    /// A CONNECT names an authentication method; `exchange` is what the authenticator has for it.
    pub(super) fn begin_exchange(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        client_id: String,
        exchange: Option<Box<dyn Exchange>>,
    ) {
        let Some(mut exchange) = exchange else {
            // [MQTT-4.12.0-1]
            let fault = "the authentication method is not offered";
            return self.refuse(id, Applicant::new(connect), ReasonCode::BadAuthenticationMethod, fault);
        };
        let step = exchange.respond(connect.properties.authentication_data);
        let pending = Pending::new(connect, client_id);
        self.advance(id, Exchanging { pending, exchange, steps_left: STEPS_MAXIMUM }, step);
    }

    /// A packet has arrived while an extended authentication waits for the client: only AUTH with the same
    /// method goes on with it `[MQTT-4.12.0-3]`, and DISCONNECT ends it.
    pub(super) fn handle_exchange(&mut self, id: ConnectionId, frame: Frame<'_>) {
        let Some(connection) = self.connection_mut(id) else { return };
        // Whatever comes of the packet sets the phase anew.
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitingConnect);
        let Phase::Exchanging(mut exchanging) = phase else { return };
        let Some(connect) = exchanging.pending.connect() else { return };
        let applicant = Applicant::new(&connect);
        let auth = match Packet::decode(frame, ProtocolVersion::V5) {
            Ok(Packet::Auth(auth)) => auth,
            Ok(Packet::Disconnect(disconnect)) => {
                return self.end(id, End::Disconnected, Some(disconnect.reason_code));
            }
            Ok(_) => {
                let fault = "a packet other than AUTH before CONNACK";
                return self.refuse(id, applicant, ReasonCode::ProtocolError, fault);
            }
            Err(error) => return self.refuse(id, applicant, error.reason_code(), error.fault()),
        };
        let goes_on = auth.reason_code == ReasonCode::ContinueAuthentication
            && auth.properties.authentication_method == connect.properties.authentication_method
            && exchanging.steps_left > 0;
        if !goes_on {
            let fault = "an AUTH that does not go on with the authentication";
            return self.refuse(id, applicant, ReasonCode::ProtocolError, fault);
        }
        exchanging.steps_left -= 1;
        let step = exchanging.exchange.respond(auth.properties.authentication_data);
        self.advance(id, *exchanging, step);
    }

    /// Does what the authenticator says about a CONNECT.
    fn advance(&mut self, id: ConnectionId, exchanging: Exchanging, step: Step) {
        let Some(connect) = exchanging.pending.connect() else { return };
        let client_id = &exchanging.pending.client_id;
        match step {
            Step::Accept(identity, data) => {
                self.finish_connect(id, &connect, client_id, Verdict::Accept(identity), data.as_deref());
            }
            Step::Refuse(reason_code, reason) => {
                self.finish_connect(id, &connect, client_id, Verdict::Refuse(reason_code, reason), None);
            }
            Step::Challenge(data) => {
                let method = connect.properties.authentication_method.unwrap_or_default();
                let auth = Auth::new(ReasonCode::ContinueAuthentication, method, &data);
                let maximum =
                    connect.properties.maximum_packet_size.map_or(MAXIMUM_PACKET_SIZE, NonZero::get);
                let size = Packet::Auth(auth).size(ProtocolVersion::V5).unwrap_or(usize::MAX);
                if size as u64 > u64::from(maximum) {
                    // [MQTT-3.1.2-24]: without the challenge the authentication cannot go on.
                    let fault = "the client takes no packet as large as the challenge";
                    return self.refuse(id, Applicant::new(&connect), ReasonCode::PacketTooLarge, fault);
                }
                let Some(connection) = self.connection_mut(id) else { return };
                // It has a size, so that it has an encoding.
                let _ = auth.encode(ProtocolVersion::V5, connection.outbox.bytes());
                connection.phase = Phase::Exchanging(Box::new(exchanging));
                self.stat.packets_sent += 1;
                self.mark_dirty(id);
            }
        }
    }

    /// A connected client sends AUTH: it begins to authenticate anew, or answers a challenge
    /// `[MQTT-4.12.1-1]`.
    pub(super) fn handle_auth(&mut self, id: ConnectionId, auth: &Auth<'_>) {
        let Some(open) = self.open_mut(id) else { return };
        let method = auth.properties.authentication_method;
        let known = open.reauthentication.as_mut().filter(|known| Some(&*known.method) == method);
        let Some(known) = known else {
            let fault = "an AUTH with another authentication method than in CONNECT";
            return self.fault(id, ReasonCode::ProtocolError, &fault);
        };
        // Who begins anew while a challenge waits has given that exchange up.
        let waiting = known.exchange.take();
        let exchange = match auth.reason_code {
            ReasonCode::ContinueAuthentication => waiting,
            ReasonCode::ReAuthenticate => match self.begin_again(id, method.unwrap_or_default()) {
                None => {
                    let fault = "the authentication method is not offered any more";
                    return self.fault(id, ReasonCode::NotAuthorized, &fault);
                }
                exchange => exchange,
            },
            _ => None,
        };
        let Some(mut exchange) = exchange else {
            return self.fault(id, ReasonCode::ProtocolError, &"an AUTH that nothing waits for");
        };
        match exchange.respond(auth.properties.authentication_data) {
            Step::Challenge(data) => {
                if let Some(known) = self.open_mut(id).and_then(|open| open.reauthentication.as_mut()) {
                    known.exchange = Some(exchange);
                }
                self.send_auth(id, ReasonCode::ContinueAuthentication, method, Some(&data));
            }
            Step::Accept(identity, data) => self.renew(id, identity, method, data.as_deref()),
            Step::Refuse(reason_code, reason) => {
                let is_possible = reason_code.is_error() && reason_code.is_valid_in(PacketType::Disconnect);
                let reason_code = if is_possible { reason_code } else { ReasonCode::NotAuthorized };
                self.fault(id, reason_code, &reason); // [MQTT-4.12.1-2]
            }
        }
    }

    fn begin_again(&self, id: ConnectionId, method: &str) -> Option<Box<dyn Exchange>> {
        let connection = self.connection(id)?;
        let (open, origin) = (connection.open()?, &connection.origin);
        let credentials = Credentials {
            peer: origin.peer,
            is_local: origin.is_local,
            listener: &origin.listener,
            certificate: origin.certificate.as_deref(),
            version: open.link.version,
            client_id: &open.client.client_id,
            user_name: open.client.identity.user_name.as_deref(),
            password: None,
        };
        self.shared.hooks.authenticator.begin_exchange(method, &credentials)
    }

    /// The client has authenticated anew. It may have other rights now, but must be who it was.
    fn renew(&mut self, id: ConnectionId, identity: Identity, method: Option<&str>, data: Option<&[u8]>) {
        let now = self.now;
        let Some(open) = self.open_mut(id) else { return };
        let own = &open.client.identity;
        if own.session_key != identity.session_key || own.owner != identity.owner {
            return self.fault(id, ReasonCode::NotAuthorized, &"authenticated anew as somebody else");
        }
        open.client.identity = identity.into_shared();
        let (session, client) = (open.session, open.client.clone());
        let valid_until = client.identity.valid_for.map(|valid_for| now + valid_for);
        open.valid_until = valid_until.unwrap_or(FOR_EVER);
        if let Some(valid_until) = valid_until {
            self.set_timer(valid_until, Timer::Identity(id));
        }
        let permit = self.shared.hooks.authorizer.permit(&client);
        self.set_permit(id, permit);
        // Its will is published for who it is now.
        if let Some(will) = self.session_mut(session).and_then(|session| session.will.as_mut()) {
            will.client = client;
        }
        self.send_auth(id, ReasonCode::Success, method, data);
    }

    /// A timer has fired: what the client has shown of who it is may hold no longer.
    pub(super) fn check_identity(&mut self, id: ConnectionId) {
        let now = self.now;
        if self.open_mut(id).is_some_and(|open| open.valid_until <= now) {
            self.fault(id, ReasonCode::MaximumConnectTime, &"the proof of who the client is has expired");
        }
    }

    fn send_auth(
        &mut self,
        id: ConnectionId,
        reason_code: ReasonCode,
        method: Option<&str>,
        data: Option<&[u8]>,
    ) {
        let properties = AuthProperties {
            authentication_method: method,
            authentication_data: data,
            ..AuthProperties::default()
        };
        self.send(id, &Packet::Auth(Auth { reason_code, properties }));
    }
}
