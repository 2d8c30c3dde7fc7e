//! `run-single`: one runner described by flags, one job after the other (`runner-cli.md` 4).

use std::process::ExitCode;
use std::time::Duration;

use courser_config::{ConfigDocument, RunnerConfig};
use courser_runner::{Ended, Shutdown, SingleLimits};
use tokio::sync::Notify;

use super::run::Signals;
use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::failure::{Code, Failure};
use crate::runner_flags::RunnerFlags;
use crate::session::Session;

/// Arguments of `run-single`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Take the runner of that name from the file; other runner flags are ignored
    #[arg(short, long, value_name = "NAME")]
    runner: Option<String>,
    /// Jobs before exit, 0 = no limit
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    max_builds: u64,
    /// Seconds without a job before exit, 0 = no limit
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait_timeout: u64,
    /// Seconds that an aborted job gets to end
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    shutdown_timeout: u64,
    #[command(flatten)]
    flags: RunnerFlags,
}

/// Runs until a limit is reached or a signal ends it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let limits = arguments.limits();
    let file = ConfigFile::open(&arguments.config.path(session), session)?;
    let runner = arguments.runner_config(&file, session)?;
    for (name, value) in [
        ("URL", runner.url.as_str()),
        ("Token", runner.token.expose()),
        ("Executor", runner.executor.as_str()),
    ] {
        if value.is_empty() {
            return Err(Failure::new(Code::Usage, format!("Missing {name}")));
        }
    }
    let directory = session.environment.working_directory.clone();
    let settings = connection::runner_settings(session, directory, None, &file)?;
    tracing::info!(
        "Starting runner for {} with token {} ...",
        runner.url,
        courser_protocol::short_token(runner.token.expose())
    );
    let shutdown = Shutdown::new();
    let mut signals = Signals::install()?;
    // There is no file to read again.
    let reload = Notify::new();
    let ended = tokio::select! {
        ended = courser_runner::run_single(settings, &runner, limits, &shutdown) => {
            ended.map_err(|error| Failure::from_error(Code::Invalid, &error))?
        }
        () = signals.follow(&shutdown, &reload) => Ended::JobsLeft,
        () = courser_net::watch_trust_files() => Ended::JobsLeft,
    };
    match ended {
        Ended::Clean => Ok(ExitCode::SUCCESS),
        Ended::JobsLeft => Err(Failure::new(
            Code::Failed,
            "the job did not end in time and was killed",
        )),
    }
}

impl Arguments {
    fn limits(&self) -> SingleLimits {
        SingleLimits {
            max_jobs: (self.max_builds > 0).then_some(self.max_builds),
            wait_timeout: (self.wait_timeout > 0).then(|| Duration::from_secs(self.wait_timeout)),
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout),
        }
    }

    /// The named entry of the file, or the one the flags describe, read as if it stood in a file.
    fn runner_config(&self, file: &ConfigFile, session: &Session) -> Result<RunnerConfig, Failure> {
        if let Some(name) = self.runner.as_deref().filter(|name| !name.is_empty()) {
            let named = file
                .config
                .runners
                .iter()
                .find(|runner| runner.name == name);
            return named.cloned().ok_or_else(|| {
                Failure::invalid(format!("no runner {name:?} in {}", file.path().display()))
            });
        }
        let mut document = ConfigDocument::for_new_file();
        document.append_runner(&self.flags.clone().into_entry());
        let text = document.render();
        let loaded = courser_config::load(&text, "command line", &session.environment.variables)
            .map_err(|error| Failure::from_error(Code::Usage, &error))?;
        for warning in &loaded.warnings {
            tracing::warn!("{}: {}", warning.key, warning.message);
        }
        let first = loaded.config.runners.into_iter().next();
        first.ok_or_else(|| Failure::internal("the runner of the command line is lost"))
    }
}
