use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::tls::{ClientTls, TlsError, explain};
use crate::websocket::WebSocketClient;
use crate::{Address, Scheme};

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host stands for no address.
    #[error("cannot connect to {0}: the host name is not known ({1})")]
    Resolve(Address, io::Error),
    /// Nothing listens there.
    #[error("cannot connect to {0}: connection refused; is a broker running there?")]
    Refused(Address),
    /// No answer.
    #[error("cannot connect to {0}: no answer within {1:?}")]
    Timeout(Address, Duration),
    /// The client's own files are wrong.
    #[error("cannot connect to {0}: {1}")]
    Files(Address, Box<TlsError>),
    /// The host is no name that a certificate can have.
    #[error("cannot connect to {0}: no certificate can be for a host of this name")]
    ServerName(Address),
    /// The two ends do not trust each other, or what answers there does not speak TLS.
    #[error("cannot connect to {0}: {1}")]
    Tls(Address, String),
    /// What answers there does not speak WebSocket, or not at this path.
    #[error("cannot connect to {0}: there is no MQTT over WebSocket: {1}")]
    WebSocket(Address, String),
    /// Anything else.
    #[error("cannot connect to {0}: {1}")]
    Other(Address, io::Error),
}

/// A connection to a server whose reads and writes wait.
#[derive(Debug)]
pub struct BlockingStream {
    transport: Transport,
    websocket: Option<WebSocketClient>,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl BlockingStream {
    /// Connects to the first of the socket addresses of `address` that answers, waiting at most `timeout` for
    /// each. With TLS, the authorities of the system are trusted.
    pub fn dial(address: &Address, timeout: Duration) -> Result<Self, DialError> {
        Self::dial_with(address, timeout, &ClientTls::default())
    }

    /// As [`dial`](Self::dial), with this use of TLS where the address asks for TLS.
    pub fn dial_with(address: &Address, timeout: Duration, tls: &ClientTls) -> Result<Self, DialError> {
        let scheme = address.scheme();
        // Before anybody is bothered: wrong files are wrong whoever listens.
        let session = if scheme.is_secure() {
            Some(tls.session(address.host(), scheme.is_websocket()).map_err(|error| match error {
                Some(error) => DialError::Files(address.clone(), Box::new(error)),
                None => DialError::ServerName(address.clone()),
            })?)
        } else {
            None
        };
        let fail = |error: io::Error| explain_dial(address, timeout, error);
        let transport = match address.file() {
            Some(path) => Transport::Unix(UnixStream::connect(path).map_err(fail)?),
            None => Transport::Tcp(dial_tcp(address, timeout)?),
        };
        let mut stream = Self { transport, websocket: None };
        stream.set_read_timeout(Some(timeout)).map_err(fail)?;
        if let Some(session) = session {
            stream.begin_tls(session, address, timeout)?;
        }
        if scheme.is_websocket() {
            let (path, host) = (address.websocket_path(), authority(address));
            let upgraded = WebSocketClient::upgrade(&mut stream.transport, &host, path);
            stream.websocket = Some(upgraded.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => DialError::WebSocket(address.clone(), error.to_string()),
                _ => fail(error),
            })?);
        }
        Ok(stream)
    }

    fn begin_tls(
        &mut self,
        mut session: ClientConnection,
        address: &Address,
        timeout: Duration,
    ) -> Result<(), DialError> {
        let Transport::Tcp(socket) = &mut self.transport else { return Ok(()) };
        let deadline = Instant::now() + timeout;
        while session.is_handshaking() {
            if let Err(error) = session.complete_io(socket) {
                return Err(match error.get_ref().and_then(|error| error.downcast_ref()) {
                    Some(error) => DialError::Tls(address.clone(), explain(error)),
                    None if error.kind() == io::ErrorKind::UnexpectedEof => {
                        DialError::Tls(address.clone(), "it closed the connection; does it speak TLS?".into())
                    }
                    None => explain_dial(address, timeout, error),
                });
            }
            if Instant::now() > deadline {
                return Err(DialError::Timeout(address.clone(), timeout));
            }
        }
        let socket = socket.try_clone().map_err(|error| DialError::Other(address.clone(), error))?;
        self.transport = Transport::Tls(Box::new(StreamOwned::new(session, socket)));
        Ok(())
    }

    /// Ends this end's direction: what was written before still arrives.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(websocket) = &mut self.websocket {
            websocket.close(&mut self.transport)?;
        }
        match &mut self.transport {
            Transport::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Transport::Unix(stream) => stream.shutdown(Shutdown::Write),
            Transport::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)
            }
        }
    }

    /// Reads, waiting at most `timeout`, or for ever with `None`; `Ok(None)` when the time is over.
    pub fn read_within(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        // A timeout of zero would mean none.
        self.set_read_timeout(timeout.map(|timeout| timeout.max(Duration::from_millis(1))))?;
        let read = match &mut self.websocket {
            None => self.transport.read(buffer),
            Some(websocket) => websocket.read(&mut self.transport, buffer),
        };
        match read {
            Ok(count) => Ok(Some(count)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(None),
                // With TLS: the peer has closed without saying so, which MQTT says itself.
                io::ErrorKind::UnexpectedEof => Ok(Some(0)),
                _ => Err(error),
            },
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.transport {
            Transport::Tcp(stream) => stream.set_read_timeout(timeout),
            Transport::Unix(stream) => stream.set_read_timeout(timeout),
            Transport::Tls(stream) => stream.sock.set_read_timeout(timeout),
        }
    }
}

impl Write for BlockingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.websocket {
            None => self.transport.write(bytes)?,
            Some(websocket) => websocket.write(&mut self.transport, bytes)?,
        };
        // rustls sends what it has when it is written to; where it could not, here.
        self.transport.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.transport.flush()
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn dial_tcp(address: &Address, timeout: Duration) -> Result<TcpStream, DialError> {
    let resolved = address.resolve().map_err(|error| DialError::Resolve(address.clone(), error))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for socket_address in resolved {
        match TcpStream::connect_timeout(&socket_address, timeout) {
            Ok(stream) => {
                // Packets leave at once; what belongs together is written together anyway.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(explain_dial(address, timeout, last))
}

fn explain_dial(address: &Address, timeout: Duration, error: io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused(address.clone()),
        io::ErrorKind::NotFound if address.scheme() == Scheme::Unix => DialError::Refused(address.clone()),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => DialError::Timeout(address.clone(), timeout),
        _ => DialError::Other(address.clone(), error),
    }
}

/// Host and port, as a request names them.
fn authority(address: &Address) -> String {
    let (host, port) = (address.host(), address.port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
