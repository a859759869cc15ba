//! All of it together, as a broker uses it, and how it is changed while the broker runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lapwing_broker::hook::{
    AllowAll, Anonymous, Authenticator, Authorizer, Client, Credentials, Exchange, Later, Permit, RuleId,
    Verdict,
};

use crate::authentication::{Files, Gate, Pools, Service, Stat, Tokens};
use crate::change::Changes;
use crate::config::{Authentication, CertificateUser, Format, Method, Permissions};
use crate::fault::{self, FileError};
use crate::password::{Users, is_open_to_others};
use crate::permission::{MosquittoFile, RuleFile, Ruleset};
use crate::permit::{RulePermit, Watch, WatchedPermit, place};
use crate::standing::{Standing, foreign_subject};

/// Who is let in and what they may do, by a configuration and the files that it names. Copies are the same.
#[derive(Clone)]
pub struct Security {
    inner: Arc<Inner>,
}

struct Inner {
    /// What holds now: exchanged as a whole.
    current: RwLock<Arc<State>>,
    /// One change at a time.
    reloading: Mutex<()>,
    stat: Arc<Stat>,
    watch: Arc<Watch>,
    everything: Arc<dyn Permit>,
}

/// What the configuration says of security.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecurityConfig {
    /// Who is let in.
    pub authentication: Authentication,
    /// What clients may do.
    pub permissions: Permissions,
    /// Listeners with methods of their own, by name.
    pub listeners: Vec<(Arc<str>, Vec<Method>)>,
}

/// A configuration, and its files as they were at one time.
struct State {
    config: SecurityConfig,
    pools: Pools,
    gate: Gate,
    rules: Option<Arc<Ruleset>>,
    report_only: Option<Arc<Ruleset>>,
}

/// Why there is no security to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A listener names a method that is not configured.
    #[error("{place} names \"{method}\", but {key} is not set")]
    Method {
        /// The key that names it.
        place: String,
        /// The method.
        method: &'static str,
        /// What is missing.
        key: &'static str,
    },
    /// A value is out of range.
    #[error("{0}")]
    Value(String),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random,
    /// The system gives no thread.
    #[error("no thread can be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecurityStat {
    /// Clients that were let in.
    pub accepted: u64,
    /// Clients that were refused for what they presented, or did not present.
    pub refused: u64,
    /// Clients that were refused since nobody could say who they are.
    pub unavailable: u64,
    /// Verdicts that were remembered.
    pub remembered: u64,
    /// Clients that were refused since too many waited.
    pub busy: u64,
    /// Clients that wait now.
    pub waiting: u64,
    /// What the rules of `report_only` would deny and those in force do not.
    pub would_deny: u64,
    /// What the rules of `report_only` would allow and those in force do not.
    pub would_allow: u64,
}

impl SecurityConfig {
    /// Whether values are in range and the files can be used, as far as can be said without starting anything.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), SecurityError> {
        self.check_values()?;
        State::read(self, &Arc::default()).map(drop)
    }

    fn check_values(&self) -> Result<(), SecurityError> {
        let Authentication { threads, queue_maximum, queue_address_maximum, .. } = &self.authentication;
        let wrong = |text: &str| Err(SecurityError::Value(text.to_owned()));
        match () {
            () if *threads > 1024 => wrong("authentication.threads must be at most 1024"),
            () if *queue_maximum == 0 => wrong("authentication.queue_maximum must be at least 1"),
            () if *queue_address_maximum == 0 => {
                wrong("authentication.queue_address_maximum must be at least 1")
            }
            () => match self.listeners.iter().find(|(_, methods)| methods.is_empty()) {
                Some((name, _)) => wrong(&format!(
                    "listeners.{name}.authentication names no method, so nobody would be let in"
                )),
                None => Ok(()),
            },
        }
    }
}

