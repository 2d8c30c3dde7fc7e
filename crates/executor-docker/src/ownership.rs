//! `FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR` (`executor-docker.md` 15): what the helper makes is not open to all users, but
//! belongs to the user of the job's scripts from the first of them on.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use courser_executor::agent::AgentWork;
use courser_executor::{Exit, Output, Say, StopSignal};
use courser_job::{Job, messages};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::container::ContainerDefinition;
use crate::engine::{Engine, EngineError};
use crate::helper_container::HelperContainer;
use crate::images::Image;

/// What `id` says is two numbers.
const MOST_SAID: usize = 4096;
/// For both of them.
const LIMIT: Duration = Duration::from_secs(30);

/// Directories that are still root's.
pub(crate) struct Ownership {
    directories: [String; 2],
}

impl Ownership {
    /// `None`: the scripts run as root, or files are open.
    pub(crate) fn of(job: &Job, build: &ContainerDefinition, image: &Image) -> Option<Self> {
        if !job.features().disable_umask_for_docker {
            return None;
        }
        let of_image = image.inspected.config.as_ref();
        let of_image = of_image.and_then(|config| config.user.as_deref());
        let user = build.body.user.as_deref().or(of_image).unwrap_or_default();
        let (user, _) = user.split_once(':').unwrap_or((user, ""));
        let directories = job.directories();
        (!matches!(user, "" | "root" | "0")).then(|| Self {
            directories: [&directories.project, &directories.temporary].map(String::clone),
        })
    }

    /// Gives them to the user of a container that runs; may be repeated.
    ///
    /// # Errors
    ///
    /// Nobody can tell who that is, or the helper container is lost. Files that stay as they are are told in the log only.
    pub(crate) async fn hand_over(
        &self,
        engine: &Engine,
        container: &str,
        helper: &HelperContainer,
        say: &Say,
        output: &mut dyn Output,
        stop: &StopSignal,
    ) -> Result<(), EngineError> {
        let asking = async {
            let uid = id(engine, container, "-u").await?;
            Ok::<_, EngineError>((uid, id(engine, container, "-g").await?))
        };
        let (uid, gid) = tokio::select! {
            asked = timeout(LIMIT, asking) => asked.unwrap_or_else(|_| {
                let waited = LIMIT.as_secs();
                Err(EngineError::Stream(format!("`id` in the job's image did not end within {waited} s")))
            })?,
            // The script is stopped next.
            () = stop.cancelled() => return Ok(()),
        };
        if uid == 0 {
            return Ok(());
        }
        for directory in &self.directories {
            say(&messages::changing_ownership(directory, uid, gid));
            let quoted = directory.replace('\'', r"'\''");
            let script = format!("[ ! -e '{quoted}' ] || chown -RP -- {uid}:{gid} '{quoted}'\n");
            let exit = helper.perform(AgentWork::Script(&script), output, stop.clone());
            let exit = exit.await;
            let exit = exit.map_err(|error| EngineError::Stream(error.to_string()))?;
            if let Exit::Failure { text, .. } = exit {
                say(&messages::warning(&format!("chown in {directory}: {text}")));
            }
        }
        Ok(())
    }
}

/// A number of the user that runs a container's scripts: the last line of what `id` says there.
async fn id(engine: &Engine, container: &str, option: &str) -> Result<u32, EngineError> {
    let asking = async {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(vec!["id", option]),
            ..CreateExecOptions::default()
        };
        let exec = engine.api().create_exec(container, options).await?;
        let mut said = Vec::new();
        if let StartExecResults::Attached { mut output, .. } =
            engine.api().start_exec(&exec.id, None).await?
        {
            while let Some(piece) = output.next().await {
                let piece = piece?.into_bytes();
                if said.len() + piece.len() > MOST_SAID {
                    break;
                }
                said.extend_from_slice(&piece);
            }
        }
        Ok::<_, bollard::errors::Error>(String::from_utf8_lossy(&said).into_owned())
    };
    let said = asking.await?;
    let number = said
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok());
    number.ok_or_else(|| {
        let said = said.trim();
        EngineError::Stream(format!(
            "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR needs `id` in the job's image, and `id {option}` said {said:?}"
        ))
    })
}
