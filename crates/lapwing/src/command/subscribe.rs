use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::Args;
use lapwing_client::{Message, QoS, TopicFilter};

use super::client::{Connection, qos};

/// Subscribe, and print the payload of each message on a line.
///
/// It ends when the broker ends or the connection is lost. On a terminal, control characters other than line feeds
/// and tabs are shown as \xNN; into a file or a pipe, payloads are written as they are.
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
    /// Print nothing after each payload
    #[arg(short = 'N', long)]
    no_newline: bool,
    /// End after that many messages
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

/// How messages are printed.
#[derive(Debug, Clone, Copy)]
struct Format {
    has_topic: bool,
    has_newline: bool,
    is_escaped: bool,
}

impl Subscribe {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        for filter in &self.filters {
            TopicFilter::new(filter).with_context(|| format!("'{filter}' is no topic filter"))?;
        }
        let format = Format {
            has_topic: self.verbose,
            has_newline: !self.no_newline,
            is_escaped: io::stdout().is_terminal(),
        };
        let mut client = self.connection.connect()?;
        let filters: Vec<_> = self.filters.iter().map(String::as_str).collect();
        client.subscribe(&filters, self.qos)?;
        let mut received = 0;
        while self.count.is_none_or(|count| received < count) {
            let message = client.receive()?;
            received += 1;
            match format.print(&message) {
                // Whoever read the lines has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                result => result?,
            }
        }
        client.disconnect()?;
        Ok(())
    }
}

impl Format {
    fn print(self, message: &Message) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.has_topic {
            out.write_all(&self.text(message.topic().as_bytes()))?;
            out.write_all(b" ")?;
        }
        out.write_all(&self.text(message.payload()))?;
        if self.has_newline {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    fn text(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        if self.is_escaped { Cow::Owned(escape(bytes)) } else { Cow::Borrowed(bytes) }
    }
}

/// So that no message can steer a terminal: what is no text, and control characters but line feeds and tabs, become
/// `\xNN`.
fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len());
    let hex = |bytes: &[u8], escaped: &mut Vec<u8>| {
        for byte in bytes {
            escaped.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = character.encode_utf8(&mut buffer).as_bytes();
            match character {
                '\n' | '\t' => escaped.extend_from_slice(encoded),
                _ if character.is_control() => hex(encoded, &mut escaped),
                _ => escaped.extend_from_slice(encoded),
            }
        }
        hex(chunk.invalid(), &mut escaped);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    // [attack: log-injection]
    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        for (bytes, expected) in [
            (&b"{\"open\":true}\n\t"[..], "{\"open\":true}\n\t"),
            ("门 é".as_bytes(), "门 é"),
            (b"\x1b[2J\r\x07\x00\x7f", "\\x1b[2J\\x0d\\x07\\x00\\x7f"),
            ("\u{9b}2J".as_bytes(), "\\xc2\\x9b2J"),
            (b"a\xff\xfeb\xe9", "a\\xff\\xfeb\\xe9"),
        ] {
            assert_eq!(String::from_utf8(escape(bytes)).unwrap(), expected);
        }
    }
}
