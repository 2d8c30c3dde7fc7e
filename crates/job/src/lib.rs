//! A job as values: variables, scripts, stages, the state machine, masking, the trace, messages.
//!
//! In: the payload ([`courser_protocol::JobResponse`]) and what the runner knows ([`RunnerContext`]).
//! Out: for each [`Stage`] a [`StageScript`], decisions of [`state`], and the bytes of the log. No I/O,
//! no clock, no randomness. Facts: `runner-build-lifecycle.md` 1 to 5, `runner-protocol.md` 4 to 6.

mod context;
pub mod helper_request;
mod job;
pub mod messages;
mod stage;
pub mod state;
pub mod trace;

pub use context::{DirectoryLayout, JobTls, RunnerContext};
pub use helper_request::HelperRequest;
pub use job::{Job, JobStatus, Rejection};
pub use stage::{Stage, StageScript, StageWork};
