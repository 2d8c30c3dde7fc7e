//! Keys of the Kubernetes executor (`runner-config.md` 8).

use super::Kind::*;
use super::Saved::*;
use super::docker::SERVICES;
use super::executors::POLICY;
use super::{Key, flagged, key};

/// `[runners.kubernetes]`.
pub(super) const KUBERNETES: &[Key] = &[
    flagged("host", Text, Always, "kubernetes-host", "KUBERNETES_HOST"),
    flagged(
        "context",
        Text,
        IfNotEmpty,
        "kubernetes-context",
        "KUBECTL_CONTEXT",
    ),
    flagged(
        "cert_file",
        Text,
        IfNotEmpty,
        "kubernetes-cert-file",
        "KUBERNETES_CERT_FILE",
    ),
    flagged(
        "key_file",
        Text,
        IfNotEmpty,
        "kubernetes-key-file",
        "KUBERNETES_KEY_FILE",
    ),
    flagged(
        "ca_file",
        Text,
        IfNotEmpty,
        "kubernetes-ca-file",
        "KUBERNETES_CA_FILE",
    ),
    flagged(
        "bearer_token_overwrite_allowed",
        Bool,
        Always,
        "kubernetes-bearer_token_overwrite_allowed",
        "KUBERNETES_BEARER_TOKEN_OVERWRITE_ALLOWED",
    ),
    flagged(
        "bearer_token",
        Text,
        IfNotEmpty,
        "kubernetes-bearer_token",
        "KUBERNETES_BEARER_TOKEN",
    ),
    flagged(
        "image",
        Text,
        Always,
        "kubernetes-image",
        "KUBERNETES_IMAGE",
    ),
    flagged(
        "namespace",
        Text,
        Always,
        "kubernetes-namespace",
        "KUBERNETES_NAMESPACE",
    ),
    flagged(
        "namespace_overwrite_allowed",
        Text,
        Always,
        "kubernetes-namespace_overwrite_allowed",
        "KUBERNETES_NAMESPACE_OVERWRITE_ALLOWED",
    ),
    flagged(
        "namespace_per_job",
        Bool,
        Always,
        "kubernetes-namespace_per_job",
        "KUBERNETES_NAMESPACE_PER_JOB",
    ),
    flagged(
        "privileged",
        OptionalBool,
        IfSet,
        "kubernetes-privileged",
        "KUBERNETES_PRIVILEGED",
    ),
    flagged(
        "runtime_class_name",
        OptionalText,
        IfSet,
        "kubernetes-runtime-class-name",
        "KUBERNETES_RUNTIME_CLASS_NAME",
    ),
    flagged(
        "allow_privilege_escalation",
        OptionalBool,
        IfSet,
        "kubernetes-allow-privilege-escalation",
        "KUBERNETES_ALLOW_PRIVILEGE_ESCALATION",
    ),
    flagged(
        "cpu_limit",
        Text,
        IfNotEmpty,
        "kubernetes-cpu-limit",
        "KUBERNETES_CPU_LIMIT",
    ),
    flagged(
        "cpu_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-cpu-limit-overwrite-max-allowed",
        "KUBERNETES_CPU_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "cpu_request",
        Text,
        IfNotEmpty,
        "kubernetes-cpu-request",
        "KUBERNETES_CPU_REQUEST",
    ),
    flagged(
        "cpu_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-cpu-request-overwrite-max-allowed",
        "KUBERNETES_CPU_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "memory_limit",
        Text,
        IfNotEmpty,
        "kubernetes-memory-limit",
        "KUBERNETES_MEMORY_LIMIT",
    ),
    flagged(
        "memory_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-memory-limit-overwrite-max-allowed",
        "KUBERNETES_MEMORY_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "memory_request",
        Text,
        IfNotEmpty,
        "kubernetes-memory-request",
        "KUBERNETES_MEMORY_REQUEST",
    ),
    flagged(
        "memory_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-memory-request-overwrite-max-allowed",
        "KUBERNETES_MEMORY_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "ephemeral_storage_limit",
        Text,
        IfNotEmpty,
        "kubernetes-ephemeral-storage-limit",
        "KUBERNETES_EPHEMERAL_STORAGE_LIMIT",
    ),
    flagged(
        "ephemeral_storage_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-ephemeral-storage-limit-overwrite-max-allowed",
        "KUBERNETES_EPHEMERAL_STORAGE_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "ephemeral_storage_request",
        Text,
        IfNotEmpty,
        "kubernetes-ephemeral-storage-request",
        "KUBERNETES_EPHEMERAL_STORAGE_REQUEST",
    ),
    flagged(
        "ephemeral_storage_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-ephemeral-storage-request-overwrite-max-allowed",
        "KUBERNETES_EPHEMERAL_STORAGE_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "service_cpu_limit",
        Text,
        IfNotEmpty,
        "kubernetes-service-cpu-limit",
        "KUBERNETES_SERVICE_CPU_LIMIT",
    ),
    flagged(
        "service_cpu_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-service-cpu-limit-overwrite-max-allowed",
        "KUBERNETES_SERVICE_CPU_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "service_cpu_request",
        Text,
        IfNotEmpty,
        "kubernetes-service-cpu-request",
        "KUBERNETES_SERVICE_CPU_REQUEST",
    ),
    flagged(
        "service_cpu_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-service-cpu-request-overwrite-max-allowed",
        "KUBERNETES_SERVICE_CPU_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "service_memory_limit",
        Text,
        IfNotEmpty,
        "kubernetes-service-memory-limit",
        "KUBERNETES_SERVICE_MEMORY_LIMIT",
    ),
    flagged(
        "service_memory_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-service-memory-limit-overwrite-max-allowed",
        "KUBERNETES_SERVICE_MEMORY_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "service_memory_request",
        Text,
        IfNotEmpty,
        "kubernetes-service-memory-request",
        "KUBERNETES_SERVICE_MEMORY_REQUEST",
    ),
    flagged(
        "service_memory_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-service-memory-request-overwrite-max-allowed",
        "KUBERNETES_SERVICE_MEMORY_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "service_ephemeral_storage_limit",
        Text,
        IfNotEmpty,
        "kubernetes-service-ephemeral_storage-limit",
        "KUBERNETES_SERVICE_EPHEMERAL_STORAGE_LIMIT",
    ),
    flagged(
        "service_ephemeral_storage_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-service-ephemeral_storage-limit-overwrite-max-allowed",
        "KUBERNETES_SERVICE_EPHEMERAL_STORAGE_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "service_ephemeral_storage_request",
        Text,
        IfNotEmpty,
        "kubernetes-service-ephemeral_storage-request",
        "KUBERNETES_SERVICE_EPHEMERAL_STORAGE_REQUEST",
    ),
    flagged(
        "service_ephemeral_storage_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-service-ephemeral_storage-request-overwrite-max-allowed",
        "KUBERNETES_SERVICE_EPHEMERAL_STORAGE_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "helper_cpu_limit",
        Text,
        IfNotEmpty,
        "kubernetes-helper-cpu-limit",
        "KUBERNETES_HELPER_CPU_LIMIT",
    ),
    flagged(
        "helper_cpu_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-helper-cpu-limit-overwrite-max-allowed",
        "KUBERNETES_HELPER_CPU_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "helper_cpu_request",
        Text,
        IfNotEmpty,
        "kubernetes-helper-cpu-request",
        "KUBERNETES_HELPER_CPU_REQUEST",
    ),
    flagged(
        "helper_cpu_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-helper-cpu-request-overwrite-max-allowed",
        "KUBERNETES_HELPER_CPU_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "helper_memory_limit",
        Text,
        IfNotEmpty,
        "kubernetes-helper-memory-limit",
        "KUBERNETES_HELPER_MEMORY_LIMIT",
    ),
    flagged(
        "helper_memory_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-helper-memory-limit-overwrite-max-allowed",
        "KUBERNETES_HELPER_MEMORY_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "helper_memory_request",
        Text,
        IfNotEmpty,
        "kubernetes-helper-memory-request",
        "KUBERNETES_HELPER_MEMORY_REQUEST",
    ),
    flagged(
        "helper_memory_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-helper-memory-request-overwrite-max-allowed",
        "KUBERNETES_HELPER_MEMORY_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "helper_ephemeral_storage_limit",
        Text,
        IfNotEmpty,
        "kubernetes-helper-ephemeral_storage-limit",
        "KUBERNETES_HELPER_EPHEMERAL_STORAGE_LIMIT",
    ),
    flagged(
        "helper_ephemeral_storage_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-helper-ephemeral_storage-limit-overwrite-max-allowed",
        "KUBERNETES_HELPER_EPHEMERAL_STORAGE_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "helper_ephemeral_storage_request",
        Text,
        IfNotEmpty,
        "kubernetes-helper-ephemeral_storage-request",
        "KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST",
    ),
    flagged(
        "helper_ephemeral_storage_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-helper-ephemeral_storage-request-overwrite-max-allowed",
        "KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "pod_cpu_limit",
        Text,
        IfNotEmpty,
        "kubernetes-pod-cpu-limit",
        "KUBERNETES_POD_CPU_LIMIT",
    ),
    flagged(
        "pod_cpu_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-pod-cpu-limit-overwrite-max-allowed",
        "KUBERNETES_POD_CPU_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "pod_cpu_request",
        Text,
        IfNotEmpty,
        "kubernetes-pod-cpu-request",
        "KUBERNETES_POD_CPU_REQUEST",
    ),
    flagged(
        "pod_cpu_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-pod-cpu-request-overwrite-max-allowed",
        "KUBERNETES_POD_CPU_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "pod_memory_limit",
        Text,
        IfNotEmpty,
        "kubernetes-pod-memory-limit",
        "KUBERNETES_POD_MEMORY_LIMIT",
    ),
    flagged(
        "pod_memory_limit_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-pod-memory-limit-overwrite-max-allowed",
        "KUBERNETES_POD_MEMORY_LIMIT_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "pod_memory_request",
        Text,
        IfNotEmpty,
        "kubernetes-pod-memory-request",
        "KUBERNETES_POD_MEMORY_REQUEST",
    ),
    flagged(
        "pod_memory_request_overwrite_max_allowed",
        Text,
        IfNotEmpty,
        "kubernetes-pod-memory-request-overwrite-max-allowed",
        "KUBERNETES_POD_MEMORY_REQUEST_OVERWRITE_MAX_ALLOWED",
    ),
    flagged(
        "allowed_images",
        Texts,
        IfNotEmpty,
        "kubernetes-allowed-images",
        "KUBERNETES_ALLOWED_IMAGES",
    ),
    flagged(
        "allowed_pull_policies",
        Texts,
        IfNotEmpty,
        "kubernetes-allowed-pull-policies",
        "KUBERNETES_ALLOWED_PULL_POLICIES",
    ),
    flagged(
        "allowed_services",
        Texts,
        IfNotEmpty,
        "kubernetes-allowed-services",
        "KUBERNETES_ALLOWED_SERVICES",
    ),
    flagged(
        "allowed_users",
        Texts,
        IfNotEmpty,
        "kubernetes-allowed-users",
        "KUBERNETES_ALLOWED_USERS",
    ),
    flagged(
        "allowed_groups",
        Texts,
        IfNotEmpty,
        "kubernetes-allowed-groups",
        "KUBERNETES_ALLOWED_GROUPS",
    ),
    flagged(
        "pull_policy",
        TextOrTexts,
        IfNotEmpty,
        "kubernetes-pull-policy",
        "KUBERNETES_PULL_POLICY",
    ),
    flagged(
        "node_selector",
        TextMap,
        IfNotEmpty,
        "kubernetes-node-selector",
        "KUBERNETES_NODE_SELECTOR",
    ),
    flagged(
        "node_selector_overwrite_allowed",
        Text,
        Always,
        "kubernetes-node_selector_overwrite_allowed",
        "KUBERNETES_NODE_SELECTOR_OVERWRITE_ALLOWED",
    ),
    flagged(
        "node_tolerations",
        TextMap,
        IfNotEmpty,
        "kubernetes-node-tolerations",
        "KUBERNETES_NODE_TOLERATIONS",
    ),
    flagged(
        "node_tolerations_overwrite_allowed",
        Text,
        Always,
        "kubernetes-node_tolerations_overwrite_allowed",
        "KUBERNETES_NODE_TOLERATIONS_OVERWRITE_ALLOWED",
    ),
    key("affinity", Table(AFFINITY), IfNotEmpty),
    flagged(
        "image_pull_secrets",
        Texts,
        IfNotEmpty,
        "kubernetes-image-pull-secrets",
        "KUBERNETES_IMAGE_PULL_SECRETS",
    ),
    flagged(
        "use_service_account_image_pull_secrets",
        Bool,
        IfNotEmpty,
        "kubernetes-use-service-account-image-pull-secrets",
        "KUBERNETES_USE_SERVICE_ACCOUNT_IMAGE_PULL_SECRETS",
    ),
    flagged(
        "helper_image",
        Text,
        IfNotEmpty,
        "kubernetes-helper-image",
        "KUBERNETES_HELPER_IMAGE",
    ),
    flagged(
        "helper_image_flavor",
        Text,
        IfNotEmpty,
        "kubernetes-helper-image-flavor",
        "KUBERNETES_HELPER_IMAGE_FLAVOR",
    ),
    flagged(
        "helper_image_autoset_arch_and_os",
        Bool,
        IfNotEmpty,
        "kubernetes-helper-image-autoset-arch-and-os",
        "KUBERNETES_HELPER_IMAGE_AUTOSET_ARCH_AND_OS",
    ),
    flagged(
        "pod_termination_grace_period_seconds",
        OptionalInt,
        IfNotEmpty,
        "kubernetes-pod_termination_grace_period_seconds",
        "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS",
    ),
    flagged(
        "cleanup_grace_period_seconds",
        OptionalInt,
        IfSet,
        "kubernetes-cleanup_grace_period_seconds",
        "KUBERNETES_CLEANUP_GRACE_PERIOD_SECONDS",
    ),
    flagged(
        "cleanup_resources_timeout",
        OptionalDuration,
        IfNotEmpty,
        "kubernetes-cleanup_resources_timeout",
        "KUBERNETES_CLEANUP_RESOURCES_TIMEOUT",
    ),
    flagged(
        "poll_interval",
        Int,
        IfNotEmpty,
        "kubernetes-poll-interval",
        "KUBERNETES_POLL_INTERVAL",
    ),
    flagged(
        "poll_timeout",
        Int,
        IfNotEmpty,
        "kubernetes-poll-timeout",
        "KUBERNETES_POLL_TIMEOUT",
    ),
    flagged(
        "resource_availability_check_max_attempts",
        Int,
        IfNotEmpty,
        "kubernetes-resource-availability-check-max-attempts",
        "KUBERNETES_RESOURCE_AVAILABILITY_CHECK_MAX_ATTEMPTS",
    ),
    flagged(
        "retry_limit",
        Int,
        IfNotEmpty,
        "kubernetes-retry-limit",
        "KUBERNETES_REQUEST_RETRY_LIMIT",
    ),
    flagged(
        "retry_backoff_max",
        Int,
        IfNotEmpty,
        "kubernetes-retry-backoff-max",
        "KUBERNETES_REQUEST_RETRY_BACKOFF_MAX",
    ),
    flagged(
        "retry_limits",
        IntMap,
        IfSet,
        "kubernetes-retry-limits",
        "KUBERNETES_RETRY_LIMITS",
    ),
    flagged(
        "pod_labels",
        TextMap,
        IfNotEmpty,
        "kubernetes-pod-labels",
        "",
    ),
    flagged(
        "pod_labels_overwrite_allowed",
        Text,
        Always,
        "kubernetes-pod_labels_overwrite_allowed",
        "KUBERNETES_POD_LABELS_OVERWRITE_ALLOWED",
    ),
    flagged(
        "scheduler_name",
        Text,
        IfNotEmpty,
        "kubernetes-scheduler-name",
        "KUBERNETES_SCHEDULER_NAME",
    ),
    flagged(
        "service_account",
        Text,
        IfNotEmpty,
        "kubernetes-service-account",
        "KUBERNETES_SERVICE_ACCOUNT",
    ),
    flagged(
        "service_account_overwrite_allowed",
        Text,
        Always,
        "kubernetes-service_account_overwrite_allowed",
        "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE_ALLOWED",
    ),
    flagged(
        "automount_service_account_token",
        OptionalBool,
        IfSet,
        "kubernetes-automount-service-account-token",
        "KUBERNETES_AUTOMOUNT_SERVICE_ACCOUNT_TOKEN",
    ),
    flagged(
        "pod_annotations",
        TextMap,
        IfNotEmpty,
        "kubernetes-pod-annotations",
        "",
    ),
    flagged(
        "pod_annotations_overwrite_allowed",
        Text,
        Always,
        "kubernetes-pod_annotations_overwrite_allowed",
        "KUBERNETES_POD_ANNOTATIONS_OVERWRITE_ALLOWED",
    ),
    flagged(
        "pod_security_context",
        Table(POD_SECURITY_CONTEXT),
        IfNotEmpty,
        "kubernetes-pod-security-context",
        "KUBERNETES_POD_SECURITY_CONTEXT",
    ),
    flagged(
        "init_permissions_container_security_context",
        Table(CONTAINER_SECURITY_CONTEXT),
        IfNotEmpty,
        "kubernetes-init_permissions_container_security_context",
        "KUBERNETES_INIT_PERMISSIONS_CONTAINER_SECURITY_CONTEXT",
    ),
    flagged(
        "build_container_security_context",
        Table(CONTAINER_SECURITY_CONTEXT),
        IfNotEmpty,
        "kubernetes-build_container_security_context",
        "KUBERNETES_BUILD_CONTAINER_SECURITY_CONTEXT",
    ),
    flagged(
        "helper_container_security_context",
        Table(CONTAINER_SECURITY_CONTEXT),
        IfNotEmpty,
        "kubernetes-helper_container_security_context",
        "KUBERNETES_HELPER_CONTAINER_SECURITY_CONTEXT",
    ),
    flagged(
        "service_container_security_context",
        Table(CONTAINER_SECURITY_CONTEXT),
        IfNotEmpty,
        "kubernetes-service_container_security_context",
        "KUBERNETES_SERVICE_CONTAINER_SECURITY_CONTEXT",
    ),
    key("volumes", Table(VOLUMES), Always),
    flagged(
        "host_aliases",
        Tables(HOST_ALIASES),
        IfNotEmpty,
        "kubernetes-host_aliases",
        "",
    ),
    key("services", Tables(SERVICES), IfNotEmpty),
    flagged(
        "cap_add",
        Texts,
        IfSet,
        "kubernetes-cap-add",
        "KUBERNETES_CAP_ADD",
    ),
    flagged(
        "cap_drop",
        Texts,
        IfSet,
        "kubernetes-cap-drop",
        "KUBERNETES_CAP_DROP",
    ),
    flagged(
        "suspend_pvc_size",
        Text,
        IfNotEmpty,
        "kubernetes-suspend-pvc-size",
        "KUBERNETES_SUSPEND_PVC_SIZE",
    ),
    flagged(
        "suspend_pvc_storage_class",
        Text,
        IfNotEmpty,
        "kubernetes-suspend-pvc-storage-class",
        "KUBERNETES_SUSPEND_PVC_STORAGE_CLASS",
    ),
    flagged(
        "dns_policy",
        Text,
        IfNotEmpty,
        "kubernetes-dns-policy",
        "KUBERNETES_DNS_POLICY",
    ),
    key("dns_config", Table(DNS_CONFIG), Always),
    key("container_lifecycle", Table(LIFECYCLE), IfNotEmpty),
    flagged(
        "priority_class_name",
        Text,
        IfNotEmpty,
        "kubernetes-priority_class_name",
        "KUBERNETES_PRIORITY_CLASS_NAME",
    ),
    key("pod_spec", Tables(POD_SPEC), IfSet),
    flagged(
        "logs_base_dir",
        Text,
        IfNotEmpty,
        "kubernetes-logs-base-dir",
        "KUBERNETES_LOGS_BASE_DIR",
    ),
    flagged(
        "scripts_base_dir",
        Text,
        IfNotEmpty,
        "kubernetes-scripts-base-dir",
        "KUBERNETES_SCRIPTS_BASE_DIR",
    ),
    flagged(
        "print_pod_warning_events",
        OptionalBool,
        IfSet,
        "kubernetes-print-pod-warning-events",
        "KUBERNETES_PRINT_POD_WARNING_EVENTS",
    ),
    flagged(
        "pod_disruption_budget",
        OptionalBool,
        IfSet,
        "kubernetes-pod-disruption-budget",
        "KUBERNETES_POD_DISRUPTION_BUDGET",
    ),
    key("autoscaler", Table(PAUSE_PODS), IfSet),
];

