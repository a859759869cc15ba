//! Acknowledgements of received messages, in the order in which the messages arrived.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::AcknowledgeError;
use super::event::MessageReceipt;
use crate::packet::{PacketId, QoS, ReasonCode};

/// More answers than this cannot be due on one connection to a server that keeps to the protocol: 65,535
/// messages that are new on it, and as many that are carried over.
const MAXIMUM_ANSWERS: usize = 2 * 65_535;

/// Which received messages are still to be acknowledged.
///
/// PUBACKs and PUBRECs go out in the order of the PUBLISHes `[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`, whatever the
/// order in which the application decides: a decision waits for those on earlier messages.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    /// The number of the first answer; the others follow. Numbers are never used twice.
    first: u64,
    /// Due on this connection.
    due: VecDeque<Answer>,
    /// QoS 2 messages on which the application has not decided, by packet identifier. They outlive the
    /// connection: a server sends them again, and the application has them already.
    undecided: HashMap<u16, Undecided>,
}

/// A PUBACK or PUBREC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) packet_id: PacketId,
    pub(super) qos: QoS,
    reason_code: Option<ReasonCode>,
}

#[derive(Debug, Clone, Copy)]
struct Undecided {
    /// The number in the receipt that the application has.
    receipt: u64,
    /// The number of the answer on this connection, if the message has arrived on it.
    answer: Option<u64>,
}

/// What comes of an application's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The answer goes out, now or after earlier ones.
    Due,
    /// The server has not sent the message on this connection: the answer goes out when it does.
    Later,
}

impl Answers {
    /// The connection has ended.
    pub(super) fn end_connection(&mut self) {
        self.first += self.due.len() as u64;
        self.due = VecDeque::new();
        for undecided in self.undecided.values_mut() {
            undecided.answer = None;
        }
    }

    /// The session has ended.
    pub(super) fn end_session(&mut self) {
        self.end_connection();
        self.undecided.clear();
    }

    /// Whether as many answers are due as there can be.
    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= MAXIMUM_ANSWERS
    }

    /// Whether a QoS 2 message waits for the application's decision.
    pub(super) fn is_undecided(&self, packet_id: PacketId) -> bool {
        self.undecided.contains_key(&packet_id.get())
    }

    /// A new message at QoS 1 or 2.
    pub(super) fn receive(&mut self, qos: QoS, packet_id: PacketId) -> MessageReceipt {
        let number = self.push(qos, packet_id, None);
        if qos == QoS::ExactlyOnce {
            let undecided = Undecided { receipt: number, answer: Some(number) };
            self.undecided.insert(packet_id.get(), undecided);
        }
        MessageReceipt { number, packet_id, qos }
    }

    /// A QoS 2 message that had arrived before.
    pub(super) fn receive_again(&mut self, packet_id: PacketId) {
        match self.undecided.get(&packet_id.get()).map(|undecided| undecided.answer) {
            Some(Some(_)) => {}
            Some(None) => {
                let number = self.push(QoS::ExactlyOnce, packet_id, None);
                if let Some(undecided) = self.undecided.get_mut(&packet_id.get()) {
                    undecided.answer = Some(number);
                }
            }
            None => {
                self.push(QoS::ExactlyOnce, packet_id, Some(ReasonCode::Success));
            }
        }
    }

    /// The application has decided.
    pub(super) fn decide(
        &mut self,
        receipt: MessageReceipt,
        reason_code: ReasonCode,
    ) -> Result<Decision, AcknowledgeError> {
        let number = match receipt.qos {
            QoS::ExactlyOnce => {
                let undecided = self.undecided.get(&receipt.packet_id.get()).copied();
                let undecided = undecided
                    .filter(|undecided| undecided.receipt == receipt.number)
                    .ok_or(AcknowledgeError::Stale)?;
                self.undecided.remove(&receipt.packet_id.get());
                match undecided.answer {
                    Some(number) => number,
                    None => return Ok(Decision::Later),
                }
            }
            _ => receipt.number,
        };
        let index = number.checked_sub(self.first).ok_or(AcknowledgeError::Stale)?;
        match self.due.get_mut(index as usize) {
            Some(answer) if answer.reason_code.is_none() => answer.reason_code = Some(reason_code),
            _ => return Err(AcknowledgeError::Stale),
        }
        Ok(Decision::Due)
    }

    /// The next answer that can go out.
    pub(super) fn next(&mut self) -> Option<(Answer, ReasonCode)> {
        let answer = *self.due.front()?;
        let reason_code = answer.reason_code?;
        self.due.pop_front();
        self.first += 1;
        Some((answer, reason_code))
    }

    fn push(&mut self, qos: QoS, packet_id: PacketId, reason_code: Option<ReasonCode>) -> u64 {
        self.due.push_back(Answer { packet_id, qos, reason_code });
        self.first + self.due.len() as u64 - 1
    }
}
