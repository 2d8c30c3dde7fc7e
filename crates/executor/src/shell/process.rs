//! One stage as a tree of processes: started, followed, stopped as a whole (`runner-build-lifecycle.md` 3.9).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::job_processes::{JobProcesses, Killed};
use super::output::Pipes;
use super::platform::{self, Pipe, exit_of, standard_input};
use crate::{Exit, Output, RunError, StopSignal};

/// How long a killed process may take to disappear.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// Variables that tie Git to one repository. They are there when this process was started by a Git hook
/// (`courser exec` in `pre-push`), and would make the Git of a job work on the user's repository.
pub const REPOSITORY_VARIABLES: [&str; 9] = [
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];

/// How long dropping a running stage may block.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// Variables in which the runner itself is handed secrets (`runner-cli.md` 9): no job has a use for them. Upstream's
/// jobs inherit them.
const SECRETS_OF_THE_RUNNER: [&str; 7] = [
    "CI_SERVER_TOKEN",
    "REGISTRATION_TOKEN",
    "SSH_PASSWORD",
    "CACHE_S3_SECRET_KEY",
    "CACHE_S3_SESSION_TOKEN",
    "CACHE_GCS_PRIVATE_KEY",
    "CACHE_AZURE_ACCOUNT_KEY",
];

/// How long background processes of a stopped stage may outlive its leader.
const SURVIVOR_WAIT: Duration = Duration::from_secs(5);

/// Program and arguments of a stage's leader.
pub(super) struct Invocation {
    program: OsString,
    arguments: Vec<OsString>,
    /// Where it starts; scripts change to their own directory.
    directory: PathBuf,
    /// Where it and all that it starts belong.
    processes: JobProcesses,
    /// Tells what it starts from the rest of the job.
    own: Option<JobProcesses>,
}

impl Invocation {
    pub(super) fn new<'a>(
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        directory: &Path,
        processes: &JobProcesses,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            directory: directory.to_owned(),
            processes: processes.clone(),
            own: None,
        }
    }

    /// Runs beside the job's other processes: when it is dropped, only what it started is killed.
    pub(super) fn beside_others(self, own: JobProcesses) -> Self {
        Self {
            own: Some(own),
            ..self
        }
    }

    #[cfg(test)]
    pub(super) fn words(&self) -> Vec<&str> {
        std::iter::once(&self.program)
            .chain(&self.arguments)
            .filter_map(|word| word.to_str())
            .collect()
    }
}

/// Runs a stage: `input` on standard input, output to `output`, until its leader has ended.
///
/// Background processes of a stage that ended by itself live on, as upstream's do. When `stop` fires
/// the whole tree gets SIGTERM, and SIGKILL after `grace`; dropping the future is SIGKILL at once.
pub(super) async fn run_to_end(
    invocation: Invocation,
    input: &[u8],
    output: &mut dyn Output,
    stop: StopSignal,
    grace: Duration,
) -> Result<Ended, RunError> {
    let apart = output.tells_streams_apart();
    let mut tree = ProcessTree::start(invocation, input, apart).map_err(RunError::Start)?;
    let status = tokio::select! {
        status = tree.follow(output) => status,
        () = stop.cancelled() => tree.stop(output, grace).await,
    }?;
    tree.finished = true;
    // The position is shared with the process.
    let input_was_read = input.is_empty() || !matches!(tree.input.stream_position(), Ok(0));
    Ok(Ended {
        exit: exit_of(status),
        input_was_read,
    })
}

/// How a stage's leader ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// Whether it came as far as its standard input.
    pub(super) input_was_read: bool,
}

struct ProcessTree {
    leader: Child,
    pid: u32,
    pipes: Pipes,
    processes: JobProcesses,
    /// Killed when this is dropped: all of the job, or its own.
    dropped: JobProcesses,
    /// Standard input of the leader.
    input: File,
    /// Nothing is left that has to be killed when this is dropped.
    finished: bool,
}

