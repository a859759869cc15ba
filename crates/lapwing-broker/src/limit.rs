use lapwing_proto::packet::QoS;
use serde::{Deserialize, Serialize};

/// Everything that a peer can make grow has a limit here. Where 5.0 has a property for it, clients are told
/// in CONNACK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Connections at a time, on all listeners; 0 for as many as there are file descriptors. Further ones are closed as soon
    /// as they are accepted.
    pub connections_maximum: usize,
    /// Connections at a time from one address, or from one network of 64 bits with IPv6; 0 for any number. Further
    /// ones are closed as soon as they are accepted.
    pub connections_per_address_maximum: usize,
    /// Connections that a listener accepts in a second; 0 for any number. Further ones wait to be accepted.
    pub connect_rate_maximum: u32,
    /// Packets in a second that are read from one connection, after a first burst of as many; 0 for any number. A client that
    /// sends more is not read from for a while: nothing is lost, and TCP holds it back.
    pub packet_rate_maximum: u32,
    /// Bytes in a second that are read from one connection, in the same way; 0 for any number.
    pub byte_rate_maximum: u32,
    /// Bytes in a second that are written to one connection, after a first burst of as many; 0 for any number. What is more waits
    /// as for any client that does not keep up.
    pub client_byte_rate_maximum: u32,
    /// Times that a client identifier may connect within `flapping_window_s`; a client that comes more often is banned for
    /// `flapping_ban_s`. 0 for any number.
    pub flapping_connects_maximum: u32,
    /// Seconds within which these are counted.
    pub flapping_window_s: u32,
    /// Seconds that such a client is kept out.
    pub flapping_ban_s: u32,
    /// Seconds from accepting a connection to the whole CONNECT, and for each answer to a challenge of an
    /// extended authentication before CONNACK. 1 to 65,535.
    pub connect_timeout_s: u16,
    /// Largest CONNECT in bytes.
    pub connect_packet_size_maximum: u32,
    /// Largest packet that a client may send, in bytes (Maximum Packet Size).
    pub packet_size_maximum: u32,
    /// QoS 1 and 2 messages that a client may send at a time (Receive Maximum). 1 to 65,535.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that are in flight to a client at a time; in 5.0 its own Receive Maximum where
    /// that is lower. 1 to 65,535.
    pub client_receive_maximum: u16,
    /// Highest topic alias that a client may give (Topic Alias Maximum); 0 for none.
    pub topic_alias_maximum: u16,
    /// Highest topic alias given to a client, at most its own Topic Alias Maximum; 0 for none.
    pub client_topic_alias_maximum: u16,
    /// User properties in one packet; a client that sends more is disconnected.
    pub user_properties_maximum: u16,
    /// Levels of a topic name or filter.
    pub topic_levels_maximum: u16,
    /// Longest keep alive in seconds (Server Keep Alive); a client that asks for more, or for none, gets
    /// this. 0 for no limit.
    pub keep_alive_maximum_s: u16,
    /// Longest time that a session outlives its connection, in seconds; 4,294,967,295 for ever. Before 5.0
    /// a session without Clean Session has this one.
    pub session_expiry_maximum_s: u32,
    /// Sessions, connected or not.
    pub sessions_maximum: usize,
    /// Sessions of one user who has shown who it is, connected or not; 0 for any number. A client with a further one is refused.
    pub sessions_per_user_maximum: usize,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE: what holds up the other clients for a moment. A client that
    /// sends more is disconnected.
    pub packet_filters_maximum: usize,
    /// Subscriptions of a session.
    pub subscriptions_maximum: usize,
    /// About how many bytes the subscriptions of a session may take: 200 for each, three times its filter, and
    /// 60 for each level of a filter with wildcards.
    pub subscription_bytes_maximum: usize,
    /// Bytes waiting to be written to a connection. Above it QoS 0 messages to it are dropped, and QoS 1 and
    /// 2 messages wait in the session's queue; above twice as many nothing is read from it.
    pub outbox_bytes_maximum: usize,
    /// QoS 1 and 2 messages waiting in a session's queue. Above it `queue_overflow` holds.
    pub queue_messages_maximum: usize,
    /// Bytes of the messages waiting in a session's queue. Above it `queue_overflow` holds.
    pub queue_bytes_maximum: usize,
    /// What becomes of a QoS 1 or 2 message that finds a session's queue full: `drop-newest` drops it, `drop-oldest` the
    /// one at the front of the queue. With `refuse` nobody gets it: its publisher is told so with Reason Code 0x97 (Quota
    /// exceeded), or before 5.0 disconnected without an acknowledgement; what was accepted meanwhile may make the queue
    /// up to twice as long.
    pub queue_overflow: QueueOverflow,
    /// Bytes of memory for the messages that wait in the queues of stored sessions, in all. What does not fit is left on
    /// the disk, and read when its client takes it.
    pub queue_memory_bytes: usize,
    /// Bytes of the QoS 1 and 2 messages in flight to a client, beside the one that was added last. Above it
    /// further ones wait in the session's queue.
    pub in_flight_bytes_maximum: usize,
    /// Retained messages. Above it new topics are not retained.
    pub retained_messages_maximum: usize,
    /// Bytes of the retained messages. Above it new topics are not retained.
    pub retained_bytes_maximum: usize,
    /// Messages that wait to be published, see `$delayed/SECONDS/TOPIC`. Above it new ones are refused.
    pub delayed_messages_maximum: usize,
    /// Bytes of these messages. Above it new ones are refused.
    pub delayed_bytes_maximum: usize,
    /// Longest delay in seconds; 0 for no delayed messages.
    pub delay_maximum_s: u32,
    /// Highest quality of service of messages and subscriptions: 0, 1 or 2 (Maximum QoS).
    pub qos_maximum: u8,
    /// Whether messages can be retained (Retain Available).
    pub retain_available: bool,
    /// Whether filters may have wildcards (Wildcard Subscription Available).
    pub wildcard_subscription_available: bool,
    /// Whether subscriptions may have identifiers (Subscription Identifier Available).
    pub subscription_identifier_available: bool,
    /// Whether there are shared subscriptions (Shared Subscription Available).
    pub shared_subscription_available: bool,
    /// Seconds between two publications of the `$SYS` topics; 0 for none.
    pub sys_interval_s: u16,
}

