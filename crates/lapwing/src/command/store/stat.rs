use std::path::Path;

use clap::Args;
use lapwing_store::QueueCount;
use lapwing_store::engine::disk_bytes;
use lapwing_store::stat::Stat;
use serde_json::json;

use super::{Data, explain, grouped, line, look};

/// Say how much the store has of what, and which sessions have the most waiting.
///
/// It changes nothing. Bytes of messages are those of topic, properties and payload.
#[derive(Debug, Args)]
pub(super) struct Stats {
    #[command(flatten)]
    data: Data,
    /// How many sessions to name, those with the most bytes waiting first
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.data.existing()?;
        let view = look(&folder).map_err(|error| explain(error, "look into the store"))?;
        let stat = Stat::read(view.engine(), self.top).map_err(|error| view.original(error))?;
        let disk = disk_bytes(&folder)?;
        if self.json {
            line(json(&stat, disk));
        } else {
            table(&folder, &stat, disk);
        }
        Ok(())
    }
}

fn json(stat: &Stat, disk: u64) -> serde_json::Value {
    let both = |count: QueueCount| json!({ "messages": count.messages, "bytes": count.bytes });
    let top = stat.top.iter().map(|of| {
        json!({ "client_id": of.name, "session": of.session, "messages": of.messages, "bytes": of.bytes })
    });
    let top: Vec<_> = top.collect();
    json!({
        "sessions": stat.sessions,
        "sessions_over": stat.sessions_over,
        "subscriptions": stat.subscriptions,
        "queued": both(stat.queued),
        "shared": both(stat.shared),
        "retained": both(stat.retained),
        "delayed": both(stat.delayed),
        "flows": { "inbound": stat.flows_inbound, "outbound": stat.flows_outbound },
        "unreadable": stat.unreadable,
        "disk_bytes": disk,
        "top": top,
    })
}

fn table(folder: &Path, stat: &Stat, disk: u64) {
    let row = |name: &str, number: u64, bytes: Option<u64>| {
        let bytes = bytes.map_or_else(String::new, |bytes| format!("{:>20} bytes", grouped(bytes)));
        line(format_args!("{name:<32}{:>16}{bytes}", grouped(number)));
    };
    let both = |name: &str, count: QueueCount| row(name, count.messages, Some(count.bytes));
    line(folder.display());
    row("sessions", stat.sessions, None);
    if stat.sessions_over > 0 {
        row("sessions that are over", stat.sessions_over, None);
    }
    row("subscriptions", stat.subscriptions, None);
    both("queued messages", stat.queued);
    both("  stored once for several", stat.shared);
    both("retained messages", stat.retained);
    both("delayed messages", stat.delayed);
    row("QoS 2 under way from clients", stat.flows_inbound, None);
    row("QoS 2 under way to clients", stat.flows_outbound, None);
    if stat.unreadable > 0 {
        row("entries that cannot be read", stat.unreadable, None);
    }
    line(format_args!("{:<48}{:>20} bytes", "on the disk", grouped(disk)));
    if stat.top.is_empty() {
        return;
    }
    line("");
    line(format_args!("{:<32}{:>16}{:>20}", "client", "messages", "bytes"));
    for of in &stat.top {
        let name = of.name.clone().unwrap_or_else(|| format!("(session {}, which is over)", of.session));
        line(format_args!("{name:<32}{:>16}{:>20}", grouped(of.messages), grouped(of.bytes)));
    }
}
