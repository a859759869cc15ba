//! The mailbox in every order in which its threads can run: its very source, with the synchronization of a model
//! that tries them all. A thread that sleeps for good is found as a deadlock.

#[path = "../src/mailbox.rs"]
mod mailbox;

mod mail {
    /// Mail of a sender, with its number.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Mail {
        Small(usize, usize),
        /// Two of them fill a mailbox.
        Large,
        Room,
    }

    impl Mail {
        pub(crate) fn cost(&self) -> usize {
            match self {
                Self::Large => crate::mailbox::MAILBOX_BYTES / 2 + 1,
                Self::Small(..) | Self::Room => 0,
            }
        }
    }
}

mod sync {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// Wakes a thread out of its sleep, also out of the next one.
    #[derive(Debug, Clone)]
    pub(crate) struct Waker(std::sync::Arc<loom::sync::Notify>);

    impl Waker {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Notify::new().into())
        }

        pub(crate) fn wake(&self) -> std::io::Result<()> {
            self.0.notify();
            Ok(())
        }

        pub(crate) fn await_wake(&self) {
            self.0.wait();
        }
    }
}

use loom::thread;

use self::mail::Mail;
use self::mailbox::{Mailbox, MailboxSender};
use self::sync::Waker;

/// The owner of a mailbox, who takes and sleeps as an event loop does.
struct Owner {
    mailbox: Mailbox,
    waker: Waker,
}

impl Owner {
    fn new() -> (MailboxSender, Self) {
        let waker = Waker::new();
        let (sender, mailbox) = mailbox::mailbox(Some(waker.clone()));
        (sender, Self { mailbox, waker })
    }

    /// Takes what comes until there is mail.
    fn receive(&self) -> Vec<Mail> {
        let mut mail = Vec::new();
        loop {
            self.mailbox.take(&mut mail);
            if !mail.is_empty() {
                return mail;
            }
            if self.mailbox.may_sleep() {
                self.waker.await_wake();
                self.mailbox.wake_up();
            }
        }
    }
}

/// Tries every order with up to so many switches from a thread that could have gone on.
fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

#[test]
fn all_mail_is_taken_and_that_of_a_sender_in_order() {
    const SENDERS: usize = 2;
    const EACH: usize = 2;
    model(2, || {
        let (sender, owner) = Owner::new();
        for number in 0..SENDERS {
            let sender = sender.clone();
            thread::spawn(move || (0..EACH).for_each(|count| sender.send(Mail::Small(number, count))));
        }
        let mut next = [0; SENDERS];
        while next != [EACH; SENDERS] {
            for mail in owner.receive() {
                let Mail::Small(number, count) = mail else { panic!("{mail:?} came") };
                assert_eq!(count, next[number], "the mail of a sender is not in order");
                next[number] += 1;
            }
        }
    });
}

#[test]
fn whoever_waits_for_room_is_told() {
    const SENDERS: usize = 2;
    model(2, || {
        let (sender, owner) = Owner::new();
        let mut others = Vec::new();
        for _ in 0..SENDERS {
            let (own, itself) = Owner::new();
            others.push(own);
            let sender = sender.clone();
            thread::spawn(move || {
                sender.send(Mail::Large);
                if sender.is_full() && sender.await_room() {
                    assert!(itself.receive().contains(&Mail::Room));
                }
            });
        }
        let mut taken = 0;
        while taken < SENDERS {
            for mail in owner.receive() {
                taken += 1;
                if owner.mailbox.settle(mail.cost()) {
                    others.iter().for_each(|other| other.send(Mail::Room));
                }
            }
        }
    });
}
