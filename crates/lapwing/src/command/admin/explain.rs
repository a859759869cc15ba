use std::time::Duration;

use clap::{Args, Subcommand};
use lapwing_api::{
    ExplainedDelivery, ExplainedIncident, ExplainedMessage, Explanation, MatchingSubscription,
};

use super::table::{plain, print};
use super::{Channel, json_line, path_part};
use crate::command::duration;

/// Ask a running broker what has become of a message or a client: what it did, and why.
#[derive(Debug, Args)]
pub(crate) struct ExplainCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What has become of the last messages to a topic: who published, who got them, and who did not and why
    Topic {
        /// A topic, or a filter as in 'gate/+/state'
        topic: String,
        /// Only what this client has to do with it
        #[arg(long, value_name = "CLIENT_ID")]
        client: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        channel: Channel,
    },
    /// How a client came and went, what it was refused and why, and what became of its messages
    Client {
        /// The client identifier
        client_id: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        channel: Channel,
    },
}

#[derive(Debug, Args)]
struct Span {
    /// How far back, as in 90s, 10m or 2h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    since: Duration,
    /// Up to so many messages and as many other lines, the newest: 1 to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
}

impl ExplainCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (about, query, span, channel) = match &self.command {
            Command::Topic { topic, client, span, channel } => {
                let mut query = format!("topic={}", path_part(topic));
                if let Some(client) = client {
                    query.push_str(&format!("&client={}", path_part(client)));
                }
                (topic, query, span, channel)
            }
            Command::Client { client_id, span, channel } => {
                (client_id, format!("client={}", path_part(client_id)), span, channel)
            }
        };
        let Span { since, limit } = span;
        let path = format!("/api/v1/explain?{query}&since_s={}&limit={limit}", since.as_secs());
        let explanation: Explanation = channel.caller()?.get(&path)?;
        if channel.json {
            return print(&json_line(&explanation)?);
        }
        print(&text(about, &explanation))
    }
}

/// For people: messages and what happened to clients, in the order of time.
fn text(about: &str, explanation: &Explanation) -> String {
    let Explanation { messages, incidents, subscriptions_now, more, .. } = explanation;
    let mut parts: Vec<(&str, String)> = messages.iter().map(|it| (&*it.at, message(it))).collect();
    parts.extend(incidents.iter().map(|it| (&*it.at, incident(it))));
    parts.sort_by(|one, other| one.0.cmp(other.0));
    let mut text: String = parts.into_iter().map(|(_, part)| part).collect();
    if text.is_empty() {
        text.push_str(&format!("nothing is remembered of {}\n", plain(about)));
    }
    if !subscriptions_now.is_empty() {
        text.push_str("\nsubscriptions that match now, which may have been others then:\n");
        subscriptions_now.iter().for_each(|it| text.push_str(&subscription(it)));
    } else if !messages.is_empty() {
        text.push_str("\nno subscription matches now\n");
    }
    if *more {
        text.push_str("\nthere is more: a larger --limit, or a shorter --since, shows it\n");
    }
    text + "\n" + &remembered(explanation)
}