/// `[runners.kubernetes.pod_security_context]`. Flags and variables of the security contexts are suffixes.
const POD_SECURITY_CONTEXT: &[Key] = &[
    flagged("fs_group", OptionalInt, IfSet, "-fs-group", "_FS_GROUP"),
    flagged(
        "run_as_group",
        OptionalInt,
        IfSet,
        "-run-as-group",
        "_RUN_AS_GROUP",
    ),
    flagged(
        "run_as_non_root",
        OptionalBool,
        IfSet,
        "-run-as-non-root",
        "_RUN_AS_NON_ROOT",
    ),
    flagged(
        "run_as_user",
        OptionalInt,
        IfSet,
        "-run-as-user",
        "_RUN_AS_USER",
    ),
    flagged(
        "supplemental_groups",
        Ints,
        IfNotEmpty,
        "-supplemental-groups",
        "",
    ),
    flagged("selinux_type", Text, IfNotEmpty, "-selinux-type", ""),
    flagged(
        "seccomp_profile",
        Table(PROFILE),
        IfSet,
        "-seccomp_profile",
        "_SECCOMP_PROFILE",
    ),
    flagged(
        "app_armor_profile",
        Table(PROFILE),
        IfSet,
        "-app_armor_profile",
        "_APP_ARMOR_PROFILE",
    ),
];

