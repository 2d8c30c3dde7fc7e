//! How this runner describes itself (`runner-protocol.md` 2.1).

use courser_config::RunnerConfig;
use courser_executor::Executors;
use courser_protocol::{Features, Info, InfoConfig};

/// The `info` of a configured runner. Only what works is advertised: the server hands out jobs and
/// cancels by it.
pub fn of_runner(runner: &RunnerConfig, executors: &Executors) -> Info {
    let shell = match (runner.shell.as_str(), runner.executor.as_str()) {
        ("", "shell" | "docker") => "bash",
        (shell, _) => shell,
    };
    let docker = runner
        .docker
        .as_ref()
        .filter(|_| runner.executor == "docker");
    let gpus = docker.and_then(|docker| docker.gpus.as_ref());
    Info {
        executor: runner.executor.clone(),
        shell: shell.to_owned(),
        config: InfoConfig {
            gpus: gpus.map_or_else(String::new, |gpus| gpus.text.clone()),
        },
        features: with_network(executors.features_of(&runner.executor)),
        labels: runner.labels.clone(),
        ..Info::of_this_program()
    }
}

/// The `info` of a registration: nothing is configured yet (2.2).
pub fn of_nobody() -> Info {
    Info {
        features: with_network(Features::default()),
        ..Info::of_this_program()
    }
}

/// Adds what the client side of the API does for every executor.
fn with_network(features: Features) -> Features {
    Features {
        trace_reset: true,
        trace_checksum: true,
        trace_size: true,
        cancelable: true,
        cancel_gracefully: true,
        two_phase_job_commit: true,
        job_inputs: true,
        vault_secrets: true,
        ..features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_runner_names_its_default_shell_and_what_works() {
        let runner = RunnerConfig {
            executor: "shell".to_owned(),
            ..RunnerConfig::default()
        };
        let info = of_runner(&runner, &Executors::shell());
        assert_eq!(
            (info.executor.as_str(), info.shell.as_str()),
            ("shell", "bash")
        );
        assert!(info.features.cache && info.features.cancel_gracefully);
        assert!(info.features.vault_secrets);
        // Not built yet, so not promised.
        assert!(!info.features.image && !info.features.terminal);
    }

    #[test]
    fn a_registration_promises_no_more_than_the_client_does() {
        let info = of_nobody();
        assert!(info.features.two_phase_job_commit && !info.features.variables);
        assert_eq!(info.executor, "");
    }

    #[test]
    fn a_docker_runner_tells_its_gpus_and_others_do_not() {
        for (executor, gpus) in [("docker", "all"), ("shell", "")] {
            let text = format!(
                "[[runners]]\nexecutor = {executor:?}\n[runners.docker]\ngpus = \" all \"\n"
            );
            let environment = courser_config::Environment::default();
            let loaded = courser_config::load(&text, "c", &environment).expect("loads");
            let info = of_runner(&loaded.config.runners[0], &Executors::shell());
            assert_eq!(
                (info.config.gpus.as_str(), info.shell.as_str()),
                (gpus, "bash")
            );
        }
    }
}
