//! Certificate policies by RFC 9618, for a verifier that accepts any policy.
//!
//! With "any policy" as the wish, all that matters of the policy graph is whether its lowest stratum has a node left
//! when an explicit policy is required. So one set of expected policies is carried down the path, not a graph.

use std::collections::HashSet;

use crate::certificate::Certificate;
use crate::extensions::PolicyMapping;
use crate::work::{Exhausted, Work};

const ANY_POLICY: &[u8] = &[0x55, 0x1d, 32, 0];

/// Whether a path, leaf first, satisfies the policy constraints in it. The anchor's own extensions do not count.
pub(crate) fn are_satisfied(
    path: &[impl AsRef<Certificate>],
    work: &mut Work,
) -> Result<bool, Exhausted> {
    // A policy or mapping costs as much as ten comparisons.
    for certificate in path {
        let policies = &certificate.as_ref().extensions().policies;
        work.compare(10 * (policies.named.len() + policies.mappings.len()))?;
    }
    Ok(are_met(path))
}

fn are_met(path: &[impl AsRef<Certificate>]) -> bool {
    let below_anchor = &path[..path.len().saturating_sub(1)];
    let never = below_anchor.len() as u64 + 1;
    let mut explicit = never;
    let mut mapping = never;
    let mut any = never;
    // Policies that the next certificate may name; `None` once the graph is gone for good.
    let mut expected: Option<HashSet<&[u8]>> = Some(HashSet::from([ANY_POLICY]));

    for (height, certificate) in below_anchor.iter().enumerate().rev() {
        let certificate = certificate.as_ref();
        let policies = &certificate.extensions().policies;
        let self_issued = certificate.is_self_issued();
        let is_leaf = height == 0;
        if policies.named.is_empty() {
            expected = None;
        }
        if explicit == 0 && expected.is_none() {
            return false;
        }
        if let Some(above) = expected.take() {
            let mut valid: HashSet<&[u8]> = policies
                .named
                .iter()
                .map(Vec::as_slice)
                .filter(|&policy| {
                    policy != ANY_POLICY && (above.contains(policy) || above.contains(ANY_POLICY))
                })
                .collect();
            let names_any = policies.named.iter().any(|policy| policy == ANY_POLICY);
            if names_any && (any > 0 || (!is_leaf && self_issued)) {
                valid.extend(above);
            }
            if !is_leaf {
                if mapping > 0 && has_any_policy(&policies.mappings) {
                    return false;
                }
                valid = mapped(valid, &policies.mappings, mapping > 0);
            }
            expected = Some(valid);
        }
        if !is_leaf {
            if !self_issued {
                explicit = explicit.saturating_sub(1);
                mapping = mapping.saturating_sub(1);
                any = any.saturating_sub(1);
            }
            explicit = explicit.min(policies.require_explicit.unwrap_or(never));
            mapping = mapping.min(policies.inhibit_mapping.unwrap_or(never));
            any = any.min(policies.inhibit_any.unwrap_or(never));
        }
    }

    explicit = explicit.saturating_sub(1);
    let leaf = below_anchor.first().map(AsRef::as_ref);
    if leaf.is_some_and(|leaf| leaf.extensions().policies.require_explicit == Some(0)) {
        explicit = 0;
    }
    explicit > 0 || expected.is_some_and(|expected| !expected.is_empty())
}

fn has_any_policy(mappings: &[PolicyMapping]) -> bool {
    mappings
        .iter()
        .any(|(issuer, subject)| issuer == ANY_POLICY || subject == ANY_POLICY)
}

/// What may be named below, after a certificate said which policies stand for which.
fn mapped<'a>(
    valid: HashSet<&'a [u8]>,
    mappings: &'a [PolicyMapping],
    allowed: bool,
) -> HashSet<&'a [u8]> {
    let mut below = valid.clone();
    for (issuer, _) in mappings {
        below.remove(issuer.as_slice());
    }
    if allowed {
        for (issuer, subject) in mappings {
            if valid.contains(issuer.as_slice()) || valid.contains(ANY_POLICY) {
                below.insert(subject);
            }
        }
    }
    below
}
