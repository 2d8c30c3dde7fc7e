//! `courser clean`: removes what `courser exec` keeps.

use std::process::ExitCode;

use super::exec::{kept, runner, state};
use crate::failure::{Code, Failure};
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
    let (mut bytes, mut things, mut complete) = (0, 0, true);
    for project in projects {
        // What finds the containers of a killed run again goes with its directory.
        let state = state::ProjectState::at(project.clone());
        runner::sweep_killed_runs(&state, session).await;
        let in_use = state::in_use(&project).map_err(failed)?;
        let in_use: Vec<&str> = in_use.iter().map(String::as_str).collect();
        let removed = |what: String| {
            things += 1;
            if arguments.verbose {
                println!("removed {what}");
            }
        };
        // First: the project's directory says where they are.
        let left = kept::clean(&project, session, &in_use, removed).await;
        let left = left.map_err(failed)?;
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
        for path in &cleaned.unswept {
            complete = false;
            eprintln!(
                "a killed run whose containers are not removed, left alone: {}",
                path.display()
            );
        }
        if !left.engines.is_empty() {
            complete = false;
            tell_of(&left);
            state.keep_engines(&left.engines).map_err(failed)?;
        }
    }
    match (bytes, things) {
        (0, 0) => println!("nothing to remove"),
        (bytes, 0) => println!("freed {}", amount(bytes)),
        (bytes, 1) => println!("freed {}, and 1 volume or image", amount(bytes)),
        (bytes, things) => println!("freed {}, and {things} volumes and images", amount(bytes)),
    }
    Ok(match complete {
        true => ExitCode::SUCCESS,
        false => Code::Surroundings.into(),
    })
}

/// Tells of what stays in Docker Engines.
fn tell_of(left: &kept::Uncleaned) {
    if let Some(failure) = &left.failure {
        eprintln!("volumes and images in the Docker Engine are not removed: {failure}");
    }
    for what in &left.stays {
        eprintln!("not removed: {what}");
    }
    for host in &left.elsewhere {
        eprintln!(
            "containers ran in the Docker Engine at {host}: DOCKER_HOST={host} courser clean"
        );
    }
}

/// What `--help` says below the options.
const HELP: &str = "\
Removes logs, artifacts, caches and left-over working copies of `courser exec` for the project in
this directory, and says how much that was. Runs that are still going on, and the cache they use,
stay. All of it lies in $XDG_STATE_HOME/courser/exec (~/.local/state/courser/exec), and of jobs in
containers in the Docker Engine: a volume for caches, and what --keep has left.

Exit codes: 0 all is removed; 4 something stays in a Docker Engine that is not reached, or that
does not give it up: a container is made of it.";

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
