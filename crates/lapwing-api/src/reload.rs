//! Reading the configuration anew.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::router::Api;

/// Reads the configuration anew, and the files that it names.
pub trait Reload: Send + Sync + 'static {
    /// All of it holds from now on, as far as it needs no restart; or nothing has changed, for this reason. It may take
    /// the time of reading files and of looking at every client.
    ///
    /// # Errors
    /// What is wrong, in a sentence that names the place.
    fn reload(&self) -> Result<Reloaded, String>;
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// What is different from now on, a line for each.
    pub changed: Vec<String>,
    /// What is different, and holds after a restart only.
    pub needs_restart: Vec<String>,
    /// Clients that were connected, and looked at.
    pub clients: u64,
    /// Those of them that are not let in any more, and were disconnected.
    pub disconnected: u64,
    /// Subscriptions that are not allowed any more, and were removed.
    pub unsubscribed: u64,
}

/// Reads the configuration, users, rules and certificates anew. All of it holds from now on, or nothing has changed.
#[utoipa::path(post, path = "/api/v1/reload", tag = "broker",
    responses(
        (status = 200, description = "It holds.", body = Reloaded),
        (status = 409, description = "Something is wrong with it, and nothing has changed: `reload_refused`.", body = Problem, content_type = "application/problem+json"),
        (status = 501, description = "This broker has no configuration: `reload_unavailable`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn reload(State(api): State<Api>) -> Result<Json<Reloaded>, Problem> {
    let Some(reload) = api.reload.clone() else {
        let detail = "this broker is part of a program that reads nothing anew";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "reload_unavailable", detail));
    };
    let refused = |detail| Problem::new(StatusCode::CONFLICT, "reload_refused", detail);
    Ok(Json(api.ask(move |_| reload.reload()).await?.map_err(refused)?))
}
