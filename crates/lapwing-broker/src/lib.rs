//! An MQTT broker as a library.
//!
//! ```no_run
//! let broker = lapwing_broker::Broker::start(lapwing_broker::Config::default())?;
//! println!("{:?}", broker.listening());
//! broker.shut_down();
//! # Ok::<(), lapwing_broker::StartError>(())
//! ```
//!
//! A [`Broker`] has one shard or several, each on a thread of its own: an event loop around plain data with
//! synchronous transitions. Whoever embeds it decides who clients are and what they may do, see [`hook`].
#![forbid(unsafe_code)]

mod ban;
#[cfg(feature = "bench")]
pub mod bench;
mod broker;
mod clock;
mod control;
mod event_loop;
mod excerpt;
mod explanation;
mod hash;
pub mod hook;
mod limit;
mod mail;
mod mailbox;
mod memory;
mod message;
mod origin;
mod permit;
mod rate;
mod remnant;
mod rule;
mod shard;
mod sharding;
mod shared;
mod sync;

pub use ban::{Ban, BanTarget};
pub use broker::{Broker, Config, Recipient, ShardStat, StartError, StoreConfig};
pub use control::{
    ConnectionInfo, Control, ControlError, Readiness, Renewed, RetainedInfo, SessionCursor, SessionDetail,
    SessionInfo, SubscriptionCount, SubscriptionInfo, Weight,
};
pub use explanation::{
    Delivery, DeliveryState, Explain, Explanation, Happening, Incident, Message, Passage, Publisher,
    Question, Reach, Subscription, Wait,
};
pub use lapwing_net::{Address, AddressError, ListenError, ListenerConfig, Network, NetworkError};
pub use lapwing_store::Condition;
pub use limit::{Limits, ListenerLimits, QueueOverflow};
pub use memory::{Memory, MemoryStat, Pressure};
pub use message::stored_topic;
pub use rule::{AppliesTo, AutoSubscribe, Rewrite, Rules};
pub use shard::{ConnectionId, Dropped, PerQoS, PerReasonCode, Stat};
pub use sharding::Sharding;
