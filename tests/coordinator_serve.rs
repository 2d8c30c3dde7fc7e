//! `courser coordinator serve`, with the ordinary runner in a process of its own: killed or stopped while a job runs (an
//! independent record of what the job printed is compared with the stored log), and with two projects.

use serde_json::Value;

use courser_testkit::pki::Authority;

use crate::world::{Running, World, eventually, run};

pub(crate) const REGISTRATION_TOKEN: &str = "GR1348941restart";
/// Lines that the job prints, a third at each gate.
const LINES: usize = 30;

/// Where the coordinator's certificate comes from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Certificate {
    /// `--certificate` and `--key`: the same after each start.
    Own,
    /// An authority of its own, another one after each start.
    Generated,
}

struct Service {
    world: World,
    certificate: Certificate,
    server: Running,
    runner: Running,
    /// `127.0.0.1:port`, the same after each start.
    address: String,
    private_token: String,
}

pub(crate) fn serve(
    world: &World,
    certificate: Certificate,
    listen: &str,
) -> (Running, String, String) {
    let mut command = world.courser(["coordinator", "serve", "--listen", listen]);
    command
        .env("COURSER_REGISTRATION_TOKEN", REGISTRATION_TOKEN)
        .arg("--state")
        .arg(world.path("state/coordinator"))
        .arg("--repository")
        .arg(world.path("work/project"));
    if world.path("work/library").exists() {
        command.arg("--repository").arg(world.path("work/library"));
    }
    if certificate == Certificate::Own {
        command.arg("--certificate").arg(world.path("tls/leaf.pem"));
        command.arg("--key").arg(world.path("tls/leaf.key"));
    }
    let mut server = Running::start(&mut command);
    let word = |line: String| {
        let last = line.split_whitespace().next_back();
        last.unwrap_or_default().to_owned()
    };
    let private_token = word(server.wait_for("private token"));
    let url = word(server.wait_for("url "));
    let address = url.trim_start_matches("https://").trim_end_matches('/');
    (server, address.to_owned(), private_token)
}

/// `job` prints its lines to the log and to `record` beside it, and uploads that file;
/// and `after` prints what arrived. Each waits at its gates, files that the test writes.
fn pipeline(world: &World) -> String {
    let at = |name: &str| world.path(name).display().to_string();
    let gate = |name: &str| format!("until [ -e {} ]; do sleep 0.02; done", at(name));
    let say = |from: usize, to: usize| {
        let record = at("record");
        format!("for i in $(seq {from} {to}); do echo \"line $i\" | tee -a {record}; done")
    };
    let third = LINES / 3;
    let job = format!(
        "job:\n  script:\n    - {}\n    - {}\n    - {}\n    - {}\n    - {}\n",
        say(1, third),
        gate("gate-1"),
        say(third + 1, 2 * third),
        gate("gate-2"),
        say(2 * third + 1, LINES),
    );
    let upload = format!(
        "    - cp {} record.txt\n  artifacts: {{paths: [record.txt]}}\n",
        at("record")
    );
    let after = format!(
        "after:\n  needs: [job]\n  script:\n    - cat record.txt\n    - touch {}\n    - {}\n    - touch {}\n",
        at("after-began"),
        gate("gate-3"),
        at("after-ended"),
    );
    job + &upload + &after
}

impl Service {
    fn start(certificate: Certificate) -> Self {
        let world = World::new();
        let pipeline = pipeline(&world);
        world.repository("work/project", &[(".gitlab-ci.yml", &pipeline)]);
        Self::of(world, certificate)
    }

    /// For the repositories of this world.
    fn of(world: World, certificate: Certificate) -> Self {
        let root = Authority::root("Private Root").issue();
        let leaf = root.server(&["127.0.0.1", "localhost"]).issue();
        world.write("tls/ca.pem", root.certificate_pem());
        world.write("tls/leaf.pem", leaf.chain_pem());
        world.write("tls/leaf.key", leaf.key_pem());
        let (server, address, private_token) = serve(&world, certificate, "127.0.0.1:0");
        let config = world.path("config.toml");
        let registered = run(world
            .courser(["register", "--non-interactive", "--executor", "shell"])
            .arg("--config")
            .arg(&config)
            .args(["--url", &format!("https://{address}")])
            .args(["--registration-token", REGISTRATION_TOKEN])
            .arg("--tls-ca-file")
            .arg(ca(&world, certificate)));
        assert_eq!(registered.code(), 0, "{}", registered.all());
        let runner = Running::start(world.courser(["run", "--config"]).arg(&config));
        Self {
            world,
            certificate,
            server,
            runner,
            address,
            private_token,
        }
    }

