//! For programs: one JSON object a line on standard output.
//!
//! `event` is one of
//!
//! - `problem`: `severity` (`error`, `warning`), `file`, `line`, `column`, `message`
//! - `warning`: `message`
//! - `pipeline_created`: `jobs` (`name`, `stage`)
//! - `downstream_created`: a job (the bridge), `downstream_pipeline`, `jobs` (`name`, `stage`)
//! - `job_delayed`: a job, `seconds`
//! - `job_started`: a job; `job_log`: a job, `line`
//! - `job_finished`: a job and how it ended: `status`, `allowed_to_fail`, `duration` (seconds),
//!   `failure_reason`, `message`, `exit_code`, `retried`
//! - `cancelling`
//! - `pipeline_finished`: `status`, `duration`, `jobs` (how they ended, `log`, `artifacts`, `working_copy`,
//!   `reused`: passed in an earlier run)
//! - `error`: `message`, `hints`, `exit_code`; the last line of a run that could not be made
//!
//! where a job is `id`, `name`, `stage`, `pipeline` (1, or of a child), `path` (`name` behind those of the
//! bridges before it). Fields may be added, never taken away.

use std::time::Duration;

use courser_coordinator::JobEnd;
use courser_pipeline::Problem;
use serde_json::{Value, json};

use super::super::log::strip_colours;
use super::{JobName, Summary, View};
use crate::failure::Failure;
use crate::problems::Severity;

/// One event a line.
#[derive(Debug)]
pub(in super::super) struct Json;

impl Json {
    /// Problems of the file.
    pub(in super::super) fn problems(problems: &[Problem], severity: Severity) {
        for problem in problems {
            let mut event = json!(problem);
            event["event"] = "problem".into();
            event["severity"] = match severity {
                Severity::Error => "error".into(),
                Severity::Warning => "warning".into(),
            };
            println!("{event}");
        }
    }

    /// Something without a place in the file.
    pub(in super::super) fn warning(message: &str) {
        println!("{}", json!({"event": "warning", "message": message}));
    }

    /// The run could not be made, or broke down.
    pub(in super::super) fn failed(failure: &Failure) {
        let event = json!({
            "event": "error",
            "message": failure.message(),
            "hints": failure.hints(),
            "exit_code": failure.code(),
        });
        println!("{event}");
    }
}

impl View for Json {
    fn created(&mut self, jobs: &[JobName<'_>]) {
        let jobs = names(jobs);
        println!("{}", json!({"event": "pipeline_created", "jobs": jobs}));
    }

    fn downstream(&mut self, bridge: JobName<'_>, jobs: &[JobName<'_>]) {
        let facts = json!({
            "downstream_pipeline": jobs.first().map(|job| job.pipeline),
            "jobs": names(jobs),
        });
        println!("{}", event("downstream_created", bridge, facts));
    }

    fn delayed(&mut self, job: JobName<'_>, left: Duration) {
        let facts = json!({"seconds": left.as_secs()});
        println!("{}", event("job_delayed", job, facts));
    }

    fn started(&mut self, job: JobName<'_>) {
        println!("{}", event("job_started", job, json!({})));
    }

    fn line(&mut self, job: JobName<'_>, line: &str) {
        println!(
            "{}",
            event("job_log", job, json!({"line": strip_colours(line)}))
        );
    }

    fn finished(&mut self, job: JobName<'_>, end: &JobEnd, _tail: &[&str]) {
        println!("{}", event("job_finished", job, facts(end)));
    }

    fn cancelling(&mut self) {
        println!("{}", json!({"event": "cancelling"}));
    }

    fn summary(&mut self, summary: &Summary) {
        let jobs = summary.rows.iter().map(|row| {
            let mut job = facts(&row.end);
            job["id"] = row.id.into();
            job["name"] = row.own_name.as_str().into();
            job["path"] = row.name.as_str().into();
            job["pipeline"] = row.pipeline.into();
            job["stage"] = row.stage.as_str().into();
            job["log"] = json!(row.log);
            job["coverage"] = json!(row.results.coverage);
            job["deployment"] = json!(row.results.deployment);
            job["release"] = json!(row.results.release);
            job["pages"] = json!(row.results.pages);
            job["artifacts"] = json!(row.artifacts);
            job["reports"] = json!(row.reports);
            job["working_copy"] = json!(row.working_copy);
            job["kept"] = json!(row.kept);
            job["reused"] = row.reused.into();
            job
        });
        let end = json!({
            "event": "pipeline_finished",
            "status": summary.status.as_str(),
            "duration": summary.duration.as_secs_f64(),
            "jobs": jobs.collect::<Vec<_>>(),
        });
        println!("{end}");
    }
}

fn names(jobs: &[JobName<'_>]) -> Vec<Value> {
    let name = |job: &JobName<'_>| json!({"name": job.own_name, "stage": job.stage});
    jobs.iter().map(name).collect()
}

fn event(name: &str, job: JobName<'_>, mut facts: Value) -> Value {
    facts["event"] = name.into();
    facts["id"] = job.id.into();
    facts["name"] = job.own_name.into();
    facts["path"] = job.name.into();
    facts["pipeline"] = job.pipeline.into();
    facts["stage"] = job.stage.into();
    facts
}

fn facts(end: &JobEnd) -> Value {
    json!({
        "status": end.state.as_str(),
        "allowed_to_fail": end.state == courser_coordinator::JobState::Failed { allowed: true },
        "duration": end.milliseconds as f64 / 1000.0,
        "failure_reason": end.failure_reason,
        "message": end.message,
        "exit_code": end.exit_code,
        "retried": end.retried,
    })
}
