//! The surroundings of one job in an engine: what runs its stages, until it is taken away.

use std::sync::Arc;

use courser_executor::agent::AgentWork;
use courser_executor::{
    Beside, Environment, EnvironmentFuture, Exit, Output, Place, Remains, RunError, Say, StopSignal,
};
use courser_job::{HelperRequest, StageScript, StageWork, messages};
use tokio::sync::mpsc::UnboundedSender;

use crate::belongings::{Belongings, InLog, remove_container};
use crate::engine::{Engine, EngineError};
use crate::executor::footprint;
use crate::helper_container::HelperContainer;
use crate::kept::Keeping;
use crate::life_line::LifeLine;
use crate::new_working_copy::NewWorkingCopy;
use crate::ownership::Ownership;
use crate::recipe::{MakeError, Recipe};
use crate::script_container::ScriptContainer;
use crate::service_logs::FollowedLogs;
use crate::stage::{Attached, Ended, run_script};
use crate::waiting_shell::{Waited, WaitingShell};

/// A prepared job.
pub(crate) struct DockerEnvironment {
    pub(crate) held: Held,
    pub(crate) helper: HelperContainer,
    /// Some predefined stages come to a few lines in it.
    pub(crate) new_working_copy: Option<NewWorkingCopy>,
    pub(crate) build: Build,
    /// Services run beside the stages.
    pub(crate) has_services: bool,
    pub(crate) service_logs: FollowedLogs,
    pub(crate) line: Arc<LifeLine>,
    pub(crate) say: Say,
    /// `EXECUTOR_JOB_SECTION_ATTEMPTS`.
    pub(crate) attempts: u32,
    pub(crate) place: Place,
    /// Told of the container when a script has begun in it.
    pub(crate) scripts: Option<Scripts>,
    /// What stays of the job.
    pub(crate) keeping: Option<Keeping>,
    /// Until the first script.
    pub(crate) ownership: Option<Ownership>,
}

/// Tells of containers in which scripts have begun.
pub(crate) struct Scripts {
    pub(crate) job: String,
    pub(crate) temporary: String,
    pub(crate) told: UnboundedSender<ScriptContainer>,
}

impl Scripts {
    fn tell(&self, engine: &Engine, id: &str) {
        let container = ScriptContainer {
            job: self.job.clone(),
            engine: engine.clone(),
            id: id.to_owned(),
            temporary: self.temporary.clone(),
        };
        // Nobody listening is fine.
        self.told.send(container).ok();
    }
}

/// The container with the job's image.
pub(crate) struct Build {
    pub(crate) recipe: Recipe,
    /// Its id, once it is made; an error is shown when a script needs it.
    pub(crate) made: Option<Result<String, MakeError>>,
    /// What was made waits for its script.
    pub(crate) waiting: Option<WaitingShell>,
    /// What is said of its image when it is used first.
    pub(crate) lines: Vec<String>,
    /// Its shell can be asked to end its processes.
    pub(crate) politely: bool,
}

/// What is in the engine, until it is taken away; dropped before, in the background.
pub(crate) struct Held {
    pub(crate) engine: Engine,
    belongings: Option<Belongings>,
    say: Say,
    remains: Remains,
}

impl Held {
    pub(crate) fn new(engine: &Engine, belongings: Belongings, say: Say, remains: Remains) -> Self {
        Self {
            engine: engine.clone(),
            belongings: Some(belongings),
            say,
            remains,
        }
    }

    /// Gives away what is to stay. A job's end is no other because nothing could be kept of it.
    async fn keep(&mut self, keeping: Keeping, build: Option<&str>) {
        match keeping.take(&self.engine, build).await {
            Ok(Some(volume)) => {
                if let Some(belongings) = &mut self.belongings {
                    belongings.give_away(volume);
                }
            }
            Ok(None) => {}
            Err(error) => (self.say)(&messages::warning(&format!("not kept: {error}"))),
        }
    }

