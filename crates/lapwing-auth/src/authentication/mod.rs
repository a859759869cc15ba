//! How clients show who they are.

mod address;
mod cache;
mod certificate;
mod chain;
mod claim;
mod gate;
mod http;
mod jwt;
mod look;
mod pool;
mod pools;
mod proof;
mod queue;
mod scram;

pub(crate) use gate::{Files, Gate};
pub(crate) use http::Service;
pub use jwt::Algorithm;
pub(crate) use jwt::Tokens;
pub(crate) use look::Stat;
pub(crate) use pools::Pools;
#[cfg(test)]
pub(crate) use proof::Proof;
pub(crate) use proof::Proven;
