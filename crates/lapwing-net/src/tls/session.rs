//! One TLS connection of a server, without input or output: bytes in, bytes out.
//!
//! rustls offers two ways. With the one that buffers, an idle connection keeps 7.7 KB; this is the other one, which keeps
//! nothing but a record that has arrived in part.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{AlertDescription, CertificateError, HandshakeKind};

/// Space in front of the ciphertext, for the plaintext of one record: what is behind it has been taken in by then.
const HEADROOM: usize = 18 * 1024;
/// What a record adds to its plaintext, at most.
const RECORD_OVERHEAD: usize = 64;
/// Plaintext of a record.
const RECORD: usize = 16 * 1024;
/// With which the first record of TLS begins.
const HANDSHAKE: u8 = 0x16;
/// With which a CONNECT begins.
const CONNECT: u8 = 0x10;

/// Ciphertext that is kept of a record, or of a message of a handshake, which rustls lets have 64 KiB.
const TAIL_MAXIMUM: usize = 96 * 1024;
/// The buffer that [`TlsSession::place`] and [`TlsSession::process`] work in has at least this size.
pub(crate) const BUFFER_MINIMUM: usize = 2 * TAIL_MAXIMUM;

pub(crate) struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Ciphertext that has arrived and is not yet whole.
    tail: Vec<u8>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    phase: Phase,
    /// What came behind plaintext that has been given.
    fault: Option<rustls::Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte has come.
    Fresh,
    Handshake,
    Open,
    /// The peer has said that nothing more comes.
    PeerClosed,
}

/// Why a TLS connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFault {
    #[error(
        "this looks like MQTT without TLS, and this listener speaks TLS only; connect with mqtts:// or give the CA"
    )]
    PlainMqtt,
    #[error("this looks like HTTP, and this listener speaks TLS")]
    PlainHttp,
    #[error("what came is not TLS, and this listener speaks TLS only")]
    NotTls,
    #[error("TLS: {}", explain(.0))]
    Protocol(#[from] rustls::Error),
    #[error("TLS: a message of the handshake is too large")]
    Size,
}

