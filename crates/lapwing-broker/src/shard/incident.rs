//! What has happened to clients lately, and what they were refused: apart from the messages, so that a flood of these
//! does not push it out.

use std::collections::VecDeque;

use lapwing_proto::session::Instant;

use super::{SessionId, Shard};
use crate::excerpt::excerpt;
use crate::explanation::Happening;
use crate::hook::Authorizer;

/// What has happened lately, bounded in bytes.
#[derive(Debug)]
pub(super) struct Incidents {
    kept: VecDeque<Kept>,
    bytes: usize,
    maximum: usize,
    /// Whether some are forgotten.
    forgotten: bool,
}

/// Something that has happened, or several times the same.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) at: Instant,
    pub(super) last: Instant,
    pub(super) count: u32,
    pub(super) client_id: Box<str>,
    pub(super) session: Option<SessionId>,
    pub(super) happening: Happening,
    /// In words, since numbers of rules mean others when the rules have changed.
    pub(super) rule: Option<Box<str>>,
}

impl Incidents {
    /// With about so many bytes of memory, which are taken as they are needed.
    pub(super) fn new(maximum: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, maximum, forgotten: false }
    }

    fn note(
        &mut self,
        (session, client_id): (Option<SessionId>, &str),
        happening: Happening,
        now: Instant,
        authorizer: &dyn Authorizer,
    ) {
        if self.maximum == 0 {
            return;
        }
        // A client that does the same again and again does not push out what others did.
        if let Some(last) = self.kept.back_mut()
            && *last.client_id == *client_id
            && last.session == session
            && last.happening == happening
        {
            last.count = last.count.saturating_add(1);
            last.last = now;
            return;
        }
        let client_id = client_id.into();
        let rule = happening.rule().and_then(|rule| authorizer.rule(rule)).map(Into::into);
        let kept = Kept { at: now, last: now, count: 1, client_id, session, happening, rule };
        self.bytes += kept.size();
        self.kept.push_back(kept);
        while self.bytes > self.maximum
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.size();
            self.forgotten = true;
        }
    }

    /// From the newest to the oldest.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().rev()
    }

    /// When the oldest happened that is remembered; `None` where none has been forgotten.
    pub(super) fn reach(&self) -> Option<Instant> {
        self.kept.front().filter(|_| self.forgotten).map(|oldest| oldest.at)
    }
}

impl Kept {
    /// About how many bytes it takes.
    fn size(&self) -> usize {
        let text = match &self.happening {
            Happening::Refused { reason, .. } | Happening::Closed { reason, .. } => reason.len(),
            other => other.subject().map_or(0, str::len),
        };
        size_of::<Self>() + self.client_id.len() + text + self.rule.as_ref().map_or(0, |rule| rule.len())
    }
}

impl Shard {
    /// Notes what has happened to a client.
    #[cold]
    pub(super) fn note(&mut self, client_id: &str, happening: Happening) {
        let authorizer = &*self.shared.hooks.authorizer;
        self.incidents.note((None, client_id), happening, self.now, authorizer);
    }

    /// Notes what has happened to a client, and which session it has.
    #[cold]
    pub(super) fn note_of(&mut self, session: SessionId, client_id: &str, happening: Happening) {
        let authorizer = &*self.shared.hooks.authorizer;
        self.incidents.note((Some(session), &excerpt(client_id)), happening, self.now, authorizer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::AllowAll;

    fn incidents(maximum: usize, count: u64) -> Incidents {
        let mut incidents = Incidents::new(maximum);
        for number in 0..count {
            let happening = Happening::SubscriptionRevoked { filter: format!("f/{number}") };
            incidents.note((None, "c"), happening, Instant::from_millis(number), &AllowAll);
        }
        incidents
    }

    #[test]
    fn the_oldest_are_forgotten_and_that_is_said() {
        let few = incidents(100_000, 10);
        assert_eq!((few.newest().count(), few.reach()), (10, None));
        let many = incidents(10_000, 1000);
        let count = many.newest().count();
        assert!(many.bytes <= 10_000 && (20..200).contains(&count), "{count}");
        assert_eq!(many.reach(), Some(Instant::from_millis(1000 - count as u64)));
        assert_eq!(many.newest().next().map(|kept| kept.at), Some(Instant::from_millis(999)));
        let none = incidents(0, 10);
        assert_eq!((none.newest().count(), none.reach()), (0, None));
    }

    #[test]
    fn the_same_again_and_again_is_one() {
        let mut incidents = Incidents::new(10_000);
        for ms in 0..50 {
            incidents.note((None, "c"), Happening::SessionEnded, Instant::from_millis(ms), &AllowAll);
        }
        incidents.note((None, "d"), Happening::SessionEnded, Instant::from_millis(50), &AllowAll);
        let seen: Vec<_> =
            incidents.newest().map(|it| (it.count, it.at.as_millis(), it.last.as_millis())).collect();
        assert_eq!(seen, [(1, 50, 50), (50, 0, 49)]);
    }
}
