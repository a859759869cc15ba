//! WebSocket (RFC 6455), as far as MQTT needs it: binary frames that carry a stream of bytes, whose borders mean nothing
//! `[MQTT-6.0.0-2]`.

mod client;
mod frame;
mod session;
mod upgrade;

pub(crate) use self::client::WebSocketClient;
pub(crate) use self::session::{WebSocketFault, WebSocketSession};
pub use self::upgrade::WebSocketConfig;

/// A request as our own client sends it, always with the same key.
pub(crate) fn opening() -> Vec<u8> {
    upgrade::request("localhost", "/mqtt", &upgrade::client_key([7; 16]))
}
