//! A new pipeline: ids and tokens for all its jobs, stored before anything runs.

use crate::bridge::Upstream;
use crate::cache_keys::CacheKeys;
use crate::events::CoordinatorEvent;
use crate::payload::{JobTemplate, full_ref, plans};
use crate::pipeline_run::{Event, JobState};
use crate::settings::NewPipeline;
use crate::store::{AutoCancel, JobRecord, PipelineContext, PipelineRecord, RunFacts, StoreError};
use crate::token;

use super::Queue;

impl Queue {
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
    pub(super) fn create(
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
            project_variables: new.project_variables,
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
