//! A lean GitLab over HTTPS: hands out equal jobs, accepts logs and states, counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use courser_testkit::git_http;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};
use crc32fast::Hasher;
use serde_json::{Value, json};

use crate::world::World;

/// Longest a benchmark waits for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// The token of its runner.
pub(crate) const TOKEN: &str = "glrt-t1_courserbench";

/// It serves until dropped.
pub(crate) struct GitLab {
    root: Issued,
    server: FakeServer,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// The job of that number, the first is 1, from a GitLab of this host and port.
pub(crate) type Payload = dyn Fn(usize, &str) -> Value + Send + Sync;

/// What it has for runners.
pub(crate) struct Offer {
    /// Where it listens.
    pub(crate) address: IpAddr,
    /// Its jobs.
    pub(crate) payload: Box<Payload>,
    /// Below this lie repositories for them.
    pub(crate) repositories: Option<PathBuf>,
}

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Answered requests for a job.
    pub(crate) asked: usize,
    /// All answered requests.
    pub(crate) requests: usize,
    /// Jobs that the runner says it runs.
    pub(crate) started: usize,
    /// Jobs that ended well.
    pub(crate) succeeded: usize,
    /// Jobs that ended otherwise.
    pub(crate) failed: usize,
    /// Bytes and CRC-32 of the logs that came in.
    pub(crate) log: (u64, u32),
    /// `output` of the last update.
    pub(crate) told: (u64, u32),
    /// When the first job was handed out.
    pub(crate) first: Option<Instant>,
    /// When the last final state came in.
    pub(crate) last: Option<Instant>,
    /// Jobs that there are.
    offered: usize,
    /// When each job was handed out.
    handed_out: Vec<Instant>,
    /// From then to its final state, in seconds, by the job's number.
    pub(crate) durations: BTreeMap<usize, f64>,
}

impl GitLab {
    /// One with `jobs` jobs that run the line `script`.
    pub(crate) fn with_jobs(jobs: usize, script: &str) -> Self {
        Self::with_masked(jobs, script, &[])
    }

    /// The same; the jobs have these values to mask.
    pub(crate) fn with_masked(jobs: usize, script: &str, masked: &[String]) -> Self {
        let (script, masked) = (script.to_owned(), masked.to_vec());
        let gitlab = Self::offering(Offer {
            address: Ipv4Addr::LOCALHOST.into(),
            payload: Box::new(move |id, _| payload(id, &script, &masked)),
            repositories: None,
        });
        gitlab.offer(jobs);
        gitlab
    }

    /// One that has this for runners, and no job yet.
    pub(crate) fn offering(offer: Offer) -> Self {
        let root = Authority::root("Bench Root").issue();
        let middle = root.intermediate("Bench Intermediate").issue();
        let address = offer.address;
        let names = ["localhost", "127.0.0.1", &address.to_string()];
        let leaf = middle.server(&names).issue();
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let server = FakeServer::https_unrecorded_at(address, &leaf, move |request| {
            if let Some(repositories) = &offer.repositories
                && request.path.contains(".git/")
            {
                return git_http::serve(repositories, request);
            }
            let reply = state.locked().answer(request, &offer);
            state.changed.notify_all();
            reply
        });
        Self {
            root,
            server,
            shared,
        }
    }

    /// From now on it has so many jobs, those that were handed out among them.
    pub(crate) fn offer(&self, jobs: usize) {
        self.shared.locked().offered = jobs;
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        let address = self.server.address().ip().to_string();
        self.server.url_by_name(&address, "")
    }

    /// Writes `home/config.toml` of a shell runner for this GitLab, and `home/ca.pem`.
    pub(crate) fn configure(&self, world: &World, concurrent: usize) -> Result<String> {
        self.configure_with(world, concurrent, "executor = \"shell\"")
    }

    /// The same of a runner with these keys.
    pub(crate) fn configure_with(
        &self,
        world: &World,
        concurrent: usize,
        keys: &str,
    ) -> Result<String> {
        let ca = world.write("home/ca.pem", self.root.certificate_pem())?;
        let url = self.url();
        let path = world.write(
            "home/config.toml",
            format!(
                "concurrent = {concurrent}\n\n[[runners]]\nname = \"bench\"\nurl = \"{url}\"\n\
                 token = \"{TOKEN}\"\ntls-ca-file = \"{}\"\n{keys}\n",
                ca.display()
            ),
        )?;
        Ok(path.display().to_string())
    }

