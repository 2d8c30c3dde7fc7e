//! From the `executor` key of `config.toml` to an executor.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_protocol::Features;

use crate::{Executor, LightHelper};

/// What an executor needs to know of the machine and the process it is in.
#[derive(Clone)]
pub struct Host {
    /// Relative directories of the configuration start here. Absolute.
    pub working_directory: PathBuf,
    /// User to run jobs as (`--user`); `None` = this process's.
    pub user: Option<String>,
    /// Absolute path of `courser` for helper work in the job's own process.
    pub helper_command: String,
    /// Helper work that needs no process.
    pub light_helper: Arc<dyn LightHelper>,
    /// From the polite signal to force. Upstream: 10 min.
    pub grace: Duration,
}

/// Executors that upstream has; those beside `shell` are later issues.
const KNOWN: [&str; 11] = [
    "shell",
    "custom",
    "instance",
    "docker",
    "docker-windows",
    "docker-autoscaler",
    "docker+machine",
    "kubernetes",
    "ssh",
    "parallels",
    "virtualbox",
];

/// The configured executor cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableExecutor {
    /// No such executor.
    #[error("executor {name:?} not found")]
    Unknown {
        /// As configured.
        name: String,
    },
    /// gitlab-runner has it, Courser not yet.
    #[error("executor {name:?} is not built into courser yet; this version runs \"shell\"")]
    NotBuilt {
        /// As configured.
        name: String,
    },
    /// The shell executor cannot use this shell.
    #[error("{why}")]
    Shell {
        /// Names the shell, and those that can be used.
        why: String,
    },
}

/// Makes the executor that a `[[runners]]` table names.
pub fn executor_for(
    config: &RunnerConfig,
    host: &Host,
) -> Result<Arc<dyn Executor>, UnusableExecutor> {
    match config.executor.as_str() {
        "shell" => Ok(Arc::new(crate::shell::ShellExecutor::new(config, host)?)),
        name if KNOWN.contains(&name) => Err(UnusableExecutor::NotBuilt {
            name: name.to_owned(),
        }),
        name => Err(UnusableExecutor::Unknown {
            name: name.to_owned(),
        }),
    }
}

/// What jobs can have with that executor, its shell included (`runner-protocol.md` 2.1). Nothing for one
/// that cannot be used: the server hands out jobs by it.
pub fn features_of(executor: &str) -> Features {
    match executor {
        "shell" => crate::shell::features(),
        _ => Features::default(),
    }
}
