use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The port for MQTT without TLS.
pub const DEFAULT_PORT: u16 = 1883;

/// The path of MQTT over WebSocket where an address names none.
pub const DEFAULT_WEBSOCKET_PATH: &str = "/mqtt";

/// Where to listen or to connect: `SCHEME://HOST:PORT`, or `HOST:PORT` for plain TCP; behind `ws://` and `wss://` with the
/// path of the upgrade; `unix:PATH` for a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: Scheme,
    place: Place,
    /// Of the upgrade; empty where there is none.
    websocket_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Host(String, u16),
    File(PathBuf),
}

/// What carries MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TCP: `tcp` or `mqtt`.
    Tcp,
    /// TLS: `tls`, `ssl` or `mqtts`.
    Tls,
    /// WebSocket: `ws`.
    WebSocket,
    /// WebSocket over TLS: `wss`.
    SecureWebSocket,
    /// A Unix socket: `unix`.
    Unix,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme than those known.
    #[error(
        "'{0}': the scheme '{1}' is not known; write tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT/PATH, \
         wss://HOST:PORT/PATH or unix:PATH"
    )]
    UnknownScheme(String, String),
    /// No host.
    #[error("'{0}': the host is missing; write {1}://HOST:PORT")]
    NoHost(String, Scheme),
    /// A number alone, which is no host.
    #[error("'{0}' is only a port; write 127.0.0.1:{0} for this machine alone, or 0.0.0.0:{0} for all")]
    OnlyPort(String),
    /// The port is no number from 0 to 65535.
    #[error("'{0}': '{1}' is no port; a port is a number from 0 to 65535")]
    InvalidPort(String, String),
    /// A part that an address does not have.
    #[error("'{0}': only {1}://HOST:PORT, without a path or a user name")]
    Unexpected(String, Scheme),
    /// No path of a WebSocket.
    #[error("'{0}': the path of a WebSocket is printable ASCII without blanks, '?' and '#', as in /mqtt")]
    InvalidPath(String),
    /// No file.
    #[error("'{0}': the path of the socket is missing; write unix:/run/lapwing.sock")]
    NoFile(String),
}

impl Scheme {
    /// Whether TLS is part of it.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::SecureWebSocket)
    }

    /// Whether WebSocket is part of it.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::SecureWebSocket)
    }

    /// The port where an address names none. 1883 and 8883 are those of MQTT; for WebSocket there are none, and most
    /// brokers and clients know 8083 and 8084.
    fn default_port(self) -> u16 {
        match self {
            Self::Tcp => DEFAULT_PORT,
            Self::Tls => 8883,
            Self::WebSocket => 8083,
            Self::SecureWebSocket => 8084,
            Self::Unix => 0,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "tcp" | "mqtt" => Self::Tcp,
            "tls" | "ssl" | "mqtts" => Self::Tls,
            "ws" => Self::WebSocket,
            "wss" => Self::SecureWebSocket,
            "unix" => Self::Unix,
            _ => return None,
        })
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
            Self::Unix => "unix",
        })
    }
}

