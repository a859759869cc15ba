//! Users and what is kept of their passwords.

mod edit;
mod hash;
mod mosquitto;
pub(crate) mod scram;
mod users;

pub(crate) use edit::is_open_to_others;
pub use edit::{EditError, UserFile};
pub use hash::{Cost, HashError, PasswordHash, Workspace};
pub use mosquitto::read as read_mosquitto;
pub use scram::{Verifier, VerifierError};
pub use users::{User, Users, Verification};