/// Profiles of a security context.
const PROFILE: &[Key] = &[
    flagged("type", Text, IfNotEmpty, "-type", "_TYPE"),
    flagged(
        "localhost_profile",
        Text,
        IfNotEmpty,
        "-localhost-profile",
        "_LOCALHOST_PROFILE",
    ),
];

/// The four container contexts.
const CONTAINER_SECURITY_CONTEXT: &[Key] = &[
    flagged(
        "capabilities",
        Table(CAPABILITIES),
        IfSet,
        "-capabilities",
        "_CAPABILITIES",
    ),
    flagged(
        "privileged",
        OptionalBool,
        IfSet,
        "-privileged",
        "_PRIVILEGED",
    ),
    flagged(
        "run_as_user",
        OptionalInt,
        IfSet,
        "-run-as-user",
        "_RUN_AS_USER",
    ),
    flagged(
        "run_as_group",
        OptionalInt,
        IfSet,
        "-run-as-group",
        "_RUN_AS_GROUP",
    ),
    flagged(
        "run_as_non_root",
        OptionalBool,
        IfSet,
        "-run-as-non-root",
        "_RUN_AS_NON_ROOT",
    ),
    flagged(
        "read_only_root_filesystem",
        OptionalBool,
        IfSet,
        "-read-only-root-filesystem",
        "_READ_ONLY_ROOT_FILESYSTEM",
    ),
    flagged(
        "allow_privilege_escalation",
        OptionalBool,
        IfSet,
        "-allow-privilege-escalation",
        "_ALLOW_PRIVILEGE_ESCALATION",
    ),
    flagged("selinux_type", Text, IfNotEmpty, "-selinux-type", ""),
    flagged("proc_mount", Text, IfNotEmpty, "-proc-mount", "_PROC_MOUNT"),
    flagged(
        "seccomp_profile",
        Table(PROFILE),
        IfSet,
        "-seccomp_profile",
        "_SECCOMP_PROFILE",
    ),
    flagged(
        "app_armor_profile",
        Table(PROFILE),
        IfSet,
        "-app_armor_profile",
        "_APP_ARMOR_PROFILE",
    ),
];

