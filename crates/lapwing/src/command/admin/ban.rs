use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use lapwing_api::{BanAnswer, BanKind, BanList, BanRequest};

use super::table::{Table, print};
use super::{Channel, json_line, path_part};
use crate::command::duration;

/// Keep clients out of a running broker, and let them in again.
#[derive(Debug, Args)]
pub(crate) struct BanCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List who is kept out
    List {
        #[command(flatten)]
        channel: Channel,
    },
    /// Keep somebody out, and end the connections that it concerns
    Add {
        #[command(flatten)]
        target: Target,
        /// For how long: 90s, 5m, 2h or 7d; without it, for ever
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        r#for: Option<Duration>,
        /// Why; clients of 5.0 are told
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        channel: Channel,
    },
    /// Let somebody in again
    Remove {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        channel: Channel,
    },
}

#[derive(Debug, Args)]
struct Target {
    /// What is banned
    kind: Kind,
    /// The address or range of addresses (10.1.0.0/16), the client identifier, or the user name
    value: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Whoever comes from an address
    Address,
    /// Who uses a client identifier
    Client,
    /// Who names a user
    User,
}

impl From<Kind> for BanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Address => Self::Address,
            Kind::Client => Self::ClientId,
            Kind::User => Self::User,
        }
    }
}

impl BanCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List { channel } => list(&channel),
            Command::Add { target: Target { kind, value }, r#for: lasts, reason, channel } => {
                let for_s = lasts.map(|lasts| lasts.as_secs());
                let request = BanRequest { kind: kind.into(), value, reason, for_s };
                let answer: BanAnswer = channel.caller()?.post("/api/v1/bans", &request)?;
                if channel.json {
                    return print(&json_line(&answer)?);
                }
                match answer.disconnected {
                    0 => Ok(()),
                    count => print(&format!("{count} disconnected\n")),
                }
            }
            Command::Remove { target: Target { kind, value }, channel } => {
                let kind = BanKind::from(kind).name();
                Ok(channel.caller()?.delete(&format!("/api/v1/bans/{kind}/{}", path_part(&value)))?)
            }
        }
    }
}

fn list(channel: &Channel) -> anyhow::Result<()> {
    let BanList { bans } = channel.caller()?.get("/api/v1/bans")?;
    if channel.json {
        return bans.iter().try_for_each(|ban| print(&json_line(ban)?));
    }
    let mut table = Table::new(&["KIND", "VALUE", "UNTIL", "REASON"]);
    for ban in bans {
        let kind = match ban.kind {
            BanKind::Address => "address",
            BanKind::ClientId => "client",
            BanKind::User => "user",
        };
        table.row([kind.to_owned(), ban.value, ban.until.unwrap_or_else(|| "-".to_owned()), ban.reason]);
    }
    table.print()
}
