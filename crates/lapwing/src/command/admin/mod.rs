//! The commands that ask a running broker, through its admin channel.

mod ban;
mod client;
mod events;
mod explain;
mod reload;
mod retained;
mod session;
mod status;
mod table;
mod token;
mod usage;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use lapwing_api::{Caller, Token};
use serde::Serialize;

pub(crate) use self::ban::BanCommand;
pub(crate) use self::client::ClientCommand;
pub(crate) use self::events::EventsCommand;
pub(crate) use self::explain::ExplainCommand;
pub(crate) use self::reload::ReloadCommand;
pub(crate) use self::retained::RetainedCommand;
pub(crate) use self::session::SessionCommand;
pub(crate) use self::status::Status;
pub(crate) use self::token::TokenCommand;
pub(crate) use self::usage::UsageCommand;
use crate::store;

/// The token itself is no argument: the process list would show it.
const TOKEN: &str = "LAPWING_ADMIN_TOKEN";

/// Where the admin channel is, and the file with what opens it.
#[derive(Debug, Args)]
pub(crate) struct Door {
    /// Address of the admin channel: HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = lapwing_api::DEFAULT_LISTEN, env = "LAPWING_ADMIN")]
    admin: String,
    /// The file with the token; without it, the token is taken from the environment variable LAPWING_ADMIN_TOKEN, or
    /// else from the file admin-token in the data directory
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// What all these commands need.
#[derive(Debug, Args)]
struct Channel {
    #[command(flatten)]
    door: Door,
    /// The data directory of the broker
    #[arg(long, value_name = "DIR", env = "LAPWING_DATA")]
    data: Option<PathBuf>,
    /// Print JSON, an object on each line
    #[arg(long)]
    json: bool,
}

impl Channel {
    fn caller(&self) -> anyhow::Result<Caller> {
        let data = self.data.clone().map_or_else(store::default_directory, Ok)?;
        self.door.caller(&data)
    }
}

impl Door {
    /// For the broker of a data directory.
    pub(crate) fn caller(&self, data: &Path) -> anyhow::Result<Caller> {
        Ok(Caller::new(&self.admin, self.token(data)?))
    }

    fn token(&self, data: &Path) -> anyhow::Result<Token> {
        if let Some(path) = &self.token_file {
            return Ok(Token::read(path)?);
        }
        if let Some(text) = std::env::var_os(TOKEN).filter(|text| !text.is_empty()) {
            let token = text.to_str().and_then(Token::new);
            return token.with_context(|| format!("what {TOKEN} holds is no token"));
        }
        let hint = "is it the data directory of the broker (--data), and may you read it?";
        Token::read(&Token::path(data)).context(hint)
    }
}

/// A value on a line of its own.
fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// A part of a path, whatever characters it has.
fn path_part(text: &str) -> String {
    let mut part = String::new();
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                part.push(char::from(byte));
            }
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}
