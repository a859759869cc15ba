use clap::{Args, Subcommand};
use lapwing_api::{Client, ClientDetail, ClientPage};

use super::table::{Table, plain, print};
use super::{Channel, json_line, path_part};

/// Look at the clients of a running broker, and end their connections.
#[derive(Debug, Args)]
pub(crate) struct ClientCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the clients that are connected, and those whose sessions are kept
    List {
        #[command(flatten)]
        channel: Channel,
    },
    /// Show one client with its subscriptions
    Show {
        /// The client identifier
        client_id: String,
        #[command(flatten)]
        channel: Channel,
    },
    /// End the connection of a client; its session stays as after any loss of a connection
    Kick {
        /// The client identifier
        client_id: String,
        #[command(flatten)]
        channel: Channel,
    },
}

impl ClientCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List { channel } => list(&channel),
            Command::Show { client_id, channel } => show(&client_id, &channel),
            Command::Kick { client_id, channel } => {
                Ok(channel.caller()?.delete(&format!("/api/v1/clients/{}", path_part(&client_id)))?)
            }
        }
    }
}

fn list(channel: &Channel) -> anyhow::Result<()> {
    let caller = channel.caller()?;
    let mut table = Table::new(&[
        "CLIENT",
        "USER",
        "PEER",
        "MQTT",
        "CONNECTED AT",
        "SUBSCRIPTIONS",
        "QUEUED",
        "IN FLIGHT",
    ]);
    let mut path = "/api/v1/clients?limit=1000".to_owned();
    loop {
        let page: ClientPage = caller.get(&path)?;
        for client in page.clients {
            if channel.json {
                print(&json_line(&client)?)?;
            } else {
                table.row(row(client));
            }
        }
        let Some(next) = page.next else { break };
        path = format!("/api/v1/clients?limit=1000&after={}", path_part(&next));
    }
    if channel.json { Ok(()) } else { table.print() }
}

fn row(client: Client) -> [String; 8] {
    let counts = [client.subscription_count, client.queued_messages, client.in_flight_messages];
    let [subscriptions, queued, in_flight] = counts.map(|count| count.to_string());
    let none = || "-".to_owned();
    let [user, peer, version, at] = match client.connection {
        Some(it) => [it.user_name.unwrap_or_else(none), it.peer, it.protocol_version, it.connected_at],
        None => [none(), none(), none(), none()],
    };
    [client.client_id, user, peer, version, at, subscriptions, queued, in_flight]
}

fn show(client_id: &str, channel: &Channel) -> anyhow::Result<()> {
    let path = format!("/api/v1/clients/{}", path_part(client_id));
    let ClientDetail { client, subscriptions } = channel.caller()?.get(&path)?;
    if channel.json {
        return print(&json_line(&ClientDetail { client, subscriptions })?);
    }
    let mut lines = vec![("client", client.client_id)];
    lines.extend(client.session_key.map(|key| ("session key", key)));
    match client.connection {
        Some(connection) => lines.extend([
            ("peer", connection.peer),
            ("user name", connection.user_name.unwrap_or_else(|| "-".to_owned())),
            ("MQTT", connection.protocol_version),
            ("keep alive", format!("{} s", connection.keep_alive_s)),
            ("connected at", connection.connected_at),
            ("waits to be written", format!("{} bytes", connection.outbox_bytes)),
        ]),
        None => lines.push(("connected", "no".to_owned())),
    }
    let expiry = match client.session_expiry_interval_s {
        u32::MAX => "never".to_owned(),
        seconds => format!("{seconds} s"),
    };
    lines.extend([
        ("session expiry", expiry),
        ("outlives a restart", if client.stored { "yes" } else { "no" }.to_owned()),
        ("queued", format!("{} messages, {} bytes", client.queued_messages, client.queued_bytes)),
        ("in flight", format!("{} messages", client.in_flight_messages)),
        ("subscriptions", client.subscription_count.to_string()),
    ]);
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<20} {}\n", plain(value))).collect();
    print(&lines)?;
    if subscriptions.is_empty() {
        return Ok(());
    }
    print("\n")?;
    let mut table = Table::new(&["QOS", "FILTER"]);
    for subscription in subscriptions {
        table.row([subscription.qos.to_string(), subscription.filter]);
    }
    table.print()
}
