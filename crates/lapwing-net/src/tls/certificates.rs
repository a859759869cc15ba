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

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };
    use rustls::client::Resumption;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, HandshakeKind};

    use super::*;
    use crate::tls::session::{BUFFER_MINIMUM, TlsFault};

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Issuer {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn certify(authority: &Issuer, name: &str, serial: u64) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn revocations(authority: &Issuer, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2001, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(authority).unwrap().pem().unwrap()
    }

    /// A handshake, and what kind of one it was for the client.
    fn connect(server: &Certificates, client: &Arc<ClientConfig>) -> Result<HandshakeKind, TlsFault> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = server.session().unwrap();
        let mut buffer = vec![0; BUFFER_MINIMUM];
        while server.is_handshaking() || client.is_handshaking() {
            let (mut sent, mut answer) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            let at = server.place(&mut buffer);
            buffer[at..at + sent.len()].copy_from_slice(&sent);
            server.process(&mut buffer, at + sent.len(), &mut answer)?;
            let mut answer = &answer[..];
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        Ok(client.handshake_kind().unwrap())
    }

    // [attack: tls-expired-while-connected]
    #[test]
    fn a_ticket_outlives_a_new_certificate_but_not_what_becomes_of_the_clients() {
        let authority = authority();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let (certificate, key) = certify(&authority, "localhost", 1);
        let config = TlsConfig {
            client_ca: Some(file("ca.pem", &authority.pem())),
            crl: Some(file("crl.pem", &revocations(&authority, 99))),
            ..TlsConfig::new(file("server.pem", &certificate), file("server.key", &key))
        };
        let server = Certificates::load(&config, false).unwrap();
        let (certificate, key) = certify(&authority, "client", 7);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            file("crl.pem", &revocations(&authority, 99));
            server.refresh(true).unwrap();
            let mut client = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap();
            client.resumption = Resumption::in_memory_sessions(8);
            let client = Arc::new(client);
            assert_eq!(connect(&server, &client).unwrap(), HandshakeKind::Full);
            assert_eq!(connect(&server, &client).unwrap(), HandshakeKind::Resumed);
            let (renewed, renewed_key) = certify(&authority, "localhost", 2);
            file("server.pem", &renewed);
            file("server.key", &renewed_key);
            assert!(server.refresh(false).unwrap());
            assert_eq!(connect(&server, &client).unwrap(), HandshakeKind::Resumed);
            file("crl.pem", &revocations(&authority, 7));
            server.refresh(true).unwrap();
            let fault = connect(&server, &client).unwrap_err().to_string();
            assert!(fault.contains("revoked"), "{fault}");
        }
    }

    // [attack: readable-data]
    #[test]
    fn a_key_that_others_can_read_is_worth_a_warning() {
        use std::os::unix::fs::PermissionsExt;
        let authority = authority();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = certify(&authority, "localhost", 1);
        let (certificate_path, key_path) =
            (folder.path().join("server.pem"), folder.path().join("server.key"));
        fs::write(&certificate_path, certificate).unwrap();
        fs::write(&key_path, key).unwrap();
        let config = TlsConfig::new(&certificate_path, &key_path);
        for (mode, warnings) in [(0o644, 1), (0o640, 0), (0o600, 0)] {
            fs::set_permissions(&key_path, fs::Permissions::from_mode(mode)).unwrap();
            let found = Certificates::load(&config, false).unwrap().warnings();
            assert_eq!(found.len(), warnings, "{mode:o}: {found:?}");
        }
    }
}
