//! Where certificates lie: the platform's store, configured files, predefined files.

use std::path::PathBuf;

/// Where the platform's own roots come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemRoots {
    /// As Go finds them; each override replaces its own half (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
    Platform {
        /// Value of `SSL_CERT_FILE`.
        file: Option<PathBuf>,
        /// Value of `SSL_CERT_DIR`, split at `:`.
        directories: Option<Vec<PathBuf>>,
    },
    /// None at all: for peers that we gave a certificate ourselves.
    None,
}

/// Everything that decides which servers are trusted on one leg, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSettings {
    /// The platform's roots.
    pub system: SystemRoots,
    /// `tls-ca-file`: its certificates are added to the system's.
    pub ca_file: Option<PathBuf>,
    /// `tls-cert-file`.
    pub cert_file: Option<PathBuf>,
    /// `tls-key-file`.
    pub key_file: Option<PathBuf>,
    /// Directory of predefined files `<host>.crt`, `<host>.auth.crt`, `<host>.auth.key`.
    pub certificate_directory: Option<PathBuf>,
    /// PEM text with further roots that never were a file (the coordinator of `courser exec`).
    pub inline_ca: Option<String>,
}
