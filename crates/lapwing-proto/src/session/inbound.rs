use super::SessionError;
use crate::packet::{PacketId, QoS};

/// The QoS 1 and 2 messages that this end receives.
///
/// Which QoS 2 packet identifiers have been received and not yet released is part of the session and
/// outlives the connection, so that a message which is sent again is not taken for a new one. How many
/// messages are open is counted from zero on each connection.
///
/// A peer that reconnects without releasing anything can make this remember the 65,535 identifiers that there
/// are, and no more.
#[derive(Debug, Clone, Default)]
pub struct Inbound {
    unreleased: PacketIds,
    open: u16,
    receive_maximum: u16,
}

/// What a received PUBLISH is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// To be passed on.
    New,
    /// A QoS 2 message that has been passed on before: only to be acknowledged again `[MQTT-4.3.3-10]`.
    Duplicate,
}

impl Inbound {
    /// The QoS 2 identifiers that were received and not released when a session was stored.
    pub fn restore(packet_ids: impl IntoIterator<Item = PacketId>) -> Self {
        let mut inbound = Self { receive_maximum: u16::MAX, ..Self::default() };
        for packet_id in packet_ids {
            // One that comes twice is there once, and there are not more than the maximum.
            let _ = inbound.receive(QoS::ExactlyOnce, packet_id);
        }
        inbound
    }

    /// Begins a connection on which the peer may have `receive_maximum` messages open at a time.
    pub fn begin(&mut self, receive_maximum: u16) {
        self.open = 0;
        self.receive_maximum = receive_maximum;
    }

    /// A PUBLISH at QoS 1 or 2 has arrived.
    ///
    /// Each one is open until [`acknowledged`](Self::acknowledged), [`refused`](Self::refused) or
    /// [`completed`](Self::completed) is called for it.
    pub fn receive(&mut self, qos: QoS, packet_id: PacketId) -> Result<Receipt, SessionError> {
        let duplicate = qos == QoS::ExactlyOnce && self.unreleased.contains(packet_id);
        if duplicate {
            return Ok(Receipt::Duplicate);
        }
        if self.open >= self.receive_maximum {
            return Err(SessionError::ReceiveMaximumExceeded(self.receive_maximum));
        }
        self.open += 1;
        if qos == QoS::ExactlyOnce {
            self.unreleased.insert(packet_id);
        }
        Ok(Receipt::New)
    }

    /// A PUBACK has been sent.
    pub fn acknowledged(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// A PUBREC with an error has been sent: the identifier is free `[MQTT-4.3.3-9]`.
    pub fn refused(&mut self, packet_id: PacketId) {
        self.completed(packet_id);
    }

    /// A PUBREL has arrived. Whether the identifier was in use; either way a PUBCOMP answers it.
    pub fn completed(&mut self, packet_id: PacketId) -> bool {
        let known = self.unreleased.remove(packet_id);
        if known {
            // One that was carried over from an earlier connection was not counted on this one; that
            // the count is then too low by one does no harm.
            self.open = self.open.saturating_sub(1);
        }
        known
    }

    /// How many QoS 2 identifiers are in use.
    pub fn unreleased(&self) -> usize {
        self.unreleased.len()
    }
}

/// A set of packet identifiers, whichever the peer chose. A list is lean as long as it is short, and searched
/// in a few steps; a bit for each identifier there is takes 8 KiB, however many are in use.
#[derive(Debug, Clone)]
enum PacketIds {
    List(Vec<u16>),
    Bits { words: Box<[u64; WORDS]>, len: usize },
}

const WORDS: usize = 1024;
/// The longest list: as many as take a sixteenth of the bits' memory.
const LIST_MAXIMUM: usize = 256;
/// An empty list keeps no more places than this.
const LIST_KEPT: usize = 32;

impl PacketIds {
    fn contains(&self, id: PacketId) -> bool {
        match self {
            Self::List(list) => list.contains(&id.get()),
            Self::Bits { words, .. } => words[word(id)] & bit(id) != 0,
        }
    }

    /// `id` is not in the set.
    fn insert(&mut self, id: PacketId) {
        match self {
            Self::List(list) if list.len() < LIST_MAXIMUM => list.push(id.get()),
            Self::List(list) => {
                let mut words = Box::new([0; WORDS]);
                for id in list.iter().copied().filter_map(PacketId::new).chain([id]) {
                    words[word(id)] |= bit(id);
                }
                *self = Self::Bits { words, len: list.len() + 1 };
            }
            Self::Bits { words, len } => {
                words[word(id)] |= bit(id);
                *len += 1;
            }
        }
    }

    /// Whether `id` was in the set.
    fn remove(&mut self, id: PacketId) -> bool {
        match self {
            Self::List(list) => {
                let Some(at) = list.iter().position(|&own| own == id.get()) else { return false };
                list.swap_remove(at);
                if list.is_empty() && list.capacity() > LIST_KEPT {
                    *list = Vec::new();
                }
            }
            Self::Bits { words, len } => {
                if words[word(id)] & bit(id) == 0 {
                    return false;
                }
                words[word(id)] &= !bit(id);
                *len -= 1;
                if *len == 0 {
                    *self = Self::default();
                }
            }
        }
        true
    }

    fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Bits { len, .. } => *len,
        }
    }
}

impl Default for PacketIds {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

fn word(id: PacketId) -> usize {
    usize::from(id.get()) / 64
}

fn bit(id: PacketId) -> u64 {
    1 << (id.get() % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn identifiers_are_a_set(steps in proptest::collection::vec((any::<bool>(), 1..400_u16), 0..2000)) {
            let (mut ids, mut model) = (PacketIds::default(), BTreeSet::new());
            for (is_more, number) in steps {
                // More come than go at first, so that both forms are reached, and at the end all go.
                let id = PacketId::new(number).unwrap_or(PacketId::FIRST);
                prop_assert_eq!(ids.contains(id), model.contains(&number));
                if is_more || model.len() % 3 > 0 {
                    if model.insert(number) {
                        ids.insert(id);
                    }
                } else {
                    prop_assert_eq!(ids.remove(id), model.remove(&number));
                }
                prop_assert_eq!(ids.len(), model.len());
            }
            for number in (1..=u16::MAX).rev() {
                let id = PacketId::new(number).unwrap_or(PacketId::FIRST);
                prop_assert_eq!(ids.remove(id), model.remove(&number));
            }
            prop_assert_eq!(ids.len(), 0);
        }
    }

    // [attack: qos-2-identifiers]
    #[test]
    fn all_identifiers_fit_and_an_empty_set_keeps_next_to_nothing() {
        let mut ids = PacketIds::default();
        let all = || (1..=u16::MAX).filter_map(PacketId::new);
        for id in all() {
            assert!(!ids.contains(id));
            ids.insert(id);
            assert!(ids.contains(id));
        }
        assert_eq!(ids.len(), 65_535);
        assert!(all().all(|id| ids.remove(id)));
        assert!(matches!(&ids, PacketIds::List(list) if list.capacity() == 0));
        assert!(all().all(|id| !ids.contains(id) && !ids.remove(id)));
        all().take(LIST_MAXIMUM).for_each(|id| ids.insert(id));
        assert!(matches!(ids, PacketIds::List(_)));
        assert!(all().take(LIST_MAXIMUM).all(|id| ids.remove(id)));
        assert!(matches!(&ids, PacketIds::List(list) if list.capacity() == 0));
    }
}
