//! How stages and jobs end (`runner-build-lifecycle.md` 1.8).

use std::time::Duration;

use courser_protocol::{FailureReason, JobState as WireState};
use serde::{Deserialize, Serialize};

use crate::duration::go_duration;
use crate::{Rejection, messages};

/// How a stage, or an attempt of it, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageExit {
    /// Status 0.
    Success,
    /// The process ended otherwise.
    Failed {
        /// Status, signed 32 bit; -1 for death by signal.
        code: i32,
        /// As this executor names it: `exit status 1`.
        text: String,
    },
    /// The same, and afterwards the server could not be reached at all.
    Unreached {
        /// As above.
        code: i32,
        /// As above.
        text: String,
    },
    /// It could not be run or followed: a failure of the system.
    Broken {
        /// What happened.
        message: String,
        /// Whose fault it is, where that is known not to be the system's.
        reason: Option<FailureReason>,
    },
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) reason: FailureReason,
    pub(super) exit_code: i32,
}

impl Failure {
    pub(super) fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason,
            exit_code: 0,
        }
    }

    /// A deadline of one phase passed.
    pub(super) fn exceeded(phase: &str, limit: Duration) -> Self {
        let limit = go_duration(limit);
        Self::new(
            FailureReason::JobExecutionTimeout,
            format!("{phase} timeout: exceeded timeout of {limit}"),
        )
    }

    pub(super) fn of(exit: StageExit) -> Option<Self> {
        match exit {
            StageExit::Success => None,
            StageExit::Failed { code, text } | StageExit::Unreached { code, text } => Some(Self {
                message: text,
                reason: FailureReason::ScriptFailure,
                exit_code: code,
            }),
            StageExit::Broken { message, reason } => {
                let reason = reason.unwrap_or(FailureReason::RunnerSystemFailure);
                Some(Self::new(reason, message))
            }
        }
    }
}

/// The end of a job, ready to be logged and reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// [`WireState::Success`] or [`WireState::Failed`].
    pub state: WireState,
    /// Unmapped: [`FailureReason::for_server`] gives what is sent, metrics count this one.
    pub reason: Option<FailureReason>,
    /// 0 = nothing to report.
    pub exit_code: i32,
    /// Text of the failure, empty after success.
    pub message: String,
}

impl Outcome {
    pub(super) fn new(failure: Option<Failure>) -> Self {
        match failure {
            None => Self {
                state: WireState::Success,
                reason: None,
                exit_code: 0,
                message: String::new(),
            },
            Some(failure) => Self {
                state: WireState::Failed,
                reason: Some(failure.reason),
                exit_code: failure.exit_code,
                message: failure.message,
            },
        }
    }

    /// Last line of the log.
    pub fn line(&self) -> String {
        match &self.reason {
            None => messages::job_succeeded(),
            Some(FailureReason::RunnerSystemFailure) => {
                messages::job_failed_by_system(&self.message)
            }
            Some(_) => messages::job_failed(&self.message),
        }
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        Self {
            state: WireState::Failed,
            reason: Some(rejection.reason),
            exit_code: rejection.exit_code,
            message: rejection.message,
        }
    }
}
