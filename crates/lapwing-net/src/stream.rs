use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use crate::layer::{Fault, Layers, Proxy, receive_plain};
use crate::socket::Socket;
use crate::tls;

/// A connection that never blocks, whatever carries it.
///
/// With TLS or WebSocket it has more to send than what is written to it: [`flush`](Write::flush) is to be called whenever
/// the socket has room again.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// What is between the socket and MQTT, if anything is.
    layers: Option<Box<Layers>>,
}

/// What came of [`Stream::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes are at the front of the buffer.
    Bytes {
        /// None where what came were no bytes of MQTT, and there may be more.
        count: usize,
        /// Whether that was all there was: what comes later is announced by the poll.
        is_all: bool,
    },
    /// There is nothing now.
    Nothing,
    /// The peer has ended its direction.
    End,
}

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection is lost.
    #[error(transparent)]
    Lost(io::Error),
    /// What came is not what the listener speaks. The peer has been told, and this end's direction is ended: what the peer
    /// still sends is to be read, and thrown away, for a moment, or else the answer may not reach it.
    #[error(transparent)]
    Fault(Fault),
}

/// What is known of the other end once it has said the first word.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// Whom the connection is from, where a proxy has said so: then it counts as being from elsewhere.
    pub proxied: Option<SocketAddr>,
    /// The certificate that the client has proved to be its own, in DER.
    pub certificate: Option<Arc<[u8]>>,
}

impl Stream {
    /// Bytes of a buffer for [`receive`](Self::receive), at least.
    pub const BUFFER_MINIMUM: usize = tls::BUFFER_MINIMUM;

    pub(crate) fn accepted(socket: Socket, layers: Option<Box<Layers>>) -> Self {
        if let Socket::Tcp(stream) = &socket {
            // Answers leave at once; what belongs together is written together anyway.
            let _ = stream.set_nodelay(true);
        }
        Self { socket, layers }
    }

    /// Begins to connect to `address`, over plain TCP. Until the connection is there, reads and writes give
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) or [`NotConnected`](io::ErrorKind::NotConnected); where it does not
    /// come about, they give the reason.
    ///
    /// # Errors
    /// What the system knows at once: that it has no descriptor left, or that nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::accepted(Socket::Tcp(mio::net::TcpStream::connect(address)?), None))
    }

    /// Ends the connection at once, as a machine does that loses its network and then its program: what was written
    /// and not sent is thrown away, and the peer is told by a reset.
    pub fn abort(self) {
        self.socket.abort();
    }

    /// Whether the other end, `peer`, is on this machine: it has a loopback address, or the same address as
    /// this end, or the socket is a Unix socket. Not where a proxy is in between:
    /// [`introduction`](Self::introduction) knows that.
    pub fn is_local(&self, peer: SocketAddr) -> bool {
        self.socket.is_local(peer)
    }

    /// Whether the other end may have more to say about itself before it says anything: see
    /// [`introduction`](Self::introduction).
    pub fn introduces_itself(&self) -> bool {
        self.layers.is_some()
    }

    /// What is known of the other end beyond its address, as soon as anything has been received.
    pub fn introduction(&self) -> Introduction {
        let layers = self.layers.as_deref();
        let proxied = match layers.and_then(|layers| layers.proxy.as_ref()) {
            Some(Proxy::Read(client)) => *client,
            _ => None,
        };
        let tls = layers.and_then(|layers| layers.tls.as_ref());
        let certificate = tls.and_then(|tls| tls.client_certificate()).map(Arc::from);
        Introduction { proxied, certificate }
    }

    /// Whether a handshake is under way, of which each step takes long.
    pub fn is_opening(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.is_opening())
    }

    /// Reads what has come, and sends what TLS and WebSocket answer. The buffer has at least
    /// [`BUFFER_MINIMUM`](Self::BUFFER_MINIMUM) bytes, all of which may be changed.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        match &mut self.layers {
            None => receive_plain(&mut self.socket, buffer),
            Some(layers) => layers.receive(&mut self.socket, buffer),
        }
    }

    /// Ends this end's direction: what was written before still arrives.
    pub fn finish(&mut self) {
        match &mut self.layers {
            None => self.socket.finish(),
            Some(layers) => layers.finish(&mut self.socket),
        }
    }
}

impl Read for Stream {
    /// Of plain TCP only: for others there is [`receive`](Stream::receive).
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.layers {
            None => self.socket.read(buffer),
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layers {
            None => self.socket.write(bytes),
            Some(layers) => layers.write(&mut self.socket, bytes),
        }
    }

    /// Sends what TLS and WebSocket have to send, as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layers {
            None => Ok(()),
            Some(layers) => layers.flush(&mut self.socket),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stream_that_is_aborted_resets_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = Stream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(stream.write(b"half").unwrap(), 4);
        let mut buffer = [0; 8];
        assert_eq!(peer.read(&mut buffer).unwrap(), 4);
        stream.abort();
        assert_eq!(peer.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
