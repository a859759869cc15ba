//! How other threads reach a shard.

use std::sync::{Arc, PoisonError};

use crate::mail::Mail;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, Waker};

/// Bytes that may wait in a mailbox before those who fill it are held back. Nobody is kept from sending, so that
/// no two shards can wait for each other.
pub(crate) const MAILBOX_BYTES: usize = if cfg!(test) { 2048 } else { 4 * 1024 * 1024 };

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
    /// Whether there is mail, without asking for the lock.
    has_mail: AtomicBool,
    /// Bytes of the mail that has not been handled.
    bytes: AtomicUsize,
    /// Whether somebody waits for room.
    is_awaited: AtomicBool,
    /// Whether the owner sleeps, or is about to, and must be woken.
    is_asleep: AtomicBool,
    /// `None` where nothing sleeps: a shard that is stepped by a test.
    waker: Option<Waker>,
}

/// A mailbox whose owner sleeps in the poll that `waker` belongs to.
pub(crate) fn mailbox(waker: Option<Waker>) -> (MailboxSender, Mailbox) {
    let shared = Arc::new(Shared {
        mail: Mutex::default(),
        has_mail: AtomicBool::new(false),
        bytes: AtomicUsize::new(0),
        is_awaited: AtomicBool::new(false),
        is_asleep: AtomicBool::new(false),
        waker,
    });
    (MailboxSender { shared: Arc::clone(&shared) }, Mailbox { shared })
}

impl MailboxSender {
    /// Puts `mail` in, and wakes the owner if it sleeps.
    pub(crate) fn send(&self, mail: Mail) {
        let Shared { mail: waiting, has_mail, bytes, is_asleep, waker, .. } = &*self.shared;
        bytes.fetch_add(mail.cost(), Ordering::SeqCst);
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(mail);
        has_mail.store(true, Ordering::SeqCst);
        drop(waiting);
        if let (Some(waker), true) = (waker, is_asleep.swap(false, Ordering::SeqCst)) {
            // It fails only when the owner's poll is gone, and with it whoever would read the mail.
            let _ = waker.wake();
        }
    }

    /// Whether so much mail waits that its senders should wait as well.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > MAILBOX_BYTES
    }

    /// Bytes of the mail that has not been handled.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Asks to be told, with [`Mail::Room`], when there is room. `false` if there is already.
    pub(crate) fn await_room(&self) -> bool {
        // A swap sees all that came before the other one, in `settle`; a store need not.
        self.shared.is_awaited.swap(true, Ordering::SeqCst);
        // It may have been emptied between the two.
        self.is_full()
    }
}

impl Mailbox {
    /// Appends all that is there to `mail`.
    pub(crate) fn take(&self, mail: &mut impl Extend<Mail>) {
        if !self.shared.has_mail.load(Ordering::SeqCst) {
            return;
        }
        let mut waiting = self.shared.mail.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.has_mail.store(false, Ordering::SeqCst);
        mail.extend(waiting.drain(..));
    }

    /// Mail of this cost has been handled; whether those who wait for room are now to be told.
    pub(crate) fn settle(&self, cost: usize) -> bool {
        let left = self.shared.bytes.fetch_sub(cost, Ordering::SeqCst) - cost;
        left <= MAILBOX_BYTES / 2 && self.shared.is_awaited.swap(false, Ordering::SeqCst)
    }

    /// Announces that the owner is about to sleep. `false` if there is mail, so that it must not.
    pub(crate) fn may_sleep(&self) -> bool {
        // A swap sees all that came before the other one, in `send`; a store need not.
        self.shared.is_asleep.swap(true, Ordering::SeqCst);
        let is_empty = !self.shared.has_mail.load(Ordering::SeqCst);
        if !is_empty {
            self.wake_up();
        }
        is_empty
    }

    /// The owner is awake.
    pub(crate) fn wake_up(&self) {
        self.shared.is_asleep.swap(false, Ordering::SeqCst);
    }
}
