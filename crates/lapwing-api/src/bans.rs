//! Who is kept out. What an administrator bans outlives the process, in a file of the data directory.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, SystemTime};

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use lapwing_broker::{Ban, BanTarget, Control};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::Deed;
use crate::events::{Event, EventKind, cut};
use crate::problem::Problem;
use crate::router::Api;
use crate::timestamp::{CENTURY_S, rfc3339};
use crate::token::write_private;

/// Its name in a data directory.
const FILE: &str = "bans.json";
/// Bytes of a reason.
const REASON_MAXIMUM: usize = 500;

/// Somebody who is kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanEntry {
    /// What `value` is.
    pub kind: BanKind,
    /// The address or the range of addresses, the client identifier, or the user name.
    #[schema(example = "203.0.113.0/24")]
    pub value: String,
    /// Why, for people.
    pub reason: String,
    /// When it ends; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "2026-11-28T05:45:00Z")]
    pub until: Option<String>,
    /// Whether the broker has made it by itself, as for a client that connects again and again.
    pub automatic: bool,
}

/// Whom a ban keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BanKind {
    /// Whoever comes from an address, or a range of addresses.
    Address,
    /// Who uses a client identifier.
    ClientId,
    /// Who names a user.
    User,
}

impl BanKind {
    /// As in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::ClientId => "client_id",
            Self::User => "user",
        }
    }
}

/// All bans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanList {
    /// Those of addresses first.
    pub bans: Vec<BanEntry>,
}

/// Somebody to keep out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// What `value` is.
    pub kind: BanKind,
    /// The address or the range of addresses, the client identifier, or the user name.
    #[schema(example = "door_1")]
    pub value: String,
    /// Why, for people: clients of 5.0 are told. Up to 500 bytes.
    #[serde(default)]
    pub reason: String,
    /// For how many seconds; absent for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1, maximum = 3_162_240_000_u64)]
    pub for_s: Option<u64>,
}

/// What came of a ban.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BanAnswer {
    /// Clients that were connected, and are not any more.
    pub disconnected: u64,
}

/// The bans that an earlier process has kept in a data directory: they are to hold before anybody can connect.
///
/// # Errors
/// The file cannot be read, or is no list of bans.
pub fn kept_bans(directory: &FilePath) -> io::Result<Vec<Ban>> {
    let BanFile(path) = BanFile::new(directory);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let invalid = |reason: String| {
        let path = path.display();
        io::Error::new(io::ErrorKind::InvalidData, format!("{path} is no list of bans: {reason}"))
    };
    let kept: Vec<Kept> = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let mut bans = Vec::new();
    for Kept { kind, value, reason, until_s } in kept {
        let until = until_s.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        if until.is_none_or(|until| until > SystemTime::now()) {
            let target = target(kind, value).map_err(|problem| invalid(problem.detail))?;
            bans.push(Ban { target, reason, until, is_automatic: false });
        }
    }
    Ok(bans)
}

/// Where bans are kept that outlive the process.
#[derive(Debug)]
pub(crate) struct BanFile(PathBuf);

/// A ban as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    kind: BanKind,
    value: String,
    reason: String,
    /// Seconds since the beginning of 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    until_s: Option<u64>,
}

impl BanFile {
    pub(crate) fn new(directory: &FilePath) -> Self {
        Self(directory.join(FILE))
    }

    /// Keeps the bans that there are, whole or not at all.
    fn write(&self, control: &Control) -> io::Result<()> {
        let seconds = |until: SystemTime| {
            until.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
        };
        let made = control.bans().into_iter().filter(|ban| !ban.is_automatic);
        let kept: Vec<_> = made
            .map(|ban| {
                let (kind, value) = shown(&ban.target);
                Kept { kind, value, reason: ban.reason, until_s: ban.until.map(seconds) }
            })
            .collect();
        write_private(&self.0, serde_json::to_string_pretty(&kept)?.as_bytes())
    }
}

impl Api {
    /// Has the bans of the administrator outlive the process.
    fn keep_bans(&self, control: &Control) -> Result<(), Problem> {
        let Some(file) = &self.bans else { return Ok(()) };
        file.write(control).map_err(|error| {
            let detail =
                format!("it holds, but ends with the process: the list of bans cannot be written: {error}");
            Problem::unavailable("bans_not_kept", detail)
        })
    }
}

/// Who is kept out.
#[utoipa::path(get, path = "/api/v1/bans", tag = "bans",
    responses((status = 200, description = "All bans that hold.", body = BanList)))]
