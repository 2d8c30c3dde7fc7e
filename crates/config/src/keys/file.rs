//! Keys of the whole file and the small tables of a runner (`runner-config.md` 2 to 5).

use super::Kind::*;
use super::Saved::*;
use super::docker::{DOCKER, MACHINE};
use super::executors::{AUTOSCALER, CUSTOM, INSTANCE, PARALLELS, SSH, VIRTUALBOX};
use super::kubernetes::KUBERNETES;
use super::{Key, flagged, key};

/// Top level.
pub(super) const GLOBAL: &[Key] = &[
    key("listen_address", Text, IfNotEmpty),
    key("session_server", Table(SESSION_SERVER), IfNotEmpty),
    key("labels", TextMap, IfNotEmpty),
    key("concurrent", Int, Always),
    key("check_interval", Int, Always),
    key("log_level", OptionalText, IfSet),
    key("log_format", OptionalText, IfSet),
    key("user", Text, IfNotEmpty),
    key("runners", Tables(RUNNER), IfSet),
    key("sentry_dsn", OptionalText, IfSet),
    key("connection_max_age", OptionalDuration, IfSet),
    key("machine", Table(GLOBAL_MACHINE), IfSet),
    key("experimental", Table(EXPERIMENTAL), IfSet),
    key("shutdown_timeout", Int, Always),
    key("spool", Table(SPOOL), IfSet),
];

/// `[spool]`: Courser's own; gitlab-runner passes over keys that it does not know.
const SPOOL: &[Key] = &[
    key("directory", Text, IfNotEmpty),
    key("job_limit", Int, IfNotEmpty),
    key("total_limit", Int, IfNotEmpty),
];

/// `[session_server]`.
const SESSION_SERVER: &[Key] = &[
    key("listen_address", Text, IfNotEmpty),
    key("advertise_address", Text, IfNotEmpty),
    key("session_timeout", Int, Always),
];

/// `[machine]`.
const GLOBAL_MACHINE: &[Key] = &[key("shutdown_drain", Table(SHUTDOWN_DRAIN), IfSet)];

/// `[machine.shutdown_drain]`.
const SHUTDOWN_DRAIN: &[Key] = &[
    key("enabled", Bool, IfNotEmpty),
    key("concurrency", Int, Always),
    key("max_retries", Int, Always),
    key("retry_backoff", Duration, Always),
];

/// `[experimental]`.
const EXPERIMENTAL: &[Key] = &[key("usage_logger", Table(USAGE_LOGGER), IfSet)];

/// `[experimental.usage_logger]`.
const USAGE_LOGGER: &[Key] = &[
    key("enabled", Bool, Always),
    key("writers", Texts, IfNotEmpty),
    key("logrotate", Table(LOGROTATE), IfNotEmpty),
    key("snowplow_billing", Table(SNOWPLOW), IfNotEmpty),
    key("log_dir", Text, IfNotEmpty),
    key("max_backup_files", OptionalInt, IfSet),
    key("max_rotation_age", OptionalDuration, IfSet),
    key("labels", TextMap, IfNotEmpty),
];

/// `[experimental.usage_logger.logrotate]`.
const LOGROTATE: &[Key] = &[
    key("log_dir", Text, IfNotEmpty),
    key("max_backup_files", OptionalInt, IfSet),
    key("max_rotation_age", OptionalDuration, IfSet),
    key("labels", TextMap, IfNotEmpty),
];

/// `[experimental.usage_logger.snowplow_billing]`.
const SNOWPLOW: &[Key] = &[
    key("collector_uri", Text, IfNotEmpty),
    key("app_id", Text, IfNotEmpty),
    key("category", Text, IfNotEmpty),
    key("realm", Text, IfNotEmpty),
    key("deployment_type", Text, IfNotEmpty),
    key("metadata", TextMap, IfNotEmpty),
    key("enable_oidc", Bool, IfNotEmpty),
    key("batch_delivery_duration_buckets", Floats, IfNotEmpty),
    key("skip_oidc_if_unsupported_cloud", OptionalBool, IfSet),
    key("skip_runner_system_failure", OptionalBool, IfSet),
];

