use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use lapwing_net::{Address, ListenError, Listener, ListenerConfig};
use lapwing_proto::packet::{EncodeError, PacketId, ProtocolVersion, Publish};
use lapwing_store::engine::{Engine, EngineError};
use lapwing_store::{Sequence, Store, Writer};
use mio::Poll;

use crate::ban::Ban;
use crate::clock::{Clock, WallClock};
use crate::control::{Control, NamedCertificates, shard_stats};
use crate::event_loop::{self, EventLoop};
use crate::explanation::Explain;
use crate::hook::Hooks;
use crate::limit::{Limits, ListenerLimits};
use crate::mail::Mail;
use crate::mailbox::{MailboxSender, mailbox};
use crate::memory::Memory;
use crate::message::Message;
use crate::remnant;
use crate::rule::Rules;
use crate::shard::{SessionKey, Shard, Stat};
use crate::sharding::Sharding;
use crate::shared::{ShardId, Shared, Stored};
use crate::sync::Ordering;

/// How a broker is to run.
pub struct Config {
    /// Where it listens.
    pub listeners: Vec<ListenerConfig>,
    /// How the clients are shared out among threads.
    pub sharding: Sharding,
    /// What it allows peers to make grow.
    pub limits: Limits,
    /// What holds for the connections of a listener instead, by its name.
    pub listener_limits: BTreeMap<Arc<str>, ListenerLimits>,
    /// Who is kept out from the start.
    pub bans: Vec<Ban>,
    /// What it does with topics and subscriptions beyond the protocol.
    pub rules: Rules,
    /// What the program around it decides.
    pub hooks: Hooks,
    /// What it remembers so that it can be explained.
    pub explain: Explain,
    /// How much memory it may take; `None` for as much as there is.
    pub memory: Option<Memory>,
    /// Where it keeps what is to outlive it. Without, sessions and messages end with the process.
    pub store: Option<StoreConfig>,
}

/// Where a broker keeps what is to outlive it.
pub struct StoreConfig {
    /// Keys and values.
    pub engine: Box<dyn Engine>,
    /// How they are used.
    pub options: lapwing_store::Options,
}

