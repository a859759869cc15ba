use clap::Args;
use lapwing_api::Status as Answer;

use super::table::{Table, print};
use super::{Channel, json_line};

/// Show a running broker at a glance.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    channel: Channel,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let status: Answer = self.channel.caller()?.get("/api/v1/status")?;
        if self.channel.json {
            return print(&json_line(&status)?);
        }
        let mut lines = vec![
            ("version", status.version),
            ("state", status.state),
            ("uptime", format!("{} s", status.uptime_s)),
            ("listeners", status.listeners.join(", ")),
            ("store", status.store.unwrap_or_else(|| "none".to_owned())),
            ("clients", status.clients.to_string()),
            ("sessions", status.sessions.to_string()),
            ("subscriptions", status.subscriptions.to_string()),
            ("retained messages", format!("{} ({} bytes)", status.retained_messages, status.retained_bytes)),
            ("messages received", status.messages_received.to_string()),
            ("messages sent", status.messages_sent.to_string()),
            ("messages dropped", status.messages_dropped.to_string()),
        ];
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        if let Some(bytes) = status.memory_bytes {
            lines.push(("memory", mib(bytes)));
        }
        if let (Some(used), Some(maximum), Some(pressure)) =
            (status.memory_used_bytes, status.memory_maximum_bytes, status.memory_pressure)
        {
            lines.push(("memory budget", format!("{} of {}: {pressure}", mib(used), mib(maximum))));
        }
        let lines: String = lines.iter().map(|(name, value)| format!("{name:<18} {value}\n")).collect();
        print(&format!("{lines}\n"))?;
        let mut table = Table::new(&["SHARD", "CLIENTS", "SESSIONS", "BUSY", "MAILBOX BYTES"]);
        for (id, shard) in status.shards.iter().enumerate() {
            let numbers =
                [shard.clients, shard.sessions, shard.mailbox_bytes].map(|number| number.to_string());
            let [clients, sessions, mailbox] = numbers;
            table.row([id.to_string(), clients, sessions, format!("{:.0} %", shard.busy * 100.0), mailbox]);
        }
        table.print()
    }
}
