//! `courser shell JOB`: a shell where the job's script would run, with the environment that it would have.
//!
//! The job is run as `exec` runs it, up to its script: sources, caches, artifacts and dotenv variables of
//! what it needs are there. In place of the script it waits until the shell is closed: on this machine by [`hold`], in a
//! container by a few lines of shell ([`container`]). With what `exec --keep` has left of it, nothing is fetched and
//! everything is as the job left it.

mod container;
pub(crate) mod hold;
mod session;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use courser_coordinator::{Beforehand, PassedJob};
use courser_executor_docker::engine::Engine;
use courser_executor_docker::kept::KeptJob;
use courser_executor_docker::script_container::ScriptContainer;
use courser_pipeline::{JobWhen, Pipeline, PipelineJob};
use courser_protocol::{JobVariable, Secret};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::mpsc::UnboundedReceiver;

use self::hold::Meeting;
use super::containers::{self, ContainerOptions};
use super::launch::{self, Request};
use super::project::Target;
use super::record::Record;
use super::runner::{self, Ways};
use super::selection::{self, Selected, Selection};
use super::state::{ProjectState, RunState};
use super::{follow, view};
use crate::event_options::EventOptions;
use crate::failure::{Code, Failure};
use crate::oidc_options::LocalOidcOptions;
use crate::pipeline_variables::Mask;
use crate::session::Session;

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A job with an image gets its shell in a container of it, its services beside it. Artifacts and dotenv
variables of the jobs that it needs come from the last run; --needs runs what did not pass there. After
courser exec --keep the shell opens in the working copy, and in the container, as the job left them.

Examples:
  courser shell test                            a shell in place of the script of test
  courser shell test --needs -- make check      one command; its exit code is passed on")]
pub(crate) struct Arguments {
    /// The job
    #[arg(value_name = "JOB")]
    job: String,
    /// A command in place of an interactive shell
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
    /// First run what the job needs and what has not passed in the last run
    #[arg(long)]
    needs: bool,
    /// A new working copy, also where the last run has kept one
    #[arg(long)]
    fresh: bool,
    /// The pipeline of this directory
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Another file than .gitlab-ci.yml
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the directory as it lies there, whatever Git knows of it
    #[arg(long)]
    no_git: bool,
    #[command(flatten)]
    containers: ContainerOptions,
    #[command(flatten)]
    event: EventOptions,
    #[command(flatten)]
    oidc: LocalOidcOptions,
}

/// Seconds that a shell may be open.
const TIMEOUT: u64 = 7 * 24 * 3600;

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    arguments.containers.check()?;
    let mut names = vec![arguments.job.clone()];
    let target = Target::find(
        &session.environment.working_directory,
        arguments.directory.as_deref(),
        arguments.file.as_deref(),
        &mut names,
        !arguments.no_git,
    )?;
    if names.is_empty() {
        let message = format!("{} is a directory, and no job is named", arguments.job);
        return Err(Failure::new(Code::Usage, message).hint("write -C DIR JOB"));
    }
    let state = ProjectState::of(&session.environment, &target.project.root);
    // Another event is another pipeline: what an earlier run has left does not fit it.
    let last = if arguments.event.is_chosen() {
        None
    } else {
        let has_job = |record: &Record| record.jobs.iter().any(|job| job.name == arguments.job);
        Record::newest(&state, has_job)?
    };
    let event = match &last {
        Some(last) => arguments.event.clone().again(last.event.clone()),
        None => arguments.event.clone(),
    };
    let variables = event.given_variables(&session.environment, || target.path())?;
    let copy = last
        .as_ref()
        .filter(|_| !arguments.fresh)
        .and_then(|last| last.working_copy(&arguments.job));
    let of_last = last.as_ref().map(|last| &last.containers);
    let mut containers = arguments.containers.clone().or(of_last);
    if copy.is_some() && containers.leaves_open() {
        containers = ContainerOptions::in_shell();
    }
    let request = Request {
        oidc: arguments.oidc.of_run(&session.environment),
        containers,
        target,
        variables,
        includes: event.includes(&session.environment)?,
        event,
        json: false,
    };
    runner::sweep_killed_runs(&state, session).await;
    let kept = |error| Failure::internal(format!("{}: {error}", state.root().display()));
    let run = state.begin_run(Timestamp::now()).map_err(kept)?;
    let opened = Box::pin(open(
        &arguments,
        session,
        request,
        Past {
            last: last.as_ref(),
            copy,
        },
        &state,
        &run,
    ))
    .await;
    // What a shell leaves is of no use to later runs; the log of a job that failed before it may be.
    match &opened {
        Ok(_) => run.discard().map_err(kept)?,
        Err(_) if run.has_logs() => run.end().map_err(kept)?,
        Err(_) => run.discard().map_err(kept)?,
    }
    opened
}

