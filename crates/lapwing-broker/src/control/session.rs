//! Sessions: which there are, what they take, and the end of one.

use std::ops::AddAssign;

use super::{Control, ControlError, Inquiry, SessionCursor, SessionDetail, SessionInfo};
use crate::shard::{SessionId, SessionKey};
use crate::shared::ShardId;

/// Sessions that a shard shows at a time, so that no turn is much longer for it.
const SESSIONS_AT_A_TIME: usize = 128;
/// How often shards are asked for one page: one on which few of many sessions belong may be shorter for it.
const INQUIRIES_PER_PAGE: usize = 64;

/// What a session takes of memory and disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Messages that wait for the client, in memory. One that waits for several sessions counts for each.
    pub queued_bytes: usize,
    /// Messages that wait for it on the disk only.
    pub spilled_bytes: usize,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight_bytes: usize,
    /// About what its subscriptions take, with their places among all others.
    pub subscription_bytes: usize,
    /// What waits to be written to its connection.
    pub outbox_bytes: usize,
}

impl Weight {
    /// All of it.
    pub fn total(&self) -> usize {
        let Self { queued_bytes, spilled_bytes, in_flight_bytes, subscription_bytes, outbox_bytes } = self;
        queued_bytes + spilled_bytes + in_flight_bytes + subscription_bytes + outbox_bytes
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        let Self { queued_bytes, spilled_bytes, in_flight_bytes, subscription_bytes, outbox_bytes } = other;
        self.queued_bytes += queued_bytes;
        self.spilled_bytes += spilled_bytes;
        self.in_flight_bytes += in_flight_bytes;
        self.subscription_bytes += subscription_bytes;
        self.outbox_bytes += outbox_bytes;
    }
}

/// Which sessions are to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// All of them.
    All,
    /// Those that have a connection, or those that have none.
    Connected(bool),
    /// Those that weigh more than so many bytes.
    Heavier(usize),
}

/// Sessions that were looked at in one turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sessions {
    /// Those that were wanted.
    pub(crate) shown: Vec<SessionInfo>,
    /// What all of them weigh.
    pub(crate) weight: Weight,
    /// The place of the next one.
    pub(crate) next: Option<usize>,
}

impl Control {
    /// Up to `maximum` sessions, in no order that means anything, and where to go on if there may be more. A session
    /// that is there all the while is shown once. With `connected`, only those that have a connection, or that have none:
    /// a page of these may be shorter than there are sessions behind it.
    pub fn sessions(
        &self,
        from: Option<SessionCursor>,
        maximum: usize,
        connected: Option<bool>,
    ) -> Result<(Vec<SessionInfo>, Option<SessionCursor>), ControlError> {
        let mut cursor = from.unwrap_or(SessionCursor { shard: 0, place: 0 });
        let mut found = Vec::new();
        let pick = connected.map_or(Pick::All, Pick::Connected);
        for _ in 0..INQUIRIES_PER_PAGE {
            if found.len() == maximum {
                break;
            }
            let Some((sessions, next)) = self.look(cursor, pick, maximum - found.len())? else {
                return Ok((found, None));
            };
            found.extend(sessions.shown);
            cursor = next;
        }
        Ok((found, Some(cursor)))
    }

    /// What all sessions weigh together, and up to `maximum` of those that weigh the most, the heaviest first. It looks at
    /// every session, a few thousand in each turn of a shard.
    pub fn heaviest(&self, maximum: usize) -> Result<(Weight, Vec<SessionInfo>), ControlError> {
        let mut all = Weight::default();
        let mut heaviest: Vec<SessionInfo> = Vec::new();
        let mut cursor = SessionCursor { shard: 0, place: 0 };
        let above = |heaviest: &Vec<SessionInfo>| match heaviest.last() {
            Some(lightest) if heaviest.len() >= maximum => lightest.weight.total(),
            _ => 0,
        };
        while let Some((sessions, next)) =
            self.look(cursor, Pick::Heavier(above(&heaviest)), SESSIONS_AT_A_TIME)?
        {
            all += sessions.weight;
            heaviest.extend(sessions.shown);
            heaviest.sort_by_key(|session| std::cmp::Reverse(session.weight.total()));
            heaviest.truncate(maximum);
            cursor = next;
        }
        Ok((all, heaviest))
    }

    /// Some sessions from a place on, and the place behind them; `None` behind the last shard.
    fn look(
        &self,
        cursor: SessionCursor,
        pick: Pick,
        maximum: usize,
    ) -> Result<Option<(Sessions, SessionCursor)>, ControlError> {
        let Some(shard) = self.shared.shards().nth(cursor.shard.into()) else { return Ok(None) };
        let (from, maximum) = (cursor.place as usize, maximum.min(SESSIONS_AT_A_TIME));
        let sessions = self.ask(shard, |reply| Inquiry::Sessions { from, pick, maximum, reply })?;
        let next = match sessions.next {
            Some(next) => SessionCursor { place: next as u32, ..cursor },
            None => SessionCursor { shard: cursor.shard.saturating_add(1), place: 0 },
        };
        Ok(Some((sessions, next)))
    }

    /// The session of a client identifier, or else the one with this key of an authenticator, with up to `maximum` of
    /// its subscriptions, behind the first `skip`. Their order stays as long as it has the same ones.
    pub fn session(&self, name: &str, skip: usize, maximum: usize) -> Result<SessionDetail, ControlError> {
        let (shard, key) = self.find(name)?;
        let detail = self.ask(shard, |reply| Inquiry::Session { key, skip, maximum, reply })?;
        detail.ok_or(ControlError::NoSession)
    }

    /// Ends a session, which is found as by [`session`](Self::session), with its subscriptions and all that waits for it. If its
    /// client is connected, the connection ends as by [`disconnect`](Self::disconnect). Returns when that is durable.
    ///
    /// # Errors
    /// [`ControlError::NoSession`], [`Busy`](ControlError::Busy) or [`Stopped`](ControlError::Stopped), and
    /// [`NotStored`](ControlError::NotStored) if the store has failed.
    pub fn end_session(&self, name: &str) -> Result<(), ControlError> {
        let (shard, key) = self.find(name)?;
        let result = self.ask(shard, |reply| Inquiry::EndSession { key, reply });
        match result {
            // A store that has failed never says that something is durable.
            Err(ControlError::Busy) if self.store_condition() == Some(lapwing_store::Condition::Failed) => {
                Err(ControlError::NotStored)
            }
            result => result?,
        }
    }

    /// The shard that has the session of a client, and the key of it.
    pub(super) fn find(&self, name: &str) -> Result<(ShardId, SessionKey), ControlError> {
        let keys = [SessionKey::ClientId(name.into()), SessionKey::Identity(name.into())];
        let found = keys.into_iter().find_map(|key| Some((self.shared.registry.session(&key)?, key)));
        found.map(|(id, key)| (SessionId::shard(id), key)).ok_or(ControlError::NoSession)
    }
}
