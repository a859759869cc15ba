//! What every CONNECT comes to: the methods of its listener, what is remembered, and the threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use lapwing_broker::hook::{Anonymous, Credentials, Later, Reply, Verdict};
use lapwing_proto::packet::ReasonCode;

use super::cache::{Cache, Digest};
use super::chain::{Chain, Member, Quick};
use super::pool::{Outcome, Pool, Work};
use super::proof::{Presented, Proven};
use super::queue::QueueLimits;
use crate::config::{Authentication, ClientIdBinding, Method};
use crate::password::{Users, Workspace};
use crate::security::SecurityError;
use crate::standing::Standing;

/// Who is let in, by files as they were at one time.
#[derive(Debug)]
pub(crate) struct Gate {
    chains: HashMap<Arc<str>, Arc<Chain>>,
    /// Of listeners without a chain of their own.
    common: Arc<Chain>,
    client_id: ClientIdBinding,
    cache: Arc<Cache<Result<Proven, &'static str>>>,
    cache_for: Duration,
    pub(crate) users: Option<Arc<Users>>,
    stat: Arc<Stat>,
    /// Whether what clients are known by is of use: where nobody looks at it, they can share one identity.
    needs_standing: bool,
}

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Stat {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) remembered: AtomicU64,
    pub(crate) busy: AtomicU64,
}

/// What is presented and wrong is remembered for a shorter time: somebody may set it right.
const WRONG_FOR: Duration = Duration::from_secs(10);

impl Gate {
    /// With these files. `listeners` have methods of their own.
    pub(crate) fn new(
        config: &Authentication,
        listeners: &[(Arc<str>, Vec<Method>)],
        users: Option<Arc<Users>>,
        stat: Arc<Stat>,
        needs_standing: bool,
    ) -> Result<Self, SecurityError> {
        let cache = Cache::new(config.cache_maximum).ok_or(SecurityError::Random)?;
        let mut gate = Self {
            chains: HashMap::new(),
            common: Arc::new(Chain { number: 0, members: Vec::new(), anonymous: None }),
            client_id: config.client_id,
            cache: Arc::new(cache),
            cache_for: Duration::from_secs(config.cache_s.into()),
            users,
            stat,
            needs_standing,
        };
        let mut common = Vec::new();
        common.extend(gate.users.is_some().then_some(Method::Password));
        common.push(Method::Anonymous);
        gate.common = Arc::new(gate.chain(0, &common, config.anonymous, "authentication")?);
        for ((name, methods), number) in listeners.iter().zip(1..) {
            let place = format!("listeners.{name}.authentication");
            let chain = gate.chain(number, methods, config.anonymous, &place)?;
            gate.chains.insert(Arc::clone(name), Arc::new(chain));
        }
        Ok(gate)
    }

    fn chain(
        &self,
        number: u32,
        methods: &[Method],
        anonymous: Anonymous,
        place: &str,
    ) -> Result<Chain, SecurityError> {
        let mut chain = Chain { number, members: Vec::new(), anonymous: None };
        for &method in methods {
            let missing = |key| SecurityError::Method { place: place.to_owned(), method: method.name(), key };
            match method {
                Method::Password => {
                    let users = self.users.as_ref().ok_or_else(|| missing("authentication.password.file"))?;
                    chain.members.push(Member::Password(Arc::clone(users)));
                }
                Method::Anonymous => chain.anonymous = Some(anonymous),
            }
        }
        Ok(chain)
    }

    /// Whether any client can show who it is.
    pub(crate) fn has_proofs(&self) -> bool {
        self.chains.values().chain([&self.common]).any(|chain| !chain.members.is_empty())
    }

    /// Judges a CONNECT, at once or by a thread of the pool.
    pub(crate) fn judge(
        &self,
        credentials: &Credentials<'_>,
        later: &Later<'_>,
        pool: Option<&Pool>,
    ) -> Option<Verdict> {
        let chain = self.chains.get(credentials.listener).unwrap_or(&self.common);
        let first = match chain.look(credentials) {
            Quick::Work(first) => first,
            Quick::Verdict(verdict) => return Some(self.door(credentials).decide(verdict)),
            Quick::Nothing => return Some(self.without_proof(chain, credentials, later)),
        };
        let digest = self.digest(chain, credentials);
        if let Some(verdict) = self.cache.get(&digest, Instant::now()) {
            self.stat.remembered.fetch_add(1, Relaxed);
            return Some(self.door(credentials).decide(verdict));
        }
        let work = || {
            let look = Look {
                chain: Arc::clone(chain),
                first,
                presented: Presented::new(credentials),
                digest,
                cache: Arc::clone(&self.cache),
                cache_for: self.cache_for,
                door: self.door(credentials),
                reply: later.reply(),
            };
            Box::new(|workspace: &mut Workspace| look.run(workspace)) as Work
        };
        let submitted = pool.map(|pool| pool.submit(credentials.peer.ip(), work));
        if submitted != Some(Ok(())) {
            self.stat.busy.fetch_add(1, Relaxed);
            let reason = "too many clients wait for their passwords to be looked at";
            return Some(Verdict::Refuse(ReasonCode::ServerBusy, reason.to_owned()));
        }
        None
    }

