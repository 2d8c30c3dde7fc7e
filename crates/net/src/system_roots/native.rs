//! The trusted roots of macOS (keychains, with their trust settings) and Windows (the user's `ROOT` store, which
//! includes the machine's). Untested on these systems.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courser_trust::Reading;

/// How the store is called in texts.
pub(super) const NAME: &str = if cfg!(windows) {
    "the certificate store ROOT"
} else {
    "the keychains"
};

/// The roots as PEM, as if they were one file. What the platform distrusts or has let expire is not among them.
///
/// The library would read `SSL_CERT_FILE` and `SSL_CERT_DIR` by itself; it is asked only where neither is set.
pub(super) fn read() -> Reading {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("Failed to load system CertPool: {error}");
    }
    if found.certs.is_empty() {
        return match found.errors.first() {
            Some(error) => Reading::Unreadable(error.to_string()),
            None => Reading::Absent,
        };
    }
    let mut pem = String::new();
    for certificate in &found.certs {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(certificate);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Reading::Bytes(pem.into_bytes())
}
