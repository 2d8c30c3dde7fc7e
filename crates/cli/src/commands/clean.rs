//! `courser clean`: removes what `courser exec` keeps.

use std::process::ExitCode;

use super::exec::state;
use crate::failure::Failure;
use crate::session::Session;

/// Arguments of `clean`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Arguments {
    /// Those of all projects
    #[arg(long)]
    all: bool,
    /// Say what is removed
    #[arg(short, long)]
    verbose: bool,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let environment = &session.environment;
    let failed = |error: std::io::Error| {
        let place = state::all_projects(environment);
        Failure::internal(format!("cannot clean {}: {error}", place.display()))
    };
    let projects = if arguments.all {
        state::projects(environment).map_err(failed)?
    } else {
        let here = &environment.working_directory;
        let here = here.canonicalize().map_err(failed)?;
        // Also from a directory inside the project.
        here.ancestors()
            .map(|above| {
                state::ProjectState::of(environment, above)
                    .root()
                    .to_owned()
            })
            .filter(|state| state.exists())
            .take(1)
            .collect()
    };
    for project in projects {
        let cleaned = state::clean(&project).map_err(failed)?;
        if arguments.verbose {
            for path in &cleaned.removed {
                println!("removed {}", path.display());
            }
        }
        for path in &cleaned.in_use {
            eprintln!("still running, left alone: {}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--help` says below the options.
const HELP: &str = "\
Removes logs, artifacts, caches and left-over working copies of `courser exec` for the project in
this directory. Runs that are still going on, and the cache they use, stay.";
