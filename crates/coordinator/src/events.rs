//! What the coordinator tells those who watch it.

use std::path::PathBuf;

use crate::pipeline_run::{JobState, PipelineStatus, Position};

/// Something happened. A watcher that lags reads [`crate::Handle::snapshot`] instead.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CoordinatorEvent {
    /// A pipeline exists.
    PipelineCreated {
        /// Pipeline id.
        pipeline: i64,
        /// Job id of the bridge that started it.
        upstream: Option<i64>,
    },
    /// A runner acknowledged a job.
    JobStarted {
        /// Pipeline id.
        pipeline: i64,
        /// Job id.
        job: i64,
        /// Its place in the pipeline.
        position: Position,
        /// From 0.
        attempt: u32,
        /// Where its log will lie.
        log: PathBuf,
    },
    /// A delayed job waits for its time.
    JobDelayed {
        /// Pipeline id.
        pipeline: i64,
        /// Job id.
        job: i64,
        /// Its place in the pipeline.
        position: Position,
        /// When it becomes pending, in Unix seconds.
        at: i64,
    },
    /// A job's log has grown; the bytes lie in [`crate::JobSnapshot::trace`].
    Trace {
        /// Job id.
        job: i64,
        /// Bytes stored now; less than before when the log was discarded.
        stored: u64,
    },
    /// An attempt is over.
    JobFinished {
        /// Pipeline id.
        pipeline: i64,
        /// Job id.
        job: i64,
        /// Its place in the pipeline.
        position: Position,
        /// How it ended.
        end: JobEnd,
    },
    /// Nothing more happens in the pipeline by itself.
    PipelineFinished {
        /// Pipeline id.
        pipeline: i64,
        /// Its end.
        status: PipelineStatus,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// The final state.
    pub state: JobState,
    /// From acknowledgement to the final update; 0 when it never ran.
    pub milliseconds: u64,
    /// Wire text of the reason.
    pub failure_reason: Option<String>,
    /// Exit code, where the runner told one.
    pub exit_code: Option<i64>,
    /// Another attempt follows.
    pub retried: bool,
    /// Whether a runner ever began it.
    pub ran: bool,
    /// Why it failed, where no log tells it: a sentence.
    pub message: Option<String>,
}
