//! `verify`: do the configured runners still exist on the server? (`runner-cli.md` 2.4)

use std::process::ExitCode;

use courser_config::RunnerConfig;
use courser_protocol::{Secret, short_token};
use courser_runner::client::info;
use courser_runner::client::registration::Refusal;

use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::executors::executors;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `verify`. Unlike elsewhere, URL and token have no variables.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Name of the runner to verify
    #[arg(short, long)]
    name: Option<String>,
    /// URL of the runner to verify
    #[arg(short, long)]
    url: Option<String>,
    /// Token of the runner to verify
    #[arg(short, long)]
    token: Option<Secret>,
    /// Take runners that are gone out of the file
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    delete: bool,
}

/// Asks the server about each selected runner.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    session.announce_mode(true);
    let file = ConfigFile::open(&arguments.config.path(session), session)?;
    let system_id = file.system_id()?;
    let selected: Vec<usize> = (0..file.config.runners.len())
        .filter(|number| arguments.selects(&file.config.runners[*number]))
        .collect();
    if selected.is_empty() && !arguments.selects_all() {
        return Err(Failure::invalid(
            "no runner matches the filtering parameters",
        ));
    }
    let mut dead = Vec::new();
    for number in selected {
        let runner = &file.config.runners[number];
        if !is_alive(runner, &file, &system_id, session).await {
            dead.push(number);
        }
    }
    if dead.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.delete {
        return Err(Failure::invalid("Failed to verify runners"));
    }
    let mut document = file.document()?;
    for number in dead.into_iter().rev() {
        document.remove_runner(number);
    }
    file.save(&document)?;
    tracing::info!("Updated {}", file.path().display());
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn selects_all(&self) -> bool {
        let token = self.token.as_ref().map(Secret::expose);
        [self.name.as_deref(), self.url.as_deref(), token]
            .into_iter()
            .all(|given| given.unwrap_or_default().is_empty())
    }

    fn selects(&self, runner: &RunnerConfig) -> bool {
        let is_name = |name: &String| !name.is_empty() && *name == runner.name;
        if self.selects_all() || self.name.as_ref().is_some_and(is_name) {
            return true;
        }
        let any = |url: &str| matches!(url, "" | "*");
        let is_token = |token: &Secret| !token.is_empty() && *token == runner.token;
        self.token.as_ref().is_some_and(is_token) && {
            let url = self.url.as_deref().unwrap_or_default();
            any(url) || any(&runner.url) || url == runner.url
        }
    }
}

/// Whether the runner may stay: only a clear no of the server counts as dead.
async fn is_alive(
    runner: &RunnerConfig,
    file: &ConfigFile,
    system_id: &str,
    session: &Session,
) -> bool {
    let short = short_token(runner.token.expose());
    let created_on_server = runner.token.expose().starts_with("glrt-");
    let api = match connection::api(runner, file.config.connection_max_age, system_id, session) {
        Ok(api) => api,
        Err(error) => {
            tracing::error!(runner = %short, runner_name = runner.name, "Verifying runner... client error: {error}");
            return true;
        }
    };
    let environment = &session.environment;
    let executors = executors(environment, &environment.working_directory, None);
    match api.verify(&info::of_runner(runner, &executors)).await {
        Ok(granted) => {
            let correlation_id = granted.correlation_id;
            let state = if created_on_server { "valid" } else { "alive" };
            tracing::info!(correlation_id, runner = %short, runner_name = runner.name, "Verifying runner... is {state}");
            true
        }
        Err(Refusal::Forbidden { correlation_id, .. }) => {
            if created_on_server {
                tracing::info!(correlation_id, runner = %short, runner_name = runner.name, "Verifying runner... is not valid");
            } else {
                tracing::error!(correlation_id, runner = %short, runner_name = runner.name, "Verifying runner... is removed");
            }
            false
        }
        Err(refusal @ Refusal::Client(_)) => {
            tracing::error!(runner = %short, runner_name = runner.name, status = %refusal, "Verifying runner... client error");
            true
        }
        Err(refusal) => {
            let correlation_id = refusal.correlation_id();
            tracing::error!(correlation_id, runner = %short, runner_name = runner.name, status = %refusal, "Verifying runner... failed");
            true
        }
    }
}
