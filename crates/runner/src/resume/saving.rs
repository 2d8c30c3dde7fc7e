//! A job whose scripts were over when its runner was killed: its caches and artifacts are saved from its working copy,
//! all of them once more. What the server has already it takes again: the archives are the same, byte for byte.

use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_executor::{Executor, Host, Place, executor_for};
use courser_job::state::{JobState, Outcome, Plan, ScriptsOver};
use courser_job::trace::Masking;
use courser_job::{Job, RunnerContext};
use tokio::sync::watch;

use crate::client::Api;
use crate::dispatch::{HeldNumbers, Hold};
use crate::job_task::{Performer, Renewal, perform};
use crate::log::JobLog;
use crate::report::Report;
use crate::shutdown::Phase;
use crate::spool::Unfinished;
use crate::tool_trust::ToolTrustMaker;

/// Everything that is needed to go on.
pub(super) struct Saving {
    job: Arc<Job>,
    executor: Arc<dyn Executor>,
    over: ScriptsOver,
    api: Arc<Api>,
    tools: Arc<ToolTrustMaker>,
    shutdown_timeout: Duration,
    /// No new job gets the working copy meanwhile.
    _hold: Hold,
}

impl Saving {
    /// Makes the job anew, as the runner is configured and trusts now. An error says why that cannot be done.
    pub(super) async fn new(
        unfinished: Unfinished<'static>,
        runner: &RunnerConfig,
        api: Arc<Api>,
        host: &Host,
        held: &HeldNumbers,
        shutdown_timeout: Duration,
    ) -> Result<Self, String> {
        let executor = executor_for(runner, host).map_err(|error| error.to_string())?;
        let Unfinished {
            payload,
            context,
            over,
        } = unfinished;
        let facts = executor.facts();
        let tools = Arc::new(ToolTrustMaker::new(runner));
        let tls = api.tls_for_job(&tools).await;
        let context = RunnerContext {
            url: runner.url.clone(),
            shell: facts.shell.clone(),
            helper_command: facts.helper_command.clone(),
            tls,
            ..context.into_owned()
        };
        let hold = held.hold(
            &context.short_token,
            payload.job_info.project_id,
            context.concurrent_project_id,
        );
        let job = Job::accept(payload.into_owned(), context).map_err(|error| error.message)?;
        Ok(Self {
            job: Arc::new(job),
            executor,
            over,
            api,
            tools,
            shutdown_timeout,
            _hold: hold,
        })
    }

    /// What its log hides.
    pub(super) fn masking(&self) -> Result<Masking, String> {
        Masking::for_job(&self.job).map_err(|error| error.to_string())
    }

    /// Prepares the job's surroundings, saves, and cleans up. `opening` is said first.
    pub(super) async fn perform(
        &self,
        opening: String,
        report: &mut Report,
        log: &Arc<JobLog>,
    ) -> Outcome {
        let performer = Performer::new(
            Arc::clone(&self.job),
            Arc::clone(log),
            Arc::clone(&self.executor),
            Place::unlimited(),
            self.shutdown_timeout,
            Renewal::new(
                Arc::clone(&self.api),
                Arc::clone(&self.tools),
                self.job.context().tls.clone(),
            ),
            report.probe(),
        );
        let plan = Plan::of(&self.job).resumed(opening);
        let state = JobState::resume(plan, self.over.clone());
        // Whoever ends the runner leaves the job to the next process.
        let (_phase, phase) = watch::channel(Phase::Running);
        perform(performer, state, report, log, phase).await
    }

    /// What the server understands.
    pub(super) fn server(&self) -> &courser_protocol::JobFeatures {
        &self.job.payload().features
    }
}
