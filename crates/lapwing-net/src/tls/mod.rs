//! TLS: which certificates a listener shows and asks for, and the two ends of a session.

mod certificates;
mod client;
mod error;
mod file;
mod session;

pub use self::certificates::{Certificates, ClientCertificate, TlsConfig, TlsVersion};
pub use self::client::ClientTls;
pub use self::error::TlsError;
pub(crate) use self::session::{BUFFER_MINIMUM, TlsFault, TlsSession, explain};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;

/// What MQTT is called in the negotiation of protocols (ALPN).
const MQTT: &[u8] = b"mqtt";
/// What WebSocket begins as there.
const HTTP: &[u8] = b"http/1.1";

/// The algorithms, named here so that nothing depends on what else in the process uses rustls.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
