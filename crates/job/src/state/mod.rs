//! The job as a state machine: `(state, event) -> (state, actions)` (`style.md` section 6).
//!
//! The runner's task performs [`Action`]s in order and feeds [`Event`]s back; it decides nothing. Facts:
//! `runner-build-lifecycle.md` 1.2 to 1.8. Events that make no sense in a state (a timer that fired while
//! it was being stopped) change nothing.
//!
//! ```text
//! Accepted ─► (Resolving) ─► Preparing ⇄ PausingPreparation
//!                 │
//!                 ▼
//!              Running (stage by stage) ⇄ PausingStage
//!                 │
//!                 ▼
//!             CleaningUp ─► Ended
//! ```

mod outcome;
mod plan;
mod progress;

use std::time::Duration;

use courser_protocol::FailureReason;

use crate::{JobStatus, Stage};
pub use outcome::{Outcome, StageExit};
pub use plan::Plan;
pub use progress::{Progress, ScriptsOver};

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Nothing has happened.
    Accepted(Progress),
    /// The job's secrets are resolved. Its clock does not run yet.
    Resolving {
        /// The job.
        progress: Progress,
        /// It was told to stop.
        stop: Option<Stop>,
    },
    /// The executor prepares.
    Preparing {
        /// The job.
        progress: Progress,
        /// From 1.
        attempt: u32,
        /// Preparation was told to stop.
        stop: Option<Stop>,
    },
    /// Between two preparations.
    PausingPreparation {
        /// The job.
        progress: Progress,
        /// The one that failed.
        attempt: u32,
        /// Why it failed.
        message: String,
    },
    /// A stage runs.
    Running {
        /// The job.
        progress: Progress,
        /// The stage.
        stage: Stage,
        /// From 1.
        attempt: u32,
        /// The stage was told to stop.
        stop: Option<Stop>,
    },
    /// Between two attempts of a stage.
    PausingStage {
        /// The job.
        progress: Progress,
        /// The stage.
        stage: Stage,
        /// The next attempt.
        attempt: u32,
    },
    /// The executor cleans up.
    CleaningUp {
        /// What will be reported.
        outcome: Outcome,
    },
    /// Over.
    Ended {
        /// What was reported.
        outcome: Outcome,
    },
}

/// Why a running stage was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Its own deadline; the job may go on.
    StageTimeout,
    /// Cancelled while scripts ran; `after_script` and uploads follow.
    ScriptCanceled,
    /// Job deadline; nothing follows.
    JobTimeout,
    /// Cancelled before scripts, or the server gave the job up; nothing follows.
    Canceled,
    /// The runner is told to end, by the signal of that name; nothing follows.
    Interrupted(String),
}

impl Stop {
    fn ends_job(&self) -> bool {
        !matches!(self, Self::StageTimeout | Self::ScriptCanceled)
    }

    fn is_timeout(&self) -> bool {
        matches!(self, Self::StageTimeout | Self::JobTimeout)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The job begins.
    Started,
    /// The job has its secrets, and with them other settings.
    SecretsResolved(Box<Plan>),
    /// It does not get them.
    SecretsFailed {
        /// Text for the log.
        message: String,
        /// Whose fault it is.
        reason: FailureReason,
    },
    /// The executor is ready.
    Prepared,
    /// The executor is not ready; it has cleaned up after itself.
    PrepareFailed {
        /// Text for the log.
        message: String,
        /// With a reason it is not tried again.
        reason: Option<FailureReason>,
    },
    /// The running stage is over.
    StageEnded(StageExit),
    /// A timer ran out.
    TimerFired(Timer),
    /// The server says `canceling`.
    CancelRequested,
    /// The server says the job is over, or refuses it.
    AbortRequested,
    /// The runner is told to end now, by the signal of that name (`terminated`, `interrupt`, `quit`).
    Interrupted(String),
    /// [`Action::CleanUp`] is done.
    CleanedUp,
}

/// Clocks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// The whole job.
    Job,
    /// `prepare_executor` and `prepare_script`.
    Prepare,
    /// All attempts of `get_sources`.
    Sources,
    /// All user steps.
    Script,
    /// `after_script`.
    AfterScript,
    /// Between attempts.
    Pause,
    /// For a stopped stage to end.
    Unwind,
}

