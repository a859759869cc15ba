use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};

/// A connection that never blocks.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(mio::net::TcpStream),
}

impl Stream {
    pub(crate) fn accepted(stream: mio::net::TcpStream) -> Self {
        // Answers leave at once; what belongs together is written together anyway.
        let _ = stream.set_nodelay(true);
        Self { kind: Kind::Tcp(stream) }
    }

    /// Begins to connect to `address`. Until the connection is there, reads and writes give
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) or [`NotConnected`](io::ErrorKind::NotConnected); where it does not
    /// come about, they give the reason.
    ///
    /// # Errors
    /// What the system knows at once: that it has no descriptor left, or that nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = mio::net::TcpStream::connect(address)?;
        let _ = stream.set_nodelay(true);
        Ok(Self { kind: Kind::Tcp(stream) })
    }

    /// Ends the connection at once, as a machine does that loses its network and then its program: what was written
    /// and not sent is thrown away, and the peer is told by a reset.
    pub fn abort(self) {
        let Kind::Tcp(stream) = &self.kind;
        // Where it cannot be set, the connection ends with this value in the usual way.
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether the other end, `peer`, is on this machine: it has a loopback address, or the same address as
    /// this end.
    pub fn is_local(&self, peer: SocketAddr) -> bool {
        let Kind::Tcp(stream) = &self.kind;
        let own = || stream.local_addr().map(|own| own.ip().to_canonical());
        peer.ip().is_loopback() || own().is_ok_and(|own: IpAddr| own == peer.ip())
    }

    /// Ends this end's direction: what was written before still arrives.
    pub fn finish(&self) {
        let Kind::Tcp(stream) = &self.kind;
        // It fails only where the peer has ended the connection already.
        let _ = stream.shutdown(Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Kind::Tcp(stream) = &mut self.kind;
        stream.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Kind::Tcp(stream) = &mut self.kind;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let Kind::Tcp(stream) = &mut self.kind;
        stream.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let Kind::Tcp(stream) = &mut self.kind;
        stream.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let Kind::Tcp(stream) = &mut self.kind;
        stream.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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
