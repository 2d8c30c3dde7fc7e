//! A drill: runner and coordinator are killed, the coordinator is also stopped, and connections between them are
//! cut, in every phase of many jobs. Every job ends in the right state, its artifact is there, and its log is byte for
//! byte what the job itself wrote down of what it printed.
//!
//! ```text
//! courser run ──TLS──► this test ──TLS──► courser coordinator serve
//! ```
//!
//! The test sees each call, and lets go of one of the two before, amid or after it. Short by itself; `cargo xtask
//! drill` sets `COURSER_DRILL_JOBS` for the long form.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::relay::Relay;
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::Value;

use crate::coordinator_serve::{Certificate, REGISTRATION_TOKEN, serve};
use crate::wire::gitlab::spooled;
use crate::world::{Running, World, eventually, run};

/// Of the short form; each kind of kill comes once.
const JOBS: usize = 8;
/// Runners with a coordinator each that are drilled at once; they mostly wait.
const LANES: usize = 8;
/// What a job prints at once (more than a patch holds), and then in each of its pauses.
const AT_ONCE: usize = 20_000;
const IN_A_PAUSE: usize = 20;
const PAUSES: usize = 4;

/// Where a call belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Acknowledgement,
    Printing,
    Upload,
    Final,
}

const PHASES: [Phase; 4] = [
    Phase::Printing,
    Phase::Upload,
    Phase::Final,
    Phase::Acknowledgement,
];

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The runner's connection ends.
    Cut,
    /// SIGKILL.
    RunnerKilled,
    /// SIGKILL.
    CoordinatorKilled,
    /// SIGTERM, which it obeys.
    CoordinatorStopped,
}

/// When it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The coordinator has heard nothing.
    Before,
    /// It has heard half of the call.
    Amid,
    /// It has acted and answered; the runner does not hear it.
    After,
}

/// What befalls the `call`th call (from 1) of `phase` of the job number `job`. In each job one party dies once, and
/// calls around that are cut.
fn fault(job: usize, phase: Phase, call: usize) -> Option<(Fault, Moment)> {
    // Of an acknowledgement that does not arrive GitLab knows after two minutes: the long form has some.
    let moments = match phase {
        Phase::Acknowledgement if job % 16 < 8 => [Moment::After; 3],
        _ => [Moment::After, Moment::Before, Moment::Amid],
    };
    let (victim, in_phase) = (job / 4 % 2, PHASES[job % 4]);
    let death = match victim {
        0 => Fault::RunnerKilled,
        _ if job / 8 % 2 == 1 => Fault::CoordinatorStopped,
        _ => Fault::CoordinatorKilled,
    };
    let dies_at = match phase {
        Phase::Acknowledgement => 1,
        Phase::Printing => 3,
        Phase::Upload | Phase::Final => 2,
    };
    if phase == in_phase && call == dies_at {
        return Some((death, moments[job / 8 % 3]));
    }
    let is_cut = match phase {
        // The next process of a killed runner tries three times, too.
        Phase::Upload => call == 1 || call == 4,
        Phase::Printing => call.is_multiple_of(2) && call < 12,
        Phase::Acknowledgement | Phase::Final => call == 1,
    };
    is_cut.then(|| (Fault::Cut, moments[(job + call) % 3]))
}

/// The coordinator between two deaths.
struct Coordinator {
    process: Running,
    address: SocketAddr,
    private_token: String,
}

impl Coordinator {
    fn start(world: &World, listen: &str) -> Self {
        let (process, address, private_token) = serve(world, Certificate::Own, listen);
        let address = address.parse().expect("an address");
        Self {
            process,
            address,
            private_token,
        }
    }

    fn die(&mut self, world: &World, signal: &str) {
        self.process.signal(signal);
        let status = self.process.end();
        assert_eq!(status.success(), signal == "TERM", "{status}");
        *self = Self::start(world, &self.address.to_string());
    }
}

