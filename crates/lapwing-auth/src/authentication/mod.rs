//! How clients show who they are.

mod address;
mod cache;
mod certificate;
mod chain;
mod gate;
mod jwt;
mod pool;
mod proof;
mod queue;
mod scram;

pub(crate) use gate::{Gate, Stat, start_pool};
pub use jwt::Algorithm;
pub(crate) use jwt::Tokens;
pub(crate) use pool::Pool;
pub(crate) use proof::Proven;