/// What holds for the connections of one listener, where it is not as for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenerLimits {
    /// Connections of this listener at a time; 0 or none for any number, as far as `limits.connections_maximum` goes.
    pub connections_maximum: Option<usize>,
    /// Instead of `limits.connect_rate_maximum`.
    pub connect_rate_maximum: Option<u32>,
    /// Instead of `limits.packet_rate_maximum`.
    pub packet_rate_maximum: Option<u32>,
    /// Instead of `limits.byte_rate_maximum`.
    pub byte_rate_maximum: Option<u32>,
    /// Instead of `limits.client_byte_rate_maximum`.
    pub client_byte_rate_maximum: Option<u32>,
}

/// What becomes of a message that finds a session's queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum QueueOverflow {
    /// It is dropped.
    #[default]
    DropNewest,
    /// The first one of the queue is dropped for it.
    DropOldest,
    /// Its publisher is refused, and nobody gets it.
    Refuse,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_maximum: 0,
            connections_per_address_maximum: 0,
            connect_rate_maximum: 0,
            packet_rate_maximum: 0,
            byte_rate_maximum: 0,
            client_byte_rate_maximum: 0,
            flapping_connects_maximum: 0,
            flapping_window_s: 60,
            flapping_ban_s: 300,
            connect_timeout_s: 10,
            connect_packet_size_maximum: 128 * 1024,
            packet_size_maximum: 8 * 1024 * 1024,
            receive_maximum: 1024,
            client_receive_maximum: 1024,
            topic_alias_maximum: 32,
            client_topic_alias_maximum: 32,
            user_properties_maximum: 64,
            topic_levels_maximum: 128,
            keep_alive_maximum_s: 0,
            session_expiry_maximum_s: u32::MAX,
            sessions_maximum: 1_000_000,
            sessions_per_user_maximum: 0,
            packet_filters_maximum: 20_000,
            subscriptions_maximum: 100_000,
            subscription_bytes_maximum: 64 * 1024 * 1024,
            outbox_bytes_maximum: 16 * 1024 * 1024,
            queue_messages_maximum: 1_000_000,
            queue_bytes_maximum: 256 * 1024 * 1024,
            queue_overflow: QueueOverflow::DropNewest,
            queue_memory_bytes: 64 * 1024 * 1024,
            in_flight_bytes_maximum: 16 * 1024 * 1024,
            retained_messages_maximum: 1_000_000,
            retained_bytes_maximum: 512 * 1024 * 1024,
            delayed_messages_maximum: 100_000,
            delayed_bytes_maximum: 64 * 1024 * 1024,
            delay_maximum_s: 4_294_967,
            qos_maximum: 2,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_identifier_available: true,
            shared_subscription_available: true,
            sys_interval_s: 10,
        }
    }
}

impl Limits {
    /// Whether each value can be.
    ///
    /// # Errors
    /// A sentence that names the value which cannot, and what it must be.
    pub fn check(&self) -> Result<(), String> {
        // A message is kept in the encoding of 5.0 and with its topic name, for which an alias may have stood. So
        // it can be longer than what arrived.
        const LARGEST: u32 = lapwing_proto::packet::MAXIMUM_PACKET_SIZE - 128 * 1024;
        let not_zero = |name: &str, is_zero: bool| {
            if is_zero { Err(format!("limits.{name} must be at least 1")) } else { Ok(()) }
        };
        not_zero("connect_timeout_s", self.connect_timeout_s == 0)?;
        not_zero("receive_maximum", self.receive_maximum == 0)?;
        not_zero("client_receive_maximum", self.client_receive_maximum == 0)?;
        not_zero("topic_levels_maximum", self.topic_levels_maximum == 0)?;
        not_zero("connect_packet_size_maximum", self.connect_packet_size_maximum == 0)?;
        not_zero("packet_size_maximum", self.packet_size_maximum == 0)?;
        not_zero("packet_filters_maximum", self.packet_filters_maximum == 0)?;
        if self.packet_size_maximum > LARGEST {
            return Err(format!("limits.packet_size_maximum must be at most {LARGEST}"));
        }
        if self.qos_maximum > 2 {
            return Err("limits.qos_maximum must be 0, 1 or 2".to_owned());
        }
        Ok(())
    }

    /// Highest quality of service.
    pub(crate) fn qos(&self) -> QoS {
        QoS::from_bits(self.qos_maximum).unwrap_or(QoS::ExactlyOnce)
    }
}
