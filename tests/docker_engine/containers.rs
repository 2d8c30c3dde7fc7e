//! Which containers a job gets: image, user, entrypoint, services, networks, volumes, limits; and what is refused.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use courser_testkit::servers::DockerEngine;
use serde_json::{Value, json};

use crate::wire::gitlab::{GitLab, Record, TOKEN, payload, variable};
use crate::world::{Running, World, run};

pub(super) const BOX: &str = "courser.test/busybox:1";
const DEBIAN: &str = "courser.test/debian:12";

/// A runner with these keys in `[runners.docker]`. Dropped, it has left nothing but volumes that are kept.
pub(super) struct Runner {
    gitlab: GitLab,
    pub(super) engine: DockerEngine,
    _world: World,
    /// Projects of its jobs: this one and the next. No other test has them, in this engine that all share.
    project: u32,
    running: Option<Running>,
}

static RUNNERS: AtomicU32 = AtomicU32::new(0);

impl Runner {
    pub(super) fn new(keys: &str) -> Self {
        let (engine, world) = (DockerEngine::running(), World::new());
        let gitlab = GitLab::http().patient();
        let config = format!(
            "concurrent = 1\ncheck_interval = 1\n[[runners]]\nname = \"wire\"\nurl = {:?}\ntoken = {TOKEN:?}\n\
             executor = \"docker\"\n[runners.docker]\nhost = {:?}\npull_policy = \"never\"\n\
             helper_image = {DEBIAN:?}\n{keys}\n",
            gitlab.url(),
            engine.host,
        );
        let config = world.write("home/config.toml", config);
        let mut command = world.courser(["run", "--config"]);
        let running = Running::start(
            command
                .arg(config)
                .arg("--working-directory")
                .arg(world.path("work")),
        );
        Self {
            _world: world,
            gitlab,
            engine,
            project: std::process::id() * 100 + 2 * RUNNERS.fetch_add(1, Ordering::Relaxed),
            running: Some(running),
        }
    }

    /// Runs a job of the first project, or of the second where it says 1.
    pub(super) fn run(&self, job: &Value) -> Record {
        let mut job = job.clone();
        let second = job["job_info"]["project_id"] == 1;
        job["job_info"]["project_id"] = json!(self.project + u32::from(second));
        self.gitlab.queue(&job);
        self.gitlab.finished(job["id"].as_i64().expect("an id"))
    }

    /// The job succeeds; gives its log.
    pub(super) fn log(&self, job: &Value) -> String {
        let done = self.run(job);
        let text = done.text();
        assert_eq!(done.outcome().0, "success", "{text}");
        text
    }

    /// The job fails by the runner's configuration; gives its log.
    pub(super) fn refused(&self, job: &Value) -> String {
        let done = self.run(job);
        let text = done.text();
        let (state, reason, _) = done.outcome();
        assert_eq!(
            (state.as_str(), reason.as_str()),
            ("failed", "runner_configuration_error"),
            "{text}"
        );
        assert!(!text.contains("Will be retried"), "{text}");
        text
    }

    pub(super) fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        let finished = run(command
            .env("DOCKER_HOST", &self.engine.host)
            .env_remove("DOCKER_API_VERSION")
            .args(arguments));
        assert!(
            finished.status.success(),
            "docker {arguments:?}: {}",
            finished.all()
        );
        finished.stdout
    }

    /// What this runner has in the engine: `container`, `network` or `volume`.
    fn left(&self, kind: &str) -> Vec<String> {
        let of_project = |project: u32| {
            let label = format!("label=com.gitlab.gitlab-runner.project.id={project}");
            let all: &[&str] = if kind == "container" { &["--all"] } else { &[] };
            self.docker(&[&[kind, "ls", "--quiet", "--filter", &label], all].concat())
        };
        let list = of_project(self.project) + &of_project(self.project + 1);
        list.lines().map(str::to_owned).collect()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.signal("QUIT");
            running.end();
        }
        if std::thread::panicking() {
            return;
        }
        self.gitlab.runner_is_gone();
        for volume in self.left("volume") {
            self.docker(&["volume", "rm", "--force", &volume]);
        }
        assert_eq!(self.left("container"), [""; 0]);
        assert_eq!(self.left("network"), [""; 0]);
    }
}

pub(super) fn job(id: i64, image: Value, script: &[&str]) -> Value {
    let mut job = payload(id, script);
    job["image"] = image;
    job["features"]["failure_reasons"] =
        json!(["runner_configuration_error", "runner_system_failure"]);
    job
}

#[track_caller]
pub(super) fn shows(log: &str, lines: &[&str]) {
    for line in lines {
        assert!(log.contains(line), "{line:?} is missing in\n{log}");
    }
}