impl TlsSession {
    pub(crate) fn new(
        config: Arc<ServerConfig>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, tail: Vec::new(), verifier, phase: Phase::Fresh, fault: None })
    }

    /// Puts what was kept into `buffer`; from where on what comes next has its place.
    pub(crate) fn place(&mut self, buffer: &mut [u8]) -> usize {
        let tail = std::mem::take(&mut self.tail);
        let start = HEADROOM + tail.len();
        buffer[HEADROOM..start].copy_from_slice(&tail);
        start
    }

    /// Takes in the ciphertext up to `end`; how many bytes of plaintext are at the front of `buffer` then. What is to be
    /// sent goes to `out`, also where there is an error: the alert that says so.
    pub(crate) fn process(
        &mut self,
        buffer: &mut [u8],
        end: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, TlsFault> {
        if let Some(error) = self.fault.take() {
            return Err(error.into());
        }
        if self.phase == Phase::Fresh && end > HEADROOM {
            recognise(&buffer[HEADROOM..end])?;
            self.phase = Phase::Handshake;
        }
        let (mut start, mut plaintext) = (HEADROOM, 0);
        let mut fault = None;
        loop {
            let (front, incoming) = buffer.split_at_mut(start);
            let incoming = &mut incoming[..end - start];
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(incoming);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let room = front.get_mut(plaintext..plaintext + record.payload.len());
                        room.ok_or(TlsFault::Size)?.copy_from_slice(record.payload);
                        plaintext += record.payload.len();
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, out);
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.phase = Phase::PeerClosed;
                    true
                }
                Ok(_) => false,
                Err(error) => {
                    fault = Some(error);
                    false
                }
            };
            start += discard;
            if !goes_on {
                break;
            }
        }
        if let Some(error) = fault {
            self.take_alert(&mut buffer[start..end], out);
            // So that it does not matter whether they came together.
            let is_open = plaintext > 0 && self.phase == Phase::Open;
            return if is_open {
                self.fault = Some(error);
                Ok(plaintext)
            } else {
                Err(error.into())
            };
        }
        if end - start > TAIL_MAXIMUM {
            return Err(TlsFault::Size);
        }
        if start < end {
            self.tail = buffer[start..end].to_vec();
        }
        if self.phase == Phase::Handshake && !self.connection.is_handshaking() {
            self.phase = Phase::Open;
            self.verify_again()?;
        }
        Ok(plaintext)
    }

    /// What an error has left to be sent, and no more: what has come is not looked at again.
    fn take_alert(&mut self, incoming: &mut [u8], out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(incoming).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => break,
            }
        }
    }

    /// A client that comes back with a ticket shows no certificate: the one of its first session is in the ticket. What has
    /// become of it meanwhile, the ticket does not know.
    fn verify_again(&self) -> Result<(), TlsFault> {
        if let (Some(verifier), Some(HandshakeKind::Resumed)) =
            (&self.verifier, self.connection.handshake_kind())
        {
            match self.connection.peer_certificates() {
                Some([leaf, between @ ..]) => {
                    verifier.verify_client_cert(leaf, between, UnixTime::now())?;
                }
                _ if verifier.client_auth_mandatory() => {
                    return Err(rustls::Error::NoCertificatesPresented.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the next call of [`process`](Self::process) gives an error, whatever comes.
    pub(crate) fn is_failing(&self) -> bool {
        self.fault.is_some()
    }

    /// Whether the handshake is still under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Handshake)
    }

    /// Whether the peer has said that nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.phase == Phase::PeerClosed
    }

    /// The certificate of the client.
    pub(crate) fn client_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(CertificateDer::as_ref)
    }

    /// How many bytes can be encrypted into a buffer of this size.
    pub(crate) fn capacity(buffer: usize) -> usize {
        let overhead = (buffer / RECORD + 2) * RECORD_OVERHEAD;
        buffer.saturating_sub(overhead)
    }

    /// Encrypts into `into`, which has room for it by [`capacity`](Self::capacity); how many bytes that are. None as long as
    /// the handshake is under way.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8], into: &mut [u8]) -> Option<usize> {
        self.write(into, |traffic, into| traffic.encrypt(plaintext, into).ok())
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn close(&mut self, into: &mut [u8]) -> Option<usize> {
        self.write(into, |traffic, into| traffic.queue_close_notify(into).ok())
    }

    fn write(
        &mut self,
        into: &mut [u8],
        write: impl FnOnce(&mut Traffic<'_>, &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        if self.fault.is_some() {
            return None;
        }
        let mut length = 0;
        loop {
            // Nothing is whole in it, so that nothing is read: rustls has offsets in it.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.tail);
            match state {
                // An answer to the peer's new keys goes first.
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    length += data.encode(&mut into[length..]).ok()?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    length += write(&mut traffic, &mut into[length..])?;
                    self.tail.drain(..discard);
                    return Some(length);
                }
                _ => return None,
            }
            self.tail.drain(..discard);
        }
    }
}

type Traffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// Says what came instead of TLS.
fn recognise(bytes: &[u8]) -> Result<(), TlsFault> {
    match bytes {
        [HANDSHAKE, ..] => Ok(()),
        [CONNECT, ..] => Err(TlsFault::PlainMqtt),
        [b'G' | b'P' | b'H' | b'O' | b'D', second, ..] if second.is_ascii_uppercase() => {
            Err(TlsFault::PlainHttp)
        }
        _ => Err(TlsFault::NotTls),
    }
}

/// Adds a part of a handshake to `out`.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let at = out.len();
    // The first call says how much room is needed.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(at + size.required_size, 0);
        let written = data.encode(&mut out[at..]).unwrap_or_default();
        out.truncate(at + written);
    }
}

