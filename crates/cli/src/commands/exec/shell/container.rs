//! The shell of a job in a container: started there by the Engine, its bytes carried to and from here.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::pin::pin;
use std::process::ExitCode;

use bytes::Bytes;
use courser_executor::Stream;
use courser_executor_docker::engine::EngineError;
use courser_executor_docker::script_container::{
    self, Input, Opened, Opening, ScriptContainer, Terminal, TerminalSize,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::super::follow::Followed;
use super::session::ended_before;
use crate::failure::{Code, Failure};
use crate::platform;
use crate::session::Session;

/// Pieces of input that wait to be taken.
const WAITING: usize = 4;

/// What is started.
pub(super) struct Shell<'a> {
    /// Name of the job.
    pub(super) job: &'a str,
    /// Empty: an interactive shell.
    pub(super) command: &'a [String],
    /// As its [`hold`] has it.
    pub(super) mark: &'a str,
}

/// A mark that no earlier use of the same container had.
pub(super) fn new_mark() -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{}-{now}", std::process::id())
}

/// What the job runs in place of its script; the shell does not see variables of `without`.
pub(super) fn hold(mark: &str, without: &[&str]) -> String {
    script_container::hold(mark, without)
}

/// Waits for the job's container, runs the shell or the command in it, and lets the job go. The exit code is theirs.
pub(super) async fn run(
    following: impl Future<Output = Result<Followed, Failure>>,
    mut scripts: UnboundedReceiver<ScriptContainer>,
    shell: Shell<'_>,
    session: &Session,
) -> Result<ExitCode, Failure> {
    let mut following = pin!(following);
    let container = tokio::select! {
        followed = &mut following => return ended_before(&followed?, shell.job),
        container = its_container(&mut scripts, shell.job) => container?,
    };
    let ran = {
        let mut running = pin!(in_container(&container, &shell, session));
        tokio::select! {
            ran = &mut running => ran,
            // It was stopped, or its time is over: with its container the shell ends as well.
            followed = &mut following => {
                let interrupted = followed?.interrupted;
                let code = running.await;
                return if interrupted { Ok(Code::Interrupted.into()) } else { code };
            }
        }
    };
    if let Err(error) = container.let_go(shell.mark).await {
        tracing::debug!("ending the job of a shell: {error}");
    }
    following.await?;
    ran
}

/// Others that it needs may run scripts, too.
async fn its_container(
    scripts: &mut UnboundedReceiver<ScriptContainer>,
    job: &str,
) -> Result<ScriptContainer, Failure> {
    while let Some(container) = scripts.recv().await {
        if container.job == job {
            return Ok(container);
        }
    }
    // The runner is gone; whoever follows it says why.
    std::future::pending().await
}

async fn in_container(
    container: &ScriptContainer,
    shell: &Shell<'_>,
    session: &Session,
) -> Result<ExitCode, Failure> {
    let failed = |error: EngineError| Failure::from_error(Code::Surroundings, &error);
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let opening = Opening {
        mark: shell.mark.to_owned(),
        command: shell.command.to_vec(),
        terminal: on_terminal.then(|| Terminal {
            kind: match session.environment.variables.get("TERM") {
                Some(kind) => kind.to_owned(),
                None => "dumb".to_owned(),
            },
            size: size(),
        }),
    };
    let opened = container.open(&opening).await.map_err(failed)?;
    let process = opened.process();
    let typing = match on_terminal {
        true => Some(platform::Typing::handed_on()),
        false => None,
    };
    let typing = typing
        .transpose()
        .map_err(|error| Failure::internal(format!("cannot hand on what is typed: {error}")))?;
    let carried = carry(opened, on_terminal).await;
    drop(typing);
    carried?;
    let code = process.exit_code().await.map_err(failed)?;
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(u8::MAX).into())
}

/// Carries bytes until the program has ended.
async fn carry(mut opened: Opened, on_terminal: bool) -> Result<(), Failure> {
    let process = opened.process();
    let mut feeding = pin!(feed(opened.input()));
    let mut fed = false;
    let mut resized = platform::resizes()
        .map_err(|error| Failure::internal(format!("cannot listen for signals: {error}")))?;
    loop {
        tokio::select! {
            piece = opened.said() => match piece {
                Some(Ok((stream, bytes))) => {
                    let written = show(stream, &bytes);
                    written.map_err(|error| Failure::internal(format!("cannot write: {error}")))?;
                }
                Some(Err(error)) => return Err(Failure::from_error(Code::Surroundings, &error)),
                None => return Ok(()),
            },
            () = &mut feeding, if !fed => fed = true,
            _ = resized.recv(), if on_terminal => process.resize(size()).await,
        }
    }
}

fn show(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        Stream::Stderr => io::stderr().write_all(bytes),
    }
}

/// Hands standard input on to its end.
async fn feed(input: Option<Input>) {
    let Some(mut input) = input else { return };
    let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING);
    // A thread of its own: a read of standard input cannot be cancelled, and a runtime would wait for it at the end.
    std::thread::spawn(move || {
        let mut room = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = io::stdin().read(&mut room) {
            if sender
                .blocking_send(Bytes::copy_from_slice(&room[..count]))
                .is_err()
            {
                return;
            }
        }
    });
    while let Some(piece) = pieces.recv().await {
        // A program that does not read its input ends when it likes.
        if input.write_all(&piece).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    input.shutdown().await.ok();
}

fn size() -> TerminalSize {
    let (rows, columns) = platform::terminal_size().unwrap_or((24, 80));
    TerminalSize { rows, columns }
}
