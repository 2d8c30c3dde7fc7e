//! Jobs that a process left in the spool: the rest of their logs and their final states, sent until the server
//! has acknowledged them, beside the jobs that run.
//!
//! A job that had ended is reported as it was decided. One whose scripts were over has its caches and artifacts saved
//! again (`saving.rs`) and ends as they and its scripts did. Any other is failed with `runner_system_failure`, and its
//! log says why. What the server does not want any more (403, 404) is removed.

mod leases;
mod remains;
mod saving;

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use courser_config::{Config, RunnerConfig};
use courser_executor::{Executor, Executors, Host, Orphan};
use courser_job::messages;
use courser_job::trace::Masking;
use courser_protocol::{FailureReason, Secret};
use courser_secrets::Surroundings;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::jobs::JobCredentials;
use crate::client::{Api, info};
use crate::dispatch::{Hold, JobNumbers};
use crate::entry::{Connections, RunnerSettings};
use crate::job_task::final_state;
use crate::log::{JobLog, Reopened};
use crate::report::Report;
use crate::resume::saving::{Lost, Saving};
use crate::spool::journal::{FinalState, JobRecord, Record};
use crate::spool::{LeftOver, Spool, Unfinished};

/// Jobs that are told of at once.
const AT_ONCE: usize = 8;

/// Between two attempts; doubles.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// A job whose artifacts cannot be saved as its runner is configured waits so long for another configuration. It is
/// kept alive meanwhile, so that its server does not end it.
const UNSAVED: Duration = Duration::from_secs(60 * 60);

/// After this time no server waits for a job any more.
const FORGOTTEN: Duration = Duration::from_secs(14 * 24 * 3600);

/// The task that looks after what is left over. Dropping it leaves the rest to the next process.
pub(crate) struct Resumption {
    settings: RunnerSettings,
    config: watch::Receiver<Arc<Config>>,
    connections: Connections,
    telling: JoinSet<()>,
    places: Arc<Semaphore>,
    /// No new job gets the working copies of these jobs (`url`, id), which cannot be taken now.
    holds: HashMap<(String, i64), Arc<Hold>>,
}

impl Resumption {
    pub(crate) fn new(settings: RunnerSettings, config: watch::Receiver<Arc<Config>>) -> Self {
        Self {
            settings,
            config,
            connections: Connections::default(),
            telling: JoinSet::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            holds: HashMap::new(),
        }
    }

    /// Tells of what was found, and of jobs that their tasks give up meanwhile. Never returns.
    pub(crate) async fn run(&mut self) {
        let spool = self.settings.spool.clone();
        // What cannot be taken is handed over again at once: it is looked at less and less often.
        let (mut not_before, mut wait) = (Instant::now(), WAIT);
        let handed_over = async |not_before| {
            sleep_until(not_before).await;
            spool.handed_over().await;
        };
        let executors = self.settings.executors.clone();
        let surroundings = self.settings.secrets.clone();
        let mut removing = pin!(remains::remove_all(&spool, &executors));
        let mut revoking = Box::pin(leases::revoke_all(&spool, &surroundings));
        loop {
            tokio::select! {
                () = &mut removing => {}
                () = &mut revoking => {}
                () = handed_over(not_before) => {
                    wait = match self.look().await {
                        0 => (wait * 2).min(LONGEST_WAIT),
                        _ => WAIT,
                    };
                    not_before = Instant::now() + wait - WAIT;
                }
                Some(_) = self.telling.join_next(), if !self.telling.is_empty() => {}
            }
            self.settings.metrics.left_over(self.telling.len());
        }
    }

    /// Jobs that are being told of.
    pub(crate) fn pending(&self) -> usize {
        self.telling.len()
    }

