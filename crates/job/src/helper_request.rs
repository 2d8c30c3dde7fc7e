//! The typed request to `courser helper`, which works beside the checkout.
//!
//! It reaches the helper as one JSON document on standard input; it holds tokens, so it is never an
//! argument or a file with a name. (bash may keep a here-document that is larger than a pipe's buffer in a
//! temporary file of mode 0600, which it unlinks before the helper starts.) The helper prints what `job::messages` says and answers by its exit status:
//! 0, or 1 after an `ERROR: …`/`FATAL: …` line. Git's own output passes through.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use courser_protocol::Secret;

use crate::{ToolTrust, cache};

/// One piece of predefined work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum HelperRequest {
    /// `get_sources`: everything between the hooks (lifecycle 2.2 to 2.7).
    GetSources(Box<GetSources>),
    /// `clear_worktree` (2.8).
    ClearWorktree {
        /// Project directory.
        project_dir: String,
    },
    /// `restore_cache` (5).
    RestoreCache(CacheRequest),
    /// `archive_cache` (5).
    ArchiveCache(CacheRequest),
    /// `download_artifacts`, one dependency (4.7).
    DownloadArtifacts(DownloadArtifacts),
    /// `upload_artifacts_on_*`, one entry (4.1 to 4.6).
    UploadArtifacts(UploadArtifacts),
    /// `cleanup_file_variables` (2.9).
    CleanUp(CleanUp),
    /// Git's global configuration of the job, before anything uses it (2.6, seed file).
    GlobalGitConfig {
        /// `<project dir>.tmp`.
        temporary_dir: String,
    },
    /// While a stage runs: files of trust that the job has already get what the runner trusts now.
    RenewTrust(RenewTrust),
    /// Waits until a service of the job answers; without end, so that whoever asks decides when it is too late.
    AwaitPort(AwaitPort),
    /// `prepare_script`: `Running on …`, leftovers of `GITLAB_ENV` away (2.9), trust for the job's tools.
    Prepare(Prepare),
}

/// [`HelperRequest::Prepare`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// `<project dir>.tmp`.
    pub temporary_dir: String,
    /// Name after `via`, empty = none.
    pub via: String,
    /// Written to [`ToolFiles`](crate::ToolFiles). One for all jobs of a generation: it is large.
    #[serde(default, with = "shared")]
    pub tools: Option<Arc<ToolTrust>>,
    /// The server of the sources, for the job's own calls of Git.
    #[serde(default)]
    pub git_server: Option<GitServer>,
}

/// [`HelperRequest::AwaitPort`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitPort {
    /// Name or address of the service.
    pub host: String,
    /// TCP ports, of which one is enough.
    pub ports: Vec<u16>,
}

/// [`HelperRequest::RenewTrust`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenewTrust {
    /// `<project dir>.tmp`.
    pub temporary_dir: String,
    /// Names and contents of file variables there.
    pub files: Vec<(String, Secret)>,
    /// As in [`Prepare`].
    #[serde(default, with = "shared")]
    pub tools: Option<Arc<ToolTrust>>,
    /// As in [`Prepare`].
    #[serde(default)]
    pub git_server: Option<GitServer>,
}

impl HelperRequest {
    /// The document for the helper's standard input: one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("requests hold only texts, numbers and lists")
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// `GIT_STRATEGY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitStrategy {
    /// Fresh clone.
    Clone,
    /// Reuse the work tree.
    Fetch,
    /// Leave the directory as it is.
    None,
    /// Empty directory.
    Empty,
}

impl GitStrategy {
    /// Whether there is a repository, and credentials that Git could have stored.
    pub fn uses_git(self) -> bool {
        matches!(self, Self::Clone | Self::Fetch)
    }
}

/// What becomes of configuration, hooks and attributes that an earlier job left in a repository that is
/// used again (2.3 A 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldGitConfig {
    /// Dropped before the job and after it.
    Dropped,
    /// Dropped before the job; it stays behind for whoever looks at the directory later. The log is that
    /// of a repository whose configuration was kept.
    DroppedBefore,
    /// Stays: `clean_git_config = false`.
    Kept,
}

/// Submodules of a job (2.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodules {
    /// `GIT_SUBMODULE_STRATEGY` is `recursive`, not `normal`.
    pub recursive: bool,
    /// `GIT_SUBMODULE_PATHS`; empty = all.
    pub paths: Vec<String>,
    /// `GIT_SUBMODULE_DEPTH`, 0 = everything.
    pub depth: i64,
    /// `GIT_SUBMODULE_UPDATE_FLAGS`.
    pub update_flags: Vec<String>,
}

