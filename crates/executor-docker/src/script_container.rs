//! A shell beside a job's script: what `courser shell` opens in the container where the script would run.
//!
//! In place of its script the job runs [`hold`]: it writes down the environment that the script would have had, and
//! waits. [`ScriptContainer::open`] starts a shell, or a command, in the same container as the same user, which first
//! takes over that environment. Nothing but a shell and `sleep` is needed of the image.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bytes::Bytes;
use courser_executor::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::ReaderStream;

use crate::container::with_best_shell;
use crate::engine::{Engine, EngineError};

/// A container in which a job's script runs.
#[derive(Clone)]
pub struct ScriptContainer {
    /// Name of the job.
    pub job: String,
    pub(crate) engine: Engine,
    pub(crate) id: String,
    /// The job's directory for temporary files.
    pub(crate) temporary: String,
}

impl std::fmt::Debug for ScriptContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptContainer")
            .field("job", &self.job)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What is opened.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Tells this use of the container from earlier ones, as in [`hold`].
    pub mark: String,
    /// A command with its arguments; empty: a shell.
    pub command: Vec<String>,
    /// On a terminal; otherwise its input and outputs are pipes.
    pub terminal: Option<Terminal>,
}

/// The user's terminal.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// `TERM`.
    pub kind: String,
    /// How large it is now.
    pub size: TerminalSize,
}

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Width of a line.
    pub columns: u16,
}

/// Bytes of a program in a container, in the order in which they came.
type Said = Pin<Box<dyn stream::Stream<Item = Result<(Stream, Bytes), EngineError>> + Send>>;

/// A program that runs in a container.
pub struct Opened {
    said: Said,
    input: Option<Input>,
    process: Process,
}

/// What a program in a container reads; shutting it down ends its input.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Steers a program in a container.
#[derive(Clone)]
pub struct Process {
    engine: Engine,
    id: String,
}

/// What a job runs in place of its script, in any POSIX shell: it waits for [`ScriptContainer::open`] with that mark, and ends
/// by [`ScriptContainer::let_go`]. Variables of `without` are not taken over.
pub fn hold(mark: &str, without: &[&str]) -> String {
    let file = format!("\"$RUNNER_TEMP_PROJECT_DIR/courser-shell-{mark}\"");
    // The container itself has them, too.
    let unset: String = without
        .iter()
        .map(|name| format!("echo unset {name}; "))
        .collect();
    format!(
        "(umask 077; {{ export -p; {unset}}} > {file}.new) && mv {file}.new {file} && while [ -f {file} ]; do sleep 1; done"
    )
}

/// Waits for the environment and becomes what is wanted: `$0` is the shell, then come this text, the file, what the
/// prompt shows, and the command.
const TAKE_OVER: &str = r#"
until [ -f "$2" ]; do sleep 0.1 2>/dev/null || sleep 1; done
. "$2"
cd "$CI_PROJECT_DIR" || exit
courser_prompt=$3
shift 3
if [ $# -gt 0 ]; then unset courser_prompt; exec "$@"; fi
if [ -n "$BASH_VERSION" ]; then export PS1="[$courser_prompt] \\w\\\$ "; else export PS1="[$courser_prompt] \$PWD \$ "; fi
unset courser_prompt
if [ -n "$BASH_VERSION" ]; then exec "$0" --noprofile --norc; fi
exec "$0"
"#;

impl ScriptContainer {
    /// Starts what is wanted; it waits until the job has come to its [`hold`].
    ///
    /// # Errors
    ///
    /// The engine refuses, or the container has ended.
    pub async fn open(&self, opening: &Opening) -> Result<Opened, EngineError> {
        let tty = opening.terminal.is_some();
        let mut command = with_best_shell("exec \"$shell\" -c \"$1\" \"$shell\" \"$@\"");
        // A prompt is expanded by the shell; a job's name is not to be.
        let prompt = self.job.replace(['\\', '$', '`', '!'], "_");
        command.extend(["sh".to_owned(), TAKE_OVER.to_owned()]);
        command.extend([self.file(&opening.mark), prompt]);
        command.extend(opening.command.iter().cloned());
        let terminal = opening.terminal.as_ref();
        let env = terminal.map(|terminal| vec![format!("TERM={}", terminal.kind)]);
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            cmd: Some(command),
            env,
            ..CreateExecOptions::default()
        };
        let id = self.engine.api().create_exec(&self.id, options).await?.id;
        let process = Process {
            engine: self.engine.clone(),
            id,
        };
        if let Some(terminal) = terminal {
            // Its bytes are its own: bollard would look for frames in them.
            let (read, input) =
                tokio::io::split(self.engine.start_exec_on_terminal(&process.id).await?);
            process.resize(terminal.size).await;
            return Ok(Opened {
                said: raw(read),
                input: Some(Box::pin(input)),
                process,
            });
        }
        let start = StartExecOptions {
            output_capacity: Some(64 * 1024),
            ..StartExecOptions::default()
        };
        match self
            .engine
            .api()
            .start_exec(&process.id, Some(start))
            .await?
        {
            StartExecResults::Attached { output, input } => Ok(Opened {
                said: Box::pin(output.map_err(EngineError::from).filter_map(told_apart)),
                input: Some(input),
                process,
            }),
            StartExecResults::Detached => Err(EngineError::Stream(
                "the engine did not attach a program in a container".to_owned(),
            )),
        }
    }

    /// Ends the job's [`hold`].
    ///
    /// # Errors
    ///
    /// The engine refuses, or the container has ended.
    pub async fn let_go(&self, mark: &str) -> Result<(), EngineError> {
        let options = CreateExecOptions {
            cmd: Some(vec!["rm".to_owned(), "-f".to_owned(), self.file(mark)]),
            attach_stdout: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = self.engine.api().create_exec(&self.id, options).await?;
        let started = self.engine.api().start_exec(&exec.id, None).await?;
        if let StartExecResults::Attached { mut output, .. } = started {
            while output.next().await.is_some() {}
        }
        Ok(())
    }

    fn file(&self, mark: &str) -> String {
        format!("{}/courser-shell-{mark}", self.temporary)
    }
}

async fn told_apart(
    piece: Result<LogOutput, EngineError>,
) -> Option<Result<(Stream, Bytes), EngineError>> {
    match piece {
        Ok(LogOutput::StdErr { message }) => Some(Ok((Stream::Stderr, message))),
        Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
            Some(Ok((Stream::Stdout, message)))
        }
        Ok(LogOutput::StdIn { .. }) => None,
        Err(error) => Some(Err(error)),
    }
}

