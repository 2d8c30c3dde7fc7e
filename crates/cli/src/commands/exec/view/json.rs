//! For programs: one JSON object a line on standard output.
//!
//! `event` is `pipeline_created`, `job_started`, `job_log`, `job_finished`, `cancelling` or
//! `pipeline_finished`.

use courser_coordinator::JobEnd;
use serde_json::{Value, json};

use super::super::log::strip_colours;
use super::{JobName, Summary, View};

/// One event a line.
#[derive(Debug)]
pub(in super::super) struct Json;

impl View for Json {
    fn created(&mut self, jobs: &[JobName<'_>]) {
        let jobs: Vec<_> = jobs
            .iter()
            .map(|job| json!({"name": job.name, "stage": job.stage}))
            .collect();
        println!("{}", json!({"event": "pipeline_created", "jobs": jobs}));
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
            job["name"] = row.name.as_str().into();
            job["stage"] = row.stage.as_str().into();
            job["log"] = json!(row.log);
            job["artifacts"] = json!(row.artifacts);
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

fn event(name: &str, job: JobName<'_>, mut facts: Value) -> Value {
    facts["event"] = name.into();
    facts["id"] = job.id.into();
    facts["name"] = job.name.into();
    facts["stage"] = job.stage.into();
    facts
}

fn facts(end: &JobEnd) -> Value {
    json!({
        "status": end.state.as_str(),
        "allowed_to_fail": end.state == courser_coordinator::JobState::Failed { allowed: true },
        "duration": end.milliseconds as f64 / 1000.0,
        "failure_reason": end.failure_reason,
        "exit_code": end.exit_code,
        "retried": end.retried,
    })
}
