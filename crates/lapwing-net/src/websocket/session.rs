//! One WebSocket of a server, without input or output.

use std::sync::Arc;

use super::frame::{self, FrameFault, FrameReader, Role};
use super::upgrade::{HEAD_MAXIMUM, Refusal, WebSocketConfig, answer, head_length, refusal};

/// Bytes of a frame to a client at most: a browser shows a script nothing of a message before it has all of it.
const FRAME_MAXIMUM: usize = 0xffff;

#[derive(Debug)]
pub(crate) struct WebSocketSession {
    state: State,
    reader: FrameReader,
    /// What is to be sent before the next frame: the answer to the request, a close frame.
    reply: Vec<u8>,
    /// And behind that. Of several pings the last one is answered (RFC 6455, 5.5.3): so no peer can make this grow.
    pong: Vec<u8>,
    /// Of the header of the frame that is being sent, what is still to be sent.
    header: Vec<u8>,
    /// Bytes that are still to come in that frame.
    frame_left: usize,
}

#[derive(Debug)]
enum State {
    /// The request has not all come.
    Upgrading(Box<Upgrade>),
    Open,
    /// The peer has closed.
    PeerClosed,
    /// Nothing more is sent.
    Closed,
}

#[derive(Debug)]
struct Upgrade {
    head: Vec<u8>,
    path: Arc<str>,
    config: Arc<WebSocketConfig>,
}

/// Why a WebSocket ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebSocketFault {
    #[error("WebSocket: refused with {}: {}", .0.status, .0.reason)]
    Refused(Refusal),
    #[error("this looks like MQTT without WebSocket, and this listener speaks WebSocket only")]
    PlainMqtt,
    #[error("this looks like TLS, and this listener speaks WebSocket without TLS")]
    Tls,
    #[error("WebSocket: {0}")]
    Frame(#[from] FrameFault),
}

impl WebSocketSession {
    pub(crate) fn new(path: Arc<str>, config: Arc<WebSocketConfig>) -> Self {
        Self {
            state: State::Upgrading(Box::new(Upgrade { head: Vec::new(), path, config })),
            reader: FrameReader::new(Role::Server),
            reply: Vec::new(),
            pong: Vec::new(),
            header: Vec::new(),
            frame_left: 0,
        }
    }

    /// Takes in bytes; how many of MQTT are at the front of them then. Where there is an error, [`take_reply`](Self::take_reply)
    /// has what the client is told.
    pub(crate) fn process(&mut self, bytes: &mut [u8]) -> Result<usize, WebSocketFault> {
        let State::Upgrading(upgrade) = &mut self.state else { return self.read(bytes) };
        let have = upgrade.head.len();
        if have == 0 {
            recognise(bytes)?;
        }
        // The empty line may have come in part.
        let taken = bytes.len().min(HEAD_MAXIMUM + 1 - have);
        upgrade.head.extend_from_slice(&bytes[..taken]);
        let searched = have.saturating_sub(3);
        let found = head_length(&upgrade.head[searched..]);
        let answered = match found.map(|length| searched + length) {
            Some(length) if length <= HEAD_MAXIMUM => {
                answer(&upgrade.head[..length], &upgrade.path, &upgrade.config).map(|answer| (length, answer))
            }
            None if upgrade.head.len() <= HEAD_MAXIMUM => return Ok(0),
            _ => Err(refusal("431 Request Header Fields Too Large", "The request is longer than 8 KiB.")),
        };
        match answered {
            Ok((length, answer)) => {
                self.reply = answer;
                self.state = State::Open;
                let rest = length - have;
                bytes.copy_within(rest.., 0);
                let end = bytes.len() - rest;
                self.read(&mut bytes[..end])
            }
            Err(refusal) => {
                self.reply = refusal.response();
                self.state = State::Closed;
                Err(WebSocketFault::Refused(refusal))
            }
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, WebSocketFault> {
        if !matches!(self.state, State::Open) {
            return Ok(0);
        }
        let intake = match self.reader.read(bytes) {
            Ok(intake) => intake,
            Err(fault) => {
                self.say_close(Some(fault.code()));
                self.state = State::Closed;
                return Err(fault.into());
            }
        };
        if let Some(ping) = intake.ping {
            self.pong = frame::pong(&ping, None);
        }
        if let Some(code) = intake.close {
            self.say_close(code);
            self.state = State::PeerClosed;
        }
        Ok(intake.count)
    }

    /// Whether the next call of [`process`](Self::process) gives an error, whatever comes.
    pub(crate) fn is_failing(&self) -> bool {
        matches!(self.state, State::Open) && self.reader.is_failing()
    }

    /// Whether the peer has closed.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::PeerClosed)
    }

    /// What goes before the next frame; nothing while one is being sent.
    pub(crate) fn take_reply(&mut self) -> Vec<u8> {
        if self.is_within_frame() {
            return Vec::new();
        }
        let mut reply = std::mem::take(&mut self.reply);
        reply.append(&mut self.pong);
        reply
    }

    /// A close frame goes behind everything else.
    fn say_close(&mut self, code: Option<u16>) {
        self.reply.append(&mut self.pong);
        self.reply.extend(frame::close(code, None));
    }

    /// Whether what comes next belongs to a frame that has begun.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.frame_left > 0
    }

    /// Begins a frame with as many of `available` bytes as one may have; how many that are.
    pub(crate) fn begin_frame(&mut self, available: usize) -> usize {
        self.frame_left = available.min(FRAME_MAXIMUM);
        let (header, length) = frame::header(self.frame_left, None);
        self.header.clear();
        self.header.extend_from_slice(&header[..length]);
        self.frame_left
    }

