//! The shard, stepped without sockets and with a clock that the tests set.
//!
//! A [`Broker`](broker::Broker) holds a shard, a [`Client`](client::Client) one end of a connection to it: it sends
//! packets and says which ones must come. Whatever the shard has to do at the time of a call is done when the
//! call returns.
//!
//! The lines `// [MQTT-…]` above a test name the normative statements that it shows, in the numbering of 5.0; where
//! they begin with `3.1.1`, in that of 3.1.1.

mod admission;
mod alias;
mod authentication;
mod authorization;
mod broker;
mod capability;
mod client;
mod connect;
mod crash;
mod delayed;
mod disconnect;
mod durable;
mod exclusive;
mod expectation;
mod expiry;
mod explain;
mod extended_authentication;
mod flow_control;
mod fuzz;
mod hook;
mod inquiry;
mod judge;
mod keep_alive;
mod limit;
mod malformed;
mod memory;
mod message;
mod model;
mod order;
mod permission;
mod problem_information;
mod process;
mod publish;
mod qos;
pub(super) mod random;
mod resend;
mod retained;
mod rule;
mod run;
mod session;
mod shared;
mod shutdown;
mod simulation;
mod stat;
mod subscribe;
mod sys;
mod takeover;
mod will;

use lapwing_proto::packet::ProtocolVersion;

const V31: ProtocolVersion = ProtocolVersion::V31;
const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

const VERSIONS: [ProtocolVersion; 3] = [V31, V311, V5];
