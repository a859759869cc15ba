//! What is remembered of how a client was let in, on its identity.

use std::sync::Arc;
use std::time::Duration;

use lapwing_broker::hook::{Client, Grants, Identity};

use crate::authentication::{Gate, Proven};
use crate::password::Users;
use crate::permission::{Ruleset, Subject};

/// How a client was let in.
#[derive(Debug)]
pub(crate) struct Standing {
    proven: Option<Proven>,
}

impl Standing {
    /// Of a client that has given a name and has not shown that it is its own.
    pub(crate) fn unproven() -> Self {
        Self { proven: None }
    }

    /// Of one that has.
    pub(crate) fn proven(proven: Proven) -> Self {
        Self { proven: Some(proven) }
    }

    pub(crate) fn into_grants(self) -> Grants {
        Grants(Arc::new(self))
    }

    /// Who the client is. Its sessions are its own.
    pub(crate) fn into_identity(self, valid_for: Option<Duration>) -> Identity {
        let Some(proven) = &self.proven else { return Identity::default() };
        Identity {
            user_name: Some(Arc::clone(&proven.user)),
            owner: Some(Arc::clone(&proven.user)),
            attributes: proven.attributes.to_vec(),
            valid_for,
            grants: Some(self.into_grants()),
            ..Identity::default()
        }
    }

    /// That of a client, if it was let in here.
    pub(crate) fn of(client: &Client) -> Option<&Self> {
        client.identity.grants.as_ref()?.0.downcast_ref()
    }

    /// Rules that hold for this client alone.
    pub(crate) fn rules(&self) -> Option<&Arc<Ruleset>> {
        self.proven.as_ref()?.rules.as_ref()
    }

    /// Whether the client would still be let in, by the files and the configuration as they are now: with the password that it had, for
    /// instance, or by the key that its token was signed with.
    pub(crate) fn still_holds(&self, client: &Client, gate: &Gate) -> bool {
        match &self.proven {
            Some(proven) => gate.still_accepts(client, proven),
            None => gate.still_accepts_unproven(client),
        }
    }

    /// What rules see of the client. Of a user of the file, what the file says now.
    pub(crate) fn subject<'a>(&'a self, client: &'a Client, users: Option<&'a Users>) -> Subject<'a> {
        let proven = self.proven.as_ref();
        let account = proven.and_then(|proven| proven.account.as_ref());
        let now = account.and_then(|account| users?.get(&account.name));
        let attributes = match (now, proven) {
            (Some(now), _) => &now.attributes[..],
            (None, Some(proven)) => &proven.attributes[..],
            (None, None) => &[],
        };
        Subject {
            client_id: &client.client_id,
            user: proven.map(|proven| &*proven.user),
            attributes,
            listener: &client.listener,
            address: client.peer.ip(),
        }
    }
}

/// What rules see of a client that has no standing: nobody, or one that somebody else let in, whose word is taken for it.
pub(crate) fn foreign_subject(client: &Client) -> Subject<'_> {
    Subject {
        client_id: &client.client_id,
        user: client.identity.user_name.as_deref(),
        attributes: &client.identity.attributes,
        listener: &client.listener,
        address: client.peer.ip(),
    }
}
