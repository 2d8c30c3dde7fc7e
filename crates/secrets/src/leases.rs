//! What was obtained for a job and is given back when the job is over: tokens, and leases made with them.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use courser_protocol::Secret;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::exchange::{Repeat, Reply};
use crate::resolve::Session;
use crate::vault::{Server, TOKEN, error_list, without_user};
use crate::{Failure, Surroundings};

/// A token of a server, and what was made with it. Holds no secret value but the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Obtained {
    /// Base URL of the server as the job gave it: not for texts, it may name a user with a password.
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

/// For all that a job's end waits for.
const LIMIT: Duration = Duration::from_secs(20);

/// How one token ended.
enum End {
    Revoked,
    /// By itself, before.
    Ended,
    /// It cannot be revoked; so many leases were.
    Batch {
        leases: usize,
    },
    Failed(String),
}

async fn revoke(session: &Session<'_>, obtained: &Obtained) -> End {
    let now = (session.surroundings.ambience.now)().as_second();
    if obtained.expires != 0 && obtained.expires <= now {
        return End::Ended;
    }
    let server = match Server::new(session, &obtained.server).await {
        Ok(server) => server,
        Err(failure) => return End::Failed(failure.to_string()),
    };
    if obtained.batch {
        let mut failures = Vec::new();
        for lease in &obtained.leases {
            let body = serde_json::json!({"lease_id": lease}).to_string();
            match put(&server, obtained, "sys/leases/revoke", body.into_bytes()).await {
                Ok(reply) if reply.status.is_success() => {}
                Ok(reply) => {
                    let refused = refused(&reply, "sys/leases/revoke");
                    failures.push(format!(
                        "the lease {lease:.100?} of a batch token: {refused}"
                    ));
                }
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        let leases = obtained.leases.len();
        return match failures.first() {
            None => End::Batch { leases },
            Some(first) => End::Failed(format!(
                "{} of {leases} leases were not revoked: {first}",
                failures.len()
            )),
        };
    }
    match put(&server, obtained, "auth/token/revoke-self", Vec::new()).await {
        Ok(reply) if reply.status.is_success() => End::Revoked,
        // It is over or used up, and its leases with it.
        Ok(reply) if is_of_bad_token(&reply) => End::Ended,
        Ok(reply) => End::Failed(refused(&reply, "auth/token/revoke-self")),
        Err(failure) => End::Failed(failure.to_string()),
    }
}

/// Whether an answer says that there is no such token. What a policy forbids is called `permission denied` too, but
/// as one of `1 error occurred:`.
fn is_of_bad_token(reply: &Reply) -> bool {
    if reply.status != StatusCode::FORBIDDEN {
        return false;
    }
    let Some(errors) = error_list(reply) else {
        return false;
    };
    let lines = || errors.iter().flat_map(|error| error.lines());
    let says = |text: &str| {
        lines().any(|line| line.trim_start_matches(['\t', ' ', '*']).trim_end() == text)
    };
    errors == ["permission denied"] || says("invalid token") || says("bad token")
}

/// An answer that is a refusal, with what lacks where it is a policy's.
fn refused(reply: &Reply, path: &str) -> String {
    let status = reply.status.as_u16();
    if reply.status == StatusCode::FORBIDDEN && error_list(reply).is_some() {
        return format!(
            "{path}: status {status}: a policy of the role must allow it: path \"{path}\" {{ capabilities = [\"update\"] }}"
        );
    }
    format!("{path}: status {status}")
}

async fn put(
    server: &Server,
    obtained: &Obtained,
    path: &str,
    body: Vec<u8>,
) -> Result<Reply, Failure> {
    let call = server.call(Method::PUT, path, &obtained.namespace)?;
    let call = Server::with_json(call, body).secret_header(TOKEN, obtained.token.expose());
    server.send(call, Repeat::Always).await
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

    /// Gives everything back, side by side, as far as that goes in 20 s. What could not be given back stays here,
    /// and in the journal.
    pub async fn revoke(&self, surroundings: &Surroundings) -> Revocation {
        let all = self.held();
        let session = Session::new(surroundings, self);
        let session = &session;
        let ends = all.iter().map(|obtained| async move {
            let revoking = tokio::time::timeout(LIMIT, revoke(session, obtained)).await;
            let end =
                revoking.unwrap_or_else(|_| End::Failed(format!("no answer within {LIMIT:?}")));
            (obtained, end)
        });
        let mut sum = Revocation::default();
        for (obtained, end) in futures_util::future::join_all(ends).await {
            match end {
                End::Revoked => {
                    sum.tokens += 1;
                    sum.leases += obtained.leases.len();
                }
                End::Ended => sum.ended += 1,
                End::Batch { leases } => sum.leases += leases,
                End::Failed(why) => {
                    sum.failures
                        .push(format!("{}: {why}", without_user(&obtained.server)));
                    continue;
                }
            }
            self.change(|all| all.retain(|held| held.token != obtained.token));
        }
        sum
    }

    /// What is held.
    pub fn held(&self) -> Vec<Obtained> {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
