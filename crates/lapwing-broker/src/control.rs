//! A handle on a running broker for those who watch and steer it: counts, clients, retained messages.
//!
//! What belongs to a shard is asked for by mail, and the shard answers in its own time. Whoever asks waits, on a thread
//! of its own, and no longer than [`ANSWER_TIMEOUT`]; the shard never does.

mod session;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use lapwing_net::{Address, Certificates};
use lapwing_proto::packet::{EncodeError, ProtocolVersion, Publish, QoS, ReasonCode};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};
use lapwing_store::archive::ArchiveError;
use lapwing_store::{BackupTarget, Condition};

pub use self::session::Weight;
pub(crate) use self::session::{Pick, Sessions};
use crate::ban::{Ban, BanTarget};
use crate::broker::{ShardStat, keep};
use crate::clock::Clock;
use crate::explanation::{
    Cursor, Explanation, IncidentPage, IncidentSearch, Inquest, Question, Search, TrailPage, Watched,
};
use crate::limit::{Limits, ListenerLimits};
use crate::mail::Mail;
use crate::memory::{Memory, MemoryStat};
use crate::message::Message;
use crate::shard::{Report, SessionId, SessionKey, Stat};
use crate::shared::{Kept, ShardId, Shared, TooManyBans};
use crate::sync::Ordering;

/// How long a shard may take to answer before whoever asks gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all shards may take to look at every client anew.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Retained messages that are shown at a time, since the lock on them is held meanwhile.
const RETAINED_AT_A_TIME: usize = 128;

/// A handle on a running broker. A clone is another handle on the same one; it outlives the broker, and then says so.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    listening: Arc<[Address]>,
    certificates: Arc<[NamedCertificates]>,
    clock: Clock,
}

/// Certificates, with the name of the listener that has them.
pub(crate) type NamedCertificates = (Arc<str>, Arc<Certificates>);

/// Why a broker did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such session.
    #[error("there is no session of this client")]
    NoSession,
    /// There is a session, but its client is not connected.
    #[error("the client is not connected")]
    NotConnected,
    /// A shard has so much to do that it does not answer in time, or takes nothing more.
    #[error("the broker is too busy to answer")]
    Busy,
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
    /// A limit cannot be what it was to be.
    #[error("{0}")]
    Limits(String),
    /// It has been done, and may be undone by a restart.
    #[error("it is done, but the store has failed: a restart may undo it")]
    NotStored,
    /// There are as many bans as there may be.
    #[error("there are 100,000 bans, and no more are kept")]
    TooManyBans,
    /// Everything ends with the process.
    #[error("this broker stores nothing: there is nothing to make a backup of")]
    NothingStored,
    /// There is one backup at a time.
    #[error("a backup is being made already")]
    BackupRunning,
    /// It could not be made, for this reason.
    #[error("the backup has failed: {0}")]
    Backup(String),
    /// A message lacks something or has too much of it.
    #[error(transparent)]
    Message(#[from] EncodeError),
    /// The message was refused, for this reason.
    #[error("the message is refused: {0}")]
    Refused(ReasonCode),
}

/// Whether a broker does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It has stopped, or a part of it has.
    Stopped,
    /// Its store has failed: nothing is acknowledged any more that must be kept.
    StoreFailed,
}

/// Where the next page of sessions begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCursor {
    /// The shard.
    pub shard: u16,
    /// The first place there that has not been shown.
    pub place: u32,
}

/// A session, as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The client identifier. Where the session has another key and no connection, that key.
    pub client_id: String,
    /// The key that the authenticator gave, where it gave one.
    pub session_key: Option<String>,
    /// The connection, if there is one.
    pub connection: Option<ConnectionInfo>,
    /// Seconds that the session outlives its connection; `u32::MAX` for ever.
    pub session_expiry_interval_s: u32,
    /// When it ends, if its client is away and does not come back before.
    pub expires: Option<SystemTime>,
    /// Whether it outlives the broker's process.
    pub is_stored: bool,
    /// Whose it is; `None` if it is anybody's.
    pub owner: Option<String>,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages that wait for the client, or for room in its receive maximum.
    pub queued_messages: usize,
    /// Bytes of these.
    pub queued_bytes: usize,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight_messages: usize,
    /// What it takes of memory and disk.
    pub weight: Weight,
}

/// The connection of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The user name, as far as it means anything.
    pub user_name: Option<String>,
    /// The other end.
    pub peer: SocketAddr,
    /// The version that the client speaks.
    pub version: ProtocolVersion,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// When the client was let in.
    pub connected_at: SystemTime,
    /// Bytes that wait to be written to it.
    pub outbox_bytes: usize,
}

