//! The gate before every view: what comes from servers, files and jobs is shown without masked values, and to people
//! without control characters, which would steer the terminal.
//!
//! Lines of logs pass: the runner has masked them, and [`super::super::log`] leaves them nothing but colours.

use std::borrow::Cow;
use std::time::Duration;

use courser_coordinator::{JobEnd, JobResults};

use super::{JobName, Summary, View};
use crate::control_characters::written_out;
use crate::pipeline_variables::Mask;

/// A view behind the gate.
pub(in super::super) struct Guarded {
    view: Box<dyn View + Send>,
    mask: Mask,
    /// JSON writes control characters out itself.
    json: bool,
}

/// A job's names as they may be shown.
struct Shown<'a> {
    job: JobName<'a>,
    name: Cow<'a, str>,
    own_name: Cow<'a, str>,
    stage: Cow<'a, str>,
}

impl Shown<'_> {
    fn name(&self) -> JobName<'_> {
        JobName {
            name: &self.name,
            own_name: &self.own_name,
            stage: &self.stage,
            ..self.job
        }
    }
}

impl Guarded {
    pub(super) fn new(view: Box<dyn View + Send>, mask: Mask, json: bool) -> Self {
        Self { view, mask, json }
    }

    fn plain<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.json {
            Cow::Borrowed(text)
        } else {
            written_out(text)
        }
    }

    fn job<'a>(&self, job: JobName<'a>) -> Shown<'a> {
        Shown {
            job,
            name: self.plain(job.name),
            own_name: self.plain(job.own_name),
            stage: self.plain(job.stage),
        }
    }

    fn jobs<'a>(&self, jobs: &[JobName<'a>]) -> Vec<Shown<'a>> {
        jobs.iter().map(|job| self.job(*job)).collect()
    }

    fn text(&self, text: &mut String) {
        let masked = self.mask.text(std::mem::take(text));
        *text = self.plain(&masked).into_owned();
    }

    fn end(&self, end: &JobEnd) -> JobEnd {
        let mut end = end.clone();
        for text in end.message.iter_mut().chain(&mut end.failure_reason) {
            self.text(text);
        }
        end
    }

    fn results(&self, results: &mut JobResults) {
        if let Some(pages) = &mut results.pages {
            self.text(pages);
        }
        let Some(deployment) = &mut results.deployment else {
            return;
        };
        // The slug is made of the name, in other letters.
        if self.mask.text(deployment.environment.clone()) != deployment.environment {
            "[MASKED]".clone_into(&mut deployment.slug);
        }
        let texts = [
            &mut deployment.environment,
            &mut deployment.slug,
            &mut deployment.tier,
            &mut deployment.action,
        ];
        let optional = deployment.url.iter_mut().chain(&mut deployment.on_stop);
        for text in texts.into_iter().chain(optional) {
            self.text(text);
        }
    }
}

impl View for Guarded {
    fn created(&mut self, jobs: &[JobName<'_>]) {
        let jobs = self.jobs(jobs);
        let names: Vec<_> = jobs.iter().map(Shown::name).collect();
        self.view.created(&names);
    }

    fn downstream(&mut self, bridge: JobName<'_>, jobs: &[JobName<'_>]) {
        let (bridge, jobs) = (self.job(bridge), self.jobs(jobs));
        let names: Vec<_> = jobs.iter().map(Shown::name).collect();
        self.view.downstream(bridge.name(), &names);
    }

    fn delayed(&mut self, job: JobName<'_>, left: Duration) {
        let job = self.job(job);
        self.view.delayed(job.name(), left);
    }

    fn started(&mut self, job: JobName<'_>) {
        let job = self.job(job);
        self.view.started(job.name());
    }

    fn line(&mut self, job: JobName<'_>, line: &str) {
        let job = self.job(job);
        self.view.line(job.name(), line);
    }

    fn finished(&mut self, job: JobName<'_>, end: &JobEnd, tail: &[&str]) {
        let (job, end) = (self.job(job), self.end(end));
        self.view.finished(job.name(), &end, tail);
    }

    fn cancelling(&mut self) {
        self.view.cancelling();
    }

    fn tick(&mut self) {
        self.view.tick();
    }