fn message(it: &ExplainedMessage) -> String {
    let topic = it.topic.as_deref().map_or("a topic that is not remembered any more".to_owned(), plain);
    let cut = if it.topic_cut { "…" } else { "" };
    let count = if it.count > 1 { format!("{} messages", it.count) } else { "message".to_owned() };
    let retain = if it.retain { ", retain" } else { "" };
    let by = match (&it.publisher, &*it.origin) {
        (Some(publisher), _) => format!("from {}", plain(publisher)),
        (None, "forgotten") => "from a client whose session has ended".to_owned(),
        (None, "broker") => "from the broker or an administrator".to_owned(),
        (None, "direct") => "for one client only".to_owned(),
        (None, _) => "from before what is remembered".to_owned(),
    };
    let mut text = format!("{}  {topic}{cut}  {count} at QoS {}{retain}, {by}\n", it.at, it.qos);
    let recorded: u32 = it.deliveries.len() as u32;
    let mut lines = Vec::new();
    match (it.verdict.as_deref(), it.receivers) {
        (Some("passed_on"), 1) => lines.push("passed on to 1 subscriber".to_owned()),
        (Some("passed_on"), many) => lines.push(format!("passed on to {many} subscribers")),
        _ => lines.push(plain(&it.text)),
    }
    lines.extend(it.deliveries.iter().map(delivery));
    if it.deliveries_left_out > 0 {
        lines.push(format!("and {} others", it.deliveries_left_out));
    } else if it.verdict.as_deref() == Some("passed_on") && recorded < it.receivers {
        let rest = it.receivers - recorded;
        lines
            .push(format!("handed to the connections of {rest} at QoS 0, of which nothing more is recorded"));
    }
    for (at, line) in lines.iter().enumerate() {
        let branch = if at + 1 == lines.len() { "└─" } else { "├─" };
        text.push_str(&format!("  {branch} {line}\n"));
    }
    text
}

fn delivery(it: &ExplainedDelivery) -> String {
    let client = it.client_id.as_deref().map_or("a client whose session has ended".to_owned(), plain);
    let when = match (&it.sent_at, &it.settled_at) {
        (_, Some(settled)) => format!(" [{}]", clock(settled)),
        (Some(sent), None) => format!(" [{}]", clock(sent)),
        _ => String::new(),
    };
    format!("{client} (QoS {}): {}{when}", it.qos, plain(&it.text))
}

/// The time of the day.
fn clock(at: &str) -> &str {
    at.split_once('T').map_or(at, |(_, time)| time)
}

fn incident(it: &ExplainedIncident) -> String {
    let client =
        if it.client_id.is_empty() { "a client without a name".to_owned() } else { plain(&it.client_id) };
    let mut text = format!("{}  {client}  {}", it.at, plain(&it.text));
    if let Some(last_at) = &it.last_at {
        text.push_str(&format!(", {} times until {}", it.count, clock(last_at)));
    }
    match (&it.rule, &*it.what) {
        (Some(rule), _) => text.push_str(&format!("\n  └─ by {}", plain(rule))),
        (None, "publish_denied" | "subscribe_denied") => {
            text.push_str("\n  └─ no rule allows it");
        }
        _ => {}
    }
    text + "\n"
}

fn subscription(it: &MatchingSubscription) -> String {
    let mut text = format!("  {}  {}", plain(&it.topic), plain(&it.filter));
    match (&it.client_id, it.members) {
        (Some(client_id), _) => {
            text.push_str(&format!("  {} (QoS {})", plain(client_id), it.qos.unwrap_or(0)));
        }
        (None, Some(1)) => text.push_str("  shared: its 1 member gets them"),
        (None, members) => {
            text.push_str(&format!("  shared: one of {} members gets each", members.unwrap_or(0)));
        }
    }
    if it.withheld {
        text.push_str(", and the rules do not let it have this topic");
        text.push_str(&it.rule.as_deref().map_or(String::new(), |rule| format!(": {}", plain(rule))));
    }
    text + "\n"
}

/// How far back the answer can be trusted.
fn remembered(explanation: &Explanation) -> String {
    let all = &explanation.remembered;
    if all.iter().all(|shard| !shard.on) {
        return "the broker remembers nothing: explain.memory_bytes is 0\n".to_owned();
    }
    let messages = all.iter().filter_map(|shard| shard.messages_since.as_deref()).max();
    let incidents = all.iter().filter_map(|shard| shard.incidents_since.as_deref()).max();
    match (messages, incidents) {
        (None, None) => "everything since the start of the broker is remembered\n".to_owned(),
        (messages, incidents) => {
            let since = |at: Option<&str>| at.map_or("the start".to_owned(), str::to_owned);
            format!(
                "remembered are messages since {}, all else since {}\n",
                since(messages),
                since(incidents)
            )
        }
    }
}
