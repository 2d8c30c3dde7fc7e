//! The keys of `config.toml` with their defaults (`runner-config.md`).

use std::collections::BTreeMap;
use std::time::Duration;

use courser_protocol::Secret;

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `concurrent`, at least 1.
    pub concurrent: usize,
    /// `check_interval`; default 3 s.
    pub check_interval: Duration,
    /// `connection_max_age`; default 15 min, zero = off.
    pub connection_max_age: Duration,
    /// `shutdown_timeout`; default 30 s.
    pub shutdown_timeout: Duration,
    /// `log_level`.
    pub log_level: Option<String>,
    /// `log_format`.
    pub log_format: Option<String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `[[runners]]`.
    pub runners: Vec<RunnerConfig>,
}

/// One `[[runners]]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerConfig {
    /// `name`.
    pub name: String,
    /// `url`, `$ENV` references resolved.
    pub url: String,
    /// `id`.
    pub id: i64,
    /// `token`, `$ENV` references resolved.
    pub token: Secret,
    /// `token_obtained_at`.
    pub token_obtained_at: Option<jiff::Timestamp>,
    /// `token_expires_at`; absent or year 1 = never.
    pub token_expires_at: Option<jiff::Timestamp>,
    /// `tls-ca-file`.
    pub tls_ca_file: Option<String>,
    /// `tls-cert-file`.
    pub tls_cert_file: Option<String>,
    /// `tls-key-file`.
    pub tls_key_file: Option<String>,
    /// `limit`, 0 = none.
    pub limit: usize,
    /// `output_limit` in KiB; default 4096.
    pub output_limit: u64,
    /// `request_concurrency`; default 1.
    pub request_concurrency: usize,
    /// `strict_check_interval`.
    pub strict_check_interval: bool,
    /// `unhealthy_requests_limit`; default 3.
    pub unhealthy_requests_limit: u32,
    /// `unhealthy_interval`; default 60 min.
    pub unhealthy_interval: Duration,
    /// `job_status_final_update_retry_limit`; default 10.
    pub final_update_retry_limit: u32,
    /// `executor`.
    pub executor: String,
    /// `shell`; empty = the executor's default.
    pub shell: String,
    /// `environment`.
    pub environment: Vec<String>,
    /// `clone_url`.
    pub clone_url: String,
    /// `builds_dir`.
    pub builds_dir: String,
    /// `cache_dir`.
    pub cache_dir: String,
    /// `[runners.custom_build_dir] enabled`.
    pub custom_build_dir_enabled: Option<bool>,
    /// `pre_get_sources_script` (also `pre_clone_script`).
    pub pre_get_sources_script: String,
    /// `post_get_sources_script` (also `post_clone_script`).
    pub post_get_sources_script: String,
    /// `pre_build_script`.
    pub pre_build_script: String,
    /// `post_build_script`.
    pub post_build_script: String,
    /// `prepare_timeout`.
    pub prepare_timeout: Option<Duration>,
    /// `get_sources_timeout`.
    pub get_sources_timeout: Option<Duration>,
    /// `debug_trace_disabled`.
    pub debug_trace_disabled: bool,
    /// `clean_git_config`.
    pub clean_git_config: Option<bool>,
    /// `[runners.feature_flags]`.
    pub feature_flags: BTreeMap<String, bool>,
    /// `labels`, global ones included.
    pub labels: BTreeMap<String, String>,
    /// `[runners.artifact] upload_timeout`; default 1 h.
    pub artifact_upload_timeout: Duration,
    /// `[runners.artifact] response_header_timeout`; default 10 min.
    pub artifact_response_header_timeout: Duration,
}
