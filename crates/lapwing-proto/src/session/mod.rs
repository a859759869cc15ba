//! What both ends remember between packets.