/// Capabilities of a container context.
const CAPABILITIES: &[Key] = &[
    flagged("add", Texts, IfSet, "-add", "_ADD"),
    flagged("drop", Texts, IfSet, "-drop", "_DROP"),
];

/// `[runners.kubernetes.volumes]`.
const VOLUMES: &[Key] = &[
    key("host_path", Tables(HOST_PATH), IfSet),
    key("pvc", Tables(PVC), IfSet),
    key("config_map", Tables(CONFIG_MAP), IfSet),
    key("secret", Tables(SECRET), IfSet),
    key("empty_dir", Tables(EMPTY_DIR), IfSet),
    key("csi", Tables(CSI), IfSet),
    key("nfs", Tables(NFS), IfSet),
];

/// `[[runners.kubernetes.volumes.host_path]]`.
const HOST_PATH: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("read_only", Bool, IfNotEmpty),
    key("host_path", Text, IfNotEmpty),
    key("mount_propagation", OptionalText, IfSet),
];

/// `[[runners.kubernetes.volumes.pvc]]`.
const PVC: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("read_only", Bool, IfNotEmpty),
    key("mount_propagation", OptionalText, IfSet),
];

/// `[[runners.kubernetes.volumes.config_map]]`.
const CONFIG_MAP: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("read_only", Bool, IfNotEmpty),
    key("items", TextMap, IfNotEmpty),
];

