//! What the runner knows and a job needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use courser_protocol::Secret;
use serde::{Deserialize, Serialize};

use crate::ToolTrust;

/// Facts about runner and executor that shape a job. Everything is a value; nothing is looked up.
///
/// As JSON it lacks what the TLS connection gave, which is not to be kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunnerContext {
    /// `name` of the runner.
    pub name: String,
    /// Short token.
    pub short_token: String,
    /// System id.
    pub system_id: String,
    /// `19.4.x`, also `CI_RUNNER_VERSION`.
    pub version: String,
    /// Courser's revision, also `CI_RUNNER_REVISION`.
    pub revision: String,
    /// `linux/amd64`.
    pub executable_arch: String,
    /// `shell`, `docker`, …
    pub executor: String,
    /// `bash`, `sh`, `pwsh`.
    pub shell: String,
    /// `url` of the runner.
    pub url: String,
    /// `clone_url`, empty = none.
    pub clone_url: String,
    /// `environment` entries `KEY=VALUE`.
    pub environment: Vec<String>,
    /// `[runners.feature_flags]`.
    pub feature_flags: BTreeMap<String, bool>,
    /// `pre_get_sources_script`, `post_get_sources_script`, `pre_build_script`, `post_build_script`; empty = none.
    pub pre_get_sources_script: String,
    /// See above.
    pub post_get_sources_script: String,
    /// See above.
    pub pre_build_script: String,
    /// See above.
    pub post_build_script: String,
    /// Absolute directories as the executor has them.
    pub directories: DirectoryLayout,
    /// Whether `GIT_CLONE_PATH` is allowed.
    pub custom_build_dir_enabled: bool,
    /// `debug_trace_disabled`.
    pub debug_trace_disabled: bool,
    /// `clean_git_config`; `None` = `cleans_git_config`.
    pub clean_git_config: Option<bool>,
    /// The executor's default of `clean_git_config`; the shell executor's is false.
    pub cleans_git_config: bool,
    /// Git works in the job's checkout whoever owns it: `safe_directory_checkout`, or the executor's default.
    #[serde(default)]
    pub safe_directory: bool,
    /// Whether jobs share the machine user's environment (`CI_SHARED_ENVIRONMENT`); shell: true.
    pub shared: bool,
    /// Whether stages of a job run as different users, who share its files: then these are open to all of them, as there
    /// are no others in a job's containers.
    #[serde(default)]
    pub open_files: bool,
    /// Whether the executor itself sees to what the job's own tools trust; otherwise they are told by variables and files
    /// of the job.
    #[serde(default)]
    pub tools_trust_by_executor: bool,
    /// Whether of secrets only the whole value is masked, not their lines and encoded forms.
    #[serde(default)]
    pub masks_secrets_only_whole: bool,
    /// Lowest free number among the runner's jobs.
    pub concurrent_id: usize,
    /// The same among jobs of the project.
    pub concurrent_project_id: usize,
    /// Request id of the answer that brought the job.
    pub correlation_id: String,
    /// What the TLS connection gave for the job.
    #[serde(skip)]
    pub tls: JobTls,
    /// `prepare_timeout`; `None` or longer than the job = the job's timeout.
    pub prepare_timeout: Option<Duration>,
    /// `get_sources_timeout`; the same rule.
    pub get_sources_timeout: Option<Duration>,
    /// `[runners.artifact] upload_timeout`; upstream 1 h.
    pub artifact_upload_timeout: Duration,
    /// `[runners.artifact] response_header_timeout`; upstream 10 min.
    pub artifact_response_header_timeout: Duration,
    /// Host name of the machine that runs the runner, for `Running on … via …`; empty where the
    /// executor does not show it (shell, custom).
    pub hostname: String,
    /// Command of the helper in the job's environment, absolute (`/path/to/courser`).
    pub helper_command: String,
}

/// Where jobs of a runner live.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DirectoryLayout {
    /// `builds_dir`, absolute.
    pub builds: String,
    /// `cache_dir`, absolute.
    pub cache: String,
    /// Whether several jobs share `builds` (then `<builds>/<short token>/<id>/<path>`).
    pub shared_builds: bool,
}

/// Certificates for the job's own tools (`runner-tls.md` 4.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobTls {
    /// Content of `CI_SERVER_TLS_CA_FILE`; empty = absent.
    pub ca_chain: String,
    /// Content of `CI_SERVER_TLS_CERT_FILE` and `CI_SERVER_TLS_KEY_FILE`.
    pub client_pair: Option<(String, Secret)>,
    /// The runner trusts this server by `ca_chain` alone, without the machine's roots, and so does Git.
    pub ca_chain_only: bool,
    /// What programs of the job get that have a bundle of their own; `None` = nothing is done for them.
    pub tools: Option<Arc<ToolTrust>>,
}
