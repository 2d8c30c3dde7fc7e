//! One `[[runners]]` table put together: connection, self-description, executor.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courser_config::{Config, RunnerConfig};
use courser_executor::{Executor, Executors, Host, UnusableExecutor};
use courser_net::{
    Addresses, Client, ClientSettings, IssuerLimits, Issuers, Legs, ProxySettings, TlsOptions,
};
use courser_protocol::{Info, short_token};
use courser_secrets::Surroundings;
use tokio::sync::mpsc::UnboundedSender;

use crate::client::{Api, BadUrl, info};
use crate::metrics::{Metrics, RunnerLabels, RunnerMetrics};
use crate::spool::Spool;
use crate::tool_trust::ToolTrustMaker;

/// What every runner of this process shares: facts of the machine and of the process, captured by `cli`.
#[derive(Clone)]
pub struct RunnerSettings {
    /// Machine and process, for executors.
    pub host: Host,
    /// Those that jobs can be run by.
    pub executors: Executors,
    /// What each connection is handed as trust.
    pub legs: Legs,
    /// Proxies.
    pub proxy: ProxySettings,
    /// What secrets of jobs are resolved with.
    pub secrets: Surroundings,
    /// `User-Agent` of every call.
    pub user_agent: String,
    /// `s_…` or `r_…` (`runner-protocol.md` 9.5).
    pub system_id: String,
    /// Name of the machine.
    pub host_name: String,
    /// Where jobs are kept until the server knows everything of them.
    pub spool: Spool,
    /// Silence after which a job reports itself alive, and hears of a cancel. Upstream: 30 s.
    pub keep_alive: Duration,
    /// What is counted of runners and jobs.
    pub metrics: Metrics,
    /// Whether a job may find the working copy of one that has ended.
    pub working_copies: WorkingCopies,
}

/// Which working copies jobs get.
#[derive(Debug, Clone, Default)]
pub enum WorkingCopies {
    /// The lowest number that is free, so that the next job fetches only what has changed.
    #[default]
    Reused,
    /// One of its own for each job; told where it lies, with the job's id.
    Own(UnboundedSender<(i64, PathBuf)>),
}

/// Why a runner cannot ask for jobs. It counts as an unhealthy answer each time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error(transparent)]
    Executor(#[from] UnusableExecutor),
}

/// A runner that can ask for jobs and run them.
pub(crate) struct Ready {
    pub(crate) api: Arc<Api>,
    pub(crate) info: Arc<Info>,
    pub(crate) executor: Arc<dyn Executor>,
}

/// A runner as configured now.
pub(crate) struct Entry {
    pub(crate) config: RunnerConfig,
    /// Global `check_interval`.
    pub(crate) check_interval: Duration,
    /// Global `shutdown_timeout`.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) settings: RunnerSettings,
    pub(crate) tool_trust: Arc<ToolTrustMaker>,
    pub(crate) ready: Result<Ready, Unusable>,
}

/// Connections by what makes them different (`runner-protocol.md` 1.2): kept over reloads and shared
/// by entries of the same runner, so that pools and cursors live on.
#[derive(Default)]
pub(crate) struct Connections {
    by_key: HashMap<ConnectionKey, Arc<Api>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ConnectionKey {
    url: String,
    token: courser_protocol::Secret,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    max_age: Duration,
    full_chain: bool,
}

/// Flag that is read before a job exists, and so from `[runners.feature_flags]` alone (`runner-tls.md` 3.2).
const FULL_CHAIN: &str = "FF_RESOLVE_FULL_TLS_CHAIN";

impl Connections {
    pub(crate) fn connect(
        &mut self,
        runner: &RunnerConfig,
        max_age: Duration,
        settings: &RunnerSettings,
    ) -> Result<Arc<Api>, BadUrl> {
        let key = ConnectionKey {
            url: runner.url.clone(),
            token: runner.token.clone(),
            ca_file: runner.tls_ca_file.clone(),
            cert_file: runner.tls_cert_file.clone(),
            key_file: runner.tls_key_file.clone(),
            max_age,
            full_chain: runner.feature_flags.get(FULL_CHAIN) == Some(&true),
        };
        if let Some(api) = self.by_key.get(&key) {
            return Ok(Arc::clone(api));
        }
        let with_trust = |trust| ClientSettings {
            trust,
            proxy: settings.proxy.clone(),
            user_agent: settings.user_agent.clone(),
            connection_max_age: max_age,
        };
        let client = Client::new(with_trust(settings.legs.gitlab(TlsOptions {
            ca_file: runner.tls_ca_file.as_deref(),
            cert_file: runner.tls_cert_file.as_deref(),
            key_file: runner.tls_key_file.as_deref(),
        })));
        let mut api = Api::new(
            client,
            &runner.url,
            runner.token.clone(),
            settings.system_id.clone(),
        )?
        .counted(settings.metrics_of(runner));
        if key.full_chain {
            let settings = with_trust(settings.legs.issuers());
            let issuers = Issuers::new(settings, Addresses::Any, IssuerLimits::default());
            api = api.with_full_chains(issuers);
        }
        let api = Arc::new(api);
        self.by_key.insert(key, Arc::clone(&api));
        Ok(api)
    }

    /// Drops what no runner and no job uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.by_key.retain(|_, api| Arc::strong_count(api) > 1);
    }
}

impl RunnerSettings {
    /// Says what the environment asks for in vain, once.
    pub(crate) fn warn(&self) {
        for warning in self.secrets.warnings() {
            tracing::warn!("{warning}");
        }
    }

    pub(crate) fn labels_of(&self, runner: &RunnerConfig) -> RunnerLabels {
        RunnerLabels {
            runner: short_token(runner.token.expose()).to_owned(),
            name: runner.name.clone(),
            system_id: self.system_id.clone(),
        }
    }

    fn metrics_of(&self, runner: &RunnerConfig) -> RunnerMetrics {
        self.metrics.of_runner(self.labels_of(runner))
    }
}

impl Entry {
    /// Puts a runner together; what cannot work is kept as the reason.
    pub(crate) fn build(
        runner: &RunnerConfig,
        config: &Config,
        settings: &RunnerSettings,
        connections: &mut Connections,
    ) -> Self {
        let ready = connections
            .connect(runner, config.connection_max_age, settings)
            .map_err(Unusable::from)
            .and_then(|api| {
                let executor = settings.executors.executor(runner, &settings.host)?;
                Ok(Ready {
                    api,
                    info: Arc::new(info::of_runner(runner, &settings.executors)),
                    executor,
                })
            });
        Self {
            config: runner.clone(),
            check_interval: config.check_interval,
            shutdown_timeout: config.shutdown_timeout,
            settings: settings.clone(),
            tool_trust: Arc::new(ToolTrustMaker::new(runner)),
            ready,
        }
    }

    /// What secrets of its jobs are resolved with.
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings {
            ca_file: self.config.tls_ca_file.clone(),
            settings: self.config.secrets.clone(),
            ..self.settings.secrets.clone()
        }
    }

    /// Where its jobs are counted.
    pub(crate) fn metrics(&self) -> RunnerMetrics {
        self.settings.metrics_of(&self.config)
    }

    pub(crate) fn short_token(&self) -> &str {
        short_token(self.config.token.expose())
    }
}
