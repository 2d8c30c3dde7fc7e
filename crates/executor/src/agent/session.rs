//! The runner's side of an agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courser_job::HelperRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::frame::{Frame, Kind, LONGEST, Program, Start};
use super::tunnel::{Connections, Connector};
use crate::{Exit, Output, StopSignal, Stream};

/// Frames of one run that wait to be taken: what it prints beyond that waits in the container.
const WAITING: usize = 16;

/// An agent in a container. Cheap to clone; when the last one is dropped, so is the stream, and the agent ends.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    to_agent: mpsc::UnboundedSender<Frame>,
    runs: Arc<Runs>,
    next: AtomicU32,
    /// Read and write the stream.
    _pumps: JoinSet<()>,
}

/// Who waits for what the agent says.
#[derive(Default)]
struct Runs(Mutex<State>);

#[derive(Default)]
struct State {
    open: HashMap<u32, mpsc::Sender<Frame>>,
    /// The stream has ended, and how.
    lost: Option<String>,
}

/// What an agent is given to do.
#[derive(Debug, Clone, Copy)]
pub enum AgentWork<'a> {
    /// A script for the container's shell.
    Script(&'a str),
    /// Work of the helper.
    Request(&'a HelperRequest),
}

/// Why a run did not come to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The stream ended: the container, the engine or the connection to it.
    #[error("the helper container is gone: {0}")]
    Lost(String),
    /// The agent could not start it.
    #[error("{0}")]
    NotStarted(String),
}

impl Agent {
    /// Speaks with the agent whose standard input and output these are. What wants a connection at its side gets one by
    /// `connector`, if there is one.
    pub fn new(
        input: impl AsyncWrite + Unpin + Send + 'static,
        output: impl AsyncRead + Unpin + Send + 'static,
        connector: Option<Connector>,
    ) -> Self {
        let (to_agent, frames) = mpsc::unbounded_channel();
        let tunnel = connector.map(|connector| {
            let to_agent = to_agent.downgrade();
            let connections = Connections::new(move |frame| {
                if let Some(to_agent) = to_agent.upgrade() {
                    to_agent.send(frame).ok();
                }
            });
            Tunnel {
                connector,
                connections,
            }
        });
        let runs = Arc::new(Runs::default());
        let mut pumps = JoinSet::new();
        pumps.spawn(write_all(frames, input, Arc::clone(&runs)));
        pumps.spawn(read_all(output, Arc::clone(&runs), tunnel));
        Self {
            shared: Arc::new(Shared {
                to_agent,
                runs,
                next: AtomicU32::new(0),
                _pumps: pumps,
            }),
        }
    }

    /// Whether the stream has ended.
    pub fn is_lost(&self) -> bool {
        self.shared.runs.state().lost.is_some()
    }

    /// Runs one to its end. When `stop` fires, its processes get SIGTERM, and SIGKILL after `grace`; dropping the future
    /// is SIGKILL at once.
    pub async fn run(
        &self,
        work: AgentWork<'_>,
        output: &mut dyn Output,
        stop: StopSignal,
        grace: Duration,
    ) -> Result<Exit, AgentError> {
        let mut run = self.open()?;
        let (program, input) = match work {
            AgentWork::Script(script) => (Program::Shell, script.as_bytes().to_vec()),
            AgentWork::Request(request) => {
                let request = serde_json::to_vec(request)
                    .map_err(|error| AgentError::NotStarted(error.to_string()))?;
                (Program::Helper, request)
            }
        };
        let start = Start {
            program,
            streams_together: !output.tells_streams_apart(),
        };
        let start = serde_json::to_vec(&start)
            .map_err(|error| AgentError::NotStarted(error.to_string()))?;
        run.tell(Kind::Start, start);
        for piece in input.chunks(LONGEST) {
            run.tell(Kind::Input, piece);
        }
        run.tell(Kind::InputEnd, []);
        let mut stopped = false;
        loop {
            let frame = tokio::select! {
                frame = run.frames.recv() => frame,
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    run.tell(Kind::Stop, grace.as_millis().to_string());
                    continue;
                }
            };
            let Some(frame) = frame else {
                run.ended = true;
                let lost = self.shared.runs.state().lost.clone();
                return Err(AgentError::Lost(lost.unwrap_or_default()));
            };
            match frame.kind {
                Kind::Stdout => output.write(Stream::Stdout, &frame.content),
                Kind::Stderr => output.write(Stream::Stderr, &frame.content),
                Kind::Exit => {
                    run.ended = true;
                    return Ok(exit(&frame.text()));
                }
                Kind::Failed => {
                    run.ended = true;
                    return Err(AgentError::NotStarted(frame.text()));
                }
                _ => {}
            }
        }
    }

    fn open(&self) -> Result<Run<'_>, AgentError> {
        let (said, frames) = mpsc::channel(WAITING);
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut state = self.shared.runs.state();
        if let Some(lost) = &state.lost {
            return Err(AgentError::Lost(lost.clone()));
        }
        state.open.insert(number, said);
        Ok(Run {
            agent: self,
            number,
            frames,
            ended: false,
        })
    }
}

/// As the log of a container's job names it.
fn exit(code: &str) -> Exit {
    match code.parse() {
        Ok(0) => Exit::Success,
        code => {
            let code = code.unwrap_or(-1);
            Exit::Failure {
                code,
                text: format!("exit code {code}"),
            }
        }
    }
}

/// One run; dropped before its end, it is killed.
struct Run<'a> {
    agent: &'a Agent,
    number: u32,
    frames: mpsc::Receiver<Frame>,
    ended: bool,
}

impl Run<'_> {
    fn tell(&self, kind: Kind, content: impl Into<Vec<u8>>) {
        let frame = Frame::new(self.number, kind, content);
        // When nobody writes any more, nobody reads either, and that is noticed.
        self.agent.shared.to_agent.send(frame).ok();
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Kind::Kill, []);
        }
        self.agent.shared.runs.state().open.remove(&self.number);
    }
}

impl Runs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all that wait.
    fn lose(&self, why: String) {
        let mut state = self.state();
        state.lost.get_or_insert(why);
        state.open.clear();
    }
}

async fn write_all(
    mut frames: mpsc::UnboundedReceiver<Frame>,
    mut input: impl AsyncWrite + Unpin,
    runs: Arc<Runs>,
) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = frame.write(&mut input).await {
            return runs.lose(error.to_string());
        }
    }
}

/// What programs in the container may reach.
struct Tunnel {
    connector: Connector,
    connections: Connections,
}

impl Tunnel {
    fn take(&self, frame: Frame) {
        match frame.kind {
            Kind::Connect => self.connections.add(frame.run, (self.connector)()),
            _ => self.connections.take(frame),
        }
    }
}

async fn read_all(mut output: impl AsyncRead + Unpin, runs: Arc<Runs>, tunnel: Option<Tunnel>) {
    loop {
        match Frame::read(&mut output).await {
            Ok(Some(frame)) if frame.kind.is_of_connection() => {
                if let Some(tunnel) = &tunnel {
                    tunnel.take(frame);
                }
            }
            Ok(Some(frame)) => {
                let run = runs.state().open.get(&frame.run).cloned();
                if let Some(run) = run {
                    // Nobody waits for what a run says that was given up.
                    run.send(frame).await.ok();
                }
            }
            Ok(None) => return runs.lose("it ended".to_owned()),
            Err(error) => return runs.lose(error.to_string()),
        }
    }
}
