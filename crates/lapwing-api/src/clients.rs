//! Clients: those that are connected, and those whose sessions are kept.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use lapwing_broker::{ConnectionInfo, SessionCursor, SessionInfo, SubscriptionInfo};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::router::Api;
use crate::timestamp::rfc3339;

/// Entries on a page where the request does not say.
pub(crate) const PAGE: usize = 100;
/// Entries on a page at the most.
pub(crate) const PAGE_MAXIMUM: usize = 1000;
/// Subscriptions that are shown of one client.
const SUBSCRIPTIONS_SHOWN: usize = 1000;

/// A client, by its session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Client {
    /// The client identifier.
    pub client_id: String,
    /// The key of the session, where the authenticator gave one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_key: Option<String>,
    /// The connection; absent where the client is not connected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection: Option<Connection>,
    /// Seconds that the session outlives its connection; 4294967295 for ever.
    pub session_expiry_interval_s: u32,
    /// Whether the session outlives the broker's process.
    pub stored: bool,
    /// How many subscriptions it has.
    pub subscription_count: u64,
    /// Messages that wait for the client, or for room in its receive maximum.
    pub queued_messages: u64,
    /// Bytes of these.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight_messages: u64,
}

/// The connection of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The user name, as far as it means anything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_name: Option<String>,
    /// The other end.
    #[schema(example = "127.0.0.1:50123")]
    pub peer: String,
    /// The version that the client speaks.
    #[schema(example = "5.0")]
    pub protocol_version: String,
    /// Keep alive in seconds; 0 for none.
    pub keep_alive_s: u16,
    /// When the client was let in.
    #[schema(example = "2026-11-28T05:45:00Z")]
    pub connected_at: String,
    /// Bytes that wait to be written to it.
    pub outbox_bytes: u64,
}

/// Some of the clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClientPage {
    /// In no order that means anything.
    pub clients: Vec<Client>,
    /// What to send as `after` for those that follow; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A client and its subscriptions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClientDetail {
    /// The client.
    #[serde(flatten)]
    pub client: Client,
    /// The first thousand of its subscriptions; `/api/v1/sessions/{client_id}/subscriptions` has all.
    pub subscriptions: Vec<Subscription>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// The topic filter.
    pub filter: String,
    /// The highest quality of service that it gives.
    pub qos: u8,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientQuery {
    /// The `next` of the page before.
    after: Option<String>,
    /// Entries on the page, from 1 to 1000; 100 if absent.
    limit: Option<usize>,
}

/// Clients, page by page: those that are connected, and those whose sessions are kept.
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients", params(ClientQuery),
    responses((status = 200, description = "A page of them.", body = ClientPage)))]
pub(crate) async fn list(
    State(api): State<Api>,
    query: Result<Query<ClientQuery>, QueryRejection>,
) -> Result<Json<ClientPage>, Problem> {
    let Query(query) = query?;
    let after = query.after.as_deref().map(cursor).transpose()?;
    let limit = page_size(query.limit)?;
    let (sessions, next) = api.ask(move |control| control.sessions(after, limit, None)).await??;
    let next = next.map(|SessionCursor { shard, place }| format!("{shard}-{place}"));
    Ok(Json(ClientPage { clients: sessions.into_iter().map(Client::from).collect(), next }))
}

/// One client with its subscriptions.
#[utoipa::path(get, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path, description = "The client identifier, or else the key of the session")),
    responses(
        (status = 200, description = "The client.", body = ClientDetail),
        (status = 404, description = "There is no such session: `client_not_found`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn show(
    State(api): State<Api>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<Json<ClientDetail>, Problem> {
    let Path(client_id) = client_id?;
    let (session, subscriptions) =
        api.ask(move |control| control.session(&client_id, 0, SUBSCRIPTIONS_SHOWN)).await??;
    let subscriptions = subscriptions.into_iter().map(Subscription::from).collect();
    Ok(Json(ClientDetail { client: session.into(), subscriptions }))
}

/// Ends the connection of a client, which is told so with Reason Code 0x98 (administrative action), and its will is
/// published. Its session stays as long as after any loss of its connection, and the client may connect again.
#[utoipa::path(delete, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path, description = "The client identifier, or else the key of the session")),
    responses(
        (status = 204, description = "The connection is ended."),
        (status = 404, description = "There is no such session: `client_not_found`.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Its client is not connected: `client_not_connected`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn kick(
    State(api): State<Api>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(client_id) = client_id?;
    api.ask(move |control| control.disconnect(&client_id)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// The size of a page that a request asks for.
pub(crate) fn page_size(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAXIMUM => Ok(limit),
        _ => Err(Problem::invalid("limit_invalid", format!("`limit` is a number from 1 to {PAGE_MAXIMUM}"))),
    }
}

/// Where a page begins, from the `next` of the page before.
pub(crate) fn cursor(text: &str) -> Result<SessionCursor, Problem> {
    let parts =
        text.split_once('-').and_then(|(shard, place)| Some((shard.parse().ok()?, place.parse().ok()?)));
    let (shard, place) = parts.ok_or_else(|| {
        Problem::invalid("after_invalid", "`after` is the `next` of the page before, as it was given")
    })?;
    Ok(SessionCursor { shard, place })
}

impl From<SubscriptionInfo> for Subscription {
    fn from(SubscriptionInfo { filter, qos }: SubscriptionInfo) -> Self {
        Self { filter: filter.as_str().to_owned(), qos: qos.bits() }
    }
}

impl From<SessionInfo> for Client {
    fn from(info: SessionInfo) -> Self {
        Self {
            client_id: info.client_id,
            session_key: info.session_key,
            connection: info.connection.map(Connection::from),
            session_expiry_interval_s: info.session_expiry_interval_s,
            stored: info.is_stored,
            subscription_count: info.subscriptions as u64,
            queued_messages: info.queued_messages as u64,
            queued_bytes: info.queued_bytes as u64,
            in_flight_messages: info.in_flight_messages as u64,
        }
    }
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            user_name: info.user_name,
            peer: info.peer.to_string(),
            protocol_version: info.version.to_string(),
            keep_alive_s: info.keep_alive_s,
            connected_at: rfc3339(info.connected_at),
            outbox_bytes: info.outbox_bytes as u64,
        }
    }
}
