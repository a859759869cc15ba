//! What of all this the configuration says.

use std::path::PathBuf;

use lapwing_broker::hook::Anonymous;
use serde::{Deserialize, Serialize};

/// Who is let in. A client shows who it is by one of the methods that are configured: `certificate`, `jwt` and `password`,
/// asked in this order. The first that knows the client decides; what none knows is left to `anonymous`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Authentication {
    /// Who is let in without proof of who they are: nobody, clients on this machine, or everybody. Where there is a way to prove it, only
    /// clients that present no user name and no password.
    pub anonymous: Anonymous,
    /// Which client identifiers a user may have: any; only its user name; or its user name with anything behind it.
    pub client_id: ClientIdBinding,
    /// Users with passwords.
    pub password: Password,
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
            password: Password::default(),
            threads: 0,
            queue_maximum: 4096,
            queue_address_maximum: 1024,
            delay_maximum_ms: 5000,
            cache_maximum: 65_536,
            cache_s: 600,
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
    /// By a password.
    Password,
    /// Not at all, as `authentication.anonymous` says.
    Anonymous,
}

impl Method {
    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
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
