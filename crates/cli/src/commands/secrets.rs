//! `courser secrets`: look at secrets of jobs before a job does.
//!
//! [`asked`] says which secrets, of a job or of flags, with tokens signed as for the job; [`check`] and [`get`] fetch them
//! with the code that the runner has (`courser_secrets`), and give back what the server made for it. Exit codes of the
//! whole tree: 0 yes, 1 no, 2 a file that cannot be used, 64 wrong arguments.

mod asked;
mod check;
mod explain;
mod get;
mod given_back;
mod jwt;

use std::process::ExitCode;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::platform;
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
        Action::Check(check) => Box::pin(check::run(*check, &Stop::listen()?, session)).await,
        Action::Get(get) => Box::pin(get::run(*get, &Stop::listen()?, session)).await,
        Action::Explain(explain) => explain::run(&explain),
    }
}

/// Ctrl-C and whatever else asks this program to end: tokens are to be given back first.
struct Stop {
    asked: CancellationToken,
    /// Asked a second time: whatever is waited for is left.
    at_once: CancellationToken,
    _listening: JoinSet<()>,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::internal(format!("cannot listen for signals: {error}"));
        let mut interrupt = platform::interrupts().map_err(failed)?;
        let mut terminate = platform::terminations().map_err(failed)?;
        let mut hangup = platform::terminal_hangups().map_err(failed)?;
        let asked = CancellationToken::new();
        let at_once = CancellationToken::new();
        let tokens = [asked.clone(), at_once.clone()];
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            for told in tokens {
                let hung_up = async {
                    match &mut hangup {
                        Some(hangup) => drop(hangup.recv().await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = hung_up => drop(platform::leave_terminal()),
                }
                told.cancel();
            }
        });
        Ok(Self {
            asked,
            at_once,
            _listening: listening,
        })
    }
}