    /// Takes over what nobody works on, ends what still runs of it, and begins to tell of it. Before jobs are
    /// asked for: they may be given the same directories. Returns how many were taken.
    pub(crate) async fn look(&mut self) -> usize {
        let spool = self.settings.spool.clone();
        let found = tokio::task::spawn_blocking(move || spool.left_over()).await;
        let mut found = found.unwrap_or_default();
        // First of all: whatever becomes of the rest, new jobs may be given the same directories.
        let RunnerSettings {
            executors, spool, ..
        } = &self.settings;
        let sweep = |left| sweep_once(left, executors, spool);
        join_all(found.iter_mut().map(sweep)).await;
        let taking: Vec<_> = found.into_iter().map(|left| self.take(left)).collect();
        let taken: Vec<_> = stream::iter(taking).buffered(AT_ONCE).collect().await;
        let mut count = 0;
        for (job, taken) in taken {
            match taken {
                Ok(mut resumed) => {
                    self.holds.remove(&job);
                    resumed.settle();
                    let places = Arc::clone(&self.places);
                    self.telling.spawn(resumed.tell(places));
                    count += 1;
                }
                Err(why) => {
                    let job = job.1;
                    tracing::error!(job, "a job was left over and cannot be told of: {why}");
                }
            }
        }
        self.settings.metrics.left_over(self.telling.len());
        count
    }

    /// Takes a job over, which is named as in `holds`.
    fn take(
        &mut self,
        mut left: LeftOver,
    ) -> impl Future<Output = ((String, i64), Result<Resumed, String>)> + use<> {
        let name = (left.job.url.clone(), left.job.job);
        let ended = left
            .records
            .iter()
            .any(|one| matches!(one, Record::Ended(_)));
        let unfinished = left.unfinished.take().filter(|_| !ended);
        let unfinished = unfinished.map(|unfinished| {
            let held = self.settings.spool.held_numbers();
            let hold =
                || Arc::new(held.hold(&unfinished.context.short_token, numbers(&unfinished)));
            let hold = self.holds.entry(name.clone()).or_insert_with(hold);
            (Arc::clone(hold), unfinished)
        });
        let runner = runner_of(&self.config.borrow(), &left.job);
        let age = self.config.borrow().connection_max_age;
        let api = self.connections.connect(&runner, age, &self.settings);
        let settings = self.settings.clone();
        let config = self.config.clone();
        async move {
            let api = match api {
                Ok(api) => api,
                Err(error) => return (name, Err(error.to_string())),
            };
            let taking = Resumed::take(left, unfinished, &runner, api, config, settings);
            (name, Box::pin(taking).await)
        }
    }
}

/// The runner as it is configured now; as it was, where it is not any more.
fn runner_of(config: &Config, job: &JobRecord) -> RunnerConfig {
    let mut runners = config.runners.iter().filter(|one| one.url == job.url);
    let same =
        |runner: &&RunnerConfig| courser_protocol::short_token(runner.token.expose()) == job.runner;
    let runner = runners.clone().find(same).or_else(|| runners.next());
    runner.cloned().unwrap_or_else(|| {
        let [tls_ca_file, tls_cert_file, tls_key_file] = job.tls_files.clone();
        RunnerConfig {
            url: job.url.clone(),
            token: Secret::default(),
            tls_ca_file,
            tls_cert_file,
            tls_key_file,
            executor: "shell".to_owned(),
            ..RunnerConfig::default()
        }
    })
}

/// The numbers that its working copy is named by.
fn numbers(unfinished: &Unfinished<'_>) -> JobNumbers {
    JobNumbers {
        of_runner: unfinished.context.concurrent_id,
        of_project: unfinished.context.concurrent_project_id,
        project: unfinished.payload.job_info.project_id,
    }
}

/// Ends and removes what jobs of dead processes left, and forgets these jobs: for a spool whose server is gone, too.
pub async fn forget_left_over(spool: &Spool, executors: &Executors, secrets: &Surroundings) {
    let looking = spool.clone();
    let found = tokio::task::spawn_blocking(move || looking.left_over()).await;
    for mut left in found.unwrap_or_default() {
        sweep_once(&mut left, executors, spool).await;
        left.files.remove();
    }
    tokio::join!(
        remains::remove_once(spool, executors),
        Box::pin(leases::revoke_once(spool, secrets))
    );
}

