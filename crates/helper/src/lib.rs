//! What happens beside the checkout: Git sources, caches, artifacts, cleaning up.
//!
//! In: one [`HelperRequest`] and what `cli` captured of the process ([`HelperEnvironment`]). Out: lines
//! of a job log, files below the project directory, and success or a [`HelperError`] that has been
//! printed already. The work runs in a process of its own, with the job's user, umask and environment;
//! it may be killed at any time: the next start repairs what was left (module `sources`).
//!
//! ```
//! use courser_config::Environment;
//! use courser_helper::{HelperRequest, LightEnvironment, Prepare, run_light};
//!
//! let directory = tempfile::tempdir()?;
//! let request = HelperRequest::Prepare(Prepare {
//!     temporary_dir: directory.path().display().to_string(),
//!     via: "runner.example".into(),
//!     tools: None,
//!     git_server: None,
//! });
//! let environment = LightEnvironment {
//!     variables: Environment::default(),
//!     host_name: "build.example".into(),
//! };
//! let mut log = Vec::new();
//! run_light(&request, &environment, &mut log)?;
//! assert_eq!(log, b"Running on build.example via runner.example...\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod artifacts;
mod cache;
mod cleanup;
mod expansion;
mod git;
mod git_config;
mod git_fault;
mod leftovers;
#[cfg(not(windows))]
mod mounted_ca;
#[cfg(windows)]
#[path = "mounted_ca_windows.rs"]
mod mounted_ca;
mod output;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;
mod selection_log;
mod sources;
mod tool_trust;
mod transfer;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use courser_config::Environment;
use courser_job::messages;
use courser_net::{Legs, ProxySettings};

pub use courser_job::HelperRequest;
pub use courser_job::helper_request::{DownloadArtifacts, Prepare, Provenance, UploadArtifacts};
pub use mounted_ca::trust_mounted_ca;
pub use output::{Output, Programs};

/// What the helper may know of its process. Captured once by `cli`.
#[derive(Debug, Clone)]
pub struct HelperEnvironment {
    /// All variables: those of the job.
    pub variables: Environment,
    /// Proxies for GitLab.
    pub proxy: ProxySettings,
    /// What each connection is handed as trust.
    pub legs: Legs,
    /// Name of the machine the job runs on.
    pub host_name: String,
    /// `User-Agent` of uploads and downloads.
    pub user_agent: String,
    /// When this process started.
    pub started: Timestamp,
    /// Pause before the second try of a transfer. Upstream waits one second.
    pub retry_pause: Duration,
    /// Where temporary files go when `ARCHIVER_STAGING_DIR` is not set.
    pub temporary_directory: PathBuf,
}

/// What work within the caller may know of the caller's process.
#[derive(Debug, Clone)]
pub struct LightEnvironment {
    /// All variables.
    pub variables: Environment,
    /// Name of the machine the job runs on.
    pub host_name: String,
}

/// A command of upstream's helper, as scripts call it (`runner-cli.md` 8).
#[derive(Debug, Clone)]
pub enum TransferCommand {
    /// `artifacts-uploader`.
    UploadArtifacts(UploadArtifacts),
    /// `artifacts-downloader`.
    DownloadArtifacts(DownloadArtifacts),
    /// `cache-archiver`.
    ArchiveCache(ArchiveCache),
    /// `cache-extractor`.
    ExtractCache {
        /// The archive.
        file: PathBuf,
        /// Where it is extracted.
        project_dir: PathBuf,
    },
}

