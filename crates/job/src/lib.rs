//! A job as values: variables, scripts, stages, the state machine, masking, the trace, messages.
//!
//! In: the payload ([`courser_protocol::JobResponse`]) and what the runner knows ([`RunnerContext`]).
//! Out: for each [`Stage`] a [`StageScript`], decisions of [`state`], and the bytes of the log. No I/O,
//! no clock, no randomness. Facts: `runner-build-lifecycle.md` 1 to 5, `runner-protocol.md` 4 to 6.
//!
//! ```
//! use courser_job::{DirectoryLayout, Job, JobStatus, RunnerContext, Stage};
//! use courser_protocol::JobResponse;
//!
//! let payload = JobResponse::from_json(br#"{"steps": [{"name": "script", "script": ["make"]}]}"#)?;
//! let context = RunnerContext {
//!     directories: DirectoryLayout {
//!         builds: "/builds".to_owned(),
//!         cache: "/cache".to_owned(),
//!         shared_builds: false,
//!     },
//!     ..RunnerContext::default()
//! };
//! let job = Job::accept(payload, context).expect("nothing in this job is refused");
//! assert_eq!(job.steps(), [Stage::Step("script".to_owned())]);
//! assert!(job.stage(&job.steps()[0], JobStatus::Running).is_some());
//! assert!(job.stage(&Stage::AfterScript, JobStatus::Success).is_none());
//! # Ok::<(), courser_protocol::DecodeError>(())
//! ```

mod cache;
mod compose;
mod context;
mod directories;
mod duration;
mod features;
pub mod helper_request;
mod image;
mod inputs;
mod job;
mod job_variables;
mod masked;
pub mod messages;
mod moa;
mod quoted;
mod refusal;
mod saved;
mod script;
mod settings;
mod sources;
mod stage;
pub mod state;
mod tool_trust;
pub mod trace;
mod variables;

pub use context::{DirectoryLayout, JobTls, RunnerContext};
pub use directories::Directories;
pub use features::Features;
pub use helper_request::HelperRequest;
pub use image::{JobImage, JobService};
pub use job::{Job, JobStatus, Rejection};
pub use saved::MadeOfSecrets;
pub use script::Shell;
pub use settings::{Settings, SubmoduleStrategy, TimeoutSetting, TimeoutVariable};
pub use stage::{Stage, StageScript, StageWork};
pub use tool_trust::{BUNDLE_VARIABLES, BundleVariable, Otherwise, ToolFiles, ToolTrust};
pub use variables::{Variables, expand, is_true, strict_bool};
