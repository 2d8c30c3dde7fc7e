//! `courser exec`: the pipeline of this directory, here and now.
//!
//! Nothing is imitated: the working tree becomes a snapshot commit, the coordinator starts on loopback
//! with a throw-away CA, the ordinary runner asks it for jobs over HTTPS. [`run`] reads from top to
//! bottom: what to run → snapshot, facts and coordinator at once → runner → watch → summary.

mod confirmation;
mod containers;
mod downstream;
mod follow;
pub(crate) mod handed_out;
pub(crate) mod kept;
mod launch;
mod log;
mod project;
mod record;
mod reports;
pub(crate) mod runner;
mod selection;
pub(crate) mod shell;
mod snapshot;
pub(crate) mod state;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use courser_coordinator::{Beforehand, PipelineStatus};
use courser_pipeline::Pipeline;
use jiff::Timestamp;

use self::containers::ContainerOptions;
use self::follow::Followed;
use self::launch::Request;
use self::project::Target;
use self::record::{Record, RecordedJob};
use self::runner::Ways;
use self::selection::{Selected, Selection};
use self::state::{ProjectState, RunState};
use self::view::View as _;
use crate::control_characters::written_out;
use crate::event_options::EventOptions;
use crate::failure::{Code, Failure};
use crate::oidc_options::LocalOidcOptions;
use crate::pipeline_variables::Mask;
use crate::session::Session;
use crate::stdout::print_text;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Run the failed jobs of the last run again, and those that did not run because of them; the others
    /// count as passed, with their artifacts
    #[arg(long)]
    retry_failed: bool,
    /// Keep the working copies, one for each job, to look at them later (courser shell JOB)
    #[arg(long)]
    keep: bool,
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
    containers: ContainerOptions,
    #[command(flatten)]
    event: EventOptions,
    #[command(flatten)]
    oidc: LocalOidcOptions,
}

/// Runs it.
pub(crate) async fn run(mut arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    arguments
        .selection
        .names
        .extend(arguments.event.word_behind_tag());
    let json = arguments.json;
    let outcome = Box::pin(execute(arguments, session)).await;
    if json && let Err(failure) = &outcome {
        view::Json::failed(failure);
    }
    outcome
}

async fn execute(mut arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    arguments.containers.check()?;
    let target = Target::find(
        &session.environment.working_directory,
        arguments.directory.as_deref(),
        arguments.file.as_deref(),
        &mut arguments.selection.names,
        !arguments.no_git,
    )?;
    let state = ProjectState::of(&session.environment, &target.project.root);
    let last = take_up_last_run(&mut arguments, &state)?;
    let containers = last.as_ref().map(|last| &last.containers);
    arguments.containers = arguments.containers.or(containers);
    let variables = arguments
        .event
        .given_variables(&session.environment, || target.path())?;
    let request = Request {
        oidc: arguments.oidc.of_run(&session.environment),
        target,
        variables,
        includes: arguments.event.includes(&session.environment)?,
        event: arguments.event.clone(),
        containers: arguments.containers.clone(),
        json: arguments.json,
    };
    if arguments.list {
        let evaluated = launch::evaluate(request).await?;
        let selected = arguments.selection.of(evaluated.pipeline)?;
        list(&selected.pipeline, arguments.json)?;
        return Ok(ExitCode::SUCCESS);
    }

    runner::sweep_killed_runs(&state, session).await;
    let kept = |error| Failure::internal(format!("{}: {error}", state.root().display()));
    let run = state.begin_run(Timestamp::now()).map_err(kept)?;
    let outcome = Box::pin(run_pipeline(
        &arguments,
        session,
        request,
        last.as_ref(),
        &state,
        &run,
        began,
    ))
    .await;
    if outcome.is_err() && !run.has_logs() {
        run.discard().map_err(kept)?;
    } else {
        if arguments.keep {
            run.end_with_copies().map_err(kept)?;
        } else {
            run.end().map_err(kept)?;
        }
        if state.forget_old_runs().map_err(kept)? {
            kept::forget_old_runs(&state, session).await;
        }
    }
    outcome
}

/// With `--retry-failed` event and jobs are those of the last run.
fn take_up_last_run(
    arguments: &mut Arguments,
    state: &ProjectState,
) -> Result<Option<Record>, Failure> {
    if !arguments.retry_failed {
        return Ok(None);
    }
    if arguments.selection != Selection::default() || arguments.event.is_chosen() {
        return Err(Failure::new(
            Code::Usage,
            "--retry-failed takes jobs and event from the last run: leave out JOB, --manual, --ref, --tag, --source, --target and --changed-file",
        ));
    }
    let last = Record::to_retry(state)?;
    arguments.selection = last.selection.clone();
    arguments.event = arguments.event.clone().again(last.event.clone());
    Ok(Some(last))
}