/// What the drill has done so far, and what it expects of it.
#[derive(Default)]
struct Drill {
    runner: Option<u32>,
    calls: BTreeMap<(i64, Phase), usize>,
    faults: BTreeMap<(Fault, Phase), usize>,
    /// Jobs whose runner was killed before their scripts were over.
    lost: Vec<i64>,
    /// Polls of the runner that runs now.
    polls: Vec<TcpStream>,
    /// Names of jobs by their ids.
    numbers: BTreeMap<i64, usize>,
    happened: VecDeque<String>,
}

/// One runner, one coordinator, and the wire between them.
struct Lane {
    world: World,
    root: Issued,
    coordinator: Mutex<Coordinator>,
    drill: Mutex<Drill>,
}

impl Lane {
    fn new(jobs: &[usize]) -> (Arc<Self>, FakeServer) {
        let world = World::new();
        world.repository(
            "work/project",
            &[(".gitlab-ci.yml", &pipeline(&world, jobs))],
        );
        let root = Authority::root("Private Root").issue();
        let leaf = root.server(&["127.0.0.1", "localhost"]).issue();
        world.write("tls/ca.pem", root.certificate_pem());
        world.write("tls/leaf.pem", leaf.chain_pem());
        world.write("tls/leaf.key", leaf.key_pem());
        let coordinator = Mutex::new(Coordinator::start(&world, "127.0.0.1:0"));
        let lane = Arc::new(Self {
            world,
            root,
            coordinator,
            drill: Mutex::default(),
        });
        let serving = Arc::clone(&lane);
        let wire = FakeServer::https_unrecorded(&leaf, move |request| serving.call(request));
        (lane, wire)
    }