/// `[[runners]]`, in the order in which upstream writes them.
pub(super) const RUNNER: &[Key] = &[
    flagged("name", Text, Always, "name", "RUNNER_NAME"),
    flagged("limit", Int, IfNotEmpty, "limit", "RUNNER_LIMIT"),
    flagged(
        "output_limit",
        Int,
        IfNotEmpty,
        "output-limit",
        "RUNNER_OUTPUT_LIMIT",
    ),
    flagged(
        "request_concurrency",
        Int,
        IfNotEmpty,
        "request-concurrency",
        "RUNNER_REQUEST_CONCURRENCY",
    ),
    flagged(
        "strict_check_interval",
        OptionalBool,
        IfSet,
        "strict-check-interval",
        "RUNNER_STRICT_CHECK_INTERVAL",
    ),
    flagged(
        "unhealthy_requests_limit",
        Int,
        IfNotEmpty,
        "unhealthy-requests-limit",
        "RUNNER_UNHEALTHY_REQUESTS_LIMIT",
    ),
    flagged(
        "unhealthy_interval",
        OptionalDuration,
        IfNotEmpty,
        "unhealthy-interval",
        "",
    ),
    flagged(
        "job_status_final_update_retry_limit",
        Int,
        IfNotEmpty,
        "job-status-final-update-retry-limit",
        "RUNNER_job_status_final_update_retry_limit",
    ),
    key("experimental", Table(RUNNER_EXPERIMENTAL), IfSet),
    flagged("url", Text, Always, "url", "CI_SERVER_URL"),
    key("id", Int, Always),
    flagged("token", Text, Always, "token", "CI_SERVER_TOKEN"),
    key("token_obtained_at", Time, Always),
    key("token_expires_at", Time, Always),
    flagged(
        "tls-ca-file",
        Text,
        IfNotEmpty,
        "tls-ca-file",
        "CI_SERVER_TLS_CA_FILE",
    ),
    flagged(
        "tls-cert-file",
        Text,
        IfNotEmpty,
        "tls-cert-file",
        "CI_SERVER_TLS_CERT_FILE",
    ),
    flagged(
        "tls-key-file",
        Text,
        IfNotEmpty,
        "tls-key-file",
        "CI_SERVER_TLS_KEY_FILE",
    ),
    key("labels", TextMap, IfNotEmpty),
    flagged("executor", Text, Always, "executor", "RUNNER_EXECUTOR"),
    flagged(
        "builds_dir",
        Text,
        IfNotEmpty,
        "builds-dir",
        "RUNNER_BUILDS_DIR",
    ),
    flagged(
        "cache_dir",
        Text,
        IfNotEmpty,
        "cache-dir",
        "RUNNER_CACHE_DIR",
    ),
    flagged("clone_url", Text, IfNotEmpty, "clone-url", "CLONE_URL"),
    flagged("environment", Texts, IfNotEmpty, "env", "RUNNER_ENV"),
    flagged(
        "proxy_exec",
        OptionalBool,
        IfSet,
        "proxy-exec",
        "RUNNER_PROXY_EXEC",
    ),
    flagged(
        "pre_get_sources_script",
        Text,
        IfNotEmpty,
        "pre-get-sources-script",
        "RUNNER_PRE_GET_SOURCES_SCRIPT",
    ),
    flagged(
        "post_get_sources_script",
        Text,
        IfNotEmpty,
        "post-get-sources-script",
        "RUNNER_POST_GET_SOURCES_SCRIPT",
    ),
    flagged(
        "pre_build_script",
        Text,
        IfNotEmpty,
        "pre-build-script",
        "RUNNER_PRE_BUILD_SCRIPT",
    ),
    flagged(
        "post_build_script",
        Text,
        IfNotEmpty,
        "post-build-script",
        "RUNNER_POST_BUILD_SCRIPT",
    ),
    flagged(
        "prepare_timeout",
        OptionalDuration,
        IfSet,
        "prepare-timeout",
        "RUNNER_PREPARE_TIMEOUT",
    ),
    flagged(
        "get_sources_timeout",
        OptionalDuration,
        IfSet,
        "get-sources-timeout",
        "RUNNER_GET_SOURCES_TIMEOUT",
    ),
    flagged(
        "debug_trace_disabled",
        Bool,
        IfNotEmpty,
        "debug-trace-disabled",
        "RUNNER_DEBUG_TRACE_DISABLED",
    ),
    flagged(
        "safe_directory_checkout",
        OptionalBool,
        IfSet,
        "safe-directory-checkout",
        "RUNNER_SAFE_DIRECTORY_CHECKOUT",
    ),
    flagged(
        "clean_git_config",
        OptionalBool,
        IfSet,
        "clean-git-config",
        "RUNNER_CLEAN_GIT_CONFIG",
    ),
    flagged("shell", Text, IfNotEmpty, "shell", "RUNNER_SHELL"),
    key("custom_build_dir", Table(CUSTOM_BUILD_DIR), IfNotEmpty),
    key("referees", Table(REFEREES), IfSet),
    key("cache", Table(CACHE), IfSet),
    key("artifact", Table(ARTIFACT), IfNotEmpty),
    key("trust", Table(TRUST), IfSet),
    key("secrets", Table(SECRETS), IfSet),
    flagged(
        "feature_flags",
        BoolMap,
        IfSet,
        "feature-flags",
        "FEATURE_FLAGS",
    ),
    key("monitoring", Table(MONITORING), IfSet),
    flagged(
        "use_slot_cgroups",
        Bool,
        IfNotEmpty,
        "use-slot-cgroups",
        "RUNNER_USE_SLOT_CGROUPS",
    ),
    flagged(
        "slot_cgroup_template",
        Text,
        IfNotEmpty,
        "slot-cgroup-template",
        "RUNNER_SLOT_CGROUP_TEMPLATE",
    ),
    key("instance", Table(INSTANCE), IfSet),
    key("ssh", Table(SSH), IfSet),
    key("docker", Table(DOCKER), IfSet),
    key("parallels", Table(PARALLELS), IfSet),
    key("virtualbox", Table(VIRTUALBOX), IfSet),
    key("machine", Table(MACHINE), IfSet),
    key("kubernetes", Table(KUBERNETES), IfSet),
    key("custom", Table(CUSTOM), IfSet),
    key("autoscaler", Table(AUTOSCALER), IfSet),
    flagged(
        "step_runner_image",
        Text,
        IfNotEmpty,
        "step-runner-image",
        "STEP_RUNNER_IMAGE",
    ),
];

