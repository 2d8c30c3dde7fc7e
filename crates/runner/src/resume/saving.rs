//! A job whose scripts were over when its runner was killed: its caches and artifacts are saved from its working copy,
//! all of them once more. What the server has already it takes again: the archives are the same, byte for byte.

use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_executor::{Executor, Executors, Host, Place, Remains};
use courser_job::state::{JobState, Outcome, Plan, ScriptsOver};
use courser_job::trace::Masking;
use courser_job::{Job, RunnerContext};
use tokio::sync::watch;

use crate::client::Api;
use crate::dispatch::Hold;
use crate::job_task::{Performer, Renewal, perform};
use crate::log::JobLog;
use crate::report::Report;
use crate::shutdown::Phase;
use crate::spool::Unfinished;
use crate::tool_trust::ToolTrustMaker;

/// Everything that is needed to go on.
pub(super) struct Saving {
    job: Arc<Job>,
    over: ScriptsOver,
    api: Arc<Api>,
    tools: Arc<ToolTrustMaker>,
    shutdown_timeout: Duration,
    /// No new job gets the working copy meanwhile.
    _hold: Arc<Hold>,
}

impl Saving {
    /// Makes the job anew, with what the runner trusts now. An error says why that can never be done.
    pub(super) async fn new(
        unfinished: Unfinished<'static>,
        runner: &RunnerConfig,
        api: Arc<Api>,
        hold: Arc<Hold>,
        shutdown_timeout: Duration,
    ) -> Result<Self, String> {
        let Unfinished {
            payload,
            context,
            over,
        } = unfinished;
        let tools = Arc::new(ToolTrustMaker::new(runner));
        let tls = api.tls_for_job(&tools).await;
        let context = RunnerContext {
            url: runner.url.clone(),
            tls,
            ..context.into_owned()
        };
        let job = Job::accept(payload.into_owned(), context).map_err(|error| error.message)?;
        Ok(Self {
            job: Arc::new(job),
            over,
            api,
            tools,
            shutdown_timeout,
            _hold: hold,
        })
    }

    /// Gets ready for the job what runs it, as the runner is configured now. An error says why that cannot be done
    /// while it is configured so.
    pub(super) fn executor(
        &mut self,
        runner: &RunnerConfig,
        executors: &Executors,
        host: &Host,
    ) -> Result<Arc<dyn Executor>, String> {
        let executor = executors
            .executor(runner, host)
            .map_err(|error| error.to_string())?;
        let facts = executor.facts();
        let before = &self.job.context().executor;
        if facts.name != before {
            return Err(format!(
                "its scripts ran with the executor {before:?}, and the runner has {:?} now",
                facts.name
            ));
        }
        let context = RunnerContext {
            shell: facts.shell.clone(),
            helper_command: facts.helper_command.clone(),
            ..self.job.context().clone()
        };
        let job = Job::accept(self.job.payload().clone(), context);
        self.job = Arc::new(job.map_err(|error| error.message)?);
        Ok(executor)
    }

    /// What its log hides.
    pub(super) fn masking(&self) -> Result<Masking, String> {
        Masking::for_job(&self.job).map_err(|error| error.to_string())
    }

    /// Prepares the job's surroundings, saves, and cleans up. `opening` is said first; `remains` hears of what stays.
    pub(super) async fn perform(
        &self,
        executor: Arc<dyn Executor>,
        opening: String,
        report: &mut Report,
        log: &Arc<JobLog>,
        remains: Remains,
    ) -> Outcome {
        let performer = Performer::new(
            Arc::clone(&self.job),
            Arc::clone(log),
            executor,
            Place::unlimited(),
            self.shutdown_timeout,
            Renewal::new(
                Arc::clone(&self.api),
                Arc::clone(&self.tools),
                self.job.context().tls.clone(),
            ),
            report.probe(),
        )
        .leaving(remains);
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
