use std::io::{self, Write};

use clap::Args;
use lapwing_client::{Message, QoS};

use super::client::{Connection, qos};

/// Subscribe, and print the payload of each message on a line.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// Topic filters, as in gate/+/event or gate/#
    #[arg(required = true, value_name = "FILTER")]
    filters: Vec<String>,
    /// Highest quality of service at which messages come: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Print the topic name before each payload
    #[arg(short, long)]
    verbose: bool,
    /// End after that many messages
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

impl Subscribe {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut client = self.connection.connect()?;
        let filters: Vec<_> = self.filters.iter().map(String::as_str).collect();
        client.subscribe(&filters, self.qos)?;
        let mut received = 0;
        while self.count.is_none_or(|count| received < count) {
            let message = client.receive()?;
            received += 1;
            match print(&message, self.verbose) {
                // Whoever read the lines has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                result => result?,
            }
        }
        client.disconnect()?;
        Ok(())
    }
}

fn print(message: &Message, verbose: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if verbose {
        write!(out, "{} ", message.topic())?;
    }
    out.write_all(message.payload())?;
    out.write_all(b"\n")?;
    out.flush()
}
