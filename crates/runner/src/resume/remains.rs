//! What jobs that are over left, as with a container engine that was away: removed as soon as it can be.

use std::time::Duration;

use courser_executor::Executors;
use tokio::time::sleep;

use super::FORGOTTEN;
use crate::spool::Spool;

/// Between two attempts; doubles.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Removes what there is, and what comes. Never returns.
pub(super) async fn remove_all(spool: &Spool, executors: &Executors) {
    let mut wait = WAIT;
    loop {
        if remove_once(spool, executors).await {
            spool.new_remains().await;
            wait = WAIT;
        }
        tokio::select! {
            () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
            () = spool.new_remains() => wait = WAIT,
        }
    }
}

/// Removes what can be removed now; whether that was all.
pub(super) async fn remove_once(spool: &Spool, executors: &Executors) -> bool {
    let looking = spool.clone();
    let found = tokio::task::spawn_blocking(move || looking.remains()).await;
    let mut all = true;
    for remains in found.unwrap_or_default() {
        let job = remains.job;
        let swept = executors.sweep(&remains.footprint).await;
        if !swept.removed.is_empty() {
            let removed = swept.removed.join(", ");
            tracing::info!(job, "removed what a job had left: {removed}");
        }
        if swept.is_complete() {
            remains.forget();
            continue;
        }
        let stays = swept.not_removed.iter();
        let stays: Vec<String> = stays.map(|(what, why)| format!("{what}: {why}")).collect();
        let stays = stays.join("; ");
        let age = remains.since.and_then(|since| since.elapsed().ok());
        if age.is_some_and(|age| age > FORGOTTEN) {
            remains.forget();
            tracing::error!(job, "what a job left two weeks ago is given up: {stays}");
            continue;
        }
        tracing::warn!(job, "what a job left cannot be removed yet: {stays}");
        all = false;
    }
    all
}
