//! What is kept of a password: a hash from which it cannot be had back.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Bytes of a salt that is made here.
const SALT_BYTES: usize = 16;
/// Bytes of a hash that is made here.
const HASH_BYTES: usize = 32;
/// The most memory that a hash may ask for, in KiB: whoever can write the file should not take the machine down by accident.
const MEMORY_KIB_MAXIMUM: u32 = 1024 * 1024;
/// The most passes, or iterations of PBKDF2, that a hash may ask for.
const PASSES_MAXIMUM: u32 = 100;
const ITERATIONS_MAXIMUM: u32 = 10_000_000;

/// What a new hash costs whoever guesses passwords, and each first login. The defaults are what OWASP recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Lanes, which one thread computes one after the other.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

/// A hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    method: Method,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Argon2id(Cost),
    /// Mosquitto's `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2(NonZeroU32),
    /// Mosquitto's `$6$`: SHA-512 of the password and the salt, once.
    Sha512,
}

/// Why a text is no hash that can be used. It does not show the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It is none of the forms that are known.
    #[error("is no hash of a password; there are $argon2id$ and Mosquitto's $7$ and $6$")]
    Unknown,
    /// Its parts are not what its form asks for.
    #[error("is not a whole hash: it was cut or changed")]
    Malformed,
    /// It would take too much memory or time.
    #[error("asks for too much: at most 1 GiB and 100 passes, or 10,000,000 iterations")]
    TooCostly,
    /// The cost is too low for the algorithm.
    #[error("the cost is none: memory_kib must be at least 8 for each lane, passes and lanes at least 1")]
    TooCheap,
    /// There is no randomness for a salt.
    #[error("the system gives no random bytes for a salt")]
    Random,
}

/// Memory in which hashes are computed. Whoever verifies many keeps one.
#[derive(Default)]
pub struct Workspace(Vec<Block>);

