//! Carries out the actions of `job::state` and feeds their ends back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use courser_executor::{
    Beside, Environment, EnvironmentFuture, Executor, Exit, Output, Place, Preparation,
    PrepareError, Remains, StopSignal, Stream,
};
use courser_job::state::{Action, Event, JobState, Outcome, Plan, StageExit, Timer};
use courser_job::trace::Masking;
use courser_job::{Job, JobTls, Rejection, Stage, StageScript, messages};
use courser_protocol::{FailureReason, JobVariable};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::renewal::Renewal;
use super::secrets::{JobSecrets, Unresolved};
use crate::clock::moment;
use crate::log::JobLog;
use crate::report::{Probe, ServerWish};
use crate::shutdown::Phase;
use crate::spool::Unfinished;

/// Carries out what the state machine decides.
pub(crate) struct Performer {
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
    renewal: Renewal,
    probe: Arc<Probe>,
    remains: Remains,
    /// Of a job whose scripts are over, nobody asks for any.
    secrets: Option<JobSecrets>,
    /// From preparation to clean-up.
    beside: Option<Arc<dyn Beside>>,
    /// Files of trust that are being exchanged.
    exchange: Option<EnvironmentFuture<'static, ()>>,
}

/// How long it may take to exchange a job's files of trust.
const RENEWAL_LIMIT: Duration = Duration::from_secs(10);

/// A preparation or a stage under way. It owns the environment: dropping it kills what runs.
struct Activity {
    stage: Stage,
    stop: StopSignal,
    work: EnvironmentFuture<'static, (End, Option<Box<dyn Environment>>)>,
}

/// How an activity ended.
enum End {
    Event(Event),
    Secrets(Result<Resolved, Unresolved>),
}

/// A job's secrets, and what its log hides from then on.
struct Resolved {
    secrets: Vec<JobVariable>,
    masking: Masking,
}

impl Resolved {
    /// Large secrets take their time: others' jobs do not wait for it.
    async fn new(job: Arc<Job>, secrets: Vec<JobVariable>) -> Result<Self, Unresolved> {
        let broken = |message| Unresolved {
            message,
            reason: FailureReason::RunnerSystemFailure,
        };
        let making = tokio::task::spawn_blocking(move || {
            let job = job.with_secrets(secrets.clone())?;
            Ok((Masking::for_job(&job), secrets))
        });
        match making.await {
            Ok(Ok((Ok(masking), secrets))) => Ok(Self { secrets, masking }),
            Ok(Ok((Err(error), _))) => Err(broken(error.to_string())),
            Ok(Err(Rejection {
                message, reason, ..
            })) => Err(Unresolved { message, reason }),
            Err(error) => Err(broken(format!("cannot prepare masking: {error}"))),
        }
    }
}

impl Performer {
    /// Performs `job`; `place` was taken before it was requested.
    pub(crate) fn new(
        job: Arc<Job>,
        log: Arc<JobLog>,
        executor: Arc<dyn Executor>,
        place: Place,
        shutdown_timeout: Duration,
        renewal: Renewal,
        probe: Probe,
    ) -> Self {
        Self {
            job,
            log,
            executor,
            place: Some(place),
            environment: None,
            activity: None,
            timers: HashMap::new(),
            started: None,
            interrupted: false,
            shutdown_timeout,
            renewal,
            probe: Arc::new(probe),
            remains: Arc::new(|_| ()),
            secrets: None,
            beside: None,
            exchange: None,
        }
    }

    /// Tells of what could not be taken away when the job is over.
    pub(crate) fn leaving(mut self, remains: Remains) -> Self {
        self.remains = remains;
        self
    }

