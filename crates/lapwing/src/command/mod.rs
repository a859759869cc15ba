//! The subcommands, a file each.

pub(crate) mod config;
pub(crate) mod serve;