/// What earlier runs have left.
struct Past<'a> {
    /// The last one that had the job.
    last: Option<&'a Record>,
    /// The job's working copy on this machine.
    copy: Option<KeptCopy>,
}

/// Where the job waits in place of its script.
enum Held {
    InContainer {
        job: String,
        mark: String,
        scripts: UnboundedReceiver<ScriptContainer>,
    },
    Here {
        meeting: Meeting,
    },
}

async fn open(
    arguments: &Arguments,
    session: &Session,
    request: Request,
    past: Past<'_>,
    state: &ProjectState,
    run: &RunState,
) -> Result<ExitCode, Failure> {
    let Past { last, copy } = past;
    let in_shell = request.containers.is_in_shell();
    let mut prepared = launch::prepare(&request, run).await?;
    if let Some(note) = prepared.evaluated.origin.note() {
        launch::say(&note, false);
    }
    let mut plan = plan(
        prepared.evaluated.pipeline.clone(),
        &arguments.job,
        arguments.needs,
        last,
    )?;
    let mut variables = request.variables;
    if let Some(last) = last {
        let all = variables.all();
        let missing = last.missing_variables(&all);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            launch::say(
                &format!("the last run had variables that are not given now: {missing}"),
                false,
            );
        }
    }
    let containers = prepared.reach_containers(&plan.pipeline, session).await?;
    let has_container = !in_shell && containers::has_image(&plan.pipeline.jobs[plan.job]);
    let url = containers.as_ref().map(|containers| containers.url.clone());
    let mask = Mask::of(&variables.all());
    let mut view = view::choose(false, true, mask);
    let mut ways = Ways {
        jobs: 1,
        own_copies: false,
        builds: None,
        kept: None,
        tunnel: containers
            .as_ref()
            .and_then(|containers| containers.tunnel.clone()),
        scripts: None,
    };
    let held = if let Some(containers) = containers.as_ref().filter(|_| has_container) {
        let noted = state.note_engine(containers.engine.host());
        noted.map_err(|error| Failure::internal(format!("{}: {error}", state.root().display())))?;
        let last = last.filter(|_| !arguments.fresh);
        let kept = kept(last, &arguments.job, &containers.engine).await?;
        let mark = container::new_mark();
        let ours = if kept.is_some() { &TAKE_COPY[..] } else { &[] };
        plan.hold(container::hold(&mark, ours), kept.is_some());
        if let Some(kept) = &kept {
            anstream::eprintln!("in the container that was kept: volume {}", kept.volume);
            plan.take_image(kept);
            variables.of_pipeline.extend(take_copy(&kept.project));
        }
        ways.kept = kept;
        let job = plan.pipeline.jobs[plan.job].name.clone();
        let (told, scripts) = tokio::sync::mpsc::unbounded_channel();
        ways.scripts = Some(told);
        Held::InContainer { job, mark, scripts }
    } else {
        let meeting = Meeting::new(run.root().join("shell"))
            .map_err(|error| Failure::internal(format!("{}: {error}", run.root().display())))?;
        let program = std::env::current_exe().map_err(|error| {
            Failure::internal(format!("cannot tell the path of this program: {error}"))
        })?;
        let line = format!(
            "{} helper hold {}",
            quoted(&program),
            quoted(meeting.directory())
        );
        plan.hold(line, copy.is_some());
        if let Some(copy) = &copy {
            let project = copy.project.display();
            anstream::eprintln!("in the working copy that was kept: {project}");
            variables
                .of_pipeline
                .extend(take_copy(&project.to_string()));
        }
        ways.builds = copy.as_ref().map(|copy| copy.builds.clone());
        Held::Here { meeting }
    };
    let Plan {
        pipeline,
        beforehand,
        reused,
        ..
    } = plan;
    let began = prepared.begin(pipeline, beforehand, variables, url).await?;
    let coordinator = &prepared.coordinator;
    let mut runner = runner::start(coordinator, began.tokens, run, state, ways, session)?;
    let following = follow::to_the_end(
        coordinator,
        began.pipeline,
        began.events,
        &mut runner,
        reused,
        &mut view,
    );
    let command = &arguments.command;
    let code = match held {
        Held::InContainer { job, mark, scripts } => {
            let (job, mark) = (&job, &mark);
            let shell = container::Shell { job, command, mark };
            container::run(following, scripts, shell, session).await?
        }
        Held::Here { meeting } => {
            let (job, ours) = (&arguments.job, copy.is_some());
            session::run(following, &meeting, job, command, session, ours).await?
        }
    };
    prepared.coordinator.stop().await;
    Ok(code)
}

