//! Telling GitLab: the log by offset, keep-alives, the final state (`runner-protocol.md` 5.7, 5.8).

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use courser_protocol::{Info, JobState, TraceSummary, UpdateRequest};
use http::StatusCode;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::client::Api;
use crate::client::jobs::{JobCredentials, PatchResult, Said, UpdateResult};
use crate::log::JobLog;
use crate::spool::journal::FinalState;

/// Interval until the server names another.
const START_INTERVAL: Duration = Duration::from_secs(3);

/// Silence after which a running job is touched.
const FORCE_SEND: Duration = Duration::from_secs(30);
const LONGEST_FORCE_SEND: Duration = Duration::from_secs(30 * 60);

/// Largest patch. When this much waits it is sent at once, and so on until less waits; upstream sends one
/// patch an interval. A server that asks for patience gets the interval.
pub(crate) const MAX_PATCH: usize = 1024 * 1024;

/// Between rounds of the final update; doubles.
const ROUND_WAIT: Duration = Duration::from_secs(1);
const LONGEST_ROUND_WAIT: Duration = Duration::from_secs(60 * 60);

/// A final state that the server takes within this time is never waited for at the disk.
const PROMPT: Duration = Duration::from_millis(200);

/// Range mismatches, or logs refused as a whole, in a row after which a round counts as failed. Upstream has no bound:
/// a server that never agrees would hold the job for ever.
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
    /// The last patch got through without a word of patience: the next may follow at once.
    eager: bool,
    /// For patches, one after the other.
    room: BytesMut,
    /// Of a log that another process began, what was added: said again when the server turns out to have more.
    last_words: Option<String>,
    /// Nobody knows whether the acknowledgement has arrived: it is repeated. Without it GitLab hands the job out again
    /// after two minutes, and takes no final state.
    unheard: bool,
}

/// A call beside the reporter's.
pub(crate) struct Probe {
    api: Arc<Api>,
    info: Arc<Info>,
    job: JobCredentials,
}

impl Probe {
    /// Whether nobody answers for the server now, beside a proxy that misses it.
    pub(crate) async fn server_is_away(&self) -> bool {
        let update = UpdateRequest {
            info: Info::clone(&self.info),
            token: self.job.token.clone(),
            state: JobState::Running,
            ..UpdateRequest::default()
        };
        let said = self.api.update_job(&self.job, &update).await;
        said.result == UpdateResult::Failed
            && matches!(
                said.status,
                None | Some(
                    StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                )
            )
    }
}

