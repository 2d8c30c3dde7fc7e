//! What a run looks like: live on a terminal, lines in a pipe, JSON for programs, or silence.

mod guarded;
mod json;
mod lines;
mod live;
mod quiet;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use courser_coordinator::{Deployment, JobEnd, JobResults, JobState, PipelineStatus};
use courser_executor_docker::kept::KeptJob;
use jiff::Timestamp;

pub(super) use guarded::Guarded;
pub(super) use json::Json;
pub(super) use lines::Lines;
pub(super) use live::Live;
pub(super) use quiet::Quiet;

use super::reports::Reports;
use crate::pipeline_variables::Mask;

/// A job as views know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobName<'a> {
    /// Job id; a retry has a new one.
    pub(super) id: i64,
    /// As it is shown: with the bridges before it, `child/build`.
    pub(super) name: &'a str,
    /// In its own pipeline.
    pub(super) own_name: &'a str,
    /// Stage.
    pub(super) stage: &'a str,
    /// Its pipeline; the one that was asked for is 1.
    pub(super) pipeline: i64,
}

/// One line of the summary.
#[derive(Debug, Clone)]
pub(super) struct SummaryRow {
    pub(super) id: i64,
    pub(super) pipeline: i64,
    /// With the bridges before it.
    pub(super) name: String,
    pub(super) own_name: String,
    pub(super) stage: String,
    pub(super) end: JobEnd,
    pub(super) results: JobResults,
    pub(super) log: Option<PathBuf>,
    pub(super) artifacts: Vec<PathBuf>,
    /// What its reports say.
    pub(super) reports: Reports,
    /// Where its working copy lies, if it was kept.
    pub(super) working_copy: Option<PathBuf>,
    /// What was kept of it in a Docker Engine.
    pub(super) kept: Option<KeptJob>,
    /// Whether it passed in an earlier run.
    pub(super) reused: bool,
}

/// The end of the run.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub(super) status: PipelineStatus,
    pub(super) duration: Duration,
    pub(super) rows: Vec<SummaryRow>,
}