/// `[runners.experimental]`.
const RUNNER_EXPERIMENTAL: &[Key] = &[key("boot_verify", Table(BOOT_VERIFY), IfSet)];

/// `[runners.experimental.boot_verify]`.
const BOOT_VERIFY: &[Key] = &[
    key("enabled", Bool, IfNotEmpty),
    key("timeout", Duration, Always),
    key("acquire_min_backoff", Duration, Always),
    key("acquire_max_backoff", Duration, Always),
];

/// `[runners.custom_build_dir]`.
const CUSTOM_BUILD_DIR: &[Key] = &[flagged(
    "enabled",
    OptionalBool,
    IfSet,
    "custom_build_dir-enabled",
    "CUSTOM_BUILD_DIR_ENABLED",
)];

/// `[runners.artifact]`.
const ARTIFACT: &[Key] = &[
    key("upload_timeout", OptionalDuration, IfSet),
    key("response_header_timeout", OptionalDuration, IfSet),
];

/// `[runners.trust]`: Courser's own; gitlab-runner passes over keys that it does not know.
const TRUST: &[Key] = &[
    key("job_tools", OptionalBool, IfSet),
    key("job_tools_anchors", Texts, IfSet),
    key("images", OptionalBool, IfSet),
];

/// `[runners.secrets]`: Courser's own.
const SECRETS: &[Key] = &[
    key("timeout", OptionalDuration, IfSet),
    key("revoke", OptionalBool, IfSet),
    key("mask_parts", OptionalBool, IfSet),
    key("servers", Texts, IfSet),
    key("google", Table(SECRETS_GOOGLE), IfSet),
    key("azure", Table(SECRETS_AZURE), IfSet),
    key("aws", Table(SECRETS_AWS), IfSet),
];