/// What `cache-archiver` is told.
#[derive(Debug, Clone)]
pub struct ArchiveCache {
    /// The archive to make.
    pub file: PathBuf,
    /// Renamed to `file` when that is missing.
    pub alternate_file: Option<PathBuf>,
    /// Where the files are.
    pub project_dir: PathBuf,
    /// Paths and globs.
    pub paths: Vec<String>,
    /// Globs to leave out.
    pub exclude: Vec<String>,
    /// Add what Git does not track.
    pub untracked: bool,
    /// Content of `metadata.json`: a JSON object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The log could not be written.
    #[error("writing the log: {0}")]
    Log(#[from] io::Error),
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// Git ended with an error; it has said why.
    #[error("git {command}: {status}")]
    Git {
        /// `fetch`, `checkout`, …
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said, where that was listened to.
        said: String,
    },
    /// A cache is missing or damaged; the log says which of the two.
    #[error("no usable cache")]
    NoCache,
    /// A request that makes no sense, for example a commit that is none.
    #[error("{0}")]
    Request(String),
    /// An archive could not be written or extracted.
    #[error(transparent)]
    Archive(#[from] courser_archive::ArchiveError),
    /// A transfer was given up: `permission denied`, `too large`, `file does not exist`, …
    #[error("{0}")]
    Transfer(String),
}

impl HelperError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Does the work of one request. On failure the last line of the log says why.
pub async fn run(
    request: &HelperRequest,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let result = match request {
        HelperRequest::GetSources(sources) => {
            let got = sources::get(sources, environment, output);
            if let Err(failure) = &got {
                git_fault::explain(sources, environment, failure, output).await?;
            }
            got
        }
        HelperRequest::ClearWorktree { project_dir } => {
            sources::clear(project_dir.as_ref(), output)
        }
        HelperRequest::RestoreCache(caches) => cache::restore(caches, environment, output),
        HelperRequest::ArchiveCache(caches) => cache::archive(caches, environment, output),
        HelperRequest::DownloadArtifacts(download) => {
            artifacts::download(download, environment, output).await
        }
        HelperRequest::UploadArtifacts(upload) => {
            artifacts::upload(upload, environment, output).await
        }
        HelperRequest::CleanUp(work) => cleanup::clean_up(work, &environment.variables, output),
        HelperRequest::GlobalGitConfig { temporary_dir } => {
            sources::write_global_config(temporary_dir, &environment.variables)
        }
        HelperRequest::AwaitPort(service) => {
            courser_net::await_port(&service.host, &service.ports).await;
            Ok(())
        }
        HelperRequest::RenewTrust(work) => tool_trust::exchange(work, &environment.variables),
        HelperRequest::Prepare(work) => {
            prepare(work, &environment.host_name, &environment.variables, output)
        }
    };
    last_line(result, output)
}

/// One command of upstream's helper: the work without the notices that a stage's script prints.
pub async fn run_command(
    command: &TransferCommand,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let result = match command {
        TransferCommand::UploadArtifacts(upload) => {
            artifacts::send(upload, environment, output).await
        }
        TransferCommand::DownloadArtifacts(download) => {
            artifacts::receive(download, environment, output).await
        }
        TransferCommand::ArchiveCache(cache) => cache::make(cache, environment, output),
        TransferCommand::ExtractCache { file, project_dir } => {
            cache::unpack(file, project_dir, output)
        }
    };
    last_line(result, output)
}

/// `prepare_script`.
fn prepare(
    work: &Prepare,
    host_name: &str,
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    cleanup::prepare(work.temporary_dir.as_ref(), host_name, &work.via, output)?;
    let wanted = tool_trust::Wanted::new(work.tools.as_deref(), work.git_server.as_ref());
    tool_trust::renew(&work.temporary_dir, wanted, variables, output)
}

/// On failure the log ends with the reason.
fn last_line(result: Result<(), HelperError>, output: &mut Output<'_>) -> Result<(), HelperError> {
    // Git says itself what is wrong; so does a cache that is not there.
    if let Err(error) = &result
        && !matches!(
            error,
            HelperError::Git { .. } | HelperError::Log(_) | HelperError::NoCache
        )
    {
        output.log(&messages::work_fatal(&error.to_string(), &[]))?;
    }
    result
}

/// Whether the work is so small that no process is worth it: a few file operations, no Git, no network.
pub fn is_light(request: &HelperRequest, environment: &LightEnvironment) -> bool {
    match request {
        HelperRequest::Prepare(_)
        | HelperRequest::RenewTrust(_)
        | HelperRequest::GlobalGitConfig { .. } => true,
        HelperRequest::GetSources(sources) => !sources.strategy.uses_git(),
        HelperRequest::CleanUp(work) => !cleanup::needs_git(work, &environment.variables),
        _ => false,
    }
}

/// Does the work of a request that [`is_light`] within the caller: no program is started, nothing is
/// waited for.
pub fn run_light(
    request: &HelperRequest,
    environment: &LightEnvironment,
    log: &mut (dyn Write + Send),
) -> Result<(), HelperError> {
    let mut nowhere = io::sink();
    let mut output = Output {
        out: log,
        err: &mut nowhere,
        programs: Programs::Capture,
    };
    match request {
        HelperRequest::Prepare(work) => prepare(
            work,
            &environment.host_name,
            &environment.variables,
            &mut output,
        ),
        HelperRequest::RenewTrust(work) => tool_trust::exchange(work, &environment.variables),
        HelperRequest::GlobalGitConfig { temporary_dir } => {
            sources::write_global_config(temporary_dir, &environment.variables)
        }
        HelperRequest::GetSources(sources) if is_light(request, environment) => {
            sources::without_git(sources, &mut output)
        }
        HelperRequest::CleanUp(work) if is_light(request, environment) => {
            cleanup::clean_up(work, &environment.variables, &mut output)
        }
        _ => Err(HelperError::Request(
            "this request needs a process of its own".to_owned(),
        )),
    }
}
