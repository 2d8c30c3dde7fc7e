//! Only what went wrong.

use std::time::Duration;

use courser_coordinator::{JobEnd, JobState};

use super::{JobName, Summary, View, verdict};

/// Failing jobs with their last lines, on standard error.
#[derive(Debug)]
pub(in super::super) struct Quiet;

impl View for Quiet {
    fn created(&mut self, _jobs: &[JobName<'_>]) {}

    fn downstream(&mut self, _bridge: JobName<'_>, _jobs: &[JobName<'_>]) {}

    fn delayed(&mut self, _job: JobName<'_>, _left: Duration) {}

    fn started(&mut self, _job: JobName<'_>) {}

    fn line(&mut self, _job: JobName<'_>, _line: &str) {}

    fn finished(&mut self, job: JobName<'_>, end: &JobEnd, tail: &[&str]) {
        if end.state == (JobState::Failed { allowed: false }) {
            anstream::eprintln!("{}: {}", job.name, verdict(end));
            for line in tail {
                anstream::eprintln!("    {line}");
            }
        }
    }

    fn cancelling(&mut self) {}

    fn summary(&mut self, summary: &Summary) {
        for row in &summary.rows {
            if let (JobState::Failed { allowed: false }, Some(log)) = (row.end.state, &row.log) {
                anstream::eprintln!("{}: full log {}", row.name, log.display());
            }
        }
    }
}
