//! `courser spool`: what runners keep of jobs until their servers know everything, looked at and dropped.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use courser_runner::{KeptJob, KeptState, NotDropped, drop_kept, kept_jobs};
use jiff::Timestamp;
use serde::Serialize;

use super::clean::amount;
use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection::spool_directory;
use crate::failure::{Code, Failure};
use crate::questions::Questions;
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `spool`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the jobs that are kept, and what becomes of them
    List(List),
    /// Give jobs up: nothing more of them is sent
    Drop(Drop),
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LIST_HELP)]
struct List {
    #[command(flatten)]
    place: Place,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Arguments of `drop`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DROP_HELP)]
struct Drop {
    #[command(flatten)]
    place: Place,
    /// Ids of jobs, as `list` shows them
    #[arg(value_name = "JOB", required_unless_present = "all")]
    jobs: Vec<i64>,
    /// All that no runner works on
    #[arg(long, conflicts_with = "jobs")]
    all: bool,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Place {
    #[command(flatten)]
    config: ConfigOption,
    /// Working directory of the runner, for a relative `directory` of the `[spool]` table
    #[arg(long, value_name = "DIR")]
    working_directory: Option<PathBuf>,
}

const LIST_HELP: &str = "\
The next `courser run` with this configuration sends what is kept of jobs that no runner works on:
the rest of the log, artifacts where only those were missing, and the end.

  courser spool list
  courser spool list --config /etc/gitlab-runner/config.toml
  courser spool list --json | jq '.[] | select(.state != \"in_use\") | .job'

States of --json: in_use, interrupted, to_be_saved, success, failed, unusable.";

const DROP_HELP: &str = "\
Removes jobs from the disk. GitLab does not hear of their end, and fails them once they have been
silent for long (after an hour or more). A job that a runner works on is left alone: end the
runner first. On a terminal it is asked about, elsewhere --yes is needed.

  courser spool drop 4711
  courser spool drop 4711 4712 --yes
  courser spool drop --all --config /etc/gitlab-runner/config.toml

Exit codes: 0 they are gone, 1 some are not, 2 unusable arguments or files.";

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    match arguments.action {
        Action::List(list) => {
            let (directory, jobs) = list.place.jobs(session)?;
            if list.json {
                let shown: Vec<_> = jobs.iter().map(Shown::of).collect();
                print_json(&shown)?;
            } else if jobs.is_empty() {
                print_text(&format!("{}: nothing is kept\n", directory.display()))?;
            } else {
                print_text(&table(&jobs))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Drop(drop) => give_up(drop, session).await,
    }
}

impl Place {
    /// Where they lie, and which there are.
    fn jobs(&self, session: &Session) -> Result<(PathBuf, Vec<KeptJob>), Failure> {
        let path = self.config.path(session);
        let file = ConfigFile::open(&path, session)?;
        let working_directory =
            super::run::working_directory(self.working_directory.as_deref(), session)?;
        let directory = spool_directory(&file, &working_directory);
        let jobs = kept_jobs(&directory).map_err(|error| {
            Failure::invalid(format!("cannot look into {}: {error}", directory.display()))
        })?;
        Ok((directory, jobs))
    }
}

async fn give_up(drop: Drop, session: &Session) -> Result<ExitCode, Failure> {
    let (directory, jobs) = drop.place.jobs(session)?;
    for id in &drop.jobs {
        if !jobs.iter().any(|job| job.job == *id) {
            let message = format!("no job {id} is kept in {}", directory.display());
            return Err(Failure::invalid(message).hint("`courser spool list` shows them"));
        }
    }
    let wanted: Vec<_> = jobs
        .into_iter()
        .filter(|job| drop.jobs.contains(&job.job) || drop.all && job.state != KeptState::InUse)
        .collect();
    if wanted.is_empty() {
        print_text("nothing to drop\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !drop.yes {
        print_text(&table(&wanted))?;
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                Code::Failed,
                "nothing was dropped: nobody is here to confirm it",
            )
            .hint("--yes drops them without a question"));
        }
        let question = "Nothing more of these jobs will be sent. Drop them? (yes/no)";
        let answer = Questions::new(false)
            .ask("answer", question, None, true)
            .await?;
        if answer != "yes" {
            return Err(Failure::new(Code::Failed, "nothing was dropped"));
        }
    }
    let mut all_gone = true;
    for job in &wanted {
        match drop_kept(job) {
            Ok(()) => print_text(&format!("dropped job {}\n", job.job))?,
            Err(error) => {
                all_gone = false;
                let hint = match &error {
                    NotDropped::InUse(_) => ", end that first",
                    NotDropped::Io { .. } => "",
                };
                anstream::eprintln!("not dropped: {error}{hint}");
            }
        }
    }
    Ok(if all_gone {
        ExitCode::SUCCESS
    } else {
        Code::Failed.into()
    })
}

/// One job in JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    job: i64,
    url: &'a str,
    runner: &'a str,
    state: &'static str,
    /// Of a failed job; or why nothing can be made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    log_bytes: u64,
    unsent_bytes: u64,
    /// RFC 3339.
    touched: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(job: &'a KeptJob) -> Self {
        Self {
            job: job.job,
            url: &job.url,
            runner: &job.runner,
            state: job.state.word(),
            reason: match &job.state {
                KeptState::Ended(reason) => reason.as_ref().map(ToString::to_string),
                KeptState::Unusable(why) => Some(why.clone()),
                _ => None,
            },
            log_bytes: job.log,
            unsent_bytes: job.unsent,
            touched: job
                .touched
                .and_then(moment)
                .map(|moment| moment.to_string()),
        }
    }
}

/// To the second.
fn moment(time: SystemTime) -> Option<Timestamp> {
    Timestamp::from_second(Timestamp::try_from(time).ok()?.as_second()).ok()
}

fn table(jobs: &[KeptJob]) -> String {
    let mut text = String::new();
    for job in jobs {
        let touched = job.touched.and_then(moment);
        let touched = touched.map_or_else(String::new, |moment| format!(", last written {moment}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "job {} of {} (runner {}): {}; {} of {} of its log not sent{touched}",
            job.job,
            job.url,
            job.runner,
            job.state,
            amount(job.unsent),
            amount(job.log),
        );
    }
    text
}
