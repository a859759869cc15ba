//! The control packets.
