//! The agent's side: processes in the container.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::frame::{Frame, Kind, LONGEST, Program, Start};
use super::tunnel::{Connecting, Connections, MOST};
use crate::shell::REPOSITORY_VARIABLES;

/// Frames that wait to be written.
const WAITING: usize = 16;

/// How long what a run left in the background may hold its output open without a word.
const DRAIN: Duration = Duration::from_secs(1);

/// Where Bash is looked for, in this order (`executor-docker.md` 5.3).
const BASH: [&str; 3] = ["/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash"];

/// Where programs in the container ask for connections to the runner's side.
pub trait Listener: Send {
    /// The next one.
    fn accept(&mut self) -> Connecting<'_>;
}

/// Serves the runner until its stream ends, then kills what runs. `courser` is this program.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
    courser: &Path,
    listener: Option<Box<dyn Listener>>,
) -> io::Result<()> {
    let (said, saying) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_all(saying, output));
    let (carried, carrying) = mpsc::unbounded_channel();
    let connections = Connections::new(move |frame| drop(carried.send(frame)));
    if let Some(listener) = listener {
        tasks.spawn(forward_frames(carrying, said.clone()));
        tasks.spawn(listen(listener, connections.clone(), said.clone()));
    }
    let mut runs: HashMap<u32, mpsc::UnboundedSender<Frame>> = HashMap::new();
    while let Some(frame) = Frame::read(&mut input).await? {
        runs.retain(|_, run| !run.is_closed());
        let run = frame.run;
        if frame.kind == Kind::Start {
            let (told, telling) = mpsc::unbounded_channel();
            runs.insert(run, told);
            let (said, courser) = (said.clone(), courser.to_owned());
            tasks.spawn(async move {
                let end = match perform(&frame, telling, &said, courser).await {
                    Ok(status) => {
                        Frame::new(run, Kind::Exit, code(status).to_string().into_bytes())
                    }
                    Err(error) => Frame::new(run, Kind::Failed, error.to_string().into_bytes()),
                };
                said.send(end).await.ok();
                Ok(())
            });
        } else if frame.kind.is_of_connection() {
            connections.take(frame);
        } else if let Some(told) = runs.get(&run) {
            told.send(frame).ok();
        }
    }
    Ok(())
}

/// Tells the runner of each connection that is wanted, and carries it.
async fn listen(
    mut listener: Box<dyn Listener>,
    connections: Connections,
    said: mpsc::Sender<Frame>,
) -> io::Result<()> {
    let mut number = 0_u32;
    loop {
        let connection = listener.accept().await?;
        number = number.wrapping_add(1);
        if connections.count() >= MOST {
            // Whoever wants it sees it end.
            continue;
        }
        said.send(Frame::new(number, Kind::Connect, [])).await.ok();
        connections.add(number, Box::pin(std::future::ready(Ok(connection))));
    }
}

/// Frames of connections wait here; how many that can be, their windows say.
async fn forward_frames(
    mut frames: mpsc::UnboundedReceiver<Frame>,
    said: mpsc::Sender<Frame>,
) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        said.send(frame).await.ok();
    }
    Ok(())
}

/// As a shell tells it.
fn code(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    match signal {
        Some(signal) => 128 + signal,
        None => status.code().unwrap_or(-1),
    }
}

async fn write_all(
    mut frames: mpsc::Receiver<Frame>,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        frame.write(&mut output).await?;
    }
    Ok(())
}

