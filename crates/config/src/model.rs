//! The keys of `config.toml` that Courser acts on, with their defaults (`runner-config.md` 2 to 4).
//!
//! To make another key work: a field with its default here, a line in `read`, its name in [`ACTED`].

use std::collections::BTreeMap;
use std::time::Duration;

use courser_protocol::Secret;

use crate::environment::Environment;
use crate::setting::Section;

mod docker;
mod keys;
pub(crate) mod secrets;

pub(crate) use keys::{ACTED, INERT};

pub use docker::{Device, DockerConfig, DockerService, GpuRequest, Isolation, KeyFault, Ulimit};
pub use secrets::{AwsConfig, AzureConfig, GoogleConfig, SecretsConfig};

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `concurrent`. Zero only where the file says so (or less): `run` refuses it.
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
    /// `listen_address` of metrics; empty = none. A change needs a restart.
    pub listen_address: String,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `[spool]`. A change needs a restart.
    pub spool: SpoolConfig,
    /// `[[runners]]`.
    pub runners: Vec<RunnerConfig>,
}

/// `[spool]`: Courser's own, where jobs are kept until the server knows everything of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// `directory`; empty = beside the file.
    pub directory: String,
    /// `job_limit` in KiB: log of one job that is kept at a time. Default 4 GiB.
    pub job_limit: u64,
    /// `total_limit` in KiB: of all jobs. Default 10 GiB.
    pub total_limit: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            directory: String::new(),
            job_limit: 4 * 1024 * 1024,
            total_limit: 10 * 1024 * 1024,
        }
    }
}

impl SpoolConfig {
    fn read(spool: &Section) -> Self {
        let default = Self::default();
        Self {
            directory: spool.text("directory").unwrap_or_default().to_owned(),
            job_limit: positive(spool, "job_limit").unwrap_or(default.job_limit),
            total_limit: positive(spool, "total_limit").unwrap_or(default.total_limit),
        }
    }
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
    /// `token_expires_at`; `None` = never (in the file absent or the year 1).
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
    /// `pre_get_sources_script`.
    pub pre_get_sources_script: String,
    /// `post_get_sources_script`.
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
    /// `safe_directory_checkout`.
    pub safe_directory_checkout: Option<bool>,
    /// `[runners.feature_flags]`.
    pub feature_flags: BTreeMap<String, bool>,
    /// `labels`, global ones included.
    pub labels: BTreeMap<String, String>,
    /// `[runners.artifact] upload_timeout`; default 1 h.
    pub artifact_upload_timeout: Duration,
    /// `[runners.artifact] response_header_timeout`; default 10 min.
    pub artifact_response_header_timeout: Duration,
    /// `[runners.trust] job_tools`; default true.
    pub job_tools: bool,
    /// `[runners.trust] job_tools_anchors`: SHA-256 fingerprints; `None` = every anchor. An entry that is none
    /// stands for no certificate.
    pub job_tools_anchors: Option<Vec<[u8; 32]>>,
    /// `[runners.trust] images`: containers trust the private CAs whatever their images; default true.
    pub trust_in_images: bool,
    /// `[runners.secrets]`.
    pub secrets: SecretsConfig,
    /// URL of the S3 server of `[runners.cache.s3]`, where one is named. Only `trust check` looks at it.
    pub cache_server: Option<String>,
    /// `[runners.docker]`, where it is there.
    pub docker: Option<DockerConfig>,
    /// How `[runners.kubernetes]` says that the API is reached. Shown only, until that executor is built.
    pub kubernetes: KubernetesConnection,
}

/// `host` and the three files of `[runners.kubernetes]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubernetesConnection {
    /// `host`.
    pub host: String,
    /// `ca_file`.
    pub ca_file: String,
    /// `cert_file`.
    pub cert_file: String,
    /// `key_file`.
    pub key_file: String,
}

impl Default for Config {
    /// What holds without a file.
    fn default() -> Self {
        Self {
            concurrent: 1,
            check_interval: Duration::from_secs(3),
            connection_max_age: Duration::from_secs(15 * 60),
            shutdown_timeout: Duration::from_secs(30),
            log_level: None,
            log_format: None,
            listen_address: String::new(),
            labels: BTreeMap::new(),
            spool: SpoolConfig::default(),
            runners: Vec::new(),
        }
    }
}

