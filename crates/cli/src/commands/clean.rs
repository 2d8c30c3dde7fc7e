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
    let mut bytes = 0;
    for project in projects {
        let cleaned = state::clean(&project).map_err(failed)?;
        bytes += cleaned.bytes;
        if arguments.verbose {
            for path in &cleaned.removed {
                println!("removed {}", path.display());
            }
        }
        for path in &cleaned.in_use {
            eprintln!("still running, left alone: {}", path.display());
        }
    }
    if bytes == 0 {
        println!("nothing to remove");
    } else {
        println!("freed {}", amount(bytes));
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--help` says below the options.
const HELP: &str = "\
Removes logs, artifacts, caches and left-over working copies of `courser exec` for the project in
this directory, and says how much that was. Runs that are still going on, and the cache they use,
stay. All of it lies in $XDG_STATE_HOME/courser/exec (~/.local/state/courser/exec).";

/// `512 B`, `1.5 KiB`, `20.0 MiB`.
pub(super) fn amount(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_fitting_unit() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (20 << 20, "20.0 MiB"),
        ] {
            assert_eq!(amount(bytes), expected);
        }
    }
}