    /// What is left of the header, and how many bytes are to follow.
    pub(crate) fn frame(&self) -> (&[u8], usize) {
        (&self.header, self.frame_left)
    }

    /// So many bytes have been sent, of the header first; how many of them were of the payload.
    pub(crate) fn advance(&mut self, count: usize) -> usize {
        let of_header = count.min(self.header.len());
        self.header.drain(..of_header);
        let of_payload = count - of_header;
        self.frame_left -= of_payload;
        if self.frame_left == 0 {
            self.header = Vec::new();
        }
        of_payload
    }

    /// Tells the peer that nothing more comes, unless it has closed itself or the upgrade is not done.
    pub(crate) fn close(&mut self) {
        if matches!(self.state, State::Open) && !self.is_within_frame() {
            self.say_close(Some(1000));
        }
        self.state = State::Closed;
    }
}

/// What plainly is no request is not waited for.
fn recognise(bytes: &[u8]) -> Result<(), WebSocketFault> {
    match bytes.first() {
        Some(0x10) => Err(WebSocketFault::PlainMqtt),
        Some(0x16) => Err(WebSocketFault::Tls),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::upgrade::{client_key, request};
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn session() -> WebSocketSession {
        WebSocketSession::new("/mqtt".into(), Arc::default())
    }

    fn opening() -> Vec<u8> {
        request("localhost", "/mqtt", &client_key([7; 16]))
    }

    fn open() -> WebSocketSession {
        let mut session = session();
        assert_eq!(session.process(&mut opening()).unwrap(), 0);
        assert!(session.take_reply().starts_with(b"HTTP/1.1 101 "));
        session
    }

    fn data(payload: &[u8]) -> Vec<u8> {
        let (header, length) = frame::header(payload.len(), Some(MASK));
        let mut bytes = [&header[..length], payload].concat();
        frame::unmask(&mut bytes[length..], MASK);
        bytes
    }

    fn ping(payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame::pong(payload, Some(MASK));
        bytes[0] = 0x89;
        bytes
    }

    proptest! {
        #[test]
        fn an_upgrade_and_what_follows_may_be_split_anywhere(size in 1_usize..400) {
            let mut session = session();
            let mut received = Vec::new();
            for piece in [opening(), data(b"one"), data(b"two")].concat().chunks(size) {
                let mut piece = piece.to_vec();
                let count = session.process(&mut piece).unwrap();
                received.extend_from_slice(&piece[..count]);
            }
            prop_assert_eq!(received, b"onetwo");
            prop_assert!(session.take_reply().starts_with(b"HTTP/1.1 101 "));
        }
    }

    // [attack: websocket-header-flood]
    #[test]
    fn a_request_has_a_limit() {
        let mut session = session();
        let mut piece = vec![b'x'; 1000];
        let mut refused = None;
        for _ in 0..9 {
            refused = session.process(&mut piece).err();
        }
        assert!(matches!(refused, Some(WebSocketFault::Refused(_))), "{refused:?}");
        assert!(session.take_reply().starts_with(b"HTTP/1.1 431 "));
    }

    // [attack: websocket-ping-flood]
    #[test]
    fn of_several_pings_the_last_is_answered_and_no_frame_is_broken() {
        let mut session = open();
        session.begin_frame(10);
        session.advance(5);
        assert!(session.is_within_frame());
        for _ in 0..1000 {
            session.process(&mut ping(b"first")).unwrap();
        }
        session.process(&mut ping(b"last")).unwrap();
        assert_eq!(session.take_reply(), b"", "a frame is being sent");
        session.advance(7);
        assert_eq!(session.take_reply(), frame::pong(b"last", None));
        assert_eq!(session.take_reply(), b"");
    }

    // [MQTT-6.0.0-1]
    // 3.1.1 [MQTT-6.0.0-1]
    #[test]
    fn a_text_frame_ends_the_connection() {
        let mut session = open();
        let mut text = data(b"text");
        text[0] = 0x81;
        assert!(matches!(session.process(&mut text), Err(WebSocketFault::Frame(FrameFault::Text))));
        assert_eq!(session.take_reply(), frame::close(Some(1003), None));
        assert_eq!(session.process(&mut data(b"more")).unwrap(), 0);
    }

    #[test]
    fn a_close_is_answered_and_said_once() {
        let mut session = open();
        session.process(&mut ping(b"p")).unwrap();
        let mut close = frame::close(Some(1001), Some(MASK));
        assert_eq!(session.process(&mut close).unwrap(), 0);
        assert!(session.has_ended());
        session.close();
        let answer = [frame::pong(b"p", None), frame::close(Some(1001), None)].concat();
        assert_eq!(session.take_reply(), answer);
        let mut other = open();
        other.close();
        other.close();
        assert_eq!(other.take_reply(), frame::close(Some(1000), None));
    }

    #[test]
    fn a_frame_ends_where_its_header_says_however_it_is_sent() {
        let mut session = open();
        assert_eq!(session.begin_frame(200_000), 65_535);
        assert_eq!(session.frame(), (&[0x82, 126, 0xff, 0xff][..], 65_535));
        assert_eq!(session.advance(3), 0);
        assert_eq!(session.frame(), (&[0xff][..], 65_535));
        assert_eq!(session.advance(1 + 65_534), 65_534);
        assert!(session.is_within_frame());
        assert_eq!(session.advance(1), 1);
        assert!(!session.is_within_frame());
    }

    #[test]
    fn what_is_plainly_something_else_is_named() {
        for (bytes, part) in [(&b"\x10\x0d\0\x04MQTT"[..], "MQTT without"), (b"\x16\x03\x01", "TLS")] {
            let fault = session().process(&mut bytes.to_vec()).unwrap_err();
            assert!(fault.to_string().contains(part), "{fault}");
        }
    }
}
