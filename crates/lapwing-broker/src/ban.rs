//! Who is kept out, and for how long.

use std::time::{Duration, SystemTime};

use lapwing_net::Network;

/// Whom a ban keeps out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BanTarget {
    /// Whoever comes from one of these addresses. Their connections are closed unread.
    Address(Network),
    /// Who uses this client identifier.
    ClientId(String),
    /// Who names this user, with whatever password.
    User(String),
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Whom it keeps out.
    pub target: BanTarget,
    /// Why, for people.
    pub reason: String,
    /// When it ends; `None` for never.
    pub until: Option<SystemTime>,
    /// Whether the broker has made it by itself.
    pub is_automatic: bool,
}

impl Ban {
    /// One that an administrator makes, from now on.
    pub fn new(target: BanTarget, reason: impl Into<String>, lasts: Option<Duration>) -> Self {
        let until = lasts.and_then(|lasts| SystemTime::now().checked_add(lasts));
        Self { target, reason: reason.into(), until, is_automatic: false }
    }
}