impl Default for RunnerConfig {
    /// A `[[runners]]` table without any key.
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            id: 0,
            token: Secret::default(),
            token_obtained_at: None,
            token_expires_at: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            limit: 0,
            output_limit: 4096,
            request_concurrency: 1,
            strict_check_interval: false,
            unhealthy_requests_limit: 3,
            unhealthy_interval: Duration::from_secs(3600),
            final_update_retry_limit: 10,
            executor: String::new(),
            shell: String::new(),
            environment: Vec::new(),
            clone_url: String::new(),
            builds_dir: String::new(),
            cache_dir: String::new(),
            custom_build_dir_enabled: None,
            pre_get_sources_script: String::new(),
            post_get_sources_script: String::new(),
            pre_build_script: String::new(),
            post_build_script: String::new(),
            prepare_timeout: None,
            get_sources_timeout: None,
            debug_trace_disabled: false,
            clean_git_config: None,
            safe_directory_checkout: None,
            feature_flags: BTreeMap::new(),
            labels: BTreeMap::new(),
            artifact_upload_timeout: Duration::from_secs(3600),
            artifact_response_header_timeout: Duration::from_secs(600),
            job_tools: true,
            job_tools_anchors: None,
            trust_in_images: true,
            secrets: SecretsConfig::default(),
            cache_server: None,
            docker: None,
            kubernetes: KubernetesConnection::default(),
        }
    }
}

impl Config {
    /// The typed keys of a checked file over the defaults.
    pub(crate) fn read(file: &Section, environment: &Environment) -> Self {
        let default = Self::default();
        let labels = file.text_map("labels").cloned().unwrap_or_default();
        Self {
            concurrent: file.int("concurrent").map_or(default.concurrent, |number| {
                usize::try_from(number).unwrap_or(0)
            }),
            check_interval: seconds(file, "check_interval").unwrap_or(default.check_interval),
            connection_max_age: file
                .duration("connection_max_age")
                .map_or(default.connection_max_age, |age| {
                    age.positive().unwrap_or_default()
                }),
            shutdown_timeout: seconds(file, "shutdown_timeout").unwrap_or(default.shutdown_timeout),
            log_level: file.text("log_level").map(ToOwned::to_owned),
            log_format: file.text("log_format").map(ToOwned::to_owned),
            listen_address: file.text("listen_address").unwrap_or_default().to_owned(),
            spool: file
                .table("spool")
                .map_or_else(SpoolConfig::default, SpoolConfig::read),
            runners: file
                .tables("runners")
                .iter()
                .map(|runner| RunnerConfig::read(runner, &labels, environment))
                .collect(),
            labels,
        }
    }
}

