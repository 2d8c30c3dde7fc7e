//! Certification paths from a leaf to trusted certificates (RFC 4158), with bounded work.
//!
//! Every trusted certificate may end a path, as in Go's pool of roots; served certificates are intermediates only.
//! Signatures are checked while a path grows and only as long as [`Work`] allows: a builder that checks them after it
//! has reached an anchor can be kept busy for seconds by 140 served certificates (`dependencies.md` 3.2). The recursion
//! is at most as deep as the number of issuers that may be tried.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::moment::Moment;
use crate::signature::{self, SignatureError};
use crate::store::{Store, TrustedCertificate};
use crate::work::Work;

/// A path whose signatures, validity and CA rights hold; names, usages and policies are judged afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    /// Leaf first, anchor last.
    pub(crate) certificates: Vec<Arc<Certificate>>,
    pub(crate) anchor: TrustedCertificate,
}

/// A certificate that had an issuer's name but could not be used, and why in Go's words.
#[derive(Debug, Clone)]
pub(crate) struct Rejected {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) reason: String,
}

/// Why there is no path.
#[derive(Debug)]
pub(crate) struct NoPath {
    /// The first candidate at the dead end that was no issuer: no CA, or its key did not sign.
    pub(crate) rejected: Option<Rejected>,
    /// The first true issuer that was not entitled: expired, too far up and so on.
    pub(crate) not_entitled: Option<Rejected>,
    /// Where the longest attempt ended: the certificate whose issuer is missing.
    pub(crate) dead_end: Arc<Certificate>,
    /// Whether [`Work`] ended the search.
    pub(crate) exhausted: bool,
}

/// All paths from the leaf to a trusted certificate.
pub(crate) fn build(
    leaf: &Arc<Certificate>,
    served: &[Arc<Certificate>],
    store: &Store,
    now: Moment,
    work: &mut Work,
) -> Result<Vec<Path>, NoPath> {
    let mut by_subject: HashMap<&[u8], Vec<&Arc<Certificate>>> = HashMap::new();
    let mut seen = HashSet::new();
    for certificate in served {
        if seen.insert(certificate.fingerprint()) {
            by_subject
                .entry(certificate.subject_der())
                .or_default()
                .push(certificate);
        }
    }
    let mut search = Search {
        served: by_subject,
        store,
        now,
        work,
        exhausted: false,
        rejected: None,
        not_entitled: None,
        longest: (1, Arc::clone(leaf)),
        found: Vec::new(),
    };
    search.extend(&mut vec![Arc::clone(leaf)]);
    if search.found.is_empty() {
        return Err(NoPath {
            rejected: search.rejected,
            not_entitled: search.not_entitled,
            dead_end: search.longest.1,
            exhausted: search.exhausted,
        });
    }
    Ok(search.found)
}

struct Search<'a> {
    served: HashMap<&'a [u8], Vec<&'a Arc<Certificate>>>,
    store: &'a Store,
    now: Moment,
    work: &'a mut Work,
    exhausted: bool,
    rejected: Option<Rejected>,
    not_entitled: Option<Rejected>,
    longest: (usize, Arc<Certificate>),
    found: Vec<Path>,
}

