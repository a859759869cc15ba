//! Reading the configuration and the files that it names anew, while the broker runs.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lapwing_api::{Reload, Reloaded};
use lapwing_auth::Security;
use lapwing_broker::{Control, Renewed};

use crate::config::{Config, Difference};
use crate::log::LogHandle;
use crate::{memory, security};

/// Reads anew what can change while the broker runs.
pub(crate) struct Reloader {
    /// Where the configuration comes from.
    source: Source,
    /// What holds now.
    current: Mutex<Config>,
    security: Security,
    control: Control,
    log: LogHandle,
}

/// Where a configuration comes from.
pub(crate) struct Source {
    pub(crate) file: Option<PathBuf>,
    pub(crate) settings: Vec<String>,
}

/// What holds as soon as it is read: these keys and all below them. Everything else needs a restart.
const LIVE: [&str; 4] = ["log.level", "limits", "authentication", "permissions"];
/// The same for what a listener has that was there before.
const LIVE_OF_LISTENER: [&str; 2] = ["limits", "authentication"];

impl Source {
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        Config::load(self.file.as_deref(), &self.settings).map(memory::fit)
    }
}

impl Reloader {
    pub(crate) fn new(
        source: Source,
        current: Config,
        security: Security,
        control: Control,
        log: LogHandle,
    ) -> Self {
        Self { source, current: Mutex::new(current), security, control, log }
    }

    /// Reads everything, and only if all of it is in order lets it hold.
    fn reload_all(&self) -> anyhow::Result<Reloaded> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.source.load()?;
        next.check()?;
        let differences = Difference::between(&current, &next)?;
        let (live, waiting): (Vec<_>, Vec<_>) =
            differences.iter().partition(|difference| is_live(&difference.key, &current, &next));
        let next_security = security::reloaded(&current, &next);
        let changes = self.security.reload(&next_security)?;
        if next_security != security::config(&current) {
            security::announce(&self.security);
        }
        self.log.set(next.log.level);
        let limits = self.control.set_limits(next.limits.clone(), &next.listener_limits());
        // Each listener's by themselves: what is wrong with one is in the log.
        self.control.refresh_certificates(true);
        // From here on everything holds, for whoever comes.
        let renewed = limits.and_then(|()| self.control.rules_changed()).unwrap_or_else(|error| {
            tracing::warn!("reloaded, but not every client could be looked at: {error}");
            Renewed::default()
        });
        let mut changed: Vec<_> = live.into_iter().map(Difference::text).collect();
        if !changes.is_empty() {
            changed.extend(changes.to_string().lines().map(str::to_owned));
        }
        let needs_restart = waiting.into_iter().map(Difference::text).collect();
        // What needs a restart is said each time until then.
        adopt(&mut current, next);
        Ok(Reloaded {
            changed,
            needs_restart,
            clients: renewed.clients as u64,
            disconnected: renewed.disconnected as u64,
            unsubscribed: renewed.unsubscribed as u64,
        })
    }
}

fn is_live(key: &str, current: &Config, next: &Config) -> bool {
    let is_within = |key: &str, live: &&str| {
        key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let Some(rest) = key.strip_prefix("listeners.") else {
        return LIVE.iter().any(|live| is_within(key, live));
    };
    let mut kept = current.listeners.keys().filter(|name| next.listeners.contains_key(*name));
    kept.any(|name| {
        let own = rest.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('.'));
        own.is_some_and(|own| LIVE_OF_LISTENER.iter().any(|live| is_within(own, live)))
    })
}

/// Keeps what is live of another configuration, which holds from now on.
fn adopt(current: &mut Config, next: Config) {
    current.log.level = next.log.level;
    current.limits = next.limits;
    (current.authentication, current.permissions) = (next.authentication, next.permissions);
    for (name, listener) in next.listeners {
        if let Some(current) = current.listeners.get_mut(&name) {
            (current.limits, current.authentication) = (listener.limits, listener.authentication);
        }
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Reloaded, String> {
        let result = self.reload_all().map_err(|error| format!("{error:#}"));
        match &result {
            Ok(Reloaded { changed, needs_restart, clients, disconnected, unsubscribed }) => {
                for text in changed {
                    tracing::info!("reloaded: {text}");
                }
                for text in needs_restart {
                    tracing::warn!("not reloaded, since it needs a restart: {text}");
                }
                tracing::info!(clients, disconnected, unsubscribed, "reloaded");
            }
            Err(error) => tracing::error!("not reloaded, and nothing has changed: {error}"),
        }
        result
    }
}
