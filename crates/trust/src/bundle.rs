//! Trust for programs that are not ours: one bundle of the system's certificates and the private anchors.
//!
//! Other programs take every certificate of a bundle for an authority over all names. So only certificates that may
//! issue server certificates go in from the private part: never a pinned server, nothing that the operator keeps back.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::certificate::{Certificate, Fingerprint};
use crate::pem;
use crate::store::{Source, Store, TrustedCertificate};
use crate::truststore;
use crate::verify::{Usage, permits};

/// Certificates for other programs. The same stores and the same limit give the same bytes.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    private: Vec<TrustedCertificate>,
    system: Vec<TrustedCertificate>,
    left_out: Vec<LeftOut>,
}

/// A private certificate that other programs do not get.
#[derive(Debug, Clone)]
pub struct LeftOut {
    /// The certificate.
    pub trusted: TrustedCertificate,
    /// Why.
    pub because: LeftOutBecause,
}

/// Why a private certificate stays out of a [`Bundle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOutBecause {
    /// It is a pin: a server's own certificate, trusted for itself only.
    NotAnAuthority,
    /// Its key usage does not allow it to sign certificates.
    MayNotSign,
    /// Its extended key usage does not allow it to stand for servers.
    NotForServers,
    /// The operator's list does not name it.
    KeptBack,
}

impl fmt::Display for LeftOutBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnAuthority => "it is no CA certificate and stands for itself only",
            Self::MayNotSign => "its key usage does not allow it to sign certificates",
            Self::NotForServers => "its extended key usage does not allow it to issue for servers",
            Self::KeptBack => "the configured list of fingerprints does not name it",
        })
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.trusted.certificate();
        write!(
            f,
            "{} ({} line {}, SHA-256 {}): {}",
            certificate.subject(),
            self.trusted.source(),
            self.trusted.line(),
            certificate.fingerprint(),
            self.because
        )
    }
}

impl Bundle {
    /// Everything of `system`, and of `configured` what was read from configured and predefined files and is an
    /// authority for servers. With a `limit`, only the anchors of these fingerprints.
    pub fn compose(system: &Store, configured: &Store, limit: Option<&[Fingerprint]>) -> Self {
        let mut bundle = Self::default();
        let mut taken = HashSet::new();
        for trusted in configured.certificates() {
            if !matches!(
                trusted.source(),
                Source::Configured(_) | Source::Predefined(_)
            ) {
                continue;
            }
            match reason_to_leave_out(trusted.certificate(), limit) {
                Some(because) => bundle.left_out.push(LeftOut {
                    trusted: trusted.clone(),
                    because,
                }),
                None => {
                    taken.insert(trusted.certificate().fingerprint());
                    bundle.private.push(trusted.clone());
                }
            }
        }
        let rest = system.certificates().iter();
        bundle.system = rest
            .filter(|trusted| !taken.contains(&trusted.certificate().fingerprint()))
            .cloned()
            .collect();
        bundle
    }

    /// The private anchors in it, in the order of their files.
    pub fn private(&self) -> &[TrustedCertificate] {
        &self.private
    }

    /// The certificates that are the system's only.
    pub fn system(&self) -> &[TrustedCertificate] {
        &self.system
    }

    /// How many certificates are the system's only.
    pub fn system_count(&self) -> usize {
        self.system.len()
    }

    /// The private certificates that are not in it.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Private anchors whose own issuer is not in it. Go, curl and GnuTLS stop at any anchor; OpenSSL's default, and so
    /// Node and Python, go on to a self-signed one and fail where there is none.
    pub fn without_root(&self) -> impl Iterator<Item = &TrustedCertificate> {
        let all = || self.private.iter().chain(&self.system);
        let subjects: HashSet<&[u8]> = all()
            .map(|trusted| trusted.certificate().subject_der())
            .collect();
        let private = self.private.iter();
        private.filter(move |trusted| !subjects.contains(trusted.certificate().issuer_der()))
    }

    /// PEM text, the private anchors first; a comment before each certificate says whose it is and where it was read.
    pub fn pem(&self) -> String {
        let all = || self.private.iter().chain(&self.system);
        let bytes: usize = all().map(|trusted| trusted.certificate().der().len()).sum();
        let mut text =
            String::with_capacity(bytes * 7 / 5 + (self.private.len() + self.system.len()) * 200);
        for trusted in all() {
            push_pem(&mut text, trusted);
        }
        text
    }

    /// The same certificates as a PKCS#12 truststore for Java, without encryption and without a password.
    pub fn truststore(&self) -> Vec<u8> {
        let entries = |label: &'static str, list: &'_ [TrustedCertificate]| {
            let entry = move |trusted: &TrustedCertificate| {
                let certificate = Arc::clone(trusted.certificate());
                (
                    format!("{label}-{}", certificate.fingerprint()),
                    certificate,
                )
            };
            list.iter().map(entry).collect::<Vec<_>>()
        };
        let mut all = entries("private", &self.private);
        all.extend(entries("system", &self.system));
        truststore::encode(all.iter().map(|(alias, certificate)| truststore::Entry {
            alias,
            certificate: certificate.der(),
        }))
    }
}

fn reason_to_leave_out(
    certificate: &Certificate,
    limit: Option<&[Fingerprint]>,
) -> Option<LeftOutBecause> {
    let extensions = certificate.extensions();
    // A version 1 root has no extensions to say what it is (`dependencies.md` 3.2).
    let is_authority =
        certificate.is_ca() || (certificate.version() < 3 && certificate.is_self_issued());
    if !is_authority {
        Some(LeftOutBecause::NotAnAuthority)
    } else if !extensions.key_usage.may_sign_certificates() {
        Some(LeftOutBecause::MayNotSign)
    } else if !permits(certificate, Usage::ServerAuth) {
        Some(LeftOutBecause::NotForServers)
    } else if limit.is_some_and(|limit| !limit.contains(&certificate.fingerprint())) {
        Some(LeftOutBecause::KeptBack)
    } else {
        None
    }
}

fn push_pem(text: &mut String, trusted: &TrustedCertificate) {
    let certificate = trusted.certificate();
    let comment = format!(
        "# {}\n# {}, line {}\n",
        pem::one_line(&certificate.subject().to_string()),
        pem::one_line(&trusted.source().to_string()),
        trusted.line()
    );
    text.push_str(&comment);
    text.push_str(&pem::encode(certificate.der()));
}

#[cfg(test)]
mod tests;
