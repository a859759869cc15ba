use hashbrown::HashSet;

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
    unreleased: HashSet<u16>,
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
        let duplicate = qos == QoS::ExactlyOnce && self.unreleased.contains(&packet_id.get());
        if duplicate {
            return Ok(Receipt::Duplicate);
        }
        if self.open >= self.receive_maximum {
            return Err(SessionError::ReceiveMaximumExceeded(self.receive_maximum));
        }
        self.open += 1;
        if qos == QoS::ExactlyOnce {
            self.unreleased.insert(packet_id.get());
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
        let known = self.unreleased.remove(&packet_id.get());
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