impl RunnerConfig {
    fn read(
        runner: &Section,
        global_labels: &BTreeMap<String, String>,
        environment: &Environment,
    ) -> Self {
        let default = Self::default();
        let text = |name: &str| runner.text(name).unwrap_or_default().to_owned();
        let file = |name: &str| {
            runner
                .text(name)
                .filter(|path| !path.is_empty())
                .map(ToOwned::to_owned)
        };
        let artifact = |name: &str| {
            runner
                .table("artifact")
                .and_then(|artifact| artifact.duration(name))
                .and_then(|timeout| timeout.positive())
        };
        let trust = runner.table("trust");
        let mut labels = global_labels.clone();
        labels.extend(runner.text_map("labels").cloned().unwrap_or_default());
        Self {
            name: text("name"),
            url: environment.expand(runner.text("url").unwrap_or_default()),
            id: runner.int("id").unwrap_or_default(),
            token: Secret::new(environment.expand(runner.text("token").unwrap_or_default())),
            token_obtained_at: runner.time("token_obtained_at"),
            token_expires_at: runner.time("token_expires_at"),
            tls_ca_file: file("tls-ca-file"),
            tls_cert_file: file("tls-cert-file"),
            tls_key_file: file("tls-key-file"),
            limit: positive(runner, "limit").unwrap_or(default.limit),
            output_limit: positive(runner, "output_limit").unwrap_or(default.output_limit),
            request_concurrency: positive(runner, "request_concurrency")
                .unwrap_or(default.request_concurrency),
            strict_check_interval: runner
                .bool("strict_check_interval")
                .unwrap_or(default.strict_check_interval),
            unhealthy_requests_limit: positive(runner, "unhealthy_requests_limit")
                .unwrap_or(default.unhealthy_requests_limit),
            unhealthy_interval: runner
                .duration("unhealthy_interval")
                .and_then(|interval| interval.positive())
                .unwrap_or(default.unhealthy_interval),
            final_update_retry_limit: positive(runner, "job_status_final_update_retry_limit")
                .unwrap_or(default.final_update_retry_limit),
            executor: text("executor"),
            shell: text("shell"),
            environment: runner.texts("environment").to_vec(),
            clone_url: text("clone_url"),
            builds_dir: text("builds_dir"),
            cache_dir: text("cache_dir"),
            custom_build_dir_enabled: runner
                .table("custom_build_dir")
                .and_then(|table| table.bool("enabled")),
            pre_get_sources_script: text("pre_get_sources_script"),
            post_get_sources_script: text("post_get_sources_script"),
            pre_build_script: text("pre_build_script"),
            post_build_script: text("post_build_script"),
            prepare_timeout: runner
                .duration("prepare_timeout")
                .and_then(|timeout| timeout.positive()),
            get_sources_timeout: runner
                .duration("get_sources_timeout")
                .and_then(|timeout| timeout.positive()),
            debug_trace_disabled: runner
                .bool("debug_trace_disabled")
                .unwrap_or(default.debug_trace_disabled),
            clean_git_config: runner.bool("clean_git_config"),
            safe_directory_checkout: runner.bool("safe_directory_checkout"),
            feature_flags: runner
                .bool_map("feature_flags")
                .cloned()
                .unwrap_or_default(),
            labels,
            artifact_upload_timeout: artifact("upload_timeout")
                .unwrap_or(default.artifact_upload_timeout),
            artifact_response_header_timeout: artifact("response_header_timeout")
                .unwrap_or(default.artifact_response_header_timeout),
            job_tools: trust
                .and_then(|trust| trust.bool("job_tools"))
                .unwrap_or(default.job_tools),
            job_tools_anchors: trust
                .map(|trust| trust.texts("job_tools_anchors"))
                .filter(|anchors| !anchors.is_empty())
                .map(|anchors| {
                    anchors
                        .iter()
                        .filter_map(|text| fingerprint(text))
                        .collect()
                }),
            trust_in_images: trust
                .and_then(|trust| trust.bool("images"))
                .unwrap_or(default.trust_in_images),
            secrets: runner
                .table("secrets")
                .map_or_else(SecretsConfig::default, SecretsConfig::read),
            cache_server: runner.table("cache").and_then(cache_server),
            docker: runner.table("docker").map(DockerConfig::read),
            kubernetes: runner
                .table("kubernetes")
                .map_or_else(KubernetesConnection::default, KubernetesConnection::read),
        }
    }
}

impl KubernetesConnection {
    fn read(kubernetes: &Section) -> Self {
        let text = |name: &str| kubernetes.text(name).unwrap_or_default().to_owned();
        Self {
            host: text("host"),
            ca_file: text("ca_file"),
            cert_file: text("cert_file"),
            key_file: text("key_file"),
        }
    }
}

/// The address has no scheme; `Insecure` decides (`runner-tls.md` 9).
fn cache_server(cache: &Section) -> Option<String> {
    let server = cache.table("s3")?;
    let address = server
        .text("ServerAddress")
        .filter(|text| !text.is_empty())?;
    let scheme = match server.bool("Insecure") {
        Some(true) => "http",
        _ => "https",
    };
    (cache.text("Type") == Some("s3")).then(|| format!("{scheme}://{address}"))
}

/// Seconds above zero.
fn seconds(section: &Section, name: &str) -> Option<Duration> {
    positive(section, name).map(Duration::from_secs)
}

/// A number above zero; upstream takes all others for unset.
fn positive<T: TryFrom<i64>>(section: &Section, name: &str) -> Option<T> {
    section
        .int(name)
        .filter(|number| *number > 0)
        .and_then(|number| T::try_from(number).ok())
}

/// A SHA-256 fingerprint as tools print it: 64 hexadecimal digits, with colons between the bytes or without.
pub(crate) fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits = text.trim().replace(':', "");
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
