//! What is known of a pipeline at one moment.

use std::path::PathBuf;

use super::Queue;
use super::changes::job_end;
use crate::events::JobEnd;
use crate::pipeline_run::{JobState, PipelineStatus};
use crate::results::JobResults;
use crate::settings::JobArtifact;
use crate::store::StoreError;

impl Queue {
    /// What is known about a pipeline now.
    pub(crate) fn snapshot(
        &mut self,
        pipeline: i64,
    ) -> Result<Option<PipelineSnapshot>, StoreError> {
        self.bring_back(pipeline)?;
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(None);
        };
        let jobs = live.jobs.iter().map(|job| JobSnapshot {
            id: job.id,
            name: job.plan.name.clone(),
            stage: job.template.payload.job_info.stage.clone(),
            state: job.state,
            attempt: job.attempt,
            end: job_end(job, false),
            downstream: job.run.downstream,
            results: job.run.results.clone(),
            trace: self.files.trace(job.id),
            artifacts: self
                .artifacts
                .get(&job.id)
                .into_iter()
                .flatten()
                .map(|artifact| JobArtifact {
                    kind: artifact.kind.clone(),
                    format: artifact.format.clone(),
                    file_name: artifact.file_name.clone(),
                    path: self.files.artifact(&artifact.stored_as),
                })
                .collect(),
        });
        Ok(Some(PipelineSnapshot {
            project: live.context.project_id,
            status: live.run.status(),
            jobs: jobs.collect(),
        }))
    }
}

/// A pipeline at one moment.
#[derive(Debug, Clone)]
pub struct PipelineSnapshot {
    /// Its project's number.
    pub project: i64,
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
    /// What it left behind beside log and artifacts.
    pub results: JobResults,
    /// The pipeline that it started.
    pub downstream: Option<i64>,
    /// Its full log.
    pub trace: PathBuf,
    /// Uploaded files.
    pub artifacts: Vec<JobArtifact>,
}