impl Search<'_> {
    /// Tries every possible issuer of the path's last certificate.
    fn extend(&mut self, path: &mut Vec<Arc<Certificate>>) {
        let Some(child) = path.last().map(Arc::clone) else {
            return;
        };
        if path.len() > self.longest.0 {
            self.longest = (path.len(), Arc::clone(&child));
            self.rejected = None;
        }
        let mut anchors: Vec<_> = self.store.with_subject(child.issuer_der()).collect();
        anchors.sort_by_cached_key(|anchor| key_id_rank(&child, anchor.certificate()));
        for anchor in anchors {
            if !self.may_go_on() {
                return;
            }
            if self.accepts(path, &child, anchor.certificate(), Role::Anchor) {
                let mut certificates = path.clone();
                certificates.push(Arc::clone(anchor.certificate()));
                self.found.push(Path {
                    certificates,
                    anchor: anchor.clone(),
                });
            }
        }
        let mut served = self
            .served
            .get(child.issuer_der())
            .cloned()
            .unwrap_or_default();
        served.sort_by_cached_key(|candidate| key_id_rank(&child, candidate));
        for candidate in served {
            if !self.may_go_on() {
                return;
            }
            if self.accepts(path, &child, candidate, Role::Intermediate) {
                path.push(Arc::clone(candidate));
                self.extend(path);
                path.pop();
            }
        }
    }

    fn may_go_on(&mut self) -> bool {
        self.exhausted |= self.work.try_issuer().is_err();
        !self.exhausted
    }

    /// Whether the candidate issued the path's last certificate and was entitled to.
    fn accepts(
        &mut self,
        path: &[Arc<Certificate>],
        child: &Certificate,
        candidate: &Arc<Certificate>,
        role: Role,
    ) -> bool {
        if path
            .iter()
            .any(|earlier| is_same_entity(earlier, candidate))
        {
            return false;
        }
        let rejected = |reason| Rejected {
            certificate: Arc::clone(candidate),
            reason,
        };
        let signed = may_issue(candidate).and_then(|()| {
            let price = signature::price(child, candidate);
            if self.work.check_signature(price).is_err() {
                self.exhausted = true;
                return Err("the signature was not checked".to_owned());
            }
            self.check_signature(child, candidate)
                .map_err(|error| error.to_string())
        });
        if let Err(reason) = signed {
            if path.len() == self.longest.0 {
                self.rejected.get_or_insert_with(|| rejected(reason));
            }
            return false;
        }
        if let Err(reason) = is_entitled(candidate, role, path.len() - 1, self.now) {
            self.not_entitled.get_or_insert_with(|| rejected(reason));
            return false;
        }
        true
    }

    /// Whether the issuer's key signed the child, as is known or as is found now.
    fn check_signature(
        &self,
        child: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), SignatureError> {
        let known = self.store.issuances();
        if !known.contain(child, issuer) {
            signature::check_issued_by(child, issuer)?;
            known.remember(child, issuer);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Anchor,
    Intermediate,
}

/// Whether the certificate's key may sign certificates at all. Version 1 has no extensions to say so: as an anchor it may.
fn may_issue(certificate: &Certificate) -> Result<(), String> {
    let extensions = certificate.extensions();
    let ca = match extensions.basic_constraints {
        Some(constraints) => constraints.ca,
        None => certificate.version() < 3,
    };
    if ca && extensions.key_usage.may_sign_certificates() {
        Ok(())
    } else {
        Err(
            "x509: invalid signature: parent certificate cannot sign this kind of certificate"
                .to_owned(),
        )
    }
}

/// Validity and rights of an issuer above `intermediates` other issuers.
fn is_entitled(
    certificate: &Certificate,
    role: Role,
    intermediates: usize,
    now: Moment,
) -> Result<(), String> {
    let extensions = certificate.extensions();
    if !extensions.unknown_critical.is_empty() {
        return Err("x509: unhandled critical extension".to_owned());
    }
    if let Some(detail) = outside_validity(certificate, now) {
        return Err(format!(
            "x509: certificate has expired or is not yet valid: {detail}"
        ));
    }
    if role == Role::Intermediate && !certificate.is_ca() {
        return Err("x509: certificate is not authorized to sign other certificates".to_owned());
    }
    let limit = extensions
        .basic_constraints
        .and_then(|constraints| constraints.path_length);
    if limit.is_some_and(|limit| intermediates as u64 > limit) {
        return Err("x509: too many intermediates for path length constraint".to_owned());
    }
    Ok(())
}

/// How `now` misses the certificate's validity, in Go's words.
pub(crate) fn outside_validity(certificate: &Certificate, now: Moment) -> Option<String> {
    if now < certificate.not_before() {
        Some(format!(
            "current time {now} is before {}",
            certificate.not_before()
        ))
    } else if now > certificate.not_after() {
        Some(format!(
            "current time {now} is after {}",
            certificate.not_after()
        ))
    } else {
        None
    }
}

/// Same subject, key and SAN: a certificate of the same entity in other words. It must not be in a path twice, or
/// cross-signed CAs make loops. (Go stops comparing at the first certificate of the path with the same subject and key
/// when only one of the two has a SAN, and so walks in circles there until its limit; its verdict is the same.)
fn is_same_entity(one: &Certificate, other: &Certificate) -> bool {
    one.subject_der() == other.subject_der()
        && one.key_info() == other.key_info()
        && encoded_names(one) == encoded_names(other)
}

fn encoded_names(certificate: &Certificate) -> Option<&[u8]> {
    let names = certificate.extensions().subject_alternative_names.as_ref();
    names.map(|names| names.encoded.as_slice())
}

/// 0 when the key ids agree, 1 when one is absent, 2 when they differ.
fn key_id_rank(child: &Certificate, candidate: &Certificate) -> u8 {
    let wanted = &child.extensions().authority_key_id;
    let own = &candidate.extensions().subject_key_id;
    if wanted == own {
        0
    } else if wanted.is_empty() != own.is_empty() {
        1
    } else {
        2
    }
}
