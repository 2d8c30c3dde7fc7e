//! What the life cycle asks of an executor (`runner-build-lifecycle.md` 6.1).

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use courser_job::{DirectoryLayout, HelperRequest, Job, StageScript};
use courser_protocol::FailureReason;
use tokio_util::sync::CancellationToken;

use crate::Footprint;

/// A boxed future of the contract, so that executors can be trait objects.
pub type EnvironmentFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Asks a running stage to stop. Cancelling it starts the escalation: a polite signal, a grace
/// period, then force. Dropping the stage's future instead is force at once.
pub type StopSignal = CancellationToken;

/// One configured way to run jobs. Lives as long as the runner's configuration.
pub trait Executor: Send + Sync {
    /// What is known before any job.
    fn facts(&self) -> &Facts;

    /// Takes a place for one job, before the job is requested.
    fn acquire(&self) -> EnvironmentFuture<'_, Result<Place, NoPlace>>;

    /// Makes the surroundings of one job. Dropping the future takes away what was made so far.
    fn prepare<'a>(
        &'a self,
        preparation: Preparation<'a>,
    ) -> EnvironmentFuture<'a, Result<Box<dyn Environment>, PrepareError>>;
}

/// Shows a line of the runner's own in a job's log: one that [`courser_job::messages`] made.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Takes a footprint of what could not be taken away when its job was over: it is tried again later, also by another
/// process.
pub type Remains = Arc<dyn Fn(Footprint) + Send + Sync>;

/// What a preparation is handed.
pub struct Preparation<'a> {
    /// Taken before; goes into the environment.
    pub place: Place,
    /// For whom.
    pub job: &'a Job,
    /// Fires when the environment is not wanted any more: preparing ends then, once what was made is taken away.
    pub stop: StopSignal,
    /// Shows lines of the runner's own in the job's log; also while stages run.
    pub say: Say,
    /// Shows lines of services' logs in the job's (`CI_DEBUG_SERVICES`), each with its end; also while stages run.
    pub say_of_services: Say,
    /// To be told, once, what finds the job's processes and things again should this process die; before the first of
    /// them is made.
    pub footprint: &'a (dyn Fn(Footprint) + Send + Sync),
    /// To be told what stays, whenever the job's surroundings are taken away.
    pub remains: Remains,
}

/// The surroundings of one job. Dropping it kills whatever of the job still runs.
pub trait Environment: Send {
    /// Runs a stage to its end. Dropping the future kills the stage's processes.
    fn run<'a>(
        &'a mut self,
        stage: &'a StageScript,
        output: &'a mut dyn Output,
        stop: StopSignal,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>>;

    /// Does helper requests while a stage runs.
    fn beside(&self) -> Arc<dyn Beside>;

    /// Tears the surroundings down and gives the place back.
    fn clean_up(self: Box<Self>) -> EnvironmentFuture<'static, Result<(), RunError>>;
}

/// Does helper requests of a job beside its stages, where and as whom its predefined stages run.
pub trait Beside: Send + Sync {
    /// Does one. Dropping the future kills it.
    fn run<'a>(
        &'a self,
        request: &'a HelperRequest,
        output: &'a mut dyn Output,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>>;
}

/// Does helper requests inside this process, for executors whose jobs run as this process's user.
/// The composition root hands it in, so that executors do not depend on the helper.
pub trait LightHelper: Send + Sync {
    /// Whether the request starts no program and waits for nothing.
    fn can_run(&self, request: &HelperRequest) -> bool;

    /// Does it.
    fn run(&self, request: &HelperRequest, output: &mut dyn Output) -> Exit;
}

/// Which pipe bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes what a stage prints, in the order in which it was read.
pub trait Output: Send {
    /// Called with 1 byte to 64 KiB. Must not block for long.
    fn write(&mut self, stream: Stream, bytes: &[u8]);

    /// Whether it matters which pipe bytes came from. Where it does not, both outputs of a process may
    /// share one pipe, and what is written comes in the order in which it was written.
    fn tells_streams_apart(&self) -> bool {
        true
    }
}

