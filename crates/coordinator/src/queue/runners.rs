//! Runners: registration, tokens, the hunt for a job.

use courser_protocol::{Features, JobResponse, JobVariable, Secret};
use url::Url;

use super::Queue;
use super::elsewhere::Found;
use crate::payload::{HandOut, JobTemplate, Source, Undeliverable, hand_out, variables};
use crate::pipeline_run::{Event, JobState, Position};
use crate::settings::Images;
use crate::store::{JobRecord, PipelineContext, RunnerRecord, StoreError};
use crate::token;

/// What a runner said of itself when it registered.
pub(crate) struct NewRunner {
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    pub(crate) run_untagged: bool,
    pub(crate) paused: bool,
    pub(crate) maximum_timeout: i64,
    /// Takes jobs whatever their tags: runners of `courser exec`.
    pub(crate) any_tags: bool,
    /// Which of them.
    pub(crate) images: Images,
    /// Where its jobs reach the coordinator, when not at its ordinary URL.
    pub(crate) url: Option<Url>,
}

impl Queue {
    /// Registers a runner and returns its number and token.
    pub(crate) fn register(&mut self, new: NewRunner) -> Result<(i64, Secret), StoreError> {
        let token = token::random("glrt-");
        let runner = RunnerRecord {
            id: self.next.runner,
            description: new.description,
            run_untagged: new.run_untagged || new.tags.is_empty(),
            tags: new.tags,
            paused: new.paused,
            maximum_timeout: new.maximum_timeout,
            any_tags: new.any_tags,
            images: new.images,
            url: new.url,
        };
        let digest = token::digest(token.expose());
        self.store.insert_runner(&runner, &digest)?;
        self.next.runner += 1;
        let id = runner.id;
        self.runners.insert(digest, runner);
        Ok((id, token))
    }

    /// The runner with this token. Looked up by digest: the time tells nothing about the token.
    pub(crate) fn runner(&self, token: &str) -> Option<&RunnerRecord> {
        self.runners.get(&token::digest(token))
    }

    /// Forgets the runner. `false`: no such token.
    pub(crate) fn unregister(&mut self, token: &str) -> Result<bool, StoreError> {
        let digest = token::digest(token);
        let Some(runner) = self.runners.get(&digest) else {
            return Ok(false);
        };
        self.store.delete_runner(runner.id)?;
        self.runners.remove(&digest);
        Ok(true)
    }

    /// A new token for the runner with this one.
    pub(crate) fn reset_token(&mut self, token: &str) -> Result<Option<Secret>, StoreError> {
        self.replace_token(token::digest(token))
    }

    fn replace_token(&mut self, old: [u8; 32]) -> Result<Option<Secret>, StoreError> {
        let Some(runner) = self.runners.get(&old) else {
            return Ok(None);
        };
        let fresh = token::random("glrt-");
        let digest = token::digest(fresh.expose());
        self.store.replace_runner_token(runner.id, &digest)?;
        if let Some(runner) = self.runners.remove(&old) {
            self.runners.insert(digest, runner);
        }
        Ok(Some(fresh))
    }

    /// A new token for the runner with this number.
    pub(crate) fn reset_token_of(&mut self, id: i64) -> Result<Option<Secret>, StoreError> {
        let found = self.runners.iter().find(|(_, runner)| runner.id == id);
        match found.map(|(digest, _)| *digest) {
            Some(digest) => self.replace_token(digest),
            None => Ok(None),
        }
    }

    /// The first job this runner may run, reserved for it, or started at once for a runner without
    /// two-phase commit.
    pub(crate) fn request_job(
        &mut self,
        token: &str,
        system_id: &str,
        features: Features,
    ) -> Result<Option<JobResponse>, RequestError> {
        let runner = self.runner(token).ok_or(RequestError::Forbidden)?.clone();
        if runner.paused {
            return Ok(None);
        }
        let (pipeline, position, payload) = loop {
            let Some((pipeline, position)) = self.next_job_for(&runner) else {
                return Ok(None);
            };
            let foreign = match self.foreign_sources(pipeline, position)? {
                Ok(foreign) => foreign,
                Err(missing) => {
                    self.drop_job(pipeline, position, "missing_dependency_failure", missing)?;
                    continue;
                }
            };
            match self.payload(pipeline, position, &runner, &features, &foreign) {
                Ok(payload) => break (pipeline, position, payload),
                Err(Undeliverable { reason, message }) => {
                    self.drop_job(pipeline, position, reason, message)?;
                }
            }
        };
        if let Some(live) = self.pipelines.get_mut(&pipeline) {
            let run = &mut live.jobs[position].run;
            run.runner_id = Some(runner.id);
            run.system_id = system_id.to_owned();
        }
        self.apply(
            pipeline,
            Event::Reserve {
                job: position,
                soft_cancel: features.cancel_gracefully,
            },
        )?;
        if !features.two_phase_job_commit {
            self.apply(pipeline, Event::Start(position))?;
        }
        Ok(payload)
    }

