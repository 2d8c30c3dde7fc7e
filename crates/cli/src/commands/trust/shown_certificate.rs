//! A certificate as the `trust` commands show it.

use std::fmt::Write as _;

use courser_trust::{Certificate, TrustedCertificate};

/// The facts of a certificate, for JSON and text.
#[derive(Debug, serde::Serialize)]
pub(super) struct ShownCertificate {
    subject: String,
    issuer: String,
    self_issued: bool,
    ca: bool,
    dns_names: Vec<String>,
    not_before: String,
    not_after: String,
    fingerprint_sha256: String,
    /// Where it is trusted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<ShownSource>,
}

#[derive(Debug, serde::Serialize)]
struct ShownSource {
    name: String,
    line: usize,
}

impl ShownCertificate {
    /// A certificate that somebody sent.
    pub(super) fn new(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            self_issued: certificate.is_self_issued(),
            ca: certificate.is_ca(),
            dns_names: certificate.dns_names().to_vec(),
            not_before: certificate.not_before().to_string(),
            not_after: certificate.not_after().to_string(),
            fingerprint_sha256: certificate.fingerprint().to_string(),
            source: None,
        }
    }

    /// A certificate that is trusted here.
    pub(super) fn trusted(trusted: &TrustedCertificate) -> Self {
        Self {
            source: Some(ShownSource {
                name: trusted.source().to_string(),
                line: trusted.line(),
            }),
            ..Self::new(trusted.certificate())
        }
    }

    /// Several lines, the first one numbered.
    pub(super) fn write(&self, text: &mut String, number: usize) {
        let issuer = if self.self_issued {
            "itself"
        } else {
            &self.issuer
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {number}. {}\n     issued by {issuer}\n     valid from {} to {}, SHA-256 {}",
            self.subject, self.not_before, self.not_after, self.fingerprint_sha256
        );
        if let Some(source) = &self.source {
            let _ = writeln!(
                text,
                "     trusted from {}, line {}",
                source.name, source.line
            );
        }
    }
}