/// What is known about an executor before any job.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Name as in `config.toml`.
    pub name: &'static str,
    /// Shell in use.
    pub shell: String,
    /// Directories, absolute.
    pub directories: DirectoryLayout,
    /// Default of `[runners.custom_build_dir] enabled`.
    pub custom_build_dir: bool,
    /// Default of `clean_git_config`.
    pub clean_git_config: bool,
    /// Default of `safe_directory_checkout`.
    pub safe_directory: bool,
    /// Jobs see the machine's own environment (`CI_SHARED_ENVIRONMENT`), else each has a disposable one.
    pub shared_environment: bool,
    /// A job's working copy is still there when its environment is gone, so that another process can save what its
    /// scripts made.
    pub keeps_working_copies: bool,
    /// Stages run as different users, who share the job's files.
    pub open_files: bool,
    /// It sees itself to what the job's own tools trust; otherwise they are told by variables and files of the job.
    pub tools_trust_by_executor: bool,
    /// Whether `Running on …` names the runner's host after `via`.
    pub shows_via: bool,
    /// Command of the helper where jobs run.
    pub helper_command: String,
}

/// A place for one job; dropping it gives it back.
#[derive(Default)]
pub struct Place {
    held: Option<Box<dyn Any + Send + Sync>>,
}

impl Place {
    /// A place of an executor without a bound of its own.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// A place that holds something (a permit, a machine) until it is dropped.
    pub fn holding(held: impl Any + Send + Sync) -> Self {
        Self {
            held: Some(Box::new(held)),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("bounded", &self.held.is_some())
            .finish()
    }
}

/// The executor has no place for a job now; nothing is requested.
#[derive(Debug, thiserror::Error)]
#[error("no free executor: {0}")]
pub struct NoPlace(pub String);

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Status 0.
    Success,
    /// Anything else.
    Failure {
        /// Status as reported to GitLab; -1 for death by signal.
        code: i32,
        /// As the job's log names it in this executor: `exit status 1`, `signal: killed`, `exit code 1`.
        text: String,
    },
}

impl Exit {
    /// Whether the stage succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }
}

/// Preparation failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PrepareError {
    /// Text for the log.
    pub message: String,
    /// With a reason the failure is final; without one preparation is tried again.
    pub reason: Option<FailureReason>,
}

impl PrepareError {
    /// One that another attempt may not meet.
    pub fn passing(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: None,
        }
    }

    /// Nobody wants it any more.
    pub fn canceled() -> Self {
        Self::passing("canceled")
    }

    /// One that is final.
    pub fn because(reason: FailureReason, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: Some(reason),
        }
    }
}

/// A stage, or the clean up, could not be carried out: a failure of the system, not of the script.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// What the stage runs in could not be had, or was lost.
    #[error("{message}")]
    Environment {
        /// What failed, where, and what to do.
        message: String,
        /// Whose fault it is; `None` = the system's.
        reason: Option<FailureReason>,
    },
    /// The process was not started.
    #[error("failed to start process: {0}")]
    Start(#[source] std::io::Error),
    /// Reading its output or waiting for it failed.
    #[error("failed to follow process PID={pid}: {source}")]
    Follow {
        /// Leader of the stage's processes.
        pid: u32,
        /// Cause.
        source: std::io::Error,
    },
    /// A private file of the job could not be removed.
    #[error("{what}: not removed: {why}")]
    Left {
        /// The file.
        what: String,
        /// Cause.
        why: String,
    },
    /// It outlived SIGKILL.
    #[error("failed to kill process PID={pid}, likely process is dormant")]
    Dormant {
        /// Leader of the stage's processes.
        pid: u32,
    },
}

impl RunError {
    /// Whose fault it is, where that is known not to be the system's.
    pub fn reason(&self) -> Option<&FailureReason> {
        match self {
            Self::Environment { reason, .. } => reason.as_ref(),
            _ => None,
        }
    }
}
