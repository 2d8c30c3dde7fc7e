//! The queue: one thread owns the store and every pipeline's state; others hand it closures.
//!
//! So nothing here is locked and nothing races: a request for a job, a final update and a cancel are
//! taken one after the other, each is one transaction, and an answer is given after it was stored.

mod bridges;
mod changes;
mod creation;
mod elsewhere;
mod environments;
mod handle;
mod jobs;
mod memory;
mod resources;
mod runners;
mod snapshot;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};

use courser_protocol::Secret;

use crate::events::CoordinatorEvent;
use crate::payload::ServerFacts;
use crate::pipeline_run::{Event, JobState, PipelineRun, Position};
use crate::project::Project;
use crate::settings::Clock;
use crate::store::{
    ArtifactRecord, JobRecord, NextIds, PipelineContext, RunnerRecord, StateDir, Store, StoreError,
};

pub use creation::CreateError;
use environments::Stops;
pub(crate) use handle::{QueueHandle, Stopped};
pub(crate) use jobs::{Access, AccessError, FinalReport, UpdateAnswer};
pub(crate) use runners::{NewRunner, RequestError};
pub use snapshot::{JobSnapshot, PipelineSnapshot};

/// How long a runner may take to acknowledge a job (`runner-protocol.md` 10).
pub(crate) const ACKNOWLEDGE_WITHIN_MS: i64 = 120_000;
/// How long a running job may be silent: runners send a keep-alive, and GitLab waits as long.
pub(crate) const SILENT_FOR_MS: i64 = 60 * 60 * 1000;
/// Settled pipelines that stay in memory; older ones are read from the store when somebody asks.
pub(crate) const SETTLED_IN_MEMORY: usize = 64;

/// State of the queue.
pub(crate) struct Queue {
    store: Store,
    files: StateDir,
    clock: Clock,
    server: ServerFacts,
    projects: HashMap<i64, Project>,
    /// By digest of the token.
    runners: HashMap<[u8; 32], RunnerRecord>,
    /// All that are not settled, and the newest of the others.
    pipelines: HashMap<i64, LivePipeline>,
    /// Settled pipelines in memory, oldest first.
    settled: VecDeque<i64>,
    /// Environments that stop by themselves.
    stops: Stops,
    /// Newest attempts and old ones: job id to its place.
    places: HashMap<i64, Place>,
    artifacts: HashMap<i64, Vec<ArtifactRecord>>,
    dotenvs: HashMap<i64, Vec<(String, String)>>,
    next: NextIds,
    /// `X-GitLab-Last-Update`: changes whenever a job becomes pending.
    version: watch::Sender<u64>,
    events: broadcast::Sender<CoordinatorEvent>,
    /// Bridges whose turn has come.
    bridges: mpsc::UnboundedSender<(i64, Position)>,
}

/// Where a job id belongs, and the token that opens it.
#[derive(Clone)]
struct Place {
    pipeline: i64,
    position: Position,
    attempt: u32,
    token: Secret,
}

struct LivePipeline {
    context: PipelineContext,
    run: PipelineRun,
    jobs: Vec<JobRecord>,
    finished: bool,
}

/// What a queue is made of.
pub(crate) struct QueueParts {
    pub(crate) store: Store,
    pub(crate) files: StateDir,
    pub(crate) clock: Clock,
    pub(crate) server: ServerFacts,
    pub(crate) version: watch::Sender<u64>,
    pub(crate) events: broadcast::Sender<CoordinatorEvent>,
    pub(crate) bridges: mpsc::UnboundedSender<(i64, Position)>,
}

impl Queue {
    /// Takes up where the store left off.
    pub(crate) fn load(parts: QueueParts) -> Result<Self, StoreError> {
        let QueueParts {
            store,
            files,
            clock,
            server,
            version,
            events,
            bridges,
        } = parts;
        let runners = store
            .runners()?
            .into_iter()
            .map(|(runner, digest)| (digest, runner));
        let mut queue = Self {
            runners: runners.collect(),
            dotenvs: HashMap::new(),
            next: store.next_ids()?,
            projects: HashMap::new(),
            pipelines: HashMap::new(),
            places: HashMap::new(),
            settled: VecDeque::new(),
            stops: Stops::default(),
            artifacts: HashMap::new(),
            store,
            files,
            clock,
            server,
            version,
            events,
            bridges,
        };
        let now = queue.now().as_millisecond();
        let unsettled = queue.store.unsettled_pipelines()?;
        for id in &unsettled {
            let Some(mut pipeline) = queue.store.pipeline(*id)? else {
                continue;
            };
            for job in &mut pipeline.jobs {
                // A runner that reported to the former process gets the whole time again.
                job.run.touched_at = now;
            }
            queue.adopt(pipeline)?;
            if queue.pipelines.get(id).is_some_and(|live| live.finished) {
                queue.settled.push_back(*id);
            }
        }
        for id in unsettled {
            queue.take_up(id)?;
        }
        queue.restore_stops()?;
        Ok(queue)
    }