/// Ends what still runs of a job that had not ended, and removes its private files; once, also when it is found again.
/// What is where nobody answers now is kept to be removed later: the job does not wait for that.
async fn sweep_once(left: &mut LeftOver, executors: &Executors, spool: &Spool) {
    let job = left.job.job;
    let mut footprints = Vec::new();
    for record in &left.records {
        match record {
            Record::Footprint(footprint) => footprints.push(footprint.clone()),
            Record::Swept | Record::Ended(_) => footprints.clear(),
            _ => {}
        }
    }
    if footprints.is_empty() {
        return;
    }
    for footprint in footprints {
        let swept = executors.sweep(&footprint).await;
        for Orphan { pid, name } in swept.killed {
            tracing::warn!(job, pid, name, "killed a process that the job left behind");
        }
        for Orphan { pid, name } in swept.left {
            tracing::error!(job, pid, name, "a process of the job cannot be killed");
        }
        for (what, error) in swept.not_removed {
            tracing::error!(job, "cannot remove {what}: {error}");
        }
        if swept.again {
            spool.keep_remains(job, footprint);
        }
    }
    if let Err(error) = left.files.record(&Record::Swept) {
        tracing::warn!(job, "cannot write the journal of a job: {error}");
    }
}

/// A job that another process began.
struct Resumed {
    job: JobRecord,
    report: Report,
    log: Arc<JobLog>,
    /// Its scripts are over.
    saving: Option<Saving>,
    /// Why nothing is saved although they are: the keyword that is made of secrets.
    needs_secrets: Option<&'static str>,
    ended: Option<FinalState>,
    started: bool,
    machine_restarted: bool,
    touched: Option<SystemTime>,
    taken: Instant,
    config: watch::Receiver<Arc<Config>>,
    host: Host,
    executors: Executors,
    spool: Spool,
}

impl Resumed {
    /// Reads what is there of a job.
    async fn take(
        left: LeftOver,
        unfinished: Option<(Arc<Hold>, Unfinished<'static>)>,
        runner: &RunnerConfig,
        api: Arc<Api>,
        config: watch::Receiver<Arc<Config>>,
        settings: RunnerSettings,
    ) -> Result<Self, String> {
        let job = left.job.clone();
        let touched = left.files.touched();
        let machine_restarted = !job.boot.is_empty() && job.boot != settings.spool.boot();
        let (mut saved, mut needs_secrets) = (None, None);
        if let Some((hold, unfinished)) = unfinished {
            let timeout = config.borrow().shutdown_timeout;
            let saving = Saving::new(unfinished, runner, Arc::clone(&api), hold, timeout).await;
            match saving.and_then(|saving| Ok((saving.masking()?, saving))) {
                Ok(made) => saved = Some(made),
                Err(why) => {
                    if let Lost::Secrets(keyword) = why {
                        needs_secrets = Some(keyword);
                    }
                    tracing::error!(job = job.job, "its artifacts can never be saved: {why}");
                }
            }
        }
        let (masking, saving) = match saved {
            Some((masking, saving)) => (masking, Some(saving)),
            None => {
                let masking = Masking::new(&[], &[]).map_err(|error| error.to_string())?;
                (masking, None)
            }
        };
        // All of it, for its checksum.
        let reading = tokio::task::spawn_blocking(move || JobLog::reopen(left, masking));
        let reopened = reading.await.map_err(io::Error::from).flatten();
        let Reopened {
            log,
            acknowledged,
            started,
            ended,
        } = reopened.map_err(|error| format!("its log cannot be read: {error}"))?;
        let log = Arc::new(log);
        let credentials = JobCredentials {
            id: job.job,
            token: job.token.clone(),
        };
        let info = Arc::new(info::of_runner(runner, &settings.executors));
        let report = Report::new(api, info, credentials, Arc::clone(&log))
            .debug_trace(job.debug_trace)
            .resume(acknowledged);
        Ok(Self {
            job,
            report,
            log,
            saving,
            needs_secrets,
            ended,
            started,
            machine_restarted,
            touched,
            taken: Instant::now(),
            config,
            host: settings.host,
            executors: settings.executors,
            spool: settings.spool,
        })
    }

    /// Ends a job that had not ended.
    fn settle(&mut self) {
        let (job, runner) = (self.job.job, self.job.runner.as_str());
        if self.ended.is_some() {
            tracing::warn!(
                job,
                runner,
                "the end of a job is still to be reported; it is sent now"
            );
            return;
        }
        if self.saving.is_some() {
            tracing::warn!(
                job,
                runner,
                "the runner was killed after a job's scripts had ended; its caches and artifacts are saved again"
            );
        } else {
            tracing::warn!(
                job,
                runner,
                "a job was running when its runner was killed; it is failed, with the rest of its log"
            );
        }
        if self.saving.is_none() {
            self.fail();
        }
    }

    /// It ends here, with its runner.
    fn fail(&mut self) {
        let line =
            messages::job_failed_by_system(messages::runner_was_killed(self.machine_restarted));
        let why = self.needs_secrets.map(messages::artifacts_need_secrets);
        let why = why.unwrap_or_default();
        self.log.say(&format!("{}{why}{line}", self.new_line()));
        self.log.finish();
        self.report.last_words(line);
        let state = FinalState::Failed {
            reason: FailureReason::RunnerSystemFailure,
            exit_code: 0,
        };
        self.log.ended(&state);
        self.ended = Some(state);
    }

    /// What has to stand before a line that is added.
    fn new_line(&self) -> &'static str {
        if self.log.ends_a_line() { "" } else { "\n" }
    }

