//! One job from its payload to its final report, owned by one task.
//!
//! `job::state` decides; here its actions are performed and their ends fed back. Dropping the task kills
//! the job's processes. The log is sent beside the work, by the same task.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use courser_executor::{
    Environment, EnvironmentFuture, Executor, Exit, Place, PrepareError, StopSignal,
};
use courser_job::state::{Action, Event, JobState, Outcome, Plan, StageExit, Timer};
use courser_job::trace::Masking;
use courser_job::{Job, Rejection, RunnerContext, Stage, messages};
use courser_protocol::info::{RUNNER_VERSION, architecture, platform, revision};
use courser_protocol::{FailureReason, JobFeatures, JobState as WireState};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::jobs::{JobCredentials, ReceivedJob};
use crate::dispatch::{JobNumbers, Slot};
use crate::entry::{Entry, Ready};
use crate::log::JobLog;
use crate::report::{Acknowledged, FinalState, Report, ServerWish};
use crate::shutdown::Phase;

/// A job and everything it holds while it runs.
pub(crate) struct JobTask {
    pub(crate) entry: Arc<Entry>,
    pub(crate) received: Box<ReceivedJob>,
    pub(crate) numbers: JobNumbers,
    pub(crate) place: Place,
    /// A place of `concurrent`, kept until the job is reported.
    pub(crate) slot: Option<Slot>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Runs the job to its end.
pub(crate) async fn run_job(task: JobTask) {
    let JobTask {
        entry,
        received,
        numbers,
        place,
        slot,
        phase,
    } = task;
    // A runner that cannot work asks for nothing.
    let Ok(ready) = &entry.ready else { return };
    let context = context(&entry, ready, &received, numbers);
    let payload = received.payload;
    let project = payload.job_info.project_id;
    let credentials = JobCredentials {
        id: payload.id,
        token: payload.token.clone(),
    };
    let server = payload.features.clone();
    tracing::info!(
        job = credentials.id,
        project,
        runner = %entry.short_token(),
        correlation_id = received.correlation_id,
        "Checking for jobs... received"
    );
    let started = Instant::now();
    let work = async {
        match Job::accept(payload, context) {
            Ok(job) => {
                accepted(
                    &entry,
                    ready,
                    credentials.clone(),
                    Arc::new(job),
                    place,
                    phase,
                )
                .await
            }
            Err(rejection) => {
                rejected(&entry, ready, credentials.clone(), &server, rejection).await
            }
        }
    };
    let end = Box::pin(work).await;
    let duration = started.elapsed().as_secs_f64();
    let (job, runner) = (credentials.id, entry.short_token());
    match end {
        End::Reported(Outcome { reason: None, .. }) => {
            tracing::info!(job, project, duration_s = duration, runner = %runner, "Job succeeded");
        }
        End::Reported(outcome) => {
            let message = &outcome.message;
            tracing::warn!(job, project, duration_s = duration, runner = %runner, "Job failed: {message}");
        }
        End::Unstarted(why) => {
            tracing::warn!(job, project, runner = %runner, "Job not started: {why}");
        }
    }
    drop(slot);
}

enum End {
    Reported(Outcome),
    Unstarted(String),
}

async fn accepted(
    entry: &Entry,
    ready: &Ready,
    credentials: JobCredentials,
    job: Arc<Job>,
    place: Place,
    phase: watch::Receiver<Phase>,
) -> End {
    let server = &job.payload().features;
    let flag = |name: &str| {
        job.features()
            .all()
            .iter()
            .any(|(flag, on)| *flag == name && *on)
    };
    let masking = Masking::for_job(&job).map_err(|error| error.to_string());
    let log = masking.and_then(|masking| open_log(entry, masking, flag("FF_TIMESTAMPS")));
    let log = match log {
        Ok(log) => log,
        Err(why) => return unlogged(ready, credentials, why).await,
    };
    let mut report = Report::new(
        Arc::clone(&ready.api),
        Arc::clone(&ready.info),
        credentials,
        Arc::clone(&log),
    )
    .debug_trace(job.settings().debug_trace)
    .keep_alive(entry.settings.keep_alive)
    .dynamic_force_send(flag("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL"));
    match report.acknowledge().await {
        Acknowledged::Run => {}
        Acknowledged::Gone => return End::Unstarted("the server gave it up".to_owned()),
        Acknowledged::Canceled => {
            let state = FinalState::Failed {
                reason: FailureReason::JobCanceled,
                exit_code: 0,
            };
            report
                .finish(&state, entry.config.final_update_retry_limit)
                .await;
            return End::Unstarted("canceled".to_owned());
        }
    }
    let (wish, wishes) = mpsc::unbounded_channel();
    let finished = CancellationToken::new();
    let performer = Performer {
        job: Arc::clone(&job),
        log: Arc::clone(&log),
        executor: Arc::clone(&ready.executor),
        place: Some(place),
        environment: None,
        activity: None,
        timers: HashMap::new(),
        started: None,
        interrupted: false,
        shutdown_timeout: entry.shutdown_timeout,
    };
    let work = async {
        let performing = Box::pin(performer.perform(wishes, phase));
        // A bug of ours fails the job, and the server is told; the log alone is looked at afterwards.
        let outcome = AssertUnwindSafe(performing).catch_unwind().await;
        finished.cancel();
        outcome.unwrap_or_else(|panic| {
            let outcome = panicked(panic.as_ref());
            log.say(&outcome.line());
            outcome
        })
    };
    let (outcome, ()) = tokio::join!(work, report.send_while_running(&wish, &finished));
    log.finish();
    report
        .finish(
            &final_state(&outcome, server),
            entry.config.final_update_retry_limit,
        )
        .await;
    End::Reported(outcome)
}

/// The outcome of a job whose task panicked.
fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome {
        state: WireState::Failed,
        reason: Some(FailureReason::RunnerSystemFailure),
        exit_code: 0,
        message: format!("panic: {}", text.unwrap_or("unknown")),
    }
}

