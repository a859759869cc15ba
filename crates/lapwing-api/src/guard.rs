//! Who may ask anything at all.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;
use crate::router::Api;

/// What needs no token. Everything else does, also what there is not.
pub(crate) const PUBLIC: [&str; 2] = ["/health", "/ready"];
/// Needs no token where `metrics_public` says so.
pub(crate) const METRICS: &str = "/metrics";
/// How long a request may take, its body and the answers of the shards included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Lets a request pass that comes to the right host, with the token.
pub(crate) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let verdict = check_host(&api, &request).and_then(|()| check_token(&api, &request));
    let mut response = match verdict {
        Ok(()) => match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::unavailable("timed_out", "the request took too long").into_response(),
        },
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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

fn check_token(api: &Api, request: &Request) -> Result<(), Problem> {
    let path = request.uri().path();
    if PUBLIC.contains(&path) || (api.metrics_public && path == METRICS) {
        return Ok(());
    }
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.split_once(' '));
    let token = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    if token.is_some_and(|token| api.token.is(token.trim())) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send the token from the file `admin-token` of the data directory as `Authorization: Bearer TOKEN`",
    ))
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
