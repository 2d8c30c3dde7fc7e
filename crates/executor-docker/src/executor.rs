//! The executor's place in the runner: made from its configuration, asked for jobs' environments, and for what a dead
//! runner's job left.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use courser_config::{DockerConfig, RunnerConfig};
use courser_executor::{
    Environment, EnvironmentFuture, Executor, ExecutorProvider, Facts, Footprint, Host, NoPlace,
    Place, Preparation, PrepareError, Swept, UnusableExecutor,
};
use courser_job::{DirectoryLayout, Job, Shell, ToolTrust};
use courser_net::Legs;
use courser_net::legs::{DockerOptions, DockerTrust};
use courser_protocol::Features;
use tokio::sync::mpsc::UnboundedSender;

use crate::belongings::Belongings;
use crate::engine::Engine;
use crate::helper_container::{PROGRAM, Tunnel};
use crate::image_trust::{Anchors, ImageTrusts};
use crate::kept::Keep;
use crate::own_helper::OwnHelper;
use crate::preparation::prepare;
use crate::script_container::ScriptContainer;
use crate::volumes::bind_covers;

/// Its name in `config.toml`.
const NAME: &str = "docker";

/// Where jobs and caches are in containers, unless configured (`executor-docker.md` 5.1).
const BUILDS: &str = "/builds";
const CACHE: &str = "/cache";

/// Makes Docker executors. One for a process: it remembers what it knows of images.
pub struct DockerProvider {
    shared: Arc<Shared>,
}

/// What all executors of a process know.
pub(crate) struct Shared {
    legs: Legs,
    pub(crate) image_trusts: ImageTrusts,
    /// Our helper image, or why there is none.
    pub(crate) own_helper: Result<OwnHelper, String>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) local: LocalRun,
    /// Of the trust that was asked for last.
    anchors: Mutex<Option<KnownAnchors>>,
}

/// What a local run wants of its jobs' containers beside what the contract has.
#[derive(Debug, Clone, Default)]
pub struct LocalRun {
    /// Told of each container in which a script has begun.
    pub scripts: Option<UnboundedSender<ScriptContainer>>,
    /// Has something stay of each job.
    pub keep: Option<Keep>,
    /// How helper containers reach the coordinator when they do not over a network.
    pub tunnel: Option<Tunnel>,
}

/// What was made of a runner's trust: nothing where no private CA is in it.
struct KnownAnchors {
    of: Weak<ToolTrust>,
    anchors: Option<Arc<Anchors>>,
}

impl DockerProvider {
    /// `legs` say how engines are reached. `program` is this one: helper containers get it. `home` is the user's, where
    /// logins of registries are.
    pub fn new(legs: Legs, program: &Path, home: Option<PathBuf>, local: LocalRun) -> Self {
        Self {
            shared: Arc::new(Shared {
                legs,
                image_trusts: ImageTrusts::default(),
                own_helper: OwnHelper::new(program).map_err(|error| error.to_string()),
                home,
                local,
                anchors: Mutex::default(),
            }),
        }
    }
}

impl Shared {
    fn way(&self, host: &str, cert_path: &str, verify: bool) -> DockerTrust {
        self.legs.docker(DockerOptions {
            host,
            cert_path,
            verify,
        })
    }

    /// What images of a job's containers are given; `None`: no private CA is configured.
    pub(crate) fn anchors(&self, job: &Job) -> Option<Arc<Anchors>> {
        let tools = job.context().tls.tools.as_ref()?;
        let mut known = self.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known
            && known.of.as_ptr() == Arc::as_ptr(tools)
        {
            return known.anchors.clone();
        }
        let anchors = Anchors::of_tools(tools).map(Arc::new);
        *known = Some(KnownAnchors {
            of: Arc::downgrade(tools),
            anchors: anchors.clone(),
        });
        anchors
    }
}

/// One configured Docker executor.
struct DockerExecutor {
    facts: Facts,
    runner: RunnerConfig,
    way: DockerTrust,
    working_directory: PathBuf,
    shared: Arc<Shared>,
}

