//! The Docker Engine of the tests, by Docker's own client.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use courser_testkit::servers::DockerEngine;

/// What jobs run in: Debian with Git and certificates, 195 MB.
pub(super) const IMAGE: &str = "courser.test/debian:12";

/// The same with so many layers of random bytes over it, 1 GB together.
const LARGE_IMAGE: &str = "courser.bench/large:1";
const LAYERS: usize = 8;
const LAYER_MEBIBYTES: usize = 100;

pub(super) struct Engine {
    host: String,
    gateway: IpAddr,
}

impl Engine {
    /// The one of that file, or of the tests.
    pub(super) fn described_in(file: Option<&Path>) -> Result<Self> {
        let engine = match file {
            Some(file) => DockerEngine::described(file)
                .with_context(|| format!("{}: describes no Engine", file.display()))?,
            None => DockerEngine::running(),
        };
        let DockerEngine { host, gateway, .. } = engine;
        Ok(Self {
            host,
            gateway: gateway.parse().context("the gateway")?,
        })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// This machine, as containers see it.
    pub(super) fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// A project's number that nobody else has here.
    pub(super) fn new_project(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        u64::from(std::process::id()) * 1000 + number
    }

    /// Seconds that `docker run` takes for a script, which comes as a job's does.
    pub(super) fn run(&self, script: &str) -> Result<f64> {
        let begun = Instant::now();
        self.client(&["run", "--rm", IMAGE, "sh", "-c", script])?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// What happened to containers of a project's jobs since then: `create`, `start`, `die`, …
    pub(super) fn events_since(&self, since: &str, project: u64) -> Result<Vec<String>> {
        let label = format!("label=com.gitlab.gitlab-runner.project.id={project}");
        let until = self.now()?;
        let said = self.client(&[
            "events",
            "--since",
            since,
            "--until",
            &until,
            "--filter",
            "type=container",
            "--filter",
            &label,
            "--format",
            "{{.Action}}",
        ])?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Takes away the volumes that jobs of a project leave for the next.
    pub(super) fn remove_volumes(&self, project: u64) -> Result<()> {
        let label = format!("label=com.gitlab.gitlab-runner.project.id={project}");
        let found = self.client(&["volume", "ls", "--quiet", "--filter", &label])?;
        for volume in found.lines() {
            self.client(&["volume", "rm", volume])?;
        }
        Ok(())
    }

    /// The Engine's clock.
    pub(super) fn now(&self) -> Result<String> {
        let said = self.client(&["info", "--format", "{{.SystemTime}}"])?;
        Ok(said.trim().to_owned())
    }

    /// The image of 1 GB, made where it is missing.
    pub(super) fn large_image(&self) -> Result<&'static str> {
        let known = self.client(&["images", "--quiet", LARGE_IMAGE])?;
        if known.is_empty() {
            let mut base = IMAGE;
            for layer in 0..LAYERS {
                let name = format!("courser-bench-{}-{layer}", std::process::id());
                let write = format!("head -c {LAYER_MEBIBYTES}M /dev/urandom > /srv/layer-{layer}");
                self.client(&["run", "--name", &name, base, "sh", "-c", &write])?;
                let made = self.client(&["commit", &name, LARGE_IMAGE]);
                self.client(&["rm", &name])?;
                made?;
                base = LARGE_IMAGE;
            }
        }
        Ok(LARGE_IMAGE)
    }

    fn client(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("docker")
            .args(["--host", &self.host])
            .args(arguments)
            .env_remove("DOCKER_API_VERSION")
            .stdin(Stdio::null())
            .output()
            .context("docker")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