/// What the runner does, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write to the log, stream of the runner.
    Log(String),
    /// Open section `resolve_secrets` with its title, resolve, close the section; then [`Event::SecretsResolved`] or
    /// [`Event::SecretsFailed`].
    ResolveSecrets,
    /// Open section `prepare_executor` with its title, prepare, close the section; then
    /// [`Event::Prepared`] or [`Event::PrepareFailed`].
    Prepare,
    /// Open the stage's section with its title, run `Job::stage(stage, status)`, close the section; then
    /// [`Event::StageEnded`].
    Run {
        /// Has work.
        stage: Stage,
        /// For `CI_JOB_STATUS`.
        status: JobStatus,
    },
    /// Tell what runs (preparation or stage) to stop; its end is still reported.
    Stop,
    /// Start a clock.
    StartTimer(Timer, Duration),
    /// Forget a clock; also when it is not running.
    StopTimer(Timer),
    /// Stop what still runs by force and tear the executor's environment down, if there is one; then
    /// [`Event::CleanedUp`]. Clocks that still run do not matter any more.
    CleanUp,
    /// Report the outcome. Nothing follows.
    Report(Outcome),
}

type Step = (JobState, Vec<Action>);

impl JobState {
    /// A job before its first event.
    pub fn new(plan: Plan) -> Self {
        Self::Accepted(Progress::new(plan))
    }

    /// A job before its first event whose scripts ran in another process: its surroundings are prepared again, then
    /// its caches and artifacts are saved.
    pub fn resume(plan: Plan, over: ScriptsOver) -> Self {
        Self::Accepted(Progress::resume(plan, over))
    }

    /// What the scripts came to, while caches and artifacts are saved.
    pub fn scripts_over(&self) -> Option<ScriptsOver> {
        match self {
            Self::Running {
                progress, stage, ..
            } => progress.scripts_over(stage),
            _ => None,
        }
    }

    /// Decides; never waits. `elapsed` is the time since [`Timer::Job`] was started.
    pub fn on(self, event: Event, elapsed: Duration) -> Step {
        match (self, event) {
            (Self::Accepted(progress), event) => progress.accepted(event),
            (Self::Resolving { progress, stop }, event) => progress.resolving(stop, event),
            (
                Self::Preparing {
                    progress,
                    attempt,
                    stop,
                },
                event,
            ) => progress.preparing(attempt, stop, event),
            (
                Self::PausingPreparation {
                    progress,
                    attempt,
                    message,
                },
                event,
            ) => progress.pausing_preparation(attempt, message, event),
            (
                Self::Running {
                    progress,
                    stage,
                    attempt,
                    stop,
                },
                event,
            ) => progress.running(stage, attempt, stop, event, elapsed),
            (
                Self::PausingStage {
                    progress,
                    stage,
                    attempt,
                },
                event,
            ) => progress.pausing_stage(stage, attempt, event, elapsed),
            (Self::CleaningUp { outcome }, Event::CleanedUp) => {
                let actions = vec![Action::Log(outcome.line()), Action::Report(outcome.clone())];
                (Self::Ended { outcome }, actions)
            }
            (state @ (Self::CleaningUp { .. } | Self::Ended { .. }), _) => (state, Vec::new()),
        }
    }

    /// `CI_JOB_STATUS`, also for the runner's own display.
    pub fn status(&self) -> JobStatus {
        match self {
            Self::Accepted(progress)
            | Self::Resolving { progress, .. }
            | Self::Preparing { progress, .. }
            | Self::PausingPreparation { progress, .. }
            | Self::Running { progress, .. }
            | Self::PausingStage { progress, .. } => progress.status,
            Self::CleaningUp { outcome } | Self::Ended { outcome } => match outcome.reason {
                None => JobStatus::Success,
                Some(FailureReason::JobCanceled) => JobStatus::Canceled,
                Some(FailureReason::JobExecutionTimeout) => JobStatus::TimedOut,
                Some(_) => JobStatus::Failed,
            },
        }
    }
}

#[cfg(test)]
mod tests;
