//! `lint`: is this configuration file right? (`runner-cli.md` 2.3)

use std::process::ExitCode;

use crate::config_file::{self, ConfigOption};
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// Checks it and writes nothing.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    config_file::lint(&arguments.config.path(session), session)?;
    tracing::info!("Configuration file is valid.");
    Ok(ExitCode::SUCCESS)
}
