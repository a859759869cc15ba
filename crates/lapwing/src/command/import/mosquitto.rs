//! From the lines of `mosquitto.conf` to keys of ours.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, bail};
use toml::{Table, Value};

/// A line with an option.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) file: Rc<Path>,
    pub(super) number: usize,
    pub(super) name: String,
    value: String,
}

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is a key of ours.
    Carried,
    /// Lapwing does so without being told.
    Usual,
    /// It is carried over, but not as it was: how.
    Changed(String),
    /// It is not carried over: why, and what to do.
    Left(String),
}

/// What has become of a configuration.
#[derive(Debug, Default)]
pub(super) struct Translation {
    keys: Table,
    listeners: Vec<Listener>,
    /// Which of them the next lines are about; none before the first.
    current: Option<usize>,
    /// The lines, in their order.
    pub(super) lines: Vec<(Line, Fate)>,
    /// What else is to be known.
    pub(super) remarks: Vec<String>,
    /// The file of passwords.
    pub(super) passwords: Option<PathBuf>,
    anonymous: Option<bool>,
    is_in_bridge: bool,
}

#[derive(Debug, Default)]
struct Listener {
    port: u16,
    host: Option<String>,
    socket: Option<String>,
    is_websocket: bool,
    cafile: Option<String>,
    certfile: Option<String>,
    keyfile: Option<String>,
    crlfile: Option<String>,
    minimum_version: Option<&'static str>,
    is_certificate_required: bool,
    connections_maximum: Option<i64>,
    origins: Vec<Value>,
}

/// As deep as files may include others.
const DEPTH_MAXIMUM: usize = 8;
const DEFAULT_PORT: u16 = 1883;

