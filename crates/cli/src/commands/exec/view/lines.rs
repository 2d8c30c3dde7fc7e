//! In a pipe: every line of every log behind its job's name.

use std::time::Duration;

use courser_coordinator::JobEnd;

use super::{
    BOLD, JobName, Summary, View, columns, milliseconds, print_summary, seconds, sign,
    started_pipeline, verdict,
};

/// Plain lines.
#[derive(Debug, Default)]
pub(in super::super) struct Lines {
    width: usize,
}

impl View for Lines {
    fn created(&mut self, jobs: &[JobName<'_>]) {
        self.width = columns(jobs.iter().map(|job| job.name));
    }

    fn downstream(&mut self, bridge: JobName<'_>, jobs: &[JobName<'_>]) {
        self.width = self.width.max(columns(jobs.iter().map(|job| job.name)));
        let (width, pipeline) = (self.width, started_pipeline(jobs));
        anstream::println!("{BOLD}{:width$}{BOLD:#} > {pipeline}", bridge.name);
    }

    fn delayed(&mut self, job: JobName<'_>, left: Duration) {
        let (width, left) = (self.width, seconds(left));
        anstream::println!(
            "{BOLD}{:width$}{BOLD:#} > delayed, starts in {left}",
            job.name
        );
    }

    fn started(&mut self, job: JobName<'_>) {
        let width = self.width;
        anstream::println!("{BOLD}{:width$}{BOLD:#} > started", job.name);
    }

    fn line(&mut self, job: JobName<'_>, line: &str) {
        let width = self.width;
        anstream::println!("{:width$} | {line}", job.name);
    }

    fn finished(&mut self, job: JobName<'_>, end: &JobEnd, _tail: &[&str]) {
        let width = self.width;
        let (sign, colour) = sign(end);
        let told = format!("{} {}", verdict(end), milliseconds(end));
        anstream::println!(
            "{BOLD}{:width$}{BOLD:#} {colour}{sign}{colour:#} {}",
            job.name,
            told.trim_end()
        );
    }

    fn cancelling(&mut self) {
        anstream::println!("cancelling: after_script still runs; Ctrl-C again kills");
    }

    fn summary(&mut self, summary: &Summary) {
        print_summary(summary);
    }
}
