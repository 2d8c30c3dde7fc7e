//! Telling GitLab: the log by offset, keep-alives, the final state (`runner-protocol.md` 5.7, 5.8).

use std::sync::Arc;
use std::time::Duration;

use courser_protocol::{FailureReason, Info, JobState, TraceSummary, UpdateRequest};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::client::Api;
use crate::client::jobs::{JobCredentials, PatchResult, Said, UpdateResult};
use crate::log::JobLog;

/// Interval until the server names another.
const START_INTERVAL: Duration = Duration::from_secs(3);

/// Silence after which a running job is touched.
const FORCE_SEND: Duration = Duration::from_secs(30);
const LONGEST_FORCE_SEND: Duration = Duration::from_secs(30 * 60);

/// Largest patch.
const MAX_PATCH: usize = 1024 * 1024;

/// Between rounds of the final update; doubles.
const ROUND_WAIT: Duration = Duration::from_secs(1);
const LONGEST_ROUND_WAIT: Duration = Duration::from_secs(60 * 60);

/// Range mismatches in a row after which a round counts as failed. Upstream has no bound: a server
/// that never agrees would hold the job for ever.
const MISMATCHES_IN_A_ROW: u32 = 10;

/// What the server asks of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerWish {
    /// `canceling`: stop the scripts, `after_script` still runs.
    Cancel,
    /// 403, `canceled`, `failed`, 404: stop everything.
    Abort,
}

/// The server's answer to "I run it now".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// Go on; also after every trouble of the network or the server.
    Run,
    /// Cancelled in the meantime.
    Canceled,
    /// Not ours any more.
    Gone,
}

/// How a job is reported in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FinalState {
    /// Well.
    Success,
    /// Badly.
    Failed {
        /// Already mapped for the server.
        reason: FailureReason,
        /// 0 = none.
        exit_code: i32,
    },
}

/// The reporter of one job.
pub(crate) struct Report {
    api: Arc<Api>,
    info: Arc<Info>,
    job: JobCredentials,
    log: Arc<JobLog>,
    debug_trace: bool,
    /// `FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL`.
    dynamic_force_send: bool,
    keep_alive: Duration,
    start_interval: Duration,
    round_wait: Duration,
    interval: Duration,
    sent: u64,
    last_contact: Option<Instant>,
}

impl Report {
    pub(crate) fn new(
        api: Arc<Api>,
        info: Arc<Info>,
        job: JobCredentials,
        log: Arc<JobLog>,
    ) -> Self {
        Self {
            api,
            info,
            job,
            log,
            debug_trace: false,
            dynamic_force_send: false,
            keep_alive: FORCE_SEND,
            start_interval: START_INTERVAL,
            round_wait: ROUND_WAIT,
            interval: START_INTERVAL,
            sent: 0,
            last_contact: None,
        }
    }

    /// `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES` is on.
    pub(crate) fn debug_trace(mut self, on: bool) -> Self {
        self.debug_trace = on;
        self
    }

    /// `FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL`.
    pub(crate) fn dynamic_force_send(mut self, on: bool) -> Self {
        self.dynamic_force_send = on;
        self
    }

    /// See [`crate::RunnerSettings::keep_alive`].
    pub(crate) fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// Second phase of the two-phase commit (2.6).
    pub(crate) async fn acknowledge(&mut self) -> Acknowledged {
        let said = self.put(JobState::Running, TraceSummary::default()).await;
        match said.result {
            UpdateResult::Abort => Acknowledged::Gone,
            _ if said.cancel_requested => Acknowledged::Canceled,
            _ => Acknowledged::Run,
        }
    }