    /// Oldest pipeline first, then pipeline order.
    fn next_job_for(&self, runner: &RunnerRecord) -> Option<(i64, Position)> {
        let mut open: Vec<_> = self
            .pipelines
            .iter()
            .filter(|(_, live)| !live.finished)
            .collect();
        open.sort_unstable_by_key(|(id, _)| **id);
        open.into_iter().find_map(|(id, live)| {
            let fits = |job: &&JobRecord| {
                job.state == JobState::Pending
                    && !job.plan.bridge
                    && runner.takes(&job.template)
                    && !self.waits_for_resource(*id, job)
            };
            live.jobs.iter().find(fits).map(|job| (*id, job.position))
        })
    }

    /// What the runner will be handed; nothing of it depends on the reservation. `None`: the project is not known
    /// any more.
    fn payload(
        &self,
        pipeline: i64,
        position: Position,
        runner: &RunnerRecord,
        features: &Features,
        foreign: &[Found],
    ) -> Result<Option<JobResponse>, Undeliverable> {
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(None);
        };
        let job = &live.jobs[position];
        let parts = self.hand_out(pipeline, &live.context, job, Some(runner), foreign);
        let payload = parts.map(hand_out).transpose()?;
        if !job.template.secrets.is_empty() && !features.vault_secrets {
            return Err(Undeliverable {
                reason: "runner_unsupported",
                message: format!(
                    "the job has secrets, and runner {} does not resolve any (feature vault_secrets)",
                    runner.id
                ),
            });
        }
        Ok(payload)
    }

    /// The variables of a job as far as they are known without a runner.
    pub(super) fn known_variables(&self, pipeline: i64, position: Position) -> Vec<JobVariable> {
        let known = self.pipelines.get(&pipeline).and_then(|live| {
            let job = live.jobs.get(position)?;
            Some(variables(&self.hand_out(
                pipeline,
                &live.context,
                job,
                None,
                &[],
            )?))
        });
        known.unwrap_or_default()
    }

    /// What a payload is made of; `foreign` are jobs of other pipelines whose artifacts it is given.
    pub(super) fn hand_out<'a>(
        &'a self,
        pipeline: i64,
        context: &'a PipelineContext,
        job: &'a JobRecord,
        runner: Option<&'a RunnerRecord>,
        foreign: &'a [Found],
    ) -> Option<HandOut<'a>> {
        let jobs = self
            .pipelines
            .get(&pipeline)
            .map_or(&[][..], |live| &live.jobs);
        let own = job.template.sources.iter();
        let own = own.filter_map(|source| jobs.get(*source));
        let own = own.map(|job| Source {
            job,
            archive: self.archive_of(job.id),
            dotenv: self.dotenvs.get(&job.id).map_or(&[], Vec::as_slice),
        });
        let sources = own.chain(foreign.iter().map(Found::source));
        Some(HandOut {
            server: &self.server,
            url: runner
                .and_then(|runner| runner.url.as_ref())
                .unwrap_or(&self.server.url),
            project: self.projects.get(&context.project_id)?,
            pipeline_id: pipeline,
            context,
            job,
            runner,
            sources: sources.collect(),
            now: self.now(),
            queue_size: jobs
                .iter()
                .filter(|other| other.state == JobState::Pending && other.position != job.position)
                .count(),
        })
    }
}

impl RunnerRecord {
    /// A runner needs every tag of the job; a job without tags needs `run_untagged`.
    fn takes(&self, job: &JobTemplate) -> bool {
        let has_image = !job.payload.image.name.is_empty();
        if !self.images.include(has_image) {
            return false;
        }
        let tags = &job.tags;
        if tags.is_empty() {
            return self.run_untagged;
        }
        self.any_tags || tags.iter().all(|tag| self.tags.contains(tag))
    }
}

/// Why a runner gets no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// Unknown token.
    #[error("403 Forbidden")]
    Forbidden,
    /// Not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}