    /// Takes it away; what stays is an error.
    pub(crate) async fn give_back(mut self) -> Result<(), RunError> {
        let Some(belongings) = &self.belongings else {
            return Ok(());
        };
        let mut told = InLog {
            say: &*self.say,
            failure: None,
        };
        belongings.remove(&self.engine, &mut told).await;
        let failure = told.failure.take();
        let belongings = self.belongings.take();
        match failure {
            None => Ok(()),
            Some(message) => {
                if let Some(belongings) = belongings {
                    (self.remains)(footprint(&belongings));
                }
                Err(RunError::Environment {
                    message,
                    reason: None,
                })
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(belongings) = self.belongings.take() else {
            return;
        };
        let engine = self.engine.clone();
        let remains = Arc::clone(&self.remains);
        let work = async move {
            let mut told = InLog {
                say: &|_: &str| (),
                failure: None,
            };
            belongings.remove(&engine, &mut told).await;
            if told.failure.is_some() {
                remains(footprint(&belongings));
            }
        };
        // Nobody is left to wait for it; what the end of the process cuts off, the next one sweeps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

impl DockerEnvironment {
    /// Runs a script in the job's image.
    async fn run_in_image(
        &mut self,
        stage: &str,
        script: &str,
        output: &mut dyn Output,
        stop: StopSignal,
    ) -> Result<Exit, RunError> {
        if self.line.renew() {
            if self.has_services {
                return Err(self.line.gone(true));
            }
            // Its streams ended with the Engine that it was started by.
            if self.build.waiting.take().is_some() {
                self.build.made = None;
            }
        }
        let engine = &self.held.engine;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut id = match self.build.made.take() {
                Some(made) => made?,
                None => self.build.recipe.make(engine).await?,
            };
            for line in self.build.lines.drain(..) {
                (self.say)(&line);
            }
            let waiting = match self.build.waiting.take() {
                Some(waiting) => match waiting.look(engine, &id).await {
                    Waited::Waits(attached) => Some(attached),
                    Waited::Stopped => None,
                    Waited::Unknown => {
                        remove_container(engine, &id, true).await?;
                        id = self.build.recipe.make(engine).await?;
                        None
                    }
                },
                None => None,
            };
            let scripts = self.scripts.as_ref();
            let (ownership, helper, say) = (self.ownership.as_ref(), &self.helper, &self.say);
            let running = async {
                let attached = match waiting {
                    Some(attached) => attached,
                    None => Attached::start(engine, &id).await?,
                };
                if let Some(ownership) = ownership {
                    let handing = ownership.hand_over(engine, &id, helper, say, output, &stop);
                    handing.await?;
                }
                if let Some(scripts) = scripts {
                    scripts.tell(engine, &id);
                }
                let (stop, politely) = (stop.clone(), self.build.politely);
                run_script(engine, &id, attached, script, output, stop, politely).await
            };
            let ran = tokio::select! {
                // First what it has said.
                biased;
                ran = running => ran,
                // The container may live on (`live-restore`): unheard, and nobody knows what it has said meanwhile.
                () = self.line.cut() => return Err(self.line.lost(&stop).await),
            };
            if ran.is_ok() {
                self.ownership = None;
            }
            match ran {
                // An Engine that stops ends containers as a script's own failure would.
                Ok(Ended::Exit(exit)) if self.line.has_ended(&exit).await => {
                    return Err(self.line.lost(&stop).await);
                }
                Err(_) if self.line.is_cut().await => {
                    return Err(self.line.lost(&stop).await);
                }
                Ok(Ended::Exit(exit)) => {
                    self.build.made = Some(Ok(id));
                    return Ok(exit);
                }
                // What a script left in it may not disturb what follows: a new one is made.
                Ok(Ended::Stopped(exit)) => {
                    remove_container(engine, &id, true).await?;
                    return Ok(exit);
                }
                Err(error) if error.is_not_found() => {
                    (self.say)(&messages::container_gone(&id));
                    if attempt >= self.attempts {
                        return Err(RunError::Environment {
                            message: format!("Execution attempts exceeded: {error}"),
                            reason: None,
                        });
                    }
                    (self.say)(&messages::retrying_stage(stage));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl From<EngineError> for RunError {
    /// With what to do about it.
    fn from(error: EngineError) -> Self {
        Self::Environment {
            message: error.with_remedy(error.to_string()),
            reason: None,
        }
    }
}

impl Environment for DockerEnvironment {
    fn run<'a>(
        &'a mut self,
        stage: &'a StageScript,
        output: &'a mut dyn Output,
        stop: StopSignal,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>> {
        Box::pin(async move {
            match &stage.work {
                StageWork::Shell(script) if stage.stage.is_predefined() => {
                    self.helper
                        .perform(AgentWork::Script(script), output, stop)
                        .await
                }
                StageWork::Shell(script) => {
                    let copy = self.new_working_copy.as_ref();
                    if copy.is_some_and(|copy| copy.helper_ends_before_scripts) {
                        self.helper.end();
                    }
                    self.run_in_image(&stage.stage.id(), script, output, stop)
                        .await
                }
                StageWork::Helper(requests) => {
                    if let Some(copy) = &self.new_working_copy
                        && copy.say(requests, output)
                    {
                        return Ok(Exit::Success);
                    }
                    for request in requests {
                        let work = AgentWork::Request(request);
                        let exit = self.helper.perform(work, output, stop.clone()).await?;
                        if !exit.is_success() {
                            return Ok(exit);
                        }
                    }
                    Ok(Exit::Success)
                }
            }
        })
    }

    fn beside(&self) -> Arc<dyn Beside> {
        Arc::new(self.helper.clone())
    }

    fn clean_up(self: Box<Self>) -> EnvironmentFuture<'static, Result<(), RunError>> {
        let Self {
            mut held,
            build,
            service_logs,
            place,
            keeping,
            ..
        } = *self;
        Box::pin(async move {
            if let Some(keeping) = keeping {
                // While a shell waits no script was in it.
                let used = build.made.as_ref().filter(|_| build.waiting.is_none());
                let build = used.and_then(|made| made.as_deref().ok());
                held.keep(keeping, build).await;
            }
            let given_back = held.give_back().await;
            drop((service_logs, place));
            given_back
        })
    }
}

impl Beside for HelperContainer {
    fn run<'a>(
        &'a self,
        request: &'a HelperRequest,
        output: &'a mut dyn Output,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>> {
        Box::pin(self.perform(AgentWork::Request(request), output, StopSignal::new()))
    }
}
