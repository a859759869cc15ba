//! Which request goes where.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use lapwing_broker::Control;

use crate::bans::BanFile;
use crate::guard::{self, guard};
use crate::metrics::MetricSource;
use crate::problem::Problem;
use crate::reload::Reload;
use crate::token::Token;
use crate::{backup, bans, clients, explain, health, metrics, openapi, publish, reload, retained, status};

/// Bytes of a request's body. Larger messages are published over MQTT.
const BODY_MAXIMUM: usize = 1024 * 1024;

/// What the handlers have.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) control: Control,
    pub(crate) token: Arc<Token>,
    pub(crate) metrics_public: bool,
    /// What is counted beside the broker.
    pub(crate) metrics: Option<MetricSource>,
    /// What reads the configuration anew.
    pub(crate) reload: Option<Arc<dyn Reload>>,
    /// Where bans are kept; `None` where nothing is.
    pub(crate) bans: Option<Arc<BanFile>>,
    /// Whether only this machine can reach the channel.
    pub(crate) is_loopback: bool,
}

impl Api {
    /// Has something done that may have to wait for a shard, on a thread that may wait.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Control) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let control = self.control.clone();
        let answer = tokio::task::spawn_blocking(move || question(&control)).await;
        answer.map_err(|_| Problem::unavailable("stopped", "the broker is stopping"))
    }
}

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route(guard::METRICS, get(metrics::metrics))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/clients", get(clients::list))
        .route("/api/v1/clients/{client_id}", get(clients::show).delete(clients::kick))
        .route("/api/v1/explain", get(explain::explain))
        .route("/api/v1/bans", get(bans::list).post(bans::add))
        .route("/api/v1/bans/{kind}/{*value}", delete(bans::remove))
        .route("/api/v1/publish", post(publish::publish))
        .route("/api/v1/reload", post(reload::reload))
        .route("/api/v1/retained", get(retained::list))
        .route("/api/v1/retained/{*topic}", delete(retained::delete))
        .route("/api/v1/store/backup", get(backup::backup))
        .fallback(async || {
            Problem::not_found("not_found", "there is nothing here; /api/v1/openapi.json says what there is")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "not with this method")
        })
        .layer(DefaultBodyLimit::max(BODY_MAXIMUM))
        .layer(from_fn_with_state(api.clone(), guard))
        .with_state(api)
}