impl PasswordHash {
    /// Hashes a password with a salt of its own.
    ///
    /// # Errors
    ///
    /// If the cost cannot be, or there is no randomness.
    pub fn new(password: &[u8], cost: Cost, workspace: &mut Workspace) -> Result<Self, HashError> {
        let mut salt = vec![0; SALT_BYTES];
        ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| HashError::Random)?;
        let mut hash = vec![0; HASH_BYTES];
        argon2id(password, &salt, cost, workspace, &mut hash)?;
        Ok(Self { method: Method::Argon2id(cost), salt: salt.into(), hash: hash.into() })
    }

    /// Reads the text of a hash.
    ///
    /// # Errors
    ///
    /// If it is none, whole and affordable.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let mut parts = text.split('$');
        let (before, name) = (parts.next(), parts.next());
        let parts: Vec<&str> = parts.collect();
        match (before, name, &*parts) {
            (Some(""), Some("argon2id"), parts) => Self::parse_argon2id(parts),
            (Some(""), Some("7"), [iterations, salt, hash]) => {
                let iterations = number(iterations).and_then(NonZeroU32::new).ok_or(HashError::Malformed)?;
                if iterations.get() > ITERATIONS_MAXIMUM {
                    return Err(HashError::TooCostly);
                }
                Self::with_sha512(Method::Pbkdf2(iterations), salt, hash)
            }
            (Some(""), Some("6"), [salt, hash]) => Self::with_sha512(Method::Sha512, salt, hash),
            (Some(""), Some("7" | "6"), _) => Err(HashError::Malformed),
            _ => Err(HashError::Unknown),
        }
    }

    fn parse_argon2id(parts: &[&str]) -> Result<Self, HashError> {
        let ["v=19", parameters, salt, hash] = parts else { return Err(HashError::Malformed) };
        let mut values = parameters.split(',');
        let mut value = |name: &str| {
            let text = values.next().and_then(|text| text.strip_prefix(name));
            text.and_then(number).ok_or(HashError::Malformed)
        };
        let cost = Cost { memory_kib: value("m=")?, passes: value("t=")?, lanes: value("p=")? };
        if values.next().is_some() {
            return Err(HashError::Malformed);
        }
        cost.check()?;
        let (salt, hash) = (decode(&BASE64_STANDARD_NO_PAD, salt)?, decode(&BASE64_STANDARD_NO_PAD, hash)?);
        if !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
            return Err(HashError::Malformed);
        }
        Ok(Self { method: Method::Argon2id(cost), salt, hash })
    }

    fn with_sha512(method: Method, salt: &str, hash: &str) -> Result<Self, HashError> {
        let (salt, hash) = (decode(&BASE64_STANDARD, salt)?, decode(&BASE64_STANDARD, hash)?);
        if salt.is_empty() || hash.len() != ring::digest::SHA512_OUTPUT_LEN {
            return Err(HashError::Malformed);
        }
        Ok(Self { method, salt, hash })
    }

    /// Whether it is the hash of this password. It takes about the same time whatever the answer.
    pub fn verify(&self, password: &[u8], workspace: &mut Workspace) -> bool {
        match self.method {
            Method::Argon2id(cost) => {
                let mut hash = vec![0; self.hash.len()];
                argon2id(password, &self.salt, cost, workspace, &mut hash).is_ok()
                    && bool::from(hash.ct_eq(&self.hash))
            }
            Method::Pbkdf2(iterations) => {
                let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA512;
                ring::pbkdf2::verify(algorithm, iterations, &self.salt, password, &self.hash).is_ok()
            }
            Method::Sha512 => {
                let mut context = ring::digest::Context::new(&ring::digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                context.finish().as_ref().ct_eq(&self.hash).into()
            }
        }
    }

    /// A hash of no password at all, that costs as much as another one, or as a new one.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub(super) fn of_nothing(like: Option<&Self>) -> Result<Self, HashError> {
        let method = like.map_or(Method::Argon2id(Cost::default()), |hash| hash.method);
        let mut salt = vec![0; SALT_BYTES];
        let mut hash = vec![0; like.map_or(HASH_BYTES, |hash| hash.hash.len())];
        let random = ring::rand::SystemRandom::new();
        random.fill(&mut salt).and_then(|()| random.fill(&mut hash)).map_err(|_| HashError::Random)?;
        Ok(Self { method, salt: salt.into(), hash: hash.into() })
    }

    /// Whether it is of the same kind and cost.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.method == other.method
    }

    /// The cost of computing it, where it is one of ours.
    pub fn cost(&self) -> Option<Cost> {
        match self.method {
            Method::Argon2id(cost) => Some(cost),
            Method::Pbkdf2(_) | Method::Sha512 => None,
        }
    }

    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match self.method {
            Method::Argon2id(_) => "argon2id",
            Method::Pbkdf2(_) => "pbkdf2-sha512",
            Method::Sha512 => "sha512",
        }
    }

    /// As it is kept in a file.
    pub fn to_text(&self) -> String {
        let Self { method, salt, hash } = self;
        match method {
            Method::Argon2id(Cost { memory_kib, passes, lanes }) => {
                let (salt, hash) = (BASE64_STANDARD_NO_PAD.encode(salt), BASE64_STANDARD_NO_PAD.encode(hash));
                format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
            }
            Method::Pbkdf2(iterations) => {
                format!("$7${iterations}${}${}", BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hash))
            }
            Method::Sha512 => format!("$6${}${}", BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hash)),
        }
    }
}

impl Cost {
    /// Whether it can be, and is affordable.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(self) -> Result<(), HashError> {
        if self.memory_kib > MEMORY_KIB_MAXIMUM || self.passes > PASSES_MAXIMUM {
            return Err(HashError::TooCostly);
        }
        self.params().map(drop)
    }

    fn params(self) -> Result<Params, HashError> {
        let Self { memory_kib, passes, lanes } = self;
        Params::new(memory_kib, passes, lanes, None).map_err(|_| HashError::TooCheap)
    }
}