    fn drill(&self) -> MutexGuard<'_, Drill> {
        self.drill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The coordinator as it runs now: whoever asks while it is started again waits.
    fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, request: &Request) -> Reply {
        let path = request.path.trim_start_matches("/api/v4/");
        let id = path
            .strip_prefix("jobs/")
            .and_then(|rest| rest.split('/').next());
        let Some(id) = id.and_then(|id| id.parse::<i64>().ok()) else {
            return self.pass(request);
        };
        let phase = match request.method.as_str() {
            "PATCH" => Phase::Printing,
            "POST" => Phase::Upload,
            "PUT" if request.json()["state"] != "running" => Phase::Final,
            "PUT" => Phase::Acknowledgement,
            _ => return self.pass(request),
        };
        let planned = {
            let mut drill = self.drill();
            let call = drill.calls.entry((id, phase)).or_default();
            *call += 1;
            let call = *call;
            let number = drill.numbers.get(&id).copied();
            number.and_then(|number| fault(number, phase, call))
        };
        let Some((fault, moment)) = planned else {
            return self.pass(request);
        };
        // A runner that is not there cannot be killed again.
        if fault == Fault::RunnerKilled && self.drill().runner.is_none() {
            return self.pass(request);
        }
        match moment {
            Moment::Before => {}
            Moment::Amid => {
                let sent = self.relay().send(request, request.body.len() / 2);
                drop(sent);
            }
            Moment::After => drop(self.pass(request)),
        }
        match fault {
            Fault::Cut => {}
            Fault::RunnerKilled => {
                let goes_back = phase == Phase::Acknowledgement && moment != Moment::After;
                self.kill_runner(id, goes_back);
            }
            Fault::CoordinatorKilled => self.coordinator().die(&self.world, "KILL"),
            Fault::CoordinatorStopped => self.coordinator().die(&self.world, "TERM"),
        }
        let mut drill = self.drill();
        *drill.faults.entry((fault, phase)).or_default() += 1;
        drill
            .happened
            .push_back(format!("job {id}: {fault:?} {moment:?} {phase:?}"));
        Reply::Close
    }

    fn relay(&self) -> Relay {
        Relay::new(self.coordinator().address, &self.root)
    }

    /// The coordinator's own answer, and no patch waits longer than a second.
    fn pass(&self, request: &Request) -> Reply {
        let sent = self.relay().send(request, usize::MAX);
        let Ok(sent) = sent else { return Reply::Close };
        if request.path.ends_with("/jobs/request")
            && let Ok(connection) = sent.connection()
        {
            self.drill().polls.push(connection);
        }
        let Ok(mut reply) = sent.answer() else {
            return Reply::Close;
        };
        if let Reply::Answer {
            status,
            headers,
            body,
        } = &mut reply
        {
            for (name, value) in headers {
                if name.eq_ignore_ascii_case("x-gitlab-trace-update-interval") {
                    "1".clone_into(value);
                }
            }
            if *status == 201 && request.path.ends_with("/jobs/request") {
                let payload: Value = serde_json::from_slice(body).expect("a payload");
                let id = payload["id"].as_i64().expect("an id");
                let name = payload["job_info"]["name"].as_str().unwrap_or_default();
                let number = name
                    .strip_prefix("job-")
                    .and_then(|number| number.parse().ok());
                if let Some(number) = number {
                    self.drill().numbers.insert(id, number);
                }
            }
        }
        reply
    }

    /// A job that `goes_back` was not acknowledged: the coordinator hands it out again.
    fn kill_runner(&self, job: i64, goes_back: bool) {
        let mut drill = self.drill();
        let Some(runner) = drill.runner.take() else {
            return;
        };
        let killed = Command::new("kill")
            .args(["-KILL", &runner.to_string()])
            .status();
        assert!(killed.expect("kill").success());
        let stat = format!("/proc/{runner}/stat");
        eventually("the runner is dead", || {
            let stat = std::fs::read_to_string(&stat);
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
        // Nobody waits for what these bring.
        for poll in drill.polls.drain(..) {
            poll.shutdown(std::net::Shutdown::Both).ok();
        }
        let is_of_job = |directory: &PathBuf| {
            let name = directory.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&format!("{job}-")))
        };
        let is_decided = |directory: PathBuf| {
            let journal = std::fs::read_to_string(directory.join("journal")).unwrap_or_default();
            journal.contains("\"ended\"") || directory.join("unfinished").exists()
        };
        let mut kept = spooled(&self.world).into_iter().filter(is_of_job);
        if !goes_back && !kept.any(is_decided) {
            drill.lost.push(job);
        }
    }

    fn api(&self, path: &str, method: &str) -> Value {
        let (address, token) = {
            let coordinator = self.coordinator();
            (coordinator.address, coordinator.private_token.clone())
        };
        let mut command = self.world.program("curl");
        command
            .args(["--silent", "--globoff", "--max-time", "60"])
            .args(["--noproxy", "*", "--request", method, "--cacert"])
            .arg(self.world.path("tls/ca.pem"))
            .args(["--header", &format!("PRIVATE-TOKEN: {token}")])
            .arg(format!("https://{address}/api/v4/{path}"));
        serde_json::from_str(&run(&mut command).stdout).unwrap_or_default()
    }

    /// Registers a runner, starts it as often as it is killed, and waits for the pipeline's end.
    fn run(&self, url: &str, patience: Duration) -> Value {
        let config = self.world.path("home/config.toml");
        let registered = run(self
            .world
            .courser(["register", "--non-interactive", "--executor", "shell"])
            .arg("--config")
            .arg(&config)
            .args(["--url", url, "--registration-token", REGISTRATION_TOKEN])
            .arg("--tls-ca-file")
            .arg(self.world.path("tls/ca.pem")));
        assert_eq!(registered.code(), 0, "{}", registered.all());
        let text = std::fs::read_to_string(&config).expect("the configuration");
        assert!(text.contains("concurrent = 1"), "{text}");
        let text = format!(
            "check_interval = 1\n{}",
            text.replace("check_interval = 0", "")
        );
        std::fs::write(&config, text).expect("the configuration");
        let pipeline = self.api("projects/1/pipeline?ref=main", "POST");
        let pipeline = pipeline["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("{pipeline}"));
        let path = format!("projects/1/pipelines/{pipeline}");
        let start = Instant::now();
        let mut runner: Option<Running> = None;
        let mut logs = Vec::new();
        loop {
            if self.drill().runner.is_none() {
                if let Some(mut dead) = runner.take() {
                    dead.end();
                    logs.push(dead.rest());
                }
                let mut command = self.world.courser(["run", "--config"]);
                let command = command.arg(&config).arg("--working-directory");
                let started = Running::start(command.arg(self.world.path("work")));
                self.drill().runner = Some(started.id());
                runner = Some(started);
            }
            std::thread::sleep(Duration::from_millis(100));
            let shown = self.api(&path, "GET");
            if matches!(shown["status"].as_str(), Some("success" | "failed")) {
                eventually("the spool is empty", || spooled(&self.world).is_empty());
                return shown;
            }
            if start.elapsed() > patience {
                let mut told = format!("{shown}\n");
                for line in &self.drill().happened {
                    writeln!(told, "{line}").ok();
                }
                let last = runner.take().map(|mut runner| {
                    runner.signal("KILL");
                    runner.end();
                    runner.rest()
                });
                panic!(
                    "some job never ends:\n{told}{}\n{last:?}",
                    logs.join("\n---\n")
                );
            }
        }
    }

    /// The end of a job, held against its own record. Says whether it ended as its scripts did.
    fn check(&self, number: usize, job: &Value) -> bool {
        let id = job["id"].as_i64().expect("an id");
        let record = self.world.path(&format!("record-{number}"));
        let record = std::fs::read_to_string(record).unwrap_or_default();
        let log = self
            .world
            .read(&format!("state/coordinator/traces/{id}.log"));
        let printed = printed(&log, number);
        let drill = self.drill();
        let about = || {
            let about = format!("job {id}:");
            let happened = drill
                .happened
                .iter()
                .filter(|line| line.starts_with(&about));
            let happened: Vec<_> = happened.map(String::as_str).collect();
            let end: String = log.lines().rev().take(12).collect::<Vec<_>>().join("\n");
            format!("{job}, {happened:?}, the end of its log, backwards:\n{end}")
        };
        if drill.lost.contains(&id) {
            assert_eq!(job["status"], "failed", "{}", about());
            assert_eq!(
                job["failure_reason"],
                "runner_system_failure",
                "{}",
                about()
            );
            let reason = "Job failed (system failure): the runner was killed while the job ran";
            assert_eq!(log.matches(reason).count(), 1, "{}", about());
            assert!(record.starts_with(&printed), "{}", about());
            return false;
        }
        let code = number % 3;
        let (status, reason, last) = match code {
            0 => ("success", Value::Null, "Job succeeded".to_owned()),
            code => (
                "failed",
                Value::from("script_failure"),
                format!("ERROR: Job failed: exit status {code}"),
            ),
        };
        assert_eq!(job["status"], status, "{}", about());
        assert_eq!(job["failure_reason"], reason, "{}", about());
        assert_eq!(log.matches(&last).count(), 1, "{}", about());
        let lines = AT_ONCE + PAUSES * IN_A_PAUSE;
        assert_eq!(record.lines().count(), lines, "{}", about());
        assert!(
            printed == record,
            "the log is not what was printed: {}",
            about()
        );
        let collected = self.world.path(&format!("collected/record-{number}.txt"));
        let collected = std::fs::read_to_string(&collected);
        assert_eq!(collected.ok(), Some(record), "its artifact: {}", about());
        true
    }
}

