//! What a token may do, and what a request needs.

use std::collections::HashMap;
use std::fmt;

use axum::http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token may do. Each role may do all that the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks, and changes nothing. Payloads are not shown to it.
    Viewer,
    /// Runs the broker from day to day: publishes, ends connections and sessions, bans, deletes retained messages, and has
    /// the configuration read anew.
    Operator,
    /// Everything: also the tokens of others, and backups, in which all messages are.
    Admin,
}

impl Role {
    /// All of them, from the one that may do least.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As in requests and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    Public,
    /// Nothing where `admin.metrics_public` says so, and the role of a viewer elsewhere.
    Metrics,
    /// A token with this role, or one that may do more.
    Needs(Role),
}

/// What each request needs, by its method and the path of its route.
#[derive(Debug, Default)]
pub(crate) struct AccessTable(HashMap<(Method, String), Access>);

impl AccessTable {
    pub(crate) fn add(&mut self, method: Method, path: &str, access: Access) {
        self.0.insert((method, plain(path)), access);
    }

    /// What a request needs whose route is `path`, as the router or as the description writes it. Where nobody has said what
    /// it needs, it is closed to all but administrators. HEAD is answered by what answers GET.
    pub(crate) fn of(&self, method: &Method, path: &str) -> Access {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let found = self.0.get(&(method.clone(), plain(path)));
        found.copied().unwrap_or(Access::Needs(Role::Admin))
    }
}

/// A path as the description writes it: the router has a word of its own for a rest with slashes in it.
fn plain(path: &str) -> String {
    path.replace("{*", "{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_of_which_nothing_is_said_is_closed() {
        let mut table = AccessTable::default();
        table.add(Method::GET, "/a", Access::Needs(Role::Viewer));
        assert_eq!(table.of(&Method::GET, "/a"), Access::Needs(Role::Viewer));
        assert_eq!(table.of(&Method::HEAD, "/a"), Access::Needs(Role::Viewer));
        for (method, path) in [(Method::POST, "/a"), (Method::GET, "/a/b"), (Method::GET, "/b")] {
            assert_eq!(table.of(&method, path), Access::Needs(Role::Admin));
        }
        table.add(Method::GET, "/c/{*rest}", Access::Public);
        assert_eq!(table.of(&Method::GET, "/c/{rest}"), Access::Public);
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
