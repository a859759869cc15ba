use std::net::SocketAddr;
use std::sync::Arc;

use crate::shared::Seat;

/// Where a connection comes from, as far as what carries it knows.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// Whether the other end is on this machine.
    pub(crate) is_local: bool,
    /// The name of the listener that accepted it.
    pub(crate) listener: Arc<str>,
    /// The certificate that the client has proved to be its own, in DER.
    pub(crate) certificate: Option<Arc<[u8]>>,
    /// Its place among all connections, where they are counted.
    pub(crate) seat: Option<Arc<Seat>>,
}

impl Origin {
    /// Without a certificate.
    pub(crate) fn new(peer: SocketAddr, is_local: bool, listener: Arc<str>) -> Self {
        Self { peer, is_local, listener, certificate: None, seat: None }
    }
}
