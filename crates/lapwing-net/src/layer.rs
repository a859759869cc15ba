//! What is between a socket and MQTT: the PROXY protocol, TLS and WebSocket, each where a listener has it.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;

use crate::proxy::{ProxyFault, ProxyReader};
use crate::socket::Socket;
use crate::stream::{ReceiveError, Received};
use crate::tls::{TlsFault, TlsSession};
use crate::websocket::{WebSocketFault, WebSocketSession};

/// Bytes that are encrypted at a time: what a socket does not take of it has to be kept.
const CHUNK: usize = 64 * 1024;
/// What a frame adds to them.
const FRAME_HEADER: usize = 16;

/// Why a connection ends that is not as its listener wants it. Its text is for the log.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Fault(Kind);

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Proxy(#[from] ProxyFault),
    #[error(transparent)]
    Tls(#[from] TlsFault),
    #[error(transparent)]
    WebSocket(#[from] WebSocketFault),
}

#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) proxy: Option<Proxy>,
    /// In a box, since it is large: a connection with WebSocket alone is not to pay for it.
    pub(crate) tls: Option<Box<TlsSession>>,
    pub(crate) websocket: Option<WebSocketSession>,
    /// Bytes that the socket has not taken yet; never more than a chunk and the last of a handshake.
    out: Vec<u8>,
    /// Whether this end's direction ends once these are sent.
    is_finishing: bool,
    /// Whether what comes is not what the listener speaks: it is thrown away.
    has_failed: bool,
}

/// What becomes of the header of a proxy.
#[derive(Debug)]
pub(crate) enum Proxy {
    /// It comes from somebody who may not send one.
    NotListed,
    Reading(ProxyReader),
    /// It has come, and named this client.
    Read(Option<SocketAddr>),
}

/// Room for what is made on the way to a socket: one for each thread, since nothing of it outlives a call.
struct Scratch {
    plaintext: Box<[u8]>,
    ciphertext: Box<[u8]>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

impl Layers {
    pub(crate) fn new(
        proxy: Option<Proxy>,
        tls: Option<Box<TlsSession>>,
        websocket: Option<WebSocketSession>,
    ) -> Self {
        Self { proxy, tls, websocket, out: Vec::new(), is_finishing: false, has_failed: false }
    }

    /// As [`Stream::receive`](crate::Stream::receive).
    pub(crate) fn receive(
        &mut self,
        socket: &mut Socket,
        buffer: &mut [u8],
    ) -> Result<Received, ReceiveError> {
        loop {
            if self.has_ended() {
                return Ok(Received::End);
            }
            if self.has_failed {
                return receive_plain(socket, buffer);
            }
            let at = self.tls.as_mut().map_or(0, |tls| tls.place(buffer));
            let read = socket.read(&mut buffer[at..]);
            let end = at + read.as_ref().copied().unwrap_or_default();
            // Also without new bytes: what was kept goes back.
            let count = self.process(buffer, at, end).map_err(|fault| self.fail(socket, fault))?;
            match read {
                Ok(0) => return Ok(Received::End),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(ReceiveError::Lost(error)),
                },
            }
            let flushed = self.flush(socket);
            if count == 0 {
                flushed.map_err(ReceiveError::Lost)?;
            }
            let is_all = end < buffer.len() && !self.has_ended() && !self.is_failing();
            // However much a peer sends that is nothing, others get their turn.
            return if count == 0 && is_all {
                Ok(Received::Nothing)
            } else {
                Ok(Received::Bytes { count, is_all })
            };
        }
    }

    /// Takes in what a socket had, from `at` to `end`; how many bytes of MQTT are at the front of `buffer` then.
    fn process(&mut self, buffer: &mut [u8], at: usize, mut end: usize) -> Result<usize, Kind> {
        match &mut self.proxy {
            Some(Proxy::NotListed) => return Err(ProxyFault::NotListed.into()),
            Some(Proxy::Reading(reader)) => match reader.read(&buffer[at..end])? {
                Some((used, client)) => {
                    self.proxy = Some(Proxy::Read(client));
                    buffer.copy_within(at + used..end, at);
                    end -= used;
                }
                None => return Ok(0),
            },
            Some(Proxy::Read(_)) | None => {}
        }
        let count = match &mut self.tls {
            Some(tls) => tls.process(buffer, end, &mut self.out)?,
            None => end,
        };
        match &mut self.websocket {
            Some(websocket) => Ok(websocket.process(&mut buffer[..count])?),
            None => Ok(count),
        }
    }

    fn has_ended(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_ended())
            || self.websocket.as_ref().is_some_and(WebSocketSession::has_ended)
    }

    /// Whether a fault is still to be reported.
    fn is_failing(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_failing())
            || self.websocket.as_ref().is_some_and(WebSocketSession::is_failing)
    }

    /// Whether a handshake, whatever its kind, is still under way.
    pub(crate) fn is_opening(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Tells the peer why the connection ends, as far as there is a way to, and ends this direction.
    fn fail(&mut self, socket: &mut Socket, fault: Kind) -> ReceiveError {
        // After an alert nothing more may be said within TLS.
        if !matches!(fault, Kind::Tls(_)) {
            self.gather_reply();
            self.close_tls();
        }
        (self.is_finishing, self.has_failed) = (true, true);
        let _ = self.flush(socket);
        ReceiveError::Fault(Fault(fault))
    }

    /// As [`Stream::finish`](crate::Stream::finish).
    pub(crate) fn finish(&mut self, socket: &mut Socket) {
        if self.is_finishing {
            return;
        }
        if let Some(websocket) = &mut self.websocket {
            websocket.close();
        }
        self.gather_reply();
        self.close_tls();
        self.is_finishing = true;
        // It fails only where the peer has ended the connection already.
        let _ = self.flush(socket);
    }

    fn close_tls(&mut self) {
        if let Some(tls) = self.tls.as_mut().filter(|tls| !tls.is_handshaking()) {
            let mut alert = [0; 256];
            let length = tls.close(&mut alert).unwrap_or_default();
            self.out.extend_from_slice(&alert[..length]);
        }
    }

    /// Moves what WebSocket has to say to what is to be sent, encrypted if need be.
    fn gather_reply(&mut self) {
        let reply = self.websocket.as_mut().map(WebSocketSession::take_reply).unwrap_or_default();
        if reply.is_empty() {
            return;
        }
        let Some(tls) = &mut self.tls else { return self.out.extend(reply) };
        SCRATCH.with_borrow_mut(|scratch| {
            let scratch = scratch.get_or_insert_with(Scratch::new);
            if let Some(length) = tls.encrypt(&reply, &mut scratch.ciphertext) {
                self.out.extend_from_slice(&scratch.ciphertext[..length]);
            }
        });
    }

    /// Sends what is kept, as far as the socket takes it.
    pub(crate) fn flush(&mut self, socket: &mut Socket) -> io::Result<()> {
        loop {
            if self.out.is_empty() {
                self.gather_reply();
            }
            if self.out.is_empty() {
                break;
            }
            match socket.write(&self.out) {
                Ok(count) if count == self.out.len() => self.out = Vec::new(),
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.is_finishing {
            socket.finish();
        }
        Ok(())
    }

    /// Sends bytes of MQTT; how many. What TLS has made of them may still be kept.
    pub(crate) fn write(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        if !self.websocket.as_ref().is_some_and(WebSocketSession::is_within_frame) {
            self.flush(socket)?;
            if !self.out.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        match (&mut self.tls, &mut self.websocket) {
            (Some(tls), websocket) => {
                let count = bytes.len().min(CHUNK);
                SCRATCH.with_borrow_mut(|scratch| {
                    let scratch = scratch.get_or_insert_with(Scratch::new);
                    let ciphertext = scratch.encrypt(tls, websocket.as_mut(), &bytes[..count])?;
                    let sent = write_some(socket, ciphertext)?;
                    self.out.extend_from_slice(&ciphertext[sent..]);
                    Ok(count)
                })
            }
            (None, Some(websocket)) => {
                if !websocket.is_within_frame() {
                    websocket.begin_frame(bytes.len());
                }
                let (header, left) = websocket.frame();
                let part = &bytes[..left.min(bytes.len())];
                let sent = socket.write_vectored(&[IoSlice::new(header), IoSlice::new(part)])?;
                match websocket.advance(sent) {
                    // A part of the header only: the socket is full.
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    count => Ok(count),
                }
            }
            (None, None) => socket.write(bytes),
        }
    }
}

/// Reads what has come, and nothing else.
pub(crate) fn receive_plain(socket: &mut Socket, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
    loop {
        match socket.read(buffer) {
            Ok(0) => return Ok(Received::End),
            Ok(count) => return Ok(Received::Bytes { count, is_all: count < buffer.len() }),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
                io::ErrorKind::Interrupted => {}
                _ => return Err(ReceiveError::Lost(error)),
            },
        }
    }
}

/// How many bytes a socket takes at once, which may be none.
fn write_some(socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

impl Scratch {
    fn new() -> Self {
        let plaintext = vec![0; CHUNK + FRAME_HEADER].into();
        let ciphertext: Box<[u8]> = vec![0; CHUNK + CHUNK / 8].into();
        debug_assert!(TlsSession::capacity(ciphertext.len()) >= CHUNK + FRAME_HEADER);
        Self { plaintext, ciphertext }
    }

    /// At most a chunk, as TLS, and within it as a frame.
    fn encrypt(
        &mut self,
        tls: &mut TlsSession,
        websocket: Option<&mut WebSocketSession>,
        bytes: &[u8],
    ) -> io::Result<&[u8]> {
        let Self { plaintext, ciphertext } = self;
        let bytes = match websocket {
            Some(websocket) => {
                let mut end = 0;
                let mut rest = bytes;
                while !rest.is_empty() {
                    let (payload, after) = rest.split_at(websocket.begin_frame(rest.len()));
                    let (header, _) = websocket.frame();
                    for part in [header, payload] {
                        plaintext[end..end + part.len()].copy_from_slice(part);
                        end += part.len();
                    }
                    websocket.advance(header.len() + payload.len());
                    rest = after;
                }
                &plaintext[..end]
            }
            None => bytes,
        };
        let length = tls.encrypt(bytes, ciphertext);
        Ok(&ciphertext[..length.ok_or(io::ErrorKind::NotConnected)?])
    }
}
