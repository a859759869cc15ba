//! What both ends of a connection must remember between packets.
//!
//! * [`Outbound`]: the QoS 1 and 2 messages that this end sends: packet identifiers, what is in flight,
//!   the peer's receive maximum, what is sent again when a session is resumed.
//! * [`Inbound`]: those that it receives: what has been seen, this end's receive maximum.
//! * [`Link`]: what holds for one network connection: the version, sizes, quotas, topic aliases, keep
//!   alive.
//! * [`ServerSession`] joins them for a server, [`ClientSession`] for a client.
//!
//! This module alone knows how the versions differ in behaviour. Time is passed in as an [`Instant`].

mod alias;
mod client;
mod error;
mod inbound;
mod instant;
mod keep_alive;
mod link;
mod outbound;
mod server;

pub use alias::{AliasChoice, InboundAliases, OutboundAliases};
pub use client::{
    AcknowledgeError, Acknowledgement, Cause, CleanStart, ClientError, ClientLimits, ClientSession,
    ConnectOptions, Connected, Event, Message, MessageReceipt, OptionError, PublishError, ReceivedPacket,
    RequestError, ServerCapabilities, Token, WillMessage,
};
pub use error::SessionError;
pub use inbound::{Inbound, Receipt};
pub use instant::Instant;
pub use keep_alive::KeepAlive;
pub use link::{Link, LinkLimits};
pub use outbound::{Outbound, Resend};
pub use server::ServerSession;