    /// Ends the coordinator with a signal, has `meanwhile` happen, and starts it again.
    fn restart(&mut self, signal: &str, meanwhile: impl Fn(&Self)) {
        self.server.signal(signal);
        let status = self.server.end();
        assert_eq!(status.success(), signal == "TERM", "{status}");
        meanwhile(self);
        let (server, _, private_token) = serve(&self.world, self.certificate, &self.address);
        (self.server, self.private_token) = (server, private_token);
    }

    fn api(&self, path: &str, method: &str) -> Value {
        let mut command = self.world.program("curl");
        command
            .args(["--silent", "--globoff", "--max-time", "60"])
            .args(["--noproxy", "*", "--request", method, "--cacert"])
            .arg(ca(&self.world, self.certificate))
            .arg("--header")
            .arg(format!("PRIVATE-TOKEN: {}", self.private_token))
            .arg(format!("https://{}/api/v4/{path}", self.address));
        serde_json::from_str(&run(&mut command).stdout).unwrap_or_default()
    }

    fn open(&self, gate: &str) {
        self.world.write(gate, "");
    }

    fn recorded(&self) -> String {
        std::fs::read_to_string(self.world.path("record")).unwrap_or_default()
    }

    /// Waits until the job has printed so many lines.
    fn printed(&self, lines: usize) {
        eventually("the job prints", || {
            self.recorded().lines().count() >= lines
        });
    }

    /// The coordinator is away while the job prints its second third.
    fn restart_while_it_prints(&mut self, signal: &str) {
        self.printed(LINES / 3);
        self.restart(signal, |service| {
            service.open("gate-1");
            service.printed(2 * LINES / 3);
        });
        self.open("gate-2");
    }

    /// A pipeline, once it has passed or failed.
    fn ended(&self, project: i64, pipeline: i64) -> Value {
        let shown = || self.api(&format!("projects/{project}/pipelines/{pipeline}"), "GET");
        eventually("the pipeline ends", || {
            matches!(shown()["status"].as_str(), Some("success" | "failed"))
        });
        shown()
    }

    /// All jobs pass, nothing was printed twice or lost, and the artifact has arrived.
    fn ends_well(&mut self, pipeline: i64) {
        let shown = self.ended(1, pipeline);
        let jobs = shown["jobs"].as_array().expect("the jobs");
        let logs: Vec<String> = jobs
            .iter()
            .map(|job| format!("state/coordinator/traces/{}.log", job["id"]))
            .map(|log| self.world.read(&log))
            .collect();
        assert_eq!(shown["status"], "success", "{shown}\n{}", logs.join("\n"));
        let recorded: Vec<String> = self.recorded().lines().map(str::to_owned).collect();
        assert_eq!(recorded.len(), LINES, "the job ran once: {recorded:?}");
        for log in &logs {
            assert_eq!(lines_of(log), recorded, "{log}");
            assert_eq!(log.matches("Job succeeded").count(), 1, "{log}");
        }
        self.runner.signal("TERM");
        self.runner.end();
    }
}

/// What the runner and curl trust.
fn ca(world: &World, certificate: Certificate) -> std::path::PathBuf {
    world.path(match certificate {
        Certificate::Own => "tls/ca.pem",
        Certificate::Generated => "state/coordinator/root.crt",
    })
}

/// The numbered lines in a stored log.
fn lines_of(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.rsplit_once("line "));
    lines
        .filter(|(_, number)| number.parse::<usize>().is_ok())
        .map(|(_, number)| format!("line {number}"))
        .collect()
}

fn create(service: &Service) -> i64 {
    let created = service.api("projects/1/pipeline?ref=main", "POST");
    created["id"]
        .as_i64()
        .unwrap_or_else(|| panic!("{created}"))
}

#[test]
fn a_killed_coordinator_takes_up_its_jobs_and_no_line_is_lost() {
    let mut service = Service::start(Certificate::Own);
    let pipeline = create(&service);
    service.restart_while_it_prints("KILL");
    eventually("the artifact arrives at the next job", || {
        service.world.path("after-began").exists()
    });
    // And while a job ends.
    service.restart("KILL", |service| {
        service.open("gate-3");
        eventually("the job comes to its end", || {
            service.world.path("after-ended").exists()
        });
    });
    service.ends_well(pipeline);
}

#[test]
fn a_stopped_coordinator_goes_on_with_running_jobs_at_the_next_start() {
    let mut service = Service::start(Certificate::Own);
    let pipeline = create(&service);
    service.restart_while_it_prints("TERM");
    service.open("gate-3");
    service.ends_well(pipeline);
}

#[test]
fn a_running_job_outlives_a_generated_authority() {
    let mut service = Service::start(Certificate::Generated);
    let pipeline = create(&service);
    // What the job trusts is exchanged while it runs, for its upload.
    service.restart_while_it_prints("KILL");
    service.open("gate-3");
    service.ends_well(pipeline);
}

