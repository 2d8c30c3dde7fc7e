//! `unregister`: delete runners on the server and in the file (`runner-cli.md` 2.5).

use std::process::ExitCode;

use courser_config::RunnerConfig;
use courser_protocol::{Secret, short_token};
use courser_runner::client::Api;
use courser_runner::client::registration::Refusal;

use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `unregister`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Name of the runner to unregister
    #[arg(short, long)]
    name: Option<String>,
    /// Unregister all runners of the file
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    all_runners: bool,
    /// GitLab instance URL; not used to choose a runner
    #[arg(short, long, env = "CI_SERVER_URL", hide_env_values = true)]
    url: Option<String>,
    /// Token of the runner to unregister
    #[arg(short, long, env = "CI_SERVER_TOKEN", hide_env_values = true)]
    token: Option<Secret>,
    /// File with the certificates to verify the server
    #[arg(long, env = "CI_SERVER_TLS_CA_FILE")]
    tls_ca_file: Option<String>,
    /// File with the client certificate
    #[arg(long, env = "CI_SERVER_TLS_CERT_FILE")]
    tls_cert_file: Option<String>,
    /// File with the client key
    #[arg(long, env = "CI_SERVER_TLS_KEY_FILE")]
    tls_key_file: Option<String>,
}

/// Deletes one runner, or all.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    session.announce_mode(false);
    let file = ConfigFile::open(&arguments.config.path(session), session)?;
    let system_id = file.system_id()?;
    let runners = &file.config.runners;
    let mut gone = Vec::new();
    if arguments.all_runners {
        tracing::warn!("Unregistering all runners");
        for (number, runner) in runners.iter().enumerate() {
            if unregister(runner, &arguments, &file, &system_id, session).await {
                gone.push(number);
            } else {
                tracing::error!("Failed to unregister runner {}", runner.name);
            }
        }
    } else {
        let number = arguments.choose(runners)?;
        let runner = &runners[number];
        if !unregister(runner, &arguments, &file, &system_id, session).await {
            return Err(Failure::invalid(format!(
                "Failed to unregister runner {}",
                runner.name
            )));
        }
        gone.push(number);
    }
    if gone.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut document = file.document()?;
    for number in gone.into_iter().rev() {
        document.remove_runner(number);
    }
    file.save(&document)?;
    tracing::info!("Updated {}", file.path().display());
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// By name and token when both are given, else by token, else by name; the first match.
    fn choose(&self, runners: &[RunnerConfig]) -> Result<usize, Failure> {
        let name = self.name.as_ref().filter(|name| !name.is_empty());
        let token = self.token.as_ref().filter(|token| !token.is_empty());
        if name.is_none() && token.is_none() {
            return Err(
                Failure::invalid("at least one of --name or --token must be specified")
                    .hint("--all-runners unregisters every runner of the file"),
            );
        }
        runners
            .iter()
            .position(|runner| {
                name.is_none_or(|name| *name == runner.name)
                    && token.is_none_or(|token| *token == runner.token)
            })
            .ok_or_else(|| {
                let what = match (&name, &token) {
                    (Some(name), Some(_)) => format!("the name {name:?} and that token"),
                    (Some(name), None) => format!("the name {name:?}"),
                    _ => "that token".to_owned(),
                };
                Failure::invalid(format!("could not find a runner with {what}"))
                    .hint("`list` shows the runners of the file")
            })
    }
}

async fn unregister(
    runner: &RunnerConfig,
    arguments: &Arguments,
    file: &ConfigFile,
    system_id: &str,
    session: &Session,
) -> bool {
    let mut runner = runner.clone();
    let instead = |given: &Option<String>, configured: &mut Option<String>| {
        if let Some(path) = given.as_ref().filter(|path| !path.is_empty()) {
            *configured = Some(path.clone());
        }
    };
    instead(&arguments.tls_ca_file, &mut runner.tls_ca_file);
    instead(&arguments.tls_cert_file, &mut runner.tls_cert_file);
    instead(&arguments.tls_key_file, &mut runner.tls_key_file);
    match connection::api(&runner, file.config.connection_max_age, system_id, session) {
        Ok(api) => delete(&api, &runner).await,
        Err(error) => {
            let short = short_token(runner.token.expose());
            tracing::error!(runner = %short, status = %error, "Unregistering runner from GitLab client error");
            false
        }
    }
}

/// Deletes the runner or, where it was made on the server, this manager of it; says how it went.
pub(crate) async fn delete(api: &Api, runner: &RunnerConfig) -> bool {
    let short = short_token(runner.token.expose());
    let manager_only = runner.token.expose().starts_with("glrt-");
    let (what, outcome) = if manager_only {
        ("runner manager", api.unregister_manager().await)
    } else {
        ("runner", api.unregister().await)
    };
    match outcome {
        Ok(granted) => {
            let correlation_id = granted.correlation_id;
            tracing::info!(correlation_id, runner = %short, "Unregistering {what} from GitLab succeeded");
            true
        }
        Err(refusal) => {
            let ending = match &refusal {
                Refusal::Forbidden { .. } => "forbidden",
                Refusal::Client(_) => "client error",
                _ => "failed",
            };
            let correlation_id = refusal.correlation_id();
            tracing::error!(correlation_id, runner = %short, status = %refusal, "Unregistering {what} from GitLab {ending}");
            false
        }
    }
}
