//! One scenario with containers: a world, a strict GitLab that they reach too, a runner, and nothing left afterwards.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicI64, Ordering};

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers::DockerEngine;
use serde_json::{Value, json};

use crate::wire::gitlab::{GitLab, Record, payload};
use crate::wire::sources::git_over_http;
use crate::world::{Running, World};

/// Images of the tests (`tests/servers/docker/images`).
pub(super) const DEBIAN: &str = "courser.test/debian:12";
pub(super) const BUSYBOX: &str = "courser.test/busybox:1";
pub(super) const ALPINE: &str = "courser.test/alpine:3";
pub(super) const STATIC: &str = "courser.test/static:1";
pub(super) const DIND: &str = "courser.test/dind:1";
pub(super) const SYSTEMD: &str = "courser.test/systemd:12";

/// Tells the scenes of this process from each other; each has two projects.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// Where a scenario takes place. When it is dropped, nothing of its jobs may be left in the engine.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) gitlab: GitLab,
    pub(super) engine: DockerEngine,
    /// The private CA of its GitLab, which the runner trusts.
    pub(super) root: Issued,
    /// The project of its jobs, which no other test has in this Engine that all share; the next number is its other one.
    pub(super) project: i64,
    /// Lines of the runner's table, and of `[runners.docker]`.
    runner: String,
    docker: String,
    /// Jobs at once.
    at_once: usize,
    running: Option<Running>,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::on(DockerEngine::running())
    }

    /// A scene with another Engine.
    pub(super) fn on(engine: DockerEngine) -> Self {
        let world = World::new();
        let root = Authority::root("Private Root").issue();
        let leaf = root.server(&[&engine.gateway]).issue();
        let file = world.write("home/ca.pem", root.certificate_pem());
        let address = engine.gateway.parse().expect("an address");
        let gitlab = GitLab::https_at(address, &leaf).patient();
        std::fs::create_dir(world.path("tmp")).expect("a directory of the world");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            runner: format!("  tls-ca-file = \"{}\"\n", file.display()),
            // The next job is asked for when the one before is over, and gets its place.
            at_once: 1,
            docker: format!(
                "  host = {:?}\n  image = {DEBIAN:?}\n  pull_policy = \"if-not-present\"\n",
                engine.host
            ),
            project: i64::from(std::process::id()) * 1000 + 2 * number,
            world,
            gitlab,
            engine,
            root,
            running: None,
        }
    }

    /// A scene with these keys in `[runners.docker]`.
    pub(super) fn with(docker: &str) -> Self {
        let mut scene = Self::new();
        scene.docker(docker);
        scene
    }

    /// Has the runner work on so many jobs at once.
    pub(super) fn at_once(&mut self, jobs: usize) {
        self.at_once = jobs;
    }

    /// More lines for the runner's table.
    pub(super) fn configure(&mut self, lines: &str) {
        self.runner.push_str(lines);
    }

    /// More lines for `[runners.docker]`; a key that is there already gets the new value.
    pub(super) fn docker(&mut self, lines: &str) {
        make_room(&mut self.docker, lines);
        for line in lines.lines() {
            self.docker.push_str("  ");
            self.docker.push_str(line.trim());
            self.docker.push('\n');
        }
    }

    /// A job without sources.
    pub(super) fn job(&self, id: i64, script: &[&str]) -> Value {
        let mut job = payload(id, script);
        job["job_info"]["project_id"] = json!(self.project);
        job["features"]["failure_reasons"] = json!(FAILURE_REASONS);
        job
    }

    /// A job in that image: its name, or all that `image:` has.
    pub(super) fn job_in(&self, id: i64, image: impl Into<Value>, script: &[&str]) -> Value {
        let mut job = self.job(id, script);
        job["image"] = match image.into() {
            Value::String(name) => json!({"name": name}),
            image => image,
        };
        job
    }

    /// The same job of this scene's other project.
    pub(super) fn elsewhere(&self, mut job: Value) -> Value {
        job["job_info"]["project_id"] = json!(self.project + 1);
        job
    }

    /// Serves a repository with these files; gives its commit.
    pub(super) fn repository(&self, files: &[(&str, &str)]) -> String {
        self.world.repository("origin/g/p.git", files);
        self.gitlab
            .elsewhere(git_over_http(self.world.path("origin"), |token| {
                token.starts_with("job-token-")
            }));
        let head = self.world.git("origin/g/p.git", &["rev-parse", "HEAD"]);
        head.trim().to_owned()
    }

    /// Gives a job the sources of that repository.
    pub(super) fn with_sources(&self, mut job: Value, sha: &str) -> Value {
        let token = job["token"].as_str().expect("a token");
        let login = format!("://gitlab-ci-token:{token}@");
        let url = format!("{}/g/p.git", self.gitlab.url());
        job["git_info"]["repo_url"] = json!(url.replacen("://", &login, 1));
        job["git_info"]["sha"] = json!(sha);
        let variables = job["variables"].as_array_mut().expect("a list");
        variables.retain(|variable| variable["key"] != "GIT_STRATEGY");
        job
    }

    /// Runs a job to its end, with the runner that is there or a new one.
    pub(super) fn run(&mut self, job: &Value) -> Record {
        self.gitlab.queue(job);
        self.runner();
        self.gitlab.finished(job["id"].as_i64().expect("an id"))
    }

    /// Runs a job that succeeds.
    #[track_caller]
    pub(super) fn passes(&mut self, job: &Value) -> Record {
        let done = self.run(job);
        assert_eq!(done.outcome(), success(), "{}", done.text());
        done
    }

    /// Runs a job that fails by the runner's configuration, and at once.
    #[track_caller]
    pub(super) fn refused(&mut self, job: &Value) -> Record {
        let done = self.run(job);
        let text = done.text();
        assert_eq!(done.outcome().1, "runner_configuration_error", "{text}");
        assert!(!text.contains("Will be retried"), "{text}");
        done
    }

    /// The runner, started when there is none.
    pub(super) fn runner(&mut self) -> &mut Running {
        if self.running.is_none() {
            let more = format!(
                "  executor = \"docker\"\n  limit = {}\n{}  [runners.docker]\n{}",
                self.at_once, self.runner, self.docker
            );
            let mut command = self.gitlab.runner_command(&self.world, &more);
            let concurrent = self.at_once.max(2);
            let config = self.world.read("home/config.toml");
            let config = config.replace("concurrent = 2", &format!("concurrent = {concurrent}"));
            self.world.write("home/config.toml", config);
            command.env("TMPDIR", self.world.path("tmp"));
            self.running = Some(Running::start(&mut command));
        }
        self.running.as_mut().expect("it is there")
    }

    /// Starts a job and waits until it has printed that; gives the container of its scripts.
    pub(super) fn begin(&mut self, job: &Value, text: &str) -> String {
        let id = job["id"].as_i64().expect("an id");
        self.gitlab.queue(job);
        self.runner();
        let printed = |job: &Record| String::from_utf8_lossy(&job.log).contains(text);
        let job = self
            .gitlab
            .wait(id, |job| job.end.is_some() || printed(job));
        assert!(printed(&job), "{text:?} is missing in\n{}", job.text());
        let mut containers = self.left().into_iter();
        let build = containers.find(|name| name.ends_with("-build"));
        build.expect("the script runs in it")
    }

    /// What the Engine knows of one of this scene's containers.
    pub(super) fn inspect(&self, container: &str) -> Value {
        let answer = self.client(&["inspect", container]);
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer[0].take()
    }

    /// An image of a test's own, made from another one with these instructions of a Dockerfile.
    pub(super) fn image(&self, of: &str, instructions: &[&str]) -> OwnImage {
        let own = self.own_image();
        let container = self.client(&["create", of, "sh"]);
        let changes = instructions.iter().flat_map(|change| ["--change", change]);
        let ends = [container.trim(), &own.name];
        let arguments: Vec<&str> = ["commit"].into_iter().chain(changes).chain(ends).collect();
        self.client(&arguments);
        self.client(&["rm", container.trim()]);
        own
    }

    /// An image of a test's own, built of a directory of the world with a Dockerfile.
    pub(super) fn built(&self, directory: &str) -> OwnImage {
        let own = self.own_image();
        let directory = self.world.path(directory);
        let directory = directory.to_str().expect("a path in UTF-8");
        self.client(&["build", "--quiet", "--tag", &own.name, directory]);
        own
    }

    fn own_image(&self) -> OwnImage {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        OwnImage {
            engine: self.engine.clone(),
            name: format!("courser.test/own-{}-{number}:1", std::process::id()),
        }
    }

    /// Ends the runner as soon as its jobs are over.
    pub(super) fn end_runner(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.signal("QUIT");
            running.end();
            self.gitlab.runner_is_gone();
        }
    }

    /// Kills the runner.
    pub(super) fn kill_runner(&mut self) {
        let mut running = self.running.take().expect("a runner");
        running.signal("KILL");
        running.end();
        self.gitlab.runner_is_gone();
    }

    /// What the engine's own client says.
    pub(super) fn client(&self, arguments: &[&str]) -> String {
        client(&self.engine, arguments)
    }

    /// Has it do what may be too late, or too early; gives what it says.
    pub(super) fn tried(&self, arguments: &[&str]) -> String {
        let output = called(&self.engine, arguments);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Names of things of this scene's jobs: containers, networks, volumes that go with a job.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = self.of_jobs(&["ps", "--all", "--format", "{{.Names}}"]);
        left.extend(self.of_jobs(&["network", "ls", "--format", "{{.Name}}"]));
        let volumes = self.of_jobs(&["volume", "ls", "--quiet"]);
        left.extend(volumes.into_iter().filter(|name| !is_kept(name)));
        left
    }

    /// Names of volumes that are kept for the jobs to come.
    pub(super) fn kept(&self) -> Vec<String> {
        let mut volumes = self.of_jobs(&["volume", "ls", "--quiet"]);
        volumes.retain(|name| is_kept(name));
        volumes
    }

    fn of_jobs(&self, list: &[&str]) -> Vec<String> {
        let mut names = String::new();
        for project in [self.project, self.project + 1] {
            let filter = format!("label=com.gitlab.gitlab-runner.project.id={project}");
            names += &self.client(&[list, &["--filter", &filter]].concat());
        }
        names.lines().map(str::to_owned).collect()
    }
}

