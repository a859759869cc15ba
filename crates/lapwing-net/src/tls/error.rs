use std::io;
use std::path::PathBuf;

/// Why certificates cannot be used. Each says which key of the configuration it is about, and which file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: cannot read {}: {error}", path.display())]
    Read {
        /// Of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is no PEM, or has nothing of what is needed in it.
    #[error("{key}: {} {fault}", path.display())]
    Content {
        /// Of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The key is that of another certificate.
    #[error("tls.key: the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        certificate: PathBuf,
    },
    /// Keys that need each other.
    #[error("{0}")]
    Incomplete(&'static str),
}