impl Default for Config {
    /// Listens on port 1883 of 127.0.0.1, and lets clients on this machine in.
    fn default() -> Self {
        let address = Address::new("127.0.0.1", lapwing_net::DEFAULT_PORT);
        Self {
            listeners: vec![ListenerConfig::new("default", address)],
            sharding: Sharding::default(),
            limits: Limits::default(),
            listener_limits: BTreeMap::new(),
            bans: Vec::new(),
            rules: Rules::default(),
            hooks: Hooks::default(),
            explain: Explain::default(),
            memory: None,
            store: None,
        }
    }
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There are more shards than there can be.
    #[error("{0}")]
    Sharding(String),
    /// A limit has a value that it cannot have.
    #[error("{0}")]
    Limit(String),
    /// A rule is wrong.
    #[error("{0}")]
    Rule(String),
    /// The system refused a thread or what an event loop needs.
    #[error("cannot start the event loop: {0}")]
    System(#[from] io::Error),
    /// What is stored cannot be read.
    #[error(transparent)]
    Store(#[from] EngineError),
}

/// A running broker. It stops when it is dropped, or with [`shut_down`](Self::shut_down).
pub struct Broker {
    listening: Arc<[Address]>,
    certificates: Arc<[NamedCertificates]>,
    shared: Arc<Shared>,
    clock: Clock,
    threads: Vec<JoinHandle<io::Result<()>>>,
    writer: Option<JoinHandle<Result<(), EngineError>>>,
}

/// How busy a shard is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardStat {
    /// What has happened on it, and how much it has. Retained messages belong to no shard.
    pub stat: Stat,
    /// How much of its time its thread was at work lately: 0 to 1.
    pub busy: f64,
    /// Bytes of the mail from other threads that it has not handled.
    pub mailbox_bytes: usize,
    /// Messages in the queues of its sessions and in flight, as of the last interval of the `$SYS` topics.
    pub queued_messages: u64,
    /// Bytes of these.
    pub queued_bytes: u64,
}

impl Broker {
    /// Binds the listeners and starts.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.limits.check().map_err(StartError::Limit)?;
        config.sharding.check().map_err(StartError::Sharding)?;
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            listeners.extend(Listener::bind(listener)?);
        }
        let certificates = certificates(&listeners);
        let listening = listeners.iter().map(|listener| listener.local().clone()).collect();
        let rules = config.rules.compile().map_err(StartError::Rule)?;
        let (mut polls, mut senders) = (Vec::new(), Vec::new());
        for _ in 0..config.sharding.shards() {
            let poll = Poll::new()?;
            let (sender, mailbox) = mailbox(Some(event_loop::waker(&poll)?));
            polls.push((poll, mailbox));
            senders.push(sender);
        }
        let clock = Clock::new();
        let writer = config.store.map(|store| open(store, &senders)).transpose()?;
        let first_sequence =
            writer.as_ref().map_or_else(Sequence::default, |it| it.1.recovered().next_sequence());
        let store = writer.as_ref().map(|(store, _)| store.clone());
        let stored = Stored::new(senders.len(), store, first_sequence);
        stored.set_wall_clock(WallClock::read(clock));
        let shared = Shared::new(
            (config.limits, config.memory, config.explain),
            &config.listener_limits,
            rules,
            config.hooks,
            &config.sharding,
            senders,
            stored,
        );
        for ban in config.bans {
            let has_room = shared.admission.keep_out(ban, clock.now());
            debug_assert!(has_room.is_ok(), "there were not more before");
        }
        let mut broker = Self {
            listening,
            certificates,
            shared: Arc::new(shared),
            clock,
            threads: Vec::new(),
            writer: None,
        };
        let mut remnants = Vec::new();
        // Nobody is let in before every shard has its sessions, nor if one cannot have them.
        let (ready, is_ready) = mpsc::channel();
        let mut starts = Vec::new();
        for (id, (poll, mailbox)) in broker.shared.shards().zip(polls) {
            let shared = Arc::clone(&broker.shared);
            // The first one accepts for all.
            let listeners = std::mem::take(&mut listeners);
            let (sender, receiver) = mpsc::sync_channel(remnant::UNDER_WAY);
            remnants.push(sender);
            let ready = ready.clone();
            let (start, is_started) = mpsc::channel();
            starts.push(start);
            let run = move || {
                let _end = ShardEnd(Arc::clone(&shared));
                let mut shard = Shard::new(id, shared, mailbox);
                shard.restore(receiver.into_iter().flatten(), clock.now());
                drop(ready);
                match is_started.recv() {
                    Ok(()) => EventLoop::new(poll, shard, listeners, clock)?.run(),
                    Err(_) => Ok(()),
                }
            };
            let name = format!("shard-{}", id.index());
            broker.threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        let recovered = match writer {
            Some((store, writer)) => {
                let result = remnant::share_out(&writer.recovered(), &broker.shared, &remnants, clock.now());
                broker.writer = Some(
                    std::thread::Builder::new().name("store".into()).spawn(move || write(writer, &store))?,
                );
                result
            }
            None => Ok(()),
        };
        drop((remnants, ready));
        // It ends when the last of them has dropped its end: nothing is ever sent.
        let _: Result<(), _> = is_ready.recv();
        recovered?;
        for start in starts {
            // It fails only where the thread has ended, which is seen when it is joined.
            let _ = start.send(());
        }
        Ok(broker)
    }

    /// The addresses that it listens on, with the ports that the system chose where it was to choose.
    pub fn listening(&self) -> &[Address] {
        &self.listening
    }

    /// What has happened so far, and how much there is of what: as of a moment ago.
    pub fn stat(&self) -> Stat {
        self.shared.stat()
    }

    /// The same for each shard.
    pub fn shards(&self) -> Vec<ShardStat> {
        shard_stats(&self.shared)
    }

    /// A handle for those who watch and steer the broker from other threads.
    pub fn control(&self) -> Control {
        let (listening, certificates) = (Arc::clone(&self.listening), Arc::clone(&self.certificates));
        Control::new(Arc::clone(&self.shared), listening, certificates, self.clock)
    }

    /// Publishes a message of the program's own under the very name of its topic: no rule changes it, no hook
    /// is asked, and `$delayed/` means nothing.
    ///
    /// # Errors
    /// An [`EncodeError`] says what the message lacks or has too much of.
    pub fn publish(&self, publish: &Publish<'_>) -> Result<(), EncodeError> {
        let message = keep(publish)?;
        self.shared.mailbox(ShardId(0)).send(Mail::Publish(message, publish.retain));
        Ok(())
    }

