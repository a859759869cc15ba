//! A client's session and the connections that it has one after the other, without waiting for anything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lapwing_client::{CleanStart, ConnectOptions, ProtocolVersion};
use lapwing_net::Stream;
use lapwing_proto::packet::ReasonCode;
use lapwing_proto::session::{ClientSession, Connected, Event, OptionError};
use mio::{Interest, Registry, Token};

/// How long to wait before another attempt to connect.
const RETRY: Duration = Duration::from_millis(10);
/// The same for who waits for the broker's first answer.
const EARLY_RETRY: Duration = Duration::from_millis(1);
/// How long a broker may take from CONNECT to CONNACK before another attempt.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Reads from one connection before the others have their turn.
const READS: usize = 4;
/// Seconds for which a session outlives its connection: longer than any run.
const SESSION_EXPIRY_INTERVAL: u32 = 7 * 24 * 3600;

/// What all connections of a run need.
pub(super) struct Network {
    pub(super) registry: Registry,
    pub(super) address: SocketAddr,
    /// The origin of the sessions' time.
    pub(super) origin: Instant,
    pub(super) buffer: Box<[u8]>,
    /// Whether the broker has answered CONNECT since it was started.
    pub(super) is_up: bool,
}

impl Network {
    fn session_time(&self, now: Instant) -> lapwing_proto::session::Instant {
        let elapsed = now.saturating_duration_since(self.origin).as_millis();
        lapwing_proto::session::Instant::from_millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

/// How clients come in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) version: ProtocolVersion,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Login {
    /// For a client whose session is to outlive its connections and the broker's process.
    pub(super) fn durable(&self, client_id: String, window: u16) -> ConnectOptions {
        let mut options = self.clean(client_id);
        options.clean_start = CleanStart::Never;
        options.session_expiry_interval = SESSION_EXPIRY_INTERVAL;
        options.limits.send_maximum = window.try_into().unwrap_or(options.limits.send_maximum);
        options
    }

    /// For a client without a past and a future.
    pub(super) fn clean(&self, client_id: String) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.version, client_id);
        options.user_name.clone_from(&self.user);
        options.password = self.password.clone().map(String::into_bytes);
        options.connack_timeout = CONNACK_TIMEOUT;
        options.limits.stored_bytes = usize::MAX;
        options.limits.stored_messages = usize::MAX;
        options
    }
}

/// A client.
pub(super) struct Connection {
    pub(super) session: ClientSession,
    token: Token,
    stream: Option<Stream>,
    is_readable: bool,
    /// Whether it connects again when it is not connected.
    pub(super) is_wanted: bool,
    /// Whether it connects also while nobody knows that the broker is there.
    pub(super) is_early: bool,
    retry_at: Option<Instant>,
    /// After that many bytes more the connection is cut, or at that time.
    cut: Option<(usize, Instant)>,
    /// Whether the broker has accepted it before, and so owes it a session.
    has_session: bool,
    /// The broker's last refusal, for who waits in vain.
    pub(super) refusal: Option<ReasonCode>,
}

impl Connection {
    pub(super) fn new(options: ConnectOptions, token: Token) -> Result<Self, OptionError> {
        Ok(Self {
            session: ClientSession::new(options)?,
            token,
            stream: None,
            is_readable: false,
            is_wanted: true,
            is_early: false,
            retry_at: None,
            cut: None,
            has_session: false,
            refusal: None,
        })
    }

    pub(super) fn client_id(&self) -> &str {
        self.session.client_id()
    }

    /// Whether there is no transport.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.is_none()
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// The poll has said so.
    pub(super) fn ready(&mut self) {
        self.is_readable = true;
    }

    /// Connects where that is wanted, and reads what is there.
    pub(super) fn advance(&mut self, network: &mut Network, now: Instant) {
        let is_due = self.retry_at.is_none_or(|at| at <= now);
        if self.stream.is_none() && self.is_wanted && is_due && (network.is_up || self.is_early) {
            self.open(network, now);
        }
        self.read(network, now);
        let time = network.session_time(now);
        if self.session.poll_timeout().is_some_and(|at| at <= time) {
            // An error closes the connection below.
            let _ = self.session.handle_timeout(time);
        }
    }