/// A payload that cannot become a job. Unsupported options are refused without an acknowledgement and
/// with the bare message (2.6 step 2), everything else as a job that failed at once.
async fn rejected(
    entry: &Entry,
    ready: &Ready,
    credentials: JobCredentials,
    server: &JobFeatures,
    rejection: Rejection,
) -> End {
    let prefixes: Vec<_> = Masking::built_in_prefixes(true)
        .map(str::to_owned)
        .chain(server.token_mask_prefixes.iter().cloned())
        .collect();
    let masking = Masking::new(&[], &prefixes).map_err(|error| error.to_string());
    let log = match masking.and_then(|masking| open_log(entry, masking, true)) {
        Ok(log) => log,
        Err(why) => return unlogged(ready, credentials, why).await,
    };
    let mut report = Report::new(
        Arc::clone(&ready.api),
        Arc::clone(&ready.info),
        credentials,
        Arc::clone(&log),
    );
    let unsupported = rejection.exit_code != 0;
    let state = if unsupported {
        log.say(&format!("{}\n", rejection.message));
        FinalState::Failed {
            reason: rejection.reason.clone(),
            exit_code: rejection.exit_code,
        }
    } else {
        if report.acknowledge().await == Acknowledged::Gone {
            return End::Unstarted("the server gave it up".to_owned());
        }
        log.say(&messages::running_with(RUNNER_VERSION, revision()));
        log.say(&messages::running_on_runner(
            &entry.config.name,
            entry.short_token(),
            &entry.settings.system_id,
        ));
        log.say(&messages::job_failed(&rejection.message));
        FinalState::Failed {
            reason: rejection.reason.for_server(&server.failure_reasons),
            exit_code: 0,
        }
    };
    log.finish();
    report
        .finish(&state, entry.config.final_update_retry_limit)
        .await;
    End::Reported(Outcome::from(rejection))
}

/// Without a log there is nothing to show: one update, as upstream does (2.6 step 1).
async fn unlogged(ready: &Ready, credentials: JobCredentials, why: String) -> End {
    let update = courser_protocol::UpdateRequest {
        info: courser_protocol::Info::clone(&ready.info),
        token: credentials.token.clone(),
        state: WireState::Failed,
        failure_reason: Some(FailureReason::RunnerSystemFailure),
        ..courser_protocol::UpdateRequest::default()
    };
    ready.api.update_job(&credentials, &update).await;
    End::Unstarted(why)
}

fn open_log(entry: &Entry, masking: Masking, timestamps: bool) -> Result<Arc<JobLog>, String> {
    let directory: &Path = &entry.settings.temporary_directory;
    let limit = entry.config.output_limit.saturating_mul(1024);
    JobLog::create(directory, limit, masking, timestamps)
        .map(Arc::new)
        .map_err(|error| format!("cannot spool the log in {}: {error}", directory.display()))
}

fn final_state(outcome: &Outcome, server: &JobFeatures) -> FinalState {
    match &outcome.reason {
        None => FinalState::Success,
        Some(reason) => FinalState::Failed {
            reason: reason.for_server(&server.failure_reasons),
            exit_code: outcome.exit_code,
        },
    }
}

