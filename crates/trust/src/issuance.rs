//! Which certificates are known to be signed by which: checked once in a store's life, then remembered.
//!
//! Only that a signature is right is remembered, under the fingerprints of both certificates, so that nothing but the
//! very same bytes profits. Validity, rights, names and usages are judged anew each time. What failed is not
//! remembered. A peer that shows many certificates can only push others out.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::certificate::{Certificate, Fingerprint};

/// How many are remembered at least; at most twice as many.
const REMEMBERED: usize = 512;

/// Child, issuer.
type Edge = (Fingerprint, Fingerprint);

/// The edges of one store.
#[derive(Debug, Default)]
pub(crate) struct Issuances(Mutex<Halves>);

/// The least recently used half is dropped as a whole once the other is full.
#[derive(Debug, Default)]
struct Halves {
    recent: HashSet<Edge>,
    older: HashSet<Edge>,
}

impl Issuances {
    /// Whether `issuer`'s key is known to have signed `child`.
    pub(crate) fn contain(&self, child: &Certificate, issuer: &Certificate) -> bool {
        let edge = (child.fingerprint(), issuer.fingerprint());
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.recent.contains(&edge) {
            return true;
        }
        let found = halves.older.contains(&edge);
        if found {
            halves.insert(edge);
        }
        found
    }

    /// Remembers that `issuer`'s key signed `child`.
    pub(crate) fn remember(&self, child: &Certificate, issuer: &Certificate) {
        let edge = (child.fingerprint(), issuer.fingerprint());
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.insert(edge);
    }
}

impl Halves {
    fn insert(&mut self, edge: Edge) {
        if self.recent.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(edge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_are_forgotten_first() {
        let edge = |number: usize| {
            let mut child = Fingerprint([0; 32]);
            child.0[..8].copy_from_slice(&number.to_be_bytes());
            (child, Fingerprint([1; 32]))
        };
        let mut halves = Halves::default();
        for number in 0..10 * REMEMBERED {
            halves.insert(edge(number));
            assert!(halves.recent.len() + halves.older.len() <= 2 * REMEMBERED);
        }
        let newest = 10 * REMEMBERED - 1;
        let known = |number: usize| {
            halves.recent.contains(&edge(number)) || halves.older.contains(&edge(number))
        };
        assert!(known(newest) && known(newest - REMEMBERED + 1) && !known(0));
    }
}
