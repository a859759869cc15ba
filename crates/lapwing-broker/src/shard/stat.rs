//! What a shard counts.

use std::ops::AddAssign;

use lapwing_proto::packet::{QoS, ReasonCode};

const CODES: usize = ReasonCode::ALL.len();

/// What has happened since the broker started, and how much there is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Bytes read from connections.
    pub bytes_received: u64,
    /// Bytes written to connections.
    pub bytes_sent: u64,
    /// Packets of all types from clients.
    pub packets_received: u64,
    /// Packets of all types to clients.
    pub packets_sent: u64,
    /// Messages from clients.
    pub messages_received: PerQoS,
    /// QoS 2 messages from clients that had been received before, and were only acknowledged again.
    pub duplicates_received: u64,
    /// Messages put into the outboxes of connections: one for each receiver.
    pub messages_sent: PerQoS,
    /// QoS 1 and 2 messages that were sent again when a session was resumed; not among `messages_sent`.
    pub messages_resent: u64,
    /// Messages that did not reach a client, or nobody at all.
    pub messages_dropped: Dropped,
    /// Network connections that were accepted.
    pub connections_accepted: u64,
    /// Network connections that were closed before anything was read from them, by a ban or since there were too many.
    pub connections_turned_away: u64,
    /// Times that a connection was not read from for a while, since its client had sent more than
    /// `limits.packet_rate_maximum` or `byte_rate_maximum` in a second.
    pub pauses: u64,
    /// Clients whose CONNECT was answered with success.
    pub clients_connected: u64,
    /// Those of them that went on with an earlier session.
    pub sessions_resumed: u64,
    /// Clients whose CONNECT was refused, by the Reason Code of the answer.
    pub clients_refused: PerReasonCode,
    /// Connections that ended with a DISCONNECT from the client.
    pub disconnected_by_client: u64,
    /// Connections that ended without a word.
    pub connections_lost: u64,
    /// Connections that the broker ended, by the Reason Code that it gave or, before 5.0, would have given. A
    /// refused CONNECT is not among them.
    pub disconnected_by_broker: PerReasonCode,
    /// Sessions that ended because their expiry interval had passed.
    pub sessions_expired: u64,
    /// Sessions that have ended.
    pub sessions_ended: u64,
    /// Connections at the moment, with those that have not sent a CONNECT yet.
    pub connections: u64,
    /// Connected clients at the moment.
    pub clients: u64,
    /// Sessions at the moment, connected or not.
    pub sessions: u64,
    /// Times that a connection was not read from for a while, since another shard had more messages than it could
    /// handle.
    pub held_back: u64,
    /// Retained messages at the moment.
    pub retained_messages: u64,
    /// Bytes that retained messages take at the moment.
    pub retained_bytes: u64,
}

/// What a shard leaves for others to see.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) stat: Stat,
    /// Thousandths of the last moments that the shard's thread was at work.
    pub(crate) busy: u32,
    /// Messages in the queues of sessions and in flight, as of the last interval of the `$SYS` topics.
    pub(crate) queued_messages: u64,
    pub(crate) queued_bytes: u64,
}

impl AddAssign for Stat {
    fn add_assign(&mut self, other: Self) {
        let Self {
            bytes_received,
            bytes_sent,
            packets_received,
            packets_sent,
            messages_received,
            duplicates_received,
            messages_sent,
            messages_resent,
            messages_dropped,
            connections_accepted,
            connections_turned_away,
            pauses,
            clients_connected,
            sessions_resumed,
            clients_refused,
            disconnected_by_client,
            connections_lost,
            disconnected_by_broker,
            sessions_expired,
            sessions_ended,
            connections,
            clients,
            sessions,
            held_back,
            retained_messages,
            retained_bytes,
        } = other;
        self.bytes_received += bytes_received;
        self.bytes_sent += bytes_sent;
        self.packets_received += packets_received;
        self.packets_sent += packets_sent;
        self.messages_received += messages_received;
        self.duplicates_received += duplicates_received;
        self.messages_sent += messages_sent;
        self.messages_resent += messages_resent;
        self.messages_dropped += messages_dropped;
        self.connections_accepted += connections_accepted;
        self.connections_turned_away += connections_turned_away;
        self.pauses += pauses;
        self.clients_connected += clients_connected;
        self.sessions_resumed += sessions_resumed;
        self.clients_refused += clients_refused;
        self.disconnected_by_client += disconnected_by_client;
        self.connections_lost += connections_lost;
        self.disconnected_by_broker += disconnected_by_broker;
        self.sessions_expired += sessions_expired;
        self.sessions_ended += sessions_ended;
        self.connections += connections;
        self.clients += clients;
        self.sessions += sessions;
        self.held_back += held_back;
        self.retained_messages += retained_messages;
        self.retained_bytes += retained_bytes;
    }
}

