use std::sync::Arc;

use crate::network::Network;
use crate::{Address, TlsConfig, WebSocketConfig};

/// A place to listen, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// By which people and rules call it.
    pub name: Arc<str>,
    /// Where, and what carries MQTT there.
    pub address: Address,
    /// With `tls://` and `wss://`, which cannot do without.
    pub tls: Option<TlsConfig>,
    /// With `ws://` and `wss://`.
    pub websocket: WebSocketConfig,
    /// Proxies that say for whom they connect, by the PROXY protocol. Where there are any, nobody else may connect.
    pub proxies: Vec<Network>,
    /// Who may use the file of a Unix socket, as `chmod` has it.
    pub unix_mode: u32,
}

/// The owner and the group may use the file of a Unix socket.
pub const DEFAULT_UNIX_MODE: u32 = 0o660;

impl ListenerConfig {
    /// With nothing but what every listener has.
    pub fn new(name: impl Into<Arc<str>>, address: Address) -> Self {
        Self {
            name: name.into(),
            address,
            tls: None,
            websocket: WebSocketConfig::default(),
            proxies: Vec::new(),
            unix_mode: DEFAULT_UNIX_MODE,
        }
    }
}
