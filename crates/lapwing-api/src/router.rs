//! Which request goes where.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use lapwing_broker::Control;
use tokio::sync::watch::Receiver;

use crate::bans::BanFile;
use crate::events::EventStream;
use crate::guard::guard;
use crate::metrics::MetricSource;
use crate::problem::Problem;
use crate::reload::Reload;
use crate::role::{Access, AccessTable, Role};
use crate::tokens::Tokens;
use crate::{
    backup, bans, clients, explain, health, metrics, openapi, publish, reload, retained, sessions, status,
    tokens, usage, watch,
};

/// Bytes of a request's body. Larger messages are published over MQTT.
const BODY_MAXIMUM: usize = 1024 * 1024;

/// What the handlers have.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) control: Control,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) metrics_public: bool,
    /// What is counted beside the broker.
    pub(crate) metrics: Option<MetricSource>,
    /// What reads the configuration anew.
    pub(crate) reload: Option<Arc<dyn Reload>>,
    /// What happens, for those who watch.
    pub(crate) events: Arc<EventStream>,
    /// Whether the channel is to end.
    pub(crate) stopping: Receiver<bool>,
    /// Where bans are kept; `None` where nothing is.
    pub(crate) bans: Option<Arc<BanFile>>,
    /// The data directory, if there is one.
    pub(crate) data: Option<Arc<Path>>,
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

/// The routes, each with what it needs.
#[derive(Default)]
struct Routes {
    router: Router<Api>,
    access: AccessTable,
}

impl Routes {
    fn get<T: 'static>(self, access: Access, path: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.add(Method::GET, access, path, get(handler))
    }

    fn post<T: 'static>(self, access: Access, path: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.add(Method::POST, access, path, post(handler))
    }

    fn delete<T: 'static>(self, access: Access, path: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.add(Method::DELETE, access, path, delete(handler))
    }

    fn add(mut self, method: Method, access: Access, path: &'static str, handler: MethodRouter<Api>) -> Self {
        self.access.add(method, path, access);
        Self { router: self.router.route(path, handler), ..self }
    }
}

/// Everything that can be asked, with the role that it needs at least. Both the guard and the description take it from here.
fn routes() -> Routes {
    const VIEWER: Access = Access::Needs(Role::Viewer);
    const OPERATOR: Access = Access::Needs(Role::Operator);
    const ADMIN: Access = Access::Needs(Role::Admin);
    Routes::default()
        .get(Access::Public, "/health", health::health)
        .get(Access::Public, "/ready", health::ready)
        .get(Access::Metrics, "/metrics", metrics::metrics)
        .get(VIEWER, "/api/v1/openapi.json", openapi::openapi)
        .get(VIEWER, "/api/v1/whoami", tokens::whoami)
        .get(VIEWER, "/api/v1/status", status::status)
        .get(VIEWER, "/api/v1/clients", clients::list)
        .get(VIEWER, "/api/v1/clients/{client_id}", clients::show)
        .delete(OPERATOR, "/api/v1/clients/{client_id}", clients::kick)
        .get(VIEWER, "/api/v1/sessions", sessions::list)
        .get(VIEWER, "/api/v1/sessions/{client_id}", sessions::show)
        .delete(OPERATOR, "/api/v1/sessions/{client_id}", sessions::end)
        .get(VIEWER, "/api/v1/sessions/{client_id}/subscriptions", sessions::subscriptions)
        .get(VIEWER, "/api/v1/usage", usage::usage)
        .get(VIEWER, "/api/v1/events", watch::events)
        .get(VIEWER, "/api/v1/explain", explain::explain)
        .get(VIEWER, "/api/v1/bans", bans::list)
        .post(OPERATOR, "/api/v1/bans", bans::add)
        .delete(OPERATOR, "/api/v1/bans/{kind}/{*value}", bans::remove)
        .post(OPERATOR, "/api/v1/publish", publish::publish)
        .post(OPERATOR, "/api/v1/reload", reload::reload)
        .get(VIEWER, "/api/v1/retained", retained::list)
        .delete(OPERATOR, "/api/v1/retained/{*topic}", retained::delete)
        .get(ADMIN, "/api/v1/store/backup", backup::backup)
        .get(ADMIN, "/api/v1/tokens", tokens::list)
        .post(ADMIN, "/api/v1/tokens", tokens::add)
        .delete(ADMIN, "/api/v1/tokens/{name}", tokens::remove)
}

/// What each request needs.
pub(crate) fn access() -> AccessTable {
    routes().access
}

pub(crate) fn router(api: Api) -> Router {
    let Routes { router, access } = routes();
    let guard = from_fn_with_state((api.clone(), Arc::new(access)), guard);
    router
        .fallback(async || {
            Problem::not_found("not_found", "there is nothing here; /api/v1/openapi.json says what there is")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "not with this method")
        })
        .layer(DefaultBodyLimit::max(BODY_MAXIMUM))
        .layer(guard)
        .with_state(api)
}
