//! From a directory to a pipeline that runs: file, snapshot commit and coordinator at once, then the
//! pipeline.

use std::sync::Arc;

use courser_coordinator::{
    Beforehand, Certificate, Coordinator, CoordinatorEvent, CreateError, Durability, Handle,
    Images, Limits, NewPipeline, OidcSettings, OwnRunner, PipelineSource, Project, Settings,
    StartError, certificate_of,
};
use courser_executor_docker::Tunnel;
use courser_executor_docker::engine::Engine;
use courser_net::server::ListenError;
use courser_net::{Clients, ServerIdentity};
use courser_pipeline::{Pipeline, PipelineJob, Problem};
use courser_protocol::{JobVariable, Secret};
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use url::Url;

use super::containers::{self, ContainerOptions, Reached};
use super::downstream::LocalPipelines;
use super::project::{Evaluated, Target};
use super::snapshot::{self, Snapshot};
use super::state::RunState;
use super::view;
use crate::control_characters::written_out;
use crate::event_options::{EventOptions, Origin};
use crate::failure::{Code, Failure};
use crate::includes::Includes;
use crate::oidc_options::OidcOfRun;
use crate::pipeline_variables::{GivenVariables, Mask};
use crate::problems::{self, Severity};
use crate::session::Session;

/// Which pipeline, and in which form problems of its file are told.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) event: EventOptions,
    /// Where files of other places come from.
    pub(super) includes: Includes,
    pub(super) variables: GivenVariables,
    pub(super) containers: ContainerOptions,
    pub(super) oidc: OidcOfRun,
    pub(super) json: bool,
}

/// Everything that a pipeline needs, a runner excepted.
pub(super) struct Prepared {
    pub(super) evaluated: Evaluated,
    pub(super) coordinator: Handle,
    snapshot: Snapshot,
    containers: ContainerOptions,
    pipelines: Arc<LocalPipelines>,
    oidc: OidcOfRun,
    json: bool,
}

/// A pipeline whose first jobs wait for a runner.
pub(super) struct Begun {
    pub(super) pipeline: i64,
    pub(super) events: Receiver<CoordinatorEvent>,
    pub(super) tokens: Tokens,
}

/// Of the runners.
pub(super) struct Tokens {
    /// The one whose jobs run in a shell, unless none may.
    pub(super) shell: Option<Secret>,
    /// The one whose jobs run in containers, and where these reach the coordinator.
    pub(super) containers: Option<(Secret, Url)>,
}

/// What runs containers, and where these reach the coordinator.
pub(super) struct Containers {
    pub(super) engine: Engine,
    pub(super) url: Url,
    /// That they reach it over their streams.
    pub(super) tunnel: Option<Tunnel>,
}

/// Evaluates the file, makes the snapshot and starts the coordinator.
pub(super) async fn prepare(request: &Request, run: &RunState) -> Result<Prepared, Failure> {
    let target = &request.target;
    let pipelines = LocalPipelines::new(
        target.clone(),
        request.event.clone(),
        request.includes.clone(),
        request.containers.clone(),
        run.git(),
    );
    let pipelines = Arc::new(pipelines);
    let oidc = request.oidc.settings.clone();
    let starting = start_coordinator(run, Arc::clone(&pipelines) as _, oidc);
    let evaluating = evaluate(request.clone());
    let (evaluated, snapshot, coordinator) = if request.event.names_a_ref() {
        // Which commit that is has to be known first.
        let evaluated = evaluating.await?;
        let taking = take_snapshot(target, &evaluated.origin, run, Timestamp::now());
        let (snapshot, coordinator) = tokio::try_join!(taking, starting)?;
        (evaluated, snapshot, coordinator)
    } else {
        // Three things that do not need each other; the first fault ends them all.
        tokio::try_join!(
            evaluating,
            take_snapshot(target, &Origin::WorkingTree, run, Timestamp::now()),
            starting,
        )?
    };
    pipelines.is_for(&evaluated.event);
    Ok(Prepared {
        evaluated,
        coordinator,
        snapshot,
        containers: request.containers.clone(),
        pipelines,
        oidc: request.oidc.clone(),
        json: request.json,
    })
}

/// Evaluates the file; problems are told at once.
pub(super) async fn evaluate(request: Request) -> Result<Evaluated, Failure> {
    let Request {
        target,
        event,
        includes,
        variables,
        containers,
        json,
        ..
    } = request;
    tokio::task::spawn_blocking(move || {
        let variables = variables.all();
        let mut evaluated = target.evaluate(&event, &includes, &variables, |errors| {
            report(errors, Severity::Error, &Mask::of(&variables), json);
        })?;
        containers.apply(&mut evaluated.pipeline);
        Ok(evaluated)
    })
    .await
    .map_err(|error| Failure::from_error(Code::Internal, &error))?
}

