use std::io::Read;

use anyhow::Context;
use clap::Args;
use lapwing_client::{Publish as Message, QoS, TopicName};

use super::client::{Connection, qos};

/// Publish one message.
///
/// It ends when the broker has the message: with QoS 1 and 2, when the broker has acknowledged it.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic name, as in gate/door_1/event
    topic: String,
    /// What to publish; - reads it from standard input
    #[arg(required_unless_present = "null", conflicts_with = "null", allow_negative_numbers = true)]
    payload: Option<String>,
    /// Publish an empty payload; with --retain this deletes the retained message of the topic
    #[arg(short, long)]
    null: bool,
    /// Quality of service: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Let the broker keep the message for later subscribers
    #[arg(short, long)]
    retain: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Publish {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let name =
            TopicName::new(&self.topic).with_context(|| format!("'{}' is no topic name", self.topic))?;
        let payload = match self.payload {
            None => Vec::new(),
            Some(text) if text == "-" => read_input()?,
            Some(text) => text.into_bytes(),
        };
        let mut client = self.connection.connect()?;
        let mut message = Message::new(name, &payload);
        message.qos = self.qos;
        message.retain = self.retain;
        client.publish(&message)?;
        client.disconnect()?;
        Ok(())
    }
}

fn read_input() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}
