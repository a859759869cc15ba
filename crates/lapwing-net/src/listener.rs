use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::layer::{Layers, Proxy};
use crate::network::Network;
use crate::proxy::ProxyReader;
use crate::socket::Socket;
use crate::websocket::WebSocketSession;
use crate::{Address, Certificates, ListenerConfig, Scheme, Stream, TlsError, WebSocketConfig};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// The kernel has no such kind of address, as when IPv6 is switched off.
const EAFNOSUPPORT: i32 = 97;

/// Accepts connections on one socket address.
#[derive(Debug)]
pub struct Listener {
    source: Accepting,
    name: Arc<str>,
    local: Address,
    certificates: Option<Arc<Certificates>>,
    websocket: Option<(Arc<str>, Arc<WebSocketConfig>)>,
    proxies: Arc<[Network]>,
    /// A descriptor to give up when there is no other, so that a waiting connection can be accepted and
    /// closed. Otherwise its client would wait, and the listener would be told of it without end.
    reserve: Option<File>,
}

#[derive(Debug)]
enum Accepting {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
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
    /// The port is reserved for the administrator, or the folder of the socket is not ours.
    #[error(
        "cannot listen on {0}: not permitted; ports below 1024 need a privilege, and a Unix socket needs a folder that \
         this user may write to"
    )]
    NotPermitted(Address),
    /// The address belongs to another machine, or this one has no IPv6.
    #[error("cannot listen on {0}: this machine has no such address")]
    NotAvailable(Address),
    /// What is at the path of a Unix socket is something else.
    #[error(
        "cannot listen on {0}: there is a file of another kind, which is left alone; choose another path"
    )]
    NoSocket(Address),
    /// Somebody listens on a Unix socket.
    #[error("cannot listen on {0}: another process listens there")]
    InUse(Address),
    /// Without a certificate.
    #[error("listeners.{0}: {1} needs tls.certificate and tls.key")]
    NoCertificate(Arc<str>, Address),
    /// The certificate, or what belongs to it, cannot be used.
    #[error("listeners.{0}.{1}")]
    Tls(Arc<str>, TlsError),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(Address, io::Error),
}

