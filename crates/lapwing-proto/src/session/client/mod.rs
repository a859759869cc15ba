//! A client's side of MQTT: a state machine without I/O and clock.

mod answer;
mod error;
mod event;
mod option;
mod output;
mod partial;
mod receive;
mod request;
mod send;

use std::collections::VecDeque;

use hashbrown::HashMap;

pub use error::{AcknowledgeError, ClientError, PublishError, RequestError};
pub use event::{Cause, Connected, Event, Message, MessageReceipt, ReceivedPacket, Token};
pub use option::{Acknowledgement, CleanStart, ClientLimits, ConnectOptions, OptionError, WillMessage};

use super::{Inbound, Instant, KeepAlive, Link, LinkLimits, Outbound};
use crate::packet::{Packet, ProtocolVersion, QoS, ReasonCode};
use answer::{Answers, Decision};
use output::Output;
use partial::Partial;
use request::Request;
use send::Stored;

/// A complete MQTT client, 3.1, 3.1.1 or 5.0, over any number of connections one after the other.
///
/// Whoever owns the transport drives it:
///
/// 1. When the transport is up, [`connected`](Self::connected); when it is closed, by whom ever,
///    [`disconnected`](Self::disconnected).
/// 2. What arrives goes to [`receive`](Self::receive), in any pieces, while
///    [`wants_input`](Self::wants_input).
/// 3. What is in [`output`](Self::output) is sent, and [`consume`](Self::consume)d as far as it was taken.
/// 4. At [`poll_timeout`](Self::poll_timeout), [`handle_timeout`](Self::handle_timeout).
/// 5. After any of these, [`poll_event`](Self::poll_event) until it gives nothing. Taking a message may add
///    its acknowledgement to the output.
/// 6. When [`is_closing`](Self::is_closing), the rest of the output is sent and the transport closed.
///
/// # What happens to messages
/// * QoS 0 goes to the output at once, or [`publish`](Self::publish) refuses it.
/// * QoS 1 and 2 are kept until the server has them: in flight within the server's receive maximum, the rest
///   in a queue bounded by [`ClientLimits`], in their order, over lost connections. When the server
///   resumes the session, what was in flight is sent again with the same packet identifiers and DUP. When it
///   does not, it is sent anew, as new messages and before the queue, so that an accepted message is not
///   lost; a QoS 2 message of which the server had forgotten may then arrive twice.
/// * The state lives in memory and ends with this value.
///
/// # Bounds
/// Messages to be sent, output, events and aliases: [`ClientLimits`]. A packet that has arrived in part: the
/// [maximum packet size](ConnectOptions::maximum_packet_size). Requests, flows and QoS 2 identifiers: the
/// 65,535 packet identifiers there are. Events and answers rely on the owner to heed
/// [`wants_input`](Self::wants_input): what is received in spite of it is still processed.
#[derive(Debug)]
pub struct ClientSession {
    options: ConnectOptions,
    /// Replace the options upon the next connection.
    next_options: Option<Box<ConnectOptions>>,
    /// As in the options, or as the server has assigned it.
    client_id: String,
    phase: Phase,
    /// What the connection is to end with.
    cause: Option<Cause>,
    link: Link,
    server: ServerCapabilities,
    /// When something was last given to the transport.
    sent: Instant,
    /// When something last arrived.
    heard: Instant,
    /// The first PINGREQ that has not been answered.
    pinged: Option<Instant>,
    /// Whether the CONNECT asked for a clean start.
    clean_start: bool,
    reauthenticating: bool,
    partial: Partial,
    output: Output,
    /// At most that many bytes of the output are answers to what was received.
    answer_bytes: usize,

    /// Whether the server has accepted a connection for this client identifier before.
    has_session: bool,
    outbound: Outbound<Stored>,
    inbound: Inbound,
    answers: Answers,
    /// QoS 2 messages that the server has, not yet completed, with its result.
    releasing: HashMap<u16, (Token, ReasonCode)>,
    requests: HashMap<u16, Request>,
    /// Messages that have not been sent yet.
    queue: VecDeque<Stored>,
    /// In flight, queued or releasing.
    stored_messages: usize,
    /// Of those in flight or queued.
    stored_bytes: usize,
    last_token: u64,

    events: VecDeque<Event>,
    event_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No transport.
    Disconnected,
    /// CONNECT is in the output; CONNACK is to come by then.
    Connecting(Instant),
    Connected,
    /// The transport is to be closed.
    Closing,
}

/// What the server has said in CONNACK that it can do. Before 5.0: everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerCapabilities {
    /// The highest QoS that it takes.
    pub maximum_qos: QoS,
    /// Whether it retains messages.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcard_subscription_available: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifier_available: bool,
    /// Whether there are shared subscriptions.
    pub shared_subscription_available: bool,
    /// Seconds for which the session outlives the connection.
    pub session_expiry_interval: u32,
}

