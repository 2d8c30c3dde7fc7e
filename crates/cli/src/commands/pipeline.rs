//! `courser pipeline`: look at a `.gitlab-ci.yml` without running it (`gitlab-ci-yaml.md` 23).

mod explain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use courser_pipeline::{AllowFailure, Event, JobWhen, Pipeline, Problem};
use courser_protocol::JobVariable;

use crate::environment::ProcessEnvironment;
use crate::event_options::EventOptions;
use crate::failure::{Code, Failure};
use crate::includes::Includes;
use crate::pipeline_variables::Mask;
use crate::problems::{self, Severity};
use crate::project::{OpenProject, Project};
use crate::session::Session;
use crate::stdout::{print_document, print_json, print_text};

/// Arguments of `pipeline`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check the file
    Lint(Lint),
    /// List the jobs of the pipeline for an event
    List(List),
    /// Tell why a job is in the pipeline, or why it is not
    Explain(explain::Arguments),
    /// Print the file with include, extends and !reference resolved
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Lint {
    /// The file [default: .gitlab-ci.yml of the repository]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    event: EventOptions,
}

#[derive(Debug, clap::Args)]
struct List {
    /// The file [default: .gitlab-ci.yml of the repository]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    event: EventOptions,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The file [default: .gitlab-ci.yml of the repository]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Format of the tree
    #[arg(long, default_value = "yaml")]
    format: Format,
    #[command(flatten)]
    event: EventOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let environment = session.environment.clone();
    let options = match &arguments.action {
        Action::Lint(lint) => &lint.event,
        Action::List(list) => &list.event,
        Action::Explain(arguments) => arguments.event(),
        Action::Show(show) => &show.event,
    };
    let includes = options.includes(&environment)?;
    // Git, and servers that are asked for included files, are waited for.
    tokio::task::spawn_blocking(move || match &arguments.action {
        Action::Lint(lint) => run_lint(lint, &environment, &includes),
        Action::List(list) => run_list(list, &environment, &includes),
        Action::Explain(arguments) => explain::run(arguments, &environment, &includes),
        Action::Show(show) => run_show(show, &environment, &includes),
    })
    .await
    .map_err(|error| Failure::from_error(Code::Internal, &error))?
}

fn open(
    environment: &ProcessEnvironment,
    file: Option<&Path>,
    includes: &Includes,
) -> Result<OpenProject, Failure> {
    let directory = &environment.working_directory;
    let project = Project::find(directory, file).map_err(|error| {
        let named = file.unwrap_or(directory).display();
        Failure::invalid(format!("{named}: {error}"))
    })?;
    if !project.has_file() {
        let full = project.root.join(&project.file);
        return Err(
            Failure::invalid(format!("{} does not exist", full.display()))
                .hint("name the file with --file"),
        );
    }
    project
        .open(true)
        .map(|project| project.including(includes))
        .map_err(|error| Failure::from_error(Code::Invalid, &error))
}

fn answer(valid: bool) -> ExitCode {
    if valid {
        ExitCode::SUCCESS
    } else {
        Code::Failed.into()
    }
}

fn report(problems: &[Problem], severity: Severity, mask: &Mask) {
    let problems = mask.problems(problems);
    anstream::eprint!("{}", problems::render(&problems, severity));
}

/// As [`print_json`], without masked values.
fn print_masked(value: &impl serde::Serialize, mask: &Mask) -> Result<(), Failure> {
    let value = serde_json::to_value(value)
        .map_err(|error| Failure::internal(format!("cannot write JSON: {error}")))?;
    print_json(&mask.value(value))
}

/// The working tree as if it were on the ref that the options name.
fn event(
    options: &EventOptions,
    project: &OpenProject,
    variables: &[JobVariable],
) -> Result<Event, Failure> {
    let occasion = options.occasion()?;
    options
        .event(&project.repository, &occasion, variables, true)
        .map_err(|error| Failure::from_error(Code::Invalid, &error))
}

