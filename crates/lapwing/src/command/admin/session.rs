use clap::{Args, Subcommand};
use lapwing_api::{Session, SessionPage, SubscriptionPage};

use super::table::{Table, plain, print};
use super::{Channel, json_line, path_part};

/// Look at the sessions of a running broker, and end them.
#[derive(Debug, Args)]
pub(crate) struct SessionCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sessions
    List {
        /// Only those whose clients are connected
        #[arg(long, conflicts_with = "offline")]
        connected: bool,
        /// Only those whose clients are not connected
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        channel: Channel,
    },
    /// Show one session with its subscriptions
    Show {
        /// The client identifier
        client_id: String,
        #[command(flatten)]
        channel: Channel,
    },
    /// End a session, with its subscriptions and all that waits for it; its client is disconnected
    Delete {
        /// The client identifier
        client_id: String,
        #[command(flatten)]
        channel: Channel,
    },
}

impl SessionCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List { connected, offline, channel } => {
                let which = match (connected, offline) {
                    (true, _) => "&connected=true",
                    (_, true) => "&connected=false",
                    _ => "",
                };
                list(which, &channel)
            }
            Command::Show { client_id, channel } => show(&client_id, &channel),
            Command::Delete { client_id, channel } => {
                Ok(channel.caller()?.delete(&format!("/api/v1/sessions/{}", path_part(&client_id)))?)
            }
        }
    }
}

fn list(which: &str, channel: &Channel) -> anyhow::Result<()> {
    let caller = channel.caller()?;
    let mut table = heading();
    let mut after = String::new();
    loop {
        let page: SessionPage = caller.get(&format!("/api/v1/sessions?limit=1000{which}{after}"))?;
        for session in page.sessions {
            if channel.json {
                print(&json_line(&session)?)?;
            } else {
                table.row(row(session));
            }
        }
        let Some(next) = page.next else { break };
        after = format!("&after={}", path_part(&next));
    }
    if channel.json { Ok(()) } else { table.print() }
}

pub(super) fn heading() -> Table {
    Table::new(&[
        "CLIENT",
        "OWNER",
        "CONNECTED",
        "EXPIRY",
        "STORED",
        "SUBSCRIPTIONS",
        "QUEUED",
        "IN FLIGHT",
        "BYTES",
    ])
}

pub(super) fn row(session: Session) -> [String; 9] {
    [
        session.client_id,
        session.owner.unwrap_or_else(|| "-".to_owned()),
        yes_or_no(session.connected),
        expiry(session.session_expiry_interval_s),
        yes_or_no(session.stored),
        session.subscription_count.to_string(),
        session.queued_messages.to_string(),
        session.in_flight_messages.to_string(),
        session.bytes.total.to_string(),
    ]
}

fn yes_or_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

fn expiry(seconds: u32) -> String {
    match seconds {
        u32::MAX => "never".to_owned(),
        seconds => format!("{seconds} s"),
    }
}

fn show(client_id: &str, channel: &Channel) -> anyhow::Result<()> {
    let caller = channel.caller()?;
    let path = format!("/api/v1/sessions/{}", path_part(client_id));
    let session: Session = caller.get(&path)?;
    if channel.json {
        return print(&json_line(&session)?);
    }
    let mut lines = vec![("client", session.client_id)];
    lines.extend(session.session_key.map(|key| ("session key", key)));
    lines.extend([
        ("owner", session.owner.unwrap_or_else(|| "-".to_owned())),
        ("connected", yes_or_no(session.connected)),
        ("session expiry", expiry(session.session_expiry_interval_s)),
    ]);
    lines.extend(session.expires_at.map(|at| ("ends at", at)));
    let bytes = session.bytes;
    lines.extend([
        ("outlives a restart", yes_or_no(session.stored)),
        (
            "queued",
            format!(
                "{} messages, {} bytes in memory, {} bytes on the disk only",
                session.queued_messages, bytes.queued, bytes.spilled
            ),
        ),
        ("in flight", format!("{} messages, {} bytes", session.in_flight_messages, bytes.in_flight)),
        ("waits to be written", format!("{} bytes", bytes.outbox)),
        ("subscriptions", format!("{}, {} bytes", session.subscription_count, bytes.subscriptions)),
    ]);
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<20} {}\n", plain(value))).collect();
    print(&lines)?;
    if session.subscription_count == 0 {
        return Ok(());
    }
    print("\n")?;
    let mut table = Table::new(&["QOS", "FILTER"]);
    let mut after = String::new();
    loop {
        let page: SubscriptionPage = caller.get(&format!("{path}/subscriptions?limit=1000{after}"))?;
        for subscription in page.subscriptions {
            table.row([subscription.qos.to_string(), subscription.filter]);
        }
        let Some(next) = page.next else { break };
        after = format!("&after={}", path_part(&next));
    }
    table.print()
}