/// One job for each number, and one that brings their artifacts together.
fn pipeline(world: &World, jobs: &[usize]) -> String {
    let at = |name: &str| world.path(name).display().to_string();
    let mut text = "stages: [drilled, after]\nvariables: {GIT_STRATEGY: none}\n".to_owned();
    for job in jobs {
        let record = at(&format!("record-{job}"));
        let lines = |from: usize, count: usize| {
            let to = from + count - 1;
            format!("seq -f 'job {job} prints line %.0f' {from} {to} | tee -a {record}")
        };
        write!(
            text,
            "job-{job}:\n  stage: drilled\n  script:\n    - rm -f {record}\n"
        )
        .ok();
        writeln!(text, "    - {}", lines(1, AT_ONCE)).ok();
        for pause in 0..PAUSES {
            let from = AT_ONCE + pause * IN_A_PAUSE + 1;
            writeln!(text, "    - sleep 0.7; {}", lines(from, IN_A_PAUSE)).ok();
        }
        write!(
            text,
            "    - cp {record} record-{job}.txt\n    - exit {}\n  artifacts: {{paths: [record-{job}.txt], when: always}}\n",
            job % 3
        )
        .ok();
    }
    let collected = at("collected");
    write!(
        text,
        "collect:\n  stage: after\n  when: always\n  script: mkdir {collected}; cp record-*.txt {collected} || true\n"
    )
    .ok();
    text
}

