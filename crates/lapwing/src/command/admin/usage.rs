use clap::Args;
use lapwing_api::Usage as Answer;

use super::table::print;
use super::{Channel, json_line, session};

/// Show who takes how much of a running broker's memory and disk.
#[derive(Debug, Args)]
pub(crate) struct UsageCommand {
    /// How many sessions are shown: those that take the most
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    top: u32,
    #[command(flatten)]
    channel: Channel,
}

impl UsageCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self { top, channel } = self;
        let usage: Answer = channel.caller()?.get(&format!("/api/v1/usage?top={top}"))?;
        if channel.json {
            return print(&json_line(&usage)?);
        }
        let Answer { memory, disk, sessions } = usage;
        let lines = [
            ("memory of the process", memory.resident),
            ("  retained messages", Some(memory.retained)),
            ("  queued messages", Some(memory.queued)),
            ("  messages in flight", Some(memory.in_flight)),
            ("  subscriptions", Some(memory.subscriptions)),
            ("  outboxes", Some(memory.outboxes)),
            ("  mailboxes", Some(memory.mailboxes)),
            ("data directory", disk.data_directory),
            ("  queued there only", Some(disk.queued)),
        ];
        let line = |(name, bytes): &(&str, Option<u64>)| match bytes {
            Some(bytes) => format!("{name:<22} {bytes:>14} bytes\n"),
            None => format!("{name:<22} {:>14}\n", "-"),
        };
        print(&lines.iter().map(line).collect::<String>())?;
        if sessions.is_empty() {
            return Ok(());
        }
        print("\n")?;
        let mut table = session::heading();
        for session in sessions {
            table.row(session::row(session));
        }
        table.print()
    }
}