/// `[runners.secrets.google]`.
const SECRETS_GOOGLE: &[Key] = &[
    key("sts_url", Text, IfNotEmpty),
    key("secret_manager_url", Text, IfNotEmpty),
];

/// `[runners.secrets.azure]`.
const SECRETS_AZURE: &[Key] = &[
    key("authority_url", Text, IfNotEmpty),
    key("trusted_vaults", Texts, IfSet),
];

/// `[runners.secrets.aws]`.
const SECRETS_AWS: &[Key] = &[
    key("sts_url", Text, IfNotEmpty),
    key("secrets_manager_url", Text, IfNotEmpty),
    key("allow_ambient_identity", OptionalBool, IfSet),
];

/// `[runners.referees]`.
const REFEREES: &[Key] = &[key("metrics", Table(METRICS_REFEREE), IfSet)];

/// `[runners.referees.metrics]`.
const METRICS_REFEREE: &[Key] = &[
    key("prometheus_address", Text, IfNotEmpty),
    key("query_interval", Int, Always),
    key("queries", Texts, IfSet),
];

/// `[runners.monitoring]`.
const MONITORING: &[Key] = &[key(
    "job_queuing_durations",
    Tables(QUEUING_DURATIONS),
    IfSet,
)];

/// `[[runners.monitoring.job_queuing_durations]]`.
const QUEUING_DURATIONS: &[Key] = &[
    key("periods", Texts, IfSet),
    key("timezone", Text, Always),
    key("threshold", Duration, Always),
    key("jobs_running_for_project", Text, IfNotEmpty),
];

/// `[runners.cache]`.
pub(super) const CACHE: &[Key] = &[
    flagged("Type", Text, IfNotEmpty, "cache-type", "CACHE_TYPE"),
    flagged("Path", Text, IfNotEmpty, "cache-path", "CACHE_PATH"),
    flagged("Shared", Bool, IfNotEmpty, "cache-shared", "CACHE_SHARED"),
    flagged(
        "MaxUploadedArchiveSize",
        Int,
        Always,
        "cache-max_uploaded_archive_size",
        "CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE",
    ),
    key("s3", Table(CACHE_S3), IfSet),
    key("gcs", Table(CACHE_GCS), IfSet),
    key("azure", Table(CACHE_AZURE), IfSet),
];