/// `[[runners.kubernetes.volumes.secret]]`.
const SECRET: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("read_only", Bool, IfNotEmpty),
    key("items", TextMap, IfNotEmpty),
];

/// `[[runners.kubernetes.volumes.empty_dir]]`.
const EMPTY_DIR: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("medium", Text, IfNotEmpty),
    key("size_limit", Text, IfNotEmpty),
    key("mount_propagation", OptionalText, IfSet),
];

/// `[[runners.kubernetes.volumes.csi]]`.
const CSI: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("driver", Text, Always),
    key("fs_type", Text, Always),
    key("read_only", Bool, IfNotEmpty),
    key("volume_attributes", TextMap, IfNotEmpty),
];

/// `[[runners.kubernetes.volumes.nfs]]`.
const NFS: &[Key] = &[
    key("name", Text, Always),
    key("mount_path", Text, Always),
    key("sub_path", Text, IfNotEmpty),
    key("server", Text, Always),
    key("path", Text, Always),
    key("read_only", Bool, IfNotEmpty),
];

/// `[runners.kubernetes.affinity]`.
const AFFINITY: &[Key] = &[
    key("node_affinity", Table(NODE_AFFINITY), IfSet),
    key("pod_affinity", Table(POD_AFFINITY), IfSet),
    key("pod_anti_affinity", Table(POD_AFFINITY), IfSet),
];

