//! One stage in a container: its script on standard input, until the container's main process has ended
//! (`executor-docker.md` 7).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, StopContainerOptions, WaitContainerOptionsBuilder,
};
use courser_executor::{Exit, Output, StopSignal, Stream};
use futures_util::{StreamExt as _, stream};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::engine::{Engine, EngineError};

/// Limit of the polite step of a stop.
const POLITE: Duration = Duration::from_secs(10);

/// Between two requests to stop, and two to wait.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits that the engine answers wrongly are repeated so often.
const WAITS: u32 = 5;

/// How long after the container's end nothing may come before its output counts as complete.
const DRAIN: Duration = Duration::from_secs(2);

/// Sends TERM to every process but itself and process 1, the youngest first, and gives each six seconds.
const TERMINATE: &str = "\
cd /proc || exit 0
for pid in $(ls -d [0-9]* 2>/dev/null | sort -rn); do
  [ \"$pid\" = 1 ] || [ \"$pid\" = \"$$\" ] && continue
  kill -TERM \"$pid\" 2>/dev/null || continue
  tries=0
  while [ $tries -lt 6 ] && kill -0 \"$pid\" 2>/dev/null; do tries=$((tries + 1)); sleep 1; done
done
";

/// How a stage in a container ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exit(Exit),
    /// It was told to stop: the container is of no more use.
    Stopped(Exit),
}

/// The streams of a container that has been started.
pub(crate) struct Attached {
    streams: AttachContainerResults,
}

impl Attached {
    /// Starts a container that is there and stopped.
    ///
    /// # Errors
    ///
    /// Whatever the engine says; [`EngineError::is_not_found`] when the container is gone.
    pub(crate) async fn start(engine: &Engine, container: &str) -> Result<Self, EngineError> {
        let attach = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .build();
        // Before the start, or the first output would be lost.
        let streams = engine
            .api()
            .attach_container(container, Some(attach))
            .await?;
        engine.api().start_container(container, None).await?;
        Ok(Self { streams })
    }

    /// Its output and its input.
    pub(crate) fn into_streams(self) -> AttachContainerResults {
        self.streams
    }
}

/// Hands a container's shell the script, and follows it to its end.
///
/// # Errors
///
/// Whatever the engine says; [`EngineError::is_not_found`] when the container is gone.
pub(crate) async fn run_script(
    engine: &Engine,
    container: &str,
    attached: Attached,
    script: &str,
    output: &mut dyn Output,
    stop: StopSignal,
    politely: bool,
) -> Result<Ended, EngineError> {
    let AttachContainerResults {
        output: mut said,
        mut input,
    } = attached.into_streams();
    let feeding = async {
        // What does not read its input, as an entrypoint that is the job, breaks the pipe.
        if input.write_all(script.as_bytes()).await.is_ok() {
            input.shutdown().await.ok();
        }
    };
    let ending = async {
        let status = tokio::select! {
            status = wait(engine, container) => return status.map(|code| Ended::Exit(exit(code))),
            () = stop.cancelled() => {
                if politely {
                    timeout(POLITE, ask_to_end(engine, container)).await.ok();
                }
                stop_and_wait(engine, container).await
            }
        };
        status.map(|code| Ended::Stopped(exit(code)))
    };
    let (mut feeding, mut ending) = (pin!(feeding), pin!(ending));
    let (mut fed, mut ended) = (false, None);
    loop {
        tokio::select! {
            () = &mut feeding, if !fed => fed = true,
            end = &mut ending, if ended.is_none() => ended = Some(end?),
            piece = said.next() => match piece {
                Some(Ok(piece)) => hand_on(piece, output),
                // Without its output the job would go on unseen.
                Some(Err(error)) if ended.is_none() => {
                    stop_and_wait(engine, container).await.ok();
                    return Err(error.into());
                }
                Some(Err(_)) | None => break,
            },
            // The engine sometimes keeps the stream of a container open that has ended.
            () = tokio::time::sleep(DRAIN), if ended.is_some() => break,
        }
    }
    match ended {
        Some(ended) => Ok(ended),
        None => ending.await,
    }
}