/// What was kept of a job in containers, if it is still there.
async fn kept(
    last: Option<&Record>,
    job: &str,
    engine: &Engine,
) -> Result<Option<KeptJob>, Failure> {
    let Some(kept) = last.and_then(|last| last.kept(job)) else {
        return Ok(None);
    };
    let is_there = kept.is_there(engine).await;
    if is_there.map_err(|error| Failure::from_error(Code::Surroundings, &error))? {
        return Ok(Some(kept.clone()));
    }
    launch::say(
        &format!("what was kept of {job} is not in this Docker Engine any more: a new container"),
        false,
    );
    Ok(None)
}

/// A working copy of an earlier run.
#[derive(Debug, Clone)]
pub(super) struct KeptCopy {
    project: PathBuf,
    builds: PathBuf,
}

impl Record {
    /// Where the job's working copy lies, if it was kept and is still there.
    fn working_copy(&self, job: &str) -> Option<KeptCopy> {
        let found = self.jobs.iter().find(|known| known.name == job)?;
        let project = found.working_copy.as_ref().filter(|path| path.is_dir())?;
        // <run>/builds/<token>/<number>/<group>/<project>
        let is_builds =
            |path: &&Path| path.ends_with("builds") && path.with_file_name("run.json").is_file();
        Some(KeptCopy {
            builds: project.ancestors().find(is_builds)?.to_owned(),
            project: project.clone(),
        })
    }

    /// What was kept of the job in a Docker Engine.
    fn kept(&self, job: &str) -> Option<&KeptJob> {
        let found = self.jobs.iter().find(|known| known.name == job)?;
        found.kept.as_ref()
    }
}

/// Variables that make the runner take a working copy as it lies there.
const TAKE_COPY: [&str; 2] = ["GIT_STRATEGY", "GIT_CLONE_PATH"];

/// Their values for one that lies there.
fn take_copy(project: &str) -> impl Iterator<Item = JobVariable> {
    let values = ["none".to_owned(), project.to_owned()];
    TAKE_COPY
        .into_iter()
        .zip(values)
        .map(|(key, value)| JobVariable {
            key: key.to_owned(),
            value: Secret::new(value),
            raw: true,
            ..JobVariable::default()
        })
}

