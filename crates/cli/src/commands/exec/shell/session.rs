//! The shell itself: what is started in the job's directory, and how it and the job end together.

use std::io;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::process::Command;

use super::super::follow::Followed;
use super::TAKE_COPY;
use super::hold::{Held, Meeting};
use crate::failure::{Code, Failure};
use crate::platform;
use crate::session::Session;

/// Waits for the job, runs the shell or the command, and lets the job go. The exit code is theirs.
pub(super) async fn run(
    following: impl Future<Output = Result<Followed, Failure>>,
    meeting: &Meeting,
    job: &str,
    command: &[String],
    session: &Session,
    in_kept_copy: bool,
) -> Result<ExitCode, Failure> {
    let open = AtomicBool::new(false);
    let mut following = pin!(following);
    let mut shell = pin!(async {
        let directory = meeting.directory().to_owned();
        let held = tokio::task::spawn_blocking(move || Held::meet(&directory)).await;
        let held = held.map_err(io::Error::other).and_then(|held| held);
        let held =
            held.map_err(|error| Failure::internal(format!("the job's environment: {error}")))?;
        open.store(true, Ordering::Relaxed);
        start(&held, job, command, session, in_kept_copy).await
    });
    tokio::select! {
        followed = &mut following => {
            if open.load(Ordering::Relaxed) {
                // Its job was stopped; the shell decides itself when to end.
                return shell.await;
            }
            let gate = meeting.give_up();
            drop(shell.await);
            drop(gate);
            ended_before(&followed?, job)
        }
        code = &mut shell => {
            let code = code?;
            following.await?;
            Ok(code)
        }
    }
}

/// The end of a job that did not get as far as its script.
pub(super) fn ended_before(followed: &Followed, job: &str) -> Result<ExitCode, Failure> {
    if followed.interrupted {
        return Ok(Code::Interrupted.into());
    }
    let failure = Failure::new(Code::Failed, format!("{job} did not come to its script"));
    Err(failure.hint("what went wrong is told above; courser exec runs the whole pipeline"))
}

/// Starts the shell or the command with the job's environment and nothing else.
async fn start(
    held: &Held,
    job: &str,
    command: &[String],
    session: &Session,
    in_kept_copy: bool,
) -> Result<ExitCode, Failure> {
    let mut process = match command {
        [] => {
            let mut bash = Command::new("bash");
            // Profiles would change what the job has.
            bash.args(["--noprofile", "--norc"]);
            bash
        }
        [program, arguments @ ..] => {
            let mut process = Command::new(program);
            process.args(arguments);
            process
        }
    };
    process.env_clear();
    let ours = |name: &str| in_kept_copy && TAKE_COPY.contains(&name);
    for (name, value) in held.variables.iter().filter(|(name, _)| !ours(name)) {
        process.env(name, value);
    }
    if command.is_empty() {
        process.env("PS1", format!("[{job}] \\w\\$ "));
    }
    if let Some(terminal) = session.environment.variables.get("TERM") {
        process.env("TERM", terminal);
    }
    process
        .current_dir(&held.directory)
        .stdin(Stdio::inherit())
        .kill_on_drop(true);
    // Ctrl-C is for what runs in the shell.
    let failed = |error| Failure::internal(format!("cannot listen for signals: {error}"));
    let _interrupts = platform::interrupts().map_err(failed)?;
    let status = process.status().await.map_err(|error| {
        let program = command.first().map_or("bash", String::as_str);
        Failure::new(
            Code::Surroundings,
            format!("cannot start {program}: {error}"),
        )
    })?;
    Ok(exit_code(status))
}

/// A shell's way: 128 and the signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = platform::exit_code(status).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX).into()
}
