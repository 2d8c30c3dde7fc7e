//! The pages of `listen_address`: metrics for Prometheus, and two words about the process (`runner-cli.md` 10).

mod process;

use courser_net::{Page, trust_report};
use courser_runner::metrics::{CONTENT_TYPE, Exposition, Kind, Metrics, write_trust};
use courser_runner::{Phase, Shutdown};

use crate::logging::Log;
use crate::version;

/// Where metrics are served unless the address says otherwise.
pub(crate) const DEFAULT_PORT: u16 = 9252;

/// What the pages tell of.
pub(crate) struct Pages {
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
    pub(crate) shutdown: Shutdown,
}

impl Pages {
    /// The page of a path.
    pub(crate) fn page(&self, path: &str) -> Option<Page> {
        let plain = |text: String| Page {
            content_type: "text/plain; charset=utf-8",
            text,
        };
        match path {
            "/metrics" => Some(Page {
                content_type: CONTENT_TYPE,
                text: self.metrics(),
            }),
            "/debug/process/state" => Some(plain(format!("{}\n", self.state()))),
            // There is no start-up job here that would have to pass first.
            "/health/ready" => Some(plain("ready\n".to_owned())),
            _ => None,
        }
    }

    fn metrics(&self) -> String {
        let mut page = Exposition::default();
        self.metrics.write(&mut page);
        let mut errors = page.family(
            "gitlab_runner_errors_total",
            Kind::Counter,
            "The number of caught errors.",
        );
        for (level, count) in self.log.counts() {
            errors.sample(&[("level", level)], count as f64);
        }
        page.family(
            "gitlab_runner_process_state_info",
            Kind::Gauge,
            "What the process is doing.",
        )
        .sample(&[("state", self.state())], 1.0);
        let revision = version::revision();
        page.family(
            "gitlab_runner_version_info",
            Kind::Gauge,
            "A metric with a constant '1' value labeled by different build stats fields.",
        )
        .sample(
            &[
                ("name", "gitlab-runner"),
                ("version", version::RUNNER_VERSION),
                ("revision", revision),
                ("branch", "courser"),
                ("go_version", ""),
                ("built_at", ""),
                ("os", version::platform()),
                ("architecture", version::architecture()),
            ],
            1.0,
        );
        let now = jiff::Timestamp::now();
        write_trust(&mut page, &trust_report(now), now.as_second());
        process::write(&mut page);
        page.finish()
    }

    fn state(&self) -> &'static str {
        match self.shutdown.phase() {
            Phase::Running => "running",
            Phase::Graceful => "graceful-shutdown",
            Phase::Forceful(_) => "forceful-shutdown",
        }
    }
}
