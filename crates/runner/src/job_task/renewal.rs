//! What a running job trusts follows the runner's trust files: certificates that are exchanged while a job runs must
//! not fail its uploads and fetches.

use std::sync::Arc;
use std::time::Duration;

use courser_job::JobTls;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::client::Api;
use crate::tool_trust::ToolTrustMaker;

/// What was exchanged is exchanged once more after this time: a stage that was just beginning writes the files that its
/// script was composed with.
const ONCE_MORE: Duration = Duration::from_secs(10);

/// The trust files of one job's server.
pub(crate) struct Renewal {
    api: Arc<Api>,
    tools: Arc<ToolTrustMaker>,
    changes: watch::Receiver<u64>,
    /// Some trust of this process changed, and nobody has looked yet whether this one did.
    changed: bool,
    /// What the job has.
    current: JobTls,
    /// When the job is given it again.
    again: Option<Instant>,
}

impl Renewal {
    /// For a job that begins with `current`.
    pub(crate) fn new(api: Arc<Api>, tools: Arc<ToolTrustMaker>, current: JobTls) -> Self {
        Self {
            api,
            tools,
            changes: courser_net::trust_changes(),
            // Since the job was received, something may have changed.
            changed: true,
            current,
            again: None,
        }
    }

    /// Waits until the job is to have something else. May be dropped and called again.
    pub(super) async fn next(&mut self) -> JobTls {
        loop {
            if !self.changed {
                tokio::select! {
                    () = reached(self.again) => {
                        self.again = None;
                        return self.current.clone();
                    }
                    changed = self.changes.changed() => match changed {
                        Ok(()) => self.changed = true,
                        Err(_) => return std::future::pending().await,
                    }
                }
            }
            let mut now = self.api.tls_for_job(&self.tools).await;
            self.changed = false;
            // Without a CA file the job has the chain of the connection that brought it.
            if now.ca_chain.is_empty() {
                now.ca_chain.clone_from(&self.current.ca_chain);
            }
            if now != self.current {
                self.current = now.clone();
                self.again = Some(Instant::now() + ONCE_MORE);
                return now;
            }
        }
    }
}

/// Waits until then; for ever where there is no such time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