impl Prepared {
    /// Where containers reach the coordinator, when some job runs in one.
    pub(super) async fn reach_containers(
        &mut self,
        pipeline: &Pipeline,
        session: &Session,
    ) -> Result<Option<Containers>, Failure> {
        let reached = self.containers.reach(pipeline, session).await?;
        self.pipelines.have_containers(reached.is_some());
        let Some(Reached { engine, gateway }) = reached else {
            return Ok(None);
        };
        if let Some(gateway) = gateway {
            match self.coordinator.listen_at(gateway).await {
                Ok(url) => {
                    return Ok(Some(Containers {
                        engine,
                        url,
                        tunnel: None,
                    }));
                }
                // An Engine in a virtual machine, as Docker Desktop has it.
                Err(error) => tracing::debug!("no listening for containers at {gateway}: {error}"),
            }
        }
        let url = self.coordinator.url().clone();
        let tunnel = url.port().map(containers::tunnel);
        Ok(Some(Containers {
            engine,
            url,
            tunnel,
        }))
    }

    /// What jobs do not get of submodules, if some job wants any.
    pub(super) fn warn_of_submodules(
        &self,
        pipeline: &Pipeline,
        variables: &[JobVariable],
        json: bool,
    ) {
        const STRATEGY: &str = "GIT_SUBMODULE_STRATEGY";
        let wanted = variables.iter().any(|variable| variable.key == STRATEGY)
            || pipeline.jobs.iter().any(|job| {
                let mut of_job = job.variables.iter();
                of_job.any(|variable| variable.key == STRATEGY)
            });
        if wanted {
            for note in &self.snapshot.submodules.notes {
                say(note, json);
            }
        }
    }

    /// Lets a provider fetch the keys of ID tokens, if jobs may have some.
    async fn publish_keys(&mut self, pipeline: &Pipeline) -> Result<(), Failure> {
        let may_have_tokens =
            |job: &PipelineJob| !job.id_tokens.is_empty() || job.trigger.is_some();
        let Some((address, directory)) = &self.oidc.published else {
            return Ok(());
        };
        if !pipeline.jobs.iter().any(may_have_tokens) {
            return Ok(());
        }
        let failed = |error: &StartError| Failure::from_error(Code::Surroundings, error);
        let issuer = self.coordinator.issuer();
        let pair = certificate_of(issuer, directory, Timestamp::now());
        let (certificate, key) = pair.map_err(|error| failed(&error))?;
        let identity = ServerIdentity::Files { certificate, key };
        match self.coordinator.publish_keys_at(*address, identity).await {
            Err(StartError::Listen(ListenError::Bind { source, .. }))
                if source.kind() == std::io::ErrorKind::AddrInUse =>
            {
                let note = format!(
                    "--oidc-listen {address} is in use: fine if another run publishes the same keys there"
                );
                say(&note, self.json);
                Ok(())
            }
            published => published.map_err(|error| failed(&error)),
        }
    }

    /// Creates the pipeline: `pipeline` is the evaluated one, or what was chosen of it.
    pub(super) async fn begin(
        &mut self,
        pipeline: Pipeline,
        beforehand: Beforehand,
        variables: GivenVariables,
        containers: Option<Url>,
    ) -> Result<Begun, Failure> {
        self.publish_keys(&pipeline).await?;
        let failed = |error: CreateError| Failure::from_error(Code::Internal, &error);
        let coordinator = &self.coordinator;
        let path = Project::plain_path(&self.evaluated.project_path());
        let url = format!("{}{path}.git", coordinator.url());
        let submodules = self.snapshot.submodules.served(&url);
        let repository = self.snapshot.repository.clone();
        let project = Project {
            id: 1,
            path,
            repository: repository.with_submodules(submodules),
        };
        coordinator.add_project(project).await.map_err(failed)?;
        let runner = async |images, url| {
            let runner = OwnRunner {
                description: "courser exec".to_owned(),
                images,
                url,
            };
            coordinator.create_runner(runner).await.map_err(failed)
        };
        let tokens = match containers {
            None => Tokens {
                shell: Some(runner(Images::Any, None).await?),
                containers: None,
            },
            Some(url) => Tokens {
                shell: match self.containers.have_no_shell() {
                    true => None,
                    false => Some(runner(Images::Without, None).await?),
                },
                containers: Some((runner(Images::With, Some(url.clone())).await?, url)),
            },
        };
        let events = coordinator.subscribe();
        let new = NewPipeline {
            beforehand,
            ..new_pipeline(&self.evaluated, pipeline, &self.snapshot, variables)
        };
        let pipeline = coordinator.create_pipeline(new).await.map_err(failed)?;
        Ok(Begun {
            pipeline,
            events,
            tokens,
        })
    }
}

