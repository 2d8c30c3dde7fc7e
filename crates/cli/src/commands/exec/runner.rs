//! The ordinary runner in this process, configured by a value instead of `config.toml`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courser_config::{Config, Environment, RunnerConfig};
use courser_coordinator::Handle;
use courser_executor::Host;
use courser_executor_docker::kept::{Keep, KeptJob};
use courser_executor_docker::script_container::ScriptContainer;
use courser_executor_docker::{LocalRun, Tunnel};
use courser_helper::LightEnvironment;
use courser_net::{Legs, ProxySettings};
use courser_runner::metrics::Metrics;
use courser_runner::{
    InProcessHelper, Runner, RunnerSettings, Shutdown, Spool, SpoolLimits, WorkingCopies,
    forget_left_over,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::containers::docker_config;
use super::kept::labels;
use super::launch::Tokens;
use super::state::{ProjectState, RunState};
use crate::connection::surroundings_of_secrets;
use crate::executors::{executors, local_executors};
use crate::failure::Failure;
use crate::session::Session;
use crate::version;

/// A running runner; dropping it kills whatever its jobs started.
pub(super) struct LocalRunner {
    /// Ends it.
    pub(super) shutdown: Shutdown,
    _config: watch::Sender<Arc<Config>>,
    spool: Spool,
    task: JoinSet<()>,
    /// Told of each job's working copy when jobs have ones of their own.
    copies: UnboundedReceiver<(i64, PathBuf)>,
    /// The same of jobs in containers.
    kept: UnboundedReceiver<(i64, KeptJob)>,
}

/// What jobs left to be looked at later, by their ids.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Working copies on this machine.
    pub(super) copies: HashMap<i64, PathBuf>,
    /// Things in a Docker Engine.
    pub(super) kept: HashMap<i64, KeptJob>,
}

impl LocalRunner {
    /// Waits for the runner's end.
    pub(super) async fn ended(&mut self) {
        // The first and only task; a panic in it has been printed.
        drop(self.task.join_next().await);
    }

    /// Ends it; what jobs left, where each was to leave something. Waits a moment for logins whose jobs are over: of one
    /// that takes longer, the next `exec` tells.
    pub(super) async fn end(mut self) -> Left {
        let late = self.spool.late_answers();
        tokio::time::timeout(LATE_ANSWERS, late).await.ok();
        self.task.abort_all();
        let mut left = Left::default();
        while let Ok((job, path)) = self.copies.try_recv() {
            // That of a job in a container is not on this machine.
            if path.is_dir() {
                left.copies.insert(job, path);
            }
        }
        while let Ok((job, kept)) = self.kept.try_recv() {
            left.copies.remove(&job);
            left.kept.insert(job, kept);
        }
        left
    }
}

/// Somebody looks at the terminal.
const LATE_ANSWERS: Duration = Duration::from_secs(5);

/// How the runner works.
#[derive(Debug, Clone)]
pub(super) struct Ways {
    /// Jobs at once.
    pub(super) jobs: usize,
    /// Whether each job has a working copy of its own, to be looked at later.
    pub(super) own_copies: bool,
    /// Working copies of an earlier run, one of which the job asks for with `GIT_CLONE_PATH`.
    pub(super) builds: Option<PathBuf>,
    /// The same in a Docker Engine.
    pub(super) kept: Option<KeptJob>,
    /// How helper containers reach the coordinator when they do not over a network.
    pub(super) tunnel: Option<Tunnel>,
    /// Told of containers in which scripts have begun.
    pub(super) scripts: Option<UnboundedSender<ScriptContainer>>,
}

/// Of use to nobody after this process: the coordinator ends with it.
const EVERYTHING: SpoolLimits = SpoolLimits {
    job: u64::MAX,
    total: u64::MAX,
};

/// Ends and removes what jobs of killed runs left: processes, containers.
pub(crate) async fn sweep_killed_runs(state: &ProjectState, session: &Session) {
    let executors = executors(&session.environment, state.root(), None);
    let secrets = surroundings_of_secrets(&session.environment, state.root());
    for directory in state.spools().unwrap_or_default() {
        match Spool::open(directory.clone(), EVERYTHING) {
            Ok(spool) => forget_left_over(&spool, &executors, &secrets).await,
            Err(error) => {
                let directory = directory.display();
                tracing::warn!("cannot look for what a killed run left in {directory}: {error}");
            }
        }
    }
}

/// Jobs in a shell have the proxies of this environment; the coordinator is not behind them.
fn not_by_proxy(variables: &Environment) -> Vec<String> {
    let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let proxies = ["http_proxy", "https_proxy", "all_proxy"];
    let has_proxy = proxies
        .iter()
        .any(|name| given(name).is_some() || given(&name.to_ascii_uppercase()).is_some());
    if !has_proxy {
        return Vec::new();
    }
    // Programs look at one of the two, some at this one first, some at the other.
    let direct = given("no_proxy").or_else(|| given("NO_PROXY"));
    let direct: Vec<&str> = direct
        .into_iter()
        .chain(["127.0.0.1", "localhost"])
        .collect();
    let direct = direct.join(",");
    vec![format!("NO_PROXY={direct}"), format!("no_proxy={direct}")]
}

