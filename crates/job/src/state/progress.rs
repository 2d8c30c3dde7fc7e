//! The rows of the machine: what each event means where the job is (`runner-build-lifecycle.md` 1.2 to 1.8).

use std::sync::Arc;
use std::time::Duration;

use courser_protocol::FailureReason;
use serde::{Deserialize, Serialize};

use super::outcome::{Failure, Outcome, StageExit};
use super::{Action, Event, JobState, Plan, Step, Stop, Timer};
use crate::duration::go_duration;
use crate::settings::{AFTER_SCRIPT_TIMEOUT, SCRIPT_TIMEOUT};
use crate::{JobStatus, Stage, TimeoutSetting, TimeoutVariable, messages};

/// What a job has come to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    plan: Arc<Plan>,
    /// Value of `CI_JOB_STATUS`.
    pub(super) status: JobStatus,
    steps_done: usize,
    /// First failure of sources, caches in, artifacts in, scripts.
    failure: Option<Failure>,
    /// Failures that count only without one before.
    cache_failure: Option<Failure>,
    artifact_failure: Option<Failure>,
    after_script_limit: Duration,
    /// The scripts ran in another process.
    resumed: bool,
}

/// What a job's scripts came to: with payload and context enough to go on in another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptsOver {
    status: JobStatus,
    failure: Option<Failure>,
}

/// Preparations before the job is given up.
const PREPARE_ATTEMPTS: u32 = 3;
const PREPARE_PAUSE: Duration = Duration::from_secs(3);
const DEFAULT_AFTER_SCRIPT_LIMIT: Duration = Duration::from_secs(300);
const UNWIND_LIMIT: Duration = Duration::from_secs(300);

/// Between uploads while the server is away; doubles.
const UPLOAD_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_UPLOAD_PAUSE: Duration = Duration::from_secs(60);