/// Sources of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetSources {
    /// Strategy.
    pub strategy: GitStrategy,
    /// Project directory, absolute.
    pub project_dir: String,
    /// `<project dir>.tmp`, absolute.
    pub temporary_dir: String,
    /// Remote URL without credentials.
    pub remote_url: String,
    /// `url.<new>.insteadOf <old>` pairs in order; the new side may hold credentials.
    pub instead_of: Vec<(Secret, String)>,
    /// Commit.
    pub sha: String,
    /// Ref shown in messages.
    pub ref_name: String,
    /// Refspecs, verbatim.
    pub refspecs: Vec<String>,
    /// Depth, 0 = everything.
    pub depth: i64,
    /// Empty, `sha1` or `sha256`.
    pub object_format: String,
    /// `GIT_CHECKOUT`.
    pub checkout: bool,
    /// `GIT_CLEAN_FLAGS`; empty = no clean.
    pub clean_flags: Vec<String>,
    /// `GIT_FETCH_EXTRA_FLAGS`.
    pub fetch_flags: Vec<String>,
    /// `GIT_CLONE_EXTRA_FLAGS` (only native clone uses them).
    pub clone_flags: Vec<String>,
    /// `gitlab-runner <version> <os>/<arch>`.
    pub user_agent: String,
    /// `X-Gitaly-Correlation-ID`, empty = none.
    pub correlation_id: String,
    /// `FF_USE_GIT_BUNDLE_URIS`.
    pub bundle_uris: bool,
    /// Of the reused repository and its submodules.
    pub old_config: OldGitConfig,
    /// Added to the user's `safe.directory`.
    #[serde(default)]
    pub safe_directory: Option<String>,
    /// `None` = they are left alone.
    pub submodules: Option<Submodules>,
    /// `FF_USE_GIT_NATIVE_CLONE` and strategy `clone`: `git clone` where Git is new enough.
    pub native_clone: bool,
    /// `FF_USE_GIT_PROACTIVE_AUTH`.
    pub proactive_auth: bool,
    /// `FF_GIT_URLS_WITHOUT_TOKENS`: `scheme://host` for which a credential helper gives `CI_JOB_TOKEN`.
    pub credential_helper_for: Option<String>,
    /// `scheme://host` of the remote; `None` where it has none.
    pub remote_base: Option<String>,
    /// `GIT_LFS_SKIP_SMUDGE`.
    pub lfs_skip_smudge: bool,
    /// `http.<scheme://host>` the TLS keys are for; `None` = no TLS variables.
    pub tls_base: Option<String>,
    /// Path of the CA file, from `CI_SERVER_TLS_CA_FILE`.
    pub tls_ca_file: Option<String>,
    /// Paths of certificate and key.
    pub tls_client_pair: Option<(String, String)>,
    /// The machine's own roots do not count for `tls_base`.
    pub tls_ca_file_only: bool,
    /// `scheme://host` for `git credential reject`; `None` = nothing to reject.
    pub credential_reject_url: Option<String>,
}

mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::ToolTrust;

    pub(super) fn serialize<S: Serializer>(
        tools: &Option<Arc<ToolTrust>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        tools.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<ToolTrust>>, D::Error> {
        Ok(Option::<ToolTrust>::deserialize(from)?.map(Arc::new))
    }
}

/// Git's TLS files for one server, by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitServer {
    /// `scheme://host[:port]`.
    pub base: String,
    /// From `CI_SERVER_TLS_CA_FILE`.
    pub ca_file: Option<String>,
    /// Certificate and key.
    pub client_pair: Option<(String, String)>,
}

/// Which caches, for restore and for save.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheRequest {
    /// Project directory.
    pub project_dir: String,
    /// `<cache_dir>/<path>`: local cache root of the project.
    pub cache_root: String,
    /// `FF_HASH_CACHE_KEYS`: archives lie under the hash of their key.
    #[serde(default)]
    pub hash_keys: bool,
    /// `FF_CLEAN_UP_FAILED_CACHE_EXTRACT`: what a failed restore left at the cache's paths is removed.
    #[serde(default)]
    pub clean_up_failed: bool,
    /// Entries in order, already filtered by policy and `when`.
    pub entries: Vec<CacheEntry>,
}