/// Starts it.
pub(super) fn start(
    coordinator: &Handle,
    tokens: Tokens,
    run: &RunState,
    state: &ProjectState,
    ways: Ways,
    session: &Session,
) -> Result<LocalRunner, Failure> {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let jobs = ways.jobs;
    let in_engines = match &tokens.containers {
        Some(_) => state
            .name_in_engines()
            .map_err(|error| Failure::internal(format!("{}: {error}", state.root().display())))?,
        None => String::new(),
    };
    let (told, copies) = mpsc::unbounded_channel();
    let (keeper, kept) = mpsc::unbounded_channel();
    let local = LocalRun {
        scripts: ways.scripts,
        keep: ways.own_copies.then(|| Keep {
            labels: labels(&in_engines, run.root()),
            told: keeper,
        }),
        tunnel: ways.tunnel,
    };
    let any = RunnerConfig {
        name: "courser exec".to_owned(),
        request_concurrency: jobs,
        output_limit: 100 * 1024,
        // The view tells times; a log that is read here is easier to read without them.
        feature_flags: [("FF_TIMESTAMPS".to_owned(), false)].into(),
        ..RunnerConfig::default()
    };
    let in_shell = tokens.shell.map(|token| RunnerConfig {
        url: coordinator.url().to_string(),
        token,
        executor: "shell".to_owned(),
        environment: not_by_proxy(&session.environment.variables),
        custom_build_dir_enabled: ways.builds.as_ref().map(|_| true),
        builds_dir: path(ways.builds.unwrap_or_else(|| run.builds())),
        cache_dir: path(state.cache()),
        ..any.clone()
    });
    let in_containers = tokens.containers.map(|(token, url)| RunnerConfig {
        url: url.to_string(),
        token,
        executor: "docker".to_owned(),
        docker: Some(docker_config(&in_engines, ways.kept.as_ref())),
        ..any
    });
    let config = Config {
        concurrent: jobs,
        check_interval: Duration::from_secs(1),
        shutdown_timeout: Duration::from_secs(5),
        runners: in_shell.into_iter().chain(in_containers).collect(),
        ..Config::default()
    };
    let program = std::env::current_exe().map_err(|error| {
        Failure::internal(format!("cannot tell the path of this program: {error}"))
    })?;
    let host_name = session.environment.host_name();
    let spool = Spool::open(run.spool(), EVERYTHING).map_err(|error| {
        Failure::internal(format!(
            "cannot keep jobs in {}: {error}",
            run.root().display()
        ))
    })?;
    let settings = RunnerSettings {
        executors: local_executors(&session.environment, run.root(), None, local),
        host: Host {
            working_directory: run.root().to_owned(),
            user: None,
            helper_command: path(program),
            light_helper: Arc::new(InProcessHelper(LightEnvironment {
                variables: session.environment.variables.clone(),
                host_name: host_name.clone(),
            })),
            grace: Duration::from_secs(10),
        },
        // The coordinator's own root and nothing else.
        legs: Legs::only(
            coordinator.root_pem().map(str::to_owned),
            run.root().to_owned(),
        ),
        proxy: ProxySettings {
            http: None,
            https: None,
            no_proxy: None,
        },
        // Their servers are somebody else's: trusted as this machine and its variables say.
        secrets: surroundings_of_secrets(&session.environment, run.root()),
        user_agent: version::user_agent(),
        system_id: "r_courserexec0".to_owned(),
        host_name,
        spool: spool.clone(),
        // The server is in this process: asking it often costs nothing, and Ctrl-C is heard at once.
        keep_alive: Duration::from_millis(500),
        metrics: Metrics::default(),
        working_copies: if ways.own_copies {
            WorkingCopies::Own(told)
        } else {
            WorkingCopies::Reused
        },
    };
    let config = watch::Sender::new(Arc::new(config));
    let shutdown = Shutdown::new();
    let runner = Runner::new(settings, config.subscribe(), shutdown.clone());
    let mut task = JoinSet::new();
    task.spawn(async move {
        runner.run().await;
    });
    Ok(LocalRunner {
        shutdown,
        _config: config,
        spool,
        task,
        copies,
        kept,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinator_is_reached_without_a_proxy() {
        let of = |variables: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            not_by_proxy(&Environment::new(variables.iter().map(owned))).join(" ")
        };
        assert_eq!(of(&[("NO_PROXY", "a")]), "");
        assert_eq!(
            of(&[("HTTPS_PROXY", "http://p:3128")]),
            "NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost"
        );
        assert_eq!(
            of(&[
                ("https_proxy", "http://p:3128"),
                ("NO_PROXY", ".example,10.0.0.0/8")
            ]),
            "NO_PROXY=.example,10.0.0.0/8,127.0.0.1,localhost no_proxy=.example,10.0.0.0/8,127.0.0.1,localhost"
        );
    }
}
