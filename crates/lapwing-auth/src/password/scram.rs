//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a proof of a password that does not show it.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2};

/// Bytes of each key.
pub(crate) const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const SALT_BYTES: usize = 16;
/// What RFC 7677 asks for at least, and what a client must be willing to compute.
const ITERATIONS_MINIMUM: u32 = 4096;
const ITERATIONS_MAXIMUM: u32 = 1_000_000;
/// Iterations of a verifier that is made here.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(15_000).expect("not 0");

/// What is kept of a password for SCRAM-SHA-256. Its text is that of PostgreSQL:
/// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: Box<[u8]>,
    pub(crate) stored_key: [u8; KEY_BYTES],
    pub(crate) server_key: [u8; KEY_BYTES],
}

/// Why there is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// The text is none.
    #[error("is no verifier; it is written SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY")]
    Malformed,
    /// The number of iterations is too low or too high.
    #[error("has fewer than 4,096 or more than 1,000,000 iterations")]
    Iterations,
    /// The password has characters that are not allowed.
    #[error("the password has characters that SCRAM does not allow")]
    Password,
    /// There is no randomness for a salt.
    #[error("the system gives no random bytes for a salt")]
    Random,
}

impl Verifier {
    /// Makes one of a password, with a salt of its own.
    ///
    /// # Errors
    ///
    /// If the password cannot be used so, or there is no randomness.
    pub fn new(password: &str) -> Result<Self, VerifierError> {
        let mut salt = [0; SALT_BYTES];
        ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| VerifierError::Random)?;
        Self::with_salt(password, &salt, ITERATIONS)
    }

    pub(crate) fn with_salt(
        password: &str,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Result<Self, VerifierError> {
        let salted = salted_password(password, salt, iterations)?;
        let client_key = sign(&salted, b"Client Key");
        Ok(Self {
            iterations,
            salt: salt.into(),
            stored_key: hash(&client_key),
            server_key: sign(&salted, b"Server Key"),
        })
    }

    /// Reads the text of one.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let malformed = VerifierError::Malformed;
        let rest = text.strip_prefix("SCRAM-SHA-256$").ok_or(malformed)?;
        let (cost, keys) = rest.split_once('$').ok_or(malformed)?;
        let (iterations, salt) = cost.split_once(':').ok_or(malformed)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(malformed)?;
        let is_number = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse::<NonZeroU32>().ok().filter(|_| is_number).ok_or(malformed)?;
        if !(ITERATIONS_MINIMUM..=ITERATIONS_MAXIMUM).contains(&iterations.get()) {
            return Err(VerifierError::Iterations);
        }
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| malformed);
        let key = |text: &str| decode(text)?.try_into().map_err(|_| malformed);
        let salt: Box<[u8]> = decode(salt)?.into();
        if salt.is_empty() {
            return Err(malformed);
        }
        Ok(Self { iterations, salt, stored_key: key(stored_key)?, server_key: key(server_key)? })
    }

    /// As it is kept in a file.
    pub fn to_text(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

pub(crate) fn salted_password(
    password: &str,
    salt: &[u8],
    iterations: NonZeroU32,
) -> Result<[u8; KEY_BYTES], VerifierError> {
    let password = stringprep::saslprep(password).map_err(|_| VerifierError::Password)?;
    let mut salted = [0; KEY_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
    Ok(salted)
}

/// HMAC with SHA-256.
pub(crate) fn sign(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = [0; KEY_BYTES];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

pub(crate) fn hash(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut hash = [0; KEY_BYTES];
    hash.copy_from_slice(digest.as_ref());
    hash
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_read_as_it_is_written() {
        let verifier = Verifier::new("pencil").unwrap();
        assert_eq!(Verifier::parse(&verifier.to_text()), Ok(verifier.clone()));
        assert_ne!(Verifier::new("pencil").unwrap(), verifier, "each has a salt of its own");
        assert_eq!(Verifier::new("a\u{7}").unwrap_err(), VerifierError::Password);
        assert_eq!(format!("{verifier:?}"), "Verifier(..)");
    }

    #[test]
    fn a_text_that_is_no_verifier_is_refused() {
        let whole = Verifier::new("pencil").unwrap().to_text();
        let (head, keys) = whole.rsplit_once('$').unwrap();
        for text in [
            "",
            "pencil",
            head,
            &whole[1..],
            &whole[..whole.len() - 4],
            &format!("{whole}="),
            &format!("{head}${keys}:"),
        ] {
            assert_eq!(Verifier::parse(text).err(), Some(VerifierError::Malformed), "{text}");
        }
        for iterations in ["4095", "1000001"] {
            let text = whole.replacen("15000", iterations, 1);
            assert_eq!(Verifier::parse(&text).err(), Some(VerifierError::Iterations), "{text}");
        }
        let text = whole.replacen("15000", "+5000", 1);
        assert_eq!(Verifier::parse(&text).err(), Some(VerifierError::Malformed));
    }
}
