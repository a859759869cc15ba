//! Tokens with a name and a role, beside the one of the data directory. Only their digests are kept.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use crate::audit::Deed;
use crate::problem::Problem;
use crate::role::Role;
use crate::router::Api;
use crate::timestamp::{CENTURY_S, rfc3339};
use crate::token::{Digest, Token, TokenError, digest, write_private};

/// Its name in a data directory.
const FILE: &str = "tokens.json";
/// The name of the token that the data directory has, which is no named one.
const OWNER: &str = "admin-token";
/// Bytes of a name.
const NAME_MAXIMUM: usize = 64;
/// Tokens that may have names: each request is compared with all of them.
const TOKENS_MAXIMUM: usize = 1000;

/// Who asks: whose token a request has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor {
    /// The name of the token.
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
}

/// What opens the admin channel: the token of the data directory, and those with names.
#[derive(Debug)]
pub struct Tokens {
    owner: Digest,
    /// Where the others are kept; `None` where they end with the process.
    file: Option<PathBuf>,
    named: RwLock<Vec<Named>>,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    role: Role,
    /// Of the token, in base64.
    #[serde(with = "base64_digest")]
    sha256: Digest,
    /// Seconds since the beginning of 1970.
    created_s: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires_s: Option<u64>,
}

/// Why a request has shown no token that opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// There is none, or none like it.
    Missing,
    /// It was one.
    Expired,
}

impl Tokens {
    /// `owner` may do everything. Those with names are kept in a data directory, if there is one.
    ///
    /// # Errors
    /// The file with them cannot be read, or has something else in it.
    pub fn open(owner: &Token, directory: Option<&FilePath>) -> Result<Self, TokenError> {
        let file = directory.map(|directory| directory.join(FILE));
        let named = match &file {
            Some(path) => read(path)?,
            None => Vec::new(),
        };
        Ok(Self { owner: owner.digest(), file, named: RwLock::new(named) })
    }

    /// Whose token this is. It takes as long for every token there is, and says nothing of how much of a wrong one was
    /// right.
    pub(crate) fn find(&self, presented: &str) -> Result<Actor, Unknown> {
        let presented = digest(presented);
        let is = |digest: &Digest| bool::from(digest.ct_eq(&presented));
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Err(Unknown::Missing);
        for token in named.iter().filter(|token| is(&token.sha256)) {
            found = match token.is_expired() {
                true => Err(Unknown::Expired),
                false => Ok(Actor { name: token.name.as_str().into(), role: token.role }),
            };
        }
        if is(&self.owner) { Ok(Actor { name: OWNER.into(), role: Role::Admin }) } else { found }
    }

    /// Whether the token of somebody who was let in still opens as much.
    pub(crate) fn holds(&self, actor: &Actor) -> bool {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let is_same = |token: &Named| token.name == *actor.name && token.role == actor.role;
        *actor.name == *OWNER || named.iter().any(|token| is_same(token) && !token.is_expired())
    }

    /// Makes a token with a name.
    fn add(&self, name: &str, role: Role, lasts: Option<Duration>) -> Result<(Token, Named), Problem> {
        check_name(name)?;
        let token =
            Token::generate().map_err(|error| Problem::unavailable("no_randomness", error.to_string()))?;
        let expires_s = lasts.map(|lasts| now_s() + lasts.as_secs());
        let entry =
            Named { name: name.to_owned(), role, sha256: token.digest(), created_s: now_s(), expires_s };
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let conflict = |code, detail: String| Err(Problem::new(StatusCode::CONFLICT, code, detail));
        if named.iter().any(|token| token.name == name) {
            return conflict("token_exists", format!("there is a token '{name}': remove it first"));
        }
        if named.len() >= TOKENS_MAXIMUM {
            return conflict(
                "too_many_tokens",
                format!("there are {TOKENS_MAXIMUM} tokens: remove some first"),
            );
        }
        let mut next = named.clone();
        next.push(entry.clone());
        self.keep(&next).map_err(|error| {
            let detail = format!("there is no new token, since the list of them cannot be written: {error}");
            Problem::unavailable("tokens_not_kept", detail)
        })?;
        *named = next;
        Ok((token, entry))
    }

    /// Has a token open nothing any more, from this moment on.
    fn remove(&self, name: &str) -> Result<(), Problem> {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let before = named.len();
        named.retain(|token| token.name != name);
        if named.len() == before {
            return Err(Problem::not_found("token_not_found", "there is no token with this name"));
        }
        self.keep(&named).map_err(|error| {
            let detail = format!(
                "it opens nothing until the broker starts anew, and then it does again: the list of tokens cannot be \
                 written: {error}"
            );
            Problem::unavailable("tokens_not_kept", detail)
        })
    }