fn hand_on(piece: LogOutput, output: &mut dyn Output) {
    let stream = match &piece {
        LogOutput::StdErr { .. } => Stream::Stderr,
        LogOutput::StdIn { .. } => return,
        LogOutput::StdOut { .. } | LogOutput::Console { .. } => Stream::Stdout,
    };
    // The contract's pieces are of 64 KiB at most.
    for piece in piece.into_bytes().chunks(64 * 1024) {
        output.write(stream, piece);
    }
}

/// The status of a container once it does not run. A container that is gone counts as one that ended well, as
/// upstream has it.
async fn wait(engine: &Engine, container: &str) -> Result<i64, EngineError> {
    let options = || {
        let options = WaitContainerOptionsBuilder::default();
        options.condition("not-running").build()
    };
    let mut tries = 0;
    loop {
        let mut waiting = engine.api().wait_container(container, Some(options()));
        let error = match waiting.next().await {
            Some(Ok(answer)) => return Ok(answer.status_code),
            Some(Err(error)) => EngineError::from(error),
            None => EngineError::Stream("the engine ended a wait without an answer".to_owned()),
        };
        tries += 1;
        match error {
            EngineError::Exit { code, .. } => return Ok(code),
            error if error.is_not_found() => return Ok(0),
            error if tries == WAITS => return Err(error),
            error => {
                tracing::debug!(container, "waiting for a container: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Asks the processes of a container to end, before it is stopped as a whole.
async fn ask_to_end(engine: &Engine, container: &str) {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["sh", "-c", TERMINATE]),
        ..CreateExecOptions::default()
    };
    let asking = async {
        let exec = engine.api().create_exec(container, options).await?;
        let started = engine.api().start_exec(&exec.id, None).await?;
        if let StartExecResults::Attached { mut output, .. } = started {
            while output.next().await.is_some() {}
        }
        Ok::<_, bollard::errors::Error>(())
    };
    if let Err(error) = asking.await {
        // It may have ended meanwhile, or have no shell.
        tracing::debug!(
            container,
            "asking the processes of a container to end: {error}"
        );
    }
}

/// Has the engine stop it, which kills it after the container's own grace period, until it does not run.
async fn stop_and_wait(engine: &Engine, container: &str) -> Result<i64, EngineError> {
    let stopping = async {
        loop {
            let stopped = engine
                .api()
                .stop_container(container, None::<StopContainerOptions>);
            if let Err(error) = stopped.await {
                tracing::debug!(container, "stopping a container: {error}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        status = wait(engine, container) => status,
        () = stopping => Ok(-1),
    }
}

/// In the words of this executor; codes of Windows are 32 bit.
fn exit(status: i64) -> Exit {
    match status as i32 {
        0 => Exit::Success,
        code => Exit::Failure {
            code,
            text: format!("exit code {code}"),
        },
    }
}

/// The beginning of what the helper container says on standard error. What follows may be of the job's making, and is in
/// nobody's log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complaints(Arc<Mutex<Vec<u8>>>);

impl Complaints {
    const LONGEST: usize = 1000;

    fn add(&self, bytes: &[u8]) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = Self::LONGEST.saturating_sub(said.len());
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(crate) fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// The standard output of an attached container as bytes.
pub(crate) fn stdout(
    said: impl stream::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static,
    complaints: Complaints,
) -> impl stream::Stream<Item = std::io::Result<bytes::Bytes>> + Send {
    said.filter_map(move |piece| {
        let handed = match piece {
            Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => Some(Ok(message)),
            Ok(LogOutput::StdErr { message }) => {
                complaints.add(&message);
                None
            }
            Ok(LogOutput::StdIn { .. }) => None,
            Err(error) => Some(Err(std::io::Error::other(error))),
        };
        std::future::ready(handed)
    })
}
