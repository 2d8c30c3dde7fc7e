//! Every feature flag of gitlab-runner 19.4: name, default, and what Courser does with it.
//!
//! Facts: `runner-protocol.md` 4.5, `runner-config.md` 16.

/// One feature flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureFlag {
    /// `FF_…`.
    pub name: &'static str,
    /// Value where nothing is set.
    pub default: bool,
    /// Upstream is about to remove it.
    pub deprecated: bool,
    /// Read outside a job: only `[runners.feature_flags]` counts.
    pub runner_only: bool,
    /// What it does in Courser, one sentence; begins with `No effect` where it does nothing.
    pub effect: &'static str,
}

impl FeatureFlag {
    const fn on(name: &'static str, effect: &'static str) -> Self {
        Self {
            name,
            default: true,
            deprecated: false,
            runner_only: false,
            effect,
        }
    }

    const fn off(name: &'static str, effect: &'static str) -> Self {
        Self {
            default: false,
            ..Self::on(name, effect)
        }
    }

    const fn deprecated(self) -> Self {
        Self {
            deprecated: true,
            ..self
        }
    }

    const fn runner_only(self) -> Self {
        Self {
            runner_only: true,
            ..self
        }
    }
}

/// The table, in upstream's order: the order in which a job's log lists them.
pub const ALL: &[FeatureFlag] = &[
    FeatureFlag::off(
        "FF_TEST_FEATURE",
        "Nothing; upstream uses it in its own tests.",
    )
    .deprecated(),
    FeatureFlag::off(
        "FF_NETWORK_PER_BUILD",
        "Docker: each job has a network of its own, in which its containers find each other by name.",
    ),
    FeatureFlag::off(
        "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::on(
        "FF_USE_DIRECT_DOWNLOAD",
        "The first try of an artifact download asks for a redirect to object storage.",
    ),
    FeatureFlag::on(
        "FF_USE_FASTZIP",
        "No effect: there is one zip implementation, and it is the fast one.",
    )
    .deprecated(),
    FeatureFlag::off(
        "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR",
        "No effect yet: the docker executor does not change the owner of files.",
    ),
    FeatureFlag::off(
        "FF_ENABLE_BASH_EXIT_CODE_CHECK",
        "Checks the exit code after each command besides set -e.",
    ),
    FeatureFlag::off(
        "FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY",
        "No effect yet: Windows is not tested.",
    ),
    FeatureFlag::off(
        "FF_USE_LEGACY_BASH_EVAL",
        "Runs the script by eval in a pipeline instead of a subshell with a trap.",
    ),
    FeatureFlag::off(
        "FF_USE_POWERSHELL_PATH_RESOLVER",
        "No effect: paths in PowerShell scripts are written as the runner knows them.",
    ),
    FeatureFlag::off(
        "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL",
        "The interval for sending an unchanged log follows the one the server sets.",
    )
    .runner_only(),
    FeatureFlag::off(
        "FF_SCRIPT_SECTIONS",
        "Multi-line commands become sections of the log.",
    ),
    FeatureFlag::off(
        "FF_ENABLE_JOB_CLEANUP",
        "Cleans the project directory after the job.",
    ),
    FeatureFlag::off(
        "FF_KUBERNETES_HONOR_ENTRYPOINT",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::off(
        "FF_POSIXLY_CORRECT_ESCAPES",
        "Quotes texts in scripts by POSIX rules instead of ANSI-C quoting.",
    ),
    FeatureFlag::off(
        "FF_RESOLVE_FULL_TLS_CHAIN",
        "The certificate chain that a job gets is completed by fetching the issuers that its certificates name.",
    )
    .runner_only(),
    FeatureFlag::off(
        "FF_DISABLE_POWERSHELL_STDIN",
        "PowerShell is handed its scripts as files instead of on standard input.",
    ),
    FeatureFlag::on(
        "FF_USE_POD_ACTIVE_DEADLINE_SECONDS",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::off(
        "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::on(
        "FF_SECRET_RESOLVING_FAILS_IF_MISSING",
        "A secret that is missing fails the job; off: it is empty.",
    ),
    FeatureFlag::off(
        "FF_PRINT_POD_EVENTS",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::on("FF_USE_GIT_BUNDLE_URIS", "Sets transfer.bundleURI for Git."),
    FeatureFlag::off(
        "FF_USE_GIT_NATIVE_CLONE",
        "The strategy clone calls git clone, where Git is 2.49 or later.",
    ),
    FeatureFlag::off(
        "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::off(
        "FF_USE_INIT_WITH_DOCKER_EXECUTOR",
        "Docker: process 1 of the build container and of services is the engine's own, which reaps orphans.",
    ),
    FeatureFlag::off(
        "FF_LOG_IMAGES_CONFIGURED_FOR_JOB",
        "No effect yet: it belongs to executors with images, which are not built.",
    ),
    FeatureFlag::on(
        "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO",
        "No effect yet: it belongs to the docker-autoscaler executor, which is not built.",
    ),
    FeatureFlag::off(
        "FF_CLEAN_UP_FAILED_CACHE_EXTRACT",
        "What a failed cache extraction left at the paths of the cache is removed.",
    ),
    FeatureFlag::off(
        "FF_USE_WINDOWS_JOB_OBJECT",
        "No effect yet: Windows is not tested.",
    ),
    FeatureFlag::on("FF_TIMESTAMPS", "Puts timestamps in front of log lines."),
    FeatureFlag::off(
        "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION",
        "No effect yet: tokens are not rotated automatically.",
    )
    .runner_only(),
    FeatureFlag::off(
        "FF_USE_LEGACY_GCS_CACHE_ADAPTER",
        "No effect yet: remote caches are not built.",
    ),
    FeatureFlag::off(
        "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::off(
        "FF_USE_LEGACY_S3_CACHE_ADAPTER",
        "No effect yet: remote caches are not built.",
    ),
    FeatureFlag::off(
        "FF_GIT_URLS_WITHOUT_TOKENS",
        "URLs hold no job token; a credential helper reads it from the environment.",
    ),
    FeatureFlag::off(
        "FF_WAIT_FOR_POD_TO_BE_REACHABLE",
        "No effect yet: it belongs to the kubernetes executor, which is not built.",
    ),
    FeatureFlag::on(
        "FF_MASK_ALL_DEFAULT_TOKENS",
        "Masks all known token patterns in the log.",
    ),
    FeatureFlag::off(
        "FF_EXPORT_HIGH_CARDINALITY_METRICS",
        "No effect yet: metrics are not built.",
    ),
    FeatureFlag::off(
        "FF_USE_FLEETING_ACQUIRE_HEARTBEATS",
        "No effect yet: autoscaling is not built.",
    )
    .runner_only(),
    FeatureFlag::on(
        "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
        "Waits between retries of a stage grow from 5 s to 5 min.",
    ),
    FeatureFlag::on(
        "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY",
        "request_concurrency is the ceiling of a limit that adapts.",
    )
    .runner_only(),
    FeatureFlag::on(
        "FF_USE_GITALY_CORRELATION_ID",
        "Git sends the header X-Gitaly-Correlation-ID.",
    ),
    FeatureFlag::off(
        "FF_USE_GIT_PROACTIVE_AUTH",
        "Git sends credentials before it is asked for them.",
    ),
    FeatureFlag::off(
        "FF_HASH_CACHE_KEYS",
        "Uses the SHA-256 of cache keys as names.",
    ),
    FeatureFlag::on(
        "FF_ENABLE_JOB_INPUTS_INTERPOLATION",
        "Job inputs are interpolated in scripts, images, artifacts and caches.",
    ),
    FeatureFlag::off(
        "FF_USE_JOB_ROUTER",
        "No effect yet: jobs are asked for over HTTP only.",
    )
    .runner_only(),
    FeatureFlag::off(
        "FF_SCRIPT_TO_STEP_MIGRATION",
        "No effect yet: the step runner is not built.",
    ),
    FeatureFlag::off(
        "FF_USE_PARALLEL_CACHE_TRANSFER",
        "No effect yet: remote caches are not built.",
    ),
    FeatureFlag::off(
        "FF_USE_PARALLEL_ARTIFACT_TRANSFER",
        "No effect yet: artifacts are downloaded in one stream.",
    ),
    FeatureFlag::off(
        "FF_CONCRETE",
        "No effect yet: the step runner is not built.",
    ),
    FeatureFlag::off(
        "FF_SUSPENDABLE_ENVIRONMENTS",
        "No effect yet: environments are not suspended.",
    ),
    FeatureFlag::off(
        "FF_USE_NATIVE_CONTAINER_STOP",
        "Docker: the processes of a stage that is stopped get no signal before the engine's.",
    ),
];

/// Looks a flag up by name.
pub fn find(name: &str) -> Option<&'static FeatureFlag> {
    ALL.iter().find(|flag| flag.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_complete_and_has_no_name_twice() {
        let names: BTreeSet<_> = ALL.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(ALL.len(), 52);
        assert_eq!(ALL.iter().filter(|flag| flag.default).count(), 12);
    }

    #[test]
    fn every_effect_is_a_sentence() {
        for flag in ALL {
            assert!(flag.name.starts_with("FF_"), "{}", flag.name);
            assert!(flag.effect.ends_with('.'), "{}", flag.name);
        }
    }

    #[test]
    fn flags_are_found_by_their_exact_name() {
        assert_eq!(find("FF_TIMESTAMPS").map(|flag| flag.default), Some(true));
        assert_eq!(find("ff_timestamps"), None);
    }
}
