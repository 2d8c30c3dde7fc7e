//! States of jobs and pipelines, as GitLab names them.

use serde::{Deserialize, Serialize};

/// Where a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Waits for others.
    #[default]
    Created,
    /// Waits for a person.
    Manual,
    /// Waits for a time (Unix seconds).
    Scheduled {
        /// When it becomes pending.
        at: i64,
    },
    /// Waits for a runner.
    Pending,
    /// Handed out, not yet acknowledged (two-phase commit).
    Reserved,
    /// Runs; a bridge: waits for its downstream pipeline.
    Running,
    /// A bridge whose downstream pipeline waits for a person.
    Held,
    /// Runs, and was asked to stop softly.
    Canceling,
    /// Over, well.
    Success,
    /// Over, badly.
    Failed {
        /// `allow_failure` forgives it.
        allowed: bool,
    },
    /// Stopped.
    Canceled,
    /// Never ran: what came before did not ask for it.
    Skipped,
}

impl JobState {
    /// GitLab's word, as in `Job-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Manual | Self::Held => "manual",
            Self::Scheduled { .. } => "scheduled",
            Self::Pending | Self::Reserved => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Success => "success",
            Self::Failed { .. } => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed { .. } | Self::Canceled | Self::Skipped
        )
    }

    /// Whether a runner has it.
    pub fn is_at_runner(self) -> bool {
        matches!(self, Self::Reserved | Self::Running | Self::Canceling)
    }
}

/// State of the whole pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineStatus {
    /// Something runs or will run by itself.
    Running,
    /// A job that may not be left out waits for a person.
    Manual,
    /// Passed.
    Success,
    /// Failed.
    Failed,
    /// Cancelled.
    Canceled,
    /// No job ran.
    Skipped,
}

impl PipelineStatus {
    /// GitLab's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Manual => "manual",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_settled(self) -> bool {
        self != Self::Running
    }
}