    fn all(&self) -> Vec<Named> {
        self.named.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, named: &[Named]) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        write_private(path, &serde_json::to_vec_pretty(named)?)
    }
}

impl Named {
    fn is_expired(&self) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s())
    }

    fn info(&self) -> TokenInfo {
        let text = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        TokenInfo {
            name: self.name.clone(),
            role: self.role,
            created_at: text(self.created_s),
            expires_at: self.expires_s.map(text),
            expired: self.is_expired(),
        }
    }
}

fn read(path: &FilePath) -> Result<Vec<Named>, TokenError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| TokenError::File(path.to_owned(), error))?,
    };
    let invalid = |reason: String| TokenError::List(path.to_owned(), reason);
    let named: Vec<Named> = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    for (at, token) in named.iter().enumerate() {
        check_name(&token.name).map_err(|problem| invalid(problem.detail))?;
        if named[..at].iter().any(|other| other.name == token.name) {
            return Err(invalid(format!("'{}' is in it twice", token.name)));
        }
    }
    Ok(named)
}

/// A name stands in paths and in lines of the log.
fn check_name(name: &str) -> Result<(), Problem> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAXIMUM || !name.bytes().all(is_plain) || name.starts_with('.') {
        let detail = format!(
            "the name of a token has up to {NAME_MAXIMUM} letters of ASCII, digits, '.', '_' and '-', and no '.' at its \
             beginning"
        );
        return Err(Problem::invalid("name_invalid", detail));
    }
    if name == OWNER {
        let detail = format!("'{OWNER}' is the name of the token in the data directory");
        return Err(Problem::invalid("name_invalid", detail));
    }
    Ok(())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

mod base64_digest {
    use super::{BASE64_STANDARD, Deserialize, Digest, Engine};

    pub(super) fn serialize<S: serde::Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(digest))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| serde::de::Error::custom("sha256 is no digest of 32 bytes in base64"))
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its name.
    #[schema(example = "prometheus")]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    #[schema(example = "2026-11-28T05:45:00Z")]
    pub created_at: String,
    /// When it ends; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "2026-12-28T05:45:00Z")]
    pub expires_at: Option<String>,
    /// Whether it has ended.
    pub expired: bool,
}

/// All tokens with names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// From the oldest to the newest.
    pub tokens: Vec<TokenInfo>,
}

/// A token to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Its name: up to 64 letters of ASCII, digits, `.`, `_` and `-`.
    #[schema(example = "prometheus", max_length = 64, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// After how many seconds it ends; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1, maximum = 3_162_240_000_u64)]
    pub expires_in_s: Option<u64>,
}

/// A token that was made. Its secret is shown here, and never again.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// The secret.
    #[schema(example = "lw_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    pub token: String,
    /// The rest of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The name of the token; `admin-token` for that of the data directory.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Whose token the request has, and what it may do.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "tokens",
    responses((status = 200, description = "The name and the role of the token.", body = Whoami)))]
pub(crate) async fn whoami(Extension(actor): Extension<Actor>) -> Json<Whoami> {
    Json(Whoami { name: actor.name.as_ref().to_owned(), role: actor.role })
}

/// The tokens that have names, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, description = "All of them, also those that have ended.", body = TokenList)))]
pub(crate) async fn list(State(api): State<Api>) -> Json<TokenList> {
    Json(TokenList { tokens: api.tokens.all().iter().map(Named::info).collect() })
}

