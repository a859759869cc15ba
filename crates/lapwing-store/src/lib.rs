//! What outlives a broker's process: sessions with their subscriptions and messages, retained and delayed messages.
//!
//! Shards [submit](Store::submit) what packets change; one thread, the [`Writer`], makes the changes of all that wait,
//! makes them durable with one sync, and then tells those who wait, in the order in which they submitted. What one
//! packet changes is in one [`Transaction`]: it is there as a whole or not at all.
//!
//! ```
//! use lapwing_store::engine::MemoryEngine;
//! use lapwing_store::{Change, Options, Transaction, Writer};
//!
//! let (store, mut writer) = Writer::open(Box::new(MemoryEngine::default()), Options::default(), || ())?;
//! let mut transaction = Transaction::default();
//! transaction.push(Change::Unretained("gate/door_1/event".into()));
//! store.submit(transaction, |_| println!("it is durable"));
//! writer.turn(None)?;
//! # Ok::<(), lapwing_store::engine::EngineError>(())
//! ```
#![forbid(unsafe_code)]

pub mod archive;
mod backup;
pub mod check;
pub mod engine;
mod inbox;
mod key;
mod message;
mod queue;
mod record;
mod recovery;
pub mod stat;
#[cfg(test)]
mod test;
mod value;
mod writer;

pub use backup::{BackupTarget, receive as receive_backup, write as write_backup};
pub use inbox::{Condition, QueueRequest, Store};
pub use key::FILTER_MAXIMUM;
pub use queue::{QueueCount, QueueRead, StoredDelivery, StoredFlows};
pub use record::{
    Change, DelayedRecord, FlowKey, FlowState, KeyRecord, Place, PublisherRecord, QueueTarget, QueuedMessage,
    RetainedRecord, Sequence, SessionNumber, SessionRecord, SubscriptionRecord, Transaction, WallTime,
    WillRecord,
};
pub use recovery::Recovered;
pub use writer::{Options, Writer};
