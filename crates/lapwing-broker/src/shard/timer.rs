use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lapwing_proto::session::Instant;

use super::{ConnectionId, SessionId};

/// What a timer is for. A timer is never taken back: whoever it fires for looks whether it is still due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The CONNECT must have come, or keep alive may be exceeded.
    Connection(ConnectionId),
    /// The session may expire.
    Session(SessionId),
    /// The will may be due.
    Will(SessionId),
}

/// Timers in the order in which they fire.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Keeps those for which `is_pending` says that they may still be due.
    pub(super) fn retain(&mut self, mut is_pending: impl FnMut(Instant, Timer) -> bool) {
        self.heap.retain(|&Reverse((at, timer))| is_pending(at, timer));
        self.heap.shrink_to(self.heap.len() * 2);
    }

    /// When the next one fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that fires at `now` or before.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lapwing_proto::session::Instant;

    use crate::hook::{AllowAll, Anonymous};
    use crate::limit::Limits;
    use crate::mailbox::mailbox;
    use crate::shard::{Shard, Shared};

    #[test]
    fn timers_of_connections_that_have_ended_do_not_gather() {
        let (sender, _mailbox) = mailbox(None);
        let (authenticator, authorizer) = (Arc::new(Anonymous::All), Arc::new(AllowAll));
        let shared = Shared { limits: Limits::default(), authenticator, authorizer };
        let mut shard = Shard::new(Arc::new(shared), sender);
        let peer = ([192, 0, 2, 1], 1).into();
        let kept = shard.accept(peer, false, Instant::default());
        for at in 0..5000 {
            let now = Instant::from_millis(at);
            let id = shard.accept(peer, false, now);
            shard.lost(id, now);
        }
        assert!(shard.timers.len() < 2000, "{} timers", shard.timers.len());
        // That of the one which is still there has not been thrown away.
        shard.handle_timeout(Instant::from_millis(20_000));
        assert!(shard.is_closing(kept));
    }
}
