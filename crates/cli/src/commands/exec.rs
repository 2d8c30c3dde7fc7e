//! `courser exec`: the pipeline of this directory, here and now.
//!
//! Nothing is imitated: the working tree becomes a snapshot commit, the coordinator starts on loopback
//! with a throw-away CA, the ordinary runner asks it for jobs over HTTPS. [`run`] reads from top to
//! bottom: what to run → snapshot, facts and coordinator at once → runner → watch → summary.

mod follow;
mod log;
mod project;
mod runner;
mod selection;
mod snapshot;
pub(crate) mod state;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use courser_coordinator::{
    Certificate, Coordinator, Durability, Handle, Limits, NewPipeline, PipelineStatus, Project,
    Settings,
};
use courser_net::Clients;
use courser_pipeline::{Pipeline, Problem};
use courser_protocol::JobVariable;
use jiff::Timestamp;

use self::follow::Followed;
use self::project::{Evaluated, Target};
use self::snapshot::Snapshot;
use self::state::{ProjectState, RunState};
use crate::event_options::{EventOptions, Origin};
use crate::failure::{Code, Failure};
use crate::problems::{self, Severity};
use crate::session::Session;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Arguments {
    /// Jobs to run [default: all]; a first argument that is a directory with a .gitlab-ci.yml selects
    /// that project. A named manual job is started
    #[arg(value_name = "JOB")]
    names: Vec<String>,
    /// Also run what the named jobs need
    #[arg(long, requires = "names")]
    needs: bool,
    /// List the jobs and run nothing
    #[arg(long)]
    list: bool,
    /// Run the pipeline of this directory
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Another file than .gitlab-ci.yml
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the directory as it lies there, whatever Git knows of it
    #[arg(long)]
    no_git: bool,
    /// Jobs at once [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// One JSON event a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Only failing jobs
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    event: EventOptions,
}

/// Runs it.
pub(crate) async fn run(mut arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    arguments.names.extend(arguments.event.word_behind_tag());
    let json = arguments.json;
    let outcome = Box::pin(execute(arguments, session)).await;
    if json && let Err(failure) = &outcome {
        view::Json::failed(failure);
    }
    outcome
}

async fn execute(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let clock = Timestamp::now;
    let target = Target::find(
        &session.environment.working_directory,
        arguments.directory.as_deref(),
        arguments.file.as_deref(),
        arguments.names.clone(),
        !arguments.no_git,
    )?;
    let variables = arguments.event.variables(&session.environment)?;
    if arguments.list {
        let evaluated = evaluate(&target, &arguments, variables).await?;
        let pipeline = selection::select(evaluated.pipeline, &target.names, arguments.needs)?;
        list(&pipeline, arguments.json);
        return Ok(ExitCode::SUCCESS);
    }

    let state = ProjectState::of(&session.environment, &target.project.root);
    let kept = |error| Failure::internal(format!("{}: {error}", state.root().display()));
    let run = state.begin_run(clock()).map_err(kept)?;
    let outcome = Box::pin(run_pipeline(
        &arguments, session, &target, variables, &state, &run, began,
    ))
    .await;
    if outcome.is_err() && !run.has_logs() {
        run.discard().map_err(kept)?;
    } else {
        run.end().map_err(kept)?;
        state.forget_old_runs().map_err(kept)?;
    }
    outcome
}