impl Translation {
    /// Reads a configuration with all that it includes. Its users are to be in `users`.
    pub(super) fn read(file: &Path, users: &Path) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        collect(file, 0, &mut lines)?;
        let mut translation = Self::default();
        for line in lines {
            let fate = translation.take(&line);
            if matches!(fate, Fate::Carried | Fate::Changed(_) | Fate::Usual)
                && line.name.starts_with("listener")
            {
                translation.is_in_bridge = false;
            }
            translation.lines.push((line, fate));
        }
        translation.conclude(users);
        Ok(translation)
    }

    /// The configuration in TOML.
    pub(super) fn configuration(&self, from: &Path) -> anyhow::Result<String> {
        let head = format!("# From {}, by `lapwing import mosquitto`.\n", from.display());
        Ok(format!("{head}{}", toml::to_string(&self.keys)?))
    }

    fn take(&mut self, line: &Line) -> Fate {
        let value = line.value.as_str();
        if value.is_empty() {
            return Fate::Left("it has no value".to_owned());
        }
        if line.name == "connection" {
            self.is_in_bridge = true;
        }
        if self.is_in_bridge && is_of_bridge(&line.name) {
            return Fate::Left("bridges to other brokers are not there yet".to_owned());
        }
        self.take_listener(&line.name, value)
            .or_else(|| self.take_access(&line.name, value))
            .or_else(|| self.take_limit(&line.name, value))
            .or_else(|| self.take_other(&line.name, value))
            .unwrap_or_else(|| Fate::Left("Lapwing knows no such option of Mosquitto".to_owned()))
    }

    /// Where to listen, and TLS.
    fn take_listener(&mut self, name: &str, value: &str) -> Option<Fate> {
        if name == "listener" {
            return Some(self.begin_listener(value));
        }
        let text = || Some(value.to_owned());
        if name == "port" {
            return Some(match value.parse() {
                Ok(port) => {
                    self.listener().port = port;
                    Fate::Carried
                }
                Err(_) => not_a_number(value),
            });
        }
        match name {
            "bind_address" => self.listener().host = text(),
            "protocol" => match value {
                "mqtt" => {}
                "websockets" => self.listener().is_websocket = true,
                _ => {
                    return Some(Fate::Left(format!(
                        "{value} is no protocol of Lapwing: mqtt and websockets are"
                    )));
                }
            },
            "cafile" => self.listener().cafile = text(),
            "certfile" => self.listener().certfile = text(),
            "keyfile" => self.listener().keyfile = text(),
            "crlfile" => self.listener().crlfile = text(),
            "require_certificate" => self.listener().is_certificate_required = is_true(value),
            "websockets_origin" => self.listener().origins.push(Value::String(value.to_owned())),
            "tls_version" => {
                let version = match value {
                    "tlsv1.3" => "1.3",
                    "tlsv1.2" => "1.2",
                    _ => {
                        return Some(Fate::Left(
                            "TLS 1.0 and 1.1 are broken: at least 1.2 is spoken".to_owned(),
                        ));
                    }
                };
                self.listener().minimum_version = Some(version);
            }
            "max_connections" => match value.parse::<i64>() {
                Ok(count) => self.listener().connections_maximum = (count >= 0).then_some(count),
                Err(_) => return Some(not_a_number(value)),
            },
            "use_identity_as_username" | "use_subject_as_username" if !is_true(value) => {
                return Some(Fate::Usual);
            }
            "use_identity_as_username" => self.set("authentication.certificate.user", "common_name"),
            "use_subject_as_username" => {
                self.set("authentication.certificate.user", "common_name");
                let sentence = "the Common Name is the user name, and not the whole subject; change the rules accordingly";
                return Some(Fate::Changed(sentence.to_owned()));
            }
            "socket_domain" => {
                let host = if value == "ipv6" { "::" } else { "0.0.0.0" };
                self.listener().host.get_or_insert_with(|| host.to_owned());
            }
            "bind_interface" => {
                return Some(Fate::Left(
                    "write the address of the interface into the listener's bind".to_owned(),
                ));
            }
            "capath" => {
                return Some(Fate::Left("put the authorities into one file, for tls.client_ca".to_owned()));
            }
            "mount_point" => {
                return Some(Fate::Left(
                    "topics are the same on all listeners; rules (permissions.file) keep clients apart"
                        .to_owned(),
                ));
            }
            "ciphers" | "ciphers_tls1.3" | "dhparamfile" => {
                return Some(Fate::Left("Lapwing speaks ciphers that are secure, and no others".to_owned()));
            }
            "tls_engine" | "tls_engine_kpass_sha1" | "tls_keyform" => {
                return Some(Fate::Left("keys are in files".to_owned()));
            }
            "psk_hint" | "psk_file" => return Some(Fate::Left("pre-shared keys are not there".to_owned())),
            "disable_client_cert_date_checks" if !is_true(value) => return Some(Fate::Usual),
            "disable_client_cert_date_checks" => {
                return Some(Fate::Left("an expired certificate lets nobody in".to_owned()));
            }
            "http_dir" => return Some(Fate::Left("Lapwing serves no files".to_owned())),
            "accept_protocol_versions" => {
                return Some(Fate::Left("3.1, 3.1.1 and 5.0 are accepted".to_owned()));
            }
            _ => return None,
        }
        Some(Fate::Carried)
    }

    fn begin_listener(&mut self, value: &str) -> Fate {
        let mut parts = value.split_whitespace();
        let Some(Ok(port)) = parts.next().map(str::parse::<u16>) else { return not_a_number(value) };
        let rest = parts.next().map(str::to_owned);
        let mut listener = Listener { port, ..Listener::default() };
        if port == 0 {
            listener.socket = rest;
        } else {
            listener.host = rest;
        }
        self.listeners.push(listener);
        self.current = Some(self.listeners.len() - 1);
        Fate::Carried
    }

    /// The listener that lines are about; before the first one that of the default port.
    fn listener(&mut self) -> &mut Listener {
        let index = *self.current.get_or_insert_with(|| {
            self.listeners.push(Listener { port: DEFAULT_PORT, ..Listener::default() });
            self.listeners.len() - 1
        });
        &mut self.listeners[index]
    }

    /// Who is let in, and what clients may do.
    fn take_access(&mut self, name: &str, value: &str) -> Option<Fate> {
        match name {
            "allow_anonymous" => {
                let is_allowed = is_true(value);
                if self.anonymous.replace(is_allowed).is_some_and(|before| before != is_allowed) {
                    return Some(Fate::Left(
                        "another line says otherwise; listeners can have methods of their own: listeners.NAME.authentication"
                            .to_owned(),
                    ));
                }
            }
            "password_file" => {
                let path = PathBuf::from(value);
                if self.passwords.replace(path.clone()).is_some_and(|before| before != path) {
                    return Some(Fate::Left(format!(
                        "there is one file of users: add those of this one with `lapwing passwd import {value} FILE`"
                    )));
                }
            }
            "acl_file" => {
                let before = self.get("permissions.file");
                if before.is_some_and(|before| before.as_str() != Some(value)) {
                    return Some(Fate::Left(
                        "there is one file of rules; rules can be for one listener (`lapwing acl import`)"
                            .to_owned(),
                    ));
                }
                self.set("permissions.file", value);
                self.set("permissions.format", "mosquitto");
            }
            "per_listener_settings" if !is_true(value) => return Some(Fate::Usual),
            "per_listener_settings" => {
                return Some(Fate::Changed(
                    "users and rules are the same for all; listeners.NAME.authentication says by which methods one lets clients in"
                        .to_owned(),
                ));
            }
            "use_username_as_clientid" if !is_true(value) => return Some(Fate::Usual),
            "use_username_as_clientid" => {
                self.set("authentication.client_id", "user");
                return Some(Fate::Changed(
                    "a client whose identifier is not its user name is refused; it is not given another"
                        .to_owned(),
                ));
            }
            "clientid_prefixes" => {
                return Some(Fate::Left(
                    "users can have patterns of client identifiers: `lapwing passwd add --client-id`"
                        .to_owned(),
                ));
            }
            "allow_zero_length_clientid" if is_true(value) => return Some(Fate::Usual),
            "allow_zero_length_clientid" => {
                return Some(Fate::Left("clients without an identifier are given one".to_owned()));
            }
            "auto_id_prefix" => {
                return Some(Fate::Left("identifiers that are given have no prefix of yours".to_owned()));
            }
            "auth_plugin" | "plugin" | "plugin_load" => {
                return Some(Fate::Left("plugins of Mosquitto cannot be loaded".to_owned()));
            }
            _ if name.starts_with("auth_opt_") || name.starts_with("plugin_opt_") => {
                return Some(Fate::Left("plugins of Mosquitto cannot be loaded".to_owned()));
            }
            "check_retain_source" => {
                return Some(Fate::Left(
                    "a retained message stays when its publisher loses the right to publish it: delete it with `lapwing retained delete`"
                        .to_owned(),
                ));
            }
            _ => return None,
        }
        Some(Fate::Carried)
    }

    /// What may become much.
    fn take_limit(&mut self, name: &str, value: &str) -> Option<Fate> {
        /// What Mosquitto means by 0: no limit, as far as there is a number for it.
        const NONE: i64 = i64::MAX;
        let (key, of_zero, maximum) = match name {
            "max_inflight_messages" => ("limits.client_receive_maximum", 65_535, 65_535),
            "max_inflight_bytes" => ("limits.in_flight_bytes_maximum", NONE, NONE),
            "max_queued_messages" => ("limits.queue_messages_maximum", NONE, NONE),
            "max_queued_bytes" => ("limits.queue_bytes_maximum", NONE, NONE),
            "max_keepalive" => ("limits.keep_alive_maximum_s", 0, 65_535),
            "max_packet_size" | "message_size_limit" => {
                ("limits.packet_size_maximum", 268_000_000, 268_000_000)
            }
            "max_topic_alias" => ("limits.topic_alias_maximum", 0, 65_535),
            "max_qos" => ("limits.qos_maximum", 0, 2),
            "sys_interval" => ("limits.sys_interval_s", 0, 65_535),
            "memory_limit" => ("memory", 0, NONE),
            "retain_available" => {
                self.set("limits.retain_available", is_true(value));
                return Some(Fate::Carried);
            }
            "persistent_client_expiration" => return Some(self.take_expiry(value)),
            _ => return None,
        };
        let Ok(number) = value.parse::<i64>() else { return Some(not_a_number(value)) };
        let number = if number == 0 { of_zero } else { number.min(maximum) };
        let is_other = self.get(key).is_some_and(|before| before.as_integer() != Some(number));
        if is_other {
            return Some(Fate::Left(format!(
                "{key} is the same for all listeners, and another line has another value"
            )));
        }
        match name {
            "memory_limit" => {
                let least = 64 * 1024 * 1024;
                self.set(key, if number == 0 { 0 } else { number.max(least) });
                let sentence = "memory is what the whole process may take, at least 64 MiB: raise it by what it takes at the start";
                return Some(Fate::Changed(sentence.to_owned()));
            }
            "message_size_limit" => {
                self.set(key, (number + 64 * 1024).min(maximum));
                let sentence = format!("{key} is for whole packets: 64 KiB more, for topics and properties");
                return Some(Fate::Changed(sentence));
            }
            _ => self.set(key, number),
        }
        Some(Fate::Carried)
    }

    fn take_expiry(&mut self, value: &str) -> Fate {
        let Some(unit) = value.chars().last() else { return not_a_number(value) };
        let seconds = match unit {
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            'm' => 30 * 86_400,
            'y' => 365 * 86_400,
            _ => return not_a_number(value),
        };
        match value[..value.len() - unit.len_utf8()].parse::<i64>() {
            Ok(count) => {
                let limit = count.saturating_mul(seconds).min(u32::MAX.into());
                self.set("limits.session_expiry_maximum_s", limit);
                Fate::Carried
            }
            Err(_) => not_a_number(value),
        }
    }

    /// How it runs.
    fn take_other(&mut self, name: &str, value: &str) -> Option<Fate> {
        let left = |sentence: &str| Some(Fate::Left(sentence.to_owned()));
        match name {
            "persistence" if is_true(value) => Some(Fate::Usual),
            "persistence" => {
                self.set("store.durability", "memory");
                Some(Fate::Carried)
            }
            "log_type" => {
                if matches!(value, "all" | "debug") {
                    self.set("log.level", "debug");
                }
                Some(Fate::Carried)
            }
            "log_dest" if matches!(value, "stderr" | "stdout") => Some(Fate::Usual),
            "log_dest" | "log_facility" => {
                left("the log goes to standard error, which systemd and containers keep")
            }
            "connection_messages" | "log_timestamp" if is_true(value) => Some(Fate::Usual),
            "connection_messages" => left("connections are logged; log.level = \"warn\" leaves them out"),
            "log_timestamp" | "log_timestamp_format" => left("lines have their time, as in RFC 3339"),
            "persistence_location" | "persistence_file" => {
                left("the store of Mosquitto cannot be read; `data` says where that of Lapwing is")
            }
            "autosave_interval" | "autosave_on_changes" => {
                left("what is acknowledged is on the disk: there is nothing to save later")
            }
            "set_tcp_nodelay" => Some(Fate::Usual),
            "pid_file" => left("systemd knows the process; see the guide on running"),
            "user" => left("the broker runs as the user that starts it; see the guide on running"),
            "allow_duplicate_messages" | "upgrade_outgoing_qos" | "queue_qos0_messages"
                if !is_true(value) =>
            {
                Some(Fate::Usual)
            }
            "queue_qos0_messages" => left("messages at QoS 0 do not wait for a client that is away"),
            "upgrade_outgoing_qos" => {
                left("a message is delivered at no higher QoS than it was published with")
            }
            "allow_duplicate_messages" => {
                left("a client gets one copy, also where its subscriptions overlap")
            }
            "websockets_log_level"
            | "websockets_headers_size"
            | "retry_interval"
            | "store_clean_interval" => Some(Fate::Usual),
            _ => None,
        }
    }

    /// What follows from all lines together.
    fn conclude(&mut self, users: &Path) {
        let has_listeners = !self.listeners.is_empty();
        let mut listeners = Table::new();
        for listener in std::mem::take(&mut self.listeners) {
            let (name, table) = listener.into_table(&mut self.remarks);
            let mut key = name.clone();
            for number in 2.. {
                if !listeners.contains_key(&key) {
                    break;
                }
                key = format!("{name}-{number}");
            }
            listeners.insert(key, Value::Table(table));
        }
        if has_listeners {
            self.keys.insert("listeners".to_owned(), Value::Table(listeners));
        }
        // Without a listener Mosquitto lets everybody on this machine in, and otherwise nobody without a password.
        let anonymous = match (self.anonymous, has_listeners) {
            (Some(true), _) => "all",
            (Some(false), _) | (None, true) => "none",
            (None, false) => "loopback",
        };
        self.set("authentication.anonymous", anonymous);
        if self.passwords.is_some() {
            self.set("authentication.password.file", users.display().to_string());
        } else if anonymous == "none" && self.get("authentication.certificate.user").is_none() {
            self.remarks.push(
                "nobody would be let in, as with Mosquitto: there are no passwords, and authentication.anonymous is \"none\"".to_owned(),
            );
        }
    }

    fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.keys.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    fn set(&mut self, path: &str, value: impl Into<Value>) {
        let mut table = &mut self.keys;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value.into());
                return;
            }
            let entry = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = entry else { return };
            table = next;
        }
    }
}

