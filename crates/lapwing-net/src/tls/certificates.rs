use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerConfig, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use super::file::{Source, Stamp};
use super::session::TlsSession;
use super::{HTTP, MQTT, TlsError, provider};

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM: the certificate of the server first, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: the private key of the certificate.
    pub key: PathBuf,
    /// PEM: the authorities whose certificates clients may show. Without, none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate where there are authorities.
    pub client_certificate: ClientCertificate,
    /// PEM: the certificates that have been revoked, a list for each authority.
    pub crl: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub minimum_version: TlsVersion,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// Without one there is no connection.
    #[default]
    Required,
    /// It may; one that is not valid is refused all the same.
    Optional,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

/// The certificates of a listener, as they are in its files; new ones can take their place while it runs.
pub struct Certificates {
    config: TlsConfig,
    protocol: &'static [u8],
    /// Makes the tickets with which clients come back faster; one for all that are ever loaded, so that a new certificate
    /// does not make every client begin anew.
    tickets: Arc<dyn ProducesTickets>,
    loaded: RwLock<Loaded>,
    /// Of the files as they were looked at last.
    stamps: Mutex<Vec<Stamp>>,
}

#[derive(Clone)]
struct Loaded {
    server: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    warnings: Vec<String>,
}

impl TlsConfig {
    /// With a certificate and its key, and nothing asked of clients.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            client_certificate: ClientCertificate::default(),
            crl: None,
            minimum_version: TlsVersion::default(),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let more = [self.client_ca.as_deref(), self.crl.as_deref()];
        [self.certificate.as_path(), &self.key].into_iter().chain(more.into_iter().flatten())
    }
}

impl Certificates {
    /// Reads the files; of a listener for WebSocket or for MQTT itself.
    ///
    /// # Errors
    /// If one cannot be read or used, or if they do not belong together.
    pub fn load(config: &TlsConfig, is_websocket: bool) -> Result<Self, TlsError> {
        let tickets = Ticketer::new().map_err(|_| TlsError::Incomplete("there is no randomness for TLS"))?;
        let protocol = if is_websocket { HTTP } else { MQTT };
        // Before the files are read: what changes meanwhile is read once more.
        let stamps = config.files().map(Stamp::of).collect();
        let loaded = RwLock::new(load(config, protocol, &tickets)?);
        Ok(Self { config: config.clone(), protocol, tickets, loaded, stamps: Mutex::new(stamps) })
    }

    /// Reads the files again if one has changed, or if `is_forced`. Who connects from now on meets what they have; whoever is
    /// connected stays. Whether there was something new.
    ///
    /// # Errors
    /// As [`load`](Self::load); then what was loaded before still holds.
    pub fn refresh(&self, is_forced: bool) -> Result<bool, TlsError> {
        let stamps: Vec<_> = self.config.files().map(Stamp::of).collect();
        {
            let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == stamps && !is_forced {
                return Ok(false);
            }
            // Also where they are wrong: that is said once, not at each look.
            *known = stamps;
        }
        let loaded = load(&self.config, self.protocol, &self.tickets)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    /// What is unwise about the files, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).warnings.clone()
    }

    /// A session for a connection that has just been accepted.
    pub(crate) fn session(&self) -> Result<TlsSession, rustls::Error> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        TlsSession::new(Arc::clone(&loaded.server), loaded.verifier.clone())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("config", &self.config).finish_non_exhaustive()
    }
}

fn load(config: &TlsConfig, protocol: &[u8], tickets: &Arc<dyn ProducesTickets>) -> Result<Loaded, TlsError> {
    let certificate = Source { key: "tls.certificate", path: &config.certificate };
    let key = Source { key: "tls.key", path: &config.key };
    let chain = certificate.certificates()?;
    let certified =
        CertifiedKey::from_der(chain, key.private_key()?, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { key: config.key.clone(), certificate: config.certificate.clone() }
            }
            rustls::Error::InvalidCertificate(_) => certificate.fault(format!("cannot be used: {error}")),
            _ => key.fault("has a private key of a kind that TLS cannot use"),
        })?;
    let versions: &[_] = match config.minimum_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let verifier = verifier(config)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|_| TlsError::Incomplete("tls.minimum_version: this build cannot speak that version"))?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    server.alpn_protocols = vec![protocol.to_vec()];
    // What a client needs to come back is with the client: nothing of it is kept here.
    server.ticketer = Arc::clone(tickets);
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 1;
    // A message of early data could be replayed by whoever has seen it.
    server.max_early_data_size = 0;
    let mut warnings = Vec::new();
    if key.is_open_to_others() {
        let path = config.key.display();
        warnings.push(format!(
            "tls.key: every user of this machine can read {path}; `chmod o= {path}` keeps it private"
        ));
    }
    Ok(Loaded { server: Arc::new(server), verifier, warnings })
}

fn verifier(config: &TlsConfig) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(path) = &config.client_ca else {
        let needs = "tls.crl: revoked certificates need tls.client_ca, which says who signs those of clients";
        return if config.crl.is_some() { Err(TlsError::Incomplete(needs)) } else { Ok(None) };
    };
    let authorities = Source { key: "tls.client_ca", path };
    let mut roots = RootCertStore::empty();
    for certificate in authorities.certificates()? {
        let added = roots.add(certificate);
        added
            .map_err(|error| authorities.fault(format!("has a certificate that cannot be used: {error}")))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if let Some(path) = &config.crl {
        // An authority without a list has revoked nothing.
        let lists = Source { key: "tls.crl", path }.revocation_lists()?;
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if config.client_certificate == ClientCertificate::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(|error| match (error, &config.crl) {
        (VerifierBuilderError::InvalidCrl(error), Some(path)) => {
            Source { key: "tls.crl", path }.fault(format!("has a list that cannot be used: {error:?}"))
        }
        (error, _) => authorities.fault(format!("cannot be used: {error}")),
    })
}