/// Those that go with a job are called after its containers.
fn is_kept(volume: &str) -> bool {
    !volume.contains("-concurrent-")
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end_runner();
            let left = self.left();
            for volume in self.kept() {
                self.client(&["volume", "rm", "--force", &volume]);
            }
            assert_eq!(left, Vec::<String>::new(), "left in the engine");
        }
    }
}

/// Takes out of a table what other lines say anew.
fn make_room(table: &mut String, lines: &str) {
    for (key, _) in lines.lines().filter_map(|line| line.split_once(" = ")) {
        let key = format!("  {} = ", key.trim());
        let kept = table.lines().filter(|line| !line.starts_with(&key));
        *table = kept.map(|line| format!("{line}\n")).collect();
    }
}

/// An image that goes with its test.
pub(super) struct OwnImage {
    engine: DockerEngine,
    pub(super) name: String,
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            client(&self.engine, &["rmi", "--force", &self.name]);
        }
    }
}

/// What a GitLab of today lists.
const FAILURE_REASONS: [&str; 8] = [
    "unknown_failure",
    "script_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "image_pull_failure",
    "job_canceled",
];

/// Debian's client: another one on the path may be newer than the Engine.
fn called(engine: &DockerEngine, arguments: &[&str]) -> Output {
    Command::new("/usr/bin/docker")
        .args(["--host", &engine.host])
        .args(arguments)
        .output()
        .expect("Debian's docker.io is installed")
}

fn client(engine: &DockerEngine, arguments: &[&str]) -> String {
    let output = called(engine, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts that a job's log has these texts, in that order.
pub(super) fn says(job: &Record, texts: &[&str]) {
    let log = job.text();
    let mut rest = log.as_str();
    for text in texts {
        let at = rest.find(text);
        let at = at.unwrap_or_else(|| panic!("{text:?} is not (in that order) in\n{log}"));
        rest = &rest[at + text.len()..];
    }
}

/// How a job ended well.
pub(super) fn success() -> (String, String, i64) {
    ("success".to_owned(), String::new(), 0)
}

/// How one ended by its script.
pub(super) fn failed_by_script(code: i64) -> (String, String, i64) {
    ("failed".to_owned(), "script_failure".to_owned(), code)
}
