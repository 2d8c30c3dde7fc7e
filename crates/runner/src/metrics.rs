//! What the daemon counts, and its page for Prometheus (`runner-protocol.md` 7.3).
//!
//! Names and labels are gitlab-runner's; which of its families are not given is listed in `docs/runner.md`.

mod exposition;
mod trust;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use exposition::{CONTENT_TYPE, Exposition, Family, Histogram, Kind};
pub use trust::write_trust;

const JOB_SECONDS: &[f64] = &[
    30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10_800.0, 18_000.0, 36_000.0,
];
const QUEUE_SECONDS: &[f64] = &[
    1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0,
];
/// Payloads that say how many jobs of a project run say one of a handful of texts; a server that does not
/// must not fill the page.
const QUEUES: usize = 20;
/// Bytes of such a text: a number, or "+Inf".
const QUEUE_NAME: usize = 32;

/// The counters of a daemon. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    concurrent: usize,
    loaded: u64,
    loading_errors: u64,
    left_over: usize,
    by_runner: BTreeMap<RunnerLabels, RunnerCounts>,
    modes: BTreeMap<String, u64>,
}

/// What tells a runner from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunnerLabels {
    /// The short token.
    pub(crate) runner: String,
    /// `runner_name`.
    pub(crate) name: String,
    /// `system_id`.
    pub(crate) system_id: String,
}

#[derive(Debug)]
struct RunnerCounts {
    limit: Option<usize>,
    running: u64,
    jobs: u64,
    failed: BTreeMap<String, u64>,
    durations: Histogram,
    queued: BTreeMap<String, Histogram>,
    answers: BTreeMap<(&'static str, u16, &'static str), u64>,
}

/// One runner's share of [`Metrics`].
#[derive(Debug, Clone)]
pub(crate) struct RunnerMetrics {
    metrics: Metrics,
    labels: RunnerLabels,
}

/// A job that runs; it counts until this is dropped.
pub(crate) struct RunningJob {
    metrics: RunnerMetrics,
}

impl Metrics {
    /// A configuration is in force.
    pub fn configuration_loaded(&self) {
        self.counts().loaded += 1;
    }

    /// A configuration could not be loaded.
    pub fn configuration_not_loaded(&self) {
        self.counts().loading_errors += 1;
    }

    /// How many jobs, beside those that run, are still to be reported.
    pub(crate) fn left_over(&self, jobs: usize) {
        self.counts().left_over = jobs;
    }

    /// The runners in force; those that are gone and idle are forgotten.
    pub(crate) fn configured(&self, concurrent: usize, limits: Vec<(RunnerLabels, usize)>) {
        let mut counts = self.counts();
        counts.concurrent = concurrent;
        for runner in counts.by_runner.values_mut() {
            runner.limit = None;
        }
        for (labels, limit) in limits {
            counts.by_runner.entry(labels).or_default().limit = Some(limit);
        }
        counts
            .by_runner
            .retain(|_, runner| runner.limit.is_some() || runner.running > 0);
    }

    pub(crate) fn of_runner(&self, labels: RunnerLabels) -> RunnerMetrics {
        RunnerMetrics {
            metrics: self.clone(),
            labels,
        }
    }

    /// Writes the families of runners and jobs.
    pub fn write(&self, page: &mut Exposition) {
        let counts = self.counts();
        let single = [
            (
                "gitlab_runner_concurrent",
                Kind::Gauge,
                "The current value of concurrent setting",
                counts.concurrent as u64,
            ),
            (
                "gitlab_runner_configuration_loaded_total",
                Kind::Counter,
                "Configurations that were loaded.",
                counts.loaded,
            ),
            (
                "gitlab_runner_configuration_loading_error_total",
                Kind::Counter,
                "Configurations that could not be loaded.",
                counts.loading_errors,
            ),
            (
                "courser_jobs_left_over",
                Kind::Gauge,
                "Jobs that have ended, and whose end the server has not acknowledged yet.",
                counts.left_over as u64,
            ),
        ];
        for (name, kind, help, value) in single {
            page.single(name, kind, help, value as f64);
        }
        let mut modes = page.family(
            "gitlab_runner_job_execution_mode_total",
            Kind::Counter,
            "Jobs by the way in which they are run.",
        );
        for (executor, jobs) in &counts.modes {
            modes.sample(
                &[("mode", "traditional"), ("executor", executor)],
                *jobs as f64,
            );
        }
        counts.write_runners(page);
    }

