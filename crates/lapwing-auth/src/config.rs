//! What of all this the configuration says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lapwing_broker::hook::Anonymous;
use serde::{Deserialize, Serialize};

use crate::authentication::Algorithm;

/// Who is let in. A client shows who it is by one of the methods that are configured: `certificate`, `jwt`, `password` and
/// `http`, asked in this order. The first that knows the client decides; what none knows is left to `anonymous`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Authentication {
    /// Who is let in without proof of who they are: nobody, clients on this machine, or everybody. Where there is a way to prove it, only
    /// clients that present no user name and no password.
    pub anonymous: Anonymous,
    /// Which client identifiers a user may have: any; only its user name; or its user name with anything behind it.
    pub client_id: ClientIdBinding,
    /// Certificates of clients.
    pub certificate: Certificate,
    /// JSON Web Tokens, which clients present as passwords.
    pub jwt: Jwt,
    /// Users with passwords.
    pub password: Password,
    /// A service that is asked over HTTP.
    pub http: Http,
    /// Threads that look at passwords and tokens; 0 for one less than there are processors, and at least one.
    pub threads: usize,
    /// Clients that may wait for these threads; further ones are refused, as busy.
    pub queue_maximum: usize,
    /// Clients of one address that may wait, or of one network of IPv6.
    pub queue_address_maximum: usize,
    /// The longest that an address waits which presents wrong passwords again and again, in milliseconds; 0 for no such delays.
    pub delay_maximum_ms: u32,
    /// Verdicts about passwords and tokens that are remembered, so that clients which come again cost little; 0 for none.
    pub cache_maximum: usize,
    /// How long such a verdict is remembered.
    pub cache_s: u32,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            anonymous: Anonymous::default(),
            client_id: ClientIdBinding::default(),
            certificate: Certificate::default(),
            jwt: Jwt::default(),
            password: Password::default(),
            http: Http::default(),
            threads: 0,
            queue_maximum: 4096,
            queue_address_maximum: 1024,
            delay_maximum_ms: 5000,
            cache_maximum: 65_536,
            cache_s: 600,
        }
    }
}

/// Certificates of clients, on listeners that ask for them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Certificate {
    /// What of a certificate is the user name: its Common Name, the first name of a kind among its Subject Alternative Names, or its
    /// SHA-256 in hexadecimal digits. With `none` a certificate does not say who a client is.
    pub user: CertificateUser,
}

/// What of a certificate is the user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CertificateUser {
    /// Nothing.
    #[default]
    None,
    /// The Common Name.
    CommonName,
    /// The first DNS name.
    Dns,
    /// The first e-mail address.
    Email,
    /// The first URI.
    Uri,
    /// The SHA-256 of the certificate.
    Fingerprint,
}

/// JSON Web Tokens as passwords.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Jwt {
    /// Public keys in PEM by which tokens are verified: keys or certificates.
    pub key_file: Option<PathBuf>,
    /// A JSON Web Key Set with keys by which tokens are verified.
    pub jwks_file: Option<PathBuf>,
    /// A secret of at least 32 bytes that the issuer of tokens has as well; a line end behind it does not count.
    pub secret_file: Option<PathBuf>,
    /// The algorithms that are accepted, as in `["RS256", "ES256"]`. None: the usual one for each key, which is HS256, RS256, ES256,
    /// ES384 or EdDSA.
    pub algorithms: Vec<Algorithm>,
    /// The issuer that a token must name. None: any.
    pub issuer: Option<String>,
    /// The audience that a token must name. None: any.
    pub audience: Option<String>,
    /// By how much the clocks may differ.
    pub leeway_s: u32,
    /// Whether a token must say when it ends. A connection ends with its token.
    pub expiry_required: bool,
    /// The claim that is the user name.
    pub user_claim: String,
    /// The claim that has the groups, a text or a list.
    pub group_claim: Option<String>,
    /// Claims that become attributes, for rules; each a text or a list.
    pub attribute_claims: Vec<String>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            key_file: None,
            jwks_file: None,
            secret_file: None,
            algorithms: Vec::new(),
            issuer: None,
            audience: None,
            leeway_s: 30,
            expiry_required: true,
            user_claim: "sub".to_owned(),
            group_claim: Some("groups".to_owned()),
            attribute_claims: Vec::new(),
        }
    }
}

/// Users with passwords.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Password {
    /// The file of users, which `lapwing passwd` makes.
    pub file: Option<PathBuf>,
}

/// A service that is asked over HTTP about clients that present a user name or a password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Http {
    /// Where to ask: `http://HOST:PORT/PATH` or `https://HOST:PORT/PATH`. None: nobody is asked.
    pub url: Option<String>,
    /// File (PEM) with the authorities that are trusted for `https://`. None: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Headers of each request that are no secret, by their names.
    pub headers: BTreeMap<String, HeaderValue>,
    /// Headers of each request that are secret, by their names.
    pub header_files: BTreeMap<String, HeaderFile>,
    /// How long a connection to the service may take to be there, in milliseconds.
    pub connect_timeout_ms: u32,
    /// How long everything may take together, from looking up its address to the end of its answer, in milliseconds. Less than
    /// `limits.connect_timeout_s`, which is how long a client waits.
    pub timeout_ms: u32,
    /// Bytes of an answer; with more it is none.
    pub response_bytes_maximum: usize,
    /// Requests that may be under way. Others wait, within `authentication.queue_maximum`.
    pub connections: usize,
    /// How long an answer is remembered: at most `authentication.cache_s`, and half of the time for which it says that it holds. 0 for not
    /// at all.
    pub cache_s: u32,
}

/// The value of this header, for everybody to see who sees the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeaderValue(pub String);

/// File with the value of this header; a line end behind it does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeaderFile(pub PathBuf);

impl Default for Http {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            connect_timeout_ms: 2000,
            timeout_ms: 5000,
            response_bytes_maximum: 64 * 1024,
            connections: 8,
            cache_s: 60,
        }
    }
}

/// Which client identifiers a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ClientIdBinding {
    /// Any.
    #[default]
    Any,
    /// Its user name.
    User,
    /// Its user name, with anything behind it.
    Prefix,
}

/// A way to show who one is, or to be let in without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Method {
    /// By a certificate.
    Certificate,
    /// By a token.
    Jwt,
    /// By a password.
    Password,
    /// By the word of a service.
    Http,
    /// Not at all, as `authentication.anonymous` says.
    Anonymous,
}

impl Method {
    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Jwt => "jwt",
            Self::Password => "password",
            Self::Http => "http",
            Self::Anonymous => "anonymous",
        }
    }
}

/// What clients may do. Without a file of rules, everybody who is let in may do everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Permissions {
    /// The file of rules; an empty one, and one that is not there, allows nothing.
    pub file: Option<PathBuf>,
    /// How that file is written: as rules of Lapwing, or as an access control file of Mosquitto.
    pub format: Format,
    /// A file of rules of Lapwing that are not in force: what they would allow or deny otherwise than those in force is logged and
    /// counted.
    pub report_only: Option<PathBuf>,
}

/// How a file of rules is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Format {
    /// As rules of ours.
    #[default]
    Lapwing,
    /// As an access control file of Mosquitto.
    Mosquitto,
}