/// Makes a token with a name and a role. Its secret is in the answer, and nowhere else: the broker keeps a digest.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses(
        (status = 201, description = "The token, with its secret.", body = TokenAnswer),
        (status = 400, description = "`name_invalid`, `expires_in_s_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`token_exists` or `too_many_tokens`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The list cannot be written, and there is no new token: `tokens_not_kept`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn add(
    State(api): State<Api>,
    Extension(deed): Extension<Deed>,
    request: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<TokenAnswer>), Problem> {
    let Json(TokenRequest { name, role, expires_in_s }) = request?;
    deed.is(format!("add token {name} with role {role}"));
    if !expires_in_s.is_none_or(|seconds| (1..=CENTURY_S).contains(&seconds)) {
        let detail =
            format!("`expires_in_s` is from 1 to {CENTURY_S}; leave it out for a token without an end");
        return Err(Problem::invalid("expires_in_s_invalid", detail));
    }
    let tokens = Arc::clone(&api.tokens);
    let lasts = expires_in_s.map(Duration::from_secs);
    let (token, entry) = api.ask(move |_| tokens.add(&name, role, lasts)).await??;
    let answer = TokenAnswer { token: token.reveal().to_owned(), info: entry.info() };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Has a token open nothing any more, from this moment on.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "The name of the token")),
    responses(
        (status = 204, description = "It opens nothing any more."),
        (status = 404, description = "There is no such token: `token_not_found`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It opens nothing until the broker starts anew, since the list cannot be written: `tokens_not_kept`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn remove(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    let tokens = Arc::clone(&api.tokens);
    api.ask(move |_| tokens.remove(&name)).await??;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn find(tokens: &Tokens, token: &Token) -> Result<(String, Role), Unknown> {
        tokens.find(token.reveal()).map(|actor| (actor.name.as_ref().to_owned(), actor.role))
    }

    #[test]
    fn a_token_is_found_by_its_digest_also_after_a_restart_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let owner = Token::generate().unwrap();
        let tokens = Tokens::open(&owner, Some(directory.path())).unwrap();
        let (viewer, _) = tokens.add("v", Role::Viewer, None).unwrap();
        let (operator, _) = tokens.add("o", Role::Operator, Some(Duration::from_secs(60))).unwrap();
        assert_eq!(tokens.add("v", Role::Admin, None).unwrap_err().code, "token_exists");
        let file = directory.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        for token in [&owner, &viewer, &operator] {
            assert!(!text.contains(token.reveal()) && !text.contains(&token.reveal()[3..]), "{text}");
        }
        let again = Tokens::open(&owner, Some(directory.path())).unwrap();
        for tokens in [&tokens, &again] {
            assert_eq!(find(tokens, &owner), Ok(("admin-token".to_owned(), Role::Admin)));
            assert_eq!(find(tokens, &viewer), Ok(("v".to_owned(), Role::Viewer)));
            assert_eq!(find(tokens, &operator), Ok(("o".to_owned(), Role::Operator)));
            assert_eq!(find(tokens, &Token::generate().unwrap()), Err(Unknown::Missing));
            assert_eq!(tokens.find(""), Err(Unknown::Missing));
        }
        again.remove("v").unwrap();
        assert_eq!(again.remove("v").unwrap_err().code, "token_not_found");
        let last = Tokens::open(&owner, Some(directory.path())).unwrap();
        for tokens in [&again, &last] {
            assert_eq!(find(tokens, &viewer), Err(Unknown::Missing));
            assert!(find(tokens, &operator).is_ok());
        }
    }

    #[test]
    fn a_token_ends_when_its_time_has_come() {
        let owner = Token::generate().unwrap();
        let tokens = Tokens::open(&owner, None).unwrap();
        let (token, _) = tokens.add("t", Role::Admin, Some(Duration::ZERO)).unwrap();
        assert_eq!(find(&tokens, &token), Err(Unknown::Expired));
        assert!(tokens.all()[0].info().expired);
    }

    #[test]
    fn a_list_that_cannot_be_written_gives_no_token_and_takes_one_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let owner = Token::generate().unwrap();
        let place = directory.path().join("data");
        std::fs::create_dir(&place).unwrap();
        let tokens = Tokens::open(&owner, Some(&place)).unwrap();
        let (token, _) = tokens.add("t", Role::Viewer, None).unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(tokens.add("u", Role::Viewer, None).unwrap_err().code, "tokens_not_kept");
        assert_eq!(tokens.all().len(), 1);
        assert_eq!(tokens.remove("t").unwrap_err().code, "tokens_not_kept");
        assert_eq!(find(&tokens, &token), Err(Unknown::Missing));
    }

    #[test]
    fn names_and_files_that_are_none_are_said() {
        for name in ["", "a b", "a/b", "ü", "..", "admin-token", &"x".repeat(65)] {
            assert_eq!(check_name(name).unwrap_err().code, "name_invalid", "{name}");
        }
        let directory = tempfile::tempdir().unwrap();
        let owner = Token::generate().unwrap();
        let digest = BASE64_STANDARD.encode([7; 32]);
        let entry = format!(r#"{{"name":"a","role":"viewer","sha256":"{digest}","created_s":1}}"#);
        for (text, expected) in [
            ("{}".to_owned(), "sequence"),
            (format!("[{entry},{entry}]"), "twice"),
            (format!("[{}]", entry.replace("viewer", "root")), "root"),
            (format!("[{}]", entry.replace(&digest, "AAAA")), "sha256"),
        ] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            let error = Tokens::open(&owner, Some(directory.path())).unwrap_err().to_string();
            assert!(error.contains("tokens.json") && error.contains(expected), "{error}");
        }
        std::fs::write(directory.path().join(FILE), format!("[{entry}]")).unwrap();
        assert!(Tokens::open(&owner, Some(directory.path())).is_ok());
    }
}