/// Runs one to its end.
async fn perform(
    start: &Frame,
    mut told: mpsc::UnboundedReceiver<Frame>,
    said: &mpsc::Sender<Frame>,
    courser: PathBuf,
) -> io::Result<ExitStatus> {
    let run = start.run;
    let start: Start = serde_json::from_slice(&start.content)?;
    let mut command = match start.program {
        Program::Shell => Command::new(shell()),
        Program::Helper => {
            let mut command = Command::new(courser);
            command.args(["helper", "run"]);
            command
        }
    };
    for name in REPOSITORY_VARIABLES {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut together = None;
    if start.streams_together {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        together = Some(reader);
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let child = command.spawn()?;
    // Its copies of a shared pipe's end, or the pipe would never end.
    drop(command);
    let mut child = Group { child };
    let forwarded = Arc::new(AtomicU64::new(0));
    let mut outputs = JoinSet::new();
    if let Some(reader) = together {
        outputs.spawn(forward(
            platform::pipe(reader)?,
            run,
            Kind::Stdout,
            said.clone(),
            Arc::clone(&forwarded),
        ));
    }
    if let Some(stdout) = child.child.stdout.take() {
        outputs.spawn(forward(
            stdout,
            run,
            Kind::Stdout,
            said.clone(),
            Arc::clone(&forwarded),
        ));
    }
    if let Some(stderr) = child.child.stderr.take() {
        outputs.spawn(forward(
            stderr,
            run,
            Kind::Stderr,
            said.clone(),
            Arc::clone(&forwarded),
        ));
    }
    let (input, feeding) = mpsc::unbounded_channel();
    let mut feeder = JoinSet::new();
    if let Some(stdin) = child.child.stdin.take() {
        feeder.spawn(feed(stdin, feeding));
    }
    let mut input = Some(input);
    let mut deadline = None;
    let status = loop {
        tokio::select! {
            status = child.child.wait() => break status?,
            frame = told.recv() => match frame {
                Some(Frame { kind: Kind::Input, content, .. }) => {
                    if let Some(input) = &input {
                        input.send(content).ok();
                    }
                }
                Some(Frame { kind: Kind::InputEnd, .. }) => input = None,
                Some(Frame { kind: Kind::Stop, content, .. }) => {
                    let grace = std::str::from_utf8(&content).ok().and_then(|text| text.parse().ok());
                    child.signal(platform::Signal::Terminate);
                    let grace = Duration::from_millis(grace.unwrap_or_default());
                    deadline = Some(tokio::time::Instant::now() + grace);
                }
                Some(Frame { kind: Kind::Kill, .. }) | None => child.signal(platform::Signal::Kill),
                Some(_) => {}
            },
            () = passed(deadline) => {
                deadline = None;
                child.signal(platform::Signal::Kill);
            }
        }
    };
    loop {
        let before = forwarded.load(Ordering::Relaxed);
        tokio::select! {
            ended = outputs.join_next() => if ended.is_none() {
                break;
            },
            // A piece that waits for room on the stream counts as on its way.
            () = tokio::time::sleep(DRAIN) => {
                if forwarded.load(Ordering::Relaxed) == before && said.capacity() > 0 {
                    break;
                }
            }
        }
    }
    Ok(status)
}

async fn passed(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn shell() -> &'static str {
    let is_there = |path: &&str| Path::new(path).exists();
    BASH.into_iter().find(is_there).unwrap_or("sh")
}

async fn feed(
    mut stdin: tokio::process::ChildStdin,
    mut content: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(bytes) = content.recv().await {
        // A shell that ended early does not read the rest.
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn forward(
    mut pipe: impl AsyncRead + Unpin,
    run: u32,
    kind: Kind,
    said: mpsc::Sender<Frame>,
    forwarded: Arc<AtomicU64>,
) {
    let mut room = vec![0; LONGEST];
    while let Ok(count @ 1..) = pipe.read(&mut room).await {
        let frame = Frame::new(run, kind, &room[..count]);
        if said.send(frame).await.is_err() {
            return;
        }
        forwarded.fetch_add(1, Ordering::Relaxed);
    }
}

/// A process and those that it started, killed with it.
struct Group {
    child: Child,
}

impl Group {
    fn signal(&self, signal: platform::Signal) {
        if let Some(pid) = self.child.id() {
            platform::signal_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reaped, its number may be another's; what it left runs to the end of the container.
        self.signal(platform::Signal::Kill);
    }
}

#[cfg(unix)]
mod platform {
    use std::io::{self, PipeReader};

    use rustix::process::{Pid, kill_process_group};
    use tokio::net::unix::pipe::Receiver;

    pub(super) enum Signal {
        Terminate,
        Kill,
    }

    pub(super) fn signal_group(leader: u32, signal: Signal) {
        let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) else {
            return;
        };
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        // Nobody is left in it: that is what was wanted.
        kill_process_group(group, signal).ok();
    }

    pub(super) fn pipe(reader: PipeReader) -> io::Result<Receiver> {
        Receiver::from_owned_fd(reader.into())
    }
}

#[cfg(windows)]
mod platform {
    use std::io::{self, PipeReader};

    pub(super) enum Signal {
        Terminate,
        Kill,
    }

    /// Windows containers have no agent yet.
    pub(super) fn signal_group(_leader: u32, _signal: Signal) {}

    pub(super) fn pipe(_reader: PipeReader) -> io::Result<tokio::io::Empty> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
