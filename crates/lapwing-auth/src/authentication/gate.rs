//! What every CONNECT comes to: the methods of its listener, what is remembered, and the threads.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use lapwing_broker::hook::{Anonymous, Client, Credentials, Exchange, Later, Step, Verdict};
use lapwing_proto::packet::ReasonCode;

use super::cache::{Cache, Digest};
use super::chain::{Chain, Member, Quick, Station};
use super::http::Service;
use super::jwt::Tokens;
use super::look::{Door, Look, Stat};
use super::pool::Pool;
use super::pools::Pools;
use super::proof::{Presented, Proof, Proven, Refusal};
use super::queue::Full;
use super::scram::{self, Scram};
use crate::config::{Authentication, CertificateUser, ClientIdBinding, Method};
use crate::password::Users;
use crate::security::SecurityError;
use crate::standing::Standing;

/// Who is let in, by files as they were at one time.
#[derive(Debug)]
pub(crate) struct Gate {
    chains: HashMap<Arc<str>, Arc<Chain>>,
    /// Of listeners without a chain of their own.
    common: Arc<Chain>,
    client_id: ClientIdBinding,
    cache: Arc<Cache<Result<Proven, Refusal>>>,
    cache_for: Duration,
    pub(crate) users: Option<Arc<Users>>,
    tokens: Option<Arc<Tokens>>,
    service: Option<Arc<Service>>,
    certificate: CertificateUser,
    stat: Arc<Stat>,
    /// What [`Stat::reloads`] is while this holds.
    pub(crate) reloads: u64,
}

/// What the files say that the configuration names.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) users: Option<Arc<Users>>,
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) service: Option<Arc<Service>>,
}

