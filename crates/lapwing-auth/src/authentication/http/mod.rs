//! A service that is asked over HTTP who a client is, and what it may do.
//!
//! What is not clearly an answer lets nobody in. A client whose answer did not come is told that the service is unavailable, and no other
//! method is asked instead: one that knows less would decide in its place.

mod answer;
mod breaker;
mod client;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::certificate;
use super::proof::{Opinion, Presented};
use crate::config::Http;
use crate::secret::Secret;
use crate::security::SecurityError;
use breaker::Breaker;
use client::Client;

/// A service, as it is configured.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) url: Arc<str>,
    pub(super) cache_for: Duration,
    client: Client,
    breaker: Breaker,
    complaints: Complaints,
}

/// What the service is asked.
#[derive(Serialize)]
struct Question<'a> {
    client_id: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    address: String,
    listener: &'a str,
    version: String,
    certificate: Option<Names>,
}

#[derive(Serialize)]
struct Names {
    common_name: Option<String>,
    fingerprint: String,
}

/// What a client is told.
const UNAVAILABLE: &str = "the service that knows the clients cannot be asked";
const BINARY: &str = "the password is no text";

impl Service {
    /// As the configuration says; `None` if it names none.
    pub(crate) fn read(config: &Http) -> Result<Option<Self>, SecurityError> {
        let Some(url) = &config.url else {
            return match *config == Http::default() {
                true => Ok(None),
                false => Err(SecurityError::Value(
                    "authentication.http has keys, but not authentication.http.url".to_owned(),
                )),
            };
        };
        check(config)?;
        Ok(Some(Self {
            url: url.as_str().into(),
            cache_for: Duration::from_secs(config.cache_s.into()),
            client: Client::read(config, url)?,
            breaker: Breaker::new(),
            complaints: Complaints::default(),
        }))
    }

    /// Whether passwords leave this machine for everybody to see who sees the traffic.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        client::is_in_the_clear(&self.url)
    }

    /// The URL without what stands behind the path.
    pub(crate) fn shown_url(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    /// What it says of a client. This takes as long as the service does, up to the timeout.
    pub(super) fn judge(&self, presented: &Presented) -> Opinion {
        let password = presented.password.as_ref().map(|password| std::str::from_utf8(password.reveal()));
        let Ok(password) = password.transpose() else { return Opinion::Refuse(BINARY) };
        let Some(leave) = self.breaker.leave(Instant::now()) else { return Opinion::Fault(UNAVAILABLE) };
        match self.ask(presented, password) {
            Ok(opinion) => {
                if self.breaker.succeed() {
                    tracing::info!("{} answers again", self.shown_url());
                }
                opinion
            }
            Err(reason) => {
                let now = Instant::now();
                let url = self.shown_url();
                if let Some(pause) = self.breaker.fail(leave, now) {
                    let seconds = pause.as_secs();
                    tracing::warn!(
                        "{url} {reason}; for {seconds} s it is not asked, and clients are refused"
                    );
                } else if let Some(suppressed) = self.complaints.allow(now) {
                    tracing::warn!(suppressed, "{url} {reason}");
                }
                Opinion::Fault(UNAVAILABLE)
            }
        }
    }

    fn ask(&self, presented: &Presented, password: Option<&str>) -> Result<Opinion, String> {
        let user = presented.user.as_deref();
        let certificate = presented.certificate.as_deref().map(|der| {
            let (common_name, fingerprint) = certificate::names(der);
            Names { common_name, fingerprint }
        });
        let question = Question {
            client_id: &presented.client_id,
            user,
            password,
            address: presented.address.to_string(),
            listener: &presented.listener,
            version: presented.version.to_string(),
            certificate,
        };
        let body = serde_json::to_vec(&question).map_err(|_| "cannot be asked this".to_owned())?;
        let body = Secret::new(body);
        let answer = self.client.post(body.reveal())?;
        answer::read(&answer, user, &self.url, SystemTime::now())
            .map_err(|fault| format!("answers with something that {fault}"))
    }
}

fn check(config: &Http) -> Result<(), SecurityError> {
    let wrong =
        |key: &str, text: &str| Err(SecurityError::Value(format!("authentication.http.{key} {text}")));
    match () {
        () if config.connect_timeout_ms == 0 => wrong("connect_timeout_ms", "must be at least 1"),
        () if !(1..=60_000).contains(&config.timeout_ms) => wrong("timeout_ms", "must be from 1 to 60000"),
        () if !(1..=1024).contains(&config.connections) => wrong("connections", "must be from 1 to 1024"),
        () if !(64..=16 * 1024 * 1024).contains(&config.response_bytes_maximum) => {
            wrong("response_bytes_maximum", "must be from 64 to 16777216")
        }
        () => Ok(()),
    }
}

/// How often it is said that something is wrong.
#[derive(Debug, Default)]
struct Complaints {
    last: Mutex<Option<Instant>>,
    suppressed: AtomicU64,
}

const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

impl Complaints {
    /// Whether it may be said now; if so, how often it was not.
    fn allow(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < COMPLAINT_INTERVAL) {
            self.suppressed.fetch_add(1, Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.suppressed.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests;