    /// Goes on where the former process was interrupted in a pipeline.
    fn take_up(&mut self, pipeline: i64) -> Result<(), StoreError> {
        self.apply(pipeline, Event::Begin)?;
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(());
        };
        let (mut reserved, mut downstream) = (Vec::new(), Vec::new());
        for job in &live.jobs {
            match job.state {
                // The answer with the job may never have arrived; its token opens nothing from now on.
                JobState::Reserved => reserved.push(job.position),
                JobState::Pending if job.plan.bridge => {
                    self.call_bridge(pipeline, job.position);
                }
                JobState::Running | JobState::Held if job.plan.bridge => {
                    downstream.extend(job.run.downstream);
                }
                _ => {}
            }
        }
        for position in reserved {
            self.apply(pipeline, Event::Requeue(position))?;
        }
        for pipeline in downstream {
            self.bring_back(pipeline)?;
            self.tell_upstream(pipeline)?;
        }
        Ok(())
    }

    /// A project as it is now. Submodules only ever become more: of two pipelines that were evaluated one after
    /// the other, the later one may come here first.
    pub(crate) fn add_project(&mut self, project: Project) {
        let submodules = |project: &Project| project.repository.submodules().len();
        if let Some(known) = self.projects.get(&project.id)
            && known.repository.git_dir() == project.repository.git_dir()
            && submodules(known) > submodules(&project)
        {
            return;
        }
        self.projects.insert(project.id, project);
    }

    pub(crate) fn project(&self, id: i64) -> Option<&Project> {
        self.projects.get(&id)
    }

    /// Whether some project has this path.
    pub(crate) fn has_project(&self, path: &str) -> bool {
        self.projects.values().any(|project| project.path == path)
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Delayed jobs that are due, reservations and running jobs whose runner is gone. Returns the
    /// seconds until it should be called again.
    pub(crate) fn tick(&mut self) -> Result<u64, StoreError> {
        let now = self.now();
        let (mut due, mut lost) = (Vec::new(), Vec::new());
        let mut wait = 30;
        for (id, live) in &self.pipelines {
            if live.finished {
                continue;
            }
            if let Some(at) = live.run.next_wakeup() {
                let left = at.saturating_sub(now.as_second());
                if left <= 0 {
                    due.push((*id, Event::Clock));
                } else {
                    wait = wait.min(left.unsigned_abs());
                }
            }
            for job in &live.jobs {
                let silent = |since: i64, limit: i64| now.as_millisecond() - since > limit;
                match job.state {
                    JobState::Reserved if silent(job.run.reserved_at, ACKNOWLEDGE_WITHIN_MS) => {
                        due.push((*id, Event::Requeue(job.position)));
                    }
                    JobState::Running | JobState::Canceling
                        if !job.plan.bridge && silent(job.run.touched_at, SILENT_FOR_MS) =>
                    {
                        lost.push((*id, job.position));
                    }
                    _ => {}
                }
            }
        }
        for (pipeline, event) in due {
            self.apply(pipeline, event)?;
        }
        for (pipeline, position) in lost {
            self.lose(pipeline, position)?;
        }
        self.stop_environments()?;
        if let Some(at) = self.stops.next() {
            wait = wait.min(at.saturating_sub(now.as_second()).max(0).unsigned_abs());
        }
        Ok(wait)
    }
}

impl Place {
    fn of(pipeline: i64, job: &JobRecord) -> Self {
        Self {
            pipeline,
            position: job.position,
            attempt: job.attempt,
            token: job.token.clone(),
        }
    }
}

/// Shared by everything that needs it.
pub(crate) type SharedTrace = Arc<tokio::sync::Mutex<crate::store::TraceFile>>;

#[cfg(test)]
mod tests;
