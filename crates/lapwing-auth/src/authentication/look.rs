//! A client that waits: what threads do for it, one after the other, and what becomes of it in the end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use lapwing_broker::hook::{Reply, Verdict};
use lapwing_proto::packet::ReasonCode;

use super::cache::{Cache, Digest};
use super::chain::{Chain, Progress, Station};
use super::pool::{Outcome, Work};
use super::pools::Pools;
use super::proof::{Presented, Proof, Proven, Refusal};
use crate::config::ClientIdBinding;
use crate::password::Workspace;
use crate::standing::Standing;

/// What is presented and wrong is remembered for a shorter time: somebody may set it right.
const WRONG_FOR: Duration = Duration::from_secs(10);

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Stat {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unavailable: AtomicU64,
    pub(crate) remembered: AtomicU64,
    pub(crate) busy: AtomicU64,
    /// How often another configuration has come to hold. It does not change while a verdict is on its way to a shard, so that each is
    /// there before the shard looks at all clients by what holds then.
    pub(crate) reloads: RwLock<u64>,
}

impl Stat {
    /// Too many wait.
    pub(super) fn refuse_busy(&self) -> Verdict {
        self.busy.fetch_add(1, Relaxed);
        let reason = "too many clients wait for their passwords to be looked at";
        Verdict::Refuse(ReasonCode::ServerBusy, reason.to_owned())
    }
}

/// What threads do for a client that waits.
pub(super) struct Look {
    pub(super) chain: Arc<Chain>,
    /// The member of the chain that is asked next.
    pub(super) next: usize,
    pub(super) presented: Presented,
    pub(super) digest: Digest,
    pub(super) cache: Arc<Cache<Result<Proven, Refusal>>>,
    pub(super) cache_for: Duration,
    pub(super) door: Door,
    pub(super) reply: Reply,
    pub(super) pools: Pools,
}

impl Look {
    pub(super) fn into_work(self) -> Work {
        Box::new(|workspace| self.run(workspace))
    }

    fn run(mut self, workspace: &mut Workspace) -> Outcome {
        // Somebody may have presented the same while this waited.
        if let Some(verdict) = self.cache.get(&self.digest, Instant::now()) {
            return self.finish(verdict);
        }
        match self.chain.judge(self.next, &self.presented, workspace) {
            Progress::Elsewhere(next) => {
                self.next = next;
                self.go_on();
                Outcome::Other
            }
            Progress::Verdict(verdict, remember_for) => {
                let longest = remember_for.unwrap_or(self.cache_for).min(self.cache_for);
                let holds_for = match &verdict {
                    Ok(proven) => Some(remembered(proven, longest)),
                    Err(Refusal::Wrong(_)) => Some(WRONG_FOR.min(longest)),
                    Err(Refusal::Unavailable(_)) => None,
                };
                if let Some(holds_for) = holds_for.filter(|holds_for| !holds_for.is_zero()) {
                    self.cache.put(self.digest, verdict.clone(), Instant::now() + holds_for);
                }
                self.finish(verdict)
            }
        }
    }

    /// Waits for other threads.
    fn go_on(self) {
        let (address, stat) = (self.presented.address, Arc::clone(&self.door.stat));
        let Some(pool) = self.pools.get(self.chain.station(self.next)).cloned() else { return };
        let mut look = Some(self);
        let submitted = pool.submit(address, || match look.take() {
            Some(look) => look.into_work(),
            None => Box::new(|_| Outcome::Other),
        });
        if let (Err(_), Some(look)) = (submitted, look) {
            look.reply.send(stat.refuse_busy());
        }
    }

    fn finish(self, verdict: Result<Proven, Refusal>) -> Outcome {
        let is_wrong = matches!(verdict, Err(Refusal::Wrong(_)));
        // Those that compute know nothing of it, and the next password may be for them.
        if is_wrong
            && self.chain.station(self.next) == Station::Asking
            && let Some(hashing) = self.pools.get(Station::Hashing)
        {
            hashing.fail(self.presented.address);
        }
        let stat = Arc::clone(&self.door.stat);
        let reloads = stat.reloads.read().unwrap_or_else(PoisonError::into_inner);
        self.reply.send(self.door.decide(verdict, *reloads));
        drop(reloads);
        if is_wrong { Outcome::Wrong } else { Outcome::Other }
    }
}

/// For how long a verdict about it is remembered.
fn remembered(proven: &Proven, longest: Duration) -> Duration {
    match (remaining(proven), &proven.proof) {
        (None, _) => longest,
        // Who comes again towards the end is asked about again: the service may give it more time.
        (Some(left), Proof::Http { .. }) => longest.min(left / 2),
        (Some(left), _) => longest.min(left),
    }
}

/// For how long a proof still holds.
fn remaining(proven: &Proven) -> Option<Duration> {
    let expires = proven.expires?;
    Some(expires.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What is left to be decided once it is known who a client is.
pub(super) struct Door {
    pub(super) client_id: Box<str>,
    pub(super) binding: ClientIdBinding,
    pub(super) stat: Arc<Stat>,
    /// What [`Stat::reloads`] was when the client came.
    pub(super) reloads: u64,
}

/// What a client is told whom nobody has looked at by what holds now.
const CHANGED: &str = "the configuration has changed meanwhile";

impl Door {
    /// The same on the thread of the shard itself.
    pub(super) fn decide_now(self, verdict: Result<Proven, Refusal>) -> Verdict {
        let reloads = *self.stat.reloads.read().unwrap_or_else(PoisonError::into_inner);
        self.decide(verdict, reloads)
    }

    /// What becomes of the client. Who was found right by what held before, and does not hold any more, has to come again.
    pub(super) fn decide(self, verdict: Result<Proven, Refusal>, reloads: u64) -> Verdict {
        let verdict = verdict.and_then(|proven| match reloads == self.reloads {
            true => Ok(proven),
            false => Err(Refusal::Unavailable(CHANGED)),
        });
        let count = match &verdict {
            Err(Refusal::Unavailable(_)) => &self.stat.unavailable,
            _ => &self.stat.refused,
        };
        let verdict = match verdict {
            Err(Refusal::Wrong(reason)) => {
                Verdict::Refuse(ReasonCode::BadUserNameOrPassword, reason.to_owned())
            }
            Err(Refusal::Unavailable(reason)) => {
                Verdict::Refuse(ReasonCode::ServerUnavailable, reason.to_owned())
            }
            Ok(proven) if !proven.may_be(&self.client_id, self.binding) => {
                let reason = "this user may not have this client identifier";
                Verdict::Refuse(ReasonCode::ClientIdentifierNotValid, reason.to_owned())
            }
            Ok(proven) => match remaining(&proven) {
                Some(Duration::ZERO) => Verdict::Refuse(
                    ReasonCode::BadUserNameOrPassword,
                    "the proof of who the client is has expired".to_owned(),
                ),
                valid_for => Verdict::Accept(Standing::proven(proven).into_identity(valid_for)),
            },
        };
        let count = if matches!(verdict, Verdict::Accept(_)) { &self.stat.accepted } else { count };
        count.fetch_add(1, Relaxed);
        verdict
    }
}
