//! What a client presents, and who it has shown to be.

use std::sync::Arc;
use std::time::SystemTime;

use lapwing_broker::hook::Credentials;

use crate::config::ClientIdBinding;
use crate::password::User;
use crate::permission::{Glob, Ruleset};
use crate::secret::Secret;

/// What a client presents, to be looked at on another thread.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) user: Option<Arc<str>>,
    pub(super) password: Option<Secret>,
}

impl Presented {
    pub(super) fn new(credentials: &Credentials<'_>) -> Self {
        Self { user: credentials.user_name.map(Arc::from), password: credentials.password.map(Secret::new) }
    }
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
    /// Rules that hold for it in place of those for all.
    pub(crate) rules: Option<Arc<Ruleset>>,
    /// Until when it is so.
    pub(crate) expires: Option<SystemTime>,
}

impl Proven {
    /// A user of the file.
    pub(super) fn of_user(user: Arc<User>) -> Self {
        Self {
            user: Arc::clone(&user.name),
            attributes: Arc::clone(&user.attributes),
            client_ids: Arc::clone(&user.client_ids),
            account: Some(user),
            rules: None,
            expires: None,
        }
    }

    /// Whether it may have this client identifier.
    pub(super) fn may_be(&self, client_id: &str, binding: ClientIdBinding) -> bool {
        let is_bound = match binding {
            ClientIdBinding::Any => true,
            ClientIdBinding::User => client_id == &*self.user,
            ClientIdBinding::Prefix => client_id.starts_with(&*self.user),
        };
        is_bound && (self.client_ids.is_empty() || self.client_ids.iter().any(|glob| glob.matches(client_id)))
    }
}

/// What a method says about what was presented.
#[derive(Debug, Clone)]
pub(super) enum Opinion {
    /// It is this user.
    Accept(Proven),
    /// It is nobody who may come in, whatever other methods say.
    Refuse(&'static str),
    /// Another method may know.
    Unknown,
}