pub(crate) async fn list(State(api): State<Api>) -> Result<Json<BanList>, Problem> {
    let bans = api.ask(Control::bans).await?;
    let entry = |ban: Ban| {
        let (kind, value) = shown(&ban.target);
        let until = ban.until.map(rfc3339);
        BanEntry { kind, value, reason: ban.reason, until, automatic: ban.is_automatic }
    };
    Ok(Json(BanList { bans: bans.into_iter().map(entry).collect() }))
}

/// Keeps somebody out, in place of an earlier ban of the same, and ends the connections that it concerns. It outlives the
/// broker's process where there is a data directory.
#[utoipa::path(post, path = "/api/v1/bans", tag = "bans", request_body = BanRequest,
    responses(
        (status = 200, description = "It holds.", body = BanAnswer),
        (status = 400, description = "`address_invalid`, `value_invalid`, `reason_too_long`, `for_s_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It holds, but ends with the process: `bans_not_kept`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn add(
    State(api): State<Api>,
    Extension(deed): Extension<Deed>,
    request: Result<Json<BanRequest>, JsonRejection>,
) -> Result<Json<BanAnswer>, Problem> {
    let Json(BanRequest { kind, value, mut reason, for_s }) = request?;
    deed.is(format!("ban {} {value}", kind.name()));
    if reason.len() > REASON_MAXIMUM {
        let detail = format!("`reason` has up to {REASON_MAXIMUM} bytes");
        return Err(Problem::invalid("reason_too_long", detail));
    }
    if !for_s.is_none_or(|seconds| (1..=CENTURY_S).contains(&seconds)) {
        let detail = format!("`for_s` is from 1 to {CENTURY_S}; leave it out for a ban without an end");
        return Err(Problem::invalid("for_s_invalid", detail));
    }
    if reason.is_empty() {
        "by an administrator".clone_into(&mut reason);
    }
    let (target, told) = (target(kind, value)?, reason.clone());
    let shown = described(&target);
    let ban = Ban::new(target, reason, for_s.map(Duration::from_secs));
    let keeper = api.clone();
    let renewed = api
        .ask(move |control| {
            let renewed = control.ban(ban)?;
            keeper.keep_bans(control)?;
            Ok::<_, Problem>(renewed)
        })
        .await??;
    api.events.tell(|| Event { target: Some(shown), reason: Some(told), ..Event::new(EventKind::Banned) });
    Ok(Json(BanAnswer { disconnected: renewed.disconnected as u64 }))
}

/// Ends a ban.
#[utoipa::path(delete, path = "/api/v1/bans/{kind}/{value}", tag = "bans",
    params(
        ("kind" = BanKind, Path, description = "`address`, `client_id` or `user`"),
        ("value" = String, Path, description = "The address or range, client identifier or user name; slashes may stand as they are")
    ),
    responses(
        (status = 204, description = "It is ended."),
        (status = 404, description = "There is no such ban: `ban_not_found`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn remove(
    State(api): State<Api>,
    path: Result<Path<(BanKind, String)>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((kind, value)) = path?;
    let target = target(kind, value)?;
    let (keeper, shown) = (api.clone(), described(&target));
    api.ask(move |control| {
        if !control.unban(&target) {
            return Err(Problem::not_found("ban_not_found", "there is no such ban"));
        }
        keeper.events.tell(|| Event { target: Some(shown), ..Event::new(EventKind::Unbanned) });
        keeper.keep_bans(control)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await?
}

fn target(kind: BanKind, value: String) -> Result<BanTarget, Problem> {
    if value.is_empty() {
        return Err(Problem::invalid("value_invalid", "`value` is empty"));
    }
    Ok(match kind {
        BanKind::Address => {
            BanTarget::Address(value.parse().map_err(|error: lapwing_broker::NetworkError| {
                Problem::invalid("address_invalid", error.to_string())
            })?)
        }
        BanKind::ClientId => BanTarget::ClientId(value),
        BanKind::User => BanTarget::User(value),
    })
}

/// `client_id door_1`, and the like.
fn described(target: &BanTarget) -> String {
    let (kind, value) = shown(target);
    format!("{} {}", kind.name(), cut(&value))
}

fn shown(target: &BanTarget) -> (BanKind, String) {
    match target {
        BanTarget::Address(range) => (BanKind::Address, range.to_string()),
        BanTarget::ClientId(client_id) => (BanKind::ClientId, client_id.clone()),
        BanTarget::User(user) => (BanKind::User, user.clone()),
    }
}
