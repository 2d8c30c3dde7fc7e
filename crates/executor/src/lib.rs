//! Where jobs run: the contract every executor keeps, and the shell executor.
//!
//! In: a [`Job`](courser_job::Job) and, stage by stage, what it runs
//! ([`StageScript`](courser_job::StageScript)). Out: bytes of standard output and standard error,
//! handed to an [`Output`] as they come, and an [`Exit`] for each stage. An executor knows nothing of
//! GitLab's API; the job knows nothing of its executor. Facts: `runner-build-lifecycle.md` 3.1, 3.9, 6.
//!
//! ```no_run
//! # use courser_executor::{Executors, Host, Output, Preparation, StopSignal};
//! # async fn example(config: &courser_config::RunnerConfig, host: &Host, job: &courser_job::Job,
//! #     stage: &courser_job::StageScript, log: &mut dyn Output) -> Result<(), Box<dyn std::error::Error>> {
//! let executor = Executors::shell().executor(config, host)?;
//! let place = executor.acquire().await?;
//! let footprint = &|_| ();
//! let say: courser_executor::Say = std::sync::Arc::new(|_| ());
//! let (stop, say_of_services) = (StopSignal::new(), say.clone());
//! let remains: courser_executor::Remains = std::sync::Arc::new(|_| ());
//! let preparation = Preparation { place, job, stop, say, say_of_services, footprint, remains };
//! let mut environment = executor.prepare(preparation).await?;
//! let exit = environment.run(stage, log, StopSignal::new()).await?;
//! environment.clean_up().await?;
//! # Ok(()) }
//! ```

pub mod agent;
mod contract;
mod footprint;
mod registry;
mod shell;

pub use contract::{
    Beside, Environment, EnvironmentFuture, Executor, Exit, Facts, LightHelper, NoPlace, Output,
    Place, Preparation, PrepareError, Remains, RunError, Say, StopSignal, Stream,
};
pub use footprint::{Footprint, Orphan, Swept};
pub use registry::{ExecutorProvider, Executors, Host, UnusableExecutor};
pub use shell::REPOSITORY_VARIABLES;