impl Security {
    /// Reads the files and starts the threads.
    ///
    /// # Errors
    ///
    /// If anything is wrong with the configuration or a file.
    pub fn open(config: SecurityConfig) -> Result<Self, SecurityError> {
        config.check_values()?;
        let stat = Arc::<Stat>::default();
        let mut state = State::read(&config, &stat)?;
        state.pools = state.pools.fit(&config.authentication, &state.gate)?;
        let inner = Inner {
            current: RwLock::new(Arc::new(state)),
            reloading: Mutex::new(()),
            stat,
            watch: Arc::default(),
            everything: Arc::new(AllowAll),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads all files anew, by another configuration or by the same. If everything is in order it holds from now on, all at once; what has
    /// changed in the files. The broker must be told, so that it looks at the clients that are connected. This takes the time of reading
    /// files.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration or a file. Then nothing has changed: what held before still does.
    pub fn reload(&self, config: &SecurityConfig) -> Result<Changes, SecurityError> {
        let _one = self.inner.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        config.check_values()?;
        let before = self.inner.state();
        let mut next = State::read_strictly(config, &self.inner.stat)?;
        next.pools = before.pools.fit(&config.authentication, &next.gate).inspect_err(|_| {
            // Fewer threads than the system would not give are no trouble to have.
            let _ = before.pools.fit(&before.config.authentication, &before.gate);
        })?;
        let changes = Changes::between(
            (before.gate.users.as_deref(), before.rules.as_deref()),
            (next.gate.users.as_deref(), next.rules.as_deref()),
        );
        let mut reloads = self.inner.stat.reloads.write().unwrap_or_else(PoisonError::into_inner);
        *reloads += 1;
        next.gate.reloads = *reloads;
        *self.inner.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(changes)
    }

    /// Sentences that say who is let in and what they may do, and whether each is a warning.
    pub fn describe(&self) -> Vec<(bool, String)> {
        let state = self.inner.state();
        let config = &state.config;
        let mut sentences = Vec::new();
        let has_proofs = state.gate.has_proofs();
        if let (Some(path), Some(users)) = (&config.authentication.password.file, &state.gate.users) {
            let count = users.len();
            sentences.push((false, format!("{count} users with passwords are let in: {}", path.display())));
            if is_open_to_others(path) {
                let path = path.display();
                sentences
                    .push((true, format!("{path} can be read by others than its owner: `chmod 600 {path}`")));
            }
        }
        if state.gate.has_tokens() {
            let jwt = &config.authentication.jwt;
            let named = |key, value: &Option<String>| match value {
                Some(value) => format!("of the {key} {value:?}"),
                None => format!("of any {key}"),
            };
            let (issuer, audience) = (named("issuer", &jwt.issuer), named("audience", &jwt.audience));
            sentences
                .push((false, format!("clients with a JSON Web Token {issuer}, {audience}, are let in")));
        }
        if config.authentication.certificate.user != CertificateUser::None {
            let text = "clients with a certificate are let in, on listeners that ask for one";
            sentences.push((false, text.to_owned()));
        }
        if let Some(service) = state.gate.service() {
            let url = service.shown_url();
            sentences.push((false, format!("clients are let in whom the service at {url} lets in")));
            if service.is_in_the_clear() {
                sentences.push((
                    true,
                    format!(
                        "passwords are sent to {url} for everybody to see on the way: it is not https://"
                    ),
                ));
            }
        }
        sentences.push(anonymous_sentence(config.authentication.anonymous, has_proofs));
        for (name, methods) in &config.listeners {
            let methods: Vec<_> = methods.iter().map(|method| method.name()).collect();
            sentences.push((false, format!("on the listener {name} instead: {}", methods.join(", "))));
        }
        match (&config.permissions.file, &state.rules) {
            (Some(path), Some(rules)) if rules.rules().is_empty() => {
                let path = path.display();
                sentences.push((
                    true,
                    format!("nobody may publish or subscribe to anything: {path} has no rules"),
                ));
            }
            (Some(path), Some(rules)) => {
                let (count, path) = (rules.rules().len(), path.display());
                sentences.push((false, format!("what clients may do is said by {count} rules: {path}")));
            }
            _ if has_proofs || config.authentication.anonymous == Anonymous::All => {
                let text = "whoever is let in may publish and subscribe to everything: permissions.file names no rules";
                sentences.push((true, text.to_owned()));
            }
            _ => {}
        }
        if let (Some(path), Some(_)) = (&config.permissions.report_only, &state.report_only) {
            let path = path.display();
            sentences.push((
                false,
                format!("what the rules of {path} would change is logged; they are not in force"),
            ));
        }
        sentences
    }

    /// What has been counted.
    pub fn stat(&self) -> SecurityStat {
        let Inner { stat, watch, .. } = &*self.inner;
        SecurityStat {
            accepted: stat.accepted.load(Relaxed),
            refused: stat.refused.load(Relaxed),
            unavailable: stat.unavailable.load(Relaxed),
            remembered: stat.remembered.load(Relaxed),
            busy: stat.busy.load(Relaxed),
            waiting: self.inner.state().pools.waiting() as u64,
            would_deny: watch.would_deny.load(Relaxed),
            would_allow: watch.would_allow.load(Relaxed),
        }
    }
}

fn anonymous_sentence(anonymous: Anonymous, has_proofs: bool) -> (bool, String) {
    let text = match (anonymous, has_proofs) {
        (Anonymous::None, true) => "clients that do not show who they are, are refused",
        (Anonymous::None, false) => "no client is let in: authentication.anonymous is \"none\"",
        (Anonymous::Loopback, true) => {
            "clients on this machine are let in without a user name and a password; those of others are refused"
        }
        (Anonymous::Loopback, false) => {
            "clients on this machine are let in, whatever user name and password they present; all others are refused"
        }
        (Anonymous::All, true) => {
            "everybody who can reach these addresses is let in without a user name and a password: \
             authentication.anonymous is \"all\""
        }
        (Anonymous::All, false) => {
            "everybody who can reach these addresses is let in: authentication.anonymous is \"all\""
        }
    };
    (anonymous == Anonymous::All, text.to_owned())
}

impl Inner {
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.state().pools.close();
    }
}

/// Whether a file of rules may be missing: then it allows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsEmpty,
    IsAnError,
}

