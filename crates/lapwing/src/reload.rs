//! Reading the configuration and the files that it names anew, while the broker runs.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lapwing_api::{Reload, Reloaded};
use lapwing_auth::Security;
use lapwing_broker::Control;

use crate::config::{Config, Difference};
use crate::log::LogHandle;
use crate::memory;

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

/// What holds as soon as it is read, as keys and beginnings of keys. Everything else needs a restart.
const LIVE: [&str; 2] = ["log.level", "limits."];

fn is_live(key: &str) -> bool {
    let is_of_listener = key.starts_with("listeners.") && key.contains(".limits.");
    is_of_listener || LIVE.iter().any(|live| key == *live || (live.ends_with('.') && key.starts_with(live)))
}

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
            differences.iter().partition(|difference| is_live(&difference.key));
        let changes = self.security.reload()?;
        self.log.set(next.log.level);
        self.control.set_limits(next.limits.clone(), &next.listener_limits())?;
        // Each listener's by themselves: what is wrong with one is in the log.
        self.control.refresh_certificates(true);
        let renewed = self.control.rules_changed()?;
        let mut changed: Vec<_> = live.into_iter().map(Difference::text).collect();
        if !changes.is_empty() {
            changed.extend(changes.to_string().lines().map(str::to_owned));
        }
        let needs_restart = waiting.into_iter().map(Difference::text).collect();
        // What needs a restart is said each time until then.
        current.log.level = next.log.level;
        current.take_limits(next);
        Ok(Reloaded {
            changed,
            needs_restart,
            clients: renewed.clients as u64,
            disconnected: renewed.disconnected as u64,
            unsubscribed: renewed.unsubscribed as u64,
        })
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