impl Report {
    /// For whoever must know at once whether the server is there.
    pub(crate) fn probe(&self) -> Probe {
        Probe {
            api: Arc::clone(&self.api),
            info: Arc::clone(&self.info),
            job: self.job.clone(),
        }
    }

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
            eager: true,
            room: BytesMut::new(),
            last_words: None,
            unheard: false,
        }
    }

    /// Id of the job.
    pub(crate) fn job(&self) -> i64 {
        self.job.id
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

    /// Goes on where another process was: the server has the log up to `offset`, unless it says otherwise.
    pub(crate) fn resume(mut self, offset: u64) -> Self {
        self.sent = offset;
        self.last_words = Some(String::new());
        self.unheard = true;
        self
    }

    /// What was added to a resumed log.
    pub(crate) fn last_words(&mut self, words: String) {
        self.last_words = Some(words);
    }

    /// Tells the end of a job of which the server may not know that it began. `false`: it cannot be told now.
    pub(crate) async fn finish_unstarted(&mut self, state: &FinalState) -> bool {
        // Of a job that was not acknowledged the server takes no log either.
        self.send_rest().await;
        let said = self.put_final(state).await;
        // A job that was not acknowledged is refused (400) and goes to another runner by itself.
        match said.status {
            Some(status) => !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS,
            None => said.result == UpdateResult::Abort,
        }
    }

    /// Whether the server still wants a job that another process began; nothing when it cannot be asked now.
    pub(crate) async fn still_wanted(&mut self) -> Option<bool> {
        let said = self.put(JobState::Running, self.log.summary()).await;
        match said.result {
            UpdateResult::Succeeded => {
                self.unheard = false;
                Some(true)
            }
            UpdateResult::Abort => Some(false),
            _ => None,
        }
    }

    /// Second phase of the two-phase commit (2.6).
    pub(crate) async fn acknowledge(&mut self) -> Acknowledged {
        let said = self.put(JobState::Running, TraceSummary::default()).await;
        match said.result {
            UpdateResult::Abort => Acknowledged::Gone,
            _ if said.cancel_requested => Acknowledged::Canceled,
            _ => {
                let answered = said.status.is_some_and(|status| !status.is_server_error());
                self.unheard = !answered;
                self.log.started();
                Acknowledged::Run
            }
        }
    }

    /// Sends the log while the job runs, until `finished`; then the patch under way is completed.
    pub(crate) async fn send_while_running(
        &mut self,
        wishes: &mpsc::UnboundedSender<ServerWish>,
        finished: &CancellationToken,
    ) {
        let mut synced = false;
        let mut next = Instant::now() + self.interval;
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.log.waiting(self.sent, MAX_PATCH as u64), if self.eager => {}
                () = finished.cancelled() => return,
            }
            // A job that is over by now needs no disk.
            if !std::mem::replace(&mut synced, true) {
                self.sync().await;
            }
            let wish = self.tick().await;
            next = Instant::now() + self.interval;
            if let Some(wish) = wish {
                wishes.send(wish).ok();
                if wish == ServerWish::Abort {
                    return;
                }
            }
        }
    }

    /// Patches until less than one waits, and a keep-alive after a long silence.
    async fn tick(&mut self) -> Option<ServerWish> {
        let mut patch = self.patch().await;
        while self.eager
            && !patch.cancel_requested
            && self.log.length().saturating_sub(self.sent) >= MAX_PATCH as u64
        {
            patch = self.patch().await;
        }
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
        if silent || self.unheard {
            let touch = self.put(JobState::Running, self.log.summary()).await;
            match touch.result {
                UpdateResult::Abort => return Some(ServerWish::Abort),
                UpdateResult::Succeeded => {
                    self.last_contact = Some(Instant::now());
                    self.unheard = false;
                }
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

    /// Has what is kept of the job survive a power failure.
    async fn sync(&self) {
        if let Some(unsynced) = self.log.unsynced() {
            let syncing = tokio::task::spawn_blocking(|| unsynced.sync()).await;
            if let Ok(Err(error)) = syncing {
                tracing::warn!(job = self.job.id, "cannot sync the job's log: {error}");
            }
        }
    }

    /// Writes down how the job ended, then [`Self::finish`]. What takes the server long is synced meanwhile.
    pub(crate) async fn conclude(&mut self, state: &FinalState, rounds: u32) -> bool {
        self.log.ended(state);
        let unsynced = self.log.unsynced();
        let syncing = async {
            sleep(PROMPT).await;
            if let Some(unsynced) = unsynced {
                tokio::task::spawn_blocking(|| unsynced.sync()).await.ok();
            }
            std::future::pending::<()>().await;
        };
        let told = tokio::select! {
            told = self.finish(state, rounds) => told,
            () = syncing => false,
        };
        if told {
            self.log.remove();
        }
        told
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
        false
    }

    async fn final_round(&mut self, state: &FinalState) -> bool {
        self.interval = self.start_interval;
        let mut refused = 0;
        loop {
            if !self.send_rest().await {
                return false;
            }
            let said = self.put_final(state).await;
            // So GitLab answers while it waits for the acknowledgement.
            if said.status == Some(StatusCode::BAD_REQUEST) && std::mem::take(&mut self.unheard) {
                self.put(JobState::Running, self.log.summary()).await;
                continue;
            }
            match said.result {
                UpdateResult::Succeeded | UpdateResult::Abort => return true,
                UpdateResult::Accepted => sleep(self.interval).await,
                UpdateResult::TraceValidationFailed => {
                    refused += 1;
                    self.sent = 0;
                    sleep(self.interval).await;
                    // Without a checksum there is nothing that could be set right at once.
                    if refused > MISMATCHES_IN_A_ROW || !self.log.is_whole() {
                        return false;
                    }
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
            let begin = self.log.begin();
            if self.sent < begin {
                self.never_whole(&format!("the first {begin} bytes are not kept any more"));
                return true;
            }
            match self.patch().await.result {
                PatchResult::Succeeded => mismatches = 0,
                PatchResult::Abort | PatchResult::NotFound => return true,
                PatchResult::RangeMismatch(stored) if mismatches < MISMATCHES_IN_A_ROW => {
                    mismatches += 1;
                    if self.go_behind(stored) {
                        continue;
                    }
                    let length = self.log.length();
                    if stored > length {
                        self.never_whole(&format!("there are only {length} bytes"));
                        return true;
                    }
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

    /// The server wants what cannot be had: no checksum would ever match, so none is told.
    fn never_whole(&self, why: &str) {
        tracing::error!(
            job = self.job.id,
            "the server wants the log from byte {}, but {why}; only the final state is told",
            self.sent
        );
        self.log.lose();
    }

    /// Whether a log that another process began, and the machine's end has shortened, goes on at `stored`.
    fn go_behind(&self, stored: u64) -> bool {
        let Some(last_words) = &self.last_words else {
            return false;
        };
        if stored <= self.log.length() {
            return true;
        }
        let moved = self.log.skip_to(stored);
        if moved {
            self.log.say(last_words);
            self.log.finish();
        }
        moved
    }

    /// Sends the next piece, if there is one, and follows what the server says of offset and interval.
    async fn patch(&mut self) -> Said<PatchResult> {
        // The server has lost what is not kept any more: the job itself goes on, and hears of a cancel.
        if self.sent < self.log.begin() {
            self.eager = false;
            return Said::nothing(PatchResult::Succeeded);
        }
        let piece = match self.log.read(self.sent, MAX_PATCH, &mut self.room) {
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
        // A job that prints little shall not hold what it once needed.
        if piece.len() < MAX_PATCH {
            self.room = BytesMut::new();
        }
        let said = self
            .api
            .patch_trace(&self.job, piece, self.sent, self.debug_trace)
            .await;
        self.interval = said.interval.unwrap_or(self.interval);
        self.eager = said.result == PatchResult::Succeeded && !said.pushed_back;
        match said.result {
            PatchResult::Succeeded => {
                self.sent += length;
                self.log.acknowledged(self.sent);
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

    async fn put_final(&mut self, state: &FinalState) -> Said<UpdateResult> {
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
        said
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
