//! `courser secrets`: look at secrets of jobs before a job does.
//!
//! [`asked`] says which secrets, of a job or of flags, with tokens signed as for the job; [`check`] and [`get`] fetch them
//! with the code that the runner has (`courser_secrets`), and give back what the server made for it. Exit codes of the
//! whole tree: 0 yes, 1 no, 2 a file that cannot be used, 64 wrong arguments.

mod asked;
mod check;
mod explain;
mod get;
mod jwt;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `secrets`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Fetch secrets as the runner would, and say at which step it goes wrong; shows no value
    Check(Box<check::Check>),
    /// Fetch one secret, to standard output or into a file that only you can read
    Get(Box<get::Get>),
    /// Show what an ID token says, never its signature
    Explain(explain::Explain),
}

const EXAMPLES: &str = "\
Examples:
  courser secrets check deploy --variable VAULT_SERVER_URL=https://vault.example.com:8200
  courser secrets check --vault production/db/password@ops --server https://vault.example.com:8200 \\
    --role deploy --token-file id-token.txt
  courser secrets get deploy DB_PASSWORD --output password.txt
  courser secrets explain id-token.txt";

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    match arguments.action {
        Action::Check(check) => Box::pin(check::run(*check, session)).await,
        Action::Get(get) => Box::pin(get::run(*get, session)).await,
        Action::Explain(explain) => explain::run(&explain),
    }
}