    /// Sends a message to one session, whatever it has subscribed to, at the QoS of `publish`. A session without
    /// a connection keeps it, at QoS 1 and 2. If there is no such session it is dropped, and counted.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn send(&self, recipient: Recipient<'_>, publish: &Publish<'_>) -> Result<(), EncodeError> {
        let message = keep(publish)?;
        let key = match recipient {
            Recipient::ClientId(id) => SessionKey::ClientId(id.into()),
            Recipient::SessionKey(key) => SessionKey::Identity(key.into()),
        };
        // Where there is no such session, a shard counts what is dropped.
        let shard = self.shared.registry.shard(&key).unwrap_or(ShardId(0));
        self.shared.mailbox(shard).send(Mail::Send(key, message, publish.qos));
        Ok(())
    }

    /// Whether it still runs. It stops by itself only where the system fails it.
    pub fn is_running(&self) -> bool {
        let has_store = self.writer.as_ref().is_none_or(|writer| !writer.is_finished());
        has_store && !self.threads.is_empty() && self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Stops accepting, tells every client, writes what waits for them, and returns when all is done: at
    /// most about a second later.
    pub fn shut_down(mut self) -> io::Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> io::Result<()> {
        if self.threads.is_empty() {
            return Ok(());
        }
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        for shard in self.shared.shards() {
            self.shared.mailbox(shard).send(Mail::Shutdown);
        }
        let join = |thread: JoinHandle<_>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard's thread has panicked")))
        };
        // Each is waited for, whatever became of the others.
        let ends: Vec<_> = self.threads.drain(..).map(join).collect();
        if let Some(store) = &self.shared.stored.store {
            store.stop();
        }
        let writer = self.writer.take().map(JoinHandle::join);
        match writer {
            Some(Err(_)) => return Err(io::Error::other("the store's thread has panicked")),
            Some(Ok(Err(error))) => return Err(io::Error::other(error)),
            _ => {}
        }
        ends.into_iter().collect()
    }
}

/// The certificates of the listeners that have any, each once, with the listener's name.
fn certificates(listeners: &[Listener]) -> Arc<[NamedCertificates]> {
    let mut named: Vec<NamedCertificates> = Vec::new();
    for listener in listeners {
        if let Some(certificates) = listener.certificates()
            && !named.iter().any(|(_, known)| Arc::ptr_eq(known, certificates))
        {
            for warning in certificates.warnings() {
                tracing::warn!(listener = %listener.name(), "{warning}");
            }
            named.push((Arc::clone(listener.name()), Arc::clone(certificates)));
        }
    }
    named.into()
}

/// However the thread of a shard ends, nobody is to wait for its answers.
struct ShardEnd(Arc<Shared>);

impl Drop for ShardEnd {
    fn drop(&mut self) {
        self.0.is_stopping.store(true, Ordering::SeqCst);
    }
}

/// Opens a store. Everybody is told when it has room.
fn open(store: StoreConfig, senders: &[MailboxSender]) -> Result<(Store, Writer), EngineError> {
    let senders = senders.to_vec();
    let on_room = move || senders.iter().for_each(|sender| sender.send(Mail::Room));
    Writer::open(store.engine, store.options, on_room)
}

/// The work of the store's thread.
fn write(writer: Writer, store: &Store) -> Result<(), EngineError> {
    /// However the thread ends, nobody waits for it any more.
    struct End<'a>(&'a Store);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let _end = End(store);
    let result = writer.run().map(drop);
    if let Err(error) = &result {
        tracing::error!(%error, "the store has failed: nothing is acknowledged any more, and the broker stops");
    }
    result
}

/// Whose session a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient<'a> {
    /// The session of a client identifier.
    ClientId(&'a str),
    /// The session with the key that the authenticator gave, see [`Identity`](crate::hook::Identity).
    SessionKey(&'a str),
}

/// A message to hand to the shard. Its expiry interval begins when the shard has it.
pub(crate) fn keep(publish: &Publish<'_>) -> Result<Message, EncodeError> {
    let message = Publish { packet_id: Some(PacketId::FIRST), ..*publish };
    message.size(ProtocolVersion::V5)?;
    message.topic.ok_or(EncodeError::NoTopic)?;
    Ok(Message::unpublished(&message))
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the broker did not stop properly");
        }
    }
}