impl Progress {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            status: JobStatus::Running,
            steps_done: 0,
            failure: None,
            cache_failure: None,
            artifact_failure: None,
            after_script_limit: DEFAULT_AFTER_SCRIPT_LIMIT,
            resumed: false,
        }
    }

    pub(super) fn resume(plan: Plan, over: ScriptsOver) -> Self {
        Self {
            status: over.status,
            failure: over.failure,
            resumed: true,
            ..Self::new(plan)
        }
    }

    /// What the scripts came to, in a stage that may be repeated by another process.
    pub(super) fn scripts_over(&self, stage: &Stage) -> Option<ScriptsOver> {
        (follows_scripts(stage) && *stage != Stage::AfterScript).then(|| ScriptsOver {
            status: self.status,
            failure: self.failure.clone(),
        })
    }

    /// What an event that ends the whole job wherever it is, before scripts are entered, means.
    fn ending(&self, event: &Event) -> Option<Stop> {
        match event {
            Event::TimerFired(Timer::Job) => Some(Stop::JobTimeout),
            // The scripts are over: as behind them, a cancel has no target any more.
            Event::CancelRequested if self.resumed => None,
            Event::CancelRequested | Event::AbortRequested => Some(Stop::Canceled),
            Event::Interrupted(signal) => Some(Stop::Interrupted(signal.clone())),
            _ => None,
        }
    }

    pub(super) fn accepted(self, event: Event) -> Step {
        if let Some(stop) = self.ending(&event) {
            let failure = self.stop_failure(&stop, None);
            return self.finish(Some(failure), Vec::new());
        }
        if event != Event::Started {
            return (JobState::Accepted(self), Vec::new());
        }
        let opening = Action::Log(self.plan.opening.clone());
        // What another process resolved is in the environment of scripts that are over.
        if self.plan.lacks_secrets && !self.resumed {
            let state = JobState::Resolving {
                progress: self,
                stop: None,
            };
            return (state, vec![opening, Action::ResolveSecrets]);
        }
        self.begin(vec![opening])
    }

    /// The job's clock begins (`secrets.md` 4.2).
    fn begin(self, mut actions: Vec<Action>) -> Step {
        actions.push(Action::StartTimer(Timer::Job, self.plan.timeout));
        if let Some(limit) = self.plan.prepare_timeout {
            actions.push(Action::StartTimer(Timer::Prepare, limit));
        }
        self.prepare(1, actions)
    }

    pub(super) fn resolving(mut self, stop: Option<Stop>, event: Event) -> Step {
        let stage = Stage::ResolveSecrets;
        match (event, stop) {
            (Event::SecretsResolved(_) | Event::SecretsFailed { .. }, Some(stop)) => {
                let failure = self.stop_failure(&stop, Some(&stage));
                self.finish(Some(failure), Vec::new())
            }
            (Event::TimerFired(Timer::Unwind), Some(stop)) => {
                let failure = self.stop_failure(&stop, Some(&stage));
                let actions = vec![Action::Log(messages::unwinding_timed_out())];
                self.finish(Some(failure), actions)
            }
            (Event::SecretsResolved(plan), None) => {
                self.plan = Arc::new(*plan);
                self.begin(Vec::new())
            }
            (Event::SecretsFailed { message, reason }, None) => {
                self.finish(Some(Failure::new(reason, message)), Vec::new())
            }
            (event, stop) => {
                let (stop, actions) = self.judge_stop(&stage, stop, &event);
                let state = JobState::Resolving {
                    progress: self,
                    stop,
                };
                (state, actions)
            }
        }
    }

    fn prepare(self, attempt: u32, mut actions: Vec<Action>) -> Step {
        actions.push(Action::Prepare);
        let state = JobState::Preparing {
            progress: self,
            attempt,
            stop: None,
        };
        (state, actions)
    }

    pub(super) fn preparing(self, attempt: u32, stop: Option<Stop>, event: Event) -> Step {
        match (event, stop) {
            (Event::Prepared | Event::PrepareFailed { .. }, Some(stop)) => {
                let failure = self.stop_failure(&stop, Some(&Stage::PrepareExecutor));
                self.finish(
                    Some(failure),
                    warn_of_timeout(&stop, &Stage::PrepareExecutor),
                )
            }
            (Event::TimerFired(Timer::Unwind), Some(stop)) if stop.ends_job() => {
                let failure = self.stop_failure(&stop, Some(&Stage::PrepareExecutor));
                let actions = vec![Action::Log(messages::unwinding_timed_out())];
                self.finish(Some(failure), actions)
            }
            (Event::Prepared, None) => self.start(Stage::PrepareScript, 1, Vec::new()),
            (
                Event::PrepareFailed {
                    message,
                    reason: Some(reason),
                },
                None,
            ) => self.finish(Some(Failure::new(reason, message)), Vec::new()),
            (
                Event::PrepareFailed {
                    message,
                    reason: None,
                },
                None,
            ) => {
                let actions = vec![
                    Action::Log(messages::preparation_failed(&message)),
                    Action::Log(messages::will_be_retried()),
                    Action::StartTimer(Timer::Pause, PREPARE_PAUSE),
                ];
                let state = JobState::PausingPreparation {
                    progress: self,
                    attempt,
                    message,
                };
                (state, actions)
            }
            (event, stop) => {
                let (stop, actions) = self.judge_stop(&Stage::PrepareExecutor, stop, &event);
                let state = JobState::Preparing {
                    progress: self,
                    attempt,
                    stop,
                };
                (state, actions)
            }
        }
    }

    pub(super) fn pausing_preparation(self, attempt: u32, message: String, event: Event) -> Step {
        let stop = match &event {
            Event::TimerFired(Timer::Pause) if attempt < PREPARE_ATTEMPTS => {
                return self.prepare(attempt + 1, Vec::new());
            }
            Event::TimerFired(Timer::Pause) => {
                let failure = Failure::new(FailureReason::RunnerSystemFailure, message);
                return self.finish(Some(failure), Vec::new());
            }
            Event::TimerFired(Timer::Prepare) => Some(Stop::StageTimeout),
            event => self.ending(event),
        };
        match stop {
            Some(stop) => {
                let failure = self.stop_failure(&stop, Some(&Stage::PrepareExecutor));
                self.finish(Some(failure), vec![Action::StopTimer(Timer::Pause)])
            }
            None => {
                let state = JobState::PausingPreparation {
                    progress: self,
                    attempt,
                    message,
                };
                (state, Vec::new())
            }
        }
    }

    pub(super) fn pausing_stage(
        self,
        stage: Stage,
        attempt: u32,
        event: Event,
        elapsed: Duration,
    ) -> Step {
        let stop = match &event {
            // Only before the second attempt; its failure is that of the attempt.
            Event::TimerFired(Timer::Pause) if stage == Stage::GetSources && attempt == 2 => {
                return self.start(Stage::ClearWorktree, attempt, Vec::new());
            }
            Event::TimerFired(Timer::Pause) => return self.start(stage, attempt, Vec::new()),
            Event::TimerFired(Timer::Sources) if stage == Stage::GetSources => {
                Some(Stop::StageTimeout)
            }
            // The server's cancel has no target any more.
            Event::CancelRequested if follows_scripts(&stage) => None,
            event => self.ending(event),
        };
        match stop {
            Some(stop) => self.stopped(
                &stage,
                &stop,
                vec![Action::StopTimer(Timer::Pause)],
                elapsed,
            ),
            None => {
                let state = JobState::PausingStage {
                    progress: self,
                    stage,
                    attempt,
                };
                (state, Vec::new())
            }
        }
    }

    pub(super) fn running(
        self,
        stage: Stage,
        attempt: u32,
        stop: Option<Stop>,
        event: Event,
        elapsed: Duration,
    ) -> Step {
        match (event, stop) {
            (Event::StageEnded(_), Some(stop)) => {
                let actions = warn_of_timeout(&stop, &stage);
                self.stopped(&stage, &stop, actions, elapsed)
            }
            (Event::StageEnded(exit), None) => self.stage_ended(stage, attempt, exit, elapsed),
            (Event::TimerFired(Timer::Unwind), Some(stop)) if stop.ends_job() => {
                let actions = vec![Action::Log(messages::unwinding_timed_out())];
                self.stopped(&stage, &stop, actions, elapsed)
            }
            (event, stop) => {
                let (stop, actions) = self.judge_stop(&stage, stop, &event);
                let state = JobState::Running {
                    progress: self,
                    stage,
                    attempt,
                    stop,
                };
                (state, actions)
            }
        }
    }

    /// What an event means for something that runs: whether it must stop, and how the runner is told.
    fn judge_stop(
        &self,
        stage: &Stage,
        stop: Option<Stop>,
        event: &Event,
    ) -> (Option<Stop>, Vec<Action>) {
        let is_script = matches!(stage, Stage::Step(_));
        let wanted = match event {
            Event::CancelRequested if is_script => Some(Stop::ScriptCanceled),
            // The server's cancel has no target any more.
            Event::CancelRequested if follows_scripts(stage) => None,
            Event::TimerFired(timer) if own_timer(stage) == Some(*timer) => {
                Some(Stop::StageTimeout)
            }
            event => self.ending(event),
        };
        let Some(wanted) = wanted else {
            return (stop, Vec::new());
        };
        if stop
            .as_ref()
            .is_some_and(|stop| stop.ends_job() || !wanted.ends_job())
        {
            return (stop, Vec::new());
        }
        let mut actions = Vec::new();
        if wanted == Stop::ScriptCanceled {
            actions.push(Action::Log(messages::script_canceled()));
        }
        if stop.is_none() {
            actions.push(Action::Stop);
        }
        if wanted.ends_job() {
            actions.push(Action::StartTimer(Timer::Unwind, UNWIND_LIMIT));
        }
        (Some(wanted), actions)
    }

    fn stage_ended(self, stage: Stage, attempt: u32, exit: StageExit, elapsed: Duration) -> Step {
        // Upstream fails the job. An upload has no attempts of its own; its patience is that of the job.
        if matches!(exit, StageExit::Unreached { .. }) && is_upload(&stage) {
            let pause = UPLOAD_PAUSE * (1 << attempt.saturating_sub(1).min(6));
            let pause = pause.min(LONGEST_UPLOAD_PAUSE);
            let actions = vec![
                Action::Log(messages::upload_is_repeated(pause)),
                Action::StartTimer(Timer::Pause, pause),
            ];
            let state = JobState::PausingStage {
                progress: self,
                stage,
                attempt: attempt + 1,
            };
            return (state, actions);
        }
        let Some(failure) = Failure::of(exit) else {
            let actions = self.leave(&stage);
            return match stage {
                Stage::ClearWorktree => self.start(Stage::GetSources, attempt, actions),
                stage => self.proceed(&stage, actions, elapsed),
            };
        };
        // Clearing the work tree is part of the attempt that follows it.
        let attempted = match stage {
            Stage::ClearWorktree => Stage::GetSources,
            stage => stage,
        };
        if attempt < self.plan.attempts(&attempted) {
            let actions = vec![
                Action::Log(messages::retrying()),
                Action::StartTimer(Timer::Pause, self.plan.backoff(attempt)),
            ];
            let state = JobState::PausingStage {
                progress: self,
                stage: attempted,
                attempt: attempt + 1,
            };
            return (state, actions);
        }
        self.failed(&attempted, failure, Vec::new(), elapsed)
    }

    /// A stage has failed for good.
    fn failed(
        mut self,
        stage: &Stage,
        failure: Failure,
        mut actions: Vec<Action>,
        elapsed: Duration,
    ) -> Step {
        match stage {
            // It has a state of its own, so that it does not get here.
            Stage::ResolveSecrets => return self.finish(Some(failure), actions),
            Stage::PrepareScript | Stage::PrepareExecutor => {
                let message = messages::prepare_environment_failed(&failure.message);
                return self.finish(Some(Failure { message, ..failure }), actions);
            }
            Stage::Step(_) => {
                self.status = match failure.reason {
                    FailureReason::JobCanceled => JobStatus::Canceled,
                    FailureReason::JobExecutionTimeout => JobStatus::TimedOut,
                    _ => JobStatus::Failed,
                };
                self.failure = Some(failure);
            }
            Stage::AfterScript if self.plan.ignore_after_script_errors => {
                actions.push(Action::Log(messages::after_script_ignored(
                    &failure.message,
                )));
            }
            Stage::ArchiveCache | Stage::ArchiveCacheOnFailure => {
                self.cache_failure = Some(failure);
            }
            Stage::UploadArtifactsOnSuccess | Stage::UploadArtifactsOnFailure => {
                self.artifact_failure = Some(failure);
            }
            // Only the runner's own log cares.
            Stage::CleanupFileVariables => {}
            Stage::GetSources
            | Stage::ClearWorktree
            | Stage::RestoreCache
            | Stage::DownloadArtifacts
            | Stage::AfterScript => self.failure = self.failure.take().or(Some(failure)),
        }
        actions.extend(self.leave(stage));
        self.proceed(stage, actions, elapsed)
    }

    /// A stage has stopped because it was told to.
    fn stopped(self, stage: &Stage, stop: &Stop, actions: Vec<Action>, elapsed: Duration) -> Step {
        let failure = self.stop_failure(stop, Some(stage));
        let ends_job = stop.ends_job()
            || matches!(
                stage,
                Stage::PrepareExecutor
                    | Stage::PrepareScript
                    | Stage::GetSources
                    | Stage::ClearWorktree
            );
        if ends_job {
            self.finish(Some(failure), actions)
        } else {
            self.failed(stage, failure, actions, elapsed)
        }
    }

    fn stop_failure(&self, stop: &Stop, stage: Option<&Stage>) -> Failure {
        match stop {
            Stop::Canceled | Stop::ScriptCanceled => {
                Failure::new(FailureReason::JobCanceled, "canceled")
            }
            Stop::Interrupted(signal) => Failure::new(
                FailureReason::RunnerInterrupted,
                format!("aborted: {signal}"),
            ),
            Stop::JobTimeout => {
                let limit = go_duration(self.plan.timeout);
                Failure::new(
                    FailureReason::JobExecutionTimeout,
                    format!("execution took longer than {limit} seconds"),
                )
            }
            Stop::StageTimeout => match stage {
                Some(Stage::GetSources | Stage::ClearWorktree) => Failure::exceeded(
                    "get sources",
                    self.plan.get_sources_timeout.unwrap_or(self.plan.timeout),
                ),
                Some(Stage::AfterScript) => Failure::new(
                    FailureReason::JobExecutionTimeout,
                    "after_script timeout: context deadline exceeded",
                ),
                Some(Stage::Step(_)) => Failure::new(
                    FailureReason::JobExecutionTimeout,
                    "script timeout: context deadline exceeded",
                ),
                _ => Failure::exceeded(
                    "prepare",
                    self.plan.prepare_timeout.unwrap_or(self.plan.timeout),
                ),
            },
        }
    }

    /// Stops the clock that ran for this stage alone.
    fn leave(&self, stage: &Stage) -> Vec<Action> {
        match stage {
            Stage::PrepareScript if self.plan.prepare_timeout.is_some() => {
                vec![Action::StopTimer(Timer::Prepare)]
            }
            Stage::GetSources if self.plan.get_sources_timeout.is_some() => {
                vec![Action::StopTimer(Timer::Sources)]
            }
            Stage::AfterScript => vec![Action::StopTimer(Timer::AfterScript)],
            _ => Vec::new(),
        }
    }

    /// Goes on after `stage`: to the next stage that has work, or to the end.
    fn proceed(mut self, stage: &Stage, mut actions: Vec<Action>, elapsed: Duration) -> Step {
        let mut done = stage.clone();
        loop {
            let next = match done {
                Stage::PrepareExecutor | Stage::PrepareScript if self.resumed => {
                    self.archive_stage()
                }
                Stage::ResolveSecrets => Stage::PrepareExecutor,
                Stage::PrepareExecutor | Stage::PrepareScript => Stage::GetSources,
                Stage::GetSources | Stage::ClearWorktree if self.failure.is_none() => {
                    Stage::RestoreCache
                }
                Stage::RestoreCache if self.failure.is_none() => Stage::DownloadArtifacts,
                Stage::DownloadArtifacts if self.failure.is_none() => {
                    self.enter_scripts(elapsed, &mut actions);
                    self.next_step(&mut actions)
                }
                Stage::Step(_) => self.next_step(&mut actions),
                Stage::GetSources
                | Stage::ClearWorktree
                | Stage::RestoreCache
                | Stage::DownloadArtifacts
                | Stage::AfterScript => self.archive_stage(),
                Stage::ArchiveCache | Stage::ArchiveCacheOnFailure => {
                    if self.failure.is_none() {
                        Stage::UploadArtifactsOnSuccess
                    } else {
                        Stage::UploadArtifactsOnFailure
                    }
                }
                Stage::UploadArtifactsOnSuccess | Stage::UploadArtifactsOnFailure => {
                    Stage::CleanupFileVariables
                }
                Stage::CleanupFileVariables => {
                    let failure = self.failure.take();
                    let failure = failure
                        .or_else(|| self.cache_failure.take())
                        .or_else(|| self.artifact_failure.take());
                    return self.finish(failure, actions);
                }
            };
            if self.plan.has_work(&next) {
                return self.start(next, 1, actions);
            }
            done = next;
        }
    }

    /// The first stage after the scripts.
    fn archive_stage(&self) -> Stage {
        if self.failure.is_none() {
            Stage::ArchiveCache
        } else {
            Stage::ArchiveCacheOnFailure
        }
    }

    fn next_step(&mut self, actions: &mut Vec<Action>) -> Stage {
        if self.failure.is_none()
            && let Some(step) = self.plan.steps.get(self.steps_done)
        {
            self.steps_done += 1;
            return step.clone();
        }
        actions.push(Action::StopTimer(Timer::Script));
        if self.failure.is_none() {
            self.status = JobStatus::Success;
        }
        Stage::AfterScript
    }

    /// Before the first user step: policy lines, and both script timeouts are judged.
    fn enter_scripts(&mut self, elapsed: Duration, actions: &mut Vec<Action>) {
        if !self.plan.before_steps.is_empty() {
            actions.push(Action::Log(self.plan.before_steps.clone()));
        }
        let remaining = self.plan.timeout.saturating_sub(elapsed);
        let plan = Arc::clone(&self.plan);
        if let Some(limit) = judge_timeout(SCRIPT_TIMEOUT, &plan.script_timeout, remaining, actions)
        {
            actions.push(Action::StartTimer(Timer::Script, limit));
        }
        let after = judge_timeout(
            AFTER_SCRIPT_TIMEOUT,
            &plan.after_script_timeout,
            remaining,
            actions,
        );
        self.after_script_limit = after.unwrap_or(DEFAULT_AFTER_SCRIPT_LIMIT);
    }

    fn start(self, stage: Stage, attempt: u32, mut actions: Vec<Action>) -> Step {
        match &stage {
            Stage::GetSources if attempt == 1 => {
                if let Some(limit) = self.plan.get_sources_timeout {
                    actions.push(Action::StartTimer(Timer::Sources, limit));
                }
            }
            Stage::AfterScript => {
                actions.push(Action::StartTimer(
                    Timer::AfterScript,
                    self.after_script_limit,
                ));
            }
            _ => {}
        }
        actions.push(Action::Run {
            stage: stage.clone(),
            status: self.status,
        });
        let state = JobState::Running {
            progress: self,
            stage,
            attempt,
            stop: None,
        };
        (state, actions)
    }

    fn finish(mut self, failure: Option<Failure>, mut actions: Vec<Action>) -> Step {
        // What the scripts came to is not changed by a process that only saves.
        let before = self.failure.take().filter(|_| self.resumed);
        let failure = before.or(failure);
        actions.push(Action::StopTimer(Timer::Job));
        actions.push(Action::CleanUp);
        let outcome = Outcome::new(failure);
        (JobState::CleaningUp { outcome }, actions)
    }
}

