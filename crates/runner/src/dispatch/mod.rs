//! One task for each runner: asks for jobs, starts them, keeps its bounds (`runner-protocol.md` 9).
//!
//! Upstream walks all runners in a feeder and loses the turn when no worker is idle. Here a runner asks
//! on each `check_interval`, when it received a job (unless `strict_check_interval`) and when one of
//! its jobs has ended. The places of `concurrent` are handed out first come, first served.

mod numbers;
mod pace;
mod slots;

use std::collections::HashMap;
use std::sync::Arc;

use courser_executor::Place;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub(crate) use numbers::{HeldNumbers, Hold, JobNumbers, Numbers};
use pace::{Checked, Health, RequestSlots};
pub(crate) use slots::{Slot, Slots};

use crate::client::jobs::RequestOutcome;
use crate::entry::{Entry, WorkingCopies};
use crate::job_task::{JobTask, run_job};
use crate::shutdown::Phase;

/// Default of `FF_USE_ADAPTIVE_REQUEST_CONCURRENCY`.
const ADAPTIVE: &str = "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY";

/// A request that has been answered, with what was held for its job.
struct Asked {
    entry: Arc<Entry>,
    slot: Slot,
    place: Place,
    outcome: RequestOutcome,
}

/// The task of one runner.
pub(crate) struct Dispatcher {
    entry: Arc<Entry>,
    entries: watch::Receiver<Arc<Entry>>,
    phase: watch::Receiver<Phase>,
    /// A server that was not trusted may be now.
    trust: watch::Receiver<u64>,
    slots: Slots,
    request_slots: RequestSlots,
    health: Health,
    numbers: Numbers,
    requests: JoinSet<Option<Asked>>,
    jobs: JoinSet<()>,
    numbers_of: HashMap<Id, JobNumbers>,
    /// No more requests: the runner was removed, or the process ends.
    draining: bool,
}

impl Dispatcher {
    pub(crate) fn new(
        mut entries: watch::Receiver<Arc<Entry>>,
        phase: watch::Receiver<Phase>,
        slots: Slots,
    ) -> Self {
        let entry = Arc::clone(&entries.borrow_and_update());
        Self {
            request_slots: RequestSlots::new(entry.config.request_concurrency, is_adaptive(&entry)),
            health: Health::new(Instant::now()),
            entry,
            entries,
            phase,
            trust: courser_net::trust_changes(),
            slots,
            numbers: Numbers::default(),
            requests: JoinSet::new(),
            jobs: JoinSet::new(),
            numbers_of: HashMap::new(),
            draining: false,
        }
    }

    /// Works until the runner is removed or the process ends, and all its jobs have ended.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(self.entry.check_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if *self.phase.borrow_and_update() != Phase::Running {
                self.drain();
            }
            // A request that was answered before it could be cancelled may have brought a job.
            if self.draining && self.jobs.is_empty() && self.requests.is_empty() {
                return;
            }
            tokio::select! {
                _ = tick.tick(), if !self.draining => self.ask(),
                Some(asked) = self.requests.join_next(), if !self.requests.is_empty() => {
                    if let Ok(Some(asked)) = asked {
                        self.answered(asked);
                    }
                }
                Some(ended) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => {
                    self.job_ended(ended);
                }
                changed = self.entries.changed(), if !self.draining => match changed {
                    Ok(()) => {
                        self.reconfigure();
                        tick = interval(self.entry.check_interval);
                        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    }
                    Err(_) => self.drain(),
                },
                Ok(()) = self.trust.changed(), if !self.draining => self.ask(),
                changed = self.phase.changed(), if !self.draining => {
                    if changed.is_err() {
                        self.drain();
                    }
                }
            }
        }
    }

    /// Stops asking. A poll under way is cancelled; running jobs go on.
    fn drain(&mut self) {
        self.draining = true;
        self.requests.abort_all();
    }

    /// A reload also forgives: all health counters start again (6.9).
    fn reconfigure(&mut self) {
        self.entry = Arc::clone(&self.entries.borrow_and_update());
        self.request_slots.configure(
            self.entry.config.request_concurrency,
            is_adaptive(&self.entry),
        );
        self.health = Health::new(Instant::now());
    }

    /// Starts a request if all bounds allow one.
    fn ask(&mut self) {
        let config = &self.entry.config;
        let taken = self.jobs.len() + self.requests.len();
        if self.draining
            || config.token.is_empty()
            || (config.limit > 0 && taken >= config.limit)
            || self.requests.len() >= self.request_slots.allowed()
        {
            return;
        }
        let checked = self.health.check(
            config.unhealthy_requests_limit,
            config.unhealthy_interval,
            Instant::now(),
        );
        if checked != Checked::Healthy {
            return;
        }
        if let Err(unusable) = &self.entry.ready {
            tracing::error!(runner = self.entry.short_token(), "{unusable}");
            self.record_health(false);
            return;
        }
        self.requests
            .spawn(request(Arc::clone(&self.entry), self.slots.clone()));
    }

    fn answered(&mut self, asked: Asked) {
        self.request_slots.learn(&asked.outcome);
        self.record_health(asked.outcome.healthy);
        if let Some(job) = asked.outcome.job {
            let project = job.payload.job_info.project_id;
            let held = asked.entry.settings.spool.held_numbers();
            let runner = asked.entry.short_token();
            let numbers = self.numbers.take(project, runner, held);
            let task = JobTask {
                entry: asked.entry,
                received: job,
                numbers,
                place: asked.place,
                slot: Some(asked.slot),
                phase: self.phase.clone(),
            };
            let started = self.jobs.spawn(run_job(task));
            self.numbers_of.insert(started.id(), numbers);
            tracing::info!(
                builds = self.jobs.len(),
                runner = self.entry.short_token(),
                "Added job to processing list"
            );
            if !self.entry.config.strict_check_interval {
                self.ask();
            }
        }
    }

    fn job_ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!("a job's task ended badly: {error}");
                error.id()
            }
        };
        if let Some(numbers) = self.numbers_of.remove(&id)
            && matches!(self.entry.settings.working_copies, WorkingCopies::Reused)
        {
            self.numbers.give_back(numbers);
        }
        tracing::info!(
            builds = self.jobs.len(),
            runner = self.entry.short_token(),
            "Removed job from processing list"
        );
        if !self.entry.config.strict_check_interval {
            self.ask();
        }
    }

    fn record_health(&mut self, healthy: bool) {
        let config = &self.entry.config;
        let now = Instant::now();
        if self
            .health
            .record(healthy, config.unhealthy_requests_limit, now)
        {
            tracing::error!(
                runner = self.entry.short_token(),
                unhealthy_requests = config.unhealthy_requests_limit,
                "Runner {} is unhealthy and will be disabled for {} seconds",
                config.name,
                config.unhealthy_interval.as_secs(),
            );
        }
    }
}

/// Waits for a place, then asks. `None`: the executor has no place now.
async fn request(entry: Arc<Entry>, slots: Slots) -> Option<Asked> {
    let ready = entry.ready.as_ref().ok()?;
    let slot = slots.take().await;
    let place = match ready.executor.acquire().await {
        Ok(place) => place,
        Err(none) => {
            tracing::debug!(runner = entry.short_token(), "{none}");
            return None;
        }
    };
    let outcome = ready.api.request_job(&ready.info).await;
    Some(Asked {
        slot,
        place,
        outcome,
        entry,
    })
}

fn is_adaptive(entry: &Entry) -> bool {
    let configured = entry.config.feature_flags.get(ADAPTIVE);
    configured.copied().unwrap_or(true)
}
