//! The configuration: one typed tree, from a file, the environment and flags, in this order.

mod difference;
mod fault;
mod key;
mod listener;
pub(crate) mod reference;
pub(crate) mod schema;
pub(crate) mod variable;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytesize::ByteSize;
use lapwing_auth::{Authentication, Permissions};
use lapwing_broker::{Explain, Limits, ListenerConfig, ListenerLimits, Rules, Sharding};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use listener::Listener;

pub(crate) use self::difference::Difference;
use crate::{memory, security};

/// All that can be set. Every field has a default, and an unknown key is an error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The directory for what outlives the process, made if it is not there. None: `lapwing` in the directory that the
    /// environment names in `XDG_DATA_HOME`, or in `~/.local/share`.
    pub(crate) data: Option<PathBuf>,
    /// How much memory the broker may take in all, as in `"512MiB"` or in bytes; at least 64 MiB, and 0 for as much as there is. When
    /// it runs short, the broker keeps less ahead for clients that do not keep up, then refuses what would stay, and in the end
    /// disconnects those who take most. None: three quarters of what the machine has, or its control group.
    #[schemars(with = "Option<String>")]
    pub(crate) memory: Option<ByteSize>,
    /// By names of your choice. None: the loopback addresses on port 1883.
    pub(crate) listeners: BTreeMap<String, Listener>,
    /// The admin channel: health, metrics and an HTTP API.
    pub(crate) admin: Admin,
    /// Who is let in.
    pub(crate) authentication: Authentication,
    /// What clients may do.
    pub(crate) permissions: Permissions,
    /// How the clients are shared out among threads.
    pub(crate) sharding: Sharding,
    /// How sessions and messages are stored that are to outlive the process.
    pub(crate) store: Store,
    /// What peers may make grow.
    pub(crate) limits: Limits,
    /// What is done with topics and subscriptions beyond the protocol.
    pub(crate) rules: Rules,
    /// What is remembered so that it can be explained.
    pub(crate) explain: Explain,
    /// What is logged.
    pub(crate) log: Log,
    /// When the configuration is read anew.
    pub(crate) reload: Reload,
}

/// When the configuration is read anew.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reload {
    /// Whether the configuration file and the files of users, keys and rules are read anew by themselves, some seconds after
    /// they have changed, as by `lapwing reload`. Certificates are in any case.
    pub(crate) watch: bool,
}

/// The admin channel: health, metrics and an HTTP API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// `HOST:PORT` of the admin channel; port 0 takes a free one, which the log names; `""` turns the channel off. None:
    /// `127.0.0.1:18830`, and no admin channel where another process has taken that.
    pub(crate) listen: Option<String>,
    /// Whether `/metrics` needs no token.
    pub(crate) metrics_public: bool,
}

/// How sessions and messages are stored that are to outlive the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    /// What an acknowledgement of the broker survives: with `fsync` the end of the process, of the system and of the power;
    /// with `os` the end of the process alone; with `memory` nothing is stored, and all sessions end with the process.
    pub(crate) durability: Durability,
    /// About how many bytes of memory the store takes. At least 8 MiB.
    pub(crate) memory_bytes: u64,
    /// Bytes that must be free on the disk for new sessions, subscriptions and messages to be stored; with less they are
    /// refused, and everything else goes on.
    pub(crate) free_bytes_minimum: u64,
    /// Bytes that the store may take on the disk, of which journals are up to 128 MB; from there on it is as on a full disk.
    /// 0 for as many as there are.
    pub(crate) disk_bytes_maximum: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            memory_bytes: 64 * 1024 * 1024,
            free_bytes_minimum: 64 * 1024 * 1024,
            disk_bytes_maximum: 0,
        }
    }
}

/// What an acknowledgement of the broker survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    #[default]
    Fsync,
    Os,
    Memory,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// The least important lines that are written.
    pub(crate) level: LogLevel,
    /// How they are written: for people, or as JSON with an object on each line.
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Config {
    /// Reads a file, and nothing else.
    pub(crate) fn from_file(path: &Path) -> anyhow::Result<Self> {
        decode(read_file(path)?, &path.display().to_string())
    }

    /// Joins the file, the environment, and the `key=value` settings of the command line.
    pub(crate) fn load(file: Option<&Path>, settings: &[String]) -> anyhow::Result<Self> {
        let mut merged = Table::new();
        if let Some(path) = file {
            merge(&mut merged, read_file(path)?);
        }
        for (name, value) in std::env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            if let Some(key) = variable::key(name) {
                merge(&mut merged, layer(&key, value, &format!("environment variable {name}"))?);
            }
        }
        for setting in settings {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| anyhow!("--set {setting}: write --set key=value"))?;
            merge(&mut merged, layer(key, value, &format!("--set {setting}"))?);
        }
        decode(merged, "the configuration")
    }

    /// Whether a broker could be started with it, as far as can be said without doing so.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.sharding
            .check()
            .and_then(|()| self.limits.check())
            .and_then(|()| self.rules.check())
            .map_err(|fault| anyhow!(fault))?;
        self.listeners()?;
        security::config(self).check()?;
        self.admin.address()?;
        memory::check(self)?;
        Ok(())
    }

    /// Where to listen.
    pub(crate) fn listeners(&self) -> anyhow::Result<Vec<ListenerConfig>> {
        self.listeners.iter().map(|(name, listener)| listener.parse(name)).collect()
    }
}

