use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use lapwing_api::{Role, TokenAnswer, TokenList, TokenRequest};

use super::table::{Table, print};
use super::{Channel, json_line, path_part};
use crate::command::duration;

/// Make tokens for the admin channel, with a name and a role, and take them away.
///
/// Each person and each program gets a token of its own, with no more than it needs. Its name stands in the log with all
/// that it changes.
#[derive(Debug, Args)]
pub(crate) struct TokenCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, and print it: it is shown once
    Add {
        /// Its name: letters of ASCII, digits, '.', '_' and '-'
        name: String,
        /// What it may do
        #[arg(long)]
        role: RoleArgument,
        /// When it ends: after 90s, 5m, 2h or 30d; without it, never
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        expires: Option<Duration>,
        #[command(flatten)]
        channel: Channel,
    },
    /// List the tokens that there are, without their secrets
    List {
        #[command(flatten)]
        channel: Channel,
    },
    /// Have a token open nothing any more, from now on
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        channel: Channel,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArgument {
    /// Looks, and changes nothing; payloads are not shown
    Viewer,
    /// Also publishes, ends connections and sessions, bans, deletes retained messages, reloads
    Operator,
    /// Everything, also tokens and backups
    Admin,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Viewer => Self::Viewer,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Admin => Self::Admin,
        }
    }
}

impl TokenCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Add { name, role, expires, channel } => {
                let expires_in_s = expires.map(|expires| expires.as_secs());
                let request = TokenRequest { name, role: role.into(), expires_in_s };
                let answer: TokenAnswer = channel.caller()?.post("/api/v1/tokens", &request)?;
                if channel.json {
                    return print(&json_line(&answer)?);
                }
                print(&format!("{}\n", answer.token))?;
                if io::stdout().is_terminal() {
                    // Nothing can be done where standard error is closed.
                    let _ = writeln!(io::stderr(), "keep it: it is not shown again");
                }
                Ok(())
            }
            Command::List { channel } => list(&channel),
            Command::Remove { name, channel } => {
                Ok(channel.caller()?.delete(&format!("/api/v1/tokens/{}", path_part(&name)))?)
            }
        }
    }
}

fn list(channel: &Channel) -> anyhow::Result<()> {
    let TokenList { tokens } = channel.caller()?.get("/api/v1/tokens")?;
    if channel.json {
        return tokens.iter().try_for_each(|token| print(&json_line(token)?));
    }
    let mut table = Table::new(&["NAME", "ROLE", "CREATED AT", "ENDS AT"]);
    for token in tokens {
        let ends = match token.expires_at {
            Some(at) if token.expired => format!("{at} (has ended)"),
            Some(at) => at,
            None => "-".to_owned(),
        };
        table.row([token.name, token.role.to_string(), token.created_at, ends]);
    }
    table.print()
}
