//! The job's container, started before its script is there: while the helper's stages run, its shell waits for input.
//!
//! Only where nothing can tell: no entrypoint of the image's runs before the shell, and no variable names a file that the
//! shell reads before its input. Whatever goes wrong here goes wrong again, and is told, when the stage starts it. A shell
//! that may be waiting for input that cannot be handed to it any more is never started twice: it would end well at the end
//! of its input, without its script.

use tokio::task::JoinSet;

use crate::container::ContainerDefinition;
use crate::engine::{Engine, EngineError};
use crate::images::Image;
use crate::stage::Attached;

/// Variables that name files, perhaps of the working copy, which are read before a shell's input.
const STARTUP_FILES: [&str; 4] = ["BASH_ENV", "ENV", "LD_PRELOAD", "LD_AUDIT"];

/// A container that is being started, or has been.
pub(crate) struct WaitingShell {
    starting: JoinSet<Result<Attached, EngineError>>,
}

/// What became of the shell.
pub(crate) enum Waited {
    /// It waits for its script.
    Waits(Attached),
    /// The container does not run; it can be started.
    Stopped,
    /// Nobody knows, or nothing reaches it: another container has to take its place.
    Unknown,
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

    /// What became of it.
    pub(crate) async fn look(mut self, engine: &Engine, container: &str) -> Waited {
        let started = match self.starting.join_next().await {
            Some(Ok(started)) => started,
            Some(Err(error)) => Err(EngineError::Garbled(error.to_string())),
            None => Err(EngineError::Garbled("it was never started".to_owned())),
        };
        if let Err(error) = &started {
            tracing::debug!(container, "no shell waits for the script: {error}");
        }
        let inspected = engine.api().inspect_container(container, None).await;
        let running = match inspected.map_err(EngineError::from) {
            Ok(inspected) => inspected.state.and_then(|state| state.running),
            Err(error) if error.is_not_found() => Some(false),
            Err(error) => {
                tracing::debug!(container, "whether a shell waits: {error}");
                None
            }
        };
        match (running, started) {
            (Some(true), Ok(attached)) => Waited::Waits(attached),
            (Some(false), _) => Waited::Stopped,
            (Some(true), Err(_)) | (None, _) => Waited::Unknown,
        }
    }
}
