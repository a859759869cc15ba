//! Files in PEM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::TlsError;

/// A file that a key of the configuration names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) key: &'static str,
    pub(super) path: &'a Path,
}

/// What a file is known by: another one has another stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// Where there is no file, that is the stamp.
    pub(super) fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map_or_else(
            |_| Self::default(),
            |it| Self { modified: it.modified().ok(), length: it.len(), inode: it.ino() },
        )
    }
}

impl Source<'_> {
    /// The certificates in it, one at least.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err(self.fault("has no certificate in it (-----BEGIN CERTIFICATE-----)")),
            Err(error) => Err(self.fault(format!("is not valid PEM: {error}"))),
        }
    }

    /// The first private key in it.
    pub(super) fn private_key(self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = zeroize::Zeroizing::new(self.read()?);
        if has(&bytes, b"ENCRYPTED") {
            let fault = "is encrypted with a passphrase, which Lapwing cannot ask for; take it off with `openssl pkey`";
            return Err(self.fault(fault));
        }
        // The error of the parser could repeat a part of the key.
        PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_| self.fault("has no private key in it (-----BEGIN PRIVATE KEY-----)"))
    }

    /// The revocation lists in it, one at least.
    pub(super) fn revocation_lists(self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let bytes = self.read()?;
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(lists) if !lists.is_empty() => Ok(lists),
            Ok(_) => Err(self.fault("has no revocation list in it (-----BEGIN X509 CRL-----)")),
            Err(error) => Err(self.fault(format!("is not valid PEM: {error}"))),
        }
    }

    /// Whether others than the owner and the group can read it.
    pub(super) fn is_open_to_others(self) -> bool {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(self.path).is_ok_and(|it| it.mode() & 0o007 != 0)
    }

    pub(super) fn fault(self, fault: impl Into<String>) -> TlsError {
        TlsError::Content { key: self.key, path: PathBuf::from(self.path), fault: fault.into() }
    }

    fn read(self) -> Result<Vec<u8>, TlsError> {
        let read = || -> io::Result<Vec<u8>> { fs::read(self.path) };
        read().map_err(|error| TlsError::Read { key: self.key, path: PathBuf::from(self.path), error })
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
