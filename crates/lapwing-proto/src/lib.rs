//! MQTT 3.1, 3.1.1 and 5.0 as values: no sockets, no threads, no clock, no files.
//!
//! * [`topic`]: topic names and filters, and the trees that match one against many of the other.
//! * [`packet`]: one model of the control packets of all three versions, and its bytes.
//! * [`session`]: what both ends must remember between packets: quality-of-service flows, packet
//!   identifiers, quotas, topic aliases and keep alive.
//!
//! Everything is a synchronous transition on plain data. Whoever owns the socket passes in the bytes
//! that arrived and the time, and sends the bytes that come out.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod fuzzing;
pub mod packet;
pub mod session;
pub mod topic;
