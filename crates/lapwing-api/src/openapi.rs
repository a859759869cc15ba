//! The description of the API, as OpenAPI 3.1 has it.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use crate::problem::Problem;
use crate::{backup, bans, clients, explain, health, metrics, publish, reload, retained, status};

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
        backup::backup
    ),
    components(schemas(Problem)),
    security(("token" = [])),
    modifiers(&TokenScheme)
)]
struct Description;

/// How the token is presented, and what comes without it.
struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, api: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The content of the file `admin-token` in the data directory."))
            .build();
        if let Some(components) = &mut api.components {
            components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
        }
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        let refused = ResponseBuilder::new()
            .description("The token is missing or wrong: `unauthorized`.")
            .content("application/problem+json", problem)
            .build();
        for item in api.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.delete];
            // Where an operation says nothing of security, it needs the token.
            for operation in operations.into_iter().flatten().filter(|it| it.security.is_none()) {
                operation.responses.responses.insert("401".to_owned(), refused.clone().into());
            }
        }
    }
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
