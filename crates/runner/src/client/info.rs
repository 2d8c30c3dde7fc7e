//! How this runner describes itself (`runner-protocol.md` 2.1).

use courser_config::RunnerConfig;
use courser_protocol::{Features, Info};

/// The `info` of a configured runner. Only what works is advertised: the server hands out jobs and
/// cancels by it.
pub fn of_runner(runner: &RunnerConfig) -> Info {
    let shell = if runner.shell.is_empty() && runner.executor == "shell" {
        "bash".to_owned()
    } else {
        runner.shell.clone()
    };
    let features = match runner.executor.as_str() {
        "shell" => Features {
            variables: true,
            shared: true,
            artifacts: true,
            upload_multiple_artifacts: true,
            upload_raw_artifacts: true,
            cache: true,
            fallback_cache_keys: true,
            refspecs: true,
            masking: true,
            raw_variables: true,
            artifacts_exclude: true,
            multi_build_steps: true,
            return_exit_code: true,
            ..of_network()
        },
        _ => of_network(),
    };
    Info {
        executor: runner.executor.clone(),
        shell,
        features,
        labels: runner.labels.clone(),
        ..Info::of_this_program()
    }
}

/// The `info` of a registration: nothing is configured yet (2.2).
pub fn of_nobody() -> Info {
    Info {
        features: of_network(),
        ..Info::of_this_program()
    }
}

/// What the client side of the API does for every executor.
fn of_network() -> Features {
    Features {
        trace_reset: true,
        trace_checksum: true,
        trace_size: true,
        cancelable: true,
        cancel_gracefully: true,
        two_phase_job_commit: true,
        ..Features::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_runner_names_its_default_shell_and_what_works() {
        let info = of_runner(&RunnerConfig {
            executor: "shell".to_owned(),
            ..RunnerConfig::default()
        });
        assert_eq!(
            (info.executor.as_str(), info.shell.as_str()),
            ("shell", "bash")
        );
        assert!(info.features.cache && info.features.cancel_gracefully);
        // Not built yet, so not promised.
        assert!(!info.features.vault_secrets && !info.features.image && !info.features.terminal);
    }

    #[test]
    fn a_registration_promises_no_more_than_the_client_does() {
        let info = of_nobody();
        assert!(info.features.two_phase_job_commit && !info.features.variables);
        assert_eq!(info.executor, "");
    }
}
