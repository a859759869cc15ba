//! An MQTT broker as a library.
//!
//! ```no_run
//! let broker = lapwing_broker::Broker::start(lapwing_broker::Config::default())?;
//! println!("{:?}", broker.listening());
//! broker.shut_down();
//! # Ok::<(), lapwing_broker::StartError>(())
//! ```
//!
//! A [`Broker`] runs its shard on a thread of its own: an event loop around plain data with synchronous
//! transitions. Whoever embeds it decides who clients are and what they may do, see [`hook`].
#![forbid(unsafe_code)]

mod broker;
mod clock;
mod event_loop;
mod excerpt;
pub mod hook;
mod limit;
mod mailbox;
mod message;
mod rate;
mod shard;

pub use broker::{Broker, Config, StartError};
pub use lapwing_net::{Address, AddressError, ListenError};
pub use limit::Limits;
pub use shard::{ConnectionId, Dropped, PerQoS, PerReasonCode, Stat};
