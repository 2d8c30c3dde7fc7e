//! `courser pipeline`: look at a `.gitlab-ci.yml` without running it (`gitlab-ci-yaml.md` 23).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use courser_pipeline::{ChangedFiles, Event, Pipeline, Problem};

use crate::failure::{Code, Failure};
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
}

#[derive(Debug, clap::Args)]
struct List {
    /// The file [default: .gitlab-ci.yml of the repository]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Branch or tag [default: what is checked out]
    #[arg(long = "ref", value_name = "NAME")]
    ref_name: Option<String>,
    /// The ref is a tag
    #[arg(long)]
    tag: bool,
    /// Source of the pipeline (CI_PIPELINE_SOURCE)
    #[arg(long, default_value = "push", value_name = "SOURCE")]
    source: String,
    /// Variable of the pipeline; beats those of the file
    #[arg(long = "variable", value_name = "KEY=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// A file that has changed; without this Git tells
    #[arg(long = "changed-file", value_name = "PATH")]
    changed_files: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The file [default: .gitlab-ci.yml of the repository]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Format of the tree
    #[arg(long, default_value = "yaml")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let directory = &session.environment.working_directory;
    match arguments.action {
        Action::Lint(lint) => run_lint(&lint, directory),
        Action::List(list) => run_list(list, directory),
        Action::Show(show) => run_show(&show, directory),
    }
}

fn open(directory: &Path, file: Option<&Path>) -> Result<OpenProject, Failure> {
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
        .map_err(|error| Failure::from_error(Code::Invalid, &error))
}

fn answer(valid: bool) -> ExitCode {
    if valid {
        ExitCode::SUCCESS
    } else {
        Code::Failed.into()
    }
}

fn report(problems: &[Problem], severity: Severity) {
    anstream::eprint!("{}", problems::render(problems, severity));
}

fn run_lint(lint: &Lint, directory: &Path) -> Result<ExitCode, Failure> {
    let project = open(directory, lint.file.as_deref())?;
    let event = project.repository.event("push", None, false);
    let found = courser_pipeline::lint(&project.project.file, &project, &event);
    if lint.json {
        print_json(&found)?;
    } else {
        report(&found.warnings, Severity::Warning);
        report(&found.errors, Severity::Error);
        if found.valid {
            print_text(&format!("{} is valid\n", project.project.file))?;
        }
    }
    Ok(answer(found.valid))
}

fn run_list(list: List, directory: &Path) -> Result<ExitCode, Failure> {
    let project = open(directory, list.file.as_deref())?;
    let repository = &project.repository;
    let event = repository.event(&list.source, list.ref_name.as_deref(), list.tag);
    let changed_files = if list.changed_files.is_empty() {
        let asked = match list.source.as_str() {
            "push" if !event.tag => repository.changed_files(),
            "merge_request_event" => repository.changed_files_of_merge_request(),
            _ => Ok(ChangedFiles::Unknown),
        };
        asked.map_err(|error| Failure::from_error(Code::Invalid, &error))?
    } else {
        ChangedFiles::Given(list.changed_files)
    };
    let event = Event {
        pipeline_variables: list.variables,
        changed_files,
        ..event
    };
    match courser_pipeline::evaluate(&project.project.file, &project, &event) {
        Ok(pipeline) => {
            if list.json {
                print_json(&Valid {
                    valid: true,
                    pipeline: &pipeline,
                })?;
            } else {
                report(&pipeline.warnings, Severity::Warning);
                print_text(&job_list(&pipeline))?;
            }
            Ok(answer(true))
        }
        Err(found) => {
            if list.json {
                print_json(&found)?;
            } else {
                report(&found.warnings, Severity::Warning);
                report(&found.errors, Severity::Error);
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
            let when = serde_json::to_value(job.when).unwrap_or_default();
            if let Some(when) = when.as_str().filter(|when| *when != "on_success") {
                notes.push(when.to_owned());
            }
            if job.needs.is_some() {
                let names: Vec<&str> = job.job_needs.iter().map(|need| need.job.as_str()).collect();
                notes.push(match names[..] {
                    [] => "starts at once".to_owned(),
                    _ => format!("needs {}", names.join(", ")),
                });
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

fn run_show(show: &Show, directory: &Path) -> Result<ExitCode, Failure> {
    let project = open(directory, show.file.as_deref())?;
    let event = project.repository.event("push", None, false);
    match courser_pipeline::merge(&project.project.file, &project, &event) {
        Ok(tree) => {
            match show.format {
                Format::Yaml => print_document(&tree.to_yaml())?,
                Format::Json => print_json(&tree)?,
            }
            Ok(answer(true))
        }
        Err(errors) => {
            report(&errors, Severity::Error);
            Ok(answer(false))
        }
    }
}
