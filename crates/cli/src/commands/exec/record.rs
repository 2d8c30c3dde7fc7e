//! What is remembered of a run when it is over: enough to run its failed jobs again, and to look at the
//! working copies that were kept. Values of variables are not remembered, only their names.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use courser_coordinator::{JobArtifact, JobSnapshot, JobState, PassedJob};
use courser_executor_docker::kept::KeptJob;
use courser_pipeline::PipelineJob;
use courser_protocol::JobVariable;
use serde::{Deserialize, Serialize};

use super::containers::ContainerOptions;
use super::runner::Left;
use super::selection::Selection;
use super::state::ProjectState;
use crate::event_options::EventOptions;
use crate::failure::{Code, Failure};
use crate::platform;

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// What the pipeline was for.
    pub(super) event: EventOptions,
    /// Which jobs were asked for.
    pub(super) selection: Selection,
    /// Names of the pipeline variables.
    pub(super) variables: BTreeSet<String>,
    /// Where jobs ran.
    #[serde(default)]
    pub(super) containers: ContainerOptions,
    /// In pipeline order.
    pub(super) jobs: Vec<RecordedJob>,
}

/// What became of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordedJob {
    pub(super) name: String,
    /// GitLab's word.
    pub(super) status: String,
    /// Whether it passed, or failed and was forgiven.
    pub(super) passed: bool,
    pub(super) artifacts: Vec<JobArtifact>,
    /// Where its working copy lies, if it was kept.
    pub(super) working_copy: Option<PathBuf>,
    /// What was kept of it in a Docker Engine.
    #[serde(default)]
    pub(super) kept: Option<KeptJob>,
}

impl RecordedJob {
    /// From a job that has ended.
    pub(super) fn new(job: &JobSnapshot, left: &Left) -> Self {
        Self {
            name: job.name.clone(),
            status: job.state.as_str().to_owned(),
            passed: matches!(
                job.state,
                JobState::Success | JobState::Failed { allowed: true }
            ),
            artifacts: job.artifacts.clone(),
            working_copy: left.copies.get(&job.id).cloned(),
            kept: left.kept.get(&job.id).cloned(),
        }
    }
}

impl Record {
    /// Writes it for the owner only.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = platform::new_private_file().open(path)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// The newest run of the project that `fits`.
    ///
    /// # Errors
    ///
    /// The state directory cannot be read. A record of another version of Courser does not count.
    pub(super) fn newest(
        state: &ProjectState,
        fits: impl Fn(&Self) -> bool,
    ) -> Result<Option<Self>, Failure> {
        let records = state
            .records()
            .map_err(|error| Failure::internal(format!("{}: {error}", state.root().display())))?;
        let mut records = records.iter().filter_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            serde_json::from_str(&text).ok()
        });
        Ok(records.find(|record| fits(record)))
    }

    /// The last run of the project, of which something is left to do.
    ///
    /// # Errors
    ///
    /// There is none, or all its jobs have passed.
    pub(super) fn to_retry(state: &ProjectState) -> Result<Self, Failure> {
        let last = Self::newest(state, |_| true)?.ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "--retry-failed: there is no earlier run of this project",
            )
            .hint("courser exec runs the pipeline; courser clean has removed what was kept")
        })?;
        if last
            .jobs
            .iter()
            .all(|job| job.passed || job.status == "manual")
        {
            return Err(Failure::new(
                Code::Usage,
                "--retry-failed: no job of the last run failed",
            ));
        }
        Ok(last)
    }

    /// Whether the job of that name passed.
    pub(super) fn has_passed(&self, name: &str) -> bool {
        self.jobs.iter().any(|job| job.name == name && job.passed)
    }

    /// Jobs of a new pipeline that passed in this run and need not run again.
    pub(super) fn passed(&self, jobs: &[PipelineJob]) -> Vec<PassedJob> {
        let passed = |(position, job): (usize, &PipelineJob)| {
            let before = self.jobs.iter().find(|before| before.name == job.name)?;
            before.passed.then(|| PassedJob {
                position,
                artifacts: before.artifacts.clone(),
            })
        };
        jobs.iter().enumerate().filter_map(passed).collect()
    }

    /// Names of variables that this run had and `given` lacks.
    pub(super) fn missing_variables(&self, given: &[JobVariable]) -> Vec<&str> {
        let has = |name: &&String| !given.iter().any(|variable| variable.key == **name);
        self.variables
            .iter()
            .filter(has)
            .map(String::as_str)
            .collect()
    }
}