impl Gate {
    /// With these files. `listeners` have methods of their own.
    pub(crate) fn new(
        config: &Authentication,
        listeners: &[(Arc<str>, Vec<Method>)],
        files: Files,
        stat: Arc<Stat>,
    ) -> Result<Self, SecurityError> {
        let cache = Cache::new(config.cache_maximum).ok_or(SecurityError::Random)?;
        let mut gate = Self {
            chains: HashMap::new(),
            common: Arc::new(Chain { number: 0, members: Vec::new(), anonymous: None }),
            client_id: config.client_id,
            cache: Arc::new(cache),
            cache_for: Duration::from_secs(config.cache_s.into()),
            users: files.users,
            tokens: files.tokens,
            service: files.service,
            certificate: config.certificate.user,
            stat,
            reloads: 0,
        };
        let mut common = Vec::new();
        common.extend((gate.certificate != CertificateUser::None).then_some(Method::Certificate));
        common.extend(gate.tokens.is_some().then_some(Method::Jwt));
        common.extend(gate.users.is_some().then_some(Method::Password));
        common.extend(gate.service.is_some().then_some(Method::Http));
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
                Method::Certificate if self.certificate == CertificateUser::None => {
                    return Err(missing("authentication.certificate.user"));
                }
                Method::Certificate => {
                    chain.members.push(Member::Certificate(self.certificate, self.users.clone()));
                }
                Method::Jwt => {
                    let tokens =
                        self.tokens.as_ref().ok_or_else(|| missing("a key of authentication.jwt"))?;
                    chain.members.push(Member::Jwt(Arc::clone(tokens)));
                }
                Method::Password => {
                    let users = self.users.as_ref().ok_or_else(|| missing("authentication.password.file"))?;
                    chain.members.push(Member::Password(Arc::clone(users)));
                }
                Method::Http => {
                    let service = self.service.as_ref().ok_or_else(|| missing("authentication.http.url"))?;
                    chain.members.push(Member::Http(Arc::clone(service)));
                }
                Method::Anonymous => chain.anonymous = Some(anonymous),
            }
        }
        Ok(chain)
    }

    /// Whether tokens are accepted.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// The service that is asked, if there is one.
    pub(crate) fn service(&self) -> Option<&Service> {
        self.service.as_deref()
    }

    /// Whether these threads have anything to do.
    pub(super) fn has_station(&self, station: Station) -> bool {
        let chains = self.chains.values().chain([&self.common]);
        { chains }.any(|chain| chain.members.iter().any(|member| member.station() == station))
    }

    fn chain_of(&self, listener: &str) -> &Arc<Chain> {
        self.chains.get(listener).unwrap_or(&self.common)
    }

    /// Whether any client can show who it is.
    pub(crate) fn has_proofs(&self) -> bool {
        self.chains.values().chain([&self.common]).any(|chain| !chain.members.is_empty())
    }

    /// Judges a CONNECT, at once or by a thread of a pool.
    pub(crate) fn judge(
        &self,
        credentials: &Credentials<'_>,
        later: &Later<'_>,
        pools: &Pools,
    ) -> Option<Verdict> {
        let chain = self.chain_of(credentials.listener);
        let first = match chain.look(credentials) {
            Quick::Work(first) => first,
            Quick::Verdict(verdict) => return Some(self.door(credentials).decide(verdict, self.reloads)),
            Quick::Nothing => return Some(self.without_proof(chain, credentials, later)),
        };
        let digest = self.digest(chain, credentials);
        if let Some(verdict) = self.cache.get(&digest, Instant::now()) {
            self.stat.remembered.fetch_add(1, Relaxed);
            return Some(self.door(credentials).decide(verdict, self.reloads));
        }
        let look = || Look {
            chain: Arc::clone(chain),
            next: first,
            presented: Presented::new(credentials),
            digest,
            cache: Arc::clone(&self.cache),
            cache_for: self.cache_for,
            door: self.door(credentials),
            reply: later.reply(),
            pools: pools.clone(),
        };
        let pool = pools.get(chain.station(first));
        let submitted = pool.map(|pool| pool.submit(credentials.peer.ip(), || look().into_work()));
        match submitted {
            Some(Ok(())) => None,
            Some(Err(Full)) | None => Some(self.stat.refuse_busy()),
        }
    }

    /// Begins an extended authentication.
    pub(crate) fn begin_exchange(
        &self,
        method: &str,
        credentials: &Credentials<'_>,
        pools: &Pools,
    ) -> Option<Box<dyn Exchange>> {
        let chain = self.chain_of(credentials.listener);
        let pool = pools.hashing.clone()?;
        let scram = Scram::new(Arc::clone(chain.exchange(method)?));
        let (door, address) = (self.door(credentials), credentials.peer.ip());
        Some(Box::new(ScramExchange { scram, door: Some(door), address, pool }))
    }

    /// Whether a client that has shown in this way who it is would still be let in.
    pub(crate) fn still_accepts(&self, client: &Client, proven: &Proven) -> bool {
        if !self.chain_of(&client.listener).accepts(&proven.proof) {
            return false;
        }
        let Some(account) = &proven.account else { return proven.may_be(&client.client_id, self.client_id) };
        let now = self.users.as_ref().and_then(|users| users.get(&account.name));
        now.is_some_and(|now| {
            let now_proven = Proven::of_user(Arc::clone(now), proven.proof.clone());
            now.password == account.password
                && now.scram == account.scram
                && now_proven.may_be(&client.client_id, self.client_id)
        })
    }

    /// Whether a client that has not shown who it is, and was let in, would still be.
    pub(crate) fn still_accepts_unproven(&self, client: &Client) -> bool {
        // One that presents a name now has to prove it.
        let has_claimed = client.identity.user_name.is_some() && self.has_proofs();
        let is_welcome = match self.chain_of(&client.listener).anonymous {
            None | Some(Anonymous::None) => false,
            Some(Anonymous::Loopback) => client.is_local,
            Some(Anonymous::All) => true,
        };
        is_welcome && !has_claimed
    }

    fn digest(&self, chain: &Chain, credentials: &Credentials<'_>) -> Digest {
        let number = chain.number.to_le_bytes();
        let (user, password) = (credentials.user_name.map(str::as_bytes), credentials.password);
        if !chain.sees_surroundings() {
            return self.cache.digest(&[Some(&number), user, password]);
        }
        let address = credentials.peer.ip().to_string();
        let version = credentials.version.to_string();
        self.cache.digest(&[
            Some(&number),
            user,
            password,
            Some(credentials.client_id.as_bytes()),
            Some(address.as_bytes()),
            Some(credentials.listener.as_bytes()),
            Some(version.as_bytes()),
            credentials.certificate,
        ])
    }

    fn door(&self, credentials: &Credentials<'_>) -> Door {
        Door {
            client_id: credentials.client_id.into(),
            binding: self.client_id,
            stat: Arc::clone(&self.stat),
            reloads: self.reloads,
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
                if identity.user_name.is_some() {
                    identity.grants = Some(Standing::unproven().into_grants());
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

/// SCRAM-SHA-256 under way. What the server does for it takes microseconds: the client has the work.
struct ScramExchange {
    scram: Scram,
    door: Option<Door>,
    address: IpAddr,
    pool: Pool,
}

impl Exchange for ScramExchange {
    fn respond(&mut self, data: Option<&[u8]>) -> Step {
        if self.pool.must_wait(self.address) {
            let reason = "too many wrong passwords have come from this address";
            return Step::Refuse(ReasonCode::ServerBusy, reason.to_owned());
        }
        match self.scram.respond(data) {
            scram::Reply::Challenge(data) => Step::Challenge(data),
            scram::Reply::Accept(user, data) => {
                let proven = Proven::of_user(user, Proof::Password);
                match self.door.take().map(|door| door.decide_now(Ok(proven))) {
                    Some(Verdict::Accept(identity)) => Step::Accept(identity, Some(data)),
                    Some(Verdict::Refuse(reason_code, reason)) => Step::Refuse(reason_code, reason),
                    None => Step::Refuse(ReasonCode::ProtocolError, "the exchange is over".to_owned()),
                }
            }
            scram::Reply::Refuse(reason) => {
                self.pool.fail(self.address);
                if let Some(door) = self.door.take() {
                    door.stat.refused.fetch_add(1, Relaxed);
                }
                Step::Refuse(ReasonCode::NotAuthorized, reason.to_owned())
            }
        }
    }
}
