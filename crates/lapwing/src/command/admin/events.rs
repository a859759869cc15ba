use std::io::{self, BufRead, BufReader, Write};

use anyhow::Context;
use clap::Args;
use lapwing_api::{Event, EventKind};

use super::table::plain;
use super::{Channel, path_part};

/// Show what happens in a running broker, as it happens, until Ctrl-C.
///
/// Clients that come and go or are refused, sessions, subscriptions, bans, full queues, reloads. Whoever reads too
/// slowly loses events, and a line says how many.
#[derive(Debug, Args)]
pub(crate) struct EventsCommand {
    /// Only what concerns this client identifier
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// Only these kinds; may be there more than once
    #[arg(long, value_name = "KIND", value_parser = EventKind::ALL.map(EventKind::name))]
    kind: Vec<String>,
    #[command(flatten)]
    channel: Channel,
}

impl EventsCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let caller = self.channel.caller()?;
        let mut query = Vec::new();
        if !self.kind.is_empty() {
            query.push(format!("kind={}", self.kind.join(",")));
        }
        query.extend(self.client.as_deref().map(|client| format!("client_id={}", path_part(client))));
        let path = format!("/api/v1/events?{}", query.join("&"));
        loop {
            // A stream ends after a while: then another one goes on.
            for line in BufReader::new(caller.download(&path)?).lines() {
                let line = line.context("the stream of events has broken off")?;
                let Some(data) = line.strip_prefix("data: ") else { continue };
                match io::stdout().write_all(self.text(data)?.as_bytes()) {
                    // Whoever has closed it has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    result => result?,
                }
            }
        }
    }

    fn text(&self, data: &str) -> anyhow::Result<String> {
        if self.channel.json {
            return Ok(format!("{data}\n"));
        }
        let event = serde_json::from_str(data).context("the broker has sent what is no event")?;
        Ok(sentence(event))
    }
}

/// A line for people.
fn sentence(event: Event) -> String {
    let mut line = format!("{} {:<15}", event.at, event.kind.name());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!(" {name}{}", plain(&value)));
        }
    };
    add("", event.client_id.filter(|_| event.target.is_none()));
    add("", event.target);
    add("user=", event.user_name);
    add("peer=", event.peer);
    add("filter=", event.filter);
    add("qos=", event.qos.map(|qos| qos.to_string()));
    add("count=", event.count.map(|count| count.to_string()));
    add("code=", event.reason_code.map(|code| format!("{code:#04x}")));
    add("reason=", event.reason);
    line.push('\n');
    line
}
