//! How other threads reach a shard.

use std::sync::{Arc, Mutex, PoisonError};

use lapwing_proto::packet::QoS;
use mio::Waker;

use crate::hook::Verdict;
use crate::message::Message;
use crate::shard::{ConnectionId, SessionKey};

/// What another thread tells a shard.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A verdict on the client of a connection that waits for it.
    Verdict(ConnectionId, Verdict),
    /// A message of the program's own for all who subscribed to its topic, and whether it is retained.
    Publish(Message, bool),
    /// A message for one session, by its key, at this quality of service, whatever it subscribed to.
    Send(SessionKey, Message, QoS),
    /// Stop accepting, tell every client, write what waits, and end.
    Shutdown,
}

/// The end of a mailbox that the shard's thread empties once per turn.
#[derive(Debug)]
pub(crate) struct Mailbox {
    shared: Arc<Shared>,
}

/// The end of a mailbox that other threads hold.
#[derive(Debug, Clone)]
pub(crate) struct MailboxSender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mail: Mutex<Vec<Mail>>,
    /// `None` where nothing sleeps: a shard that is stepped by a test.
    waker: Option<Waker>,
}

/// A mailbox whose owner sleeps in the poll that `waker` belongs to.
pub(crate) fn mailbox(waker: Option<Waker>) -> (MailboxSender, Mailbox) {
    let shared = Arc::new(Shared { mail: Mutex::default(), waker });
    (MailboxSender { shared: Arc::clone(&shared) }, Mailbox { shared })
}

impl MailboxSender {
    /// Puts `mail` in, and wakes the owner if the mailbox was empty.
    pub(crate) fn send(&self, mail: Mail) {
        let mut waiting = self.shared.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.is_empty();
        waiting.push(mail);
        drop(waiting);
        if let (true, Some(waker)) = (was_empty, &self.shared.waker) {
            // It fails only when the owner's poll is gone, and with it whoever would read the mail.
            let _ = waker.wake();
        }
    }
}

impl Mailbox {
    /// Takes all that is there.
    pub(crate) fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.shared.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