impl Listener {
    /// Its name, and its keys.
    fn into_table(self, remarks: &mut Vec<String>) -> (String, Table) {
        let mut table = Table::new();
        let is_secure = self.certfile.is_some();
        let scheme = match (self.is_websocket, is_secure) {
            (false, false) => "tcp",
            (false, true) => "tls",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let (name, bind) = match &self.socket {
            Some(path) => ("local".to_owned(), format!("unix:{path}")),
            None => {
                let usual = if lapwing_net::has_ipv6() { "::" } else { "0.0.0.0" };
                let host = self.host.as_deref().unwrap_or(usual);
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                // Mosquitto takes any path.
                let path = if self.is_websocket { "/mqtt" } else { "" };
                (format!("{scheme}-{}", self.port), format!("{scheme}://{host}:{}{path}", self.port))
            }
        };
        if self.is_websocket {
            remarks.push(format!(
                "listeners.{name}: WebSocket clients must ask for the path /mqtt, which bind can change"
            ));
        }
        table.insert("bind".to_owned(), Value::String(bind));
        if let Some(certificate) = self.certfile {
            let mut tls = Table::new();
            let mut set = |key: &str, value: Option<String>| {
                if let Some(value) = value {
                    tls.insert(key.to_owned(), Value::String(value));
                }
            };
            set("certificate", Some(certificate.clone()));
            // Mosquitto takes a key from the file of the certificate as well.
            set("key", Some(self.keyfile.unwrap_or(certificate)));
            set("minimum_version", self.minimum_version.map(str::to_owned));
            // Without being required, Mosquitto does not ask for one.
            if self.is_certificate_required {
                set("client_ca", self.cafile);
                set("crl", self.crlfile);
            }
            table.insert("tls".to_owned(), Value::Table(tls));
        }
        if !self.origins.is_empty() && self.is_websocket {
            table.insert(
                "websocket".to_owned(),
                Value::Table(Table::from_iter([("origins".to_owned(), Value::Array(self.origins))])),
            );
        }
        if let Some(count) = self.connections_maximum {
            let limits = Table::from_iter([("connections_maximum".to_owned(), Value::Integer(count))]);
            table.insert("limits".to_owned(), Value::Table(limits));
        }
        (name, table)
    }
}

fn not_a_number(value: &str) -> Fate {
    Fate::Left(format!("{value:?} is not what the option takes"))
}

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1")
}