/// `[runners.cache.s3]`.
const CACHE_S3: &[Key] = &[
    flagged(
        "ServerAddress",
        Text,
        IfNotEmpty,
        "cache-s3-server-address",
        "CACHE_S3_SERVER_ADDRESS",
    ),
    flagged(
        "AccessKey",
        Text,
        IfNotEmpty,
        "cache-s3-access-key",
        "CACHE_S3_ACCESS_KEY",
    ),
    flagged(
        "SecretKey",
        Text,
        IfNotEmpty,
        "cache-s3-secret-key",
        "CACHE_S3_SECRET_KEY",
    ),
    flagged(
        "SessionToken",
        Text,
        IfNotEmpty,
        "cache-s3-session-token",
        "CACHE_S3_SESSION_TOKEN",
    ),
    flagged(
        "BucketName",
        Text,
        IfNotEmpty,
        "cache-s3-bucket-name",
        "CACHE_S3_BUCKET_NAME",
    ),
    flagged(
        "BucketLocation",
        Text,
        IfNotEmpty,
        "cache-s3-bucket-location",
        "CACHE_S3_BUCKET_LOCATION",
    ),
    flagged(
        "Insecure",
        Bool,
        IfNotEmpty,
        "cache-s3-insecure",
        "CACHE_S3_INSECURE",
    ),
    flagged(
        "AuthenticationType",
        Text,
        IfNotEmpty,
        "cache-s3-authentication_type",
        "CACHE_S3_AUTHENTICATION_TYPE",
    ),
    flagged(
        "ServerSideEncryption",
        Text,
        IfNotEmpty,
        "cache-s3-server-side-encryption",
        "CACHE_S3_SERVER_SIDE_ENCRYPTION",
    ),
    flagged(
        "ServerSideEncryptionKeyID",
        Text,
        IfNotEmpty,
        "cache-s3-server-side-encryption-key-id",
        "CACHE_S3_SERVER_SIDE_ENCRYPTION_KEY_ID",
    ),
    flagged(
        "DualStack",
        OptionalBool,
        IfSet,
        "cache-s3-dual-stack",
        "CACHE_S3_DUAL_STACK",
    ),
    flagged(
        "PathStyle",
        OptionalBool,
        IfSet,
        "cache-s3-path-style",
        "CACHE_S3_PATH_STYLE",
    ),
    flagged(
        "Accelerate",
        Bool,
        IfNotEmpty,
        "cache-s3-accelerate",
        "CACHE_S3_ACCELERATE",
    ),
    flagged(
        "RoleARN",
        Text,
        IfNotEmpty,
        "cache-s3-role-arn",
        "CACHE_S3_ROLE_ARN",
    ),
    flagged(
        "UploadRoleARN",
        Text,
        IfNotEmpty,
        "cache-s3-upload-role-arn",
        "CACHE_S3_UPLOAD_ROLE_ARN",
    ),
    flagged(
        "AssumeRoleMaxConcurrency",
        Int,
        Always,
        "cache-s3-assume-role-max-concurrency",
        "CACHE_S3_ASSUME_ROLE_MAX_CONCURRENCY",
    ),
    flagged(
        "DisableAssumeRoleCredentialsCaching",
        Bool,
        IfNotEmpty,
        "cache-s3-disable-assume-role-credentials-caching",
        "CACHE_S3_DISABLE_ASSUME_ROLE_CREDENTIALS_CACHING",
    ),
];

/// `[runners.cache.gcs]`.
const CACHE_GCS: &[Key] = &[
    flagged(
        "AccessID",
        Text,
        IfNotEmpty,
        "cache-gcs-access-id",
        "CACHE_GCS_ACCESS_ID",
    ),
    flagged(
        "PrivateKey",
        Text,
        IfNotEmpty,
        "cache-gcs-private-key",
        "CACHE_GCS_PRIVATE_KEY",
    ),
    flagged(
        "CredentialsFile",
        Text,
        IfNotEmpty,
        "cache-gcs-credentials-file",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    flagged(
        "BucketName",
        Text,
        IfNotEmpty,
        "cache-gcs-bucket-name",
        "CACHE_GCS_BUCKET_NAME",
    ),
    flagged(
        "UniverseDomain",
        Text,
        IfNotEmpty,
        "cache-gcs-universe-domain",
        "CACHE_GCS_UNIVERSE_DOMAIN",
    ),
];

/// `[runners.cache.azure]`.
const CACHE_AZURE: &[Key] = &[
    flagged(
        "AccountName",
        Text,
        IfNotEmpty,
        "cache-azure-account-name",
        "CACHE_AZURE_ACCOUNT_NAME",
    ),
    flagged(
        "AccountKey",
        Text,
        IfNotEmpty,
        "cache-azure-account-key",
        "CACHE_AZURE_ACCOUNT_KEY",
    ),
    flagged(
        "ContainerName",
        Text,
        IfNotEmpty,
        "cache-azure-container-name",
        "CACHE_AZURE_CONTAINER_NAME",
    ),
    flagged(
        "StorageDomain",
        Text,
        IfNotEmpty,
        "cache-azure-storage-domain",
        "CACHE_AZURE_STORAGE_DOMAIN",
    ),
];