/// From the snapshot to the summary.
async fn run_pipeline(
    arguments: &Arguments,
    session: &Session,
    target: &Target,
    variables: Vec<JobVariable>,
    state: &ProjectState,
    run: &RunState,
    began: Instant,
) -> Result<ExitCode, Failure> {
    let evaluating = evaluate(target, arguments, variables.clone());
    let (evaluated, snapshot, coordinator) = if arguments.event.names_a_ref() {
        // Which commit that is has to be known first.
        let evaluated = evaluating.await?;
        let taking = take_snapshot(target, &evaluated.origin, run, Timestamp::now());
        let (snapshot, coordinator) = tokio::try_join!(taking, start_coordinator(run))?;
        (evaluated, snapshot, coordinator)
    } else {
        // Three things that do not need each other; the first fault ends them all.
        tokio::try_join!(
            evaluating,
            take_snapshot(target, &Origin::WorkingTree, run, Timestamp::now()),
            start_coordinator(run),
        )?
    };
    let pipeline = selection::select(evaluated.pipeline.clone(), &target.names, arguments.needs)?;
    if !arguments.quiet {
        warn(&evaluated.origin, &pipeline, arguments.json);
    }
    let project = Project {
        id: 1,
        path: Project::plain_path(&evaluated.project_path()),
        repository: snapshot.repository.clone(),
    };
    let failed =
        |error: courser_coordinator::CreateError| Failure::from_error(Code::Internal, &error);
    coordinator.add_project(project).await.map_err(failed)?;
    let token = coordinator
        .create_runner("courser exec")
        .await
        .map_err(failed)?;
    let events = coordinator.subscribe();
    let id = coordinator
        .create_pipeline(new_pipeline(&evaluated, pipeline, &snapshot, variables))
        .await
        .map_err(failed)?;

    let mut view = view::choose(arguments.json, arguments.quiet);
    let jobs = arguments.jobs.map_or_else(processors, usize::from);
    let mut runner = runner::start(&coordinator, token, run, state, jobs, session)?;
    let followed = follow::to_the_end(&coordinator, id, events, &mut runner, view.as_mut()).await?;
    drop(runner);
    view.summary(&followed.summary(began.elapsed()));
    coordinator.stop().await;
    Ok(exit_code(&followed))
}

async fn evaluate(
    target: &Target,
    arguments: &Arguments,
    variables: Vec<JobVariable>,
) -> Result<Evaluated, Failure> {
    let (target, options) = (target.clone(), arguments.event.clone());
    let json = arguments.json;
    tokio::task::spawn_blocking(move || {
        target.evaluate(&options, &variables, |errors| {
            report(errors, Severity::Error, json);
        })
    })
    .await
    .map_err(|error| Failure::from_error(Code::Internal, &error))?
}

fn report(problems: &[Problem], severity: Severity, json: bool) {
    if json {
        view::Json::problems(problems, severity);
    } else {
        anstream::eprint!("{}", problems::render(problems, severity));
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

async fn start_coordinator(run: &RunState) -> Result<Handle, Failure> {
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        external_host: None,
        certificate: Certificate::Generated,
        clients: Clients::Anybody,
        state_dir: run.coordinator(),
        durability: Durability::Scratch,
        registration_token: None,
        pipelines: None,
        limits: Limits::default(),
        default_timeout: 3600,
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
    variables: Vec<JobVariable>,
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
        variables,
    }
}

/// Which sources run, and what is accepted but does nothing here, each once.
fn warn(origin: &Origin, pipeline: &Pipeline, json: bool) {
    if let Some(note) = origin.note() {
        say(&note, json);
    }
    let mut warnings = pipeline.warnings.clone();
    warnings.extend(pipeline.not_run_here.iter().cloned());
    report(&warnings, Severity::Warning, json);
    let containers: Vec<_> = pipeline
        .jobs
        .iter()
        .filter(|job| job.image.is_some() || !job.services.is_empty())
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

fn say(message: &str, json: bool) {
    if json {
        view::Json::warning(message);
    } else {
        anstream::eprintln!("warning: {message}\n");
    }
}

fn list(pipeline: &Pipeline, json: bool) {
    for job in &pipeline.jobs {
        if json {
            println!(
                "{}",
                serde_json::json!({"name": job.name, "stage": job.stage, "when": job.when})
            );
        } else {
            println!("{}\t{}", job.stage, job.name);
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn exit_code(followed: &Followed) -> ExitCode {
    match followed.status {
        PipelineStatus::Success => ExitCode::SUCCESS,
        _ if followed.interrupted => Code::Interrupted.into(),
        _ => Code::Failed.into(),
    }
}

/// What `--help` says below the options.
const HELP: &str = "\
Runs the pipeline of a directory on the working tree as it is, uncommitted and untracked files
included (ignored ones not). Jobs run with the shell executor, as the user who calls.

Exit codes: 0 the pipeline passed; 1 it failed, waits for a manual job, or nothing ran;
2 the .gitlab-ci.yml is invalid; 4 a program that is needed fails (git); 64 arguments that make no
sense; 70 internal error; 130 cancelled.

Logs, artifacts and caches lie in $XDG_STATE_HOME/courser/exec (~/.local/state/courser/exec); the
last ten runs of a project are kept. `courser clean` removes them.";
