//! Who is let in and what they may do, from the configuration.

use std::sync::Arc;

use lapwing_auth::{Security, SecurityConfig};

use crate::config::Config;

/// What the configuration says of security.
pub(crate) fn config(config: &Config) -> SecurityConfig {
    let own = config.listeners.iter().filter_map(|(name, listener)| {
        let methods = listener.authentication.clone()?;
        Some((Arc::from(name.as_str()), methods))
    });
    SecurityConfig {
        authentication: config.authentication.clone(),
        permissions: config.permissions.clone(),
        listeners: own.collect(),
    }
}

/// The same for a configuration that is read anew. A listener that is in it no more goes on until a restart, with the methods that it has.
pub(crate) fn reloaded(current: &Config, next: &Config) -> SecurityConfig {
    let mut security = config(next);
    let gone = config(current).listeners.into_iter();
    security.listeners.extend(gone.filter(|(name, _)| !next.listeners.contains_key(&**name)));
    security
}

/// Whether a key of a listener holds as soon as it is read: for listeners that there are, the methods.
pub(crate) fn is_live(key: &str, current: &Config, next: &Config) -> bool {
    let name = key.strip_prefix("listeners.").and_then(|rest| rest.strip_suffix(".authentication"));
    name.is_some_and(|name| current.listeners.contains_key(name) && next.listeners.contains_key(name))
}

/// Keeps what holds of another configuration from now on.
pub(crate) fn adopt(current: &mut Config, next: Config) {
    for (name, listener) in next.listeners {
        if let Some(current) = current.listeners.get_mut(&name) {
            current.authentication = listener.authentication;
        }
    }
    (current.authentication, current.permissions) = (next.authentication, next.permissions);
}

/// Says who is let in and what they may do.
pub(crate) fn announce(security: &Security) {
    for (is_warning, sentence) in security.describe() {
        if is_warning {
            tracing::warn!("{sentence}");
        } else {
            tracing::info!("{sentence}");
        }
    }
}
