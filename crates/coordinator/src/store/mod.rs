//! What survives the process: runners, pipelines, jobs and artifact records in SQLite; logs and
//! artifacts as files beside it.
//!
//! One connection, used by the queue's thread only. Every method is one transaction. The database
//! and the files are readable by their owner only.

mod files;
mod statements;

use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use url::Url;

use courser_protocol::{JobVariable, Secret};

pub(crate) use files::{
    FileLock, StateDir, TraceAppend, TraceFile, private_dir, private_options, write_private,
};

use crate::bridge::Upstream;
use crate::payload::JobTemplate;
use crate::pipeline_run::{JobPlan, JobState, Position};
use crate::results::{Deployment, JobResults};
use crate::settings::Images;

/// How much a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What was acknowledged survives a crash of the process. A power failure spares artifacts, final
    /// states and the logs of jobs that have ended; of a running job it may cost the last moments of its
    /// log (`serve`).
    Durable,
    /// Nothing is forced to the disk: the state is of use to this run only (`exec`).
    Scratch,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite.
    #[error("state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A record that cannot be read back.
    #[error("state database: damaged record: {0}")]
    Record(#[from] serde_json::Error),
    /// Files.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A newer Courser wrote it.
    #[error(
        "state database has version {found}, this Courser knows {known}: use the newer one or another directory"
    )]
    TooNew {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
}

/// A registered runner. Its token is kept as a digest only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunnerRecord {
    pub(crate) id: i64,
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    pub(crate) run_untagged: bool,
    pub(crate) paused: bool,
    /// Seconds, 0 = none.
    pub(crate) maximum_timeout: i64,
    /// Takes jobs whatever their tags.
    pub(crate) any_tags: bool,
    /// Which of them.
    #[serde(default)]
    pub(crate) images: Images,
    /// Where its jobs reach the coordinator, when not at its ordinary URL.
    #[serde(default)]
    pub(crate) url: Option<Url>,
}

/// What all jobs of a pipeline share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PipelineContext {
    pub(crate) project_id: i64,
    pub(crate) ref_name: String,
    pub(crate) tag: bool,
    pub(crate) sha: String,
    pub(crate) before_sha: String,
    /// Predefined variables as the pipeline was evaluated with.
    pub(crate) predefined: Vec<(String, String)>,
    /// The project's own, below those: children get them, too.
    #[serde(default)]
    pub(crate) project_variables: Vec<JobVariable>,
    /// Level 11 of `gitlab-ci-yaml.md` 17.2.
    pub(crate) variables: Vec<JobVariable>,
    #[serde(default)]
    pub(crate) auto_cancel: AutoCancel,
    /// The bridge that started it.
    #[serde(default)]
    pub(crate) upstream: Option<Upstream>,
}

/// `workflow:auto_cancel`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AutoCancel {
    pub(crate) on_new_commit: OnNewCommit,
    /// The first failed job cancels the others.
    pub(crate) on_job_failure: bool,
}

/// `workflow:auto_cancel:on_new_commit`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnNewCommit {
    /// All, unless a job has begun that must not be interrupted.
    #[default]
    Conservative,
    /// Interruptible jobs.
    Interruptible,
    /// Nothing.
    None,
}

impl AutoCancel {
    pub(crate) fn of(workflow: &courser_pipeline::Workflow) -> Self {
        let text = |key: &str| workflow.auto_cancel.as_ref()?.get(key)?.as_str();
        Self {
            on_new_commit: match text("on_new_commit") {
                Some("interruptible") => OnNewCommit::Interruptible,
                Some("none") => OnNewCommit::None,
                _ => OnNewCommit::Conservative,
            },
            on_job_failure: text("on_job_failure") == Some("all"),
        }
    }
}

/// One job as it is stored: its newest attempt.
#[derive(Debug, Clone)]
pub(crate) struct JobRecord {
    pub(crate) id: i64,
    pub(crate) position: Position,
    pub(crate) attempt: u32,
    pub(crate) token: Secret,
    pub(crate) state: JobState,
    pub(crate) soft_cancel: bool,
    pub(crate) run: RunFacts,
    pub(crate) plan: JobPlan,
    pub(crate) template: JobTemplate,
}

/// What became known while the attempt ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunFacts {
    pub(crate) runner_id: Option<i64>,
    pub(crate) system_id: String,
    /// Unix milliseconds.
    pub(crate) queued_at: i64,
    pub(crate) reserved_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    /// Last sign of life of the runner.
    pub(crate) touched_at: i64,
    pub(crate) failure_reason: Option<String>,
    pub(crate) exit_code: Option<i64>,
    /// Whether the log was asked for once more because it did not match its checksum.
    pub(crate) trace_reset: bool,
    pub(crate) debug_trace: bool,
    /// Why it failed, where no log tells it.
    pub(crate) message: Option<String>,
    /// The pipeline that a bridge started.
    pub(crate) downstream: Option<i64>,
    pub(crate) results: JobResults,
}