#[test]
fn image_user_entrypoint_and_environment_are_the_job_s() {
    let runner = Runner::new("hostname = \"here\"\nimage = \"courser.test/$DEFAULT\"");
    let look = [
        "echo \"uid $(id -u) on $(hostname)\"",
        "echo \"in $PWD\"",
        "touch made && ls | tr a-z A-Z",
    ];

    let log = runner.log(&job(1, json!({"name": BOX}), &look));
    shows(
        &log,
        &[
            "Using Docker executor with image courser.test/busybox:1 ...",
            "uid 0 on here",
            "in /builds/g/p",
            "MADE",
        ],
    );

    let user = json!({"name": DEBIAN, "executor_opts": {"docker": {"user": 1234}}});
    shows(
        &runner.log(&job(2, user, &look)),
        &["uid 1234 on here", "MADE"],
    );

    let default = variable(job(3, json!(null), &look), "DEFAULT", "busybox:1");
    shows(
        &runner.log(&default),
        &[
            "Using default image",
            "with image courser.test/busybox:1 ...",
        ],
    );

    let entrypoint =
        json!({"name": BOX, "entrypoint": ["sh", "-c", "echo \"first $0\"; exec \"$0\" \"$@\""]});
    shows(
        &runner.log(&job(4, entrypoint, &look)),
        &["first sh", "uid 0 on here"],
    );

    let file = json!({"key": "FILE", "value": "content", "file": true});
    let mut with_file = job(
        5,
        json!({"name": BOX}),
        &["cat \"$FILE\"", "echo \" of $FILE\""],
    );
    with_file["variables"]
        .as_array_mut()
        .expect("a list")
        .push(file);
    shows(
        &runner.log(&with_file),
        &["content", " of /builds/g/p.tmp/FILE"],
    );
}

#[test]
fn what_the_administrator_does_not_allow_is_refused_once() {
    let runner = Runner::new(
        "allowed_images = [\"courser.test/**\"]\nallowed_services = [\"courser.test/**\"]\nservices_limit = 1\n\
         allowed_users = [\"1000\"]\ndisable_entrypoint_overwrite = true",
    );
    let log = runner.refused(&job(1, json!({"name": "other/image"}), &["true"]));
    shows(
        &log,
        &[
            "ERROR: The \"other/image\" image is not present on list of allowed images:",
            "- courser.test/**",
            "Please check runner's allowed_images configuration",
            "ERROR: Job failed: disallowed image",
        ],
    );
    let with_services = |id: i64, services: Value| {
        let mut job = job(id, json!({"name": BOX}), &["true"]);
        job["services"] = services;
        job
    };
    let log = runner.refused(&with_services(2, json!([{"name": "other/image"}])));
    shows(&log, &["image is not present on list of allowed services:"]);
    let log = runner.refused(&with_services(3, json!([{"name": BOX}, {"name": DEBIAN}])));
    shows(&log, &["too many services requested: 2, only 1 allowed"]);
    let user = json!({"name": BOX, "executor_opts": {"docker": {"user": "root"}}});
    shows(
        &runner.refused(&job(4, user, &["true"])),
        &["user \"root\" is not an allowed user: [1000]"],
    );
    let entrypoint = json!({"name": BOX, "entrypoint": ["/nowhere"]});
    shows(
        &runner.log(&job(5, entrypoint, &["echo ra''n"])),
        &["WARNING: Entrypoint override disabled", "ran"],
    );
}

#[test]
fn a_value_that_cannot_be_used_refuses_jobs_and_not_the_runner() {
    let mut runner = Runner::new("memory = \"much\"");
    let running = runner.running.as_mut().expect("it runs");
    running.wait_for("runners.docker.memory: Error parsing docker memory: invalid size: 'much'");
    for id in 1..3 {
        let log = runner.refused(&job(id, json!({"name": BOX}), &["true"]));
        shows(
            &log,
            &["ERROR: Job failed: Error parsing docker memory: invalid size: 'much'"],
        );
    }
}

#[test]
fn volumes_are_kept_for_the_next_job_of_the_same_place() {
    let runner =
        Runner::new("volumes = [\"/cache\", \"/etc/hostname:/host/name:ro\", \"/scratch/$SUB\"]");
    let look = [
        "cat /cache/a || echo fr''esh",
        "cat kept || echo emp''ty",
        "echo 1 | tee /cache/a kept > /dev/null",
        "grep -c . /host/name",
        "grep -q ' /scratch/s ' /proc/mounts && echo moun''ted",
    ];
    // Without sources the builds directory is not kept; with them it would be.
    let with = |id: i64, project: i64| {
        let mut job = variable(job(id, json!({"name": BOX}), &look), "SUB", "s");
        job["job_info"]["project_id"] = json!(project);
        job
    };
    shows(&runner.log(&with(1, 7)), &["fresh", "empty", "mounted"]);
    let second = runner.log(&with(2, 7));
    assert!(
        !second.contains("fresh") && second.contains("empty"),
        "{second}"
    );
    shows(&runner.log(&with(3, 1)), &["fresh", "empty"]);
    let mut protected = with(4, 7);
    protected["git_info"]["protected"] = json!(true);
    shows(&runner.log(&protected), &["fresh"]);
    // `/cache` and `/scratch/s` of two projects and of protected refs.
    assert_eq!(runner.left("volume").len(), 6);
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let runner = Runner::new("volumes = [\"/cache\"]\ndisable_cache = true");
    let look = ["cat /cache/a || echo fr''esh", "echo 1 > /cache/a"];
    for id in 1..3 {
        shows(
            &runner.log(&job(id, json!({"name": BOX}), &look)),
            &["fresh"],
        );
    }
    assert_eq!(runner.left("volume"), [""; 0]);
}

