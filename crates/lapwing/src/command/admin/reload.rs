use clap::Args;
use lapwing_api::Reloaded;
use serde_json::json;

use super::table::{plain, print};
use super::{Channel, json_line};

/// Let a running broker read its configuration, users, rules and certificates anew.
///
/// All of it holds from then on, or nothing has changed. What is different is printed, and what needs a restart. SIGHUP
/// does the same, and writes it to the log.
#[derive(Debug, Args)]
pub(crate) struct ReloadCommand {
    #[command(flatten)]
    channel: Channel,
}

impl ReloadCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self { channel } = self;
        let reloaded: Reloaded = channel.caller()?.post("/api/v1/reload", &json!({}))?;
        if channel.json {
            return print(&json_line(&reloaded)?);
        }
        let mut text = String::new();
        let mut line = |start: &str, rest: &str| text.push_str(&format!("{start}{}\n", plain(rest)));
        reloaded.changed.iter().for_each(|change| line("", change));
        reloaded.needs_restart.iter().for_each(|change| line("needs a restart: ", change));
        if reloaded.changed.is_empty() && reloaded.needs_restart.is_empty() {
            line("", "nothing is different");
        }
        let Reloaded { clients, disconnected, unsubscribed, .. } = reloaded;
        line(
            "",
            &format!(
                "{clients} clients looked at, {disconnected} disconnected, {unsubscribed} subscriptions removed"
            ),
        );
        print(&text)
    }
}