impl Config {
    /// What holds for the connections of single listeners, by their names.
    pub(crate) fn listener_limits(&self) -> BTreeMap<Arc<str>, ListenerLimits> {
        let limits = |(name, listener): (&String, &Listener)| (name.as_str().into(), listener.limits.clone());
        self.listeners.iter().map(limits).collect()
    }
}

impl Admin {
    /// Where to listen, and whether the user has said so; `None` for no admin channel.
    pub(crate) fn address(&self) -> anyhow::Result<Option<(&str, bool)>> {
        match self.listen.as_deref() {
            None => Ok(Some((lapwing_api::DEFAULT_LISTEN, false))),
            Some("") => Ok(None),
            Some(address) => {
                let parts = address.rsplit_once(':');
                let is_valid =
                    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                if !is_valid {
                    bail!(
                        "admin.listen: '{address}' is no address; write HOST:PORT, or \"\" for no admin channel"
                    );
                }
                Ok(Some((address, true)))
            }
        }
    }
}

fn read_file(path: &Path) -> anyhow::Result<Table> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let sentence = |error: toml::de::Error| anyhow!("{shown}: {}", fault::text(&error));
    let table: Table = text.parse().map_err(sentence)?;
    // The text itself is decoded, since only then the error knows the line.
    match toml::from_str::<Config>(&text) {
        Ok(_) => Ok(table),
        Err(error) => Err(with_suggestion(sentence(error), &table)),
    }
}

/// A tree with one value in it. The value is TOML if it can be read as such, and a string otherwise.
fn layer(key: &str, value: &str, origin: &str) -> anyhow::Result<Table> {
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts = key.split('.').rev();
    let last = parts.next().unwrap_or_default();
    let mut table = Table::from_iter([(last.to_owned(), value)]);
    for part in parts {
        table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
    }
    decode::<Config>(table.clone(), origin)?;
    Ok(table)
}

fn decode<T: DeserializeOwned>(table: Table, origin: &str) -> anyhow::Result<T> {
    Value::Table(table.clone())
        .try_into()
        .map_err(|error| with_suggestion(anyhow!("{origin}: {}", fault::text(&error)), &table))
}

fn with_suggestion(error: anyhow::Error, table: &Table) -> anyhow::Error {
    match key::suggestion(table) {
        Some(suggestion) => anyhow!("{error}\n{suggestion}"),
        None => error,
    }
}

/// Puts `over` on top of `under`, table by table.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lapwing_broker::hook::Anonymous;

    use super::*;

    fn load(file: &str, settings: &[&str]) -> anyhow::Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lapwing.toml");
        std::fs::write(&path, file).unwrap();
        let settings: Vec<_> = settings.iter().map(|&setting| setting.to_owned()).collect();
        Config::load(Some(&path), &settings)
    }

    #[test]
    fn settings_go_over_the_file_and_leave_its_neighbours() {
        let file = "[limits]\nreceive_maximum = 7\npacket_size_maximum = 1000\n[listeners.a]\nbind = 'x:1'";
        let config = load(file, &["limits.receive_maximum=9", "listeners.b.bind=y:2"]).unwrap();
        assert_eq!(config.limits.receive_maximum, 9);
        assert_eq!(config.limits.packet_size_maximum, 1000);
        let listeners = config.listeners().unwrap();
        let listeners: Vec<_> = listeners.iter().map(|it| (&*it.name, it.address.to_string())).collect();
        assert_eq!(listeners, [("a", "tcp://x:1".to_owned()), ("b", "tcp://y:2".to_owned())]);
    }

    #[test]
    fn words_need_no_quotes() {
        let config = load("", &["authentication.anonymous=all", "log.level=\"debug\""]).unwrap();
        assert_eq!(config.authentication.anonymous, Anonymous::All);
        assert_eq!(config.log.level, LogLevel::Debug);
    }

    #[test]
    fn an_error_names_its_place_and_the_key() {
        let error = |file, settings: &[&str]| format!("{:#}", load(file, settings).unwrap_err());
        let in_file = error("[limits]\n\nreceive_maximun = 7", &[]);
        assert!(in_file.contains("lapwing.toml") && in_file.contains("line 3"), "{in_file}");
        assert!(in_file.contains("receive_maximun"), "{in_file}");
        let in_setting = error("", &["limit.receive_maximum=1"]);
        assert!(in_setting.contains("--set limit.receive_maximum=1"), "{in_setting}");
        let no_number = error("", &["limits.receive_maximum=many"]);
        assert!(no_number.contains("receive_maximum=many"), "{no_number}");
        assert!(error("", &["nothing"]).contains("key=value"));
    }
}
