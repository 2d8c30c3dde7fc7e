//! Why a peer is not trusted: facts, Go's words for them, and one remedy.

use std::fmt;
use std::sync::Arc;

use crate::certificate::{Certificate, CertificateError};
use crate::explain::{self, Remedy};
use crate::host_name::{Mismatch, PeerName};
use crate::moment::Moment;
use crate::store::{Consulted, Generation, SkippedBlock, Store};
use crate::verify::Usage;

/// What exactly failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reason {
    /// A served certificate (0 is the leaf) is malformed.
    Unparsable {
        /// Its place in what was served.
        position: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// The leaf has critical extensions that are not understood; dotted object identifiers.
    UnknownCriticalExtension(Vec<String>),
    /// The leaf has expired or is not valid yet; the detail names both times.
    OutsideValidity(String),
    /// No SAN, only a common name, which would have matched.
    LegacyCommonName,
    /// The peer was called by address and the certificate has no IP SAN.
    NoIpNames,
    /// None of the certificate's names is the peer's.
    WrongName(Vec<String>),
    /// No path leads to a trusted certificate.
    UnknownAuthority {
        /// The first certificate that had an issuer's name but was refused: its name and why.
        rejected: Option<(String, String)>,
        /// The last certificate of the longest attempt.
        missing_issuer_of: Option<Arc<Certificate>>,
    },
    /// The issuer is known, but may not vouch: it has expired, may not have so many CAs below it, or has critical
    /// extensions that are not understood.
    IssuerNotEntitled {
        /// The issuer.
        issuer: Arc<Certificate>,
        /// Why, in Go's words.
        why: String,
    },
    /// More candidates for issuers than are tried in one handshake.
    SignatureLimit,
    /// More names and constraints than are compared in one handshake.
    ConstraintLimit,
    /// A certificate of every path is for another use.
    IncompatibleUsage,
    /// An issuer's name constraints forbid a name.
    NameNotPermitted(String),
    /// Policy constraints of an issuer are not met.
    InvalidPolicies,
    /// The leaf's own RSA key has this many bits; 2048 to 8192 can be used.
    RsaSize(usize),
    /// The leaf's own key is of a kind that no handshake can use.
    UnsupportedKey,
}

impl From<Mismatch> for Reason {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::LegacyCommonName => Self::LegacyCommonName,
            Mismatch::NoIpNames => Self::NoIpNames,
            Mismatch::OtherNames(names) => Self::WrongName(names),
        }
    }
}

/// A peer's certificates were refused.
///
/// `Display` is one line that begins with the words Go uses, since people and monitoring search for them
/// (`runner-tls.md` 2.7); [`explain`](Self::explain) tells the whole story.
#[derive(Debug, Clone)]
pub struct VerifyError(Box<Facts>);

#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) reason: Reason,
    pub(crate) peer: Option<PeerName>,
    pub(crate) port: u16,
    pub(crate) proxy: Option<String>,
    /// Who issues the certificate that is seen without the proxy, when that was looked at.
    pub(crate) direct_issuer: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) received: Vec<Arc<Certificate>>,
    pub(crate) consulted: Vec<Consulted>,
    /// Different certificates of the platform's store.
    pub(crate) system_certificates: usize,
    /// Those that somebody may have meant as certificates.
    pub(crate) skipped: Vec<SkippedBlock>,
    pub(crate) generation: Generation,
    pub(crate) checked_at: Moment,
}

impl std::error::Error for VerifyError {}

impl VerifyError {
    pub(crate) fn new(
        reason: Reason,
        peer: Option<&PeerName>,
        received: &[Arc<Certificate>],
        store: &Store,
        checked_at: Moment,
        usage: Usage,
    ) -> Self {
        let worrying = |block: &&SkippedBlock| !block.reason.is_harmless();
        Self(Box::new(Facts {
            reason,
            peer: peer.cloned(),
            port: 443,
            proxy: None,
            direct_issuer: None,
            usage,
            received: received.to_vec(),
            consulted: store.consulted().to_vec(),
            system_certificates: store
                .certificates()
                .iter()
                .filter(|one| explain::is_system(one.source()))
                .count(),
            skipped: store.skipped().iter().filter(worrying).cloned().collect(),
            generation: store.generation(),
            checked_at,
        }))
    }

