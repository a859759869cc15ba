use super::{InboundAliases, KeepAlive, OutboundAliases};
use crate::packet::{MAXIMUM_PACKET_SIZE, ProtocolVersion};

/// What holds for one network connection, from CONNECT and CONNACK to its end.
#[derive(Debug, Clone)]
pub struct Link {
    /// The version of the protocol.
    pub version: ProtocolVersion,
    /// The longest pause that the client may make.
    pub keep_alive: KeepAlive,
    /// What this end takes.
    pub own: LinkLimits,
    /// What the peer takes.
    pub peer: LinkLimits,
    /// Whether failures may be explained to the peer, in reason strings and user properties
    /// `[MQTT-3.1.2-29]`.
    pub problem_information: bool,
    /// Aliases that the peer has given.
    pub inbound_aliases: InboundAliases,
    /// Aliases that this end has given.
    pub outbound_aliases: OutboundAliases,
}

/// What one end of a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// QoS 1 and 2 messages at a time.
    pub receive_maximum: u16,
    /// Bytes of a packet.
    pub maximum_packet_size: u32,
    /// The highest topic alias; 0 for none.
    pub topic_alias_maximum: u16,
}

impl Default for LinkLimits {
    /// What the specification says where nothing is said.
    fn default() -> Self {
        Self { receive_maximum: u16::MAX, maximum_packet_size: MAXIMUM_PACKET_SIZE, topic_alias_maximum: 0 }
    }
}

impl Link {
    /// A connection with these limits. Before 5.0 there are no aliases.
    pub fn new(version: ProtocolVersion, keep_alive: KeepAlive, own: LinkLimits, peer: LinkLimits) -> Self {
        let aliases = |limits: LinkLimits| match version {
            ProtocolVersion::V5 => limits.topic_alias_maximum,
            _ => 0,
        };
        Self {
            version,
            keep_alive,
            own,
            peer,
            problem_information: version.has_properties(),
            inbound_aliases: InboundAliases::new(aliases(own)),
            outbound_aliases: OutboundAliases::new(aliases(peer)),
        }
    }
}
