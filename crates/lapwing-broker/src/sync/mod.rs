//! What threads share data by: all that `shared` and the mailboxes are made of.
//!
//! Tests put something else in its place: the model of the mailbox (`tests/mailbox.rs`), and the simulation in which
//! threads run one at a time, where each access is a point at which another one may go on.

#[cfg(test)]
mod point;

#[cfg(test)]
pub(crate) use self::point::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, RwLock, Scheduler, Waker, run_under,
};
#[cfg(not(test))]
pub(crate) use mio::Waker;
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, RwLock};

pub(crate) use std::sync::atomic::Ordering;