/// Shows a run.
pub(super) trait View {
    /// The pipeline exists; `jobs` in pipeline order.
    fn created(&mut self, jobs: &[JobName<'_>]);
    /// A bridge has started a pipeline with `jobs`.
    fn downstream(&mut self, bridge: JobName<'_>, jobs: &[JobName<'_>]);
    /// A job waits for its time.
    fn delayed(&mut self, job: JobName<'_>, left: Duration);
    /// A job runs.
    fn started(&mut self, job: JobName<'_>);
    /// A line of a job's log.
    fn line(&mut self, job: JobName<'_>, line: &str);
    /// A job has ended; `tail` are the last lines of its log.
    fn finished(&mut self, job: JobName<'_>, end: &JobEnd, tail: &[&str]);
    /// The user asked to stop.
    fn cancelling(&mut self);
    /// Time has passed.
    fn tick(&mut self) {}
    /// Everything is over.
    fn summary(&mut self, summary: &Summary);
}

/// The view that the options and the terminal ask for, without what `mask` knows.
pub(super) fn choose(json: bool, quiet: bool, mask: Mask) -> Guarded {
    let view: Box<dyn View + Send> = if json {
        Box::new(Json)
    } else if quiet {
        Box::new(Quiet)
    } else if std::io::stdout().is_terminal() {
        Box::new(Live::new())
    } else {
        Box::new(Lines::default())
    };
    Guarded::new(view, mask, json)
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Sign and colour of an end.
fn sign(end: &JobEnd) -> (char, Style) {
    let (sign, colour) = match end.state {
        JobState::Success => ('✓', AnsiColor::Green),
        JobState::Failed { allowed: true } => ('!', AnsiColor::Yellow),
        JobState::Failed { .. } => ('✗', AnsiColor::Red),
        JobState::Manual => ('▸', AnsiColor::Blue),
        _ => ('-', AnsiColor::BrightBlack),
    };
    (sign, colour.on_default())
}

/// What happened, in words: `failed (exit code 2), will be retried`.
fn verdict(end: &JobEnd) -> String {
    let mut text = match end.state {
        JobState::Success => "passed".to_owned(),
        JobState::Failed { .. } => match (&end.failure_reason, end.exit_code) {
            _ if end.message.is_some() => {
                format!("failed: {}", end.message.as_deref().unwrap_or_default())
            }
            (_, Some(code)) => format!("failed (exit code {code})"),
            (Some(reason), None) => format!("failed ({reason})"),
            (None, None) => "failed".to_owned(),
        },
        JobState::Manual => "waits to be started by name".to_owned(),
        JobState::Created => "did not run".to_owned(),
        state => state.as_str().to_owned(),
    };
    if end.retried {
        text.push_str(", tried again");
    } else if end.state == (JobState::Failed { allowed: true }) {
        text.push_str(", allowed to fail");
    }
    text
}

/// What a job left behind, in words.
fn results(results: &JobResults) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(coverage) = results.coverage {
        words.push(format!("coverage {coverage} %"));
    }
    if let Some(deployment) = &results.deployment {
        let did = match deployment.action.as_str() {
            "start" => "deployed to",
            "stop" => "stopped",
            other => other,
        };
        let name = &deployment.environment;
        let url = deployment.url.as_deref().map(|url| format!(", {url}"));
        words.push(format!(
            "{did} environment {name}{}",
            url.unwrap_or_default()
        ));
    }
    if let Some(deployment) = results
        .deployment
        .as_ref()
        .filter(|did| did.action == "start")
    {
        words.extend(stop(deployment));
    }
    if let Some(release) = &results.release {
        words.push(format!("release recorded in {}", release.display()));
    }
    if let Some(directory) = &results.pages {
        words.push(format!("pages: {directory} in its artifacts"));
    }
    words
}

/// What ends a deployment, in words; nothing here does so by itself.
fn stop(deployment: &Deployment) -> Option<String> {
    let at = deployment.stops_at.map(Timestamp::from_second)?.ok()?;
    let by = deployment
        .on_stop
        .as_deref()
        .map_or_else(String::new, |job| format!(": courser exec {}", quoted(job)));
    Some(format!("to be stopped at {at}, by you{by}"))
}

/// What a bridge did, in words.
fn started_pipeline(jobs: &[JobName<'_>]) -> String {
    let count = jobs.len();
    let noun = if count == 1 { "job" } else { "jobs" };
    let pipeline = jobs.first().map_or(0, |job| job.pipeline);
    format!("started pipeline {pipeline} with {count} {noun}")
}

/// `0.42 s`, `12.3 s`, `3 min 04 s`.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = duration.as_secs();
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

fn milliseconds(end: &JobEnd) -> String {
    if end.milliseconds == 0 {
        String::new()
    } else {
        seconds(Duration::from_millis(end.milliseconds))
    }
}

/// Columns that names are padded to; longer ones stick out.
const NAME_COLUMNS: usize = 40;

/// Columns of the longest of these texts, as far as padding goes.
fn columns<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    let longest = texts.map(|text| text.chars().count()).max();
    longest.unwrap_or(0).min(NAME_COLUMNS)
}

/// The text in at most `columns` columns, without its middle where it is longer.
fn shortened(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    let tail = columns / 3;
    let head = columns.saturating_sub(tail + 1);
    let start = text.chars().take(head);
    let end = text.chars().skip(length - tail);
    start.chain(['…']).chain(end).collect()
}

/// The name as one word of a shell.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if !name.is_empty() && name.chars().all(plain) && !name.starts_with('-') {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

/// The table at the end, for terminals and pipes alike. Paths of artifacts are below a directory that
/// is named once, the log of a failed job can be copied as it stands.
fn print_summary(summary: &Summary) {
    let stages = columns(summary.rows.iter().map(|row| row.stage.as_str()));
    let names = columns(summary.rows.iter().map(|row| row.name.as_str()));
    let logs = summary
        .rows
        .iter()
        .find_map(|row| row.log.as_deref()?.parent());
    let directory = logs.and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    anstream::println!();
    for row in &summary.rows {
        let (sign, colour) = sign(&row.end);
        let time = milliseconds(&row.end);
        let verdict = if row.reused {
            "passed in an earlier run".to_owned()
        } else {
            verdict(&row.end)
        };
        anstream::println!(
            "{colour}{sign}{colour:#} {DIM}{:stages$}{DIM:#}  {:names$}  {time:>11}  {verdict}",
            row.stage,
            row.name,
        );
        for line in row.reports.lines() {
            anstream::println!("  {line}");
        }
        for artifact in &row.artifacts {
            let below = artifact.strip_prefix(directory).unwrap_or(artifact);
            anstream::println!("  {DIM}{}{DIM:#}", below.display());
        }
        if let Some(copy) = &row.working_copy {
            anstream::println!("  {DIM}working copy {}{DIM:#}", copy.display());
        }
        if let Some(kept) = &row.kept {
            anstream::println!(
                "  {DIM}kept in the Docker Engine: volume {}{DIM:#}",
                kept.volume
            );
        }
        for result in results(&row.results) {
            anstream::println!("  {DIM}{result}{DIM:#}");
        }
        if matches!(row.end.state, JobState::Failed { .. })
            && let Some(log) = &row.log
        {
            anstream::println!("  {DIM}full log {}{DIM:#}", log.display());
        }
    }
    if logs.is_some() {
        anstream::println!(
            "\n{DIM}logs and artifacts are in {}{DIM:#}",
            directory.display()
        );
    }
    let (word, colour) = match summary.status {
        PipelineStatus::Success => ("passed", AnsiColor::Green),
        PipelineStatus::Failed => ("failed", AnsiColor::Red),
        PipelineStatus::Manual => ("waits for a manual job", AnsiColor::Yellow),
        status => (status.as_str(), AnsiColor::Yellow),
    };
    let colour = colour.on_default().bold();
    let time = seconds(summary.duration);
    anstream::println!("\n{BOLD}Pipeline{BOLD:#} {colour}{word}{colour:#} in {time}");
    let manual = |row: &&SummaryRow| row.end.state == JobState::Manual;
    if summary.status == PipelineStatus::Manual
        && let Some(row) = summary.rows.iter().find(manual)
    {
        let name = quoted(&row.name);
        anstream::println!(
            "everything that starts by itself has run; start the manual job with: courser exec {name}\n\
             (--needs also runs what it needs)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        let end = |state, exit_code, reason: Option<&str>, retried| JobEnd {
            state,
            milliseconds: 0,
            failure_reason: reason.map(str::to_owned),
            exit_code,
            retried,
            ran: true,
            message: None,
        };
        let failed = JobState::Failed { allowed: false };
        let cases = [
            (end(JobState::Success, None, None, false), "passed"),
            (
                end(failed, Some(2), Some("script_failure"), false),
                "failed (exit code 2)",
            ),
            (
                end(failed, None, Some("job_execution_timeout"), false),
                "failed (job_execution_timeout)",
            ),
            (
                end(JobState::Failed { allowed: true }, Some(1), None, true),
                "failed (exit code 1), tried again",
            ),
            (
                end(JobState::Failed { allowed: true }, Some(1), None, false),
                "failed (exit code 1), allowed to fail",
            ),
            (end(JobState::Skipped, None, None, false), "skipped"),
            (end(JobState::Canceled, None, None, false), "canceled"),
        ];
        for (end, expected) in cases {
            assert_eq!(verdict(&end), expected);
        }
    }

    #[test]
    fn durations_are_short() {
        let cases = [(420, "0.42 s"), (12_340, "12.3 s"), (184_000, "3 min 04 s")];
        for (milliseconds, expected) in cases {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn long_names_lose_their_middle_and_odd_ones_are_quoted() {
        assert_eq!(shortened("short", 9), "short");
        assert_eq!(shortened("test: [ubuntu, stable]", 9), "test:…le]");
        assert_eq!(quoted("deploy:prod"), "deploy:prod");
        assert_eq!(quoted("it's [a]"), r"'it'\''s [a]'");
    }
}
