//! Tokens and leases of jobs whose runner died, or whose server of secrets was away at their end: revoked as soon as
//! that can be done.

use std::time::Duration;

use courser_secrets::{Leases, Surroundings};
use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use crate::job_task::secrets::tell_revoked;
use crate::spool::{KeptLeases, Spool};

/// Between two attempts; doubles.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A server's own limit for a token, unless it was set higher: whose end is not known is taken to be over then.
const GIVEN_UP: Duration = Duration::from_secs(32 * 24 * 3600);
/// Jobs whose tokens are revoked at a time.
const SIDE_BY_SIDE: usize = 8;

/// Revokes what there is, and what comes. Never returns.
pub(super) async fn revoke_all(spool: &Spool, surroundings: &Surroundings) {
    let mut wait = WAIT;
    loop {
        if revoke_once(spool, surroundings).await {
            // Whoever drops a job in another process cannot tell.
            tokio::time::timeout(LONGEST_WAIT, spool.new_leases())
                .await
                .ok();
            wait = WAIT;
            continue;
        }
        tokio::select! {
            () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
            () = spool.new_leases() => wait = WAIT,
        }
    }
}

/// Revokes what can be revoked now; whether that was all.
pub(super) async fn revoke_once(spool: &Spool, surroundings: &Surroundings) -> bool {
    let looking = spool.clone();
    let found = tokio::task::spawn_blocking(move || looking.kept_leases()).await;
    let jobs = found.unwrap_or_default().into_iter();
    let revoking: Vec<_> = jobs.map(|kept| revoke_kept(kept, surroundings)).collect();
    // One server that does not answer holds up nobody else's.
    let mut revoking = stream::iter(revoking).buffer_unordered(SIDE_BY_SIDE);
    let mut all = true;
    while let Some(done) = revoking.next().await {
        all &= done;
    }
    all
}

/// Revokes what one job left; whether nothing is left of it.
async fn revoke_kept(kept: KeptLeases, surroundings: &Surroundings) -> bool {
    let job = kept.job;
    let surroundings = Surroundings {
        ca_file: kept.ca_file.clone(),
        ..surroundings.clone()
    };
    for server in &kept.logins {
        tracing::warn!(
            job,
            "the runner ended while a login of a job at {server} was under way: had it made a token, this ends by itself"
        );
    }
    if kept.obtained.is_empty() {
        kept.forget();
        return true;
    }
    let leases = Leases::default().holding(kept.obtained.clone());
    let done = leases.revoke(&surroundings).await;
    tell_revoked(
        job,
        &done,
        "revoked what a job had obtained with its secrets",
    );
    if leases.is_empty() {
        kept.forget();
        return true;
    }
    let why = done.failures.join("; ");
    let age = kept.since.and_then(|since| since.elapsed().ok());
    if age.is_some_and(|age| age > GIVEN_UP) {
        kept.forget();
        tracing::error!(job, "tokens of a job are given up after 32 days: {why}");
        return true;
    }
    kept.keep(leases.held());
    tracing::warn!(job, "tokens of a job cannot be revoked yet: {why}");
    false
}