/// The clock whose end stops this stage only.
fn own_timer(stage: &Stage) -> Option<Timer> {
    match stage {
        Stage::PrepareExecutor | Stage::PrepareScript => Some(Timer::Prepare),
        Stage::GetSources | Stage::ClearWorktree => Some(Timer::Sources),
        Stage::Step(_) => Some(Timer::Script),
        Stage::AfterScript => Some(Timer::AfterScript),
        _ => None,
    }
}

fn is_upload(stage: &Stage) -> bool {
    matches!(
        stage,
        Stage::UploadArtifactsOnSuccess | Stage::UploadArtifactsOnFailure
    )
}

fn follows_scripts(stage: &Stage) -> bool {
    matches!(
        stage,
        Stage::AfterScript
            | Stage::ArchiveCache
            | Stage::ArchiveCacheOnFailure
            | Stage::UploadArtifactsOnSuccess
            | Stage::UploadArtifactsOnFailure
            | Stage::CleanupFileVariables
    )
}

fn warn_of_timeout(stop: &Stop, stage: &Stage) -> Vec<Action> {
    if stop.is_timeout() {
        vec![Action::Log(messages::stage_timed_out(&stage.id()))]
    } else {
        Vec::new()
    }
}

/// A limit for a phase, `None` = its default; says what it ignores.
fn judge_timeout(
    name: &str,
    variable: &TimeoutVariable,
    remaining: Duration,
    actions: &mut Vec<Action>,
) -> Option<Duration> {
    let warning = match variable.judge(remaining) {
        TimeoutSetting::Default => return None,
        TimeoutSetting::Limit(limit) => return Some(limit),
        TimeoutSetting::Malformed => messages::malformed_timeout(name, &variable.raw),
        TimeoutSetting::Negative => messages::relative_timeout(name, &variable.raw),
        TimeoutSetting::BeyondJob => messages::overlong_timeout(name, &variable.raw),
    };
    actions.push(Action::Log(warning));
    None
}