/// What became of an attempt to accept a connection.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and its other end. An IPv4 peer is IPv4 also where the listener has an IPv6 address; that of a Unix
    /// socket is `127.0.0.1:0`.
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
        let scheme = address.scheme();
        let certificates = match &config.tls {
            _ if !scheme.is_secure() => None,
            None => return Err(ListenError::NoCertificate(Arc::clone(&config.name), address.clone())),
            Some(tls) => {
                let loaded = Certificates::load(tls, scheme.is_websocket());
                Some(Arc::new(loaded.map_err(|error| ListenError::Tls(Arc::clone(&config.name), error))?))
            }
        };
        let websocket = scheme
            .is_websocket()
            .then(|| (Arc::from(address.websocket_path()), Arc::new(config.websocket.clone())));
        let listener = |(source, local)| Self {
            source,
            name: Arc::clone(&config.name),
            local,
            certificates: certificates.clone(),
            websocket: websocket.clone(),
            proxies: config.proxies.clone().into(),
            reserve: reserve(),
        };
        let sources: Vec<_> = match address.file() {
            Some(path) => vec![(bind_unix(address, path, config.unix_mode)?, address.clone())],
            None => {
                let resolved = address.resolve();
                let resolved = resolved.map_err(|error| ListenError::Resolve(address.clone(), error))?;
                resolved.into_iter().map(|at| bind_tcp(address, at)).collect::<Result<_, _>>()?
            }
        };
        Ok(sources.into_iter().map(listener).collect())
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The address that it listens on, with the port that the system chose if it was to choose.
    pub fn local(&self) -> &Address {
        &self.local
    }

    /// Its certificates, where it has TLS: one value for all socket addresses of one [`ListenerConfig`].
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// Accepts a waiting connection.
    pub fn accept(&mut self) -> Accepted {
        loop {
            match self.source.accept() {
                // Without TLS where there should be TLS there is no connection.
                Ok((socket, peer)) => {
                    if let Ok(layers) = self.layers(peer) {
                        return Accepted::Stream(Stream::accepted(socket, layers), peer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::None,
                Err(error) if lacks_descriptors(&error) => return self.shed(),
                Err(error) if was_lost(&error) => {}
                // Nothing known to pass by itself: trying again at once would be trying for ever.
                Err(_) => return Accepted::Exhausted,
            }
        }
    }

    /// What is between a new socket and MQTT.
    fn layers(&self, peer: SocketAddr) -> Result<Option<Box<Layers>>, TlsError> {
        let proxy = if self.proxies.is_empty() {
            None
        } else if self.proxies.iter().any(|proxy| proxy.contains(peer.ip())) {
            Some(Proxy::Reading(ProxyReader::default()))
        } else {
            Some(Proxy::NotListed)
        };
        let tls = self.certificates.as_ref().map(|certificates| certificates.session()).transpose();
        let tls = tls.map_err(|_| TlsError::Incomplete("rustls refuses its configuration"))?.map(Box::new);
        let websocket = self.websocket.as_ref();
        let websocket = websocket.map(|(path, config)| WebSocketSession::new(path.clone(), config.clone()));
        let is_plain = proxy.is_none() && tls.is_none() && websocket.is_none();
        Ok((!is_plain).then(|| Box::new(Layers::new(proxy, tls, websocket))))
    }

    fn shed(&mut self) -> Accepted {
        if self.reserve.take().is_none() {
            self.reserve = reserve();
            return Accepted::Exhausted;
        }
        let refused = self.source.accept();
        let none_waits = refused.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        drop(refused);
        self.reserve = reserve();
        if none_waits { Accepted::None } else { Accepted::Shed }
    }
}

impl Drop for Listener {
    /// Nobody is to find a socket that nobody listens on.
    fn drop(&mut self) {
        if let Some(path) = self.local.file() {
            let _ = fs::remove_file(path);
        }
    }
}

impl Accepting {
    fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Socket::Tcp(stream), SocketAddr::new(peer.ip().to_canonical(), peer.port())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Socket::Unix(stream), (Ipv4Addr::LOCALHOST, 0).into()))
            }
        }
    }
}

fn bind_tcp(config: &Address, address: SocketAddr) -> Result<(Accepting, Address), ListenError> {
    let listen = || -> io::Result<(Accepting, Address)> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && !address.ip().is_unspecified() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = mio::net::TcpListener::from_std(socket.into());
        let local = config.at(listener.local_addr()?);
        Ok((Accepting::Tcp(listener), local))
    };
    listen().map_err(|error| explain(config.at(address), error))
}

fn bind_unix(address: &Address, path: &Path, mode: u32) -> Result<Accepting, ListenError> {
    // What an earlier process has left is in the way. Only a socket is removed, and only if nobody answers there.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NoSocket(address.clone())),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(ListenError::InUse(address.clone()));
        }
        Ok(_) => fs::remove_file(path).map_err(|error| explain(address.clone(), error))?,
        Err(_) => {}
    }
    let listen = || -> io::Result<Accepting> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Before anybody can connect.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        Ok(Accepting::Unix(mio::net::UnixListener::from_std(socket.into())))
    };
    listen().map_err(|error| explain(address.clone(), error))
}

fn explain(address: Address, error: io::Error) -> ListenError {
    match error.kind() {
        io::ErrorKind::AddrInUse if address.scheme() == Scheme::Unix => ListenError::InUse(address),
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        io::ErrorKind::PermissionDenied => ListenError::NotPermitted(address),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => ListenError::NotAvailable(address),
        _ if error.raw_os_error() == Some(EAFNOSUPPORT) => ListenError::NotAvailable(address),
        _ => ListenError::Other(address, error),
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
        match &mut self.source {
            Accepting::Tcp(listener) => listener.register(registry, token, interests),
            Accepting::Unix(listener) => listener.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match &mut self.source {
            Accepting::Tcp(listener) => listener.reregister(registry, token, interests),
            Accepting::Unix(listener) => listener.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.source {
            Accepting::Tcp(listener) => listener.deregister(registry),
            Accepting::Unix(listener) => listener.deregister(registry),
        }
    }
}
