//! The stages of a job and what each one runs (`runner-build-lifecycle.md` 1.1).

use crate::HelperRequest;

/// A stage, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stage {
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
        todo!()
    }

    /// Header line printed at its start.
    pub fn title(&self, executor: &str) -> String {
        let _ = executor;
        todo!()
    }

    /// Whether it runs in the predefined (helper) environment.
    pub fn is_predefined(&self) -> bool {
        todo!()
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
#[derive(Debug, Clone)]
pub enum StageWork {
    /// A script for the job's shell on standard input: shell prefix, helper request in a
    /// here-document (`<helper> helper run <<'…'`), shell suffix. May hold tokens: never log it.
    Shell(String),
    /// Only helper requests, in order: there is nothing for a shell to do (no hooks, no profile that
    /// could matter). Run by the executor as the job's user.
    Helper(Vec<HelperRequest>),
}