/// Node affinity.
const NODE_AFFINITY: &[Key] = &[
    key(
        "required_during_scheduling_ignored_during_execution",
        Table(NODE_SELECTOR),
        IfSet,
    ),
    key(
        "preferred_during_scheduling_ignored_during_execution",
        Tables(PREFERRED_TERM),
        IfNotEmpty,
    ),
];

/// Pod affinity and anti-affinity.
const POD_AFFINITY: &[Key] = &[
    key(
        "required_during_scheduling_ignored_during_execution",
        Tables(POD_TERM),
        IfNotEmpty,
    ),
    key(
        "preferred_during_scheduling_ignored_during_execution",
        Tables(WEIGHTED_POD_TERM),
        IfNotEmpty,
    ),
];

/// Node selector.
const NODE_SELECTOR: &[Key] = &[key("node_selector_terms", Tables(NODE_TERM), IfSet)];

/// Preferred scheduling term.
const PREFERRED_TERM: &[Key] = &[
    key("weight", Int, Always),
    key("preference", Table(NODE_TERM), Always),
];

/// Weighted pod affinity term.
const WEIGHTED_POD_TERM: &[Key] = &[
    key("weight", Int, Always),
    key("pod_affinity_term", Table(POD_TERM), Always),
];

/// Node selector term.
const NODE_TERM: &[Key] = &[
    key("match_expressions", Tables(REQUIREMENT), IfNotEmpty),
    key("match_fields", Tables(REQUIREMENT), IfNotEmpty),
];