    /// Names the port in commands; 443 otherwise.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.0.port = port;
        self
    }

    /// Names the proxy that the connection went through, without its credentials.
    #[must_use]
    pub fn through_proxy(mut self, proxy: Option<String>) -> Self {
        self.0.proxy = proxy;
        self
    }

    /// Tells who issued the certificate that the same server shows without the proxy; another issuer than the one
    /// received means that the proxy replaces certificates.
    #[must_use]
    pub fn with_direct_issuer(mut self, issuer: String) -> Self {
        self.0.direct_issuer = Some(issuer);
        self
    }

    /// The proxy that the connection went through.
    pub fn proxy(&self) -> Option<&str> {
        self.0.proxy.as_deref()
    }

    /// What failed.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// The name by which the peer was called.
    pub fn peer(&self) -> Option<&PeerName> {
        self.0.peer.as_ref()
    }

    /// The certificates that the peer served and that could be read, leaf first.
    pub fn received(&self) -> &[Arc<Certificate>] {
        &self.0.received
    }

    /// Where trusted certificates were looked for, a line each; none when nothing was given.
    pub fn trusted_here(&self) -> Vec<String> {
        explain::trusted_here(&self.0)
    }

    /// The one thing to do about it.
    pub fn remedy(&self) -> Remedy {
        explain::remedy(&self.0)
    }

    /// The link without which no path can be built, when that is what failed.
    pub fn missing_link(&self) -> Option<String> {
        explain::missing_link(&self.0)
    }

    /// The section of `docs/trust-errors.md` that treats this fault.
    pub fn help(&self) -> &'static str {
        explain::help(&self.0)
    }

    /// Several lines: the summary, what was served, the missing link, what is trusted here, the remedy, where to read
    /// on. No final newline.
    pub fn explain(&self) -> String {
        explain::story(&self.to_string(), &self.0, &self.remedy())
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &*self.0;
        let peer = facts.peer.as_ref().map(PeerName::to_string);
        let peer = peer.as_deref().unwrap_or("the peer");
        match &facts.reason {
            Reason::Unparsable { error, .. } => {
                write!(
                    f,
                    "tls: failed to parse certificate from server: x509: {error}"
                )
            }
            Reason::UnknownCriticalExtension(_) => {
                f.write_str("x509: unhandled critical extension")
            }
            Reason::OutsideValidity(detail) => write!(
                f,
                "x509: certificate has expired or is not yet valid: {detail}"
            ),
            Reason::LegacyCommonName => f.write_str(
                "x509: certificate relies on legacy Common Name field, use SANs instead",
            ),
            Reason::NoIpNames => write!(
                f,
                "x509: cannot validate certificate for {peer} because it doesn't contain any IP SANs"
            ),
            Reason::WrongName(names) if names.is_empty() => write!(
                f,
                "x509: certificate is not valid for any names, but wanted to match {peer}"
            ),
            Reason::WrongName(names) if names.len() >= 100 => write!(
                f,
                "x509: certificate is valid for {} names, but none matched {peer}",
                names.len()
            ),
            Reason::WrongName(names) => write!(
                f,
                "x509: certificate is valid for {}, not {peer}",
                names.join(", ").escape_debug()
            ),
            Reason::UnknownAuthority { rejected: None, .. } => {
                f.write_str("x509: certificate signed by unknown authority")
            }
            Reason::UnknownAuthority {
                rejected: Some((name, why)),
                ..
            } => write!(
                f,
                "x509: certificate signed by unknown authority (possibly because of {why:?} while trying to verify \
                 candidate authority certificate {name:?})"
            ),
            Reason::IssuerNotEntitled { issuer, why } => {
                write!(
                    f,
                    "{why} (candidate authority certificate {issuer})",
                    issuer = issuer.subject()
                )
            }
            Reason::SignatureLimit => f.write_str(
                "x509: signature check attempts limit reached while verifying certificate chain",
            ),
            Reason::ConstraintLimit => f.write_str(
                "x509: too many name constraint comparisons while verifying certificate chain",
            ),
            Reason::IncompatibleUsage => {
                f.write_str("x509: certificate specifies an incompatible key usage")
            }
            Reason::NameNotPermitted(detail) => write!(
                f,
                "x509: a root or intermediate certificate is not authorized to sign for this name: {detail}"
            ),
            Reason::InvalidPolicies => {
                f.write_str("x509: no valid chains built: candidate chains with invalid policies")
            }
            Reason::RsaSize(bits) => write!(
                f,
                "tls: server sent certificate containing RSA key of {bits} bits, 2048 to 8192 can be used"
            ),
            Reason::UnsupportedKey => {
                f.write_str("tls: server's certificate contains an unsupported type of public key")
            }
        }
    }
}
