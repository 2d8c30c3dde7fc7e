//! `needs:pipeline` and `needs:project`: artifacts of jobs in other pipelines (`gitlab-ci-yaml.md` 14).

use super::Queue;
use crate::payload::{ForeignNeed, Source, variables as all_variables};
use crate::pipeline_run::{JobState, Position};
use crate::store::{ArtifactRecord, JobRecord, StoreError};
use crate::variables;

/// A job that was found, with what it left behind: its pipeline may leave memory while others are looked for.
#[derive(Clone)]
pub(super) struct Found {
    job: JobRecord,
    archive: Option<ArtifactRecord>,
    dotenv: Vec<(String, String)>,
}

impl Found {
    pub(super) fn source(&self) -> Source<'_> {
        Source {
            job: &self.job,
            archive: self.archive.as_ref(),
            dotenv: &self.dotenv,
        }
    }
}

impl Queue {
    /// The jobs of other pipelines whose artifacts a job is given; or why one is missing.
    pub(super) fn foreign_sources(
        &mut self,
        pipeline: i64,
        position: Position,
    ) -> Result<Result<Vec<Found>, String>, StoreError> {
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(Ok(Vec::new()));
        };
        let job = &live.jobs[position];
        let needs = job.template.elsewhere.clone();
        if needs.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let known = self.hand_out(pipeline, &live.context, job, None, &[]);
        let known = known.map(|known| all_variables(&known)).unwrap_or_default();
        let expand = |text: &str| variables::expand(text, &known);
        let mut found = Vec::new();
        for need in &needs {
            let place = match need {
                ForeignNeed::Pipeline { pipeline: id, job } => {
                    self.in_family(pipeline, &expand(id), &expand(job))?
                }
                ForeignNeed::Project {
                    project,
                    reference,
                    job,
                } => self.in_project(&expand(project), &expand(reference), &expand(job))?,
            };
            match place {
                Ok(place) => found.push(place),
                Err(missing) => return Ok(Err(missing)),
            }
        }
        Ok(Ok(found))
    }

    /// A job of a pipeline of the same tree.
    fn in_family(
        &mut self,
        own: i64,
        written: &str,
        job: &str,
    ) -> Result<Result<Found, String>, StoreError> {
        let unknown = || {
            let text = format!("needs:pipeline: {written:?} is no pipeline of the same family");
            Ok(Err(text))
        };
        let Ok(pipeline) = written.trim().parse::<i64>() else {
            return unknown();
        };
        self.bring_back(pipeline)?;
        let project = |id: i64| self.pipelines.get(&id).map(|live| live.context.project_id);
        if project(pipeline).is_none()
            || project(pipeline) != project(own)
            || self.store.root_of(pipeline)? != self.store.root_of(own)?
        {
            return unknown();
        }
        let place = self.ended_job(pipeline, job);
        Ok(place.ok_or_else(|| {
            format!("needs:pipeline: pipeline {pipeline} has no job `{job}` that has passed")
        }))
    }

    /// A job of the newest pipeline of another project that has it.
    fn in_project(
        &mut self,
        path: &str,
        reference: &str,
        job: &str,
    ) -> Result<Result<Found, String>, StoreError> {
        let project = self.projects.values().find(|project| project.path == path);
        let Some(id) = project.map(|project| project.id) else {
            return Ok(Err(format!(
                "needs:project: no project `{path}` is known here"
            )));
        };
        for pipeline in self.store.newest_pipelines()? {
            self.bring_back(pipeline)?;
            let fits = self.pipelines.get(&pipeline).is_some_and(|live| {
                live.context.project_id == id && live.context.ref_name == reference
            });
            if fits && let Some(place) = self.ended_job(pipeline, job) {
                return Ok(Ok(place));
            }
        }
        Ok(Err(format!(
            "needs:project: no pipeline of `{path}` for `{reference}` has run here with a job `{job}` that has passed"
        )))
    }

    fn ended_job(&self, pipeline: i64, name: &str) -> Option<Found> {
        let live = self.pipelines.get(&pipeline)?;
        let job = live
            .jobs
            .iter()
            .find(|job| job.plan.name == name && job.state == JobState::Success)?;
        Some(Found {
            archive: self.archive_of(job.id).cloned(),
            dotenv: self.dotenvs.get(&job.id).cloned().unwrap_or_default(),
            job: job.clone(),
        })
    }
}
