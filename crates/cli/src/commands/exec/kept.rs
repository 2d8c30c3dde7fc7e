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

/// Labels of what the jobs of a run leave; `project` is the project's name in Engines.
pub(super) fn labels(project: &str, run: &Path) -> HashMap<String, String> {
    let run = run.file_name().unwrap_or_default().to_string_lossy();
    let labels = [(PROJECT, project.to_owned()), (RUN, run.into_owned())];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The volume in which the caches lie of the project with that name in Engines.
pub(super) fn cache_volume(project: &str) -> String {
    let plain = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '-',
    };
    let name: String = project.chars().map(plain).collect();
    format!("courser-exec-{name}")
}

/// Removes what runs left whose directories are gone.
pub(super) async fn forget_old_runs(state: &ProjectState, session: &Session) {
    if state.engines().is_ok_and(|engines| engines.is_empty()) {
        return;
    }
    let is_gone = |run: &str| !state.has_run(run);
    let stays = match forget(state, session, false, is_gone, |_| ()).await {
        Ok(forgotten) => forgotten.stays,
        Err(error) => vec![error],
    };
    for what in stays {
        tracing::warn!("what old runs left in a Docker Engine was not removed: {what}");
    }
}

/// What cleaning left where it is.
#[derive(Debug, Default)]
pub(crate) struct Uncleaned {
    /// Why the Engine of this call was not cleaned.
    pub(crate) failure: Option<String>,
    /// What stays in it, and why.
    pub(crate) stays: Vec<String>,
    /// Engines that this call does not reach.
    pub(crate) elsewhere: Vec<String>,
    /// All Engines in which something is.
    pub(crate) engines: Vec<String>,
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
            Ok(Forgotten { host, stays }) => {
                let is_here = |known: &String| *known == host;
                let elsewhere = engines.iter().filter(|known| !is_here(known));
                Uncleaned {
                    failure: None,
                    elsewhere: elsewhere.cloned().collect(),
                    engines: engines
                        .iter()
                        .filter(|known| !is_here(known) || !stays.is_empty())
                        .cloned()
                        .collect(),
                    stays,
                }
            }
            Err(error) => Uncleaned {
                failure: Some(error),
                stays: Vec::new(),
                elsewhere: engines.clone(),
                engines,
            },
        },
    )
}

struct Forgotten {
    /// Of the Engine.
    host: String,
    stays: Vec<String>,
}

/// An error: nothing is known of the Engine.
async fn forget(
    state: &ProjectState,
    session: &Session,
    with_cache: bool,
    is_over: impl Fn(&str) -> bool,
    mut gone: impl FnMut(String),
) -> Result<Forgotten, String> {
    let project = state.name_in_engines().map_err(|error| error.to_string())?;
    let legs = session.environment.legs();
    let engine = Engine::connect(&legs.docker(DockerOptions::default())).await;
    let engine = engine.map_err(|error| error.to_string())?;
    let mut things = found(&engine, &project, with_cache)
        .await
        .map_err(|error| error.to_string())?;
    things.retain(|kept| kept.labels.get(RUN).is_none_or(|run| is_over(run)));
    let mut stays = Vec::new();
    for thing in things {
        match thing.remove(&engine).await {
            Ok(()) => gone(thing.to_string()),
            Err(error) => stays.push(format!("{thing}: {error}")),
        }
    }
    Ok(Forgotten {
        host: engine.host().to_owned(),
        stays,
    })
}

/// What has the labels of a run, and what has none: the cache.
async fn found(engine: &Engine, project: &str, with_cache: bool) -> Result<Vec<Kept>, EngineError> {
    let mut things = Kept::of(engine, PROJECT, project).await?;
    things.retain(|kept| kept.labels.contains_key(RUN));
    if with_cache {
        things.extend(Kept::volume(engine, &cache_volume(project)).await?);
    }
    Ok(things)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_a_name_that_engines_take() {
        let volume = cache_volume("a_b.c-0123");
        assert_eq!(volume, "courser-exec-a-b-c-0123");
    }
}
