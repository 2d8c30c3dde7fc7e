//! `list`: the runners of the configuration file (`runner-cli.md` 2.2).

use std::process::ExitCode;

use crate::config_file::{ConfigFile, ConfigOption};
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// Lists them in log lines. A file that cannot be loaded is only a warning, as upstream.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let path = arguments.config.path(session);
    let file = match ConfigFile::open(&path, session) {
        Ok(file) => file,
        Err(failure) => {
            tracing::warn!("{}", failure.message());
            return Ok(ExitCode::SUCCESS);
        }
    };
    tracing::info!(ConfigFile = %path.display(), "Listing configured runners");
    for runner in &file.config.runners {
        // The token in full is what this command promises; upstream shows it too.
        tracing::info!(
            Executor = runner.executor,
            Token = runner.token.expose(),
            URL = runner.url,
            "{}",
            runner.name
        );
    }
    Ok(ExitCode::SUCCESS)
}
