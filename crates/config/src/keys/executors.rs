//! Keys of the other executors and of the autoscaler (`runner-config.md` 9 to 11).

use super::Kind::*;
use super::Saved::*;
use super::{Key, flagged, key};

/// `[runners.ssh]`.
pub(super) const SSH: &[Key] = &[
    flagged("user", Text, IfNotEmpty, "ssh-user", "SSH_USER"),
    flagged("password", Text, IfNotEmpty, "ssh-password", "SSH_PASSWORD"),
    flagged("host", Text, IfNotEmpty, "ssh-host", "SSH_HOST"),
    flagged("port", Text, IfNotEmpty, "ssh-port", "SSH_PORT"),
    flagged(
        "identity_file",
        Text,
        IfNotEmpty,
        "ssh-identity-file",
        "SSH_IDENTITY_FILE",
    ),
    flagged(
        "disable_strict_host_key_checking",
        OptionalBool,
        IfSet,
        "ssh-disable-strict-host-key-checking",
        "DISABLE_STRICT_HOST_KEY_CHECKING",
    ),
    flagged(
        "known_hosts_file",
        Text,
        IfNotEmpty,
        "ssh-known-hosts-file",
        "KNOWN_HOSTS_FILE",
    ),
];

/// `[runners.parallels]`.
pub(super) const PARALLELS: &[Key] = &[
    flagged(
        "base_name",
        Text,
        Always,
        "parallels-base-name",
        "PARALLELS_BASE_NAME",
    ),
    flagged(
        "template_name",
        Text,
        IfNotEmpty,
        "parallels-template-name",
        "PARALLELS_TEMPLATE_NAME",
    ),
    flagged(
        "disable_snapshots",
        Bool,
        Always,
        "parallels-disable-snapshots",
        "PARALLELS_DISABLE_SNAPSHOTS",
    ),
    flagged(
        "time_server",
        Text,
        IfNotEmpty,
        "parallels-time-server",
        "PARALLELS_TIME_SERVER",
    ),
    flagged(
        "allowed_images",
        Texts,
        IfNotEmpty,
        "parallels-allowed-images",
        "PARALLELS_ALLOWED_IMAGES",
    ),
];

/// `[runners.virtualbox]`.
pub(super) const VIRTUALBOX: &[Key] = &[
    flagged(
        "base_name",
        Text,
        Always,
        "virtualbox-base-name",
        "VIRTUALBOX_BASE_NAME",
    ),
    flagged(
        "base_snapshot",
        Text,
        IfNotEmpty,
        "virtualbox-base-snapshot",
        "VIRTUALBOX_BASE_SNAPSHOT",
    ),
    flagged(
        "base_folder",
        Text,
        Always,
        "virtualbox-base-folder",
        "VIRTUALBOX_BASE_FOLDER",
    ),
    flagged(
        "disable_snapshots",
        Bool,
        Always,
        "virtualbox-disable-snapshots",
        "VIRTUALBOX_DISABLE_SNAPSHOTS",
    ),
    flagged(
        "allowed_images",
        Texts,
        IfNotEmpty,
        "virtualbox-allowed-images",
        "VIRTUALBOX_ALLOWED_IMAGES",
    ),
    flagged(
        "start_type",
        Text,
        Always,
        "virtualbox-start-type",
        "VIRTUALBOX_START_TYPE",
    ),
];

/// `[runners.custom]`.
pub(super) const CUSTOM: &[Key] = &[
    flagged(
        "config_exec",
        Text,
        IfNotEmpty,
        "custom-config-exec",
        "CUSTOM_CONFIG_EXEC",
    ),
    flagged("config_args", Texts, IfNotEmpty, "custom-config-args", ""),
    flagged(
        "config_exec_timeout",
        OptionalInt,
        IfSet,
        "custom-config-exec-timeout",
        "CUSTOM_CONFIG_EXEC_TIMEOUT",
    ),
    flagged(
        "prepare_exec",
        Text,
        IfNotEmpty,
        "custom-prepare-exec",
        "CUSTOM_PREPARE_EXEC",
    ),
    flagged("prepare_args", Texts, IfNotEmpty, "custom-prepare-args", ""),
    flagged(
        "prepare_exec_timeout",
        OptionalInt,
        IfSet,
        "custom-prepare-exec-timeout",
        "CUSTOM_PREPARE_EXEC_TIMEOUT",
    ),
    flagged(
        "run_exec",
        Text,
        Always,
        "custom-run-exec",
        "CUSTOM_RUN_EXEC",
    ),
    flagged("run_args", Texts, IfNotEmpty, "custom-run-args", ""),
    flagged(
        "cleanup_exec",
        Text,
        IfNotEmpty,
        "custom-cleanup-exec",
        "CUSTOM_CLEANUP_EXEC",
    ),
    flagged("cleanup_args", Texts, IfNotEmpty, "custom-cleanup-args", ""),
    flagged(
        "cleanup_exec_timeout",
        OptionalInt,
        IfSet,
        "custom-cleanup-exec-timeout",
        "CUSTOM_CLEANUP_EXEC_TIMEOUT",
    ),
    flagged(
        "graceful_kill_timeout",
        OptionalInt,
        IfSet,
        "custom-graceful-kill-timeout",
        "CUSTOM_GRACEFUL_KILL_TIMEOUT",
    ),
    flagged(
        "force_kill_timeout",
        OptionalInt,
        IfSet,
        "custom-force-kill-timeout",
        "CUSTOM_FORCE_KILL_TIMEOUT",
    ),
];

