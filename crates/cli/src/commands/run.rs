//! `run`: ask for jobs and run them until told to end (`runner-cli.md` 3).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use courser_config::{Config, ConfigChange, changes};
use courser_net::PageListener;
use courser_protocol::short_token;
use courser_runner::metrics::Metrics;
use courser_runner::{Ended, Phase, Runner, Shutdown};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::failure::{Code, Failure};
use crate::metrics::{self, Pages};
use crate::platform;
use crate::session::Session;

/// How often the modification time of the file is looked at.
const POLL: Duration = Duration::from_secs(3);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Service name, used by nothing but the service's own files
    #[arg(
        short = 'n',
        long,
        default_value = "gitlab-runner",
        value_name = "NAME"
    )]
    service: String,
    /// Directory where relative paths of the configuration start
    #[arg(short = 'd', long, value_name = "DIRECTORY")]
    working_directory: Option<PathBuf>,
    /// User to run the shell executor's scripts as
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Also log to the system log
    #[arg(long, env = "LOG_SYSLOG", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    syslog: bool,
    /// Address of metrics and debug pages: HOST:PORT, port 9252 if none is given. Has no
    /// authorization: keep it private
    #[arg(long, env = "LISTEN_ADDRESS", value_name = "ADDRESS")]
    listen_address: Option<String>,
}

/// Runs until a signal ends it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    session.announce_mode(false);
    if arguments.syslog {
        tracing::warn!("--syslog is not built yet: log lines go to standard error only");
    }
    let directory = working_directory(arguments.working_directory.as_deref(), session)?;
    let path = directory.join(arguments.config.path(session));
    let file = ConfigFile::open(&path, session)?;
    check(&file.config, &path, session)?;
    tracing::info!(
        builds = 0,
        max_builds = file.config.concurrent,
        "Starting multi-runner from {}...",
        path.display()
    );
    let user = arguments.user.filter(|user| !user.is_empty());
    let settings = connection::runner_settings(session, directory, user, &file)?;
    settings.legs.system().read_ahead();

    let counted = settings.metrics.clone();
    let shutdown = Shutdown::new();
    let mut modified = file.modified;
    let config = watch::Sender::new(Arc::new(file.config));
    let runner = Runner::new(settings, config.subscribe(), shutdown.clone());
    tracing::info!(builds = 0, "Configuration loaded");
    counted.configuration_loaded();
    let pages = Pages {
        metrics: counted.clone(),
        log: session.log.clone(),
        shutdown: shutdown.clone(),
    };
    let given = arguments.listen_address.as_deref();
    let given = given.filter(|address| !address.is_empty());
    let listen_address = config.borrow().listen_address.clone();
    let _serving = listen(given, &listen_address, pages).await?;
    let mut signals = Signals::install()?;
    let reload = Notify::new();
    let follow = async {
        loop {
            let asked = tokio::select! {
                () = reload.notified() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            let now = std::fs::metadata(&path)
                .and_then(|data| data.modified())
                .ok();
            if asked || now != modified {
                modified = now;
                load_again(&path, session, &config, &counted);
            }
        }
    };
    let ended = tokio::select! {
        ended = runner.run() => ended,
        () = signals.follow(&shutdown, &reload) => Ended::JobsLeft,
        () = follow => Ended::JobsLeft,
        () = courser_net::watch_trust_files() => Ended::JobsLeft,
    };
    Ok(match ended {
        Ended::Clean => {
            tracing::info!("All workers stopped.");
            ExitCode::SUCCESS
        }
        Ended::JobsLeft => Failure::EXIT_OF_RUNNER.into(),
    })
}

/// Serves the pages of `listen_address`, where there is one. Read once: a change needs a restart.
async fn listen(given: Option<&str>, configured: &str, pages: Pages) -> Result<Serving, Failure> {
    let address = given.unwrap_or(configured);
    let mut serving = Serving::new();
    if address.is_empty() {
        tracing::info!(
            builds = 0,
            "listen_address not defined, metrics & debug endpoints disabled"
        );
        return Ok(serving);
    }
    let listener = PageListener::bind(address, metrics::DEFAULT_PORT)
        .await
        .map_err(|error| {
            Failure::new(
                Code::Surroundings,
                format!("cannot listen on {address}: {error}"),
            )
            .hint("name a free HOST:PORT in listen_address or --listen-address, or leave it empty")
        })?;
    tracing::info!(
        address = %listener.address(),
        builds = 0,
        "Metrics server listening"
    );
    serving.spawn(listener.serve(move |path| pages.page(path)));
    Ok(serving)
}

