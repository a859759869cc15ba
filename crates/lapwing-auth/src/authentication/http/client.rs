//! One request and its answer, within every limit. The only file that names what carries them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::header::{self, HeaderName, HeaderValue};
use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error, Timeout};

use crate::config::Http;
use crate::fault::{self, FileError};
use crate::security::SecurityError;

/// Asks at one URL.
pub(super) struct Client {
    agent: Agent,
    uri: Uri,
    headers: HeaderMap,
    response_bytes_maximum: u64,
}

/// Bytes of the headers of an answer.
const HEADER_BYTES_MAXIMUM: usize = 16 * 1024;
/// What is read at a time, and so the most that is read of headers that do not end.
const INPUT_BYTES: usize = 2 * HEADER_BYTES_MAXIMUM;
/// A connection that was idle for longer is not used again: most servers have closed it by then, or are about to.
const IDLE_MAXIMUM: Duration = Duration::from_secs(3);
/// Bytes of a header that the configuration names.
const VALUE_BYTES_MAXIMUM: usize = 8 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Client {
    /// As the configuration says.
    pub(super) fn read(config: &Http, url: &str) -> Result<Self, SecurityError> {
        let uri = parse(url)?;
        let is_secure = uri.scheme_str() == Some("https");
        let mut agent = Agent::config_builder()
            // What the environment says of proxies is for programs that are used by people.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .https_only(is_secure)
            .user_agent(concat!("lapwing/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_millis(config.connect_timeout_ms.into())))
            .timeout_global(Some(Duration::from_millis(config.timeout_ms.into())))
            .max_response_header_size(HEADER_BYTES_MAXIMUM)
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(INPUT_BYTES)
            .max_idle_connections(config.connections)
            .max_idle_connections_per_host(config.connections)
            .max_idle_age(IDLE_MAXIMUM);
        match &config.ca_file {
            Some(_) if !is_secure => {
                let text = format!("authentication.http.ca_file has no use: {url} is not https://");
                return Err(SecurityError::Value(text));
            }
            _ if !is_secure => {}
            ca => agent = agent.tls_config(tls(ca.as_deref())?),
        }
        Ok(Self {
            agent: agent.build().into(),
            uri,
            headers: headers(config)?,
            response_bytes_maximum: config.response_bytes_maximum as u64,
        })
    }

    /// The body of the answer, if it is one of JSON.
    ///
    /// # Errors
    ///
    /// Why there is none, in a sentence without anything of what was sent or received.
    pub(super) fn post(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let mut request = self.agent.post(&self.uri);
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        let mut response = request.send(body).map_err(|error| describe(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("answers with the status {}", response.status().as_u16()));
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err("answers with something that is not application/json".to_owned());
        }
        let body = response.body_mut().with_config().limit(self.response_bytes_maximum).read_to_vec();
        body.map_err(|error| describe(&error))
    }
}

/// Whether requests leave this machine without TLS.
pub(super) fn is_in_the_clear(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback());
    uri.scheme_str() == Some("http") && !is_here
}

fn parse(url: &str) -> Result<Uri, SecurityError> {
    let wrong = |text: &str| Err(SecurityError::Value(format!("authentication.http.url: {text}")));
    // What is wrong with it may have a password in it.
    if url.contains('@') {
        return wrong(
            "there is no user name and no password in it; authentication.http.header_files has secrets",
        );
    }
    let Ok(uri) = url.parse::<Uri>() else { return wrong("it is no URL; write https://HOST:PORT/PATH") };
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() && !url.contains('#') => Ok(uri),
        _ => wrong("it must be http://HOST:PORT/PATH or https://HOST:PORT/PATH"),
    }
}

fn headers(config: &Http) -> Result<HeaderMap, SecurityError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let key = format!("authentication.http.headers.{name}");
        let header = header_name(&key, name)?;
        if [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(&header) {
            let text = format!(
                "{key} is a secret, which everybody would see here; name a file with it in header_files"
            );
            return Err(SecurityError::Value(text));
        }
        let value = HeaderValue::from_str(&value.0).ok().filter(|value| value.len() <= VALUE_BYTES_MAXIMUM);
        let value =
            value.ok_or_else(|| SecurityError::Value(format!("{key} is no value that a header can have")))?;
        headers.insert(header, value);
    }
    for (name, path) in &config.header_files {
        let key = format!("authentication.http.header_files.{name}");
        let header = header_name(&key, name)?;
        let text = fault::read(&path.0)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let value = HeaderValue::from_str(text)
            .ok()
            .filter(|value| !value.is_empty() && value.len() <= VALUE_BYTES_MAXIMUM);
        let mut value =
            value.ok_or_else(|| FileError::new(&path.0, "has no value that a header can have in it"))?;
        value.set_sensitive(true);
        if headers.insert(header, value).is_some() {
            return Err(SecurityError::Value(format!("{key} is among authentication.http.headers as well")));
        }
    }
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ACCEPT, JSON);
    Ok(headers)
}

/// A name of a header that is not for the protocol itself.
fn header_name(key: &str, name: &str) -> Result<HeaderName, SecurityError> {
    let wrong = |text: &str| SecurityError::Value(format!("{key} {text}"));
    let header: HeaderName = name.parse().map_err(|_| wrong("is no name of a header"))?;
    let reserved = [
        header::ACCEPT,
        header::ACCEPT_ENCODING,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    if reserved.contains(&header) { Err(wrong("is set by the broker")) } else { Ok(header) }
}

/// Whom a request over TLS may reach.
fn tls(ca: Option<&Path>) -> Result<TlsConfig, SecurityError> {
    let certificates = match ca {
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|error| FileError::new(path, format_args!("cannot be read: {error}")))?;
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
            let found = found.map_err(|_| FileError::new(path, "is no file of certificates in PEM"))?;
            let mut roots = RootCertStore::empty();
            if !found.iter().all(|certificate| roots.add(certificate.clone()).is_ok()) {
                return Err(FileError::new(path, "has a certificate in it that cannot be used").into());
            }
            if roots.is_empty() {
                return Err(FileError::new(path, "has no certificate in it").into());
            }
            found
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if certificates.is_empty() {
        let text =
            "this system has no authorities that could be trusted; name one in authentication.http.ca_file";
        return Err(SecurityError::Value(text.to_owned()));
    }
    let roots: Vec<_> = certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    // The algorithms are named here so that nothing depends on what else in the process uses rustls.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// What went wrong, in words of ours: an error of the library may show what was received.
fn describe(error: &Error) -> String {
    let text = match error {
        Error::Timeout(Timeout::Resolve) => "has an address that was not found out in time",
        Error::Timeout(Timeout::Connect) => "cannot be connected to in time",
        Error::Timeout(_) => "does not answer in time",
        Error::HostNotFound => "has a name that is not known",
        Error::LargeResponseHeader(..) => "answers with too many headers",
        Error::BodyExceedsLimit(_) => "answers with more than authentication.http.response_bytes_maximum",
        Error::Protocol(_) => "answers with something that is not HTTP",
        Error::Rustls(error) => return format!("cannot be reached by TLS: {error}"),
        Error::Tls(_) | Error::TlsRequired => "cannot be reached by TLS",
        Error::Io(error) => {
            // Some of the others come as the source of one of these.
            let inner = error.get_ref();
            if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<Error>()) {
                return describe(error);
            }
            if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return format!("cannot be reached by TLS: {error}");
            }
            return format!("cannot be asked: {}", error.kind());
        }
        _ => "cannot be asked",
    };
    text.to_owned()
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("uri", &self.uri).finish_non_exhaustive()
    }
}