impl Address {
    /// Plain TCP: a host name or address without brackets, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self::with_scheme(Scheme::Tcp, host, port)
    }

    /// A Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { scheme: Scheme::Unix, place: Place::File(path.into()), websocket_path: String::new() }
    }

    /// A host name or address without brackets, and a port, with what carries MQTT there: not for
    /// [`Scheme::Unix`], which has neither.
    pub fn with_scheme(scheme: Scheme, host: impl Into<String>, port: u16) -> Self {
        let websocket_path = if scheme.is_websocket() { DEFAULT_WEBSOCKET_PATH } else { "" };
        Self { scheme, place: Place::Host(host.into(), port), websocket_path: websocket_path.into() }
    }

    /// What carries MQTT there.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host name or address; empty for a Unix socket.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Host(host, _) => host,
            Place::File(_) => "",
        }
    }

    /// The port; 0 lets the system choose one when listening. A Unix socket has none: 0.
    pub fn port(&self) -> u16 {
        match self.place {
            Place::Host(_, port) => port,
            Place::File(_) => 0,
        }
    }

    /// The file of a Unix socket.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::Host(..) => None,
            Place::File(path) => Some(path),
        }
    }

    /// The path of the upgrade to WebSocket; empty without.
    pub fn websocket_path(&self) -> &str {
        &self.websocket_path
    }

    /// The socket addresses that the host stands for. A Unix socket has none.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        match &self.place {
            Place::Host(host, port) => Ok((host.as_str(), *port).to_socket_addrs()?.collect()),
            Place::File(_) => Ok(Vec::new()),
        }
    }

    /// The same, but for another host and port.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { place: Place::Host(address.ip().to_string(), address.port()), ..self.clone() }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` as a URL has it, `unix:/run/x` and `unix:x` as people write it.
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_file = !path.is_empty() && !path.ends_with('/') && !path.contains('\0');
            return if is_file { Ok(Self::unix(path)) } else { Err(AddressError::NoFile(text.into())) };
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Tcp, text),
            Some((name, rest)) => {
                let unknown = || AddressError::UnknownScheme(text.into(), name.into());
                (Scheme::named(name).ok_or_else(unknown)?, rest)
            }
        };
        let (rest, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if rest.contains(['@', '?']) || (path.len() > 1 && !scheme.is_websocket()) {
            return Err(AddressError::Unexpected(text.into(), scheme));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#') {
            return Err(AddressError::InvalidPath(text.into()));
        }
        let (host, port) = split_port(rest);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(AddressError::NoHost(text.into(), scheme));
        }
        if port.is_none() && host.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::OnlyPort(text.into()));
        }
        let port = match port {
            None => scheme.default_port(),
            Some(port) => port.parse().map_err(|_| AddressError::InvalidPort(text.into(), port.into()))?,
        };
        let mut address = Self::with_scheme(scheme, host, port);
        if scheme.is_websocket() && !path.is_empty() {
            path.clone_into(&mut address.websocket_path);
        }
        Ok(address)
    }
}

/// Splits at the last colon, unless that one belongs to an IPv6 address.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

impl From<SocketAddr> for Address {
    /// Plain TCP.
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().to_string(), address.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, place, websocket_path } = self;
        match place {
            Place::File(path) => write!(f, "unix:{}", path.display()),
            Place::Host(host, port) if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}{websocket_path}")
            }
            Place::Host(host, port) => write!(f, "{scheme}://{host}:{port}{websocket_path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port, written) in [
            ("tcp://127.0.0.1:1884", "127.0.0.1", 1884, "tcp://127.0.0.1:1884"),
            ("mqtt://broker.example/", "broker.example", 1883, "tcp://broker.example:1883"),
            ("localhost:0", "localhost", 0, "tcp://localhost:0"),
            ("tcp://[::1]:1883", "::1", 1883, "tcp://[::1]:1883"),
            ("[::]", "::", 1883, "tcp://[::]:1883"),
            ("::1", "::1", 1883, "tcp://[::1]:1883"),
            ("mqtts://x", "x", 8883, "tls://x:8883"),
            ("ssl://x:1", "x", 1, "tls://x:1"),
            ("ws://x", "x", 8083, "ws://x:8083/mqtt"),
            ("ws://x/", "x", 8083, "ws://x:8083/"),
            ("wss://[::1]/a/b", "::1", 8084, "wss://[::1]:8084/a/b"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address), "{written}");
        }
    }

    #[test]
    fn a_unix_socket_has_a_file_and_nothing_else() {
        for (text, file) in
            [("unix:/run/x.sock", "/run/x.sock"), ("unix:///run/x.sock", "/run/x.sock"), ("unix:x", "x")]
        {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.file(), Some(Path::new(file)), "{text}");
            assert_eq!((address.host(), address.port(), address.scheme()), ("", 0, Scheme::Unix));
            assert_eq!(address.to_string(), format!("unix:{file}"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("ftp://x", "scheme 'ftp'"),
            ("tcp://", "host is missing"),
            (":1883", "host is missing"),
            ("tcp://x:99999", "'99999' is no port"),
            ("tcp://x:", "'' is no port"),
            ("1884", "0.0.0.0:1884"),
            ("tcp://me@x:1", "only tcp://HOST:PORT, without a path or a user name"),
            ("tcp://x:1/topic", "without a path or a user name"),
            ("tls://x:1/topic", "only tls://HOST:PORT, without a path or a user name"),
            ("ws://x/a?b", "path of a WebSocket"),
            ("ws://x/ä", "path of a WebSocket"),
            ("unix:", "path of the socket"),
            ("unix:/run/", "path of the socket"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