    /// One attempt to bring the job to its end: whether the server knows it, or does not want it any more.
    async fn conclude(&mut self) -> bool {
        if let Some(saving) = &mut self.saving {
            match self.report.still_wanted().await {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
            }
            let runner = runner_of(&self.config.borrow(), &self.job);
            match saving.executor(&runner, &self.executors, &self.host) {
                Ok(executor) => self.save(executor).await,
                Err(why) => {
                    let job = self.job.job;
                    tracing::error!(job, "its artifacts cannot be saved now: {why}");
                    if self.taken.elapsed() < UNSAVED {
                        return false;
                    }
                    self.saving = None;
                    self.fail();
                }
            }
        }
        match &self.ended {
            Some(state) if self.started => self.report.finish(state, 1).await,
            Some(state) => self.report.finish_unstarted(state).await,
            None => true,
        }
    }

    /// Saves caches and artifacts, and writes down what the job has come to.
    async fn save(&mut self, executor: Arc<dyn Executor>) {
        let line = messages::saving_is_repeated(self.machine_restarted);
        let Some(saving) = self.saving.take() else {
            return;
        };
        let opening = format!("{}{line}{}", self.new_line(), saving.said_of_secrets());
        let (report, log) = (&mut self.report, &self.log);
        let remains = self.spool.remains_of(self.job.job);
        let performing = saving.perform(executor, opening, report, log, remains);
        let outcome = Box::pin(performing).await;
        self.log.finish();
        let state = final_state(&outcome, saving.server());
        self.log.ended(&state);
        self.ended = Some(state);
    }

    async fn tell(mut self, places: Arc<Semaphore>) {
        let job = self.job.job;
        let mut wait = WAIT;
        loop {
            let told = {
                let Ok(_place) = places.acquire().await else {
                    return;
                };
                self.conclude().await
            };
            if told {
                self.log.remove();
                tracing::info!(job, "the job that was left over is reported");
                return;
            }
            let age = self.touched.and_then(|touched| touched.elapsed().ok());
            if age.is_some_and(|age| age > FORGOTTEN) {
                self.log.remove();
                tracing::error!(
                    job,
                    "the server has not taken the job for two weeks; it is given up"
                );
                return;
            }
            tracing::warn!(
                job,
                "the server does not take the job that was left over; tried again in {wait:?}"
            );
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

#[cfg(test)]
mod tests;