    fn digest(&self, chain: &Chain, credentials: &Credentials<'_>) -> Digest {
        let number = chain.number.to_le_bytes();
        self.cache.digest(&[Some(&number), credentials.user_name.map(str::as_bytes), credentials.password])
    }

    fn door(&self, credentials: &Credentials<'_>) -> Door {
        Door {
            client_id: credentials.client_id.into(),
            listener: credentials.listener.into(),
            binding: self.client_id,
            stat: Arc::clone(&self.stat),
        }
    }

    /// A client has presented nothing, or nothing is asked for.
    fn without_proof(&self, chain: &Chain, credentials: &Credentials<'_>, later: &Later<'_>) -> Verdict {
        use lapwing_broker::hook::Authenticator;
        let verdict = chain.anonymous.unwrap_or(Anonymous::None).authenticate(credentials, later);
        let (verdict, count) = match verdict {
            Some(Verdict::Accept(mut identity)) => {
                if self.has_proofs() {
                    // A name that nobody has proved would be taken for one that somebody has.
                    identity.user_name = None;
                }
                if self.needs_standing {
                    identity.grants = Some(Standing::unproven(credentials.listener.into()).into_grants());
                }
                (Verdict::Accept(identity), &self.stat.accepted)
            }
            Some(refused) => (refused, &self.stat.refused),
            None => (Verdict::Refuse(ReasonCode::NotAuthorized, String::new()), &self.stat.refused),
        };
        count.fetch_add(1, Relaxed);
        verdict
    }
}

/// What a thread does for a client that waits.
struct Look {
    chain: Arc<Chain>,
    first: usize,
    presented: Presented,
    digest: Digest,
    cache: Arc<Cache<Result<Proven, &'static str>>>,
    cache_for: Duration,
    door: Door,
    reply: Reply,
}

impl Look {
    fn run(self, workspace: &mut Workspace) -> Outcome {
        // Somebody may have presented the same while this waited.
        let known = self.cache.get(&self.digest, Instant::now());
        let verdict = match known {
            Some(verdict) => verdict,
            None => {
                let verdict = self.chain.judge(self.first, &self.presented, workspace);
                let holds_for = match &verdict {
                    Ok(proven) => remaining(proven).map_or(self.cache_for, |left| left.min(self.cache_for)),
                    Err(_) => WRONG_FOR.min(self.cache_for),
                };
                self.cache.put(self.digest, verdict.clone(), Instant::now() + holds_for);
                verdict
            }
        };
        let outcome = if verdict.is_ok() { Outcome::Other } else { Outcome::Wrong };
        self.reply.send(self.door.decide(verdict));
        outcome
    }
}

/// For how long a proof still holds.
fn remaining(proven: &Proven) -> Option<Duration> {
    let expires = proven.expires?;
    Some(expires.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What is left to be decided once it is known who a client is.
struct Door {
    client_id: Box<str>,
    listener: Arc<str>,
    binding: ClientIdBinding,
    stat: Arc<Stat>,
}

impl Door {
    fn decide(self, verdict: Result<Proven, &'static str>) -> Verdict {
        let verdict = match verdict {
            Err(reason) => Verdict::Refuse(ReasonCode::BadUserNameOrPassword, reason.to_owned()),
            Ok(proven) if !proven.may_be(&self.client_id, self.binding) => {
                let reason = "this user may not have this client identifier";
                Verdict::Refuse(ReasonCode::ClientIdentifierNotValid, reason.to_owned())
            }
            Ok(proven) => match remaining(&proven) {
                Some(Duration::ZERO) => {
                    Verdict::Refuse(ReasonCode::BadUserNameOrPassword, "the token has expired".to_owned())
                }
                valid_for => {
                    Verdict::Accept(Standing::proven(self.listener, proven).into_identity(valid_for))
                }
            },
        };
        let count = match &verdict {
            Verdict::Accept(_) => &self.stat.accepted,
            Verdict::Refuse(..) => &self.stat.refused,
        };
        count.fetch_add(1, Relaxed);
        verdict
    }
}

/// The limits of the pool, from the configuration.
pub(crate) fn start_pool(config: &Authentication) -> std::io::Result<Pool> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match config.threads {
        0 => processors.saturating_sub(1).max(1),
        threads => threads,
    };
    let limits = QueueLimits { all: config.queue_maximum, per_place: config.queue_address_maximum };
    Pool::start(threads, limits, Duration::from_millis(config.delay_maximum_ms.into()))
}
