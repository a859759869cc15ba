//! Who a client is, and what it may do.
#![forbid(unsafe_code)]

mod fault;
mod many;
pub mod password;
pub mod permission;

pub use fault::FileError;