/// A subscription of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// The filter.
    pub filter: TopicFilterBuf,
    /// The highest quality of service that it gives.
    pub qos: QoS,
}

/// What came of it that the rules have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Clients that were connected, and looked at.
    pub clients: usize,
    /// Those of them that are not let in any more, and were disconnected.
    pub disconnected: usize,
    /// Subscriptions that are not allowed any more, and were removed.
    pub unsubscribed: usize,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedInfo {
    /// Its topic.
    pub topic: TopicNameBuf,
    /// Its quality of service.
    pub qos: QoS,
    /// Its payload, or the first of it.
    pub payload: Vec<u8>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    /// Seconds until it expires, if it does.
    pub expires_in_s: Option<u32>,
}

/// How many subscriptions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionCount {
    /// All of them.
    pub total: usize,
    /// Those among them that are shared.
    pub shared: usize,
}

/// What a shard is asked by another thread. It answers with `try_send` into a channel that has room for the answer:
/// whether anybody still waits for it is no concern of the shard.
#[derive(Debug)]
pub(crate) enum Inquiry {
    /// Some of its sessions, from this place on; what all weigh that were looked at, and where to go on.
    Sessions { from: usize, pick: Pick, maximum: usize, reply: SyncSender<Sessions> },
    /// A session and some of its subscriptions, behind the first `skip`.
    Session { key: SessionKey, skip: usize, maximum: usize, reply: SyncSender<Option<SessionDetail>> },
    /// To end a session, and to say so when that is durable.
    EndSession { key: SessionKey, reply: SyncSender<Result<(), ControlError>> },
    /// To end the connection of a session.
    Disconnect { key: SessionKey, reply: SyncSender<Result<(), ControlError>> },
    /// To look at what every client may do, by the rules as they are now.
    Renew { reply: SyncSender<Renewed> },
    /// To go by the limits as they are configured now.
    Limits { reply: SyncSender<()> },
    /// For some of its records, from this place on.
    Trail { search: Arc<Search>, from: Option<Cursor>, reply: SyncSender<TrailPage> },
    /// For what has happened to clients.
    Incidents { search: Arc<IncidentSearch>, reply: SyncSender<IncidentPage> },
    /// For whose these sessions are, and by which filters they get messages of this topic.
    Watched { name: TopicNameBuf, sessions: Vec<SessionId>, reply: SyncSender<Vec<Watched>> },
    /// To publish a message.
    Publish { message: Message, retain: bool, reply: SyncSender<ReasonCode> },
}

/// A session and its subscriptions.
pub type SessionDetail = (SessionInfo, Vec<SubscriptionInfo>);

impl Control {
    pub(crate) fn new(
        shared: Arc<Shared>,
        listening: Arc<[Address]>,
        certificates: Arc<[NamedCertificates]>,
        clock: Clock,
    ) -> Self {
        Self { shared, listening, certificates, clock }
    }

