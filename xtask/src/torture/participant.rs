//! Who is put to the test, and how each is set up to keep what it can.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::peer;
use crate::repository::Repository;

/// A broker with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lapwing,
    /// Debian's, which saves every half hour unless it is told otherwise.
    Mosquitto,
    /// The same, told to save after every change.
    MosquittoCareful,
    Rumqttd,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Lapwing, Self::Mosquitto, Self::MosquittoCareful, Self::Rumqttd];

    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Lapwing => "lapwing",
            Self::Mosquitto => "mosquitto",
            Self::MosquittoCareful => "mosquitto-careful",
            Self::Rumqttd => "rumqttd",
        }
    }

    /// What is set differently from the defaults, for the reader of the results.
    pub(super) fn settings(self) -> &'static str {
        match self {
            Self::Lapwing => "`--data`; queues without a limit to speak of",
            Self::Mosquitto => "`persistence true`, default autosave; queues without a limit",
            Self::MosquittoCareful => {
                "`persistence true`, `autosave_interval 1`, `autosave_on_changes true`; queues without a limit"
            }
            Self::Rumqttd => "segments as in its example; it stores nothing",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.id())
    }
}

/// A broker that is ready to be started.
#[derive(Debug)]
pub(super) struct Participant {
    pub(super) kind: Kind,
    pub(super) version: String,
    program: PathBuf,
}

impl Participant {
    /// Builds or installs it.
    pub(super) fn prepare(kind: Kind, repository: &Repository, lapwing: &Path) -> Result<Self> {
        let program = match kind {
            Kind::Lapwing => lapwing.to_owned(),
            Kind::Mosquitto | Kind::MosquittoCareful => peer::mosquitto()?,
            Kind::Rumqttd => peer::rumqttd(&repository.target.join("bench"))?,
        };
        let asks = if kind == Kind::Lapwing || kind == Kind::Rumqttd { "--version" } else { "-h" };
        let version = peer::version(Command::new(&program).arg(asks))?;
        Ok(Self { kind, version, program })
    }

    /// Options and COMMAND for `lapwing torture`. A configuration file, if there is one, is written to `folder`.
    pub(super) fn arguments(&self, folder: &Path) -> Result<Vec<String>> {
        let program = self.program.to_str().context("the program's path is no UTF-8")?;
        let (file, command): (Option<(&str, String)>, &[&str]) = match self.kind {
            Kind::Lapwing => (
                None,
                &[
                    "serve",
                    "--listen",
                    "tcp://127.0.0.1:{port}",
                    "--data",
                    "{data}",
                    "--set",
                    "log.level=error",
                    "--set",
                    "admin.listen=",
                    "--set",
                    "limits.queue_messages_maximum=100000000",
                    "--set",
                    "limits.queue_bytes_maximum=100000000000",
                ],
            ),
            Kind::Mosquitto => (Some(("mosquitto.conf", mosquitto_file(""))), &["-c", "{config}"]),
            Kind::MosquittoCareful => {
                let careful = "autosave_interval 1\nautosave_on_changes true\n";
                (Some(("mosquitto.conf", mosquitto_file(careful))), &["-c", "{config}"])
            }
            Kind::Rumqttd => {
                (Some(("rumqttd.toml", peer::rumqttd_file("{port}"))), &["--quiet", "--config", "{config}"])
            }
        };
        let mut arguments = Vec::new();
        if let Some((name, text)) = file {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            let path = path.to_str().context("the folder's path is no UTF-8")?;
            arguments.extend(["--config".to_owned(), path.to_owned()]);
        }
        arguments.extend(["--".to_owned(), program.to_owned()]);
        arguments.extend(command.iter().map(|&word| word.to_owned()));
        Ok(arguments)
    }
}

/// `user` matters to an administrator only: without it, Mosquitto could not write to the folder.
fn mosquitto_file(more: &str) -> String {
    format!(
        "listener {{port}} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type error\n\
         max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\n\
         persistence true\npersistence_location {{data}}/\n{more}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_participant_gets_the_port_and_keeps_its_data_where_it_can() {
        let folder = tempfile::tempdir().unwrap();
        for kind in Kind::ALL {
            let participant = Participant { kind, version: String::new(), program: PathBuf::from("broker") };
            let arguments = participant.arguments(folder.path()).unwrap();
            let mut text = arguments.join(" ");
            if arguments[0] == "--config" {
                text += &fs::read_to_string(&arguments[1]).unwrap();
            }
            assert!(text.contains("-- broker ") && text.contains("{port}"), "{text}");
            assert_eq!(text.contains("{data}"), kind != Kind::Rumqttd, "{text}");
            assert_eq!(text.contains("autosave_on_changes true"), kind == Kind::MosquittoCareful);
        }
    }
}