    /// The numbers are whole at every step, so a panic elsewhere does not spoil them.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn write_runners(&self, page: &mut Exposition) {
        let mut limits = page.family(
            "gitlab_runner_limit",
            Kind::Gauge,
            "The current value of limit setting",
        );
        for (labels, runner) in &self.by_runner {
            if let Some(limit) = runner.limit {
                limits.sample(&labels.all(), limit as f64);
            }
        }
        let mut jobs = page.family("gitlab_runner_jobs", Kind::Gauge, "Jobs that run now.");
        for (labels, runner) in &self.by_runner {
            for (state, number) in [("idle", 0), ("running", runner.running)] {
                let stage = if state == "idle" { "idle" } else { "" };
                let [runner, name, system] = labels.all();
                let what = [
                    ("state", state),
                    ("stage", stage),
                    ("executor_stage", stage),
                ];
                let [state, stage, executor] = what;
                jobs.sample(
                    &[runner, name, system, state, stage, executor],
                    number as f64,
                );
            }
        }
        let mut total = page.family(
            "gitlab_runner_jobs_total",
            Kind::Counter,
            "Jobs that were handled.",
        );
        for (labels, runner) in &self.by_runner {
            total.sample(&labels.all(), runner.jobs as f64);
        }
        let mut failed = page.family(
            "gitlab_runner_failed_jobs_total",
            Kind::Counter,
            "Jobs that failed, by reason.",
        );
        for (labels, runner) in &self.by_runner {
            let [id, name, _] = labels.all();
            for (reason, number) in &runner.failed {
                let labels = [
                    id,
                    name,
                    ("failure_reason", reason),
                    ("mode", "traditional"),
                ];
                failed.sample(&labels, *number as f64);
            }
        }
        let mut durations = page.family(
            "gitlab_runner_job_duration_seconds",
            Kind::Histogram,
            "How long jobs took.",
        );
        for (labels, runner) in &self.by_runner {
            let [id, name, system] = labels.all();
            durations.histogram(
                &[id, name, system, ("mode", "traditional")],
                &runner.durations,
            );
        }
        let mut queued = page.family(
            "gitlab_runner_job_queue_duration_seconds",
            Kind::Histogram,
            "How long jobs had waited for a runner.",
        );
        for (labels, runner) in &self.by_runner {
            let [id, name, system] = labels.all();
            for (running, histogram) in &runner.queued {
                queued.histogram(
                    &[id, name, system, ("project_jobs_running", running)],
                    histogram,
                );
            }
        }
        let mut answers = page.family(
            "gitlab_runner_api_request_statuses_total",
            Kind::Counter,
            "Answers of the server by endpoint, status and method.",
        );
        for (labels, runner) in &self.by_runner {
            let [id, _, system] = labels.all();
            for ((endpoint, status, method), number) in &runner.answers {
                let status = status.to_string();
                let what = [
                    id,
                    system,
                    ("endpoint", *endpoint),
                    ("status", status.as_str()),
                    ("method", *method),
                ];
                answers.sample(&what, *number as f64);
            }
        }
    }
}

impl RunnerLabels {
    fn all(&self) -> [(&str, &str); 3] {
        [
            ("runner", &self.runner),
            ("runner_name", &self.name),
            ("system_id", &self.system_id),
        ]
    }
}

impl Default for RunnerCounts {
    fn default() -> Self {
        Self {
            limit: None,
            running: 0,
            jobs: 0,
            failed: BTreeMap::new(),
            durations: Histogram::new(JOB_SECONDS),
            queued: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }
}

impl RunnerMetrics {
    /// A job begins. `queued`: how long it waited; `project_jobs`: how many of its project run, as the server says.
    pub(crate) fn job(&self, executor: &str, queued: f64, project_jobs: &str) -> RunningJob {
        let mut counts = self.metrics.counts();
        *counts.modes.entry(executor.to_owned()).or_default() += 1;
        self.count_in(&mut counts, |runner| {
            runner.running += 1;
            runner.jobs += 1;
            let is_known = runner.queued.contains_key(project_jobs);
            if is_known || (runner.queued.len() < QUEUES && project_jobs.len() <= QUEUE_NAME) {
                runner
                    .queued
                    .entry(project_jobs.to_owned())
                    .or_insert_with(|| Histogram::new(QUEUE_SECONDS))
                    .observe(queued);
            }
        });
        RunningJob {
            metrics: self.clone(),
        }
    }

