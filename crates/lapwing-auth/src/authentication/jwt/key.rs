//! Keys that sign tokens, each for the algorithms that it is fixed to.

use std::fmt;
use std::path::Path;

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use x509_parser::oid_registry;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use crate::fault::{self, FileError};
use crate::secret::Secret;

/// An algorithm of JSON Web Signatures. There is none for tokens without a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "their names are those of RFC 7518")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// A key.
pub(super) struct Key {
    /// Its name among others.
    pub(super) id: Option<String>,
    algorithms: Vec<Algorithm>,
    material: Material,
}

enum Material {
    Secret(Secret),
    /// In the form of PKCS#1.
    Rsa(Vec<u8>),
    RsaComponents(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Bytes that a secret must have: fewer can be found by trying (RFC 7518 asks for as many as the hash has).
const SECRET_BYTES_MINIMUM: usize = 32;
/// Keys of one file.
const KEYS_MAXIMUM: usize = 64;

impl Key {
    /// Whether `signature` is one of `message` by this key and algorithm. An algorithm that is not the key's never is.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(&algorithm) {
            return false;
        }
        match &self.material {
            Material::Secret(secret) => hmac_algorithm(algorithm).is_some_and(|algorithm| {
                hmac::verify(&hmac::Key::new(algorithm, secret.reveal()), message, signature).is_ok()
            }),
            Material::Rsa(key) => rsa_parameters(algorithm).is_some_and(|parameters| {
                UnparsedPublicKey::new(parameters, key).verify(message, signature).is_ok()
            }),
            Material::RsaComponents(key) => rsa_parameters(algorithm)
                .is_some_and(|parameters| key.verify(parameters, message, signature).is_ok()),
            Material::P256(key) => verify(&signature::ECDSA_P256_SHA256_FIXED, key, message, signature),
            Material::P384(key) => verify(&signature::ECDSA_P384_SHA384_FIXED, key, message, signature),
            Material::Ed25519(key) => verify(&signature::ED25519, key, message, signature),
        }
    }

    /// A secret that the one who signs has as well.
    pub(super) fn secret(path: &Path, wanted: &[Algorithm]) -> Result<Self, FileError> {
        let bytes = std::fs::read(path)
            .map_err(|error| FileError::new(path, format_args!("cannot be read: {error}")))?;
        let bytes = bytes.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(bytes);
        if bytes.starts_with(b"-----BEGIN") {
            // Whoever has the public key could sign with it as a secret.
            return Err(FileError::new(
                path,
                "is a key in PEM, and no secret; name it in authentication.jwt.key_file",
            ));
        }
        Self::with_secret(None, bytes, wanted).map_err(|error| FileError::new(path, error))
    }

    fn with_secret(id: Option<String>, bytes: Vec<u8>, wanted: &[Algorithm]) -> Result<Self, &'static str> {
        if bytes.len() < SECRET_BYTES_MINIMUM {
            return Err("has a secret of less than 32 bytes, which can be found by trying");
        }
        Self::new(id, Material::Secret(Secret::new(bytes)), wanted)
    }

    /// The public keys of a file in PEM.
    pub(super) fn from_pem(path: &Path, wanted: &[Algorithm]) -> Result<Vec<Self>, FileError> {
        let text = fault::read(path)?;
        let mut keys = Vec::new();
        for pem in Pem::iter_from_buffer(text.as_bytes()) {
            let pem = pem.map_err(|_| FileError::new(path, "is no PEM"))?;
            let material = match pem.label.as_str() {
                "PUBLIC KEY" => public_key(&pem.contents),
                "RSA PUBLIC KEY" => Ok(Material::Rsa(pem.contents.clone())),
                "CERTIFICATE" => match X509Certificate::from_der(&pem.contents) {
                    Ok((_, certificate)) => material(certificate.public_key()),
                    Err(_) => Err("has a certificate that cannot be read"),
                },
                label if label.contains("PRIVATE KEY") => {
                    Err("is a private key, with which tokens are signed: what belongs here is the public one")
                }
                _ => Err("has something else than a public key or a certificate in it"),
            };
            let key = material.and_then(|material| Self::new(None, material, wanted));
            keys.push(key.map_err(|error| FileError::new(path, error))?);
        }
        check_count(path, keys)
    }

    /// The keys of a JSON Web Key Set.
    pub(super) fn from_set(path: &Path, wanted: &[Algorithm]) -> Result<Vec<Self>, FileError> {
        let text = fault::read(path)?;
        let set: KeySet = serde_json::from_str(&text).map_err(|error| {
            // Its message may show a value, and that may be a secret.
            FileError::at(path, error.line(), "is no JSON Web Key Set")
        })?;
        let mut keys = Vec::new();
        for (key, number) in set.keys.into_iter().zip(1..) {
            let key = key.read(wanted);
            let key = key.map_err(|error| FileError::new(path, format_args!("key {number} {error}")))?;
            keys.extend(key);
        }
        check_count(path, keys)
    }

    /// Fixed to those of `wanted` that such a key can have; with none wanted, to the usual one of its kind.
    fn new(id: Option<String>, material: Material, wanted: &[Algorithm]) -> Result<Self, &'static str> {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        let possible: &[Algorithm] = match material {
            Material::Secret(_) => &[HS256, HS384, HS512],
            Material::Rsa(_) | Material::RsaComponents(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            Material::P256(_) => &[ES256],
            Material::P384(_) => &[ES384],
            Material::Ed25519(_) => &[EdDSA],
        };
        let algorithms = match wanted {
            [] => vec![possible[0]],
            wanted => wanted.iter().copied().filter(|algorithm| possible.contains(algorithm)).collect(),
        };
        if algorithms.is_empty() {
            return Err("can be used with none of authentication.jwt.algorithms");
        }
        Ok(Self { id, algorithms, material })
    }
}

