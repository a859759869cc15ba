use std::sync::Arc;

use crate::Address;

/// A place to listen, and how.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// By which people and rules call it.
    pub name: Arc<str>,
    /// Where.
    pub address: Address,
}

impl ListenerConfig {
    /// With nothing but what every listener has.
    pub fn new(name: impl Into<Arc<str>>, address: Address) -> Self {
        Self { name: name.into(), address }
    }
}
