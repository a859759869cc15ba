//! The broker at a glance.

use axum::Json;
use axum::extract::State;
use lapwing_broker::{Condition, Pressure, Readiness};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::process::Process;
use crate::router::Api;

/// The broker at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of Lapwing.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// `ready`, `stopping` or `store_failed`.
    pub state: String,
    /// The addresses that clients connect to.
    #[schema(example = json!(["tcp://127.0.0.1:1883"]))]
    pub listeners: Vec<String>,
    /// `ready`, `full` or `failed`; absent where nothing is stored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub store: Option<String>,
    /// Network connections, with those that have not sent a CONNECT yet.
    pub connections: u64,
    /// Connected clients.
    pub clients: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Bytes that these take.
    pub retained_bytes: u64,
    /// Messages from clients since the start.
    pub messages_received: u64,
    /// Messages to clients since the start: one for each receiver.
    pub messages_sent: u64,
    /// Messages that did not reach a client, or nobody at all, since the start.
    pub messages_dropped: u64,
    /// Resident memory of the process in bytes; absent where the system does not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_bytes: Option<u64>,
    /// Bytes that the broker counts against `memory_maximum_bytes`: what it has taken from the system's allocator, and the
    /// program itself. Absent where there is no maximum.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_used_bytes: Option<u64>,
    /// Bytes that the broker may take: `memory` of its configuration. Absent where there is no maximum.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_maximum_bytes: Option<u64>,
    /// `enough`, `tight`, `short` or `exceeded`; absent where there is no maximum.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_pressure: Option<String>,
    /// The shards, in their order.
    pub shards: Vec<ShardStatus>,
}

/// A shard at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardStatus {
    /// Connected clients.
    pub clients: u64,
    /// Sessions.
    pub sessions: u64,
    /// How much of its time its thread was at work lately: 0 to 1.
    pub busy: f64,
    /// Bytes of mail from other threads that wait.
    pub mailbox_bytes: u64,
}

/// The broker at a glance.
#[utoipa::path(get, path = "/api/v1/status", tag = "broker",
    responses((status = 200, description = "Version, listeners, shards and counts.", body = Status)))]
pub(crate) async fn status(State(api): State<Api>) -> Json<Status> {
    let control = &api.control;
    let (stat, memory) = (control.stat(), control.memory());
    let shard = |shard: &lapwing_broker::ShardStat| ShardStatus {
        clients: shard.stat.clients,
        sessions: shard.stat.sessions,
        busy: shard.busy,
        mailbox_bytes: shard.mailbox_bytes as u64,
    };
    let state = match control.readiness() {
        Readiness::Ready => "ready",
        Readiness::Stopped => "stopping",
        Readiness::StoreFailed => "store_failed",
    };
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: control.uptime().as_secs(),
        state: state.to_owned(),
        listeners: control.listening().iter().map(ToString::to_string).collect(),
        store: control.store_condition().map(|condition| condition_name(condition).to_owned()),
        connections: stat.connections,
        clients: stat.clients,
        sessions: stat.sessions,
        subscriptions: control.subscriptions().total as u64,
        retained_messages: stat.retained_messages,
        retained_bytes: stat.retained_bytes,
        messages_received: stat.messages_received.total(),
        messages_sent: stat.messages_sent.total(),
        messages_dropped: stat.messages_dropped.total(),
        memory_bytes: Process::now().resident_bytes,
        memory_used_bytes: memory.map(|memory| memory.used as u64),
        memory_maximum_bytes: memory.map(|memory| memory.maximum as u64),
        memory_pressure: memory.map(|memory| pressure_name(memory.pressure).to_owned()),
        shards: control.shards().iter().map(shard).collect(),
    })
}

pub(crate) fn pressure_name(pressure: Pressure) -> &'static str {
    match pressure {
        Pressure::None => "enough",
        Pressure::Tight => "tight",
        Pressure::Short => "short",
        Pressure::Exceeded => "exceeded",
    }
}

pub(crate) fn condition_name(condition: Condition) -> &'static str {
    match condition {
        Condition::Ready => "ready",
        Condition::Full => "full",
        Condition::Failed => "failed",
    }
}