#[test]
fn submodules_of_each_commit_come_from_the_users_repository() {
    let world = World::new();
    world.repository("work/one.git", &[("one.txt", "first\n")]);
    let pipeline =
        "job:\n  variables: {GIT_SUBMODULE_STRATEGY: normal}\n  script: [cat one/one.txt]\n";
    world.repository("work/project", &[(".gitlab-ci.yml", pipeline)]);
    let allow = ["-c", "protocol.file.allow=always"];
    let source = world.path("work/one.git").display().to_string();
    let add = ["submodule", "--quiet", "add", &source, "one"];
    world.git("work/project", &[&allow[..], &add].concat());
    let url = ["--file", ".gitmodules", "submodule.one.url", "../one.git"];
    world.git("work/project", &[&["config"][..], &url].concat());
    let commit = ["commit", "--quiet", "--all", "--message", "submodule"];
    world.git("work/project", &commit);
    std::fs::rename(world.path("work/one.git"), world.path("gone")).expect("moves");
    let service = Service::of(world, Certificate::Own);
    let shows = |expected: &str| {
        let ended = service.ended(1, create(&service));
        let id = &ended["jobs"][0]["id"];
        let log = format!("state/coordinator/traces/{id}.log");
        let log = service.world.read(&log);
        assert_eq!(ended["status"], "success", "{log}");
        assert!(log.lines().any(|line| line.ends_with(expected)), "{log}");
    };
    shows(" first");
    // Another commit of the same submodule, while the coordinator runs.
    service.world.write("work/project/one/one.txt", "second\n");
    service.world.git("work/project/one", &commit);
    service.world.git("work/project", &commit);
    shows(" second");
}

#[test]
fn a_bridge_starts_a_pipeline_of_another_served_project() {
    let world = World::new();
    let upstream = "variables: {GIVEN: by the pipeline}\n\
        library:\n  variables: {GIVEN: forwarded}\n  trigger:\n    project: local/library\n    branch: next\n    \
        strategy: depend\n    inputs: {greeting: hello}\n\
        on-main: {trigger: local/library, allow_failure: true}\n\
        nowhere: {trigger: local/nowhere, allow_failure: true}\n\
        no-branch: {trigger: {project: local/library, branch: next~1}, allow_failure: true}\n";
    world.repository("work/project", &[(".gitlab-ci.yml", upstream)]);
    let library = "spec: {inputs: {greeting: {default: nothing}}}\n---\nshow:\n  script:\n    - \
        echo \"$[[ inputs.greeting ]], $GIVEN, $CI_PIPELINE_SOURCE $CI_UPSTREAM_PROJECT_ID, $CI_PROJECT_PATH $CI_COMMIT_BRANCH\"\n    \
        - cat file\n";
    world.repository("work/library", &[(".gitlab-ci.yml", library), ("file", "")]);
    world.git("work/library", &["checkout", "--quiet", "-b", "next"]);
    world.write("work/library/file", "of next\n");
    world.git(
        "work/library",
        &["commit", "--quiet", "--all", "--message", "next"],
    );
    world.git("work/library", &["checkout", "--quiet", "main"]);
    let service = Service::of(world, Certificate::Own);
    let pipeline = create(&service);
    let ended = service.ended(1, pipeline);
    assert_eq!(ended["status"], "success", "{ended}");
    let job = |name: &str| {
        let jobs = ended["jobs"].as_array().into_iter().flatten();
        let mut named = jobs.filter(|job| job["name"] == name);
        named.next().unwrap_or_else(|| panic!("{name} in {ended}"))
    };
    for (name, reason, message) in [
        (
            "nowhere",
            "downstream_bridge_project_not_found",
            ".gitlab-ci.yml:10: project `local/nowhere` is none of those given with --repository",
        ),
        (
            "no-branch",
            "downstream_pipeline_creation_failed",
            ".gitlab-ci.yml:11: project `local/library` has no branch or tag `next~1`",
        ),
    ] {
        assert_eq!(job(name)["failure_reason"], reason, "{ended}");
        assert_eq!(job(name)["failure_message"], message, "{ended}");
    }
    for (bridge, lines) in [
        (
            "library",
            "hello, forwarded, pipeline 1, local/library next\nof next\n",
        ),
        (
            "on-main",
            "nothing, by the pipeline, pipeline 1, local/library main\n",
        ),
    ] {
        let id = job(bridge)["downstream_pipeline"].as_i64().expect("an id");
        let downstream = service.ended(2, id);
        assert_eq!(downstream["status"], "success", "{downstream}");
        let id = &downstream["jobs"][0]["id"];
        let log = service
            .world
            .read(&format!("state/coordinator/traces/{id}.log"));
        let printed: String = log
            .lines()
            .filter_map(|line| line.split_once("Z 01O "))
            .filter(|(_, line)| line.contains(", pipeline 1, ") || line.starts_with("of "))
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        assert_eq!(printed, lines, "{log}");
    }
}
