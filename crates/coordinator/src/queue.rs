//! The queue: one thread owns the store and every pipeline's state; others hand it closures.
//!
//! So nothing here is locked and nothing races: a request for a job, a final update and a cancel are
//! taken one after the other, each is one transaction, and an answer is given after it was stored.

mod handle;
mod jobs;
mod runners;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use courser_protocol::Secret;

use crate::cache_keys::CacheKeys;
use crate::events::{CoordinatorEvent, JobEnd};
use crate::payload::{JobTemplate, ServerFacts, plans};
use crate::pipeline_run::{Change, Event, JobState, PipelineRun, PipelineStatus, Position};
use crate::project::Project;
use crate::settings::{Clock, NewPipeline};
use crate::store::{
    ArtifactRecord, JobRecord, NextIds, PipelineContext, PipelineRecord, RunFacts, RunnerRecord,
    StateDir, Store, StoreError,
};
use crate::token;

pub(crate) use handle::{QueueHandle, Stopped};
pub(crate) use jobs::{Access, AccessError, FinalReport, UpdateAnswer};
pub(crate) use runners::{NewRunner, RequestError};

/// How long a runner may take to acknowledge a job (`runner-protocol.md` 10).
pub(crate) const ACKNOWLEDGE_WITHIN_MS: i64 = 120_000;
/// How long a running job may be silent: runners send a keep-alive, and GitLab waits as long.
pub(crate) const SILENT_FOR_MS: i64 = 60 * 60 * 1000;