/// What the job is told of runner and executor.
fn context(
    entry: &Entry,
    ready: &Ready,
    received: &ReceivedJob,
    numbers: JobNumbers,
) -> RunnerContext {
    let facts = ready.executor.facts();
    let config = &entry.config;
    RunnerContext {
        name: config.name.clone(),
        short_token: entry.short_token().to_owned(),
        system_id: entry.settings.system_id.clone(),
        version: RUNNER_VERSION.to_owned(),
        revision: revision().to_owned(),
        executable_arch: format!("{}/{}", platform(), architecture()),
        executor: facts.name.to_owned(),
        shell: facts.shell.clone(),
        url: config.url.clone(),
        clone_url: config.clone_url.clone(),
        environment: config.environment.clone(),
        feature_flags: config.feature_flags.clone(),
        pre_get_sources_script: config.pre_get_sources_script.clone(),
        post_get_sources_script: config.post_get_sources_script.clone(),
        pre_build_script: config.pre_build_script.clone(),
        post_build_script: config.post_build_script.clone(),
        directories: facts.directories.clone(),
        custom_build_dir_enabled: config
            .custom_build_dir_enabled
            .unwrap_or(facts.custom_build_dir),
        debug_trace_disabled: config.debug_trace_disabled,
        clean_git_config: config.clean_git_config,
        cleans_git_config: facts.clean_git_config,
        shared: facts.shared_environment,
        concurrent_id: numbers.of_runner,
        concurrent_project_id: numbers.of_project,
        correlation_id: received.correlation_id.clone(),
        tls: received.tls.clone(),
        artifact_upload_timeout: config.artifact_upload_timeout,
        artifact_response_header_timeout: config.artifact_response_header_timeout,
        prepare_timeout: config.prepare_timeout,
        get_sources_timeout: config.get_sources_timeout,
        hostname: if facts.shows_via {
            entry.settings.host_name.clone()
        } else {
            String::new()
        },
        helper_command: facts.helper_command.clone(),
    }
}

/// Carries out what the state machine decides.
struct Performer {
    job: Arc<Job>,
    log: Arc<JobLog>,
    executor: Arc<dyn Executor>,
    /// Until the first environment holds it.
    place: Option<Place>,
    /// While nothing runs in it.
    environment: Option<Box<dyn Environment>>,
    activity: Option<Activity>,
    timers: HashMap<Timer, Instant>,
    /// When the job's clock was started.
    started: Option<Instant>,
    interrupted: bool,
    shutdown_timeout: Duration,
}

/// A preparation or a stage under way. It owns the environment: dropping it kills what runs.
struct Activity {
    stage: Stage,
    stop: StopSignal,
    work: EnvironmentFuture<'static, (Event, Option<Box<dyn Environment>>)>,
}

impl Performer {
    async fn perform(
        mut self,
        mut wishes: mpsc::UnboundedReceiver<ServerWish>,
        mut phase: watch::Receiver<Phase>,
    ) -> Outcome {
        let mut state = JobState::new(Plan::of(&self.job));
        let mut events = VecDeque::from([Event::Started]);
        loop {
            let event = match events.pop_front() {
                Some(event) => event,
                None => self.next_event(&mut wishes, &mut phase).await,
            };
            let elapsed = self.started.map_or(Duration::ZERO, |start| start.elapsed());
            let (next, actions) = state.on(event, elapsed);
            state = next;
            for action in actions {
                match action {
                    Action::Log(text) => self.log.say(&text),
                    Action::Prepare => self.prepare(),
                    Action::Run { stage, status } => match self.job.stage(&stage, status) {
                        Some(script) => self.run(script),
                        None => events.push_back(Event::StageEnded(StageExit::Success)),
                    },
                    Action::Stop => {
                        if let Some(activity) = &self.activity {
                            activity.stop.cancel();
                        }
                    }
                    Action::StartTimer(timer, after) => self.start_timer(timer, after),
                    Action::StopTimer(timer) => {
                        self.timers.remove(&timer);
                    }
                    Action::CleanUp => {
                        self.clean_up().await;
                        events.push_back(Event::CleanedUp);
                    }
                    Action::Report(outcome) => return outcome,
                }
            }
        }
    }

    async fn next_event(
        &mut self,
        wishes: &mut mpsc::UnboundedReceiver<ServerWish>,
        phase: &mut watch::Receiver<Phase>,
    ) -> Event {
        let next_timer = self.timers.iter().min_by_key(|(_, at)| **at);
        let next_timer = next_timer.map(|(timer, at)| (*timer, *at));
        tokio::select! {
            (event, environment) = ended(self.activity.as_mut()) => {
                if let Some(environment) = &environment
                    && event == Event::Prepared
                {
                    self.log.say(&messages::plain(&environment.description()));
                }
                self.environment = environment;
                self.close_activity();
                event
            }
            Some(wish) = wishes.recv() => match wish {
                ServerWish::Cancel => Event::CancelRequested,
                ServerWish::Abort => Event::AbortRequested,
            },
            timer = fired(next_timer) => {
                self.timers.remove(&timer);
                Event::TimerFired(timer)
            }
            signal = forced(phase), if !self.interrupted => {
                self.interrupted = true;
                Event::Interrupted(signal)
            }
        }
    }

