use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// The port for MQTT without TLS.
pub const DEFAULT_PORT: u16 = 1883;

/// Where to listen or to connect: `tcp://HOST:PORT`, also written `mqtt://HOST:PORT` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme than those known.
    #[error("'{0}': the scheme '{1}' is not known; write tcp://HOST:PORT")]
    UnknownScheme(String, String),
    /// No host.
    #[error("'{0}': the host is missing; write tcp://HOST:PORT")]
    NoHost(String),
    /// A number alone, which is no host.
    #[error("'{0}' is only a port; write 127.0.0.1:{0} for this machine alone, or 0.0.0.0:{0} for all")]
    OnlyPort(String),
    /// The port is no number from 0 to 65535.
    #[error("'{0}': '{1}' is no port; a port is a number from 0 to 65535")]
    InvalidPort(String, String),
    /// A part that an address does not have.
    #[error("'{0}': only tcp://HOST:PORT, without a path or a user name")]
    Unexpected(String),
}

impl Address {
    /// A host name or address without brackets, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 lets the system choose one when listening.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket addresses that the host stands for.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = match text.split_once("://") {
            None => text,
            Some(("tcp" | "mqtt", rest)) => rest,
            Some((scheme, _)) => return Err(AddressError::UnknownScheme(text.into(), scheme.into())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '@', '?']) {
            return Err(AddressError::Unexpected(text.into()));
        }
        let (host, port) = split_port(rest);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(AddressError::NoHost(text.into()));
        }
        if port.is_none() && host.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::OnlyPort(text.into()));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().map_err(|_| AddressError::InvalidPort(text.into(), port.into()))?,
        };
        Ok(Self::new(host, port))
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
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().to_string(), address.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "tcp://[{host}]:{port}") } else { write!(f, "tcp://{host}:{port}") }
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
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string(), written);
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
            ("tcp://me@x:1", "without a path or a user name"),
            ("tcp://x:1/topic", "without a path or a user name"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
