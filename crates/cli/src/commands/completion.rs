//! `courser completion`: a script that completes commands and flags in a shell.

use std::process::ExitCode;

use clap_complete::Shell;

use crate::arguments;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let mut tree = arguments::tree(&session.program);
    clap_complete::generate(
        arguments.shell,
        &mut tree,
        &session.program,
        &mut std::io::stdout(),
    );
    Ok(ExitCode::SUCCESS)
}
