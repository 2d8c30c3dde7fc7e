//! The verdict on a peer's certificates: pin or path, then name, usage, policies and name constraints.

use std::collections::HashSet;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::error::{Reason, VerifyError};
use crate::host_name::{self, PeerName};
use crate::moment::Moment;
use crate::name_constraints::{self, Violation};
use crate::path::{self, Path};
use crate::pem;
use crate::policies;
use crate::signature::{self, SignatureError};
use crate::store::{Generation, Store, TrustedCertificate};
use crate::work::{Exhausted, Work};

/// What the peer's certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// The peer is a server.
    ServerAuth,
    /// The peer is a client.
    ClientAuth,
}

impl Usage {
    fn object_identifier(self) -> &'static [u8] {
        match self {
            Self::ServerAuth => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
            Self::ClientAuth => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        }
    }
}

const ANY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];

/// One accepted chain.
#[derive(Debug, Clone)]
pub struct VerifiedChain {
    certificates: Vec<Arc<Certificate>>,
    anchor: TrustedCertificate,
}

impl VerifiedChain {
    /// Leaf first, trust anchor last; a pinned leaf alone.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// The trusted certificate at its end, with its source.
    pub fn anchor(&self) -> &TrustedCertificate {
        &self.anchor
    }
}

/// All accepted chains of a peer; at least one and at most 100, since no more candidates are tried.
#[derive(Debug, Clone)]
pub struct VerifiedChains {
    chains: Vec<VerifiedChain>,
    generation: Generation,
}

impl VerifiedChains {
    /// The chains in the order in which they were found, as Go orders them.
    pub fn chains(&self) -> &[VerifiedChain] {
        &self.chains
    }

    /// The peer's own certificate.
    pub fn leaf(&self) -> &Arc<Certificate> {
        &self.chains[0].certificates[0]
    }

    /// The generation of the store that vouched for them.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The text of `CI_SERVER_TLS_CA_FILE` (`runner-tls.md` 3.2): the certificates of all chains in order, leaf
    /// included, each signature once, without white space at the end.
    pub fn to_pem(&self) -> String {
        let certificates = self.chains.iter().flat_map(|chain| &chain.certificates);
        chain_pem(certificates)
    }
}

