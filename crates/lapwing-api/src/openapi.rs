//! The description of the API, as OpenAPI 3.1 has it.

use axum::Json;
use axum::http::Method;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use crate::events::Event;
use crate::problem::Problem;
use crate::role::{Access, Role};
use crate::router::access;
use crate::{
    backup, bans, clients, explain, health, metrics, publish, reload, retained, sessions, status, tokens,
    usage, watch,
};

const TOKEN: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Lapwing", description = "The admin channel of a Lapwing broker.", license(name = "MIT OR Apache-2.0")),
    paths(
        health::health,
        health::ready,
        metrics::metrics,
        openapi,
        status::status,
        clients::list,
        clients::show,
        clients::kick,
        explain::explain,
        bans::list,
        bans::add,
        bans::remove,
        publish::publish,
        reload::reload,
        retained::list,
        retained::delete,
        backup::backup,
        sessions::list,
        sessions::show,
        sessions::end,
        sessions::subscriptions,
        usage::usage,
        watch::events,
        tokens::whoami,
        tokens::list,
        tokens::add,
        tokens::remove
    ),
    components(schemas(Problem, Event)),
    modifiers(&Security)
)]
struct Description;

/// How a token is presented, which role each request needs, what comes without it; and the names of operations.
struct Security;

impl Modify for Security {
    fn modify(&self, api: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The content of the file `admin-token` in the data directory, whose role is `admin`, or a token with a name. \
                 The role that a request needs at least stands with its security requirement: `viewer`, `operator` or \
                 `admin`, of which each may do all that the ones before it may.",
            ))
            .build();
        if let Some(components) = &mut api.components {
            components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
        }
        let access = access();
        for (path, item) in &mut api.paths.paths {
            let operations = [
                (Method::GET, &mut item.get),
                (Method::POST, &mut item.post),
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                rename(operation);
                add_rejections(operation);
                secure(operation, access.of(&method, path));
            }
        }
    }
}

/// Handlers have the same names in several files; an operation has a name that no other has.
fn rename(operation: &mut Operation) {
    let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
    operation.operation_id = operation.operation_id.take().map(|name| format!("{tag}_{name}"));
}

fn secure(operation: &mut Operation, access: Access) {
    let role = match access {
        Access::Public => {
            operation.security = Some(Vec::new());
            return;
        }
        Access::Metrics => Role::Viewer,
        Access::Needs(role) => role,
    };
    operation.security = Some(vec![SecurityRequirement::new(TOKEN, [role.name()])]);
    add(operation, "401", "The token is missing, wrong, or has ended: `unauthorized`.");
    if role > Role::Viewer {
        add(operation, "403", &format!("The token has a lower role than `{role}`: `forbidden`."));
    }
    let busy = "The broker is too busy to answer, or is stopping: `busy`, `timed_out` or `stopped`.";
    add(operation, "503", busy);
}

/// What comes of parameters and bodies that cannot be read, before a handler sees them.
fn add_rejections(operation: &mut Operation) {
    let is_empty = operation.parameters.as_ref().is_none_or(Vec::is_empty);
    if operation.request_body.is_some() {
        add(operation, "400", "The body is no JSON: `request_invalid`.");
        add(operation, "413", "The body is longer than 1 MiB: `body_too_large`.");
        add(operation, "415", "The body does not say that it is JSON: `media_type_unsupported`.");
        add(operation, "422", "The body is JSON, and not what is expected: `request_invalid`.");
    } else if !is_empty {
        add(operation, "400", "A parameter is not what is expected: `request_invalid`.");
    }
}

/// Adds a problem that may come of an operation; where the handler has something of its own under this status, to what that
/// says.
fn add(operation: &mut Operation, status: &str, description: &str) {
    let before = match operation.responses.responses.get(status) {
        Some(RefOr::T(response)) => Some(response.description.as_str()),
        _ => None,
    };
    let description = match before {
        Some(before) => format!("{before} {description}"),
        None => description.to_owned(),
    };
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build();
    operation.responses.responses.insert(status.to_owned(), response.into());
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "broker",
    responses((status = 200, description = "The description.", body = serde_json::Value)))]
pub(crate) async fn openapi() -> Json<OpenApi> {
    Json(Description::openapi())
}

/// The description of the API as JSON.
pub fn document() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&Description::openapi())? + "\n")
}
