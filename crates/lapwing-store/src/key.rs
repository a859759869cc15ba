//! The keys of entries. Numbers are big-endian, so that keys are in the order of what they name.

use std::ops::Bound;

use crate::engine::{KEY_LIMIT, KeyRange};
use crate::record::{FlowKey, Sequence, SessionNumber};

/// In `Meta`: the next numbers to give.
pub(crate) const COUNTERS: &[u8] = b"counters";
/// In `Meta`: before the number of a session that is over, and whose messages are still being removed.
const ENDED: &[u8] = b"ended/";

/// In `Meta`: before the number of a session that is over, and whose messages still go to others.
const CLOSED: &[u8] = b"closed/";

/// Bytes of the longest filter that a stored subscription can have.
pub const FILTER_MAXIMUM: usize = KEY_LIMIT - 8;

pub(crate) fn session(session: SessionNumber) -> [u8; 8] {
    session.0.to_be_bytes()
}

pub(crate) fn sequence(sequence: Sequence) -> [u8; 8] {
    sequence.0.to_be_bytes()
}

pub(crate) fn delayed(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(crate) fn queue(session: SessionNumber, sequence: Sequence) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session.0.to_be_bytes());
    key[8..].copy_from_slice(&sequence.0.to_be_bytes());
    key
}

pub(crate) fn subscription(session: SessionNumber, filter: &str) -> Vec<u8> {
    [&session.0.to_be_bytes(), filter.as_bytes()].concat()
}

pub(crate) fn flow(session: SessionNumber, flow: FlowKey) -> [u8; 11] {
    let (direction, packet_id) = match flow {
        FlowKey::Inbound(packet_id) => (0, packet_id),
        FlowKey::Outbound(packet_id) => (1, packet_id),
    };
    let mut key = [0; 11];
    key[..8].copy_from_slice(&session.0.to_be_bytes());
    key[8] = direction;
    key[9..].copy_from_slice(&packet_id.to_be_bytes());
    key
}

pub(crate) fn ended(session: SessionNumber) -> Vec<u8> {
    [ENDED, &session.0.to_be_bytes()].concat()
}

pub(crate) fn closed(session: SessionNumber) -> Vec<u8> {
    [CLOSED, &session.0.to_be_bytes()].concat()
}

/// The sessions that are closed, in `Meta`.
pub(crate) fn all_closed() -> KeyRange<'static> {
    (Bound::Included(CLOSED), Bound::Excluded(b"closed0"))
}

pub(crate) fn parse_closed(key: &[u8]) -> Option<SessionNumber> {
    parse_session(key.strip_prefix(CLOSED)?)
}

/// The sessions that are over, in `Meta`.
pub(crate) fn all_ended() -> KeyRange<'static> {
    (Bound::Included(ENDED), Bound::Excluded(b"ended0"))
}

pub(crate) fn parse_ended(key: &[u8]) -> Option<SessionNumber> {
    parse_session(key.strip_prefix(ENDED)?)
}

/// The session that a key begins with.
pub(crate) fn parse_session(key: &[u8]) -> Option<SessionNumber> {
    key.first_chunk().map(|bytes| SessionNumber(u64::from_be_bytes(*bytes)))
}

/// The session and the place that a key of a queue is made of.
pub(crate) fn parse_queue(key: &[u8]) -> Option<(SessionNumber, Sequence)> {
    let sequence = <[u8; 8]>::try_from(key.get(8..)?).ok()?;
    Some((parse_session(key)?, Sequence(u64::from_be_bytes(sequence))))
}

pub(crate) fn parse_sequence(key: &[u8]) -> Option<Sequence> {
    <[u8; 8]>::try_from(key).ok().map(|bytes| Sequence(u64::from_be_bytes(bytes)))
}

pub(crate) fn parse_delayed(key: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes)
}

pub(crate) fn parse_subscription(key: &[u8]) -> Option<(SessionNumber, &str)> {
    Some((parse_session(key)?, std::str::from_utf8(key.get(8..)?).ok()?))
}

pub(crate) fn parse_flow(key: &[u8]) -> Option<(SessionNumber, FlowKey)> {
    let &[direction, high, low] = key.get(8..)? else { return None };
    let packet_id = u16::from_be_bytes([high, low]);
    let flow = match direction {
        0 => FlowKey::Inbound(packet_id),
        1 => FlowKey::Outbound(packet_id),
        _ => return None,
    };
    Some((parse_session(key)?, flow))
}

/// The keys of one session, which are all longer than its number alone.
pub(crate) struct OfSession {
    first: [u8; 8],
    /// The number behind it. No session has the last number there is.
    end: [u8; 8],
}

impl OfSession {
    pub(crate) fn new(session: SessionNumber) -> Self {
        Self { first: session.0.to_be_bytes(), end: (session.0 + 1).to_be_bytes() }
    }

    pub(crate) fn range(&self) -> KeyRange<'_> {
        (Bound::Included(&self.first), Bound::Excluded(&self.end))
    }

    /// Those behind `key`.
    pub(crate) fn behind<'a>(&'a self, key: &'a [u8]) -> KeyRange<'a> {
        (Bound::Excluded(key), Bound::Excluded(&self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let (session, place) = (SessionNumber(7 << 40), Sequence(9 << 33));
        assert_eq!(parse_queue(&queue(session, place)), Some((session, place)));
        assert_eq!(parse_subscription(&subscription(session, "a/+")), Some((session, "a/+")));
        assert_eq!(parse_ended(&ended(session)), Some(session));
        assert_eq!(parse_sequence(&sequence(place)), Some(place));
        for key in [FlowKey::Inbound(65_535), FlowKey::Outbound(1)] {
            assert_eq!(parse_flow(&flow(session, key)), Some((session, key)));
        }
        for short in [&[][..], &[1; 7], &[1; 9]] {
            assert_eq!(parse_queue(short), None);
            assert_eq!(parse_flow(short), None);
        }
    }

    #[test]
    fn the_keys_of_a_session_are_in_its_range_and_no_others() {
        let range = OfSession::new(SessionNumber(5));
        let contains = |key: &[u8]| std::ops::RangeBounds::<[u8]>::contains(&range.range(), key);
        assert!(contains(&queue(SessionNumber(5), Sequence(0))));
        assert!(contains(&queue(SessionNumber(5), Sequence(u64::MAX))));
        assert!(!contains(&queue(SessionNumber(4), Sequence(u64::MAX))));
        assert!(!contains(&queue(SessionNumber(6), Sequence(0))));
    }
}