/// What to do about an error, where that is known.
pub(crate) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => explain_certificate(error),
        rustls::Error::NoCertificatesPresented => {
            "the client showed no certificate, and this listener asks for one (tls.client_certificate)".into()
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA | AlertDescription::BadCertificate => {
                "the other end does not trust the certificate that it was shown: does it have the right CA?"
                    .into()
            }
            AlertDescription::CertificateUnknown => {
                "the other end does not accept the certificate that it was shown: \
                 wrong host name, expired, or an unknown CA?"
                    .into()
            }
            AlertDescription::CertificateRequired => {
                "the other end asks for a certificate, and none was shown".into()
            }
            _ => format!("the other end refuses: {error}"),
        },
        rustls::Error::NoApplicationProtocol => {
            "the client speaks another protocol (ALPN) than this listener".into()
        }
        rustls::Error::InvalidMessage(_) => format!("what came is not TLS ({error})"),
        error => error.to_string(),
    }
}

fn explain_certificate(error: &CertificateError) -> String {
    let fault = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; are the clocks right?".into()
        }
        // Another authority of the same name is another authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority that is trusted here has signed it".into()
        }
        CertificateError::Revoked => "it has been revoked".into(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is for another host ({error})")
        }
        error if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "it is that of an authority, which signs others and shows none itself (openssl req -x509 makes such)".into()
        }
        error if format!("{error:?}").contains("UnsupportedCertVersion") => {
            "it is of version 1 of X.509; make it anew with extensions (openssl x509 -req -extfile ...)"
                .into()
        }
        error => error.to_string(),
    };
    format!("the certificate of the other end is refused: {fault}")
}

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSession")
            .field("phase", &self.phase)
            .field("tail", &self.tail.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::prelude::*;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::super::provider;
    use super::*;

    /// Both ends, with nothing but memory between them.
    struct Pair {
        client: ClientConnection,
        server: TlsSession,
        buffer: Vec<u8>,
        received: Vec<u8>,
        answered: Vec<u8>,
        /// Sizes of the pieces in which the server gets what the client sends.
        pieces: Vec<usize>,
        turn: usize,
    }

    fn pair(version: &'static rustls::SupportedProtocolVersion, pieces: Vec<usize>) -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Pair {
            client: ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap())
                .unwrap(),
            server: TlsSession::new(Arc::new(server), None).unwrap(),
            buffer: vec![0; BUFFER_MINIMUM],
            received: Vec::new(),
            answered: Vec::new(),
            pieces,
            turn: 0,
        }
    }

    impl Pair {
        /// Lets what both have said reach the other end.
        fn exchange(&mut self) -> Result<(), TlsFault> {
            loop {
                let mut sent = Vec::new();
                while self.client.wants_write() {
                    self.client.write_tls(&mut sent).unwrap();
                }
                let mut answer = Vec::new();
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let size = self.pieces[self.turn % self.pieces.len()].min(rest.len());
                    self.turn += 1;
                    let at = self.server.place(&mut self.buffer);
                    self.buffer[at..at + size].copy_from_slice(&rest[..size]);
                    let count = self.server.process(&mut self.buffer, at + size, &mut answer)?;
                    self.received.extend_from_slice(&self.buffer[..count]);
                    rest = &rest[size..];
                }
                if answer.is_empty() {
                    return Ok(());
                }
                self.take(&answer);
            }
        }

        fn take(&mut self, mut ciphertext: &[u8]) {
            while !ciphertext.is_empty() {
                self.client.read_tls(&mut ciphertext).unwrap();
                let state = self.client.process_new_packets().unwrap();
                let at = self.answered.len();
                self.answered.resize(at + state.plaintext_bytes_to_read(), 0);
                self.client.reader().read_exact(&mut self.answered[at..]).unwrap();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn bytes_are_the_same_however_their_records_are_split(
            is_old in any::<bool>(),
            pieces in prop::collection::vec(prop_oneof![1_usize..8, 1_usize..40_000], 1..8),
            messages in prop::collection::vec((any::<u8>(), 0_usize..40_000), 1..6),
        ) {
            let version = if is_old { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
            let mut pair = pair(version, pieces);
            pair.exchange().unwrap();
            prop_assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
            let mut expected = Vec::new();
            for (byte, length) in messages {
                let message = vec![byte; length];
                pair.client.writer().write_all(&message).unwrap();
                pair.exchange().unwrap();
                expected.extend(message);
            }
            prop_assert_eq!(&pair.received, &expected);
            // Nothing is kept of what is whole, and the other direction works as well.
            prop_assert_eq!(pair.server.tail.capacity(), 0);
            for chunk in expected.chunks(60_000) {
                let mut ciphertext = vec![0; 70_000];
                let length = pair.server.encrypt(chunk, &mut ciphertext).unwrap();
                prop_assert!(TlsSession::capacity(ciphertext.len()) >= chunk.len());
                pair.take(&ciphertext[..length]);
            }
            prop_assert_eq!(&pair.answered, &expected);
            pair.client.send_close_notify();
            pair.exchange().unwrap();
            prop_assert!(pair.server.has_ended());
        }

        // [attack: tls-garbage]
        #[test]
        fn anything_else_is_an_error_and_no_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 1..2000),
            is_like_tls in any::<bool>(),
        ) {
            let mut pair = pair(&rustls::version::TLS13, vec![1]);
            if is_like_tls {
                let length = bytes.len().min(5);
                bytes[..length].copy_from_slice(&[22, 3, 1, 0, 80][..length]);
            }
            for piece in bytes.chunks(7) {
                let at = pair.server.place(&mut pair.buffer);
                pair.buffer[at..at + piece.len()].copy_from_slice(piece);
                match pair.server.process(&mut pair.buffer, at + piece.len(), &mut Vec::new()) {
                    Ok(count) => prop_assert_eq!(count, 0),
                    Err(_) => return Ok(()),
                }
            }
            prop_assert!(pair.server.is_handshaking());
        }
    }

    #[test]
    fn an_answer_waits_for_the_handshake() {
        let mut pair = pair(&rustls::version::TLS13, vec![100]);
        assert_eq!(pair.server.encrypt(b"too early", &mut [0; 1000]), None);
        assert_eq!(pair.server.close(&mut [0; 1000]), None);
        pair.exchange().unwrap();
        assert!(pair.server.encrypt(b"now", &mut [0; 1000]).is_some());
    }

    #[test]
    fn a_fault_leaves_one_alert() {
        let mut pair = pair(&rustls::version::TLS13, vec![100]);
        // A ClientHello that ends too early.
        let bytes = [&b"\x16\x03\x01\0\x20\x01\0\0\x1c"[..], &[0xff; 28]].concat();
        let at = pair.server.place(&mut pair.buffer);
        pair.buffer[at..at + bytes.len()].copy_from_slice(&bytes);
        let mut out = Vec::new();
        pair.server.process(&mut pair.buffer, at + bytes.len(), &mut out).unwrap_err();
        assert_eq!(out, b"\x15\x03\x03\0\x02\x02\x32", "fatal, decode_error");
    }

    #[test]
    fn what_came_instead_of_tls_is_named() {
        for (bytes, part) in [
            (&b"\x10\x0d\0\x04MQTT"[..], "MQTT without TLS"),
            (b"GET / HTTP/1.1\r\n", "HTTP"),
            (b"\0\0\0\0", "not TLS"),
        ] {
            let mut pair = pair(&rustls::version::TLS13, vec![100]);
            let at = pair.server.place(&mut pair.buffer);
            pair.buffer[at..at + bytes.len()].copy_from_slice(bytes);
            let fault = pair.server.process(&mut pair.buffer, at + bytes.len(), &mut Vec::new()).unwrap_err();
            assert!(fault.to_string().contains(part), "{fault}");
        }
    }
}
