//! The helper container of a job: one process of ours in it runs all predefined stages, and what is done beside others.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use courser_executor::agent::{Agent, AgentError, AgentWork, Connector};
use courser_executor::{Exit, Output, RunError, StopSignal, Stream};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use crate::engine::{Engine, EngineError};
use crate::life_line::LifeLine;
use crate::recipe::{MakeError, Recipe};
use crate::stage::{Attached, Complaints, stdout};

/// Where our program is in it.
pub(crate) const PROGRAM: &str = "/usr/bin/courser";

/// From the polite signal to force, as the engine's own.
const GRACE: Duration = Duration::from_secs(10);

/// Made when it is needed first, and again when it has gone. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HelperContainer {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    recipe: Recipe,
    /// What opens directories that stages of other users write to; run when the container has started.
    opening: String,
    line: Arc<LifeLine>,
    tunnel: Option<Tunnel>,
    agent: Mutex<Option<Agent>>,
}

/// Limit for the container to begin its work.
const BEGINNING: Duration = Duration::from_secs(60);

/// Connections from the helper container to a port on the runner's machine, over the container's stream.
#[derive(Clone)]
pub struct Tunnel {
    /// On both loopbacks: its URL is the same here and there.
    pub port: u16,
    /// Connects to it here.
    pub connector: Connector,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tunnel").field(&self.port).finish()
    }
}

/// The command of the container; files that are made there are open to all, or as the container's umask has it.
pub(crate) fn command(tunnel: Option<&Tunnel>, open_files: bool) -> Vec<String> {
    let command = [PROGRAM, "helper", "agent"].map(str::to_owned);
    let umask = (!open_files).then(|| "--keep-umask".to_owned());
    let listen = tunnel.map(|tunnel| format!("--listen={}", tunnel.port));
    command.into_iter().chain(umask).chain(listen).collect()
}

impl HelperContainer {
    pub(crate) fn new(
        engine: &Engine,
        recipe: Recipe,
        opening: String,
        line: &Arc<LifeLine>,
        tunnel: Option<Tunnel>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine: engine.clone(),
                recipe,
                opening,
                line: Arc::clone(line),
                tunnel,
                agent: Mutex::default(),
            }),
        }
    }

    /// Starts it unless it runs.
    pub(crate) async fn agent(&self) -> Result<Agent, MakeError> {
        let mut known = self.shared.agent.lock().await;
        if let Some(agent) = known.as_ref().filter(|agent| !agent.is_lost()) {
            return Ok(agent.clone());
        }
        let Shared { engine, recipe, .. } = &*self.shared;
        self.shared.line.renew();
        let id = recipe.make(engine).await?;
        let AttachContainerResults { output, input } =
            Attached::start(engine, &id).await?.into_streams();
        let complaints = Complaints::default();
        let said = stdout(output, complaints.clone());
        let tunnel = self.shared.tunnel.as_ref();
        let connector = tunnel.map(|tunnel| Arc::clone(&tunnel.connector));
        let agent = Agent::new(input, StreamReader::new(Box::pin(said)), connector);
        let mut said = Said(Vec::new());
        let opening = AgentWork::Script(&self.shared.opening);
        let opening = agent.run(opening, &mut said, StopSignal::new(), GRACE);
        let why = match timeout(BEGINNING, opening).await {
            Ok(Ok(Exit::Success)) => None,
            Ok(Ok(Exit::Failure { text, .. })) => Some(text),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("nothing comes for {} s", BEGINNING.as_secs())),
        };
        if let Some(why) = why {
            let said = String::from_utf8_lossy(&said.0);
            let said = format!("{}{}", said, complaints.text());
            let why = format!("the helper container does not work: {why}: {}", said.trim());
            return Err(EngineError::Stream(why).into());
        }
        *known = Some(agent.clone());
        Ok(agent)
    }

    /// Has it end by itself, while other things take their time: removing one that runs takes longer.
    pub(crate) fn end(&self) {
        if let Ok(mut agent) = self.shared.agent.try_lock() {
            agent.take();
        }
    }

    /// Does work in it.
    pub(crate) async fn perform(
        &self,
        work: AgentWork<'_>,
        output: &mut dyn Output,
        stop: StopSignal,
    ) -> Result<Exit, RunError> {
        let agent = self.agent().await?;
        match agent.run(work, output, stop.clone(), GRACE).await {
            Ok(exit) => Ok(exit),
            Err(AgentError::Lost(_)) if self.shared.line.is_cut().await => {
                Err(self.shared.line.lost(&stop).await)
            }
            Err(AgentError::Lost(why)) => self.lost(&why).await,
            Err(error @ AgentError::NotStarted(_)) => Err(RunError::Environment {
                message: format!("in the helper container: {error}"),
                reason: None,
            }),
        }
    }
}

impl HelperContainer {
    /// What it means that its stream has ended.
    async fn lost(&self, why: &str) -> Result<Exit, RunError> {
        let Shared { engine, recipe, .. } = &*self.shared;
        let inspected = engine.api().inspect_container(recipe.name(), None).await;
        let runs = inspected.map(|container| container.state.and_then(|state| state.running));
        let message = match runs.map_err(EngineError::from) {
            Ok(Some(true)) => {
                format!("the connection to the helper container is lost: {why}")
            }
            Err(error) if !error.is_not_found() => {
                format!("the helper container is lost: {error}")
            }
            // Somebody has killed or removed it: as upstream has it.
            _ => {
                return Ok(Exit::Failure {
                    code: 137,
                    text: "exit code 137".to_owned(),
                });
            }
        };
        Err(RunError::Environment {
            message,
            reason: None,
        })
    }
}

/// The beginning of what is said.
struct Said(Vec<u8>);

impl Output for Said {
    fn write(&mut self, _: Stream, bytes: &[u8]) {
        let room = 1000_usize.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