fn check_count(path: &Path, keys: Vec<Key>) -> Result<Vec<Key>, FileError> {
    match keys.len() {
        0 => Err(FileError::new(path, "has no key in it that could verify a token")),
        1..=KEYS_MAXIMUM => Ok(keys),
        _ => Err(FileError::new(path, format_args!("has more than {KEYS_MAXIMUM} keys"))),
    }
}

fn public_key(der: &[u8]) -> Result<Material, &'static str> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok((&[], info)) => material(&info),
        _ => Err("has a public key that cannot be read"),
    }
}

fn material(info: &SubjectPublicKeyInfo<'_>) -> Result<Material, &'static str> {
    let bytes = info.subject_public_key.data.to_vec();
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == oid_registry::OID_PKCS1_RSAENCRYPTION {
        return Ok(Material::Rsa(bytes));
    }
    if *algorithm == oid_registry::OID_SIG_ED25519 {
        return Ok(Material::Ed25519(bytes));
    }
    if *algorithm == oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        return match curve {
            Some(curve) if curve == oid_registry::OID_EC_P256 => Ok(Material::P256(bytes)),
            Some(curve) if curve == oid_registry::OID_NIST_EC_P384 => Ok(Material::P384(bytes)),
            _ => Err("has a key on a curve that is not offered; there are P-256 and P-384"),
        };
    }
    Err("has a key of a kind that is not offered; there are RSA, P-256, P-384 and Ed25519")
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

fn hmac_algorithm(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<WebKey>,
}

/// A key of a set (RFC 7517). What is not known of it is of no account.
#[derive(Deserialize)]
struct WebKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl WebKey {
    /// `None` for one that is not for signatures, or of a kind that is not offered.
    fn read(self, wanted: &[Algorithm]) -> Result<Option<Key>, &'static str> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Ok(None);
        }
        let decode = |text: &Option<String>| {
            let text = text.as_deref().ok_or("lacks a part")?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a part that is not base64url")
        };
        let point = |size: usize| {
            let (x, y) = (decode(&self.x)?, decode(&self.y)?);
            if x.len() != size || y.len() != size {
                return Err("has a point of another size than its curve");
            }
            Ok([&[4][..], &x, &y].concat())
        };
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                Material::RsaComponents(RsaPublicKeyComponents { n: decode(&self.n)?, e: decode(&self.e)? })
            }
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(decode(&self.x)?),
            ("oct", _) => {
                let algorithms = self.algorithms(wanted)?;
                return Key::with_secret(self.kid.clone(), decode(&self.k)?, &algorithms).map(Some);
            }
            _ => return Ok(None),
        };
        let algorithms = self.algorithms(wanted)?;
        Key::new(self.kid, material, &algorithms).map(Some)
    }

    /// A key that names its algorithm is fixed to it.
    fn algorithms(&self, wanted: &[Algorithm]) -> Result<Vec<Algorithm>, &'static str> {
        let Some(name) = &self.alg else { return Ok(wanted.to_vec()) };
        let own: Algorithm = serde_json::from_value(serde_json::Value::String(name.clone()))
            .map_err(|_| "names an algorithm that is not offered")?;
        if !wanted.is_empty() && !wanted.contains(&own) {
            return Err("names an algorithm that is not among authentication.jwt.algorithms");
        }
        Ok(vec![own])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, algorithms, .. } = self;
        f.debug_struct("Key").field("id", id).field("algorithms", algorithms).finish_non_exhaustive()
    }
}

/// Names a key for as long as it is the same.
impl Key {
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        match &self.material {
            Material::Secret(secret) => context.update(secret.reveal()),
            Material::Rsa(key) | Material::P256(key) | Material::P384(key) | Material::Ed25519(key) => {
                context.update(key);
            }
            Material::RsaComponents(key) => {
                context.update(&key.n);
                context.update(&key.e);
            }
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    }
}