    /// Resolves the job's secrets.
    pub(crate) fn resolving(mut self, secrets: JobSecrets) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Performs the job from `state` to its end. Once its scripts are over, the log keeps what another process needs.
    pub(super) async fn perform(
        mut self,
        mut state: JobState,
        mut wishes: mpsc::UnboundedReceiver<ServerWish>,
        mut phase: watch::Receiver<Phase>,
    ) -> Outcome {
        let mut kept = false;
        let mut events = VecDeque::from([Event::Started]);
        loop {
            let event = match events.pop_front() {
                Some(event) => event,
                None => match self.next_event(&mut wishes, &mut phase).await {
                    Some(event) => event,
                    None => continue,
                },
            };
            let elapsed = self.started.map_or(Duration::ZERO, |start| start.elapsed());
            let (next, actions) = state.on(event, elapsed);
            state = next;
            if !kept
                && self.executor.facts().keeps_working_copies
                && let Some(over) = state.scripts_over()
            {
                kept = true;
                self.log.unfinished(&Unfinished::new(&self.job, over));
            }
            for action in actions {
                match action {
                    Action::Log(text) => self.log.say(&text),
                    Action::ResolveSecrets => self.resolve_secrets(),
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
                        self.clean_up(&mut phase).await;
                        events.push_back(Event::CleanedUp);
                    }
                    Action::Report(outcome) => return outcome,
                }
            }
        }
    }

    /// Waits; nothing when what happened does not concern the state.
    async fn next_event(
        &mut self,
        wishes: &mut mpsc::UnboundedReceiver<ServerWish>,
        phase: &mut watch::Receiver<Phase>,
    ) -> Option<Event> {
        let next_timer = self.timers.iter().min_by_key(|(_, at)| **at);
        let next_timer = next_timer.map(|(timer, at)| (*timer, *at));
        let event = tokio::select! {
            (end, environment) = ended(self.activity.as_mut()) => {
                let event = match end {
                    End::Event(event) => event,
                    End::Secrets(result) => self.take_secrets(result),
                };
                if let Some(environment) = &environment
                    && event == Event::Prepared
                {
                    self.beside = Some(environment.beside());
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
            () = exchanged(self.exchange.as_mut()) => {
                self.exchange = None;
                return None;
            }
            tls = self.renewal.next(), if self.exchange.is_none() => {
                self.renew(tls);
                return None;
            }
        };
        Some(event)
    }

    /// Gives the job other certificates: the stage that runs by its files, those that follow by their scripts.
    fn renew(&mut self, tls: JobTls) {
        let id = self.job.payload().id;
        match self.job.trusting(tls) {
            Ok(job) => self.job = Arc::new(job),
            Err(error) => {
                tracing::error!(
                    job = id,
                    "its certificates cannot be exchanged: {}",
                    error.message
                );
                return;
            }
        }
        let Some(beside) = self.beside.clone() else {
            return;
        };
        let request = self.job.renew_trust();
        self.exchange = Some(Box::pin(async move {
            let mut said = Said::default();
            let renewing = beside.run(&request, &mut said);
            match tokio::time::timeout(RENEWAL_LIMIT, renewing).await {
                Ok(Ok(Exit::Success)) => {
                    tracing::info!(
                        job = id,
                        "the job's certificates were exchanged as the runner's were"
                    );
                }
                Ok(Ok(Exit::Failure { text, .. })) => {
                    let said = String::from_utf8_lossy(&said.0);
                    tracing::error!(
                        job = id,
                        "its certificates were not exchanged: {text}: {said}"
                    );
                }
                Ok(Err(error)) => {
                    tracing::error!(job = id, "its certificates were not exchanged: {error}");
                }
                Err(_) => tracing::error!(job = id, "its certificates were not exchanged in time"),
            }
        }));
    }

    fn resolve_secrets(&mut self) {
        self.open_section(&Stage::ResolveSecrets);
        let stop = StopSignal::new();
        let stopped = stop.clone();
        let secrets = self.secrets.clone();
        let (job, log) = (Arc::clone(&self.job), Arc::clone(&self.log));
        let work = async move {
            let result = match secrets {
                Some(secrets) => secrets.resolve(&job, &log, &stopped).await,
                None => Ok(Vec::new()),
            };
            let result = match result {
                Ok(secrets) => Resolved::new(job, secrets).await,
                Err(unresolved) => Err(unresolved),
            };
            (End::Secrets(result), None)
        };
        self.activity = Some(Activity {
            stage: Stage::ResolveSecrets,
            stop,
            work: Box::pin(work),
        });
    }

    /// From here on the job has its secrets, and the log masks them.
    fn take_secrets(&mut self, result: Result<Resolved, Unresolved>) -> Event {
        let failed = |message, reason| Event::SecretsFailed { message, reason };
        let Resolved { secrets, masking } = match result {
            Ok(resolved) => resolved,
            Err(Unresolved { message, reason }) => return failed(message, reason),
        };
        // Its certificates may have been exchanged meanwhile.
        let job = match self.job.with_secrets(secrets) {
            Ok(job) => job,
            Err(rejection) => return failed(rejection.message, rejection.reason),
        };
        self.log.mask(masking);
        let known = self.job.warnings();
        let new = job
            .warnings()
            .iter()
            .filter(|warning| !known.contains(warning));
        let new: Vec<String> = new.cloned().collect();
        if let Some(lines) = messages::settings(&new) {
            self.log.say(&lines);
        }
        self.job = Arc::new(job);
        Event::SecretsResolved(Box::new(Plan::of(&self.job)))
    }

    /// Each attempt gets a new environment; the place taken before the request is for the first.
    fn prepare(&mut self) {
        self.open_section(&Stage::PrepareExecutor);
        let stop = StopSignal::new();
        let stopped = stop.clone();
        let executor = Arc::clone(&self.executor);
        let job = Arc::clone(&self.job);
        let place = self.place.take();
        let (log, lines) = (Arc::clone(&self.log), Arc::clone(&self.log));
        let say = Arc::new(move |line: &str| lines.say(line));
        let lines = Arc::clone(&self.log);
        let say_of_services = Arc::new(move |line: &str| lines.say_of_services(line));
        let remains = Arc::clone(&self.remains);
        let work = async move {
            let prepare = async {
                let place = match place {
                    Some(place) => place,
                    None => tokio::select! {
                        acquired = executor.acquire() => {
                            acquired.map_err(|none| PrepareError::passing(none.to_string()))?
                        }
                        () = stopped.cancelled() => return Err(PrepareError::canceled()),
                    },
                };
                let preparation = Preparation {
                    place,
                    job: &job,
                    stop: stopped.clone(),
                    say,
                    say_of_services,
                    footprint: &|footprint| log.footprint(footprint),
                    remains,
                };
                executor.prepare(preparation).await
            };
            match prepare.await {
                Ok(environment) => (End::Event(Event::Prepared), Some(environment)),
                Err(PrepareError { message, reason }) => {
                    let failed = Event::PrepareFailed { message, reason };
                    (End::Event(failed), None)
                }
            }
        };
        self.activity = Some(Activity {
            stage: Stage::PrepareExecutor,
            stop,
            work: Box::pin(work),
        });
    }

    fn run(&mut self, script: StageScript) {
        let stage = script.stage.clone();
        self.open_section(&stage);
        let stop = StopSignal::new();
        let stopped = stop.clone();
        let mut output = self.log.stage();
        let environment = self.environment.take();
        let probe = Arc::clone(&self.probe);
        let uploads = matches!(
            stage,
            Stage::UploadArtifactsOnSuccess | Stage::UploadArtifactsOnFailure
        );
        let work = async move {
            let Some(mut environment) = environment else {
                let broken = StageExit::Broken {
                    message: "the executor has no environment".to_owned(),
                    reason: None,
                };
                return (End::Event(Event::StageEnded(broken)), None);
            };
            let exit = match environment.run(&script, &mut output, stopped).await {
                Ok(Exit::Success) => StageExit::Success,
                Ok(Exit::Failure { code, text }) if uploads && probe.server_is_away().await => {
                    StageExit::Unreached { code, text }
                }
                Ok(Exit::Failure { code, text }) => StageExit::Failed { code, text },
                Err(error) => StageExit::Broken {
                    message: error.to_string(),
                    reason: error.reason().cloned(),
                },
            };
            (End::Event(Event::StageEnded(exit)), Some(environment))
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
        self.timers.insert(timer, moment(now, after));
    }

    async fn clean_up(&mut self, phase: &mut watch::Receiver<Phase>) {
        self.beside = None;
        // Or it may begin something that is not removed any more.
        self.exchange = None;
        self.close_activity();
        if let Some(environment) = self.environment.take()
            && let Err(error) = environment.clean_up().await
        {
            tracing::error!(job = self.job.payload().id, "cleaning up: {error}");
        }
        // Last: what runs in the environment may still use them.
        if let Some(secrets) = &self.secrets {
            let over = StopSignal::new();
            let ended = async {
                forced(phase).await;
                tokio::time::sleep(self.shutdown_timeout / 4).await;
                over.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = Box::pin(secrets.revoke(&self.log, &over)) => {}
                () = ended => {}
            }
        }
    }

    /// Marker and title are writes of their own: in a stamped log the title is the marker's continuation (5.3).
    fn open_section(&self, stage: &Stage) {
        if self.has_sections() {
            let now = Timestamp::now().as_second();
            self.log.say(&messages::section_start(now, &stage.id()));
        }
        let title = stage.title(self.executor.facts().name);
        self.log.say(&messages::stage_title(&title));
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

/// The beginning of what a helper says.
#[derive(Default)]
struct Said(Vec<u8>);

impl Output for Said {
    fn write(&mut self, _: Stream, bytes: &[u8]) {
        let room = 1000_usize.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

async fn ended(activity: Option<&mut Activity>) -> (End, Option<Box<dyn Environment>>) {
    match activity {
        Some(activity) => activity.work.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn exchanged(exchange: Option<&mut EnvironmentFuture<'static, ()>>) {
    match exchange {
        Some(exchange) => exchange.as_mut().await,
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
