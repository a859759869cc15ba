//! Who a client is, and what it may do: users and passwords, and rules of permission.
//!
//! [`Security`] is all of it together, for a broker's hooks. What decides is plain code below it: [`permission`] and [`password`].
#![forbid(unsafe_code)]

mod authentication;
mod change;
mod config;
mod fault;
pub mod fuzzing;
mod many;
pub mod password;
pub mod permission;
mod permit;
mod secret;
mod security;
mod standing;

pub use authentication::Algorithm;
pub use change::Changes;
pub use config::{
    Authentication, Certificate, CertificateUser, ClientIdBinding, Format, HeaderFile, HeaderValue, Http,
    Jwt, Method, Password, Permissions,
};
pub use fault::FileError;
pub use secret::Secret;
pub use security::{Security, SecurityConfig, SecurityError, SecurityStat};
