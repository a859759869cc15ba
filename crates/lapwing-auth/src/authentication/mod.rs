//! How clients show who they are.

mod address;
mod cache;
mod chain;
mod gate;
mod pool;
mod proof;
mod queue;

pub(crate) use gate::{Gate, Stat, start_pool};
pub(crate) use pool::Pool;
pub(crate) use proof::Proven;
