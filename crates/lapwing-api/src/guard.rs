//! Who may ask anything at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::audit::{self, Deed};
use crate::problem::Problem;
use crate::role::{Access, AccessTable, Role};
use crate::router::Api;
use crate::tokens::{Actor, Unknown};

/// How long a request may take, its body and the answers of the shards included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Lets a request pass that comes to the right host, with a token whose role is enough for it.
pub(crate) async fn guard(
    State((api, access)): State<(Api, Arc<AccessTable>)>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match check_host(&api, &request).and_then(|()| identify(&api, &access, &request)) {
        Ok(None) => run(request, next).await,
        Ok(Some((actor, needed))) => act(actor, needed, request, next).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Does what somebody with a token asks for, if the role is enough, and writes down what changes something.
async fn act(actor: Actor, needed: Role, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let deed = Deed::default();
    let response = if actor.role < needed {
        let detail =
            format!("this needs a token with the role {needed}; that of '{}' is {}", actor.name, actor.role);
        Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).into_response()
    } else {
        request.extensions_mut().insert(actor.clone());
        request.extensions_mut().insert(deed.clone());
        run(request, next).await
    };
    if audit::is_audited(&method, &path) {
        audit::log(&actor, (&method, &path), &deed, response.status().as_u16());
    }
    response
}

async fn run(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("timed_out", "the request took too long").into_response(),
    }
}

/// A page in a browser on this machine can make its own host name lead here (DNS rebinding). It cannot change the name
/// itself, which the browser sends. Where the channel is open to other machines, it has names that are not known.
fn check_host(api: &Api, request: &Request) -> Result<(), Problem> {
    if !api.is_loopback {
        return Ok(());
    }
    let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let named = [header, request.uri().authority().map(Authority::as_str)];
    let mut hosts = named.into_iter().flatten().peekable();
    if hosts.peek().is_some() && hosts.all(is_loopback) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "host_not_allowed",
        "the admin channel answers to 127.0.0.1, [::1] and localhost only",
    ))
}

/// Whether the host of `HOST` or `HOST:PORT` is this machine by any name.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Who asks, and the role that it takes; `None` where anybody may ask. What there is not needs any token at all: so nobody
/// learns without one what there is.
fn identify(api: &Api, access: &AccessTable, request: &Request) -> Result<Option<(Actor, Role)>, Problem> {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let needed = match route.map(|route| access.of(request.method(), route)) {
        Some(Access::Public) => return Ok(None),
        Some(Access::Metrics) if api.metrics_public => return Ok(None),
        Some(Access::Metrics) | None => Role::Viewer,
        Some(Access::Needs(role)) => role,
    };
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.split_once(' '));
    let token = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    let found = token.map_or(Err(Unknown::Missing), |token| api.tokens.find(token.trim()));
    let actor = found.map_err(|unknown| {
        let detail = match unknown {
            Unknown::Missing => {
                "send a token as `Authorization: Bearer TOKEN`: that of the file `admin-token` in the data directory, or \
                 one that `lapwing token add` has made"
            }
            Unknown::Expired => "the token has ended: have a new one made",
        };
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    })?;
    Ok(Some((actor, needed)))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    // [attack: dns-rebinding]
    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in
            ["localhost", "LOCALHOST:18830", "127.0.0.1", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:5"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "example.org", "localhost.example.org:18830", "10.0.0.1", "127.0.0.1.nip.io", "::1", "[::2]"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