    fn summary(&mut self, summary: &Summary) {
        let mut summary = summary.clone();
        for row in &mut summary.rows {
            for text in [&mut row.name, &mut row.own_name, &mut row.stage] {
                *text = self.plain(text).into_owned();
            }
            row.end = self.end(&row.end);
            self.results(&mut row.results);
            row.reports.mask(&self.mask);
        }
        self.view.summary(&summary);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use courser_coordinator::{Deployment, JobState, PipelineStatus};
    use courser_protocol::{JobVariable, Secret};

    use super::super::{Reports, SummaryRow};
    use super::*;

    /// Keeps what it is told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<String>>);

    impl Told {
        fn add(&self, text: &str) {
            let mut told = self.0.lock().expect("no panic");
            told.push_str(text);
            told.push('\n');
        }
    }

    impl View for Told {
        fn created(&mut self, jobs: &[JobName<'_>]) {
            self.add(&format!("{}/{}", jobs[0].stage, jobs[0].name));
        }
        fn downstream(&mut self, bridge: JobName<'_>, jobs: &[JobName<'_>]) {
            self.add(&format!("{} {}", bridge.name, jobs[0].own_name));
        }
        fn delayed(&mut self, job: JobName<'_>, _left: Duration) {
            self.add(job.name);
        }
        fn started(&mut self, job: JobName<'_>) {
            self.add(job.name);
        }
        fn line(&mut self, job: JobName<'_>, line: &str) {
            self.add(&format!("{} {line}", job.name));
        }
        fn finished(&mut self, job: JobName<'_>, end: &JobEnd, _tail: &[&str]) {
            self.add(&format!("{} {:?}", job.name, end.message));
        }
        fn cancelling(&mut self) {}
        fn summary(&mut self, summary: &Summary) {
            let row = &summary.rows[0];
            let deployment = row.results.deployment.as_ref().expect("deployed");
            self.add(&format!(
                "{}/{} {:?} {} {} {:?} {:?}",
                row.stage,
                row.name,
                row.end.message,
                deployment.environment,
                deployment.slug,
                deployment.url,
                row.results.pages
            ));
        }
    }

    fn told(json: bool) -> String {
        const NAME: &str = "a\u{1b}]0;x\u{7}";
        let secret = JobVariable {
            key: "TOPSECRET".to_owned(),
            value: Secret::new("Hunter2Hunter2"),
            masked: true,
            ..JobVariable::default()
        };
        let told = Told::default();
        let mut view = Guarded::new(Box::new(told.clone()), Mask::of(&[secret]), json);
        let job = JobName {
            id: 1,
            name: NAME,
            own_name: NAME,
            stage: NAME,
            pipeline: 1,
        };
        let end = JobEnd {
            state: JobState::Failed { allowed: false },
            milliseconds: 0,
            failure_reason: None,
            exit_code: None,
            retried: false,
            ran: false,
            message: Some("no Hunter2Hunter2\u{9b}2J".to_owned()),
        };
        view.created(&[job]);
        view.downstream(job, &[job]);
        view.delayed(job, Duration::ZERO);
        view.started(job);
        view.line(job, "\u{1b}[31mred");
        view.finished(job, &end, &[]);
        let deployment = Deployment {
            environment: "to/Hunter2Hunter2".to_owned(),
            slug: "to-hunter2hunter2-abc".to_owned(),
            url: Some("https://Hunter2Hunter2/\u{1b}[2J".to_owned()),
            ..Deployment::default()
        };
        view.summary(&Summary {
            status: PipelineStatus::Failed,
            duration: Duration::ZERO,
            rows: vec![SummaryRow {
                id: 1,
                pipeline: 1,
                name: NAME.to_owned(),
                own_name: NAME.to_owned(),
                stage: NAME.to_owned(),
                end,
                results: JobResults {
                    deployment: Some(deployment),
                    pages: Some("Hunter2Hunter2".to_owned()),
                    ..JobResults::default()
                },
                log: None,
                artifacts: Vec::new(),
                reports: Reports::default(),
                working_copy: None,
                kept: None,
                reused: false,
            }],
        });
        told.0.lock().expect("no panic").clone()
    }

    #[test]
    fn no_view_gets_masked_values_and_no_terminal_what_steers_it() {
        for json in [false, true] {
            let told = told(json);
            assert!(!told.to_lowercase().contains("hunter2"), "{told}");
            assert_eq!(told.lines().count(), 7, "{told}");
            let steers = told
                .replace("\u{1b}[31mred", "red")
                .contains(['\u{1b}', '\u{7}', '\u{9b}']);
            assert_eq!(steers, json, "{told:?}");
        }
        let told = told(false);
        assert!(
            told.starts_with("a\\u{1b}]0;x\\u{7}/a\\u{1b}]0;x\\u{7}\n"),
            "{told}"
        );
    }
}
