//! An MQTT client for scripts and tools: it connects, publishes, subscribes and receives, and every call waits
//! for what it does.
//!
//! ```no_run
//! use lapwing_client::{Client, ConnectOptions, ProtocolVersion};
//!
//! let options = ConnectOptions::new(ProtocolVersion::V5, "");
//! let mut client = Client::connect(&"tcp://localhost".parse()?, options)?;
//! client.subscribe(&["gate/+/event"], lapwing_client::QoS::AtLeastOnce)?;
//! let message = client.receive()?;
//! println!("{}: {:?}", message.topic(), message.payload());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod client;
mod error;

pub use client::Client;
pub use error::Error;
pub use lapwing_net::{Address, AddressError, ClientTls, DialError};
pub use lapwing_proto::packet::{ProtocolVersion, Publish, QoS, ReasonCode};
pub use lapwing_proto::session::{CleanStart, ConnectOptions, Message};
pub use lapwing_proto::topic::{TopicError, TopicFilter, TopicName};