    /// Reads the files of certificates again that have changed since they were looked at last, or all of them if
    /// `is_forced`. Who connects from now on meets what they have; whoever is connected stays. Where they are wrong, what was
    /// loaded before still holds, and the log says why.
    pub fn refresh_certificates(&self, is_forced: bool) {
        for (listener, certificates) in &*self.certificates {
            match certificates.refresh(is_forced) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(%listener, "the certificates have been read again");
                    for warning in certificates.warnings() {
                        tracing::warn!(%listener, "{warning}");
                    }
                }
                Err(error) => {
                    tracing::error!(%listener, "the certificates are not changed: listeners.{listener}.{error}");
                }
            }
        }
    }

    /// The addresses that the broker listens on.
    pub fn listening(&self) -> &[Address] {
        &self.listening
    }

    /// How long the broker has been there.
    pub fn uptime(&self) -> Duration {
        Duration::from_millis(self.clock.now().as_millis())
    }

    /// Whether it does its work.
    pub fn readiness(&self) -> Readiness {
        if self.store_condition() == Some(Condition::Failed) {
            return Readiness::StoreFailed;
        }
        if self.shared.is_stopping.load(Ordering::SeqCst) { Readiness::Stopped } else { Readiness::Ready }
    }

    /// Whether the store takes what is new; `None` where nothing is stored.
    pub fn store_condition(&self) -> Option<Condition> {
        self.shared.stored.store.as_ref().map(lapwing_store::Store::condition)
    }

    /// What has happened so far, and how much there is of what: as of a moment ago.
    pub fn stat(&self) -> Stat {
        self.shared.stat()
    }

    /// The same for each shard.
    pub fn shards(&self) -> Vec<ShardStat> {
        shard_stats(&self.shared)
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> SubscriptionCount {
        let (total, shared) = self.shared.subscriptions.count();
        SubscriptionCount { total, shared }
    }

    /// Ends the connection of a session, which is found as by [`session`](Self::session): the client is told that it is
    /// an administrative action (0x98), and its will is published. The session itself stays as long as it would after any
    /// loss of its connection.
    pub fn disconnect(&self, name: &str) -> Result<(), ControlError> {
        let (shard, key) = self.find(name)?;
        self.ask(shard, |reply| Inquiry::Disconnect { key, reply })?
    }

    /// Keeps somebody out, in place of an earlier ban of the same, and ends the connections that it concerns.
    pub fn ban(&self, ban: Ban) -> Result<Renewed, ControlError> {
        let now = self.clock.now();
        self.shared.admission.keep_out(ban, now).map_err(|TooManyBans| ControlError::TooManyBans)?;
        self.rules_changed()
    }

    /// Ends a ban; whether there was one.
    pub fn unban(&self, target: &BanTarget) -> bool {
        self.shared.admission.unban(target)
    }

    /// All bans that hold, those of addresses first.
    pub fn bans(&self) -> Vec<Ban> {
        let now = self.clock.now();
        let show = |(target, kept): (BanTarget, Kept)| Ban {
            target,
            reason: kept.reason.as_ref().to_owned(),
            until: kept.until.map(|until| SystemTime::now() + until.since(now)),
            is_automatic: kept.is_automatic,
        };
        self.shared.admission.bans(now).into_iter().map(show).collect()
    }

    /// The rules have changed: whether each client that is connected would still be let in, and what it may do, is asked
    /// anew. Returns when that is done. Sessions without a connection are looked at when their clients come back.
    pub fn rules_changed(&self) -> Result<Renewed, ControlError> {
        let mut all = Renewed::default();
        let mut answers = Vec::new();
        for shard in self.shared.shards() {
            let (reply, answer) = sync_channel(1);
            self.shared.mailbox(shard).send(Mail::Inquiry(Box::new(Inquiry::Renew { reply })));
            answers.push(answer);
        }
        for answer in answers {
            let renewed = answer.recv_timeout(RENEWAL_TIMEOUT).map_err(|_| ControlError::Busy)?;
            all.clients += renewed.clients;
            all.disconnected += renewed.disconnected;
            all.unsubscribed += renewed.unsubscribed;
        }
        Ok(all)
    }

    /// Lets other limits hold from now on, and returns when they do. What has been agreed with clients that are connected (such as
    /// their Receive Maximum), and how much is read from each of them, stays as it is until they connect again; connections that were not counted, since there was no limit on them,
    /// are not counted now either. What there is beyond a limit stays.
    ///
    /// # Errors
    ///
    /// [`ControlError::Limits`] if one of them cannot be; then nothing has changed.
    pub fn set_limits(
        &self,
        limits: Limits,
        listeners: &BTreeMap<Arc<str>, ListenerLimits>,
    ) -> Result<(), ControlError> {
        limits.check().map_err(ControlError::Limits)?;
        self.shared.set_limits(limits, listeners);
        self.shared.shards().try_for_each(|shard| self.ask(shard, |reply| Inquiry::Limits { reply }))
    }

    /// How much memory the process takes; `None` where there is no end to what it may take.
    pub fn memory(&self) -> Option<MemoryStat> {
        let Memory { used, maximum } = self.shared.memory.as_ref()?;
        Some(MemoryStat { used: used(), maximum: *maximum, pressure: self.shared.pressure() })
    }

    /// Publishes as [`Broker::publish`](crate::Broker::publish) does, and waits until the message is on its way to its
    /// receivers; whether there are any.
    pub fn publish(&self, publish: &Publish<'_>) -> Result<bool, ControlError> {
        let message = keep(publish)?;
        let retain = publish.retain;
        match self.ask(ShardId(0), |reply| Inquiry::Publish { message, retain, reply })? {
            ReasonCode::Success => Ok(true),
            ReasonCode::NoMatchingSubscribers => Ok(false),
            reason_code => Err(ControlError::Refused(reason_code)),
        }
    }

    /// Up to `maximum` of the retained messages that match, those behind `after`, each with up to `payload_maximum` bytes
    /// of its payload; and the topic to go on behind if there may be more.
    pub fn retained(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        maximum: usize,
        payload_maximum: usize,
    ) -> (Vec<RetainedInfo>, Option<TopicNameBuf>) {
        let mut found = Vec::new();
        let mut after = after.map(TopicName::to_buf);
        while found.len() < maximum {
            let maximum = (maximum - found.len()).min(RETAINED_AT_A_TIME);
            let mut messages = Vec::new();
            let behind = after.as_ref().map(TopicNameBuf::as_name);
            let retained = self.shared.retained.lock();
            after = retained.matches_after(filter, behind, maximum, |message| messages.push(message.clone()));
            drop(retained);
            found.extend(messages.iter().filter_map(|message| self.show(message, payload_maximum)));
            if after.is_none() {
                break;
            }
        }
        (found, after)
    }

    /// Writes everything that is stored to `out`, as of one moment, in the form that
    /// [`archive::read`](lapwing_store::archive::read) takes; the broker goes on meanwhile. `then` is called by another thread
    /// when it is done, and dropped if the broker stops before. A broker that stops waits for `out`, which must not block
    /// for ever.
    pub fn backup(
        &self,
        out: Box<dyn Write + Send>,
        then: impl FnOnce(Result<(), ControlError>) + Send + 'static,
    ) -> Result<(), ControlError> {
        let store = self.shared.stored.store.as_ref().ok_or(ControlError::NothingStored)?;
        store.backup(BackupTarget::Writer(out), move |result| {
            then(match result {
                Ok(_) => Ok(()),
                Err(ArchiveError::Busy) => Err(ControlError::BackupRunning),
                Err(ArchiveError::Stopped) => Err(ControlError::Stopped),
                Err(error) => Err(ControlError::Backup(error.to_string())),
            });
        });
        Ok(())
    }

    /// What has become of messages and clients, as far as the broker remembers. It waits for every shard, and takes some
    /// milliseconds of each.
    ///
    /// # Errors
    /// [`ControlError::Busy`] or [`ControlError::Stopped`].
    pub fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        Inquest { shared: &self.shared, now: self.clock.now(), meanwhile: &|| () }.answer(question)
    }

    /// Whether a topic has a retained message.
    pub fn has_retained(&self, name: TopicName<'_>) -> bool {
        self.shared.retained.lock().has(name)
    }

    fn show(&self, message: &Message, payload_maximum: usize) -> Option<RetainedInfo> {
        let publish = message.publish(self.clock.now());
        Some(RetainedInfo {
            topic: publish.topic?.to_buf(),
            qos: message.qos(),
            payload: publish.payload.iter().copied().take(payload_maximum).collect(),
            payload_bytes: publish.payload.len(),
            expires_in_s: publish.properties.message_expiry_interval,
        })
    }

    /// Asks a shard and waits for what it answers.
    fn ask<T>(
        &self,
        shard: ShardId,
        inquiry: impl FnOnce(SyncSender<T>) -> Inquiry,
    ) -> Result<T, ControlError> {
        ask(&self.shared, shard, inquiry, || ())
    }
}