    /// Each attempt gets a new environment; the place taken before the request is for the first.
    fn prepare(&mut self) {
        self.open_section(&Stage::PrepareExecutor);
        let stop = StopSignal::new();
        let stopped = stop.clone();
        let executor = Arc::clone(&self.executor);
        let job = Arc::clone(&self.job);
        let place = self.place.take();
        let work = async move {
            let prepare = async {
                let place = match place {
                    Some(place) => place,
                    None => executor.acquire().await.map_err(|none| PrepareError {
                        message: none.to_string(),
                        reason: None,
                    })?,
                };
                executor.prepare(place, &job).await
            };
            tokio::select! {
                prepared = prepare => match prepared {
                    Ok(environment) => (Event::Prepared, Some(environment)),
                    Err(PrepareError { message, reason }) => {
                        (Event::PrepareFailed { message, reason }, None)
                    }
                },
                () = stopped.cancelled() => {
                    let message = "canceled".to_owned();
                    (Event::PrepareFailed { message, reason: None }, None)
                }
            }
        };
        self.activity = Some(Activity {
            stage: Stage::PrepareExecutor,
            stop,
            work: Box::pin(work),
        });
    }

    fn run(&mut self, script: courser_job::StageScript) {
        let stage = script.stage.clone();
        self.open_section(&stage);
        let stop = StopSignal::new();
        let stopped = stop.clone();
        let mut output = self.log.stage();
        let environment = self.environment.take();
        let work = async move {
            let Some(mut environment) = environment else {
                let message = "the executor has no environment".to_owned();
                return (Event::StageEnded(StageExit::Broken { message }), None);
            };
            let exit = match environment.run(&script, &mut output, stopped).await {
                Ok(Exit::Success) => StageExit::Success,
                Ok(Exit::Failure { code, text }) => StageExit::Failed { code, text },
                Err(error) => StageExit::Broken {
                    message: error.to_string(),
                },
            };
            (Event::StageEnded(exit), Some(environment))
        };
        self.activity = Some(Activity {
            stage,
            stop,
            work: Box::pin(work),
        });
    }

    /// A forced end of the runner leaves time to report before `shutdown_timeout` is over.
    fn start_timer(&mut self, timer: Timer, after: Duration) {
        let now = Instant::now();
        let after = match timer {
            Timer::Unwind if self.interrupted => after.min(self.shutdown_timeout / 2),
            _ => after,
        };
        if timer == Timer::Job {
            self.started = Some(now);
        }
        self.timers.insert(timer, now + after);
    }

    async fn clean_up(&mut self) {
        self.close_activity();
        if let Some(environment) = self.environment.take()
            && let Err(error) = environment.clean_up().await
        {
            tracing::error!(job = self.job.payload().id, "cleaning up: {error}");
        }
    }

    fn open_section(&self, stage: &Stage) {
        let mut text = String::new();
        if self.has_sections() {
            text += &messages::section_start(Timestamp::now().as_second(), &stage.id());
        }
        text += &messages::stage_title(&stage.title(self.executor.facts().name));
        self.log.say(&text);
    }

    /// Ends the activity, by force if it has not ended, and its section.
    fn close_activity(&mut self) {
        let Some(Activity { stage, work, .. }) = self.activity.take() else {
            return;
        };
        drop(work);
        if self.has_sections() {
            let now = Timestamp::now().as_second();
            self.log.say(&messages::section_end(now, &stage.id()));
        }
    }

    fn has_sections(&self) -> bool {
        self.job.payload().features.trace_sections
    }
}

async fn ended(activity: Option<&mut Activity>) -> (Event, Option<Box<dyn Environment>>) {
    match activity {
        Some(activity) => activity.work.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn fired(timer: Option<(Timer, Instant)>) -> Timer {
    match timer {
        Some((timer, at)) => {
            tokio::time::sleep_until(at).await;
            timer
        }
        None => std::future::pending().await,
    }
}

/// Waits for a forceful end; gives the signal's name.
async fn forced(phase: &mut watch::Receiver<Phase>) -> String {
    loop {
        if let Phase::Forceful(signal) = &*phase.borrow_and_update() {
            return signal.clone();
        }
        // Without the handle nobody can force this runner any more.
        if phase.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_as_a_failure_of_the_system() {
        let panic = std::panic::catch_unwind(|| panic!("number {}", 7)).expect_err("it panics");
        let outcome = panicked(panic.as_ref());
        assert!(
            outcome
                .line()
                .contains("Job failed (system failure): panic: number 7")
        );
        let state = final_state(&outcome, &JobFeatures::default());
        let reason = FailureReason::RunnerSystemFailure;
        assert_eq!(
            state,
            FinalState::Failed {
                reason,
                exit_code: 0
            }
        );
    }
}
