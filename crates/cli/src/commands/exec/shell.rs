//! `courser shell JOB`: a shell where the job's script would run, with the environment that it would have.
//!
//! The job is run as `exec` runs it, up to its script: sources, caches, artifacts and dotenv variables of
//! what it needs are there. In place of the script it waits ([`hold`]) until the shell is closed. With a
//! working copy that `exec --keep` has left, nothing is fetched and everything is as the job left it.

pub(crate) mod hold;
mod session;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use courser_coordinator::{Beforehand, PassedJob};
use courser_pipeline::{JobWhen, Pipeline, PipelineJob};
use courser_protocol::{JobVariable, Secret};
use jiff::Timestamp;

use self::hold::Meeting;
use super::containers::ContainerOptions;
use super::launch::{self, Request};
use super::project::Target;
use super::record::Record;
use super::runner::{self, Ways};
use super::selection::{self, Selected, Selection};
use super::state::{ProjectState, RunState};
use super::{follow, view};
use crate::event_options::EventOptions;
use crate::failure::{Code, Failure};
use crate::pipeline_variables::Mask;
use crate::session::Session;

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Artifacts and dotenv variables of the jobs that it needs come from the last run; --needs runs what did
not pass there. After courser exec --keep the shell opens in the working copy as the job left it.

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
    event: EventOptions,
}

/// Seconds that a shell may be open.
const TIMEOUT: u64 = 7 * 24 * 3600;

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
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
    let request = Request {
        containers: ContainerOptions::in_shell(),
        target,
        variables,
        includes: event.includes(&session.environment)?,
        event,
        json: false,
    };
    let kept = |error| Failure::internal(format!("{}: {error}", state.root().display()));
    let run = state.begin_run(Timestamp::now()).map_err(kept)?;
    let opened = Box::pin(open(
        &arguments,
        session,
        request,
        last.as_ref(),
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

async fn open(
    arguments: &Arguments,
    session: &Session,
    request: Request,
    last: Option<&Record>,
    state: &ProjectState,
    run: &RunState,
) -> Result<ExitCode, Failure> {
    let prepared = launch::prepare(&request, run).await?;
    if let Some(note) = prepared.evaluated.origin.note() {
        launch::say(&note, false);
    }
    let copy = last
        .filter(|_| !arguments.fresh)
        .and_then(|last| last.working_copy(&arguments.job));
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
        anstream::eprintln!(
            "in the working copy that was kept: {}",
            copy.project.display()
        );
        variables.of_pipeline.extend(copy.variables());
    }
    let mask = Mask::of(&variables.all());
    let began = prepared
        .begin(plan.pipeline, plan.beforehand, variables, None)
        .await?;
    let coordinator = prepared.coordinator;
    let ways = Ways {
        jobs: 1,
        own_copies: false,
        builds: copy.as_ref().map(|copy| copy.builds.clone()),
    };
    let mut runner = runner::start(&coordinator, began.tokens, run, state, ways, session)?;
    let mut view = view::choose(false, true, mask);
    let following = follow::to_the_end(
        &coordinator,
        began.pipeline,
        began.events,
        &mut runner,
        plan.reused,
        &mut view,
    );
    let ours = copy.is_some();
    let code = session::run(
        following,
        &meeting,
        &arguments.job,
        &arguments.command,
        session,
        ours,
    )
    .await?;
    drop(runner);
    coordinator.stop().await;
    Ok(code)
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
}

/// Variables that make the runner take a working copy as it lies there.
const TAKE_COPY: [&str; 2] = ["GIT_STRATEGY", "GIT_CLONE_PATH"];

impl KeptCopy {
    fn variables(&self) -> Vec<JobVariable> {
        let values = ["none".to_owned(), self.project.display().to_string()];
        TAKE_COPY
            .into_iter()
            .zip(values)
            .map(|(key, value)| JobVariable {
                key: key.to_owned(),
                value: Secret::new(value),
                raw: true,
                ..JobVariable::default()
            })
            .collect()
    }
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
