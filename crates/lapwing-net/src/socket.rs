use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};

/// A socket that never blocks.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

/// Calls the same method of whichever there is.
macro_rules! each {
    ($socket:expr, $it:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($it) => $call,
            Socket::Unix($it) => $call,
        }
    };
}

impl Socket {
    /// Ends this end's direction: what was written before still arrives.
    pub(crate) fn finish(&self) {
        // It fails only where the peer has ended the connection already.
        let _ = each!(self, it => it.shutdown(Shutdown::Write));
    }

    /// As [`Stream::abort`](crate::Stream::abort).
    pub(crate) fn abort(self) {
        if let Self::Tcp(stream) = &self {
            // Where it cannot be set, the connection ends with this value in the usual way.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether the other end, `peer`, is on this machine: it has a loopback address, or the same address as
    /// this end, or there is no network between them.
    pub(crate) fn is_local(&self, peer: SocketAddr) -> bool {
        match self {
            Self::Tcp(stream) => {
                let own = || stream.local_addr().map(|own| own.ip().to_canonical());
                peer.ip().is_loopback() || own().is_ok_and(|own: IpAddr| own == peer.ip())
            }
            Self::Unix(_) => true,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, it => it.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, it => it.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, it => it.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        each!(self, it => it.register(registry, token, interests))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        each!(self, it => it.reregister(registry, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        each!(self, it => it.deregister(registry))
    }
}