/// From the snapshot to the summary.
async fn run_pipeline(
    arguments: &Arguments,
    session: &Session,
    request: Request,
    last: Option<&Record>,
    state: &ProjectState,
    run: &RunState,
    began: Instant,
) -> Result<ExitCode, Failure> {
    let mut prepared = launch::prepare(&request, run).await?;
    let Selected { pipeline, played } = arguments
        .selection
        .of(prepared.evaluated.pipeline.clone())?;
    let mask = Mask::of(&request.variables.all());
    let containers = prepared.reach_containers(&pipeline, session).await?;
    let played = confirmation::ask(&pipeline.jobs, played, arguments.json).await?;
    if !arguments.quiet {
        let in_shell = containers.is_none();
        launch::warn(
            &prepared.evaluated,
            &pipeline,
            in_shell,
            &mask,
            arguments.json,
        );
        prepared.warn_of_submodules(&pipeline, &request.variables.all(), arguments.json);
    }
    if let Some(containers) = &containers {
        state
            .note_engine(containers.engine.host())
            .map_err(|error| Failure::internal(format!("{}: {error}", state.root().display())))?;
    }
    let variables = request.variables.all();
    let passed = last.map_or_else(Vec::new, |last| {
        let missing = last.missing_variables(&variables);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            let note = format!("the last run had variables that are not given now: {missing}");
            launch::say(&note, arguments.json);
        }
        last.passed(&pipeline.jobs)
    });
    let reused = passed.iter().map(|job| job.position).collect();
    let names = variables.iter().map(|variable| variable.key.clone());
    let mut record = Record {
        event: arguments.event.clone(),
        selection: arguments.selection.clone(),
        variables: names.collect(),
        containers: arguments.containers.clone(),
        jobs: Vec::new(),
    };
    let beforehand = Beforehand { played, passed };
    let begun = prepared
        .begin(
            pipeline,
            beforehand,
            request.variables,
            containers.as_ref().map(|containers| containers.url.clone()),
        )
        .await?;

    let coordinator = prepared.coordinator;
    let mut view = view::choose(arguments.json, arguments.quiet, mask);
    let ways = Ways {
        jobs: arguments.jobs.map_or_else(processors, usize::from),
        own_copies: arguments.keep,
        builds: None,
        kept: None,
        tunnel: containers.and_then(|containers| containers.tunnel),
        scripts: None,
    };
    let mut runner = runner::start(&coordinator, begun.tokens, run, state, ways, session)?;
    let followed = follow::to_the_end(
        &coordinator,
        begun.pipeline,
        begun.events,
        &mut runner,
        reused,
        &mut view,
    )
    .await?;
    let left = runner.end().await;
    let jobs = followed.last.jobs.iter();
    record.jobs = jobs.map(|job| RecordedJob::new(job, &left)).collect();
    record
        .write(&run.record())
        .map_err(|error| Failure::internal(format!("{}: {error}", run.record().display())))?;
    if left.kept.values().any(|kept| kept.image.is_some()) {
        let warning = "the images that --keep has left hold their jobs' variables, masked ones too: do not push them";
        launch::say(warning, arguments.json);
    }
    view.summary(&followed.summary(began.elapsed(), &left));
    coordinator.stop().await;
    Ok(exit_code(&followed))
}

fn list(pipeline: &Pipeline, json: bool) -> Result<(), Failure> {
    for job in &pipeline.jobs {
        if json {
            println!(
                "{}",
                serde_json::json!({"name": job.name, "stage": job.stage, "when": job.when})
            );
        } else {
            let line = format!("{}\t{}\n", job.stage, job.name);
            print_text(&written_out(&line))?;
        }
    }
    Ok(())
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
Examples:
  courser exec                                  the pipeline of a push of the working tree
  courser exec test --needs                     one job and what it needs
  courser exec --manual deploy                  everything, and a manual job
  courser exec --retry-failed                   what failed last time, with the artifacts of the rest
  courser exec --tag v1.2                       the pipeline of a tag
  courser exec --source merge_request_event     this branch into the default branch
  courser exec --executor shell                 no containers, whatever images jobs have
  courser exec --image ruby:3.3=ruby:3.4-slim   another image for the jobs that have this one

Runs the pipeline of a directory on the working tree as it is, uncommitted and untracked files
included (ignored ones not). Jobs with an image run in containers of the Docker Engine that
DOCKER_HOST names, or the local one; the others in a shell, as the user who calls.

Exit codes: 0 the pipeline passed; 1 it failed, waits for a manual job, or nothing ran;
2 the .gitlab-ci.yml is invalid; 4 Git or the Docker Engine fails; 64 arguments that make no
sense; 70 internal error; 130 cancelled.

Logs, artifacts and caches lie in $XDG_STATE_HOME/courser/exec (~/.local/state/courser/exec); the
last ten runs of a project are kept. `courser clean` removes them.";