/// A service that answers with what it sees, after a second.
fn web(alias: &str) -> Value {
    json!({
        "name": BOX, "alias": alias, "entrypoint": ["sh", "-c"],
        "command": ["echo \"serving $OWN\"; echo \"open $OPEN, hidden $HIDDEN, own $OWN\" > /tmp/x; sleep 1; httpd -f -p 8080 -h /tmp"],
        "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}, {"key": "OWN", "value": "<$HIDDEN>"}],
    })
}

fn with_web(id: i64, per_build: &str, script: &[&str]) -> Value {
    let mut job = job(id, json!({"name": BOX}), script);
    job["services"] = json!([web("web site")]);
    let open = json!({"key": "OPEN", "value": "yes", "public": true});
    job["variables"].as_array_mut().expect("a list").push(open);
    variable(
        variable(job, "HIDDEN", "secret"),
        "FF_NETWORK_PER_BUILD",
        per_build,
    )
}

#[test]
fn services_are_waited_for_and_found_by_their_names() {
    let runner = Runner::new("");
    let look = [
        "wget -qO- http://web:8080/x; wget -qO- http://site:8080/x; wget -qO- http://courser.test__busybox:8080/x",
        "echo \"network <$CI_BUILD_NETWORK_NAME>\"",
    ];
    let seen = "open yes, hidden , own <secret>";
    let log = runner.log(&with_web(1, "false", &look));
    shows(
        &log,
        &[
            "Starting service courser.test/busybox:1...",
            "Waiting for services to be up and running (timeout 30 seconds)...",
            "network <>",
        ],
    );
    assert_eq!(log.matches(seen).count(), 3, "{log}");
    assert!(!log.contains("didn't start properly"), "{log}");

    let log = runner.log(&with_web(2, "true", &look));
    assert_eq!(log.matches(seen).count(), 3, "{log}");
    shows(
        &log,
        &[&format!(
            "network <runner-wireabcde-{}-0-2>",
            runner.project
        )],
    );
}

#[test]
fn logs_of_services_are_shown_where_a_job_wants_them_and_masked() {
    let runner = Runner::new("");
    let mut job = variable(with_web(1, "false", &["true"]), "CI_DEBUG_SERVICES", "true");
    let variables = job["variables"].as_array_mut().expect("a list");
    for hidden in variables
        .iter_mut()
        .filter(|variable| variable["key"] == "HIDDEN")
    {
        hidden["masked"] = json!(true);
    }
    let log = runner.log(&job);
    let line = log.lines().find(|line| line.contains("serving"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    let name = "[service:courser.test__busybox-courser.test-busybox-web-site] 20";
    assert!(line.contains("0fO ") && line.contains(name), "{line}");
    assert!(line.contains("serving <[MASKED]>"), "{line}");
    assert!(
        !runner
            .log(&with_web(2, "false", &["true"]))
            .contains("serving")
    );
}

#[test]
fn a_service_that_does_not_answer_is_told_and_does_not_fail_the_job() {
    let runner = Runner::new("wait_for_services_timeout = 2");
    let mut dead = job(1, json!({"name": BOX}), &["echo ra''n"]);
    dead["services"] = json!([
        {"name": BOX, "alias": "dead", "entrypoint": ["sh", "-c"], "command": ["echo last words; exit 3"],
         "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}]},
        {"name": BOX, "alias": "dead late"},
    ]);
    let log = runner.log(&dead);
    shows(
        &log,
        &[
            "(timeout 2 seconds)...",
            "Skipping alias \"dead\" for service \"courser.test/busybox:1\" (services[1]): alias is already in use by another service.",
            "*** WARNING:",
            "probably didn't start properly.",
            "last words",
            "ran",
        ],
    );
}

#[test]
fn limits_and_devices_reach_the_job() {
    let runner = Runner::new(
        "memory = \"64m\"\nulimit = { nofile = \"321\" }\ntmpfs = { \"/scratch\" = \"size=1m\" }\nshm_size = 1048576\n\
         extra_hosts = [\"known:192.0.2.7\"]\ndevices = [\"/dev/null:/dev/nothing\"]\n\
         sysctls = { \"net.ipv4.ip_unprivileged_port_start\" = \"79\" }\ncontainer_labels = { of = \"job $CI_JOB_ID\" }",
    );
    let look = [
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null || true",
        "echo \"files $(ulimit -n)\"",
        "echo \"scratch $(grep ' /scratch ' /proc/mounts | grep -c size=1024k)\"",
        "echo \"shm $(grep ' /dev/shm ' /proc/mounts | grep -c size=1024k)\"",
        "grep known /etc/hosts",
        "test -c /dev/nothing",
        "echo \"ports from $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)\"",
    ];
    let log = runner.log(&job(1, json!({"name": BOX}), &look));
    shows(
        &log,
        &[
            "67108864",
            "files 321",
            "scratch 1",
            "shm 1",
            "192.0.2.7",
            "ports from 79",
        ],
    );
}