/// Requirement.
const REQUIREMENT: &[Key] = &[
    key("key", Text, IfNotEmpty),
    key("operator", Text, IfNotEmpty),
    key("values", Texts, IfNotEmpty),
];

/// Pod affinity term.
const POD_TERM: &[Key] = &[
    key("label_selector", Table(LABEL_SELECTOR), IfSet),
    key("namespaces", Texts, IfNotEmpty),
    key("topology_key", Text, IfNotEmpty),
    key("namespace_selector", Table(LABEL_SELECTOR), IfSet),
    key("match_label_keys", Texts, IfNotEmpty),
    key("mismatch_label_keys", Texts, IfNotEmpty),
];

/// Label selector.
const LABEL_SELECTOR: &[Key] = &[
    key("match_labels", TextMap, IfNotEmpty),
    key("match_expressions", Tables(REQUIREMENT), IfNotEmpty),
];

/// `[[runners.kubernetes.host_aliases]]`.
const HOST_ALIASES: &[Key] = &[key("ip", Text, Always), key("hostnames", Texts, IfSet)];

/// `[runners.kubernetes.dns_config]`.
const DNS_CONFIG: &[Key] = &[
    key("nameservers", Texts, IfSet),
    key("options", Tables(DNS_OPTIONS), IfSet),
    key("searches", Texts, IfSet),
];

