//! What was obtained for a job and is given back when the job is over: tokens, and leases made with them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use courser_protocol::Secret;
use serde::{Deserialize, Serialize};

/// A token of a server, and what was made with it. Holds no secret value but the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Obtained {
    /// Base URL of the server.
    pub server: String,
    /// Namespace of the login; empty is none.
    pub namespace: String,
    /// The token.
    pub token: Secret,
    /// A batch token ends by itself: no server revokes it.
    pub batch: bool,
    /// When it ends by itself, in seconds since 1970; 0 = not known.
    pub expires: i64,
    /// Leases made with it.
    pub leases: Vec<String>,
}

/// What became of the things given back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocation {
    /// Tokens that the server revoked.
    pub tokens: usize,
    /// Leases that ended with them or by themselves.
    pub leases: usize,
    /// Tokens that had ended before.
    pub ended: usize,
    /// What could not be revoked and why, a line each, without tokens.
    pub failures: Vec<String>,
}

/// Everything obtained for one job.
pub struct Leases {
    list: Mutex<Vec<Obtained>>,
    journal: Box<Journal>,
}

type Journal = dyn Fn(&[Obtained]) + Send + Sync;

impl Default for Leases {
    fn default() -> Self {
        Self::journaled(|_| ())
    }
}

impl Leases {
    /// `journal` is handed everything at each change, before what was obtained is used.
    pub fn journaled(journal: impl Fn(&[Obtained]) + Send + Sync + 'static) -> Self {
        Self {
            list: Mutex::default(),
            journal: Box::new(journal),
        }
    }

    /// Those of another process.
    #[must_use]
    pub fn holding(self, obtained: Vec<Obtained>) -> Self {
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = obtained;
        self
    }

    /// Whether there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Changes what is held, and journals it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<Obtained>)) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        (self.journal)(&list);
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leases").field(&self.list).finish()
    }
}
