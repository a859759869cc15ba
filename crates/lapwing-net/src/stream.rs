use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};

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
