//! From the `executor` key of `config.toml` to an executor.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_protocol::Features;

use crate::shell::ShellProvider;
use crate::{EnvironmentFuture, Executor, Footprint, LightHelper, Swept};

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

/// Makes the executors of some names, and takes away what jobs of these left. Lives as long as the process.
pub trait ExecutorProvider: Send + Sync {
    /// The values of `executor` in `config.toml` that are its.
    fn names(&self) -> &'static [&'static str];

    /// What jobs can have with it, its shell included (`runner-protocol.md` 2.1).
    fn features(&self) -> Features;

    /// Makes the executor that a `[[runners]]` table asks for.
    fn executor(
        &self,
        config: &RunnerConfig,
        host: &Host,
    ) -> Result<Arc<dyn Executor>, UnusableExecutor>;

    /// Takes away what a job of a dead runner left, at once and by force. Its working copy stays, as after any job.
    /// Does nothing, quickly, where nothing was left, and may be repeated.
    ///
    /// Before a new job can be given the same places: its things would be taken for the dead one's.
    fn sweep<'a>(&'a self, footprint: &'a Footprint) -> EnvironmentFuture<'a, Swept>;
}

/// All executors of this process, chosen by the composition root.
#[derive(Clone)]
pub struct Executors {
    providers: Vec<Arc<dyn ExecutorProvider>>,
}

/// Executors that upstream has.
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
    #[error("executor {name:?} is not built into courser yet; this version runs {built}")]
    NotBuilt {
        /// As configured.
        name: String,
        /// Those that are.
        built: String,
    },
    /// It cannot use this shell.
    #[error("{why}")]
    Shell {
        /// Names the shell, and those that can be used.
        why: String,
    },
    /// Its table is wrong.
    #[error("{why}")]
    Configuration {
        /// Names the key, its value, and what it may be.
        why: String,
    },
}

impl Executors {
    /// The shell executor alone.
    pub fn shell() -> Self {
        Self {
            providers: vec![Arc::new(ShellProvider)],
        }
    }

    /// Another one beside.
    #[must_use]
    pub fn with(mut self, provider: Arc<dyn ExecutorProvider>) -> Self {
        self.providers.push(provider);
        self
    }

    fn provider(&self, name: &str) -> Option<&dyn ExecutorProvider> {
        let is_its = |provider: &&Arc<dyn ExecutorProvider>| provider.names().contains(&name);
        self.providers.iter().find(is_its).map(Arc::as_ref)
    }

    /// Makes the executor that a `[[runners]]` table names.
    pub fn executor(
        &self,
        config: &RunnerConfig,
        host: &Host,
    ) -> Result<Arc<dyn Executor>, UnusableExecutor> {
        let name = config.executor.as_str();
        match self.provider(name) {
            Some(provider) => provider.executor(config, host),
            None if KNOWN.contains(&name) => {
                let names = self.providers.iter().flat_map(|one| one.names());
                let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
                Err(UnusableExecutor::NotBuilt {
                    name: name.to_owned(),
                    built: names.join(", "),
                })
            }
            None => Err(UnusableExecutor::Unknown {
                name: name.to_owned(),
            }),
        }
    }

    /// What jobs can have with the executor of that name. Nothing for one that cannot be used: the server hands out
    /// jobs by it.
    pub fn features_of(&self, executor: &str) -> Features {
        let provider = self.provider(executor);
        provider.map_or_else(Features::default, ExecutorProvider::features)
    }

    /// Takes away what a job of a dead runner left.
    pub async fn sweep(&self, footprint: &Footprint) -> Swept {
        match self.provider(footprint.executor()) {
            Some(provider) => provider.sweep(footprint).await,
            None => {
                let what = format!("what the executor {:?} left", footprint.executor());
                let why = "this version does not have that executor".to_owned();
                Swept {
                    not_removed: vec![(what, why)],
                    ..Swept::default()
                }
            }
        }
    }
}

impl fmt::Debug for Executors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.providers.iter().flat_map(|provider| provider.names());
        f.debug_list().entries(names).finish()
    }
}
