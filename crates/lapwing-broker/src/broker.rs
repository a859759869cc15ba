use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lapwing_net::{Address, ListenError, Listener};
use mio::Poll;

use crate::event_loop::{self, EventLoop};
use crate::hook::{AllowAll, Anonymous, Authenticator, Authorizer};
use crate::limit::Limits;
use crate::mailbox::{Mail, MailboxSender, mailbox};
use crate::shard::{Shard, Shared, Stat};

/// How a broker is to run.
pub struct Config {
    /// Where it listens.
    pub listeners: Vec<Address>,
    /// What it allows peers to make grow.
    pub limits: Limits,
    /// Who is let in.
    pub authenticator: Arc<dyn Authenticator>,
    /// What clients may do.
    pub authorizer: Arc<dyn Authorizer>,
}

impl Default for Config {
    /// Listens on port 1883 of the loopback addresses, and lets clients on this machine in.
    fn default() -> Self {
        Self {
            listeners: vec![Address::new("127.0.0.1", lapwing_net::DEFAULT_PORT)],
            limits: Limits::default(),
            authenticator: Arc::new(Anonymous::default()),
            authorizer: Arc::new(AllowAll),
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
        let Config { limits, authenticator, authorizer, .. } = config;
        let shared = Arc::new(Shared { limits, authenticator, authorizer });
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

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the broker did not stop properly");
        }
    }
}
