//! A payload, made ready to run.

use std::time::Duration;

use courser_protocol::{FailureReason, JobResponse};

use crate::{RunnerContext, Stage, StageScript};

/// A job that can run: payload, context, variables, features and settings resolved once.
#[derive(Debug)]
pub struct Job {
    payload: JobResponse,
    context: RunnerContext,
}

/// A job that must not run, with what its log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Text for the log.
    pub message: String,
    /// Reason, before mapping.
    pub reason: FailureReason,
    /// Exit code to report, 0 = none.
    pub exit_code: i32,
}

/// `CI_JOB_STATUS` for `after_script` and later stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobStatus {
    /// Before `after_script`.
    #[default]
    Running,
    /// Script succeeded.
    Success,
    /// Script failed.
    Failed,
    /// Cancelled.
    Canceled,
    /// Script or job timeout.
    TimedOut,
}

impl Job {
    /// Resolves the payload. Errors are those of lifecycle 1.2 step 1, 1.8 and 1.9 that end the job.
    pub fn accept(payload: JobResponse, context: RunnerContext) -> Result<Self, Rejection> {
        Ok(Self { payload, context })
    }

    /// The payload.
    pub fn payload(&self) -> &JobResponse {
        &self.payload
    }

    /// The context.
    pub fn context(&self) -> &RunnerContext {
        &self.context
    }

    /// Stages of user steps in order, `after_script` excluded.
    pub fn steps(&self) -> Vec<Stage> {
        todo!()
    }

    /// What `stage` runs, or `None` when it has nothing to do (then it prints nothing either).
    pub fn stage(&self, stage: &Stage, status: JobStatus) -> Option<StageScript> {
        let _ = (stage, status);
        todo!()
    }

    /// Attempts of a stage (1 to 10).
    pub fn attempts(&self, stage: &Stage) -> u32 {
        let _ = stage;
        todo!()
    }

    /// Job deadline.
    pub fn timeout(&self) -> Duration {
        todo!()
    }

    /// Warnings about settings, printed once.
    pub fn warnings(&self) -> &[String] {
        todo!()
    }

    /// Project directory, absolute.
    pub fn project_dir(&self) -> &str {
        todo!()
    }

    /// Expanded values to mask, longest first.
    pub fn masked_phrases(&self) -> Vec<courser_protocol::Secret> {
        todo!()
    }
}