fn argon2id(
    password: &[u8],
    salt: &[u8],
    cost: Cost,
    Workspace(memory): &mut Workspace,
    hash: &mut [u8],
) -> Result<(), HashError> {
    let params = cost.params()?;
    if memory.len() < params.block_count() {
        memory.resize(params.block_count(), Block::new());
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into_with_memory(password, salt, hash, memory).map_err(|_| HashError::Malformed)
}

fn decode(base64: &GeneralPurpose, text: &str) -> Result<Box<[u8]>, HashError> {
    base64.decode(text).map(Into::into).map_err(|_| HashError::Malformed)
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({})", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, so that tests are.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn verify(hash: &str, password: &str) -> bool {
        PasswordHash::parse(hash).unwrap().verify(password.as_bytes(), &mut Workspace::default())
    }

    #[test]
    fn a_hash_is_of_its_password_and_of_no_other() {
        let mut workspace = Workspace::default();
        for password in ["", "secret", "pass word ü", &"x".repeat(65_535)] {
            let hash = PasswordHash::new(password.as_bytes(), CHEAP, &mut workspace).unwrap();
            let again = PasswordHash::parse(&hash.to_text()).unwrap();
            assert_eq!(again, hash);
            assert!(again.verify(password.as_bytes(), &mut workspace));
            assert!(!again.verify(format!("{password}x").as_bytes(), &mut workspace));
            let other = PasswordHash::new(password.as_bytes(), CHEAP, &mut workspace).unwrap();
            assert_ne!(other.to_text(), hash.to_text(), "each has a salt of its own");
            assert_eq!(format!("{hash:?}"), "PasswordHash(argon2id)");
        }
    }

    /// A workspace that served a costlier hash is as good for a cheap one.
    #[test]
    fn a_workspace_serves_one_hash_after_the_other() {
        let mut workspace = Workspace::default();
        let large = Cost { memory_kib: 64, passes: 1, lanes: 2 };
        let costs = [CHEAP, large, CHEAP];
        let hashes = costs.map(|cost| PasswordHash::new(b"secret", cost, &mut workspace).unwrap());
        assert!(hashes.iter().all(|hash| hash.verify(b"secret", &mut workspace)));
        assert!(hashes.iter().all(|hash| hash.verify(b"secret", &mut Workspace::default())));
    }

    /// From the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1`, and from
    /// `mosquitto_passwd` of Mosquitto 2.0.
    #[test]
    fn hashes_of_others_are_understood() {
        for (hash, password) in HASHES_OF_OTHERS {
            assert!(verify(hash, password), "{hash}");
            assert!(!verify(hash, "passwore"), "{hash}");
            assert_eq!(PasswordHash::parse(hash).unwrap().to_text(), *hash);
        }
    }

    const HASHES_OF_OTHERS: &[(&str, &str)] = &[
        (
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "password",
        ),
        (
            "$7$101$JyfWoE6bBiZvYufn$KC4ZcBP68Gzy+Kqi1dPp5NBZ39zxz5sFhV+RiCHjZlcLoyDjGMZeVgvYL93ruz76nfU2wUcQf5Tb4xj+p1p9\
             Mg==",
            "password",
        ),
        (
            "$6$c29tZXNhbHQxMjM0$rPNadxqEnuXgrc/kCXHkl4iIYSMXUQLU3Av8od00OukWEoI2PByjZg5PnCGwD2AOKONjNJJAJNgLL69B5VQ16w==",
            "password",
        ),
    ];

    #[test]
    fn a_text_that_is_no_hash_is_refused() {
        let salt = "c29tZXNhbHQ";
        let hash = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let long = BASE64_STANDARD.encode([7; 64]);
        for (text, expected) in [
            (String::new(), HashError::Unknown),
            ("secret".into(), HashError::Unknown),
            ("$5$x$y".into(), HashError::Unknown),
            (format!("x$argon2id$v=19$m=64,t=2,p=1${salt}${hash}"), HashError::Unknown),
            (format!("$argon2i$v=19$m=64,t=2,p=1${salt}${hash}"), HashError::Unknown),
            (format!("$argon2id$v=16$m=64,t=2,p=1${salt}${hash}"), HashError::Malformed),
            (format!("$argon2id$v=19$t=2,m=64,p=1${salt}${hash}"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=2,p=1,x=1${salt}${hash}"), HashError::Malformed),
            (format!("$argon2id$v=19$m=+64,t=2,p=1${salt}${hash}"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=2,p=1${salt}$"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=2,p=1$${hash}"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=2,p=1${salt}"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=2,p=1${salt}${hash}$"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=2,p=1${salt}$-{hash}"), HashError::Malformed),
            (format!("$argon2id$v=19$m=64,t=0,p=1${salt}${hash}"), HashError::TooCheap),
            (format!("$argon2id$v=19$m=1,t=1,p=1${salt}${hash}"), HashError::TooCheap),
            (format!("$argon2id$v=19$m=4000000,t=1,p=1${salt}${hash}"), HashError::TooCostly),
            (format!("$argon2id$v=19$m=64,t=101,p=1${salt}${hash}"), HashError::TooCostly),
            (format!("$7$101$MTIz${long}$"), HashError::Malformed),
            (format!("$7$0$MTIz${long}"), HashError::Malformed),
            (format!("$7$20000000$MTIz${long}"), HashError::TooCostly),
            ("$7$101$MTIz$MTIz".into(), HashError::Malformed),
            (format!("$7$101$${long}"), HashError::Malformed),
            (format!("$6$MTIz$x{long}"), HashError::Malformed),
            ("$6$MTIz".into(), HashError::Malformed),
        ] {
            assert_eq!(PasswordHash::parse(&text).err(), Some(expected), "{text}");
        }
    }
}
