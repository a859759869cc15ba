//! The other end: how a client trusts a server, and what it shows.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::file::Source;
use super::{HTTP, MQTT, TlsError, provider};

/// How a client uses TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM: the authorities that are trusted. None: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM: the certificate of the client, and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether any server is taken for the right one. Whoever is between the client and the server can then read and change
    /// everything.
    pub is_insecure: bool,
}

impl ClientTls {
    /// A session with the server of this name or address; `Err(None)` if it is no name that a certificate can have.
    pub(crate) fn session(
        &self,
        host: &str,
        is_websocket: bool,
    ) -> Result<ClientConnection, Option<TlsError>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| None)?;
        let config = self.config(is_websocket)?;
        ClientConnection::new(Arc::new(config), name)
            .map_err(|_| Some(TlsError::Incomplete("rustls refuses its configuration")))
    }

    fn config(&self, is_websocket: bool) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::Incomplete("this build has no version of TLS"))?;
        let builder = if self.is_insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = Source { key: "--cert", path: certificate }.certificates()?;
                let source = Source { key: "--key", path: key };
                let mismatch = |_| {
                    source.fault(format!("does not belong to the certificate in {}", certificate.display()))
                };
                builder.with_client_auth_cert(chain, source.private_key()?).map_err(mismatch)?
            }
        };
        config.alpn_protocols = vec![if is_websocket { HTTP } else { MQTT }.to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                let source = Source { key: "--ca", path };
                for certificate in source.certificates()? {
                    let added = roots.add(certificate);
                    added.map_err(|error| source.fault(format!("cannot be used: {error}")))?;
                }
            }
            // Some systems have certificates among them that no longer parse.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            let fault = "this system has no authorities that could be trusted; name one with --ca";
            return Err(TlsError::Incomplete(fault));
        }
        Ok(roots)
    }
}

/// Takes any certificate, but still asks for a proof that the server has its key.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
