//! A place to listen, as the configuration has it.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use lapwing_auth::Method;
use lapwing_broker::ListenerLimits;
use lapwing_net::{
    Address, Certificates, ClientCertificate, ListenerConfig, Network, Scheme, TlsConfig, TlsVersion,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// `tcp://HOST:PORT` or `HOST:PORT`; `tls://HOST:PORT`; `ws://HOST:PORT/PATH` and `wss://HOST:PORT/PATH`, where the path
    /// is `/mqtt` if there is none; `unix:PATH`. Ports are 1883, 8883, 8083 and 8084 if there are none, and port 0 takes a
    /// free one. With no listener at all, the loopback addresses `127.0.0.1` and `::1` on port 1883.
    pub(crate) bind: String,
    /// Addresses of proxies, as in `["10.0.0.0/8"]`, that say for whom they connect by the PROXY protocol, version 1 or 2.
    /// Where there are any, nobody else may connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) proxy_protocol: Vec<String>,
    /// Who may use the file of a Unix socket, as `chmod` has it.
    #[serde(default = "default_mode", skip_serializing_if = "is_default_mode")]
    pub(crate) mode: String,
    /// Certificates, for `tls://` and `wss://`. Files that change are read again within some seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Tls>,
    /// For `ws://` and `wss://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) websocket: Option<WebSocket>,
    /// The methods by which clients of this listener can show who they are, in this order, in place of all that are configured:
    /// `certificate`, `jwt`, `password`, `http`; and `anonymous` for what `authentication.anonymous` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authentication: Option<Vec<Method>>,
    /// What holds for its connections, where it is not as for all.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(crate) limits: ListenerLimits,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// File (PEM) with the certificate of the server, and behind it those that lead to its authority.
    pub(crate) certificate: PathBuf,
    /// File (PEM) with the private key of the certificate, which nobody else should be able to read.
    pub(crate) key: PathBuf,
    /// File (PEM) with the authorities whose certificates clients may show: with it, TLS is mutual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate where there is `client_ca`.
    #[serde(default)]
    pub(crate) client_certificate: ClientCertificateUse,
    /// File (PEM) with lists of revoked certificates, of the authorities in `client_ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crl: Option<PathBuf>,
    /// The oldest version of TLS that is spoken.
    #[serde(default)]
    pub(crate) minimum_version: MinimumVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientCertificateUse {
    #[default]
    Required,
    Optional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) enum MinimumVersion {
    #[default]
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

/// WebSocket of a listener.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSocket {
    /// Origins of the pages whose scripts may connect, as in `["https://example.org"]`. None: any. Clients that are no
    /// browsers have none, and may connect.
    pub(crate) origins: Vec<String>,
}

fn is_nothing(limits: &ListenerLimits) -> bool {
    *limits == ListenerLimits::default()
}

fn default_mode() -> String {
    format!("0{:o}", lapwing_net::DEFAULT_UNIX_MODE)
}

fn is_default_mode(mode: &String) -> bool {
    *mode == default_mode()
}

impl Listener {
    /// What the broker takes, of the listener with this name. The certificates are looked at.
    pub(super) fn parse(&self, name: &str) -> anyhow::Result<ListenerConfig> {
        let key = |key: &str| format!("listeners.{name}.{key}");
        let address: Address = self.bind.parse().with_context(|| key("bind"))?;
        let scheme = address.scheme();
        let mut config = ListenerConfig::new(name, address);
        config.unix_mode = u32::from_str_radix(&self.mode, 8)
            .ok()
            .filter(|&mode| mode <= 0o777)
            .ok_or_else(|| anyhow!("{}: '{}' is no mode; write 0660 or 0600", key("mode"), self.mode))?;
        if self.mode != default_mode() && scheme != Scheme::Unix {
            bail!("{}: only a Unix socket has one, and {} is none", key("mode"), self.bind);
        }
        for network in &self.proxy_protocol {
            let network: Network = network.parse().with_context(|| key("proxy_protocol"))?;
            config.proxies.push(network);
        }
        if let Some(websocket) = &self.websocket {
            if !scheme.is_websocket() {
                bail!("{}: {} is no WebSocket; write ws:// or wss://", key("websocket"), self.bind);
            }
            for origin in &websocket.origins {
                if !origin.contains("://") || origin.ends_with('/') {
                    bail!("{}: '{origin}' is no origin; write https://HOST", key("websocket.origins"));
                }
            }
            config.websocket.origins.clone_from(&websocket.origins);
        }
        match &self.tls {
            Some(_) if !scheme.is_secure() => {
                bail!("{}: {} has no TLS; write tls:// or wss://", key("tls"), self.bind);
            }
            None if scheme.is_secure() => {
                bail!("{} is missing: {} needs a certificate and its key", key("tls.certificate"), self.bind);
            }
            None => {}
            Some(tls) => {
                let tls = tls.parse();
                Certificates::load(&tls, scheme.is_websocket())
                    .map_err(|error| anyhow!("listeners.{name}.{error}"))?;
                config.tls = Some(tls);
            }
        }
        Ok(config)
    }
}

impl Tls {
    fn parse(&self) -> TlsConfig {
        TlsConfig {
            client_ca: self.client_ca.clone(),
            client_certificate: match self.client_certificate {
                ClientCertificateUse::Required => ClientCertificate::Required,
                ClientCertificateUse::Optional => ClientCertificate::Optional,
            },
            crl: self.crl.clone(),
            minimum_version: match self.minimum_version {
                MinimumVersion::V12 => TlsVersion::V12,
                MinimumVersion::V13 => TlsVersion::V13,
            },
            ..TlsConfig::new(&self.certificate, &self.key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let listener: Listener = toml::from_str(text).unwrap();
        format!("{:#}", listener.parse("lan").unwrap_err())
    }

    #[test]
    fn an_error_names_the_key() {
        for (text, key, reason) in [
            ("bind = 'x://y'", "listeners.lan.bind", "scheme 'x'"),
            ("bind = 'tls://y'", "listeners.lan.tls.certificate is missing", "needs a certificate"),
            ("bind = 'tcp://y'\nmode = '0600'", "listeners.lan.mode", "only a Unix socket"),
            ("bind = 'unix:y'\nmode = 'rw'", "listeners.lan.mode", "'rw' is no mode"),
            ("bind = 'unix:y'\nmode = '7777'", "listeners.lan.mode", "is no mode"),
            ("bind = 'y'\nproxy_protocol = ['10.0.0.0/8', 'x']", "listeners.lan.proxy_protocol", "'x'"),
            ("bind = 'y'\nwebsocket.origins = []", "listeners.lan.websocket", "ws://"),
            ("bind = 'ws://y'\nwebsocket.origins = ['x']", "listeners.lan.websocket.origins", "'x'"),
            ("bind = 'y'\ntls = { certificate = 'c', key = 'k' }", "listeners.lan.tls", "has no TLS"),
            (
                "bind = 'tls://y'\ntls = { certificate = '/none/c', key = 'k' }",
                "listeners.lan.tls.certificate",
                "cannot read /none/c",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(key) && error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let listener: Listener = toml::from_str("bind = 'ws://y:1'").unwrap();
        let config = listener.parse("lan").unwrap();
        assert_eq!(config, ListenerConfig::new("lan", "ws://y:1/mqtt".parse().unwrap()));
        assert_eq!(toml::to_string(&listener).unwrap(), "bind = \"ws://y:1\"\n");
    }
}