    fn open(&mut self, network: &Network, now: Instant) {
        self.retry_at = Some(now + if self.is_early { EARLY_RETRY } else { RETRY });
        let opened = Stream::connect(network.address).and_then(|mut stream| {
            network.registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        // Where nobody listens, there is another attempt.
        let Ok(stream) = opened else { return };
        self.stream = Some(stream);
        self.is_readable = false;
        self.session.connected(network.session_time(now));
    }

    fn read(&mut self, network: &mut Network, now: Instant) {
        let time = network.session_time(now);
        for _ in 0..READS {
            if !self.is_readable || !self.session.wants_input() {
                return;
            }
            let Some(stream) = &mut self.stream else { return };
            match stream.read(&mut network.buffer) {
                Ok(0) => self.close(now),
                Ok(count) => {
                    // An error closes the connection when the output is written.
                    let _ = self.session.receive(&network.buffer[..count], time);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_pending(&error) => self.is_readable = false,
                Err(_) => self.close(now),
            }
        }
    }

    /// Whether bytes wait to be read: the poll must not.
    pub(super) fn is_busy(&self) -> bool {
        self.stream.is_some() && self.is_readable
    }

    /// The next event. A refusal and a session that the broker owes are remembered here.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = self.session.poll_event()?;
        match &event {
            Event::Refused(packet) => {
                self.refusal = packet.connack().map(|connack| connack.reason_code);
            }
            Event::Connected(_) => self.refusal = None,
            _ => {}
        }
        Some(event)
    }

    /// Whether the broker has forgotten the session that it had promised to keep.
    pub(super) fn loses_session(&mut self, connected: &Connected) -> bool {
        std::mem::replace(&mut self.has_session, true) && !connected.resumed
    }

    /// Writes what there is to write, as far as that is possible now.
    pub(super) fn flush(&mut self, network: &Network, now: Instant) {
        let time = network.session_time(now);
        while let Some(stream) = &mut self.stream {
            let output = self.session.output();
            let room = self.cut.map_or(usize::MAX, |(bytes, _)| bytes);
            let is_cut = room < output.len() || self.cut.is_some_and(|(_, at)| at <= now);
            let piece = &output[..output.len().min(room)];
            if !piece.is_empty() {
                match stream.write(piece) {
                    Ok(count) => {
                        self.session.consume(count, time);
                        self.cut = self.cut.map(|(bytes, at)| (bytes - count.min(bytes), at));
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if is_pending(&error) && !is_cut => return,
                    // What the broker has sent before is still read; that gives the error, too.
                    Err(_) if !is_cut => return self.is_readable = true,
                    Err(_) => return self.close(now),
                }
                continue;
            }
            if is_cut {
                return self.abort(now);
            }
            if self.session.is_closing() {
                self.close(now);
            }
            return;
        }
    }

    /// The connection is to be lost after `bytes` bytes more, or at `at`.
    pub(super) fn cut_after(&mut self, bytes: usize, at: Instant) {
        self.cut = Some((bytes, at));
    }

    /// Loses the connection now.
    pub(super) fn abort(&mut self, now: Instant) {
        if let Some(stream) = self.stream.take() {
            stream.abort();
        }
        self.close(now);
    }

    /// Says good-bye, and does not come back.
    pub(super) fn leave(&mut self) {
        self.is_wanted = false;
        // Without a connection there is nothing to end.
        let _ = self.session.disconnect(ReasonCode::Success, None);
    }

    fn close(&mut self, now: Instant) {
        self.stream = None;
        self.cut = None;
        self.is_readable = false;
        self.retry_at = Some(now + if self.is_early { EARLY_RETRY } else { RETRY });
        self.session.disconnected();
    }
}

/// Whether it is only too early.
fn is_pending(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