async fn take_snapshot(
    target: &Target,
    origin: &Origin,
    run: &RunState,
    now: Timestamp,
) -> Result<Snapshot, Failure> {
    let (root, git_dir) = (&target.project.root, run.git());
    let taken = match origin {
        Origin::Commit(reference) => snapshot::of_commit(root, &git_dir, &reference.sha, now).await,
        _ => snapshot::take(root, &git_dir, target.with_git, now).await,
    };
    taken.map_err(|error| {
        let failure = Failure::from_error(Code::Surroundings, &error);
        if error.is_missing_git() {
            failure.hint("jobs fetch their sources with Git, also with --no-git: install git")
        } else {
            failure
        }
    })
}

async fn start_coordinator(
    run: &RunState,
    pipelines: Arc<dyn PipelineSource>,
    oidc: OidcSettings,
) -> Result<Handle, Failure> {
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        external_host: None,
        certificate: Certificate::Generated,
        clients: Clients::Anybody,
        state_dir: run.coordinator(),
        durability: Durability::Scratch,
        registration_token: None,
        pipelines: Some(pipelines),
        limits: Limits::default(),
        default_timeout: 3600,
        oidc,
        clock: Arc::new(Timestamp::now),
    };
    Coordinator::start(settings)
        .await
        .map_err(|error| Failure::from_error(Code::Internal, &error))
}

/// The pipeline on the snapshot: what Git shows in the job is what the variables say.
fn new_pipeline(
    evaluated: &Evaluated,
    pipeline: Pipeline,
    snapshot: &Snapshot,
    variables: GivenVariables,
) -> NewPipeline {
    let event = &evaluated.event;
    let mut predefined = event.predefined.clone();
    let sha = snapshot.commit.clone();
    predefined.insert("CI_COMMIT_SHA".to_owned(), sha.clone());
    let short = sha.chars().take(8).collect();
    predefined.insert("CI_COMMIT_SHORT_SHA".to_owned(), short);
    let before = predefined.get("CI_COMMIT_BEFORE_SHA").cloned();
    NewPipeline {
        project_id: 1,
        pipeline,
        ref_name: event.ref_name.clone(),
        tag: event.tag,
        sha,
        before_sha: before.unwrap_or_else(|| "0".repeat(40)),
        predefined,
        project_variables: variables.of_project,
        variables: variables.of_pipeline,
        beforehand: Beforehand::default(),
    }
}

/// Which sources run, and what is accepted but does nothing here, each once.
pub(super) fn warn(
    evaluated: &Evaluated,
    pipeline: &Pipeline,
    in_shell: bool,
    mask: &Mask,
    json: bool,
) {
    if let Some(note) = evaluated.origin.note() {
        say(&note, json);
    }
    if let Some(mark) = evaluated.skip_mark() {
        let note = format!("the commit says {mark}: GitLab would skip this pipeline, here it runs");
        say(&note, json);
    }
    let mut warnings = pipeline.warnings.clone();
    warnings.extend(pipeline.not_run_here.iter().cloned());
    report(&warnings, Severity::Warning, mask, json);
    let containers: Vec<_> = pipeline
        .jobs
        .iter()
        .filter(|job| {
            let has_image = job.image.is_some();
            (has_image && in_shell) || (!has_image && !job.services.is_empty())
        })
        .map(|job| job.name.as_str())
        .collect();
    if let Some(first) = containers.first() {
        let more = match containers.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "image and services of {first}{more} are ignored: jobs run in a shell on this machine"
        );
        say(&message, json);
    }
}

pub(super) fn say(message: &str, json: bool) {
    if json {
        view::Json::warning(message);
    } else {
        anstream::eprintln!("warning: {}\n", written_out(message));
    }
}

fn report(problems: &[Problem], severity: Severity, mask: &Mask, json: bool) {
    let problems = &mask.problems(problems);
    if json {
        view::Json::problems(problems, severity);
    } else {
        anstream::eprint!("{}", problems::render(problems, severity));
    }
}
