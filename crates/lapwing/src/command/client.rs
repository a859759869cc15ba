//! What `pub` and `sub` have in common: how they connect.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lapwing_client::{Address, Client, ClientTls, ConnectOptions, Error, ProtocolVersion, QoS};

#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// Address of the broker: mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "tcp://127.0.0.1:1883", env = "LAPWING_URL")]
    url: Address,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// Password; visible in the process list, and safer in the environment variable LAPWING_PASSWORD
    #[arg(short = 'P', long, value_name = "PASSWORD", env = "LAPWING_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// File (PEM) with the authorities that are trusted with mqtts:// and wss://, instead of those of the system
    #[arg(long, value_name = "FILE", env = "LAPWING_CA")]
    ca: Option<PathBuf>,
    /// File (PEM) with the certificate to show, where the broker asks for one
    #[arg(long, value_name = "FILE", requires = "key", env = "LAPWING_CERT")]
    cert: Option<PathBuf>,
    /// File (PEM) with the private key of the certificate
    #[arg(long, value_name = "FILE", requires = "cert", env = "LAPWING_KEY")]
    key: Option<PathBuf>,
    /// Take any server for the right one: whoever is in between can read and change everything
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Client identifier; the broker makes one if there is none. No session is kept under it
    #[arg(short = 'i', long, value_name = "ID", default_value = "", hide_default_value = true)]
    client_id: String,
    /// Version of the protocol
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5")]
    mqtt_version: Version,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Version {
    #[value(name = "3.1", alias = "31")]
    V31,
    #[value(name = "3.1.1", alias = "311")]
    V311,
    #[value(name = "5", alias = "5.0")]
    V5,
}

/// How long the broker may take to let the client in.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);

/// 0, 1 or 2.
pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    let bits = text.parse().ok();
    bits.and_then(QoS::from_bits).ok_or_else(|| "a quality of service is 0, 1 or 2".to_owned())
}

impl Connection {
    pub(crate) fn connect(self) -> Result<Client, Error> {
        let version = match self.mqtt_version {
            Version::V31 => ProtocolVersion::V31,
            Version::V311 => ProtocolVersion::V311,
            Version::V5 => ProtocolVersion::V5,
        };
        // 3.1 cannot leave the identifier to the broker.
        let is_missing = self.client_id.is_empty() && version == ProtocolVersion::V31;
        let client_id = if is_missing { format!("lapwing-{}", std::process::id()) } else { self.client_id };
        let mut options = ConnectOptions::new(version, client_id);
        options.user_name = self.user;
        options.password = self.password.map(String::into_bytes);
        options.connack_timeout = CONNACK_TIMEOUT;
        let certificate = self.cert.zip(self.key);
        if self.insecure {
            let warning =
                "warning: --insecure: what answers may be another server, and others may be listening";
            // Where there is nowhere to say it, nobody can be told.
            let _ = writeln!(std::io::stderr(), "{warning}");
        }
        let tls = ClientTls { ca: self.ca, certificate, is_insecure: self.insecure };
        Client::connect_with(&self.url, options, &tls)
    }
}
