//! A job whose scripts were over when its runner was killed: its caches and artifacts are saved from its working copy,
//! all of them once more. What the server has already it takes again: the archives are the same, byte for byte.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_executor::{Executor, Executors, Host, Place, Remains};
use courser_job::state::{JobState, Outcome, Plan, ScriptsOver};
use courser_job::trace::Masking;
use courser_job::{Job, Rejection, RunnerContext, messages};
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
    /// Keywords of caches that are not saved, as they are made of secrets.
    without: Vec<&'static str>,
    api: Arc<Api>,
    tools: Arc<ToolTrustMaker>,
    shutdown_timeout: Duration,
    /// No new job gets the working copy meanwhile.
    _hold: Arc<Hold>,
}

/// Why what was to be saved never can be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The job cannot be made anew.
    #[error("{0}")]
    Job(String),
    /// This keyword is made of the job's secrets, which ended with its process.
    #[error("{0} is made of its secrets")]
    Secrets(&'static str),
}

impl From<String> for Lost {
    fn from(why: String) -> Self {
        Self::Job(why)
    }
}

impl Saving {
    /// What is said of the secrets that are missing.
    pub(super) fn said_of_secrets(&self) -> String {
        if !self.job.lacks_secrets() {
            return String::new();
        }
        let without = self.without.iter();
        let without = without.map(|keyword| messages::cache_needs_secrets(keyword));
        iter::once(messages::saving_lacks_secrets())
            .chain(without)
            .collect()
    }

    /// Makes the job anew, with what the runner trusts now. An error says why that can never be done.
    pub(super) async fn new(
        unfinished: Unfinished<'static>,
        runner: &RunnerConfig,
        api: Arc<Api>,
        hold: Arc<Hold>,
        shutdown_timeout: Duration,
    ) -> Result<Self, Lost> {
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
        let (mut payload, refused) = (payload.into_owned(), |error: Rejection| error.message);
        let mut job = Job::accept(payload.clone(), context.clone()).map_err(refused)?;
        let made = job.made_of_secrets();
        if let Some(keyword) = made.artifacts {
            return Err(Lost::Secrets(keyword));
        }
        for (place, _) in made.caches.iter().rev() {
            payload.cache.remove(*place);
        }
        if !made.caches.is_empty() {
            job = Job::accept(payload, context).map_err(refused)?;
        }
        Ok(Self {
            job: Arc::new(job),
            over,
            without: made.caches.iter().map(|(_, keyword)| *keyword).collect(),
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
