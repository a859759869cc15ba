//! Listeners and streams: the only crate that names sockets and TLS.
//!
//! TCP and Unix sockets, and on them TLS, WebSocket and the PROXY protocol: whoever serves a [`Stream`] never learns what
//! carries it.
#![forbid(unsafe_code)]

mod address;
mod config;
mod dial;
pub mod fuzzing;
mod layer;
mod listener;
mod network;
mod proxy;
mod service_manager;
mod socket;
mod stream;
mod tls;
mod websocket;

pub use address::{Address, AddressError, DEFAULT_PORT, DEFAULT_WEBSOCKET_PATH, Scheme};
pub use config::{DEFAULT_UNIX_MODE, ListenerConfig};
pub use dial::{BlockingStream, DialError};
pub use layer::Fault;
pub use listener::{Accepted, ListenError, Listener, has_ipv6};
pub use network::{Network, NetworkError};
pub use service_manager::{ServiceState, notify_service_manager};
pub use stream::{Introduction, ReceiveError, Received, Stream};
pub use tls::{Certificates, ClientCertificate, ClientTls, TlsConfig, TlsError, TlsVersion};
pub use websocket::WebSocketConfig;
