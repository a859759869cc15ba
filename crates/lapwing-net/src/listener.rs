use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Address, ListenerConfig, Scheme, Stream};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// The kernel has no such kind of address, as when IPv6 is switched off.
const EAFNOSUPPORT: i32 = 97;

/// Accepts connections on one socket address.
#[derive(Debug)]
pub struct Listener {
    listener: mio::net::TcpListener,
    name: Arc<str>,
    local: Address,
    /// A descriptor to give up when there is no other, so that a waiting connection can be accepted and
    /// closed. Otherwise its client would wait, and the listener would be told of it without end.
    reserve: Option<File>,
}

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host stands for no address.
    #[error("cannot listen on {0}: the host name is not known ({1})")]
    Resolve(Address, io::Error),
    /// Another program listens there.
    #[error(
        "cannot listen on {0}: the port is taken; stop the program that has it (`ss -ltnp` shows which), or \
         choose another port with --listen. ([::] stands for the IPv4 addresses as well: do not list both.)"
    )]
    Taken(Address),
    /// The port is reserved for the administrator.
    #[error("cannot listen on {0}: not permitted; ports below 1024 need a privilege, choose a higher one")]
    NotPermitted(Address),
    /// The address belongs to another machine, or this one has no IPv6.
    #[error("cannot listen on {0}: this machine has no such address")]
    NotAvailable(Address),
    /// A scheme that there is no listener for.
    #[error("cannot listen on {0}: only tcp:// is there today")]
    NotYet(Address),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(Address, io::Error),
}

/// What became of an attempt to accept a connection.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and its other end. An IPv4 peer is IPv4 also where the listener has an IPv6 address.
    Stream(Stream, SocketAddr),
    /// None waits.
    None,
    /// There are too few descriptors: one connection was closed at once.
    Shed,
    /// There are too few descriptors even for that; try again later.
    Exhausted,
}

/// Whether this machine has IPv6, at least to reach itself.
pub fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok()
}

impl Listener {
    /// Listens on every socket address that the configured one stands for.
    pub fn bind(config: &ListenerConfig) -> Result<Vec<Self>, ListenError> {
        let address = &config.address;
        if address.scheme() != Scheme::Tcp {
            return Err(ListenError::NotYet(address.clone()));
        }
        let resolved = address.resolve().map_err(|error| ListenError::Resolve(address.clone(), error))?;
        resolved.into_iter().map(|address| Self::bind_one(config, address)).collect()
    }

    fn bind_one(config: &ListenerConfig, address: SocketAddr) -> Result<Self, ListenError> {
        let listen = || -> io::Result<Self> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            if address.is_ipv6() && !address.ip().is_unspecified() {
                socket.set_only_v6(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let listener = mio::net::TcpListener::from_std(socket.into());
            let local = config.address.at(listener.local_addr()?);
            Ok(Self { listener, name: Arc::clone(&config.name), local, reserve: reserve() })
        };
        listen().map_err(|error| {
            let address = config.address.at(address);
            match error.kind() {
                io::ErrorKind::AddrInUse => ListenError::Taken(address),
                io::ErrorKind::PermissionDenied => ListenError::NotPermitted(address),
                io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => {
                    ListenError::NotAvailable(address)
                }
                _ if error.raw_os_error() == Some(EAFNOSUPPORT) => ListenError::NotAvailable(address),
                _ => ListenError::Other(address, error),
            }
        })
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The address that it listens on, with the port that the system chose if it was to choose.
    pub fn local(&self) -> &Address {
        &self.local
    }

    /// Accepts a waiting connection.
    pub fn accept(&mut self) -> Accepted {
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return Accepted::Stream(Stream::accepted(stream), peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::None,
                Err(error) if lacks_descriptors(&error) => return self.shed(),
                Err(error) if was_lost(&error) => {}
                // Nothing known to pass by itself: trying again at once would be trying for ever.
                Err(_) => return Accepted::Exhausted,
            }
        }
    }

    fn shed(&mut self) -> Accepted {
        if self.reserve.take().is_none() {
            self.reserve = reserve();
            return Accepted::Exhausted;
        }
        let refused = self.listener.accept();
        let none_waits = refused.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        drop(refused);
        self.reserve = reserve();
        if none_waits { Accepted::None } else { Accepted::Shed }
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// The connection was gone before it was accepted: ECONNABORTED, EINTR, EPROTO, EPERM (a firewall), or the
/// errors of the network that Linux reports here.
fn was_lost(error: &io::Error) -> bool {
    const CODES: [i32; 11] = [103, 4, 71, 1, 100, 92, 112, 64, 113, 95, 101];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM.
fn lacks_descriptors(error: &io::Error) -> bool {
    const CODES: [i32; 4] = [24, 23, 105, 12];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.listener.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.listener.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.listener.deregister(registry)
    }
}
