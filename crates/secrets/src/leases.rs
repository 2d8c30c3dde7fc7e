//! What was obtained for a job and is given back when the job is over: tokens, and leases made with them.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courser_protocol::Secret;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::exchange::{Repeat, Reply};
use crate::session::Session;
use crate::vault::{Server, TOKEN, error_list, without_user};
use crate::{Failure, Surroundings};

/// A token of a server, and what was made with it. Holds no secret value but the token and what the server's URL has.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
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

impl fmt::Debug for Obtained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Obtained")
            .field("server", &without_user(&self.server))
            .field("leases", &self.leases.len())
            .finish_non_exhaustive()
    }
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
    /// Requests that were still under way; what they bring stays, see [`Leases::settled`].
    pub under_way: usize,
    /// Servers of logins that got no usable answer, to one of their tries at least: had they made tokens, these are known to
    /// nobody.
    pub lost: Vec<String>,
}

/// For answers that are under way when a job ends.
const MOMENT: Duration = Duration::from_secs(2);
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

async fn revoke(session: &Session, obtained: &Obtained) -> End {
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

/// Everything obtained for one job, and what it may still obtain. Copies are the same.
#[derive(Clone)]
pub struct Leases(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Something that was asked for has come to its end.
    answered: Notify,
    journal: Box<Journal>,
}

#[derive(Debug, Default)]
struct State {
    obtained: Vec<Obtained>,
    unanswered: Vec<Unanswered>,
    /// Servers of requests that got no usable answer and may have been processed.
    lost: Vec<String>,
}

impl State {
    fn logins(&self) -> Vec<String> {
        let logins = self.unanswered.iter().filter(|one| one.token.is_none());
        logins.map(|one| one.server.clone()).collect()
    }
}

/// A request under way that may bring something to give back.
#[derive(Debug)]
struct Unanswered {
    id: u64,
    server: String,
    /// What it was sent with; nothing for a login.
    token: Option<Secret>,
}

/// What is written down of a job's leases.
#[derive(Debug)]
pub struct Account<'a> {
    /// What it has.
    pub obtained: &'a [Obtained],
    /// Servers of logins under way, without users: should nobody see the answers, their tokens are known to nobody.
    pub logins: &'a [String],
}

type Journal = dyn Fn(&Account<'_>) + Send + Sync;

/// A request that may bring something to give back; dropped when nothing more can come of it.
pub(crate) struct Asking {
    leases: Leases,
    id: u64,
}

impl Asking {
    /// It brought this.
    pub(crate) fn obtained(self, obtained: Obtained) {
        let id = self.id;
        self.leases.change(|state| {
            state.unanswered.retain(|one| one.id != id);
            state.obtained.push(obtained);
        });
    }

    /// One of its tries brought no usable answer, and may have been processed.
    pub(crate) fn lost(&self) {
        let mut state = self.leases.state();
        let server = state.unanswered.iter().find(|one| one.id == self.id);
        let server = server.map(|one| one.server.clone());
        state.lost.extend(server);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.leases.state();
        let position = state.unanswered.iter().position(|one| one.id == self.id);
        if let Some(position) = position {
            let ended = state.unanswered.swap_remove(position);
            if ended.token.is_none() {
                self.leases.write_down(&state);
            }
        }
        drop(state);
        self.leases.0.answered.notify_waiters();
    }
}

impl Default for Leases {
    fn default() -> Self {
        Self::journaled(|_| ())
    }
}

impl Leases {
    /// `journal` is handed everything at each change, before what was obtained is used.
    pub fn journaled(journal: impl Fn(&Account<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            answered: Notify::new(),
            journal: Box::new(journal),
        }))
    }

    /// Those of another process.
    #[must_use]
    pub fn holding(self, obtained: Vec<Obtained>) -> Self {
        self.state().obtained = obtained;
        self
    }

    /// Whether there is nothing to give back, and nothing under way.
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.obtained.is_empty() && state.unanswered.is_empty() && state.lost.is_empty()
    }

    /// Waits until nothing that was asked for is under way any more: some more than the 30 s of a request at the
    /// longest, once nothing new is asked for.
    pub async fn settled(&self) {
        loop {
            let mut answered = pin!(self.0.answered.notified());
            answered.as_mut().enable();
            if self.state().unanswered.is_empty() {
                return;
            }
            answered.await;
        }
    }

    /// Gives everything back, side by side, as far as that goes in 20 s. What could not be given back stays here,
    /// and in the journal; so does what is still under way after a moment that is left for it.
    pub async fn revoke(&self, surroundings: &Surroundings) -> Revocation {
        self.revoke_until(surroundings, &CancellationToken::new())
            .await
    }

    /// [`Self::revoke`] that comes to its end as soon as `over` is cancelled.
    pub async fn revoke_until(
        &self,
        surroundings: &Surroundings,
        over: &CancellationToken,
    ) -> Revocation {
        // Nearly always it comes in this time, and the end is told where people look.
        let settling = tokio::time::timeout(MOMENT, self.settled());
        over.run_until_cancelled(settling).await;
        let idle = self.idle();
        let session = Session::new(surroundings.clone(), self.clone());
        let session = &session;
        let ends = idle.iter().map(|obtained| async move {
            let revoking = tokio::time::timeout(LIMIT, revoke(session, obtained));
            let end = match over.run_until_cancelled(revoking).await {
                Some(Ok(end)) => end,
                Some(Err(_)) => End::Failed(format!("no answer within {LIMIT:?}")),
                None => End::Failed("no answer before the runner had to end".to_owned()),
            };
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
            self.change(|state| state.obtained.retain(|held| held.token != obtained.token));
        }
        let mut state = self.state();
        sum.under_way = state.unanswered.len();
        sum.lost = std::mem::take(&mut state.lost);
        sum
    }

    /// Servers of logins under way, without users.
    pub fn logins(&self) -> Vec<String> {
        self.state().logins()
    }

    /// What is held.
    pub fn held(&self) -> Vec<Obtained> {
        self.state().obtained.clone()
    }

    /// Hands everything to the journal, which writes to another place than before.
    pub fn write_again(&self) {
        self.write_down(&self.state());
    }

    /// Tokens that no request under way uses: what such a request makes would not end with its token.
    fn idle(&self) -> Vec<Obtained> {
        let state = self.state();
        let is_idle = |obtained: &&Obtained| {
            let token = Some(&obtained.token);
            state
                .unanswered
                .iter()
                .all(|one| one.token.as_ref() != token)
        };
        state.obtained.iter().filter(is_idle).cloned().collect()
    }

    /// A request begins that may bring a token, or a lease of `token`.
    pub(crate) fn ask(&self, server: &str, token: Option<&Secret>) -> Asking {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.unanswered.push(Unanswered {
            id,
            server: without_user(server),
            token: token.cloned(),
        });
        if token.is_none() {
            self.write_down(&state);
        }
        Asking {
            leases: self.clone(),
            id,
        }
    }

    /// A lease was made with this token.
    pub(crate) fn leased(&self, token: &Secret, lease: &str) {
        self.change(|state| {
            let mut all = state.obtained.iter_mut();
            if let Some(obtained) = all.find(|obtained| obtained.token == *token) {
                obtained.leases.push(lease.to_owned());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.write_down(&state);
    }

    fn write_down(&self, state: &State) {
        (self.0.journal)(&Account {
            obtained: &state.obtained,
            logins: &state.logins(),
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leases").field(&self.state()).finish()
    }
}
