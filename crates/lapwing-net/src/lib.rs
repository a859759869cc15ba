//! Listeners and streams: the only crate that names sockets.
//!
//! Today plain TCP; TLS, WebSocket and Unix sockets become further variants of [`Stream`], so that whoever
//! serves a connection never learns what carries it.
#![forbid(unsafe_code)]

mod address;
mod config;
mod dial;
mod listener;
mod service_manager;
mod stream;

pub use address::{Address, AddressError, DEFAULT_PORT, DEFAULT_WEBSOCKET_PATH, Scheme};
pub use config::ListenerConfig;
pub use dial::{BlockingStream, DialError};
pub use listener::{Accepted, ListenError, Listener, has_ipv6};
pub use service_manager::{ServiceState, notify_service_manager};
pub use stream::Stream;
