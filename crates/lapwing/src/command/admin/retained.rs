use clap::{Args, Subcommand};
use lapwing_api::{RetainedMessage, RetainedPage};

use super::table::{Table, print};
use super::{Channel, json_line, path_part};

/// Characters of a payload in a table.
const PAYLOAD_SHOWN: usize = 60;

/// Look at the retained messages of a running broker, and delete them.
#[derive(Debug, Args)]
pub(crate) struct RetainedCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List retained messages
    List {
        /// Those whose topics match; # leaves out topics that begin with $
        #[arg(default_value = "#")]
        filter: String,
        #[command(flatten)]
        channel: Channel,
    },
    /// Delete the retained message of a topic
    Delete {
        /// The topic name
        topic: String,
        #[command(flatten)]
        channel: Channel,
    },
}

impl RetainedCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List { filter, channel } => list(&filter, &channel),
            Command::Delete { topic, channel } => {
                Ok(channel.caller()?.delete(&format!("/api/v1/retained/{}", path_part(&topic)))?)
            }
        }
    }
}

fn list(filter: &str, channel: &Channel) -> anyhow::Result<()> {
    let caller = channel.caller()?;
    let mut table = Table::new(&["TOPIC", "QOS", "BYTES", "PAYLOAD"]);
    let first = format!("/api/v1/retained?limit=1000&filter={}", path_part(filter));
    let mut path = first.clone();
    loop {
        let page: RetainedPage = caller.get(&path)?;
        for message in page.messages {
            if channel.json {
                print(&json_line(&message)?)?;
            } else {
                table.row(row(message));
            }
        }
        let Some(next) = page.next else { break };
        path = format!("{first}&after={}", path_part(&next));
    }
    if channel.json { Ok(()) } else { table.print() }
}

fn row(message: RetainedMessage) -> [String; 4] {
    let mark = if message.is_text() { "" } else { "base64: " };
    let payload = match message.payload {
        Some(whole) => {
            let mut payload: String = whole.chars().take(PAYLOAD_SHOWN).collect();
            if payload.len() < whole.len() {
                payload.push('…');
            }
            format!("{mark}{payload}")
        }
        // A viewer is not shown any.
        None => "-".to_owned(),
    };
    [message.topic, message.qos.to_string(), message.payload_bytes.to_string(), payload]
}
