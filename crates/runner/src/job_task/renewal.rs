//! What a running job trusts follows the runner's trust files: certificates that are exchanged while a job runs must
//! not fail its uploads and fetches.

use std::sync::Arc;

use courser_job::JobTls;
use tokio::sync::watch;

use crate::client::Api;
use crate::tool_trust::ToolTrustMaker;

/// The trust files of one job's server.
pub(crate) struct Renewal {
    api: Arc<Api>,
    tools: Arc<ToolTrustMaker>,
    changes: watch::Receiver<u64>,
    /// Some trust of this process changed, and nobody has looked yet whether this one did.
    changed: bool,
    /// What the job has.
    current: JobTls,
}

impl Renewal {
    /// For a job that begins with `current`.
    pub(crate) fn new(api: Arc<Api>, tools: Arc<ToolTrustMaker>, current: JobTls) -> Self {
        Self {
            api,
            tools,
            changes: courser_net::trust_changes(),
            changed: false,
            current,
        }
    }

    /// Waits until the job is to have something else. May be dropped and called again.
    pub(super) async fn next(&mut self) -> JobTls {
        loop {
            if !self.changed {
                if self.changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
                self.changed = true;
            }
            let mut now = self.api.tls_for_job(&self.tools).await;
            self.changed = false;
            // Without a CA file the job has the chain of the connection that brought it.
            if now.ca_chain.is_empty() {
                now.ca_chain.clone_from(&self.current.ca_chain);
            }
            if now != self.current {
                self.current = now.clone();
                return now;
            }
        }
    }
}