/// Asks a shard and waits for what it answers; `meanwhile` is called before.
pub(crate) fn ask<T>(
    shared: &Shared,
    shard: ShardId,
    inquiry: impl FnOnce(SyncSender<T>) -> Inquiry,
    meanwhile: impl FnOnce(),
) -> Result<T, ControlError> {
    if shared.is_stopping.load(Ordering::SeqCst) {
        return Err(ControlError::Stopped);
    }
    let mailbox = shared.mailbox(shard);
    if mailbox.is_full() {
        return Err(ControlError::Busy);
    }
    let (sender, receiver) = sync_channel(1);
    mailbox.send(Mail::Inquiry(Box::new(inquiry(sender))));
    meanwhile();
    receiver.recv_timeout(ANSWER_TIMEOUT).map_err(|_| ControlError::Busy)
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("listening", &self.listening).finish_non_exhaustive()
    }
}

/// What each shard has left for others to see.
pub(crate) fn shard_stats(shared: &Shared) -> Vec<ShardStat> {
    let stat = |(report, shard): (Report, ShardId)| ShardStat {
        stat: report.stat,
        busy: f64::from(report.busy) / 1000.0,
        mailbox_bytes: shared.mailbox(shard).bytes(),
        queued_messages: report.queued_messages,
        queued_bytes: report.queued_bytes,
    };
    shared.reports().zip(shared.shards()).map(stat).collect()
}
