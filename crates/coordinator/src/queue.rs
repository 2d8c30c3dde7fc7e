//! The queue: one thread owns the store and every pipeline's state; others hand it closures.
//!
//! So nothing here is locked and nothing races: a request for a job, a final update and a cancel are
//! taken one after the other, each is one transaction, and an answer is given after it was stored.

mod bridges;
mod elsewhere;
mod handle;
mod jobs;
mod resources;
mod runners;
mod snapshot;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};

use courser_protocol::Secret;

use crate::bridge::Upstream;
use crate::cache_keys::CacheKeys;
use crate::events::{CoordinatorEvent, JobEnd};
use crate::payload::{JobTemplate, ServerFacts, full_ref, plans};
use crate::pipeline_run::{Change, Event, JobState, PipelineRun, Position};
use crate::project::Project;
use crate::settings::{Clock, NewPipeline};
use crate::store::{
    ArtifactRecord, AutoCancel, JobRecord, NextIds, PipelineContext, PipelineRecord, RunFacts,
    RunnerRecord, StateDir, Store, StoreError,
};
use crate::token;

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
        }
        for id in unsettled {
            queue.take_up(id)?;
        }
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
                JobState::Running if job.plan.bridge => downstream.extend(job.run.downstream),
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

    /// Takes a stored pipeline into memory, with what its jobs uploaded.
    fn adopt(&mut self, pipeline: PipelineRecord) -> Result<(), StoreError> {
        for job in &pipeline.jobs {
            let artifacts = self.store.artifacts(job.id)?;
            if !artifacts.is_empty() {
                self.artifacts.insert(job.id, artifacts);
            }
            if let Some(variables) = self.store.dotenv(job.id)? {
                self.dotenvs.insert(job.id, variables);
            }
        }
        self.take_in(pipeline);
        Ok(())
    }

    fn take_in(&mut self, pipeline: PipelineRecord) {
        let PipelineRecord { id, context, jobs } = pipeline;
        for job in &jobs {
            self.places.insert(job.id, Place::of(id, job));
        }
        let run = PipelineRun::restore(
            jobs.iter()
                .map(|job| (job.plan.clone(), job.state, job.attempt, job.soft_cancel)),
        )
        .cancelling_on_failure(context.auto_cancel.on_job_failure);
        let live = LivePipeline {
            finished: run.status().is_settled(),
            context,
            run,
            jobs,
        };
        self.pipelines.insert(id, live);
    }

    pub(crate) fn add_project(&mut self, project: Project) {
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

    /// Creates a pipeline, and cancels older ones of its ref as they ask for.
    pub(crate) fn create_pipeline(
        &mut self,
        new: NewPipeline,
        cache_keys: &CacheKeys,
    ) -> Result<i64, CreateError> {
        let id = self.create(new, cache_keys, None)?;
        self.supersede(id)?;
        Ok(id)
    }

    /// Ids and tokens for all jobs, stored before anything runs.
    fn create(
        &mut self,
        new: NewPipeline,
        cache_keys: &CacheKeys,
        upstream: Option<Upstream>,
    ) -> Result<i64, CreateError> {
        let project = self
            .projects
            .get(&new.project_id)
            .ok_or(CreateError::UnknownProject(new.project_id))?;
        if new.pipeline.jobs.is_empty() {
            return Err(CreateError::NoJobs);
        }
        let now = self.now();
        let id = self.next.pipeline;
        let upstream_job = upstream.as_ref().map(|upstream| upstream.job);
        let repository = &project.repository;
        repository.set_ref(&full_ref(&new.ref_name, new.tag), &new.sha)?;
        repository.set_ref(&format!("refs/pipelines/{id}"), &new.sha)?;
        let mut predefined = new.predefined;
        predefined.insert("CI_PIPELINE_CREATED_AT".to_owned(), format!("{now:.0}"));
        if let Some(name) = &new.pipeline.workflow.name {
            predefined.insert("CI_PIPELINE_NAME".to_owned(), name.clone());
        }
        let context = PipelineContext {
            project_id: new.project_id,
            ref_name: new.ref_name,
            tag: new.tag,
            sha: new.sha,
            before_sha: new.before_sha,
            predefined: predefined.into_iter().collect(),
            variables: new.variables,
            auto_cancel: AutoCancel::of(&new.pipeline.workflow),
            upstream,
        };
        let protected = context.is_protected();
        let plans = plans(&new.pipeline, &new.beforehand.played);
        let (stages, jobs) = (&new.pipeline.stages, &new.pipeline.jobs);
        let records = jobs
            .iter()
            .zip(&plans)
            .enumerate()
            .map(|(position, (job, plan))| {
                let cache_key = |index: usize, cache: &courser_pipeline::JobCache| {
                    cache_keys.text(index, &cache.key)
                };
                JobRecord {
                    id: self.next.job + position as i64,
                    position,
                    attempt: 0,
                    token: token::random("glcbt-"),
                    state: JobState::Created,
                    soft_cancel: false,
                    run: RunFacts::default(),
                    plan: plan.clone(),
                    template: JobTemplate::new(job, stages, jobs, protected, cache_key),
                }
            });
        let mut record = PipelineRecord {
            id,
            context,
            jobs: records.collect(),
        };
        for passed in &new.beforehand.passed {
            if let Some(job) = record.jobs.get_mut(passed.position) {
                job.state = JobState::Success;
            }
        }
        self.name_resource_groups(&mut record);
        let root = record.context.upstream.as_ref();
        let root = root.map(|upstream| self.store.root_of(upstream.pipeline));
        self.store.insert_pipeline(&record, root.transpose()?)?;
        for passed in new.beforehand.passed {
            if let Some(job) = record.jobs.get(passed.position) {
                self.take_over(job.id, passed.artifacts)?;
            }
        }
        self.next.pipeline += 1;
        self.next.job += record.jobs.len() as i64;
        self.take_in(record);
        if let Some(live) = self.pipelines.get_mut(&id) {
            live.finished = false;
        }
        tracing::debug!(pipeline = id, "pipeline created");
        self.tell(CoordinatorEvent::PipelineCreated {
            pipeline: id,
            upstream: upstream_job,
        });
        self.apply(id, Event::Begin)?;
        Ok(id)
    }

    /// Feeds a pipeline and carries out what changed: store first, then tell.
    pub(crate) fn apply(&mut self, pipeline: i64, event: Event) -> Result<(), StoreError> {
        self.bring_back(pipeline)?;
        let now = self.now();
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let changes = live.run.on(event, now.as_second());
        if !changes.is_empty()
            && let Err(error) = self.carry_out(pipeline, &changes, now)
        {
            // Nothing of it was stored, so nothing of it has happened.
            if let Some(live) = self.pipelines.get_mut(&pipeline) {
                live.run.undo(&changes);
            }
            return Err(error);
        }
        for change in &changes {
            self.follow_up(pipeline, change);
        }
        self.tell_when_settled(pipeline)
    }

    /// What a stored change has others do.
    fn follow_up(&self, pipeline: i64, change: &Change) {
        let Some(job) = (self.pipelines.get(&pipeline)).map(|live| &live.jobs[change.job]) else {
            return;
        };
        if change.to == JobState::Pending && job.plan.bridge {
            self.call_bridge(pipeline, change.job);
        }
        let holds = |state: JobState| state.is_at_runner() || state == JobState::Held;
        if holds(change.from) && !holds(change.to) {
            self.release_resource(pipeline, change.job);
        }
    }

    fn tell(&self, event: CoordinatorEvent) {
        // Nobody listening is fine.
        drop(self.events.send(event));
    }

    fn carry_out(
        &mut self,
        pipeline: i64,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let at = now.as_millisecond();
        // Copies, which take the records' places once they are stored.
        let mut changed: BTreeMap<Position, JobRecord> = BTreeMap::new();
        let mut left_behind = Vec::new();
        let mut news = Vec::with_capacity(changes.len());
        let mut wakes = false;
        let mut next_job = self.next.job;
        for change in changes {
            let record = changed
                .entry(change.job)
                .or_insert_with(|| live.jobs[change.job].clone());
            record.soft_cancel = live.run.soft_cancel(change.job);
            if change.retried {
                record.state = JobState::Failed { allowed: true };
                record.run.finished_at = at;
                news.push(finished(pipeline, record, true));
                left_behind.push(record.clone());
                record.id = next_job;
                next_job += 1;
                record.attempt += 1;
                record.token = token::random("glcbt-");
                record.run = RunFacts::default();
            }
            record.state = change.to;
            match change.to {
                JobState::Pending => {
                    if change.from == JobState::Reserved {
                        // Whoever was handed it comes too late.
                        record.token = token::random("glcbt-");
                    }
                    record.run.queued_at = at;
                    wakes = true;
                }
                JobState::Scheduled { at } => news.push(CoordinatorEvent::JobDelayed {
                    pipeline,
                    job: record.id,
                    position: change.job,
                    at,
                }),
                JobState::Reserved => record.run.reserved_at = at,
                JobState::Running if change.from == JobState::Held => {}
                JobState::Running if record.plan.bridge => record.run.started_at = at,
                JobState::Running => {
                    record.run.started_at = at;
                    record.run.touched_at = at;
                    news.push(CoordinatorEvent::JobStarted {
                        pipeline,
                        job: record.id,
                        position: change.job,
                        attempt: record.attempt,
                        log: self.files.trace(record.id),
                    });
                }
                state if state.is_over() => {
                    record.run.finished_at = at;
                    news.push(finished(pipeline, record, false));
                }
                _ => {}
            }
        }
        let records = left_behind.iter().chain(changed.values());
        self.store.write_jobs(pipeline, records)?;
        self.next.job = next_job;
        for (position, record) in changed {
            self.places.insert(record.id, Place::of(pipeline, &record));
            live.jobs[position] = record;
        }
        for event in news {
            self.tell(event);
        }
        if wakes {
            self.version.send_modify(|version| *version += 1);
        }
        Ok(())
    }

    fn tell_when_settled(&mut self, pipeline: i64) -> Result<(), StoreError> {
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let status = live.run.status();
        let was = std::mem::replace(&mut live.finished, status.is_settled());
        let ends = status.is_settled() && !was;
        if ends {
            self.tell(CoordinatorEvent::PipelineFinished { pipeline, status });
        }
        if status.is_settled() != was {
            self.tell_upstream(pipeline)?;
        }
        if ends {
            self.settled.push_back(pipeline);
            self.let_go();
        }
        Ok(())
    }

    /// Takes settled pipelines out of memory, all but the newest; the store has them.
    fn let_go(&mut self) {
        while self.settled.len() > SETTLED_IN_MEMORY {
            let Some(id) = self.settled.pop_front() else {
                return;
            };
            // One that was started again is in the list once more when it ends.
            if self.settled.contains(&id) || !self.pipelines.get(&id).is_some_and(|p| p.finished) {
                continue;
            }
            self.pipelines.remove(&id);
            let (artifacts, dotenvs) = (&mut self.artifacts, &mut self.dotenvs);
            self.places.retain(|job, place| {
                let stays = place.pipeline != id;
                if !stays {
                    artifacts.remove(job);
                    dotenvs.remove(job);
                }
                stays
            });
        }
    }

    /// Loads a settled pipeline that was let go: for a person who looks at it or starts a manual job.
    fn bring_back(&mut self, pipeline: i64) -> Result<(), StoreError> {
        if self.pipelines.contains_key(&pipeline) {
            return Ok(());
        }
        let Some(record) = self.store.pipeline(pipeline)? else {
            return Ok(());
        };
        self.adopt(record)?;
        self.settled.push_back(pipeline);
        self.let_go();
        Ok(())
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

fn finished(pipeline: i64, job: &JobRecord, retried: bool) -> CoordinatorEvent {
    CoordinatorEvent::JobFinished {
        pipeline,
        job: job.id,
        position: job.position,
        end: job_end(job, retried),
    }
}

fn job_end(job: &JobRecord, retried: bool) -> JobEnd {
    let (from, to) = (job.run.started_at, job.run.finished_at);
    JobEnd {
        state: job.state,
        milliseconds: if from > 0 && to > from {
            to.abs_diff(from)
        } else {
            0
        },
        failure_reason: job.run.failure_reason.clone(),
        exit_code: job.run.exit_code,
        retried,
        ran: from > 0 && !job.plan.bridge,
        message: job.run.message.clone(),
    }
}

/// Why a pipeline was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No such project.
    #[error("project {0} does not exist")]
    UnknownProject(i64),
    /// Nothing to run.
    #[error("the pipeline has no jobs")]
    NoJobs,
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator was stopped.
    #[error("the coordinator has stopped")]
    Stopped,
}

/// Shared by everything that needs it.
pub(crate) type SharedTrace = Arc<tokio::sync::Mutex<crate::store::TraceFile>>;

#[cfg(test)]
mod tests;