    /// The server answered.
    pub(crate) fn answered(&self, endpoint: &'static str, status: u16, method: &'static str) {
        self.count(|runner| {
            *runner
                .answers
                .entry((endpoint, status, method))
                .or_default() += 1;
        });
    }

    fn count(&self, count: impl FnOnce(&mut RunnerCounts)) {
        self.count_in(&mut self.metrics.counts(), count);
    }

    fn count_in(&self, counts: &mut Counts, count: impl FnOnce(&mut RunnerCounts)) {
        // A runner that was removed is not counted on, except for the jobs that it still has.
        count(counts.by_runner.entry(self.labels.clone()).or_default());
    }
}

impl RunningJob {
    /// It has ended; `failure` is GitLab's word for why it failed.
    pub(crate) fn ended(self, seconds: f64, failure: Option<&str>) {
        self.metrics.count(|runner| {
            runner.durations.observe(seconds);
            if let Some(reason) = failure {
                *runner.failed.entry(reason.to_owned()).or_default() += 1;
            }
        });
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.metrics
            .count(|runner| runner.running = runner.running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> RunnerLabels {
        RunnerLabels {
            runner: "abc".to_owned(),
            name: "my \"runner\"".to_owned(),
            system_id: "s_1".to_owned(),
        }
    }

    fn page(metrics: &Metrics) -> String {
        let mut page = Exposition::default();
        metrics.write(&mut page);
        page.finish()
    }

    #[test]
    fn jobs_are_counted_while_they_run_and_afterwards() {
        let metrics = Metrics::default();
        metrics.configured(4, vec![(labels(), 2)]);
        let runner = metrics.of_runner(labels());
        let id = "runner=\"abc\",runner_name=\"my \\\"runner\\\"\"";
        let job = runner.job("shell", 2.0, "0");
        let text = page(&metrics);
        for line in [
            "gitlab_runner_concurrent 4".to_owned(),
            format!("gitlab_runner_limit{{{id},system_id=\"s_1\"}} 2"),
            format!(
                "gitlab_runner_jobs{{{id},system_id=\"s_1\",state=\"idle\",stage=\"idle\",executor_stage=\"idle\"}} 0"
            ),
            format!(
                "gitlab_runner_jobs{{{id},system_id=\"s_1\",state=\"running\",stage=\"\",executor_stage=\"\"}} 1"
            ),
            format!("gitlab_runner_jobs_total{{{id},system_id=\"s_1\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        job.ended(31.0, Some("script_failure"));
        runner.answered("request_job", 201, "post");
        let text = page(&metrics);
        for line in [
            format!("gitlab_runner_jobs{{{id},system_id=\"s_1\",state=\"running\",stage=\"\",executor_stage=\"\"}} 0"),
            format!("gitlab_runner_failed_jobs_total{{{id},failure_reason=\"script_failure\",mode=\"traditional\"}} 1"),
            format!("gitlab_runner_job_duration_seconds_bucket{{{id},system_id=\"s_1\",mode=\"traditional\",le=\"60\"}} 1"),
            "gitlab_runner_api_request_statuses_total{runner=\"abc\",system_id=\"s_1\",endpoint=\"request_job\",status=\"201\",method=\"post\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn removed_runners_are_forgotten_and_texts_of_servers_are_bounded() {
        let metrics = Metrics::default();
        metrics.configured(1, vec![(labels(), 0)]);
        let runner = metrics.of_runner(labels());
        for index in 0..1000 {
            runner
                .job("shell", 0.0, &index.to_string())
                .ended(0.0, None);
        }
        assert_eq!(
            page(&metrics)
                .matches("_queue_duration_seconds_count")
                .count(),
            QUEUES
        );
        metrics.configured(1, Vec::new());
        assert!(!page(&metrics).contains("abc"));
    }
}
