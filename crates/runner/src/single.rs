//! `run-single`: one runner, one job after the other, without a file (`runner-cli.md` 4).

use std::sync::Arc;
use std::time::Duration;

use courser_config::{Config, RunnerConfig};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock::moment;
use crate::daemon::Ended;
use crate::dispatch::Numbers;
use crate::entry::{Connections, Entry, RunnerSettings};
use crate::job_task::{JobTask, run_job};
use crate::resume::Resumption;
use crate::shutdown::{Phase, Shutdown};

const PAUSE_WITHOUT_JOB: Duration = Duration::from_secs(3);
const PAUSE_WHEN_UNHEALTHY: Duration = Duration::from_secs(300);

/// When a single runner ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleLimits {
    /// Jobs; `None` = no limit.
    pub max_jobs: Option<u64>,
    /// Time without a job; `None` = no limit.
    pub wait_timeout: Option<Duration>,
    /// What a job gets to end after a forceful request.
    pub shutdown_timeout: Duration,
}

/// The runner cannot work: its URL or its executor is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableRunner(String);

/// Runs jobs of `runner` until a limit is reached or `shutdown`. The outcome of jobs does not matter.
pub async fn run_single(
    settings: RunnerSettings,
    runner: &RunnerConfig,
    limits: SingleLimits,
    shutdown: &Shutdown,
) -> Result<Ended, UnusableRunner> {
    let config = Config {
        shutdown_timeout: limits.shutdown_timeout,
        ..Config::default()
    };
    let entry = Entry::build(runner, &config, &settings, &mut Connections::default());
    if let Err(unusable) = &entry.ready {
        return Err(UnusableRunner(unusable.to_string()));
    }
    let config = watch::Sender::new(Arc::new(Config {
        runners: vec![runner.clone()],
        ..config
    }));
    settings.warn();
    let spool = settings.spool.clone();
    let mut resumption = Resumption::new(settings, config.subscribe());
    resumption.look().await;
    let serve_to_end = async {
        let ended = serve(Arc::new(entry), limits, shutdown).await;
        if ended == Ended::Clean {
            tokio::select! {
                () = spool.late_answers() => {}
                () = forced(shutdown, limits.shutdown_timeout) => {}
            }
        }
        ended
    };
    tokio::select! {
        ended = serve_to_end => Ok(ended),
        () = resumption.run() => Ok(Ended::JobsLeft),
    }
}

/// Returns when the time is over that a forceful request leaves.
async fn forced(shutdown: &Shutdown, timeout: Duration) {
    let mut phase = shutdown.subscribe();
    let forceful = |phase: &Phase| matches!(phase, Phase::Forceful(_));
    if phase.wait_for(forceful).await.is_err() {
        std::future::pending::<()>().await;
    }
    sleep(timeout).await;
}

async fn serve(entry: Arc<Entry>, limits: SingleLimits, shutdown: &Shutdown) -> Ended {
    let mut phase = shutdown.subscribe();
    let mut jobs = 0;
    let mut last_job = Instant::now();
    while *phase.borrow_and_update() == Phase::Running {
        let waited_out = async {
            match limits.wait_timeout {
                Some(timeout) => sleep_until(moment(last_job, timeout)).await,
                None => std::future::pending().await,
            }
        };
        let task = tokio::select! {
            task = next_job(&entry, shutdown) => task,
            () = waited_out => return Ended::Clean,
            _ = phase.changed() => continue,
        };
        tokio::select! {
            () = run_job(task) => {}
            () = forced(shutdown, limits.shutdown_timeout) => return Ended::JobsLeft,
        }
        jobs += 1;
        last_job = Instant::now();
        if limits.max_jobs.is_some_and(|most| jobs >= most) {
            return Ended::Clean;
        }
    }
    Ended::Clean
}

/// Asks until there is a job.
async fn next_job(entry: &Arc<Entry>, shutdown: &Shutdown) -> JobTask {
    loop {
        let pause = match &entry.ready {
            Err(_) => PAUSE_WHEN_UNHEALTHY,
            Ok(ready) => match ready.executor.acquire().await {
                Err(none) => {
                    tracing::warn!("{none}");
                    PAUSE_WITHOUT_JOB
                }
                Ok(place) => {
                    let outcome = ready.api.request_job(&ready.info).await;
                    if let Some(received) = outcome.job {
                        let project = received.payload.job_info.project_id;
                        return JobTask {
                            entry: Arc::clone(entry),
                            numbers: Numbers::default().take(
                                project,
                                entry.short_token(),
                                entry.settings.spool.held_numbers(),
                            ),
                            received,
                            place,
                            slot: None,
                            phase: shutdown.subscribe(),
                        };
                    }
                    if outcome.healthy {
                        PAUSE_WITHOUT_JOB
                    } else {
                        PAUSE_WHEN_UNHEALTHY
                    }
                }
            },
        };
        sleep(pause).await;
    }
}