/// The certificates in order, each signature once, without white space at the end.
pub fn chain_pem<'a>(certificates: impl IntoIterator<Item = &'a Arc<Certificate>>) -> String {
    let mut seen = HashSet::new();
    let mut text = String::new();
    for certificate in certificates {
        if seen.insert(certificate.signature()) {
            text.push_str(&pem::encode(certificate.der()));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Judges what a peer served, as Go's `crypto/tls` and `crypto/x509` do (`dependencies.md` 3.2 and 3.4).
///
/// A leaf that is byte for byte a trusted certificate is accepted without a path. `name` is absent for clients only.
///
/// # Errors
///
/// A [`VerifyError`] with everything that is known about why; its text begins with Go's words.
pub fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    store: &Store,
    name: Option<&PeerName>,
    now: jiff::Timestamp,
    usage: Usage,
) -> Result<VerifiedChains, VerifyError> {
    verify_at(leaf, intermediates, store, name, Moment::from(now), usage)
}

/// [`verify`] at any moment that a certificate can name.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_at(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    store: &Store,
    name: Option<&PeerName>,
    now: Moment,
    usage: Usage,
) -> Result<VerifiedChains, VerifyError> {
    let mut received: Vec<Arc<Certificate>> = Vec::with_capacity(1 + intermediates.len());
    let fail = |reason: Reason, received: &[Arc<Certificate>]| {
        VerifyError::new(reason, name, received, store, now, usage)
    };
    for (position, der) in std::iter::once(leaf).chain(intermediates).enumerate() {
        match Certificate::parse(der) {
            Ok(certificate) => received.push(Arc::new(certificate)),
            Err(error) => return Err(fail(Reason::Unparsable { position, error }, &received)),
        }
    }
    judge(&received, store, name, now, usage).map_err(|reason| fail(reason, &received))
}

fn judge(
    received: &[Arc<Certificate>],
    store: &Store,
    name: Option<&PeerName>,
    now: Moment,
    usage: Usage,
) -> Result<VerifiedChains, Reason> {
    let [leaf, served @ ..] = received else {
        return Err(Reason::UnknownAuthority {
            rejected: None,
            missing_issuer_of: None,
        });
    };
    // Go ends a handshake at the sight of such a key, needed or not.
    if let Some(bits) = received
        .iter()
        .find_map(|one| signature::too_many_rsa_bits(one))
    {
        return Err(Reason::RsaSize(bits));
    }
    let unknown = &leaf.extensions().unknown_critical;
    if !unknown.is_empty() {
        return Err(Reason::UnknownCriticalExtension(unknown.clone()));
    }
    if let Some(detail) = path::outside_validity(leaf, now) {
        return Err(Reason::OutsideValidity(detail));
    }
    if let Some(name) = name {
        host_name::check(leaf, name).map_err(Reason::from)?;
    }
    let mut work = Work::of_a_handshake();
    let paths = candidate_paths(leaf, served, store, now, &mut work)?;
    let chains = acceptable(paths, usage, &mut work)?;
    signature::check_own_key(leaf).map_err(|error| match error {
        SignatureError::RsaSize(bits) => Reason::RsaSize(bits),
        _ => Reason::UnsupportedKey,
    })?;
    Ok(VerifiedChains {
        chains,
        generation: store.generation(),
    })
}

fn candidate_paths(
    leaf: &Arc<Certificate>,
    served: &[Arc<Certificate>],
    store: &Store,
    now: Moment,
    work: &mut Work,
) -> Result<Vec<Path>, Reason> {
    if let Some(pinned) = store.find(leaf.fingerprint()) {
        return Ok(vec![Path {
            certificates: vec![Arc::clone(leaf)],
            anchor: pinned.clone(),
        }]);
    }
    path::build(leaf, served, store, now, work).map_err(|failure| {
        if failure.exhausted {
            return Reason::SignatureLimit;
        }
        if let Some(issuer) = failure.not_entitled {
            return Reason::IssuerNotEntitled {
                issuer: issuer.certificate,
                why: issuer.reason,
            };
        }
        Reason::UnknownAuthority {
            rejected: failure.rejected.map(|rejected| {
                let name = rejected.certificate.subject().short().map_or_else(
                    || format!("serial:{}", rejected.certificate.serial()),
                    str::to_owned,
                );
                (name, rejected.reason)
            }),
            missing_issuer_of: Some(failure.dead_end),
        }
    })
}

/// The paths whose policies, usages and names hold. When none does, the first broken name constraint is the reason,
/// then usage, as in Go.
fn acceptable(
    paths: Vec<Path>,
    usage: Usage,
    work: &mut Work,
) -> Result<Vec<VerifiedChain>, Reason> {
    let mut violation = None;
    let mut wrong_usage = false;
    let mut chains = Vec::with_capacity(paths.len());
    for Path {
        certificates,
        anchor,
    } in paths
    {
        match policies::are_satisfied(&certificates, work) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(Exhausted) => {
                violation.get_or_insert(Violation::TooMuchWork);
                break;
            }
        }
        if !allows(&certificates, usage) {
            wrong_usage = true;
            continue;
        }
        match name_constraints::check_path(&certificates, work) {
            Ok(()) => chains.push(VerifiedChain {
                certificates,
                anchor,
            }),
            Err(found) => {
                violation.get_or_insert(found);
            }
        }
    }
    if !chains.is_empty() {
        return Ok(chains);
    }
    Err(match violation {
        Some(Violation::Name(detail)) => Reason::NameNotPermitted(detail),
        Some(Violation::TooMuchWork) => Reason::ConstraintLimit,
        None if wrong_usage => Reason::IncompatibleUsage,
        None => Reason::InvalidPolicies,
    })
}

/// Extended key usages nest: every certificate that names some must name this one, or "any".
fn allows(path: &[Arc<Certificate>], usage: Usage) -> bool {
    path.iter().all(|certificate| permits(certificate, usage))
}

/// Whether a certificate names no extended key usage, this one, or "any".
pub(crate) fn permits(certificate: &Certificate, usage: Usage) -> bool {
    let usages = &certificate.extensions().extended_key_usages;
    usages.is_empty()
        || usages
            .iter()
            .any(|own| own == usage.object_identifier() || own == ANY_USAGE)
}