impl ExecutorProvider for DockerProvider {
    fn names(&self) -> &'static [&'static str] {
        &[NAME]
    }

    fn features(&self) -> Features {
        Features {
            variables: true,
            image: true,
            services: true,
            service_variables: true,
            service_multiple_aliases: true,
            artifacts: true,
            upload_multiple_artifacts: true,
            upload_raw_artifacts: true,
            cache: true,
            fallback_cache_keys: true,
            refspecs: true,
            masking: true,
            raw_variables: true,
            artifacts_exclude: true,
            multi_build_steps: true,
            return_exit_code: true,
            image_executor_opts: true,
            service_executor_opts: true,
            ..Features::default()
        }
    }

    fn executor(
        &self,
        config: &RunnerConfig,
        host: &Host,
    ) -> Result<Arc<dyn Executor>, UnusableExecutor> {
        let shell = Shell::parse(&config.shell).map_err(|rejection| UnusableExecutor::Shell {
            why: rejection.message,
        })?;
        if shell.is_powershell() {
            return Err(UnusableExecutor::Shell {
                why: format!(
                    "shell {:?} is not built into courser yet for the executor \"docker\": use \"bash\" or \"sh\"",
                    config.shell
                ),
            });
        }
        let missing = || UnusableExecutor::Configuration {
            why: "missing docker configuration".to_owned(),
        };
        let docker = config.docker.as_ref().ok_or_else(missing)?;
        let configured = |directory: &str, default: &str| match directory {
            "" => default.to_owned(),
            directory => directory.to_owned(),
        };
        let builds = configured(&config.builds_dir, BUILDS);
        let facts = Facts {
            name: NAME,
            shell: shell.program().to_owned(),
            directories: DirectoryLayout {
                cache: configured(&config.cache_dir, CACHE),
                shared_builds: bind_covers(docker, &builds),
                builds,
            },
            custom_build_dir: true,
            clean_git_config: true,
            safe_directory: true,
            shared_environment: false,
            keeps_working_copies: false,
            open_files: true,
            tools_trust_by_executor: true,
            shows_via: true,
            helper_command: PROGRAM.to_owned(),
        };
        let way = way(&self.shared, docker);
        Ok(Arc::new(DockerExecutor {
            facts,
            runner: config.clone(),
            way,
            working_directory: host.working_directory.clone(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn sweep<'a>(&'a self, footprint: &'a Footprint) -> EnvironmentFuture<'a, Swept> {
        Box::pin(async move {
            let mut swept = Swept::default();
            let what = || "containers of the job".to_owned();
            let belongings: Belongings = match footprint.record() {
                Ok(belongings) => belongings,
                Err(error) => {
                    swept.not_removed.push((what(), error.to_string()));
                    return swept;
                }
            };
            let way = self.shared.way(
                &belongings.host,
                &belongings.tls_cert_path,
                belongings.tls_verify,
            );
            match Engine::connect(&way).await {
                Ok(engine) => {
                    belongings.remove(&engine, &mut swept).await;
                    // As at the end of a job: whatever failed is tried again.
                    swept.again = !swept.not_removed.is_empty();
                }
                Err(error) => {
                    swept.not_removed.push((what(), error.to_string()));
                    swept.again = true;
                }
            }
            swept
        })
    }
}

fn way(shared: &Shared, docker: &DockerConfig) -> DockerTrust {
    shared.way(&docker.host, &docker.tls_cert_path, docker.tls_verify)
}

/// What finds a job's things again.
pub(crate) fn footprint(belongings: &Belongings) -> Footprint {
    Footprint::new(NAME, belongings)
}

impl Executor for DockerExecutor {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn acquire(&self) -> EnvironmentFuture<'_, Result<Place, NoPlace>> {
        Box::pin(std::future::ready(Ok(Place::unlimited())))
    }

    fn prepare<'a>(
        &'a self,
        preparation: Preparation<'a>,
    ) -> EnvironmentFuture<'a, Result<Box<dyn Environment>, PrepareError>> {
        Box::pin(async move {
            let directory = &self.working_directory;
            let prepared = prepare(
                &self.shared,
                &self.runner,
                &self.way,
                directory,
                preparation,
            );
            let environment: Box<dyn Environment> = Box::new(Box::pin(prepared).await?);
            Ok(environment)
        })
    }
}