/// A pipeline as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct PipelineRecord {
    pub(crate) id: i64,
    pub(crate) context: PipelineContext,
    pub(crate) jobs: Vec<JobRecord>,
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArtifactRecord {
    pub(crate) job_id: i64,
    /// `archive`, `junit`, `dotenv`, …
    pub(crate) kind: String,
    /// `zip`, `gzip`, `raw`, …
    pub(crate) format: String,
    /// As the runner named it.
    pub(crate) file_name: String,
    /// Name of the file beside the database.
    pub(crate) stored_as: String,
    pub(crate) size: u64,
    pub(crate) expire_in: String,
}

/// The database.
pub(crate) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens or creates the database at `path` and brings it to the newest version.
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        files::create_private(path)?;
        let connection = Connection::open(path)?;
        statements::configure(&connection, durability)?;
        statements::migrate(&connection)?;
        Ok(Self { connection })
    }

    pub(crate) fn insert_runner(
        &self,
        runner: &RunnerRecord,
        token_digest: &[u8; 32],
    ) -> Result<(), StoreError> {
        statements::insert_runner(&self.connection, runner, token_digest)
    }

    pub(crate) fn replace_runner_token(
        &self,
        id: i64,
        token_digest: &[u8; 32],
    ) -> Result<(), StoreError> {
        statements::replace_runner_token(&self.connection, id, token_digest)
    }

    pub(crate) fn delete_runner(&self, id: i64) -> Result<(), StoreError> {
        statements::delete_runner(&self.connection, id)
    }

    pub(crate) fn runners(&self) -> Result<Vec<(RunnerRecord, [u8; 32])>, StoreError> {
        statements::runners(&self.connection)
    }

    /// Ids that were never given to a runner, a pipeline or a job.
    pub(crate) fn next_ids(&self) -> Result<NextIds, StoreError> {
        statements::next_ids(&self.connection)
    }

    /// `root`: the first pipeline of its tree, where that is another one.
    pub(crate) fn insert_pipeline(
        &mut self,
        pipeline: &PipelineRecord,
        root: Option<i64>,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        statements::insert_pipeline(&transaction, pipeline, root)?;
        for job in &pipeline.jobs {
            statements::insert_definition(&transaction, pipeline.id, job)?;
            statements::insert_attempt(&transaction, pipeline.id, job)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Writes the given jobs' states, and new attempts, in one transaction.
    pub(crate) fn write_jobs<'a>(
        &mut self,
        pipeline_id: i64,
        jobs: impl Iterator<Item = &'a JobRecord>,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for job in jobs {
            statements::insert_attempt(&transaction, pipeline_id, job)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Pipelines in which something runs or will run by itself, oldest first.
    pub(crate) fn unsettled_pipelines(&self) -> Result<Vec<i64>, StoreError> {
        statements::unsettled_pipelines(&self.connection)
    }

    /// A pipeline with its jobs' newest attempts.
    pub(crate) fn pipeline(&self, id: i64) -> Result<Option<PipelineRecord>, StoreError> {
        statements::pipeline(&self.connection, id)
    }

    /// The newest pipelines, newest first: as many as anybody looks through.
    pub(crate) fn newest_pipelines(&self) -> Result<Vec<i64>, StoreError> {
        statements::newest_pipelines(&self.connection)
    }

    /// The first pipeline of the tree that this one belongs to.
    pub(crate) fn root_of(&self, pipeline: i64) -> Result<i64, StoreError> {
        statements::root_of(&self.connection, pipeline)
    }

    /// Pipelines of a tree beside its root.
    pub(crate) fn tree_size(&self, root: i64) -> Result<u64, StoreError> {
        statements::tree_size(&self.connection, root)
    }

    /// The pipeline that this bridge started.
    pub(crate) fn downstream_of(&self, job_id: i64) -> Result<Option<i64>, StoreError> {
        statements::downstream_of(&self.connection, job_id)
    }

    pub(crate) fn insert_artifact(&self, artifact: &ArtifactRecord) -> Result<(), StoreError> {
        statements::insert_artifact(&self.connection, artifact)
    }

    /// Pipeline and position of a job.
    pub(crate) fn place_of(&self, job_id: i64) -> Result<Option<(i64, Position)>, StoreError> {
        statements::place_of(&self.connection, job_id)
    }

    /// What jobs did to environments, oldest first, with project and pipeline.
    pub(crate) fn deployments(&self) -> Result<Vec<(i64, i64, Deployment)>, StoreError> {
        statements::deployments(&self.connection)
    }

    /// Uploads of a job, oldest first.
    pub(crate) fn artifacts(&self, job_id: i64) -> Result<Vec<ArtifactRecord>, StoreError> {
        statements::artifacts(&self.connection, job_id)
    }

    pub(crate) fn write_dotenv(
        &self,
        job_id: i64,
        variables: &[(String, String)],
    ) -> Result<(), StoreError> {
        statements::write_dotenv(&self.connection, job_id, variables)
    }

    /// Variables of a job's dotenv report.
    pub(crate) fn dotenv(&self, job_id: i64) -> Result<Option<Dotenv>, StoreError> {
        statements::dotenv(&self.connection, job_id)
    }
}

/// Name and value, in the report's order.
pub(crate) type Dotenv = Vec<(String, String)>;

/// See [`Store::next_ids`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextIds {
    pub(crate) runner: i64,
    pub(crate) pipeline: i64,
    pub(crate) job: i64,
}