    /// Sends the log while the job runs, until `finished`; then the patch under way is completed.
    pub(crate) async fn send_while_running(
        &mut self,
        wishes: &mpsc::UnboundedSender<ServerWish>,
        finished: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = sleep(self.interval) => {}
                () = finished.cancelled() => return,
            }
            if let Some(wish) = self.tick().await {
                wishes.send(wish).ok();
                if wish == ServerWish::Abort {
                    return;
                }
            }
        }
    }

    /// One patch, and a keep-alive after a long silence.
    async fn tick(&mut self) -> Option<ServerWish> {
        let patch = self.patch().await;
        match patch.result {
            PatchResult::Abort => return Some(ServerWish::Abort),
            PatchResult::Succeeded => {}
            PatchResult::NotFound | PatchResult::RangeMismatch(_) | PatchResult::Failed => {
                return patch.cancel_requested.then_some(ServerWish::Cancel);
            }
        }
        let mut cancel = patch.cancel_requested;
        let silent = self
            .last_contact
            .is_none_or(|contact| contact.elapsed() > self.force_send_interval());
        if silent {
            let touch = self.put(JobState::Running, self.log.summary()).await;
            match touch.result {
                UpdateResult::Abort => return Some(ServerWish::Abort),
                UpdateResult::Succeeded => self.last_contact = Some(Instant::now()),
                _ => {}
            }
            cancel |= touch.cancel_requested;
        }
        cancel.then_some(ServerWish::Cancel)
    }

    fn force_send_interval(&self) -> Duration {
        if self.dynamic_force_send {
            (self.interval * 4).clamp(FORCE_SEND, LONGEST_FORCE_SEND)
        } else {
            self.keep_alive
        }
    }

    /// The rest of the log, then the final state; at most `rounds` rounds. Says whether it got through.
    pub(crate) async fn finish(&mut self, state: &FinalState, rounds: u32) -> bool {
        let mut wait = self.round_wait;
        for round in 1..=rounds.max(1) {
            if self.final_round(state).await {
                return true;
            }
            if round < rounds {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_ROUND_WAIT);
            }
        }
        tracing::error!(
            job = self.job.id,
            rounds,
            "the final state of the job could not be reported; giving up"
        );
        false
    }

    async fn final_round(&mut self, state: &FinalState) -> bool {
        self.interval = self.start_interval;
        loop {
            if !self.send_rest().await {
                return false;
            }
            match self.put_final(state).await {
                UpdateResult::Succeeded | UpdateResult::Abort => return true,
                UpdateResult::Accepted => sleep(self.interval).await,
                UpdateResult::TraceValidationFailed => {
                    self.sent = 0;
                    sleep(self.interval).await;
                }
                UpdateResult::Failed => {
                    sleep(self.interval).await;
                    return false;
                }
            }
        }
    }

    /// Patches back to back until everything is sent or the server wants no more.
    async fn send_rest(&mut self) -> bool {
        let mut mismatches = 0;
        while self.sent < self.log.length() {
            match self.patch().await.result {
                PatchResult::Succeeded => mismatches = 0,
                PatchResult::Abort | PatchResult::NotFound => return true,
                PatchResult::RangeMismatch(_) if mismatches < MISMATCHES_IN_A_ROW => {
                    mismatches += 1;
                    sleep(self.interval).await;
                }
                PatchResult::RangeMismatch(_) | PatchResult::Failed => {
                    sleep(self.interval).await;
                    return false;
                }
            }
        }
        true
    }

    /// Sends the next piece, if there is one, and follows what the server says of offset and interval.
    async fn patch(&mut self) -> Said<PatchResult> {
        let piece = match self.log.read(self.sent, MAX_PATCH) {
            Ok(piece) => piece,
            Err(error) => {
                tracing::error!(job = self.job.id, "cannot read the job's log: {error}");
                return Said::nothing(PatchResult::Failed);
            }
        };
        if piece.is_empty() {
            return Said::nothing(PatchResult::Succeeded);
        }
        let length = piece.len() as u64;
        let said = self
            .api
            .patch_trace(&self.job, piece, self.sent, self.debug_trace)
            .await;
        self.interval = said.interval.unwrap_or(self.interval);
        match said.result {
            PatchResult::Succeeded => {
                self.sent += length;
                self.last_contact = Some(Instant::now());
            }
            PatchResult::RangeMismatch(stored) => self.sent = stored,
            PatchResult::Abort | PatchResult::NotFound | PatchResult::Failed => {}
        }
        said
    }

    async fn put(&mut self, state: JobState, output: TraceSummary) -> Said<UpdateResult> {
        let update = UpdateRequest {
            state,
            ..self.update(output)
        };
        let said = self.api.update_job(&self.job, &update).await;
        self.interval = said.interval.unwrap_or(self.interval);
        said
    }

    async fn put_final(&mut self, state: &FinalState) -> UpdateResult {
        let mut update = self.update(self.log.summary());
        match state {
            FinalState::Success => update.state = JobState::Success,
            FinalState::Failed { reason, exit_code } => {
                update.state = JobState::Failed;
                update.failure_reason = Some(reason.clone());
                update.exit_code = *exit_code;
            }
        }
        let said = self.api.update_job(&self.job, &update).await;
        self.interval = said.interval.unwrap_or(self.interval);
        said.result
    }

    fn update(&self, output: TraceSummary) -> UpdateRequest {
        UpdateRequest {
            info: Info::clone(&self.info),
            token: self.job.token.clone(),
            checksum: output.checksum.clone(),
            output,
            ..UpdateRequest::default()
        }
    }
}

#[cfg(test)]
mod tests;