/// `[[runners.kubernetes.dns_config.options]]`.
const DNS_OPTIONS: &[Key] = &[key("name", Text, Always), key("value", OptionalText, IfSet)];

/// `[runners.kubernetes.container_lifecycle]`.
const LIFECYCLE: &[Key] = &[
    key("post_start", Table(HANDLER), IfSet),
    key("pre_stop", Table(HANDLER), IfSet),
];

/// `post_start` and `pre_stop`.
const HANDLER: &[Key] = &[
    key("exec", Table(EXEC), IfSet),
    key("http_get", Table(HTTP_GET), IfSet),
    key("tcp_socket", Table(TCP_SOCKET), IfSet),
];

/// `exec` of a handler.
const EXEC: &[Key] = &[key("command", Texts, IfSet)];

/// `http_get` of a handler.
const HTTP_GET: &[Key] = &[
    key("host", Text, Always),
    key("http_headers", Tables(HTTP_HEADERS), IfSet),
    key("path", Text, Always),
    key("port", Int, Always),
    key("scheme", Text, Always),
];

/// `http_headers` of a handler.
const HTTP_HEADERS: &[Key] = &[key("name", Text, Always), key("value", Text, Always)];

/// `tcp_socket` of a handler.
const TCP_SOCKET: &[Key] = &[key("host", Text, Always), key("port", Int, Always)];

/// `[[runners.kubernetes.pod_spec]]`.
const POD_SPEC: &[Key] = &[
    key("name", Text, Always),
    key("patch_path", Text, Always),
    key("patch", Text, Always),
    key("patch_type", Text, Always),
];

/// `[runners.kubernetes.autoscaler]`.
const PAUSE_PODS: &[Key] = &[
    key("max_pause_pods", Int, Always),
    key("pause_pod_image", Text, IfNotEmpty),
    key("pause_pod_priority_class_name", Text, IfNotEmpty),
    key("policy", Tables(POLICY), IfNotEmpty),
    key("pause_pod_image_pull_secrets", Texts, IfNotEmpty),
];