/// `[runners.instance]`.
pub(super) const INSTANCE: &[Key] = &[
    key("allowed_images", Texts, IfNotEmpty),
    key("use_common_build_dir", Bool, IfNotEmpty),
];

/// `[runners.autoscaler]`.
pub(super) const AUTOSCALER: &[Key] = &[
    key("capacity_per_instance", Int, Always),
    key("max_use_count", Int, Always),
    key("max_instances", Int, Always),
    key("plugin", Text, IfNotEmpty),
    key("plugin_config", Free, IfNotEmpty),
    key("connector_config", Table(CONNECTOR), IfNotEmpty),
    key("policy", Tables(POLICY), IfNotEmpty),
    key("instance_ready_command", Text, IfNotEmpty),
    key("instance_acquire_timeout", Duration, Always),
    key("update_interval", Duration, Always),
    key("update_interval_when_expecting", Duration, Always),
    key("deletion_retry_interval", Duration, Always),
    key("shutdown_deletion_interval", Duration, Always),
    key("shutdown_deletion_retries", Int, Always),
    key("failure_threshold", Int, Always),
    key("scale_throttle", Table(SCALE_THROTTLE), IfNotEmpty),
    key("reservation_throttling", OptionalBool, IfSet),
    key("log_internal_ip", Bool, IfNotEmpty),
    key("log_external_ip", Bool, IfNotEmpty),
    key("delete_instances_on_shutdown", Bool, IfNotEmpty),
    key("vm_isolation", Table(VM_ISOLATION), IfNotEmpty),
    key("state_storage", Table(STATE_STORAGE), IfNotEmpty),
    key("instance_operation_time_buckets", Floats, IfNotEmpty),
    key("instance_creation_time_buckets", Floats, IfNotEmpty),
    key("instance_is_running_time_buckets", Floats, IfNotEmpty),
    key("instance_deletion_time_buckets", Floats, IfNotEmpty),
    key("instance_readiness_time_buckets", Floats, IfNotEmpty),
    key("instance_life_duration_buckets", Floats, IfNotEmpty),
];

/// `[runners.autoscaler.connector_config]`, also below `vm_isolation`.
const CONNECTOR: &[Key] = &[
    key("os", Text, IfNotEmpty),
    key("arch", Text, IfNotEmpty),
    key("protocol", Text, IfNotEmpty),
    key("protocol_port", Int, Always),
    key("username", Text, IfNotEmpty),
    key("password", Text, IfNotEmpty),
    key("key_path", Text, IfNotEmpty),
    key("use_static_credentials", Bool, IfNotEmpty),
    key("keepalive", Duration, Always),
    key("timeout", Duration, Always),
    key("use_external_addr", Bool, IfNotEmpty),
];

/// `[runners.autoscaler.scale_throttle]`.
const SCALE_THROTTLE: &[Key] = &[key("limit", Int, Always), key("burst", Int, Always)];

/// `[runners.autoscaler.state_storage]`.
const STATE_STORAGE: &[Key] = &[
    key("enabled", Bool, IfNotEmpty),
    key("dir", Text, IfNotEmpty),
    key("keep_instance_with_acquisitions", Bool, IfNotEmpty),
];

/// `[runners.autoscaler.vm_isolation]`.
const VM_ISOLATION: &[Key] = &[
    key("enabled", Bool, IfNotEmpty),
    key("nesting_host", Text, IfNotEmpty),
    key("nesting_config", Free, IfNotEmpty),
    key("image", Text, IfNotEmpty),
    key("connector_config", Table(CONNECTOR), IfNotEmpty),
];

/// `[[runners.autoscaler.policy]]`, also of `[runners.kubernetes.autoscaler]`.
pub(super) const POLICY: &[Key] = &[
    key("periods", Texts, IfNotEmpty),
    key("timezone", Text, IfNotEmpty),
    key("idle_count", Int, Always),
    key("idle_time", Duration, Always),
    key("scale_factor", Float, Always),
    key("scale_factor_limit", Int, Always),
    key("preemptive_mode", OptionalBool, IfSet),
];
