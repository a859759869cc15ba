//! What threads share data by, as far as the mailboxes are made of it. The model of the mailbox
//! (`tests/mailbox.rs`) puts something else in its place.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) use mio::Waker;