/// State of the queue.
pub(crate) struct Queue {
    store: Store,
    files: StateDir,
    clock: Clock,
    server: ServerFacts,
    projects: HashMap<i64, Project>,
    /// By digest of the token.
    runners: HashMap<[u8; 32], RunnerRecord>,
    pipelines: HashMap<i64, LivePipeline>,
    /// Newest attempts and old ones: job id to its place.
    places: HashMap<i64, Place>,
    artifacts: HashMap<i64, Vec<ArtifactRecord>>,
    dotenvs: HashMap<i64, Vec<(String, String)>>,
    next: NextIds,
    /// `X-GitLab-Last-Update`: changes whenever a job becomes pending.
    version: watch::Sender<u64>,
    events: broadcast::Sender<CoordinatorEvent>,
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
        } = parts;
        let mut artifacts: HashMap<i64, Vec<ArtifactRecord>> = HashMap::new();
        for artifact in store.artifacts()? {
            artifacts.entry(artifact.job_id).or_default().push(artifact);
        }
        let runners = store
            .runners()?
            .into_iter()
            .map(|(runner, digest)| (digest, runner));
        let mut queue = Self {
            runners: runners.collect(),
            dotenvs: store.dotenvs()?.into_iter().collect(),
            next: store.next_ids()?,
            projects: HashMap::new(),
            pipelines: HashMap::new(),
            places: HashMap::new(),
            artifacts,
            store,
            files,
            clock,
            server,
            version,
            events,
        };
        let now = queue.now().as_millisecond();
        for mut pipeline in queue.store.pipelines()? {
            for job in &mut pipeline.jobs {
                // A runner that reported to the former process gets the whole time again.
                job.run.touched_at = now;
            }
            queue.adopt(pipeline);
        }
        Ok(queue)
    }

    fn adopt(&mut self, pipeline: PipelineRecord) -> i64 {
        let PipelineRecord { id, context, jobs } = pipeline;
        for job in &jobs {
            self.places.insert(job.id, Place::of(id, job));
        }
        let run = PipelineRun::restore(
            jobs.iter()
                .map(|job| (job.plan.clone(), job.state, job.attempt, job.soft_cancel)),
        );
        let live = LivePipeline {
            finished: run.status().is_settled(),
            context,
            run,
            jobs,
        };
        self.pipelines.insert(id, live);
        id
    }

    pub(crate) fn add_project(&mut self, project: Project) {
        self.projects.insert(project.id, project);
    }

    pub(crate) fn project(&self, id: i64) -> Option<&Project> {
        self.projects.get(&id)
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Creates a pipeline: ids and tokens for all jobs, stored before anything runs.
    pub(crate) fn create_pipeline(
        &mut self,
        new: NewPipeline,
        cache_keys: &CacheKeys,
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
        let (kind, name) = (if new.tag { "tags" } else { "heads" }, &new.ref_name);
        let repository = &project.repository;
        repository.set_ref(&format!("refs/{kind}/{name}"), &new.sha)?;
        repository.set_ref(&format!("refs/pipelines/{id}"), &new.sha)?;
        let context = PipelineContext {
            project_id: new.project_id,
            ref_name: new.ref_name,
            tag: new.tag,
            sha: new.sha,
            before_sha: new.before_sha,
            predefined: new.predefined.into_iter().collect(),
            variables: new.variables,
        };
        let protected = context.is_protected();
        let plans = plans(&new.pipeline);
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
        let record = PipelineRecord {
            id,
            context,
            jobs: records.collect(),
        };
        self.store.insert_pipeline(&record)?;
        self.next.pipeline += 1;
        self.next.job += record.jobs.len() as i64;
        self.adopt(record);
        if let Some(live) = self.pipelines.get_mut(&id) {
            live.finished = false;
        }
        tracing::debug!(pipeline = id, at = %now, "pipeline created");
        self.apply(id, Event::Begin)?;
        Ok(id)
    }

    /// Feeds a pipeline and carries out what changed: store first, then tell.
    pub(crate) fn apply(&mut self, pipeline: i64, event: Event) -> Result<(), StoreError> {
        let now = self.now();
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return Ok(());
        };
        let changes = live.run.on(event, now.as_second());
        if !changes.is_empty() {
            self.carry_out(pipeline, &changes, now)?;
        }
        self.tell_when_settled(pipeline);
        Ok(())
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
        let mut touched: Vec<JobRecord> = Vec::with_capacity(changes.len());
        let mut news = Vec::with_capacity(changes.len());
        let mut wakes = false;
        for change in changes {
            let soft_cancel = live.run.soft_cancel(change.job);
            let record = &mut live.jobs[change.job];
            record.soft_cancel = soft_cancel;
            if change.retried {
                record.state = JobState::Failed { allowed: true };
                record.run.finished_at = now.as_millisecond();
                touched.push(record.clone());
                news.push(finished(pipeline, record, true));
                record.id = self.next.job;
                self.next.job += 1;
                record.attempt += 1;
                record.token = token::random("glcbt-");
                record.run = RunFacts::default();
                self.places.insert(record.id, Place::of(pipeline, record));
            }
            record.state = change.to;
            match change.to {
                JobState::Pending => {
                    record.run.queued_at = now.as_millisecond();
                    wakes = true;
                }
                JobState::Reserved => record.run.reserved_at = now.as_millisecond(),
                JobState::Running => {
                    record.run.started_at = now.as_millisecond();
                    record.run.touched_at = now.as_millisecond();
                    news.push(CoordinatorEvent::JobStarted {
                        pipeline,
                        job: record.id,
                        position: change.job,
                        attempt: record.attempt,
                        log: self.files.trace(record.id),
                    });
                }
                state if state.is_over() => {
                    record.run.finished_at = now.as_millisecond();
                    news.push(finished(pipeline, record, false));
                }
                _ => {}
            }
            touched.push(record.clone());
        }
        self.store.write_jobs(pipeline, touched.iter())?;
        for event in news {
            // Nobody listening is fine.
            drop(self.events.send(event));
        }
        if wakes {
            self.version.send_modify(|version| *version += 1);
        }
        Ok(())
    }

    fn tell_when_settled(&mut self, pipeline: i64) {
        let Some(live) = self.pipelines.get_mut(&pipeline) else {
            return;
        };
        let status = live.run.status();
        if status.is_settled() && !live.finished {
            drop(
                self.events
                    .send(CoordinatorEvent::PipelineFinished { pipeline, status }),
            );
        }
        live.finished = status.is_settled();
    }

    /// Delayed jobs that are due, reservations and running jobs whose runner is gone. Returns the
    /// seconds until it should be called again.
    pub(crate) fn tick(&mut self) -> Result<u64, StoreError> {
        let now = self.now();
        let mut due = Vec::new();
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
                        if silent(job.run.touched_at, SILENT_FOR_MS) =>
                    {
                        due.push((*id, jobs::lost(job.position)));
                    }
                    _ => {}
                }
            }
        }
        for (pipeline, event) in due {
            self.apply(pipeline, event)?;
        }
        Ok(wait)
    }

    /// What is known about a pipeline now.
    pub(crate) fn snapshot(&self, pipeline: i64) -> Option<PipelineSnapshot> {
        let live = self.pipelines.get(&pipeline)?;
        let jobs = live.jobs.iter().map(|job| JobSnapshot {
            id: job.id,
            name: job.plan.name.clone(),
            stage: job.template.payload.job_info.stage.clone(),
            state: job.state,
            attempt: job.attempt,
            end: job_end(job, false),
            trace: self.files.trace(job.id),
            artifacts: self
                .artifacts
                .get(&job.id)
                .into_iter()
                .flatten()
                .map(|artifact| {
                    (
                        artifact.file_name.clone(),
                        self.files.artifact(&artifact.stored_as),
                    )
                })
                .collect(),
        });
        Some(PipelineSnapshot {
            status: live.run.status(),
            jobs: jobs.collect(),
        })
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
        ran: from > 0,
    }
}

/// A pipeline at one moment.
#[derive(Debug, Clone)]
pub struct PipelineSnapshot {
    /// The whole.
    pub status: PipelineStatus,
    /// Newest attempts in pipeline order.
    pub jobs: Vec<JobSnapshot>,
}

/// A job at one moment.
#[derive(Debug, Clone)]
pub struct JobSnapshot {
    /// Job id of the newest attempt.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Stage.
    pub stage: String,
    /// Where it is.
    pub state: JobState,
    /// From 0.
    pub attempt: u32,
    /// How it ended, once it has.
    pub end: JobEnd,
    /// Its full log.
    pub trace: std::path::PathBuf,
    /// Uploaded files: name told by the runner, where it lies.
    pub artifacts: Vec<(String, std::path::PathBuf)>,
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