impl Default for ServerCapabilities {
    fn default() -> Self {
        Self {
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_identifier_available: true,
            shared_subscription_available: true,
            session_expiry_interval: 0,
        }
    }
}

impl ClientSession {
    /// A client without a connection.
    ///
    /// # Errors
    /// When no CONNECT can be made of the options.
    pub fn new(options: ConnectOptions) -> Result<Self, OptionError> {
        options.check()?;
        let limits = LinkLimits::default();
        let link = Link::new(options.version, KeepAlive::new(options.keep_alive), limits, limits);
        Ok(Self {
            client_id: options.client_id.clone(),
            options,
            next_options: None,
            phase: Phase::Disconnected,
            cause: None,
            link,
            server: ServerCapabilities::default(),
            sent: Instant::default(),
            heard: Instant::default(),
            pinged: None,
            clean_start: true,
            reauthenticating: false,
            partial: Partial::default(),
            output: Output::default(),
            answer_bytes: 0,
            has_session: false,
            outbound: Outbound::default(),
            inbound: Inbound::default(),
            answers: Answers::default(),
            releasing: HashMap::new(),
            requests: HashMap::new(),
            queue: VecDeque::new(),
            stored_messages: 0,
            stored_bytes: 0,
            last_token: 0,
            events: VecDeque::new(),
            event_bytes: 0,
        })
    }

    /// The options: those of the current connection, or for the next one.
    pub fn options(&self) -> &ConnectOptions {
        self.next_options.as_deref().unwrap_or(&self.options)
    }

    /// Replaces the options, as for new credentials. They hold from the next connection on. With another
    /// client identifier, the session begins anew, and what is in flight becomes new messages.
    ///
    /// # Errors
    /// When no CONNECT can be made of the options, or they have another version. The old ones then stay.
    pub fn set_options(&mut self, options: ConnectOptions) -> Result<(), OptionError> {
        options.check()?;
        if options.version != self.options.version {
            return Err(OptionError::VersionChanged(self.options.version, options.version));
        }
        self.next_options = Some(Box::new(options));
        Ok(())
    }

    /// The client identifier: as in the options, or as the server has assigned it.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The transport is up: CONNECT goes to the output. If there was a connection, it is
    /// [`disconnected`](Self::disconnected) first.
    pub fn connected(&mut self, now: Instant) {
        self.disconnected();
        if let Some(options) = self.next_options.take() {
            if options.client_id != self.options.client_id {
                self.client_id.clone_from(&options.client_id);
                self.has_session = false;
            }
            self.options = *options;
        }
        self.clean_start = match self.options.clean_start {
            CleanStart::Always => true,
            CleanStart::First => !self.has_session,
            CleanStart::Never => false,
        };
        self.cause = None;
        (self.sent, self.heard, self.pinged) = (now, now, None);
        self.reauthenticating = false;
        self.phase = Phase::Connecting(now + self.options.connack_timeout);
        let connect = self.options.encode(&self.client_id, self.clean_start, self.output.bytes());
        if let Err(error) = connect {
            self.fail(ClientError::Connect(error));
        }
    }

    /// The transport is closed. What was not sent or arrived in part is dropped, and
    /// [`Event::Disconnected`] tells why; the session's state stays for the next connection. Without a
    /// connection, nothing happens.
    pub fn disconnected(&mut self) {
        if self.phase == Phase::Disconnected {
            return;
        }
        self.phase = Phase::Disconnected;
        self.partial.clear();
        self.output.clear();
        self.answer_bytes = 0;
        self.answers.end_connection();
        let mut abandoned: Vec<Token> = self.requests.drain().map(|(_, request)| request.token).collect();
        abandoned.sort_unstable();
        self.events.extend(abandoned.into_iter().map(|token| Event::Abandoned { token }));
        let cause = self.cause.take().unwrap_or(Cause::Transport);
        self.events.push_back(Event::Disconnected(cause));
    }

    /// Whether the server has accepted the connection and it is not being closed.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether the transport is to be closed, once the rest of the output is sent.
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether the owner should read from the transport. False while the application leaves too many events,
    /// or the transport too many answers; the server then has to wait.
    pub fn wants_input(&self) -> bool {
        let limits = &self.options.limits;
        matches!(self.phase, Phase::Connecting(_) | Phase::Connected)
            && self.events.len() < limits.events.max(1)
            && self.event_bytes < limits.event_bytes.max(1)
            && self.answer_bytes < limits.output_bytes.max(1)
    }