/// What the job's script printed.
fn printed(log: &str, number: usize) -> String {
    let said = format!("job {number} prints line ");
    let lines = log
        .lines()
        .filter_map(|line| line.split_once("Z 01O ").map(|(_, line)| line));
    lines
        .filter(|line| line.starts_with(&said))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Drills `jobs` with one runner and one coordinator; gives the faults, and how many jobs ended as their scripts did.
fn drilled(jobs: &[usize]) -> (BTreeMap<(Fault, Phase), usize>, usize) {
    let (lane, wire) = Lane::new(jobs);
    let patience = Duration::from_secs(300 + 30 * jobs.len() as u64);
    let shown = lane.run(&wire.url(""), patience);
    let of_name = |name: String| {
        let mut all = shown["jobs"].as_array().into_iter().flatten();
        all.find(|job| job["name"] == name.as_str())
            .unwrap_or_else(|| panic!("{name} in {shown}"))
    };
    assert_eq!(
        of_name("collect".to_owned())["status"],
        "success",
        "{shown}"
    );
    let whole = jobs
        .iter()
        .filter(|number| lane.check(**number, of_name(format!("job-{number}"))))
        .count();
    let faults = std::mem::take(&mut lane.drill().faults);
    (faults, whole)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it lasts is said from outside"
)]
fn nothing_is_lost_whoever_dies_in_whichever_phase() {
    let asked = std::env::var("COURSER_DRILL_JOBS").ok();
    let jobs = asked
        .as_ref()
        .map_or(JOBS, |jobs| jobs.parse().expect("a number"));
    let start = Instant::now();
    let lanes = (0..LANES).map(|lane| (lane..jobs).step_by(LANES).collect::<Vec<_>>());
    let lanes: Vec<_> = lanes
        .filter(|jobs| !jobs.is_empty())
        .map(|jobs| std::thread::spawn(move || drilled(&jobs)))
        .collect();
    let (mut faults, mut whole) = (BTreeMap::<_, usize>::new(), 0);
    let ended: Vec<_> = lanes
        .into_iter()
        .map(std::thread::JoinHandle::join)
        .collect();
    for lane in ended {
        let (of_lane, in_lane) = lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        whole += in_lane;
        for (what, count) in of_lane {
            *faults.entry(what).or_default() += count;
        }
    }
    let all: usize = faults.values().sum();
    println!(
        "{jobs} jobs: {whole} ended as their scripts did, {} failed because their runner was killed meanwhile; \
         {all} kills and cuts in {:.0?}",
        jobs - whole,
        start.elapsed()
    );
    for ((fault, phase), count) in &faults {
        println!("{count:6} {fault:?} in {phase:?}");
    }
    let mut kinds = vec![Fault::Cut, Fault::RunnerKilled, Fault::CoordinatorKilled];
    if asked.is_some() {
        kinds.push(Fault::CoordinatorStopped);
        assert!(all >= 5 * jobs, "{all} faults");
    }
    for phase in PHASES {
        for &fault in &kinds {
            assert!(
                faults.contains_key(&(fault, phase)),
                "{fault:?} in {phase:?}: {faults:?}"
            );
        }
    }
}
