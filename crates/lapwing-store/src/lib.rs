//! What outlives a broker's process: sessions with their subscriptions and messages, retained and delayed messages.
#![forbid(unsafe_code)]

pub mod engine;
