//! For whoever restarts the process, and whoever sends clients to it.

use axum::Json;
use axum::extract::State;
use lapwing_broker::Readiness;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::router::Api;

/// That something is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `alive` or `ready`.
    status: &'static str,
}

/// Whether the process is alive. Needs no token.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, description = "It is.", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "alive" })
}

/// Whether clients are served: every listener and shard is up, and the store has not failed. Needs no token.
#[utoipa::path(get, path = "/ready", tag = "health",
    responses(
        (status = 200, description = "They are.", body = Health),
        (status = 503, description = "They are not: `not_ready`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    match api.control.readiness() {
        Readiness::Ready => Ok(Json(Health { status: "ready" })),
        Readiness::Stopped => Err(Problem::unavailable("not_ready", "the broker is stopping")),
        Readiness::StoreFailed => {
            Err(Problem::unavailable("not_ready", "the store has failed; the log says why"))
        }
    }
}