impl ProcessTree {
    fn start(invocation: Invocation, input: &[u8], streams_apart: bool) -> io::Result<Self> {
        let processes = invocation.processes;
        let input = standard_input(input)?;
        let mut command = Command::new(&invocation.program);
        for name in REPOSITORY_VARIABLES.iter().chain(&SECRETS_OF_THE_RUNNER) {
            command.env_remove(name);
        }
        command
            .args(&invocation.arguments)
            .current_dir(&invocation.directory)
            .env(processes.variable(), "")
            .stdin(input.try_clone()?);
        let shared = if streams_apart {
            None
        } else {
            Pipe::shared(&mut command)?
        };
        if shared.is_none() {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        if let Some(own) = &invocation.own {
            command.env(own.variable(), "");
        }
        platform::set_apart(&mut command);
        let mut leader = command.spawn()?;
        let pid = leader.id();
        let pid = pid.ok_or_else(|| io::Error::other("process has no id"))?;
        processes.adopt(pid);
        let pipes = match shared {
            Some(both) => Pipes::shared(both),
            None => {
                let pipes = Pipe::both(&mut leader)?;
                let (stdout, stderr) =
                    pipes.ok_or_else(|| io::Error::other("process has no pipes"))?;
                Pipes::new(stdout, stderr)
            }
        };
        Ok(Self {
            leader,
            pid,
            pipes,
            dropped: invocation.own.unwrap_or_else(|| processes.clone()),
            processes,
            input,
            finished: false,
        })
    }

    /// Hands output on until the leader has ended and its pipes are drained.
    async fn follow(&mut self, output: &mut dyn Output) -> Result<ExitStatus, RunError> {
        let pid = self.pid;
        let failed = |source| RunError::Follow { pid, source };
        let status = loop {
            tokio::select! {
                biased;
                forwarded = self.pipes.forward(output), if !self.pipes.at_end() => forwarded.map_err(failed)?,
                status = self.leader.wait() => break status.map_err(failed)?,
            }
        };
        if !self.pipes.drain(output).await.map_err(failed)? {
            tracing::debug!(pid, "background processes of a stage hold its output open");
        }
        Ok(status)
    }

    /// SIGTERM to the whole tree; up to `grace` for the leader to end, and of what is left of it a little
    /// for the others; then SIGKILL to all.
    async fn stop(
        &mut self,
        output: &mut dyn Output,
        grace: Duration,
    ) -> Result<ExitStatus, RunError> {
        let deadline = Instant::now() + grace;
        let pid = self.pid;
        let asked = platform::ask_to_end(&self.leader);
        let processes = self.processes.clone();
        let others = off_thread(move || processes.terminate(pid));
        match asked {
            Ok(()) => tokio::join!(others, self.let_end(output, deadline)).1?,
            Err(error) => tracing::warn!(pid, "Failed to terminate process: {error}"),
        }
        self.processes.hold();
        let processes = self.processes.clone();
        off_thread(move || processes.find()).await;
        platform::kill(&self.leader);
        let processes = self.processes.clone();
        let Killed { left, .. } = off_thread(move || processes.kill(KILL_WAIT)).await;
        if !left.is_empty() {
            tracing::warn!(pid, "processes of a stopped job cannot be killed: {left:?}");
        }
        match tokio::time::timeout(KILL_WAIT, self.follow(output)).await {
            Ok(result) => result,
            Err(_) => Err(RunError::Dormant { pid }),
        }
    }

    /// Hands output on until the leader has ended and no process of the job lives any more, or their time
    /// is over.
    async fn let_end(
        &mut self,
        output: &mut dyn Output,
        deadline: Instant,
    ) -> Result<(), RunError> {
        let pid = self.pid;
        let ended = async {
            let waited = platform::ended(&mut self.leader).await;
            let patience = (Instant::now() + SURVIVOR_WAIT).min(deadline);
            let survivors = await_none(&self.processes);
            tokio::time::timeout_at(patience, survivors).await.ok();
            waited
        };
        let pipes = &mut self.pipes;
        let forwarding = async {
            while !pipes.at_end() {
                pipes.forward(output).await?;
            }
            std::future::pending::<io::Result<()>>().await
        };
        tokio::select! {
            result = ended => result,
            result = forwarding => result,
            () = tokio::time::sleep_until(deadline) => Ok(()),
        }
        .map_err(|source| RunError::Follow { pid, source })
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if !self.finished {
            self.dropped.hold();
            self.dropped.find();
            platform::kill(&self.leader);
            self.dropped.kill(DROP_WAIT);
        }
    }
}

/// Returns when no process of the job lives any more.
async fn await_none(processes: &JobProcesses) {
    let mut pause = Duration::from_millis(5);
    loop {
        let looked_at = processes.clone();
        if off_thread(move || looked_at.find().is_empty()).await {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Looks through all processes, which blocks for some milliseconds.
async fn off_thread<T: Send + Default + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;

    struct Said(Vec<u8>);

    impl Output for Said {
        fn write(&mut self, _stream: Stream, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    /// As where a job's processes cannot be told from others: none is found.
    #[tokio::test]
    async fn what_ignores_the_polite_signal_goes_with_its_leaders_group() {
        let text = "sh -c \"trap '' TERM; echo \\$\\$; exec sleep 300\" & wait";
        let job = JobProcesses::part();
        let leader = Invocation::new("sh", ["-c", text], Path::new("/"), &job);
        let mut tree = ProcessTree::start(leader, b"", false).expect("it starts");
        tree.processes = JobProcesses::part();
        let mut said = Said(Vec::new());
        while !said.0.ends_with(b"\n") {
            let forwarded = tree.pipes.forward(&mut said).await;
            forwarded.expect("readable");
        }
        let status = tree.stop(&mut said, Duration::from_secs(60)).await;
        assert!(matches!(
            exit_of(status.expect("it ends")),
            Exit::Failure { code: -1, .. }
        ));
        let patience = Instant::now() + Duration::from_secs(10);
        while !job.find().is_empty() {
            assert!(Instant::now() < patience, "{:?}", job.find());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tree.finished = true;
    }
}