/// Ends with its owner.
type Serving = JoinSet<()>;

/// The directory that `--working-directory` names; it must exist.
pub(crate) fn working_directory(
    named: Option<&Path>,
    session: &Session,
) -> Result<PathBuf, Failure> {
    let current = &session.environment.working_directory;
    let Some(named) = named.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(current.clone());
    };
    let directory = current.join(named);
    if directory.is_dir() {
        Ok(directory)
    } else {
        Err(Failure::invalid(format!(
            "working directory {} does not exist",
            directory.display()
        )))
    }
}

/// What loading alone does not refuse; takes level and format of the log over.
fn check(config: &Config, path: &Path, session: &Session) -> Result<(), Failure> {
    if config.concurrent == 0 {
        return Err(Failure::invalid(format!(
            "{}: concurrent must be at least 1",
            path.display()
        )));
    }
    session
        .log
        .follow_config(config.log_level.as_deref(), config.log_format.as_deref())
}

/// Puts a changed file in force. One that cannot be used changes nothing.
fn load_again(
    path: &Path,
    session: &Session,
    config: &watch::Sender<Arc<Config>>,
    counted: &Metrics,
) {
    let opened = ConfigFile::open(path, session)
        .and_then(|file| check(&file.config, path, session).map(|()| file.config));
    let new = match opened {
        Ok(new) => new,
        Err(failure) => {
            counted.configuration_not_loaded();
            tracing::error!(
                "Failed to load config, the previous one stays in force: {}",
                failure.message()
            );
            return;
        }
    };
    let differences = changes(&config.borrow(), &new);
    for difference in &differences {
        log_change(difference);
    }
    tracing::info!("Configuration loaded");
    counted.configuration_loaded();
    // Also without a difference: a reload gives paused runners another chance.
    config.send_replace(Arc::new(new));
}

fn log_change(change: &ConfigChange) {
    let (what, runner) = match change {
        ConfigChange::Global(key) => {
            tracing::info!("Configuration: {key} changed");
            if ["listen_address", "spool"].contains(key) {
                tracing::warn!("a new {key} needs a restart");
            }
            return;
        }
        ConfigChange::RunnerAdded(runner) => ("added", runner),
        ConfigChange::RunnerRemoved(runner) => ("removed", runner),
        ConfigChange::RunnerChanged(runner) => ("changed", runner),
    };
    tracing::info!(
        runner = %short_token(runner.token.expose()),
        runner_name = runner.name,
        "Configuration: runner {what}"
    );
}

/// The signals of a running runner (`runner-cli.md` 3.2).
pub(crate) struct Signals {
    quit: platform::Signal,
    terminate: platform::Signal,
    interrupt: platform::Signal,
    hangup: platform::Signal,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    pub(crate) fn install() -> Result<Self, Failure> {
        let failed = |error| Failure::internal(format!("cannot take signals over: {error}"));
        Ok(Self {
            quit: platform::quits().map_err(failed)?,
            terminate: platform::terminations().map_err(failed)?,
            interrupt: platform::interrupts().map_err(failed)?,
            hangup: platform::hangups().map_err(failed)?,
        })
    }

    /// Turns signals into requests. Returns when the process shall end at once: at the second signal
    /// after a forceful end began.
    pub(crate) async fn follow(&mut self, shutdown: &Shutdown, reload: &Notify) {
        loop {
            let forceful = matches!(shutdown.phase(), Phase::Forceful(_));
            let name = tokio::select! {
                _ = self.hangup.recv() => {
                    reload.notify_one();
                    continue;
                }
                _ = self.quit.recv() => {
                    if forceful {
                        return;
                    }
                    tracing::warn!("Starting graceful shutdown, waiting for builds to finish");
                    shutdown.gracefully();
                    continue;
                }
                _ = self.terminate.recv() => "terminated",
                _ = self.interrupt.recv() => "interrupt",
            };
            if forceful {
                return;
            }
            tracing::warn!("Starting forceful shutdown because of signal: {name}");
            shutdown.forcefully(name);
        }
    }
}