impl CacheRequest {
    /// Directory below `cache_root` for `key`, which messages show as it is (5.1).
    pub fn storage_key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.hash_keys {
            Cow::Owned(hex::encode(Sha256::digest(key)))
        } else {
            Cow::Borrowed(key)
        }
    }

    /// Where the same cache lies under the opposite value of the flag: archives there are moved.
    /// `None` when the key cannot be a path.
    pub fn alternate_storage_key(&self, key: &str) -> Option<String> {
        if self.hash_keys {
            Some(cache::sanitize(key)).filter(|key| !key.is_empty())
        } else {
            Some(hex::encode(Sha256::digest(key)))
        }
    }
}

/// One cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// Key after expansion and, unless keys are hashed, sanitising. Messages show it; the archive is
    /// `<cache_root>/<storage key>/cache.zip`, see [`CacheRequest::storage_key`].
    pub key: String,
    /// Keys to try after it, in order (restore only).
    pub fallback_keys: Vec<String>,
    /// Paths and globs.
    pub paths: Vec<String>,
    /// Add what Git does not track.
    pub untracked: bool,
}

/// Artifacts of one other job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DownloadArtifacts {
    /// Project directory.
    pub project_dir: String,
    /// Runner URL.
    pub url: String,
    /// Job whose artifacts these are.
    pub job_id: i64,
    /// Its name.
    pub job_name: String,
    /// Its token.
    pub token: Secret,
    /// `FF_USE_DIRECT_DOWNLOAD`.
    pub direct_download: bool,
    /// Tries after the first one; upstream 2.
    pub retries: u32,
    /// `CI_SERVER_TLS_*` paths: CA, then certificate and key.
    pub tls_ca_file: Option<String>,
    /// See above.
    pub tls_client_pair: Option<(String, String)>,
}

/// One artifact entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UploadArtifacts {
    /// Project directory.
    pub project_dir: String,
    /// Runner URL.
    pub url: String,
    /// This job.
    pub job_id: i64,
    /// Its token.
    pub token: Secret,
    /// Name, expanded by the helper from its environment.
    pub name: String,
    /// Paths, expanded by the helper.
    pub paths: Vec<String>,
    /// Excludes, expanded by the helper.
    pub exclude: Vec<String>,
    /// Add what Git does not track.
    pub untracked: bool,
    /// Verbatim.
    pub expire_in: String,
    /// `artifact_format`, may be empty.
    pub format: String,
    /// `artifact_type`, may be empty.
    pub artifact_type: String,
    /// Whole request, seconds.
    pub timeout_seconds: u64,
    /// Response header, seconds.
    pub response_header_timeout_seconds: u64,
    /// What a provenance statement says of the job; `None` = no statement.
    #[serde(default)]
    pub provenance: Option<Box<Provenance>>,
    /// `CI_SERVER_TLS_*` paths.
    pub tls_ca_file: Option<String>,
    /// See above.
    pub tls_client_pair: Option<(String, String)>,
}

/// What a provenance statement says of a job (4.6); the files come from the helper.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// `CI_RUNNER_ID`.
    pub runner_id: String,
    /// Repository without credentials, query and `.git`.
    pub repo_url: String,
    /// Commit.
    pub repo_digest: String,
    /// Name of the job.
    pub job_name: String,
    /// `shell`, …
    pub executor_name: String,
    /// Name of the runner.
    pub runner_name: String,
    /// RFC 3339; empty = the helper's `CI_JOB_STARTED_AT`, and without one its own start.
    pub started_at: String,
    /// RFC 3339; empty = when the helper started.
    pub ended_at: String,
    /// `SLSA_PROVENANCE_SCHEMA_VERSION`, or `unknown`.
    pub schema_version: String,
    /// Names of the job's variables.
    pub parameters: Vec<String>,
}

/// What is removed when a job is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CleanUp {
    /// Strategy of the job.
    pub strategy: GitStrategy,
    /// Project directory.
    pub project_dir: String,
    /// `<project dir>.tmp`.
    pub temporary_dir: String,
    /// Names of file variables.
    pub file_variables: Vec<String>,
    /// `FF_ENABLE_JOB_CLEANUP`.
    pub job_cleanup: bool,
    /// `GIT_CLEAN_FLAGS`.
    pub clean_flags: Vec<String>,
    /// As for the sources.
    pub old_config: OldGitConfig,
    /// As for the sources.
    pub submodules: Option<Submodules>,
    /// `scheme://host` for `git credential reject`; `None` = nothing to reject.
    pub credential_reject_url: Option<String>,
}
