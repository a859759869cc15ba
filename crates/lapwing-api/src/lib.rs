//! Lapwing's admin channel: health, metrics and an HTTP API on a thread of its own.
//!
//! It knows a [`Control`](lapwing_broker::Control) of the broker, never a shard, and decides nothing that the broker could
//! decide: a handler turns a request into one call and its result into JSON. `docs/design/admin.md` has the reasons.
//!
//! Everything needs a [`Token`] with a [`Role`], except what the [list of routes](router) says is public.
#![forbid(unsafe_code)]

mod audit;
mod backup;
mod bans;
mod caller;
mod clients;
mod events;
mod explain;
mod exposition;
mod guard;
mod health;
mod metrics;
mod openapi;
mod problem;
mod process;
mod publish;
mod reload;
mod retained;
mod role;
mod router;
mod server;
mod sessions;
mod status;
mod timestamp;
mod token;
mod tokens;
mod usage;
mod watch;

pub use bans::{BanAnswer, BanEntry, BanKind, BanList, BanRequest, kept_bans};
pub use caller::{CallError, Caller, Download};
pub use clients::{Client, ClientDetail, ClientPage, Connection, Subscription};
pub use events::{Event, EventKind, EventStream};
pub use explain::{
    ExplainedDelivery, ExplainedIncident, ExplainedMessage, Explanation, MatchingSubscription, Remembered,
};
pub use metrics::{Metric, MetricKind, MetricSource};
pub use openapi::document;
pub use reload::{Reload, Reloaded};
pub use retained::{RetainedMessage, RetainedPage};
pub use role::Role;
pub use server::{BindError, DEFAULT_LISTEN, Listener, Options, Server};
pub use sessions::{Session, SessionBytes, SessionPage, SubscriptionPage};
pub use status::{ShardStatus, Status};
pub use token::{Token, TokenError};
pub use tokens::{TokenAnswer, TokenInfo, TokenList, TokenRequest, Tokens, Whoami};
pub use usage::{DiskUsage, MemoryUsage, Usage};
