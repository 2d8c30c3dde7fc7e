//! `courser trust`: look at certificates, and say what is wrong with them.
//!
//! Exit codes of the whole tree: 0 yes, 1 no, 2 the question could not be asked (arguments, files), 4 the surroundings
//! fail. One file per subcommand below this one, each with its clap arguments and `run`.

mod check;
mod explain;
mod export;
mod fetch;
mod fingerprint;
mod import;
mod legs;
mod named_file;
mod opened;
mod rehearse;
mod show;
mod shown_certificate;
mod shown_remedy;
mod trust_file;
mod verify;

use std::process::ExitCode;

use courser_trust::Moment;

use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Look at every server that a runner and its jobs need, and say what is wrong
    Check(Box<check::Check>),
    /// Show the chain of a server, and trust its CA after a look at the fingerprint
    Fetch(Box<fetch::Fetch>),
    /// Show the certificate of a server, and trust it alone after a look at the fingerprint
    Pin(Box<fetch::Pin>),
    /// Play the classic faults here: what each looks like, and what cures it
    Rehearse(rehearse::Rehearse),
    /// Judge a chain from files as a connection would
    Verify(Box<verify::Verify>),
    /// Show which trust each connection is handed, and what its files hold
    Show(show::Show),
    /// Say what a file is and how to make a trust file out of it
    Explain(explain::Explain),
    /// Turn DER, PKCS#7, PKCS#12 or damaged PEM into a clean PEM file
    Import(import::Import),
    /// Write what a connection trusts as PEM, DER or a Java truststore
    Export(export::Export),
}

const EXAMPLES: &str = "\
Examples:
  courser trust check https://gitlab.example.com
  courser trust fetch gitlab.example.com
  courser trust verify --ca ca.crt --chain server.crt --host gitlab.example.com
  courser trust show --all
  courser trust explain server.p12

Exit codes: 0 yes, 1 no, 2 the question could not be asked (arguments, unusable files), 4 a server
that is to be trusted (fetch, pin) cannot be reached.";

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    match arguments.action {
        Action::Check(check) => check::run(*check, session).await,
        Action::Fetch(fetch) => fetch::fetch(*fetch, session).await,
        Action::Rehearse(rehearse) => rehearse::run(rehearse).await,
        Action::Pin(pin) => fetch::pin(*pin, session).await,
        Action::Verify(verify) => verify::run(*verify, session),
        Action::Show(show) => show::run(&show, session),
        Action::Explain(explain) => explain::run(&explain, session),
        Action::Import(import) => import::run(&import, session).await,
        Action::Export(export) => export::run(&export, session),
    }
}

fn now() -> Moment {
    jiff::Timestamp::now().into()
}
