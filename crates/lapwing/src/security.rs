//! Who is let in and what they may do, from the configuration.

use std::sync::Arc;

use lapwing_api::{Metric, MetricKind, MetricSource};
use lapwing_auth::{Security, SecurityConfig, SecurityStat};

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

/// What is counted of clients that show who they are: every count there is, or this does not compile.
pub(crate) fn metrics(security: &Security) -> MetricSource {
    let security = security.clone();
    Arc::new(move || {
        let SecurityStat {
            accepted,
            refused,
            unavailable,
            remembered,
            busy,
            waiting,
            would_deny,
            would_allow,
        } = security.stat();
        let counters = [
            (
                "lapwing_authentication_accepted_total",
                "Clients that were let in by what they presented.",
                accepted,
            ),
            (
                "lapwing_authentication_refused_total",
                "Clients that were refused for what they presented.",
                refused,
            ),
            (
                "lapwing_authentication_unavailable_total",
                "Clients that were refused since the service that knows them did not answer.",
                unavailable,
            ),
            ("lapwing_authentication_busy_total", "Clients that were refused since too many waited.", busy),
            ("lapwing_authentication_remembered_total", "Verdicts that were remembered.", remembered),
            (
                "lapwing_permissions_would_deny_total",
                "What the rules of permissions.report_only would deny and those in force do not.",
                would_deny,
            ),
            (
                "lapwing_permissions_would_allow_total",
                "What the rules of permissions.report_only would allow and those in force do not.",
                would_allow,
            ),
        ];
        let metric = |kind| move |(name, help, value)| Metric { name, help, kind, value };
        let help = "Clients that wait for what they presented to be looked at.";
        let waiting = metric(MetricKind::Gauge)(("lapwing_authentication_waiting", help, waiting));
        counters.map(metric(MetricKind::Counter)).into_iter().chain([waiting]).collect()
    })
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
