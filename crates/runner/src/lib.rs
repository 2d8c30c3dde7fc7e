//! The daemon: request, dispatch, run, feed the trace, report.
//!
//! In: the configuration as a value that may change ([`courser_config::Config`]) and facts of process and
//! machine ([`RunnerSettings`]). Out: jobs run and reported, log lines through `tracing`. It touches no
//! signals and nothing else that is process-wide, so that a coordinator may live beside it. Read in the
//! order [`Runner`] → `dispatch` → `job_task` → `report`; what a process leaves behind is in the `spool`, and
//! `resume` sends it. Facts: `runner-protocol.md` 2, 5, 6, 9.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use courser_runner::{Runner, RunnerSettings, Shutdown};
//! # async fn example(settings: RunnerSettings, config: courser_config::Config) {
//! let shutdown = Shutdown::new();
//! let config = tokio::sync::watch::Sender::new(Arc::new(config));
//! let runner = Runner::new(settings, config.subscribe(), shutdown.clone());
//! // Elsewhere: shutdown.gracefully() or shutdown.forcefully("interrupt").
//! let ended = runner.run().await;
//! # }
//! ```

pub mod client;
mod clock;
mod daemon;
mod dispatch;
mod entry;
mod job_task;
mod light_helper;
mod log;
pub mod metrics;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;
mod report;
mod resume;
mod shutdown;
mod single;
mod spool;
mod tool_trust;

pub use daemon::{Ended, Runner};
pub use entry::{RunnerSettings, WorkingCopies};
pub use light_helper::InProcessHelper;
pub use resume::forget_left_over;
pub use shutdown::{Phase, Shutdown};
pub use single::{SingleLimits, UnusableRunner, run_single};
pub use spool::{KeptJob, KeptState, NotDropped, Spool, SpoolLimits, drop_kept, kept_jobs};