    /// The next event. With [`Acknowledgement::Automatic`], this is when a message is acknowledged.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Message(message) = &event {
            self.event_bytes -= message.size();
            if let (Some(receipt), Acknowledgement::Automatic) =
                (message.receipt(), self.options.acknowledgement)
            {
                // One whose connection has ended meanwhile is sent again or forgotten by the server.
                let _ = self.acknowledge(receipt, ReasonCode::Success);
            }
        }
        if self.events.is_empty() && self.events.capacity() > 256 {
            self.events = VecDeque::new();
        }
        Some(event)
    }

    /// Acknowledges a received message at QoS 1 or 2 with a reason code, which is not sent before 5.0. Answers
    /// go out in the order of the messages, so this one waits for those on earlier messages
    /// `[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`. A QoS 2 message may also be acknowledged between two connections
    /// of its session; an error code is then not kept, and the message arrives again.
    ///
    /// # Errors
    /// See [`AcknowledgeError`]; nothing is sent then.
    pub fn acknowledge(
        &mut self,
        receipt: MessageReceipt,
        reason_code: ReasonCode,
    ) -> Result<(), AcknowledgeError> {
        if !reason_code.is_valid_in(crate::packet::PacketType::PubAck) {
            return Err(AcknowledgeError::ReasonCode(reason_code));
        }
        if self.answers.decide(receipt, reason_code)? == Decision::Later && reason_code.is_error() {
            self.inbound.refused(receipt.packet_id);
        }
        self.send_answers();
        Ok(())
    }

    /// Bytes for the transport.
    pub fn output(&self) -> &[u8] {
        self.output.pending()
    }

    /// `count` bytes of the output were given to the transport at `now`. More output may then be there:
    /// messages that waited for room.
    pub fn consume(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.sent = self.sent.max(now);
        }
        self.output.consume(count);
        self.answer_bytes = self.answer_bytes.min(self.output.len());
        self.flush();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest. It changes with every
    /// call of anything else.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting(deadline) => Some(deadline),
            Phase::Connected => [self.ping_at(), self.silent_at()].into_iter().flatten().min(),
            Phase::Disconnected | Phase::Closing => None,
        }
    }

    /// Does what is due at `now`: sends a PINGREQ, or gives up on the server.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        match self.phase {
            Phase::Connecting(deadline) if deadline <= now => Err(self.fail(ClientError::ConnAckTimeout)),
            Phase::Connected if is_due(self.silent_at()) => Err(self.fail(ClientError::PingTimeout)),
            Phase::Connected if is_due(self.ping_at()) => {
                self.answer(&Packet::PingReq);
                self.sent = now;
                self.pinged.get_or_insert(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the server of the current or last connection can do.
    pub fn server(&self) -> &ServerCapabilities {
        &self.server
    }

    /// Limits, aliases and keep alive of the current or last connection.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// QoS 1 and 2 messages that were accepted and are not done.
    pub fn stored_messages(&self) -> usize {
        self.stored_messages
    }

    /// Bytes of those that the server does not have yet.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    /// QoS 1 and 2 messages that have been sent and not been completed.
    pub fn in_flight(&self) -> usize {
        self.outbound.len()
    }

    /// A PINGREQ is due: nothing was sent for as long as the keep alive allows `[MQTT-3.1.2-20]`, or nothing
    /// arrived for as long, which a PINGREQ finds out about.
    fn ping_at(&self) -> Option<Instant> {
        let since = if self.pinged.is_some() { self.sent } else { self.sent.min(self.heard) };
        self.link.keep_alive.client_deadline(since)
    }

    /// The server has been silent for too long.
    fn silent_at(&self) -> Option<Instant> {
        self.pinged.map(|pinged| pinged.max(self.heard) + self.options.ping_timeout)
    }

    /// The connection is to be closed; a 5.0 server is told why `[MQTT-4.13.1-1]`.
    fn fail(&mut self, error: ClientError) -> ClientError {
        let is_open = matches!(self.phase, Phase::Connecting(_) | Phase::Connected);
        if let (true, ProtocolVersion::V5, Some(reason_code)) =
            (is_open, self.options.version, error.reason_code())
        {
            self.answer(&Packet::Disconnect(crate::packet::Disconnect::new(reason_code)));
        }
        self.phase = Phase::Closing;
        self.cause = Some(Cause::Error(error));
        error
    }

    /// Adds a packet that nothing holds back. Such packets always have bytes.
    fn answer(&mut self, packet: &Packet<'_>) {
        let before = self.output.len();
        let encoded = packet.encode(self.options.version, self.output.bytes());
        debug_assert_eq!(encoded, Ok(()));
        self.answer_bytes += self.output.len() - before;
    }

    fn next_token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }
}