fn raw(read: impl AsyncRead + Send + 'static) -> Said {
    let pieces = ReaderStream::new(read);
    Box::pin(pieces.map(|piece| match piece {
        Ok(bytes) => Ok((Stream::Stdout, bytes)),
        Err(error) => Err(EngineError::Stream(error.to_string())),
    }))
}

impl Opened {
    /// What it says next; nothing more once it has ended.
    pub async fn said(&mut self) -> Option<Result<(Stream, Bytes), EngineError>> {
        self.said.next().await
    }

    /// What it reads, for the one who asks first.
    pub fn input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// What steers it.
    pub fn process(&self) -> Process {
        self.process.clone()
    }
}

impl Process {
    /// Tells it how large its terminal is. One that has just ended has none.
    pub async fn resize(&self, size: TerminalSize) {
        let options = ResizeExecOptions {
            height: size.rows,
            width: size.columns,
        };
        if let Err(error) = self.engine.api().resize_exec(&self.id, options).await {
            tracing::debug!("resizing a terminal in a container: {error}");
        }
    }

    /// Its status once it has ended; `None`: its container ended first.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        let inspected = self.engine.api().inspect_exec(&self.id).await;
        match inspected.map_err(EngineError::from) {
            Ok(inspected) => Ok(inspected.exit_code),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_environment_of_a_script_is_taken_over_in_any_shell() {
        for shell in ["bash", "dash", "busybox sh"] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().display().to_string();
            let mut words = shell.split(' ');
            let start = |script: &str, words: &mut dyn Iterator<Item = &str>| {
                let mut command = Command::new(words.next().expect("a program"));
                command.args(words).arg("-c").arg(script);
                command.stdout(Stdio::piped());
                command
            };
            let script = format!(
                "export GONE=1 WORD='a b\n\"c\" $d'; {}; echo let go",
                hold("m", &["GONE"])
            );
            let holding = start(&script, &mut words)
                .env("RUNNER_TEMP_PROJECT_DIR", &path)
                .env("CI_PROJECT_DIR", &path)
                .spawn()
                .expect("starts");
            let file = format!("{path}/courser-shell-m");
            let mut words = shell.split(' ');
            let output = start(TAKE_OVER, &mut words)
                .args([shell, TAKE_OVER, &file, "job", "sh", "-c"])
                .arg("printf '%s|%s|%s' \"$WORD\" \"$PWD\" \"$courser_prompt$GONE\"; exit 7")
                .output()
                .expect("starts");
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said, format!("a b\n\"c\" $d|{path}|"), "{shell}");
            assert_eq!(output.status.code(), Some(7), "{shell}");
            std::fs::remove_file(&file).expect("held until now");
            let held = holding.wait_with_output().expect("ends");
            assert_eq!(String::from_utf8_lossy(&held.stdout), "let go\n", "{shell}");
        }
    }
}