/// Messages that were dropped, by the reason. Where a message has several receivers, each counts, except under
/// `disk_full`, `queue_refused`, `not_authorized`, `not_retained` and `no_subscriber`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// At QoS 0: too many bytes were waiting to be written to the connection.
    pub outbox_full: u64,
    /// At QoS 0: the session had no connection.
    pub not_connected: u64,
    /// At QoS 1 and 2: too many messages were waiting in the session's queue.
    pub queue_full: u64,
    /// At QoS 1 and 2: the queue of a session that would have got it was full, and its publisher was refused.
    pub queue_refused: u64,
    /// It had to be stored, and there was too little room on the disk: it was refused.
    pub disk_full: u64,
    /// Its expiry interval had passed while it was waiting in a queue.
    pub expired: u64,
    /// Larger than the client takes.
    pub too_large: u64,
    /// At QoS 1 and 2: the session ended before the client had it.
    pub session_ended: u64,
    /// Its publisher, or who it was the will of, was not allowed to publish it.
    pub not_authorized: u64,
    /// The program around the broker did not let it pass.
    pub filtered: u64,
    /// The client that they waited for may not be given them any more.
    pub not_permitted: u64,
    /// It was to be retained, but there was no room for it.
    pub not_retained: u64,
    /// Nobody had subscribed to it.
    pub no_subscriber: u64,
}

impl Dropped {
    /// The sum of all.
    pub fn total(&self) -> u64 {
        let Self {
            outbox_full,
            not_connected,
            queue_full,
            queue_refused,
            disk_full,
            expired,
            too_large,
            session_ended,
            not_authorized,
            filtered,
            not_permitted,
            not_retained,
            no_subscriber,
        } = self;
        outbox_full
            + not_connected
            + queue_full
            + queue_refused
            + disk_full
            + expired
            + too_large
            + session_ended
            + not_authorized
            + filtered
            + not_permitted
            + not_retained
            + no_subscriber
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        let Self {
            outbox_full,
            not_connected,
            queue_full,
            queue_refused,
            disk_full,
            expired,
            too_large,
            session_ended,
            not_authorized,
            filtered,
            not_permitted,
            not_retained,
            no_subscriber,
        } = other;
        self.outbox_full += outbox_full;
        self.not_connected += not_connected;
        self.queue_full += queue_full;
        self.queue_refused += queue_refused;
        self.disk_full += disk_full;
        self.expired += expired;
        self.too_large += too_large;
        self.session_ended += session_ended;
        self.not_authorized += not_authorized;
        self.filtered += filtered;
        self.not_permitted += not_permitted;
        self.not_retained += not_retained;
        self.no_subscriber += no_subscriber;
    }
}

/// A count for each QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerQoS([u64; 3]);

impl PerQoS {
    /// The count for `qos`.
    pub fn get(&self, qos: QoS) -> u64 {
        self.0[usize::from(qos.bits())]
    }

    /// The sum of all three.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn count(&mut self, qos: QoS) {
        self.count_many(qos, 1);
    }

    pub(super) fn count_many(&mut self, qos: QoS, count: u32) {
        self.0[usize::from(qos.bits())] += u64::from(count);
    }
}

impl AddAssign for PerQoS {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

/// A count for each Reason Code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerReasonCode([u64; CODES]);

impl Default for PerReasonCode {
    fn default() -> Self {
        Self([0; CODES])
    }
}

impl PerReasonCode {
    /// The count for `reason_code`.
    pub fn get(&self, reason_code: ReasonCode) -> u64 {
        self.iter().find(|&(code, _)| code == reason_code).map_or(0, |(_, count)| count)
    }

    /// The sum of all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every Reason Code with its count.
    pub fn iter(&self) -> impl Iterator<Item = (ReasonCode, u64)> + '_ {
        ReasonCode::ALL.iter().copied().zip(self.0.iter().copied())
    }

    pub(super) fn count(&mut self, reason_code: ReasonCode) {
        if let Ok(at) = ReasonCode::ALL.binary_search(&reason_code) {
            self.0[at] += 1;
        }
    }
}

impl AddAssign for PerReasonCode {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_apart() {
        let (mut by_qos, mut by_code) = (PerQoS::default(), PerReasonCode::default());
        by_qos.count(QoS::ExactlyOnce);
        by_qos.count(QoS::AtMostOnce);
        by_qos.count(QoS::ExactlyOnce);
        let counts = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| by_qos.get(qos));
        assert_eq!((counts, by_qos.total()), ([1, 0, 2], 3));
        for &code in ReasonCode::ALL {
            by_code.count(code);
            by_code.count(code);
        }
        assert!(by_code.iter().all(|(_, count)| count == 2));
        assert_eq!(by_code.total(), 2 * CODES as u64);
        assert_eq!(by_code.get(ReasonCode::NotAuthorized), 2);
    }
}
