//! `reset-token`: new authentication tokens for runners of the file (`runner-cli.md` 2.6).

use std::process::ExitCode;

use courser_config::{ConfigDocument, RunnerConfig};
use courser_protocol::{Secret, short_token};
use jiff::Timestamp;

use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `reset-token`. Only the file has a variable.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Name of the runner whose token is reset
    #[arg(short, long)]
    name: Option<String>,
    /// URL of the runner whose token is reset
    #[arg(short, long)]
    url: Option<String>,
    /// Id of the runner whose token is reset
    #[arg(short, long)]
    id: Option<i64>,
    /// Reset all runner tokens of the file
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    all_runners: bool,
    /// Personal access token to authenticate with, in place of the runner's token
    #[arg(long)]
    pat: Option<Secret>,
}

/// Resets one token, or all.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    session.announce_mode(true);
    let file = ConfigFile::open(&arguments.config.path(session), session)?;
    let system_id = file.system_id()?;
    let mut document = file.document()?;
    let pat = arguments.pat.as_ref().filter(|pat| !pat.is_empty());
    let numbers: Vec<usize> = if arguments.all_runners {
        (0..file.config.runners.len()).collect()
    } else {
        vec![arguments.choose(&file.config.runners)?]
    };
    for number in numbers {
        let runner = &file.config.runners[number];
        let done = reset(runner, number, pat, &mut document, |runner| {
            connection::api(runner, file.config.connection_max_age, &system_id, session)
                .map_err(|error| error.to_string())
        })
        .await;
        if !done {
            let message = format!("Failed to reset runner {} token", runner.name);
            if !arguments.all_runners {
                return Err(Failure::invalid(message));
            }
            tracing::error!("{message}");
        }
    }
    file.save(&document)?;
    // Upstream prints this line past its log, with date and time in front.
    eprintln!(
        "{} Updated",
        jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S")
    );
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// By name, else by URL and id.
    fn choose(&self, runners: &[RunnerConfig]) -> Result<usize, Failure> {
        let found = match self.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => runners.iter().position(|runner| runner.name == name),
            None => {
                let (Some(url), Some(id)) = (&self.url, self.id) else {
                    return Err(Failure::invalid(
                        "either --name, or --url and --id, must be specified",
                    )
                    .hint("--all-runners resets every runner of the file"));
                };
                runners
                    .iter()
                    .position(|runner| runner.url == *url && runner.id == id)
            }
        };
        found.ok_or_else(|| {
            Failure::invalid("could not find a runner with that name, or that URL and id")
                .hint("`list` shows the runners of the file")
        })
    }
}

async fn reset(
    runner: &RunnerConfig,
    number: usize,
    pat: Option<&Secret>,
    document: &mut ConfigDocument,
    connect: impl Fn(&RunnerConfig) -> Result<courser_runner::client::Api, String>,
) -> bool {
    let short = short_token(runner.token.expose());
    let api = match connect(runner) {
        Ok(api) => api,
        Err(status) => {
            tracing::error!(runner = %short, status, "Resetting runner authentication token... client error");
            return false;
        }
    };
    let outcome = match pat {
        Some(pat) => api.reset_token_with_pat(runner.id, pat).await,
        None => api.reset_token().await,
    };
    match outcome {
        Ok(granted) => {
            let correlation_id = granted.correlation_id;
            tracing::info!(correlation_id, runner = %short, "Resetting runner authentication token... succeeded");
            document.set_token(
                number,
                &granted.value.token,
                Timestamp::now(),
                granted.value.token_expires_at,
            );
            true
        }
        Err(refusal) => {
            let correlation_id = refusal.correlation_id();
            tracing::error!(correlation_id, runner = %short, status = %refusal, "Resetting runner authentication token... failed");
            false
        }
    }
}
