//! What fuzz targets and property tests do with arbitrary bytes. Not for use by programs.
//!
//! Each function takes any bytes and panics if something does not hold. The targets in `fuzz/` only call
//! them, so that the harnesses are compiled, linted and run on stable Rust as well.

mod decode;
mod session;
mod topic_filter;

pub use decode::decode;
pub use session::session;
pub use topic_filter::topic_filter;
