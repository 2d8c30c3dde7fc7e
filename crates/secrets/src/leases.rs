//! What was obtained for a job and is given back when the job is over: tokens, and leases made with them.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use courser_protocol::Secret;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::exchange::Repeat;
use crate::resolve::Session;
use crate::vault::{Server, TOKEN};
use crate::{Failure, Surroundings};

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
        let mut leases = 0;
        for lease in &obtained.leases {
            let body = serde_json::json!({"lease_id": lease}).to_string();
            match put(&server, obtained, "sys/leases/revoke", body.into_bytes()).await {
                Ok(status) if status.is_success() => leases += 1,
                Ok(status) => {
                    return End::Failed(format!(
                        "the lease {lease} of a batch token: status {}",
                        status.as_u16()
                    ));
                }
                Err(failure) => return End::Failed(failure.to_string()),
            }
        }
        return End::Batch { leases };
    }
    match put(&server, obtained, "auth/token/revoke-self", Vec::new()).await {
        Ok(status) if status.is_success() => End::Revoked,
        // It is over or used up, and its leases with it.
        Ok(StatusCode::FORBIDDEN) => End::Ended,
        Ok(status) => End::Failed(format!(
            "auth/token/revoke-self: status {}",
            status.as_u16()
        )),
        Err(failure) => End::Failed(failure.to_string()),
    }
}

async fn put(
    server: &Server,
    obtained: &Obtained,
    path: &str,
    body: Vec<u8>,
) -> Result<StatusCode, Failure> {
    let call = server.call(Method::PUT, path, &obtained.namespace)?;
    let call = Server::with_json(call, body).secret_header(TOKEN, obtained.token.expose());
    let reply = server.send(call, Repeat::Always).await?;
    Ok(reply.status)
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

    /// Gives everything back, side by side, as far as that goes in [`LIMIT`]. What could not be given back stays here,
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
                    sum.failures.push(format!("{}: {why}", obtained.server));
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