impl State {
    /// At the start a file of rules that is not there allows nothing.
    fn read(config: &SecurityConfig, stat: &Arc<Stat>) -> Result<Self, SecurityError> {
        Self::read_with(config, stat, Missing::IsEmpty)
    }

    /// Later one that was taken away is an error: nobody replaces rules by none in this way.
    fn read_strictly(config: &SecurityConfig, stat: &Arc<Stat>) -> Result<Self, SecurityError> {
        Self::read_with(config, stat, Missing::IsAnError)
    }

    fn read_with(config: &SecurityConfig, stat: &Arc<Stat>, missing: Missing) -> Result<Self, SecurityError> {
        let users = config.authentication.password.file.as_deref().map(read_users).transpose()?;
        let permissions = &config.permissions;
        let read = |path: &PathBuf, format| read_rules(path, format, missing).map(Arc::new);
        let rules = permissions.file.as_ref().map(|path| read(path, permissions.format)).transpose()?;
        let report_only =
            permissions.report_only.as_ref().map(|path| read(path, Format::Lapwing)).transpose()?;
        let authentication = &config.authentication;
        let files = Files {
            users: users.map(Arc::new),
            tokens: Tokens::read(&authentication.jwt)?.map(Arc::new),
            service: Service::read(&authentication.http)?.map(Arc::new),
        };
        let gate = Gate::new(authentication, &config.listeners, files, Arc::clone(stat))?;
        Ok(Self { config: config.clone(), pools: Pools::default(), gate, rules, report_only })
    }
}

fn read_users(path: &Path) -> Result<Users, FileError> {
    if matches!(path.try_exists(), Ok(false)) {
        let command = format!("`lapwing passwd add {} USER` makes it", path.display());
        return Err(FileError::new(path, format_args!("is not there; {command}")));
    }
    Users::read(path)
}

impl Ruleset {
    /// Reads a file of rules.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or the first thing in it that is wrong.
    pub fn read(path: &Path, format: Format) -> Result<Self, FileError> {
        read_rules(path, format, Missing::IsAnError)
    }
}

fn read_rules(path: &Path, format: Format, missing: Missing) -> Result<Ruleset, FileError> {
    let is_missing = missing == Missing::IsEmpty && matches!(path.try_exists(), Ok(false));
    let text = if is_missing { String::new() } else { fault::read(path)? };
    let file = match format {
        Format::Lapwing => RuleFile::parse(path, &text)?,
        Format::Mosquitto => MosquittoFile::parse(path, &text)?.rules,
    };
    Ok(Ruleset::new(path, file))
}

impl Authenticator for Security {
    fn authenticate(&self, credentials: &Credentials<'_>, later: &Later<'_>) -> Option<Verdict> {
        let state = self.inner.state();
        state.gate.judge(credentials, later, &state.pools)
    }

    fn begin_exchange(&self, method: &str, credentials: &Credentials<'_>) -> Option<Box<dyn Exchange>> {
        let state = self.inner.state();
        state.gate.begin_exchange(method, credentials, &state.pools)
    }

    fn still_accepts(&self, client: &Client) -> bool {
        let state = self.inner.state();
        match Standing::of(client) {
            Some(standing) => standing.still_holds(client, &state.gate),
            // Somebody else has let it in, and knows who it is.
            None if client.identity.user_name.is_some() || client.identity.owner.is_some() => true,
            None => state.gate.still_accepts_unproven(client),
        }
    }
}

impl Authorizer for Security {
    fn permit(&self, client: &Client) -> Arc<dyn Permit> {
        let state = self.inner.state();
        let users = state.gate.users.as_deref();
        let standing = Standing::of(client);
        let subject =
            standing.map_or_else(|| foreign_subject(client), |standing| standing.subject(client, users));
        let own = standing.and_then(Standing::rules);
        let in_force: Arc<dyn Permit> = match (own, &state.rules) {
            (Some(own), _) => Arc::new(RulePermit::new(own.compile(&subject), false)),
            (None, Some(rules)) => Arc::new(RulePermit::new(rules.compile(&subject), true)),
            (None, None) => Arc::clone(&self.inner.everything),
        };
        match &state.report_only {
            Some(other) if own.is_none() => Arc::new(WatchedPermit {
                in_force,
                other: other.compile(&subject),
                client_id: Arc::clone(&client.client_id),
                watch: Arc::clone(&self.inner.watch),
            }),
            _ => in_force,
        }
    }

    fn rule(&self, rule: RuleId) -> Option<String> {
        self.inner.state().rules.as_ref()?.describe(place(rule))
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("config", &self.inner.state().config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