/// The job, and what it needs.
struct Plan {
    pipeline: Pipeline,
    beforehand: Beforehand,
    reused: std::collections::BTreeSet<usize>,
    /// Place of the job.
    job: usize,
}

fn plan(
    pipeline: Pipeline,
    name: &str,
    needs: bool,
    last: Option<&Record>,
) -> Result<Plan, Failure> {
    let instances = selection::positions(&pipeline.jobs, name)?;
    let [place] = instances[..] else {
        let names = instances
            .iter()
            .map(|place| pipeline.jobs[*place].name.clone());
        let names: Vec<_> = names.collect();
        let message = format!("{name:?} means {} jobs", names.len());
        return Err(
            Failure::new(Code::Usage, message).hint(format!("choose one of: {}", names.join(", ")))
        );
    };
    let name = pipeline.jobs[place].name.clone();
    if pipeline.jobs[place].trigger.is_some() {
        let message = format!("{name:?} is a trigger job: it has no script and no directory");
        return Err(Failure::new(Code::Usage, message));
    }
    let all = Selection::job_with_needs(&name);
    let Selected { mut pipeline, .. } = all.of(pipeline)?;
    let passed = |job: &PipelineJob| last.is_some_and(|last| last.has_passed(&job.name));
    let missing = pipeline
        .jobs
        .iter()
        .filter(|job| job.name != name && !passed(job));
    let missing: Vec<_> = missing.map(|job| job.name.clone()).collect();
    if !needs && !missing.is_empty() {
        let list = missing.join(", ");
        launch::say(
            &format!(
                "no artifacts of {list}: not passed in the last run (--needs runs them first)"
            ),
            false,
        );
        pipeline.jobs.retain(|job| !missing.contains(&job.name));
    }
    let position = pipeline.jobs.iter().position(|job| job.name == name);
    let job = position.ok_or_else(|| Failure::internal("the job is not in its own pipeline"))?;
    let passed: Vec<PassedJob> = last
        .map_or_else(Vec::new, |last| last.passed(&pipeline.jobs))
        .into_iter()
        .filter(|passed| passed.position != job)
        .collect();
    Ok(Plan {
        reused: passed.iter().map(|job| job.position).collect(),
        beforehand: Beforehand {
            played: vec![job],
            passed,
        },
        job,
        pipeline,
    })
}

impl Plan {
    /// Has the job take the image that was kept of it, with whatever else it wants of its image.
    fn take_image(&mut self, kept: &KeptJob) {
        let (Some(name), Some(image)) = (&kept.image, &mut self.pipeline.jobs[self.job].image)
        else {
            return;
        };
        let mut wanted = match image.take() {
            Value::Object(wanted) => wanted,
            _ => Map::new(),
        };
        wanted.insert("name".to_owned(), name.as_str().into());
        wanted.insert("pull_policy".to_owned(), "never".into());
        *image = Value::Object(wanted);
    }

    /// Puts `line` in place of the job's script, and leaves out what comes behind it. With a working copy
    /// that was kept nothing is laid over it.
    fn hold(&mut self, line: String, in_kept_copy: bool) {
        let job = &mut self.pipeline.jobs[self.job];
        job.script = vec![line];
        job.before_script = Vec::new();
        job.after_script = Vec::new();
        job.artifacts = None;
        job.retry = None;
        job.release = None;
        job.run = None;
        job.timeout = Some(TIMEOUT);
        if job.when != JobWhen::Manual && job.when != JobWhen::Delayed {
            job.when = JobWhen::Always;
        }
        job.cache.retain(|cache| cache.policy != "push");
        for cache in &mut job.cache {
            "pull".clone_into(&mut cache.policy);
        }
        if in_kept_copy {
            job.cache.clear();
            for passed in &mut self.beforehand.passed {
                passed
                    .artifacts
                    .retain(|artifact| artifact.kind != "archive");
            }
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
