//! JSON Web Tokens (RFC 7519) as passwords.
//!
//! A token says by whom it was issued and what it claims; its signature shows that it is so. What a token says of its own signature
//! is not believed: each key is fixed to its algorithms, so that neither a token without a signature nor one that takes a public key for a
//! secret is looked at any further.

mod key;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claim;
use super::proof::{Opinion, Proof, Proven};
use crate::config::Jwt;
use crate::fault::FileError;
use crate::permission::{GROUP, Ruleset};
pub use key::Algorithm;
use key::Key;

/// Bytes of a token. It is a password, so MQTT allows 65,535.
const TOKEN_BYTES_MAXIMUM: usize = 32 * 1024;
/// Values that one claim may become attributes of.
const VALUES_MAXIMUM: usize = 256;

/// Verifies tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    keys: Vec<Key>,
    /// What makes a token good beside the keys, whose files are not named in it.
    terms: Arc<Jwt>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Tokens {
    /// With the keys of the files that the configuration names; `None` if it names none.
    pub(crate) fn read(config: &Jwt) -> Result<Option<Self>, FileError> {
        let mut keys = Vec::new();
        if let Some(path) = &config.secret_file {
            keys.push(Key::secret(path, &config.algorithms)?);
        }
        if let Some(path) = &config.key_file {
            keys.extend(Key::from_pem(path, &config.algorithms)?);
        }
        if let Some(path) = &config.jwks_file {
            keys.extend(Key::from_set(path, &config.algorithms)?);
        }
        let terms = Jwt { key_file: None, jwks_file: None, secret_file: None, ..config.clone() };
        Ok((!keys.is_empty()).then(|| Self { keys, terms: Arc::new(terms) }))
    }

    /// Whether a token that was signed by this key and read by these terms would be accepted.
    pub(super) fn accept(&self, key: &[u8; 32], terms: &Jwt) -> bool {
        *self.terms == *terms && self.keys.iter().any(|own| own.fingerprint() == *key)
    }

    /// What is to be said of a password that may be a token.
    pub(super) fn judge(&self, password: &[u8], now: SystemTime) -> Opinion {
        let Some(parts) = Parts::split(password) else { return Opinion::Unknown };
        match self.verify(&parts, now) {
            Ok(proven) => Opinion::Accept(proven),
            Err(reason) => Opinion::Refuse(reason),
        }
    }

    fn verify(&self, parts: &Parts<'_>, now: SystemTime) -> Result<Proven, &'static str> {
        if parts.header.crit.is_some() {
            return Err("the token asks for an extension that is not known");
        }
        let algorithm = serde_json::from_value(Value::String(parts.header.alg.clone()));
        let algorithm: Algorithm =
            algorithm.map_err(|_| "the token is signed by an algorithm that is not accepted")?;
        let is_named = |key: &&Key| match (&key.id, &parts.header.kid) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let key = self.keys.iter().filter(is_named);
        let key = { key }.find(|key| key.verify(algorithm, parts.signed.as_bytes(), &parts.signature));
        let key = key.ok_or("the token is not signed by a key that is accepted")?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(parts.payload).map_err(|_| MALFORMED)?;
        let claims: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| MALFORMED)?;
        let expires = self.check_times(&claims, now)?;
        self.check_parties(&claims)?;
        let user = claims.get(&self.terms.user_claim).and_then(Value::as_str);
        let user = user.filter(|user| !user.is_empty() && !user.contains('\0'));
        let user = user.ok_or("the token does not say whose it is")?;
        Ok(Proven {
            user: user.into(),
            attributes: self.attributes(&claims),
            client_ids: Arc::default(),
            account: None,
            proof: Proof::Token { key: key.fingerprint(), terms: Arc::clone(&self.terms) },
            rules: rules(&claims)?,
            expires,
        })
    }

    /// Whether the token holds now; until when.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<Option<SystemTime>, &'static str> {
        let leeway = Duration::from_secs(self.terms.leeway_s.into());
        if let Some(not_before) = time(claims, "nbf")?
            && not_before > now + leeway
        {
            return Err("the token does not hold yet");
        }
        match time(claims, "exp")? {
            None if self.terms.expiry_required => Err("the token has no end, which it must have"),
            None => Ok(None),
            Some(end) => match end.checked_add(leeway) {
                Some(end) if end > now => Ok(Some(end)),
                _ => Err("the token has expired"),
            },
        }
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), &'static str> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        if let Some(wanted) = &self.terms.issuer
            && text("iss") != Some(wanted)
        {
            return Err("the token is of another issuer");
        }
        if let Some(wanted) = &self.terms.audience {
            let is_for_us = match claims.get("aud") {
                Some(Value::Array(list)) => list.iter().any(|own| own.as_str() == Some(wanted)),
                Some(own) => own.as_str() == Some(wanted),
                None => false,
            };
            if !is_for_us {
                return Err("the token is for another audience");
            }
        }
        Ok(())
    }

    /// Claims that are texts, or lists of them.
    fn attributes(&self, claims: &Map<String, Value>) -> Arc<[(Arc<str>, Arc<str>)]> {
        let groups = self.terms.group_claim.as_deref().map(|claim| (GROUP, claim));
        let others = self.terms.attribute_claims.iter().map(|claim| (claim.as_str(), claim.as_str()));
        let values = groups.into_iter().chain(others).flat_map(|(name, claim)| {
            let values = match claims.get(claim) {
                Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
                Some(Value::String(value)) => vec![value.as_str()],
                _ => Vec::new(),
            };
            values.into_iter().take(VALUES_MAXIMUM).map(move |value| (name.into(), value.into()))
        });
        values.collect()
    }
}

const MALFORMED: &str = "the token is malformed";

/// A token in its parts.
struct Parts<'a> {
    /// What the signature is of.
    signed: &'a str,
    payload: &'a str,
    header: Header,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// `None` for what is no token, and perhaps a password.
    fn split(password: &'a [u8]) -> Option<Self> {
        if password.len() > TOKEN_BYTES_MAXIMUM {
            return None;
        }
        let text = std::str::from_utf8(password).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).ok()?;
        let header = serde_json::from_slice(&header).ok()?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { signed, payload, header, signature })
    }
}

/// Whether a password looks as tokens do.
pub(super) fn is_token(password: &[u8]) -> bool {
    Parts::split(password).is_some()
}

/// A point in time, in seconds. One that is there and cannot be read is not passed over.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or(MALFORMED)?;
    let since = Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| MALFORMED)?;
    UNIX_EPOCH.checked_add(since).map(Some).ok_or(MALFORMED)
}

/// The rules of the claim `acl`.
fn rules(claims: &Map<String, Value>) -> Result<Option<Arc<Ruleset>>, &'static str> {
    let Some(acl) = claims.get("acl") else { return Ok(None) };
    let rules = claim::rules(acl, Path::new("token"));
    rules.map(Some).map_err(|_| "the token has permissions that cannot be read")
}

#[cfg(test)]
mod tests;
