//! What a client presents, and who it has shown to be.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use lapwing_broker::hook::Credentials;
use lapwing_proto::packet::ProtocolVersion;

use crate::config::{CertificateUser, ClientIdBinding, Jwt};
use crate::password::User;
use crate::permission::{Glob, Ruleset};
use crate::secret::Secret;

/// What a client presents, to be looked at on another thread.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) user: Option<Arc<str>>,
    pub(super) password: Option<Secret>,
    pub(super) client_id: Box<str>,
    pub(super) address: IpAddr,
    pub(super) listener: Arc<str>,
    pub(super) version: ProtocolVersion,
    /// In DER.
    pub(super) certificate: Option<Box<[u8]>>,
}

impl Presented {
    pub(super) fn new(credentials: &Credentials<'_>) -> Self {
        Self {
            user: credentials.user_name.map(Arc::from),
            password: credentials.password.map(Secret::new),
            client_id: credentials.client_id.into(),
            address: credentials.peer.ip(),
            listener: credentials.listener.into(),
            version: credentials.version,
            certificate: credentials.certificate.map(Into::into),
        }
    }
}

/// By what a client has shown who it is.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// A password of the file of users.
    Password,
    /// A certificate, of which this is the user name.
    Certificate(CertificateUser),
    /// A token that was signed by this key, and read by these terms.
    Token { key: [u8; 32], terms: Arc<Jwt> },
    /// The word of the service at this URL.
    Http { url: Arc<str> },
}

/// Who a client has shown to be, and what came with the proof.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    /// The user name.
    pub(crate) user: Arc<str>,
    /// What else is known.
    pub(crate) attributes: Arc<[(Arc<str>, Arc<str>)]>,
    /// Patterns of client identifiers that it may have; any, where there are none.
    pub(crate) client_ids: Arc<[Glob]>,
    /// Where it is in the file of users: as it was there at the time.
    pub(crate) account: Option<Arc<User>>,
    /// By what it has shown that.
    pub(crate) proof: Proof,
    /// Rules that hold for it in place of those for all.
    pub(crate) rules: Option<Arc<Ruleset>>,
    /// Until when it is so.
    pub(crate) expires: Option<SystemTime>,
}

impl Proven {
    /// A user of the file.
    pub(crate) fn of_user(user: Arc<User>, proof: Proof) -> Self {
        Self {
            user: Arc::clone(&user.name),
            attributes: Arc::clone(&user.attributes),
            client_ids: Arc::clone(&user.client_ids),
            account: Some(user),
            proof,
            rules: None,
            expires: None,
        }
    }

    /// Somebody of whom the file knows nothing.
    pub(crate) fn of_name(name: Arc<str>, proof: Proof) -> Self {
        Self {
            user: name,
            attributes: Arc::default(),
            client_ids: Arc::default(),
            account: None,
            proof,
            rules: None,
            expires: None,
        }
    }

    /// Whether it may have this client identifier.
    pub(crate) fn may_be(&self, client_id: &str, binding: ClientIdBinding) -> bool {
        let is_bound = match binding {
            ClientIdBinding::Any => true,
            ClientIdBinding::User => client_id == &*self.user,
            ClientIdBinding::Prefix => client_id.starts_with(&*self.user),
        };
        is_bound && (self.client_ids.is_empty() || self.client_ids.iter().any(|glob| glob.matches(client_id)))
    }
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What it presented is wrong.
    Wrong(&'static str),
    /// It may be right, but nobody can say at the moment.
    Unavailable(&'static str),
}

/// What a method says about what was presented.
#[derive(Debug, Clone)]
pub(super) enum Opinion {
    /// It is this user.
    Accept(Proven),
    /// It is nobody who may come in, whatever other methods say.
    Refuse(&'static str),
    /// Nobody can say at the moment: nobody comes in by it, whatever other methods say.
    Fault(&'static str),
    /// Another method may know.
    Unknown,
}
