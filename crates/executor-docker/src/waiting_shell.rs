//! The job's container, started before its script is there: while the helper's stages run, its shell waits for input.
//!
//! Only where nothing can tell: no entrypoint of the image's runs before the shell, and no variable names a file that the
//! shell reads before its input. Whatever goes wrong here goes wrong again, and is told, when the stage starts it.

use tokio::task::JoinSet;

use crate::container::ContainerDefinition;
use crate::engine::{Engine, EngineError};
use crate::images::Image;
use crate::stage::Attached;

/// Files that shells read first.
const STARTUP_FILES: [&str; 2] = ["BASH_ENV", "ENV"];

/// A container that is being started, or has been.
pub(crate) struct WaitingShell {
    starting: JoinSet<Result<Attached, EngineError>>,
}

/// Whether a container of this image can be started before its script is there.
pub(crate) fn may_wait(definition: &ContainerDefinition, image: &Image) -> bool {
    let config = image.inspected.config.as_ref();
    let of_image = config.and_then(|config| config.entrypoint.as_ref());
    let entrypoint = definition.body.entrypoint.as_ref().or(of_image);
    let mut words = entrypoint.into_iter().flatten();
    let of_image = config.and_then(|config| config.env.as_ref());
    let variables = definition.body.env.iter().chain(of_image).flatten();
    let mut names = variables.filter_map(|variable| Some(variable.split_once('=')?.0));
    words.all(String::is_empty) && !names.any(|name| STARTUP_FILES.contains(&name))
}

impl WaitingShell {
    /// Starts the container with this id.
    pub(crate) fn start(engine: &Engine, container: &str) -> Self {
        let (engine, container) = (engine.clone(), container.to_owned());
        let mut starting = JoinSet::new();
        starting.spawn(async move { Attached::start(&engine, &container).await });
        Self { starting }
    }

    /// Its streams, when it was started and still waits.
    pub(crate) async fn attached(mut self, engine: &Engine, container: &str) -> Option<Attached> {
        let started = self.starting.join_next().await?;
        let attached = match started.map_err(|error| error.to_string()) {
            Ok(Ok(attached)) => attached,
            Ok(Err(error)) => return not_waiting(container, &error.to_string()),
            Err(error) => return not_waiting(container, &error),
        };
        let inspected = engine.api().inspect_container(container, None).await;
        let state = inspected.ok().and_then(|container| container.state);
        match state.and_then(|state| state.running) {
            Some(true) => Some(attached),
            _ => not_waiting(container, "it has ended"),
        }
    }
}

fn not_waiting(container: &str, why: &str) -> Option<Attached> {
    tracing::debug!(container, "no shell waits for the script: {why}");
    None
}
