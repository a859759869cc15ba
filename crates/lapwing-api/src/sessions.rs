//! Sessions: what there is of each, and the end of one.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use lapwing_broker::{SessionCursor, SessionInfo};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clients::{Subscription, cursor, page_size};
use crate::problem::Problem;
use crate::router::Api;
use crate::timestamp::rfc3339;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The client identifier. Where the session has another key and no connection, that key.
    pub client_id: String,
    /// The key of the session, where the authenticator gave one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_key: Option<String>,
    /// Whose it is; absent where it is anybody's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// Whether its client is connected.
    pub connected: bool,
    /// Seconds that it outlives its connection; 4294967295 for ever.
    pub session_expiry_interval_s: u32,
    /// When it ends if its client stays away; absent where it does not, or its client is connected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "2026-11-28T05:45:00Z")]
    pub expires_at: Option<String>,
    /// Whether it outlives the broker's process.
    pub stored: bool,
    /// How many subscriptions it has.
    pub subscription_count: u64,
    /// Messages that wait for the client, or for room in its receive maximum.
    pub queued_messages: u64,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight_messages: u64,
    /// What it takes of memory and disk.
    pub bytes: SessionBytes,
}

/// What a session takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionBytes {
    /// All of the following.
    pub total: u64,
    /// Messages that wait for the client, in memory. One that waits for several sessions counts for each.
    pub queued: u64,
    /// Messages that wait for it on the disk only.
    pub spilled: u64,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight: u64,
    /// About what its subscriptions take.
    pub subscriptions: u64,
    /// What waits to be written to its connection.
    pub outbox: u64,
}

/// Some of the sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionPage {
    /// In no order that means anything.
    pub sessions: Vec<Session>,
    /// What to send as `after` for those that follow; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// Some of the subscriptions of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionPage {
    /// In an order that stays as long as there are the same ones.
    pub subscriptions: Vec<Subscription>,
    /// What to send as `after` for those that follow; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionQuery {
    /// Whether only sessions are wanted whose clients are connected, or only those whose clients are not. A page may then be
    /// shorter than `limit`, although there are more.
    connected: Option<bool>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Entries on the page, from 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubscriptionQuery {
    /// The `next` of the page before.
    after: Option<String>,
    /// Entries on the page, from 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Sessions, page by page.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(SessionQuery),
    responses(
        (status = 200, description = "A page of them.", body = SessionPage),
        (status = 400, description = "`after_invalid`, `limit_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn list(
    State(api): State<Api>,
    query: Result<Query<SessionQuery>, QueryRejection>,
) -> Result<Json<SessionPage>, Problem> {
    let Query(SessionQuery { connected, after, limit }) = query?;
    let after = after.as_deref().map(cursor).transpose()?;
    let limit = page_size(limit)?;
    let (sessions, next) = api.ask(move |control| control.sessions(after, limit, connected)).await??;
    let next = next.map(|SessionCursor { shard, place }| format!("{shard}-{place}"));
    Ok(Json(SessionPage { sessions: sessions.into_iter().map(Session::from).collect(), next }))
}

/// One session.
#[utoipa::path(get, path = "/api/v1/sessions/{client_id}", tag = "sessions",
    params(("client_id" = String, Path, description = "The client identifier, or else the key of the session")),
    responses(
        (status = 200, description = "The session.", body = Session),
        (status = 404, description = "There is no such session: `client_not_found`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn show(
    State(api): State<Api>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Session>, Problem> {
    let Path(client_id) = client_id?;
    let (session, _) = api.ask(move |control| control.session(&client_id, 0, 0)).await??;
    Ok(Json(session.into()))
}

/// The subscriptions of a session, page by page.
#[utoipa::path(get, path = "/api/v1/sessions/{client_id}/subscriptions", tag = "sessions",
    params(("client_id" = String, Path, description = "The client identifier, or else the key of the session"), SubscriptionQuery),
    responses(
        (status = 200, description = "A page of them.", body = SubscriptionPage),
        (status = 400, description = "`after_invalid`, `limit_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such session: `client_not_found`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn subscriptions(
    State(api): State<Api>,
    client_id: Result<Path<String>, PathRejection>,
    query: Result<Query<SubscriptionQuery>, QueryRejection>,
) -> Result<Json<SubscriptionPage>, Problem> {
    let (Path(client_id), Query(SubscriptionQuery { after, limit })) = (client_id?, query?);
    let limit = page_size(limit)?;
    let skip: usize = after.map_or(Ok(0), |after| after.parse()).map_err(|_| {
        Problem::invalid("after_invalid", "`after` is the `next` of the page before, as it was given")
    })?;
    let (session, found) = api.ask(move |control| control.session(&client_id, skip, limit)).await??;
    let shown = skip.saturating_add(found.len());
    let next = (shown < session.subscriptions && !found.is_empty()).then(|| shown.to_string());
    Ok(Json(SubscriptionPage { subscriptions: found.into_iter().map(Subscription::from).collect(), next }))
}

/// Ends a session with its subscriptions and all that waits for it. If its client is connected, it is told so with Reason Code
/// 0x98 (administrative action), and its will is published. The answer comes when the end is durable.
#[utoipa::path(delete, path = "/api/v1/sessions/{client_id}", tag = "sessions",
    params(("client_id" = String, Path, description = "The client identifier, or else the key of the session")),
    responses(
        (status = 204, description = "It has ended."),
        (status = 404, description = "There is no such session: `client_not_found`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It has ended, but the store has failed, and a restart may bring it back: `not_stored`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn end(
    State(api): State<Api>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(client_id) = client_id?;
    api.ask(move |control| control.end_session(&client_id)).await??;
    Ok(StatusCode::NO_CONTENT)
}

impl From<SessionInfo> for Session {
    fn from(info: SessionInfo) -> Self {
        let bytes = SessionBytes {
            total: info.weight.total() as u64,
            queued: info.weight.queued_bytes as u64,
            spilled: info.weight.spilled_bytes as u64,
            in_flight: info.weight.in_flight_bytes as u64,
            subscriptions: info.weight.subscription_bytes as u64,
            outbox: info.weight.outbox_bytes as u64,
        };
        Self {
            client_id: info.client_id,
            session_key: info.session_key,
            owner: info.owner,
            connected: info.connection.is_some(),
            session_expiry_interval_s: info.session_expiry_interval_s,
            expires_at: info.expires.map(rfc3339),
            stored: info.is_stored,
            subscription_count: info.subscriptions as u64,
            queued_messages: info.queued_messages as u64,
            in_flight_messages: info.in_flight_messages as u64,
            bytes,
        }
    }
}
