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
