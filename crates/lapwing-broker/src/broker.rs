use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lapwing_net::{Address, ListenError, Listener};
use lapwing_proto::packet::{EncodeError, PacketId, ProtocolVersion, Publish};
use mio::Poll;

use crate::event_loop::{self, EventLoop};
use crate::hook::Hooks;
use crate::limit::Limits;
use crate::mailbox::{Mail, MailboxSender, mailbox};
use crate::message::Message;
use crate::rule::Rules;
use crate::shard::{SessionKey, Shard, Shared, Stat};

/// How a broker is to run.
pub struct Config {
    /// Where it listens.
    pub listeners: Vec<Address>,
    /// What it allows peers to make grow.
    pub limits: Limits,
    /// What it does with topics and subscriptions beyond the protocol.
    pub rules: Rules,
    /// What the program around it decides.
    pub hooks: Hooks,
}

impl Default for Config {
    /// Listens on port 1883 of 127.0.0.1, and lets clients on this machine in.
    fn default() -> Self {
        Self {
            listeners: vec![Address::new("127.0.0.1", lapwing_net::DEFAULT_PORT)],
            limits: Limits::default(),
            rules: Rules::default(),
            hooks: Hooks::default(),
        }
    }
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A limit has a value that it cannot have.
    #[error("{0}")]
    Limit(String),
    /// A rule is wrong.
    #[error("{0}")]
    Rule(String),
    /// The system refused a thread or what an event loop needs.
    #[error("cannot start the event loop: {0}")]
    System(#[from] io::Error),
}

/// A running broker. It stops when it is dropped, or with [`shut_down`](Self::shut_down).
#[derive(Debug)]
pub struct Broker {
    listening: Vec<Address>,
    mailbox: MailboxSender,
    thread: Option<JoinHandle<io::Result<()>>>,
    stat: Arc<Mutex<Stat>>,
}

impl Broker {
    /// Binds the listeners and starts.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.limits.check().map_err(StartError::Limit)?;
        let mut listeners = Vec::new();
        for address in &config.listeners {
            listeners.extend(Listener::bind(address)?);
        }
        let listening = listeners.iter().map(|listener| listener.local().clone()).collect();
        let poll = Poll::new()?;
        let (sender, mailbox) = mailbox(Some(event_loop::waker(&poll)?));
        let rules = config.rules.compile().map_err(StartError::Rule)?;
        let shared = Arc::new(Shared { limits: config.limits, rules, hooks: config.hooks });
        let shard_mailbox = sender.clone();
        let stat = Arc::new(Mutex::default());
        let shard_stat = Arc::clone(&stat);
        let run = move || {
            let shard = Shard::new(shared, shard_mailbox);
            EventLoop::new(poll, shard, mailbox, listeners, shard_stat)?.run()
        };
        let thread = std::thread::Builder::new().name("shard-0".into()).spawn(run)?;
        Ok(Self { listening, mailbox: sender, thread: Some(thread), stat })
    }

    /// The addresses that it listens on, with the ports that the system chose where it was to choose.
    pub fn listening(&self) -> &[Address] {
        &self.listening
    }

    /// What has happened so far, and how much there is of what: as of a moment ago.
    pub fn stat(&self) -> Stat {
        *self.stat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a message of the program's own under the very name of its topic: no rule changes it, no hook
    /// is asked, and `$delayed/` means nothing.
    ///
    /// # Errors
    /// An [`EncodeError`] says what the message lacks or has too much of.
    pub fn publish(&self, publish: &Publish<'_>) -> Result<(), EncodeError> {
        let message = keep(publish)?;
        self.mailbox.send(Mail::Publish(message, publish.retain));
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
        self.mailbox.send(Mail::Send(key, message, publish.qos));
        Ok(())
    }

    /// Whether it still runs. It stops by itself only where the system fails it.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops accepting, tells every client, writes what waits for them, and returns when all is done: at
    /// most about a second later.
    pub fn shut_down(mut self) -> io::Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.mailbox.send(Mail::Shutdown);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the shard's thread has panicked")))
    }
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
fn keep(publish: &Publish<'_>) -> Result<Message, EncodeError> {
    let message = Publish { packet_id: Some(PacketId::FIRST), ..*publish };
    message.size(ProtocolVersion::V5)?;
    message.topic.ok_or(EncodeError::NoTopic)?;
    Ok(Message::unpublished(&message))
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the broker did not stop properly");
        }
    }
}
