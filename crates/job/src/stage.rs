//! The stages of a job and what each one runs (`runner-build-lifecycle.md` 1.1).

use std::fmt;

use crate::HelperRequest;

/// A stage, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In the runner's process.
    ResolveSecrets,
    /// In the runner's process.
    PrepareExecutor,
    /// `Running on …`.
    PrepareScript,
    /// Clone or fetch.
    GetSources,
    /// Only before the second attempt of `GetSources`.
    ClearWorktree,
    /// Caches in.
    RestoreCache,
    /// Artifacts of other jobs in.
    DownloadArtifacts,
    /// A user step by its lower-cased name, for example `script`.
    Step(String),
    /// `after_script`.
    AfterScript,
    /// Caches out after success.
    ArchiveCache,
    /// Caches out after failure.
    ArchiveCacheOnFailure,
    /// Artifacts out after success.
    UploadArtifactsOnSuccess,
    /// Artifacts out after failure.
    UploadArtifactsOnFailure,
    /// File variables and leftovers away.
    CleanupFileVariables,
}

impl Stage {
    /// Section name, for example `step_script`.
    pub fn id(&self) -> String {
        let id = match self {
            Self::ResolveSecrets => "resolve_secrets",
            Self::PrepareExecutor => "prepare_executor",
            Self::PrepareScript => "prepare_script",
            Self::GetSources => "get_sources",
            Self::ClearWorktree => "clear_worktree",
            Self::RestoreCache => "restore_cache",
            Self::DownloadArtifacts => "download_artifacts",
            Self::Step(name) => return format!("step_{name}"),
            Self::AfterScript => "after_script",
            Self::ArchiveCache => "archive_cache",
            Self::ArchiveCacheOnFailure => "archive_cache_on_failure",
            Self::UploadArtifactsOnSuccess => "upload_artifacts_on_success",
            Self::UploadArtifactsOnFailure => "upload_artifacts_on_failure",
            Self::CleanupFileVariables => "cleanup_file_variables",
        };
        id.to_owned()
    }

    /// Header line printed at its start, without colour: [`crate::messages::stage_title`] adds it.
    pub fn title(&self, executor: &str) -> String {
        let title = match self {
            Self::ResolveSecrets => "Resolving secrets",
            Self::PrepareExecutor => return format!("Preparing the \"{executor}\" executor"),
            Self::PrepareScript => "Preparing environment",
            Self::GetSources => "Getting source from Git repository",
            Self::ClearWorktree => {
                "Deleting all tracked and untracked files due to source fetch failure"
            }
            Self::RestoreCache => "Restoring cache",
            Self::DownloadArtifacts => "Downloading artifacts",
            Self::Step(_) => return format!("Executing \"{}\" stage of the job script", self.id()),
            Self::AfterScript => "Running after_script",
            Self::ArchiveCache => "Saving cache for successful job",
            Self::ArchiveCacheOnFailure => "Saving cache for failed job",
            Self::UploadArtifactsOnSuccess => "Uploading artifacts for successful job",
            Self::UploadArtifactsOnFailure => "Uploading artifacts for failed job",
            Self::CleanupFileVariables => "Cleaning up project directory and file based variables",
        };
        title.to_owned()
    }

    /// Whether it runs in the predefined (helper) environment.
    pub fn is_predefined(&self) -> bool {
        !matches!(
            self,
            Self::PrepareExecutor | Self::Step(_) | Self::AfterScript
        )
    }
}

/// What a stage runs. A stage with nothing to do has none of these and leaves no trace.
#[derive(Debug, Clone)]
pub struct StageScript {
    /// Which one.
    pub stage: Stage,
    /// The work.
    pub work: StageWork,
}

/// How it is run.
#[derive(Clone)]
pub enum StageWork {
    /// A script for the job's shell on standard input: shell prefix, helper request in a
    /// here-document (`<helper> helper run <<'…'`), shell suffix. May hold tokens: never log it.
    Shell(String),
    /// Only helper requests, in order: there is nothing for a shell to do (no hooks, no profile that
    /// could matter). Run by the executor as the job's user.
    Helper(Vec<HelperRequest>),
}

impl fmt::Debug for StageWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(script) => write!(f, "Shell([{} bytes])", script.len()),
            Self::Helper(requests) => f.debug_tuple("Helper").field(requests).finish(),
        }
    }
}
