//! Tokens and leases of jobs whose runner died, or whose server of secrets was away at their end: revoked as soon as
//! that can be done.

use std::time::Duration;

use courser_secrets::{Leases, Surroundings};
use tokio::time::sleep;

use super::FORGOTTEN;
use crate::spool::Spool;

/// Between two attempts; doubles.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Revokes what there is, and what comes. Never returns.
pub(super) async fn revoke_all(spool: &Spool, surroundings: &Surroundings) {
    let mut wait = WAIT;
    loop {
        if revoke_once(spool, surroundings).await {
            spool.new_leases().await;
            wait = WAIT;
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
    let mut all = true;
    for kept in found.unwrap_or_default() {
        let job = kept.job;
        let surroundings = Surroundings {
            ca_file: kept.ca_file.clone(),
            ..surroundings.clone()
        };
        let leases = Leases::default().holding(kept.obtained.clone());
        let done = leases.revoke(&surroundings).await;
        tracing::info!(
            job,
            tokens = done.tokens,
            leases = done.leases,
            ended = done.ended,
            "revoked what a job had obtained with its secrets"
        );
        if leases.is_empty() {
            kept.forget();
            continue;
        }
        let why = done.failures.join("; ");
        let age = kept.since.and_then(|since| since.elapsed().ok());
        if age.is_some_and(|age| age > FORGOTTEN) {
            kept.forget();
            tracing::error!(job, "tokens of a job are given up after two weeks: {why}");
            continue;
        }
        kept.keep(leases.held());
        tracing::warn!(job, "tokens of a job cannot be revoked yet: {why}");
        all = false;
    }
    all
}
