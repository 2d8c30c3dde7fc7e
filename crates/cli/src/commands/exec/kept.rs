//! What runs leave in Docker Engines: cache volumes, and with `--keep` an image and a volume for each job.
//!
//! Labels say whose they are; the project's directory says which Engines to ask.

use std::collections::HashMap;
use std::path::Path;

use courser_executor_docker::engine::{Engine, EngineError};
use courser_executor_docker::kept::Kept;
use courser_net::legs::DockerOptions;

use super::state::ProjectState;
use crate::session::Session;

const PROJECT: &str = "courser.exec.project";
const RUN: &str = "courser.exec.run";

/// Labels of what the jobs of a run leave; the directories are those of project and run.
pub(super) fn labels(project: &Path, run: &Path) -> HashMap<String, String> {
    let labels = [(PROJECT, name(project)), (RUN, name(run))];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The volume in which a project's caches lie.
pub(super) fn cache_volume(project: &Path) -> String {
    let plain = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '-',
    };
    let name: String = name(project).chars().map(plain).collect();
    format!("courser-exec-{name}")
}

fn name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Removes what runs left whose directories are gone.
pub(super) async fn forget_old_runs(state: &ProjectState, session: &Session) {
    let is_gone = |run: &str| !state.has_run(run);
    if let Err(error) = forget(state, session, false, is_gone, |_| ()).await {
        tracing::warn!("what old runs left in a Docker Engine was not removed: {error}");
    }
}

/// What cleaning left where it is.
#[derive(Debug, Default)]
pub(crate) struct Uncleaned {
    /// Why the Engine of this call was not cleaned.
    pub(crate) failure: Option<String>,
    /// Engines that this call does not reach.
    pub(crate) elsewhere: Vec<String>,
}

/// Removes what the project in that directory left in the Engine that is reached now, except of `in_use`; `gone` is told what
/// is gone.
pub(crate) async fn clean(
    project: &Path,
    session: &Session,
    in_use: &[&str],
    gone: impl FnMut(String),
) -> std::io::Result<Uncleaned> {
    let state = ProjectState::at(project.to_owned());
    let engines = state.engines()?;
    if engines.is_empty() {
        return Ok(Uncleaned::default());
    }
    let is_over = |run: &str| !in_use.contains(&run);
    Ok(
        match forget(&state, session, in_use.is_empty(), is_over, gone).await {
            Ok(host) => Uncleaned {
                failure: None,
                elsewhere: engines.into_iter().filter(|known| *known != host).collect(),
            },
            Err(error) => Uncleaned {
                failure: Some(error.to_string()),
                elsewhere: engines,
            },
        },
    )
}

/// Gives the host of the Engine.
async fn forget(
    state: &ProjectState,
    session: &Session,
    with_cache: bool,
    is_over: impl Fn(&str) -> bool,
    mut gone: impl FnMut(String),
) -> Result<String, EngineError> {
    let legs = session.environment.legs();
    let engine = Engine::connect(&legs.docker(DockerOptions::default())).await?;
    let mut things = Kept::of(&engine, PROJECT, &name(state.root())).await?;
    things.retain(|kept| kept.labels.get(RUN).is_some_and(|run| is_over(run)));
    if with_cache {
        things.extend(Kept::volume(&engine, &cache_volume(state.root())).await?);
    }
    for thing in things {
        thing.remove(&engine).await?;
        gone(thing.to_string());
    }
    Ok(engine.host().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_a_name_that_engines_take() {
        let volume = cache_volume(Path::new("/state/a_b.c-0123"));
        assert_eq!(volume, "courser-exec-a-b-c-0123");
    }
}
