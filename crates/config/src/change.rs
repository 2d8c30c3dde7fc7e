//! What a reload changes, for the log. What becomes of runners and jobs is decided by the runner's
//! `daemon.rs`, which knows a runner by URL and token only.

use crate::model::{Config, RunnerConfig};

/// One difference between the configuration in force and the one just loaded.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigChange {
    /// A global key: its name.
    Global(&'static str),
    /// A runner that was not there.
    RunnerAdded(Box<RunnerConfig>),
    /// A runner that is gone; jobs that run keep their settings.
    RunnerRemoved(Box<RunnerConfig>),
    /// A runner with other settings, the new ones.
    RunnerChanged(Box<RunnerConfig>),
}

/// Compares two configurations. A runner is the same one by URL and token, or, after its token was
/// rotated, by URL and id.
pub fn changes(old: &Config, new: &Config) -> Vec<ConfigChange> {
    let globals = [
        ("concurrent", old.concurrent != new.concurrent),
        ("check_interval", old.check_interval != new.check_interval),
        (
            "connection_max_age",
            old.connection_max_age != new.connection_max_age,
        ),
        (
            "shutdown_timeout",
            old.shutdown_timeout != new.shutdown_timeout,
        ),
        ("log_level", old.log_level != new.log_level),
        ("log_format", old.log_format != new.log_format),
        ("listen_address", old.listen_address != new.listen_address),
        ("labels", old.labels != new.labels),
        ("spool", old.spool != new.spool),
    ];
    let mut changes: Vec<_> = globals
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(ConfigChange::Global(name)))
        .collect();
    let mut left: Vec<&RunnerConfig> = old.runners.iter().collect();
    let mut unmatched = Vec::new();
    for runner in &new.runners {
        match left
            .iter()
            .position(|other| other.url == runner.url && other.token == runner.token)
        {
            Some(at) => {
                if left.remove(at) != runner {
                    changes.push(ConfigChange::RunnerChanged(Box::new(runner.clone())));
                }
            }
            None => unmatched.push(runner),
        }
    }
    for runner in unmatched {
        match left
            .iter()
            .position(|other| runner.id != 0 && other.url == runner.url && other.id == runner.id)
        {
            Some(at) => {
                left.remove(at);
                changes.push(ConfigChange::RunnerChanged(Box::new(runner.clone())));
            }
            None => changes.push(ConfigChange::RunnerAdded(Box::new(runner.clone()))),
        }
    }
    changes.extend(
        left.into_iter()
            .map(|runner| ConfigChange::RunnerRemoved(Box::new(runner.clone()))),
    );
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(id: i64, token: &str, limit: usize) -> RunnerConfig {
        RunnerConfig {
            url: "https://h".to_owned(),
            id,
            token: token.into(),
            limit,
            ..RunnerConfig::default()
        }
    }

    fn config(concurrent: usize, runners: Vec<RunnerConfig>) -> Config {
        Config {
            concurrent,
            runners,
            ..Config::default()
        }
    }

    #[test]
    fn equal_configurations_have_no_difference() {
        let config = config(1, vec![runner(1, "a", 0), runner(0, "b", 0)]);
        assert_eq!(changes(&config, &config.clone()), []);
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let old = config(
            1,
            vec![runner(1, "a", 0), runner(2, "b", 0), runner(0, "c", 0)],
        );
        let new = config(
            2,
            vec![
                runner(2, "b-rotated", 0),
                runner(1, "a", 5),
                runner(0, "d", 0),
            ],
        );
        assert_eq!(
            changes(&old, &new),
            [
                ConfigChange::Global("concurrent"),
                ConfigChange::RunnerChanged(Box::new(runner(1, "a", 5))),
                ConfigChange::RunnerChanged(Box::new(runner(2, "b-rotated", 0))),
                ConfigChange::RunnerAdded(Box::new(runner(0, "d", 0))),
                ConfigChange::RunnerRemoved(Box::new(runner(0, "c", 0))),
            ]
        );
    }
}
