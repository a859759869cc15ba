//! The subcommands, a file each.

pub(crate) mod acl;
pub(crate) mod admin;
mod client;
pub(crate) mod config;
mod duration;
pub(crate) mod import;
pub(crate) mod passwd;
pub(crate) mod publish;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod subscribe;
pub(crate) mod torture;