fn run_lint(
    lint: &Lint,
    environment: &ProcessEnvironment,
    includes: &Includes,
) -> Result<ExitCode, Failure> {
    let project = open(environment, lint.file.as_deref(), includes)?;
    let variables = lint.event.variables(environment, || project.path())?;
    let mask = Mask::of(&variables);
    let event = event(&lint.event, &project, &variables)?;
    let found = courser_pipeline::lint(&project.project.file, &project, &event);
    if lint.json {
        print_masked(&found, &mask)?;
    } else {
        report(&found.warnings, Severity::Warning, &mask);
        report(&found.errors, Severity::Error, &mask);
        if found.valid {
            print_text(&format!("{} is valid\n", project.project.file))?;
        }
    }
    Ok(answer(found.valid))
}

fn run_list(
    list: &List,
    environment: &ProcessEnvironment,
    includes: &Includes,
) -> Result<ExitCode, Failure> {
    let project = open(environment, list.file.as_deref(), includes)?;
    let variables = list.event.variables(environment, || project.path())?;
    let mask = Mask::of(&variables);
    let event = event(&list.event, &project, &variables)?;
    match courser_pipeline::evaluate(&project.project.file, &project, &event) {
        Ok(pipeline) => {
            if list.json {
                let valid = Valid {
                    valid: true,
                    pipeline: &pipeline,
                };
                print_masked(&valid, &mask)?;
            } else {
                report(&pipeline.warnings, Severity::Warning, &mask);
                print_text(&mask.text(job_list(&pipeline)))?;
            }
            Ok(answer(true))
        }
        Err(found) => {
            if list.json {
                print_masked(&found, &mask)?;
            } else {
                report(&found.warnings, Severity::Warning, &mask);
                report(&found.errors, Severity::Error, &mask);
            }
            Ok(answer(false))
        }
    }
}

#[derive(serde::Serialize)]
struct Valid<'a> {
    valid: bool,
    #[serde(flatten)]
    pipeline: &'a Pipeline,
}

/// The jobs by stage, a line each.
fn job_list(pipeline: &Pipeline) -> String {
    let mut lines = Vec::new();
    if !pipeline.workflow.created {
        lines.push("no pipeline: filtered out by workflow rules".to_owned());
    }
    for stage in &pipeline.stages {
        lines.push(stage.clone());
        for job in pipeline.jobs.iter().filter(|job| job.stage == *stage) {
            let mut notes = Vec::new();
            if job.when != JobWhen::OnSuccess {
                notes.push(job.when.keyword().to_owned());
            }
            if let Some(start_in) = &job.start_in {
                notes.push(format!("in {start_in}"));
            }
            match &job.allow_failure {
                AllowFailure::Always(true) => notes.push("allowed to fail".to_owned()),
                AllowFailure::Always(false) => {}
                AllowFailure::ExitCodes { exit_codes } => {
                    let codes: Vec<_> = exit_codes.iter().map(i64::to_string).collect();
                    notes.push(format!("allowed to fail with {}", codes.join(", ")));
                }
            }
            if job.needs.is_some() {
                let names: Vec<&str> = job.job_needs.iter().map(|need| need.job.as_str()).collect();
                notes.push(match names[..] {
                    [] => "starts at once".to_owned(),
                    _ => format!("needs {}", names.join(", ")),
                });
            }
            if let Some(index) = job.rules_matched {
                notes.push(format!("rule {}", index + 1));
            }
            lines.push(match notes[..] {
                [] => format!("  {}", job.name),
                _ => format!("  {} ({})", job.name, notes.join("; ")),
            });
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn run_show(
    show: &Show,
    environment: &ProcessEnvironment,
    includes: &Includes,
) -> Result<ExitCode, Failure> {
    let project = open(environment, show.file.as_deref(), includes)?;
    let variables = show.event.variables(environment, || project.path())?;
    let mask = Mask::of(&variables);
    let event = event(&show.event, &project, &variables)?;
    match courser_pipeline::merge(&project.project.file, &project, &event) {
        Ok(tree) => {
            match show.format {
                Format::Yaml => print_document(&tree.to_yaml())?,
                Format::Json => print_json(&tree)?,
            }
            Ok(answer(true))
        }
        Err(errors) => {
            report(&errors, Severity::Error, &mask);
            Ok(answer(false))
        }
    }
}