/// Options that belong to a bridge, once one has begun.
fn is_of_bridge(name: &str) -> bool {
    const OTHERS: [&str; 19] = [
        "connection",
        "address",
        "addresses",
        "topic",
        "try_private",
        "cleansession",
        "clientid",
        "keepalive_interval",
        "notifications",
        "notification_topic",
        "notifications_local_only",
        "restart_timeout",
        "start_type",
        "threshold",
        "idle_timeout",
        "round_robin",
        "username",
        "password",
        "max_queued_messages_bridge",
    ];
    OTHERS.contains(&name) || ["bridge_", "remote_", "local_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The lines of a file with options, and those of the files that it includes in their places.
fn collect(file: &Path, depth: usize, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if depth > DEPTH_MAXIMUM {
        bail!("{} is included by itself, or too deep", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let path: Rc<Path> = file.into();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if name != "include_dir" {
            let (name, value) = (name.to_owned(), value.trim().to_owned());
            lines.push(Line { file: Rc::clone(&path), number: index + 1, name, value });
            continue;
        }
        let folder = Path::new(value.trim());
        let cannot = || format!("{}:{}: cannot read {}", file.display(), index + 1, folder.display());
        let entries = std::fs::read_dir(folder).with_context(cannot)?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .with_context(cannot)?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort();
        files.iter().try_for_each(|file| collect(file, depth + 1, lines))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