    /// Waits until something holds.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Progress) -> bool,
    ) -> Result<Progress> {
        let waited =
            self.shared
                .changed
                .wait_timeout_while(self.shared.locked(), PATIENCE, |progress| {
                    !holds(progress) && progress.failed == 0
                });
        let (progress, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() || progress.failed > 0 {
            bail!("{what} did not happen: {progress:?}");
        }
        Ok(progress.clone())
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn answer(&mut self, request: &Request, offer: &Offer) -> Reply {
        self.requests += 1;
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/api/v4/runners/verify") => Reply::json(
                200,
                &json!({ "id": 1, "token": TOKEN, "token_expires_at": null }),
            ),
            ("POST", "/api/v4/jobs/request") => {
                self.asked += 1;
                if self.handed_out.len() == self.offered {
                    return Reply::status(204).header("X-GitLab-Last-Update", "1");
                }
                let now = Instant::now();
                self.first.get_or_insert(now);
                self.handed_out.push(now);
                Reply::json(
                    201,
                    &(offer.payload)(self.handed_out.len(), request.header("host")),
                )
            }
            ("PATCH", _) => {
                let mut sum = Hasher::new_with_initial_len(self.log.1, self.log.0);
                sum.update(&request.body);
                self.log = (self.log.0 + request.body.len() as u64, sum.finalize());
                let end = request.header("content-range").rsplit_once('-');
                let end = end.map_or("0", |(_, end)| end);
                Reply::text(202, "202 Accepted")
                    .header("Job-Status", "running")
                    .header("Range", &format!("0-{end}"))
            }
            ("PUT", path) => {
                match request.json()["state"].as_str() {
                    Some("running") => self.started += 1,
                    Some("success") => {
                        self.succeeded += 1;
                        let id = path.rsplit('/').next().and_then(|id| id.parse().ok());
                        let id = id.unwrap_or(1);
                        let begun = self.handed_out.get(id - 1);
                        let took = begun.map(|begun| (id, begun.elapsed().as_secs_f64()));
                        self.durations.extend(took);
                    }
                    _ => self.failed += 1,
                }
                let update = request.json();
                let sum = update["checksum"].as_str().unwrap_or_default();
                let sum = u32::from_str_radix(sum.trim_start_matches("crc32:"), 16);
                let size = update["output"]["bytesize"].as_u64();
                self.told = (size.unwrap_or(0), sum.unwrap_or(0));
                self.last = Some(Instant::now());
                Reply::text(200, "true")
            }
            _ => Reply::status(404),
        }
    }
}

/// A job as GitLab sends it, with as many variables as a project without any of its own has.
pub(crate) fn payload(id: usize, script: &str, masked: &[String]) -> Value {
    let predefined = (0..80).map(|number| {
        variable(
            &format!("CI_PREDEFINED_{number}"),
            "https://gitlab.example.com/group/project",
        )
    });
    let variables: Vec<_> = [
        variable("CI", "true"),
        variable("CI_JOB_ID", &id.to_string()),
        variable("GIT_STRATEGY", "none"),
    ]
    .into_iter()
    .chain(predefined)
    .chain(masked.iter().enumerate().map(|(number, value)| {
        let mut variable = variable(&format!("SECRET_{number}"), value);
        variable["masked"] = json!(true);
        variable
    }))
    .collect();
    json!({
        "id": id, "token": format!("job-token-{id}"), "allow_git_fetch": true,
        "job_info": { "name": "trivial", "stage": "test", "project_id": 1, "project_name": "project" },
        "git_info": {
            "repo_url": "https://gitlab-ci-token@gitlab.example.com/group/project.git", "ref": "main",
            "sha": "0123456789abcdef0123456789abcdef01234567",
            "before_sha": "0000000000000000000000000000000000000000",
            "ref_type": "branch", "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": 20
        },
        "runner_info": { "timeout": 3600 },
        "variables": variables,
        "steps": [{
            "name": "script", "script": [script], "timeout": 3600, "when": "on_success",
            "allow_failure": false
        }],
        "image": null, "services": [], "artifacts": [], "cache": [], "credentials": [],
        "dependencies": [],
        "features": {
            "trace_sections": true, "token_mask_prefixes": ["glpat-"],
            "failure_reasons": ["script_failure", "runner_system_failure", "unknown_failure"]
        }
    })
}

pub(crate) fn variable(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value, "public": true, "file": false, "masked": false, "raw": true })
}
