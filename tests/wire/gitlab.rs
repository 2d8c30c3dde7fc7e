//! A strict GitLab: every request is held against `runner-protocol.md`, faults are collected and fail the test.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use courser_testkit::pki::Issued;
use courser_testkit::server::{FakeServer, Reply, Request};
use serde_json::{Value, json};

use crate::world::{PATIENCE, Running, World, eventually};

/// Token of the one runner that is known.
pub(crate) const TOKEN: &str = "glrt-t1_wireabcdefghijk";

/// Names in the order in which they are sent (2.1).
const FEATURES: &str = "variables image services artifacts cache fallback_cache_keys shared \
    upload_multiple_artifacts upload_raw_artifacts session terminal refspecs masking proxy \
    raw_variables artifacts_exclude multi_build_steps trace_reset trace_checksum trace_size \
    vault_secrets cancelable return_exit_code service_variables service_multiple_aliases \
    image_executor_opts service_executor_opts cancel_gracefully native_steps_integration \
    two_phase_job_commit job_inputs";

/// What is known of one job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) payload: Value,
    pub(crate) log: Vec<u8>,
    /// Bodies of all updates.
    pub(crate) updates: Vec<Value>,
    /// Offset, length and query of each patch that was accepted.
    pub(crate) patches: Vec<(usize, usize, String)>,
    pub(crate) uploads: Vec<Upload>,
    /// Body of a download of this job's artifacts.
    pub(crate) archive: Option<Vec<u8>>,
    /// `Job-Status` of all answers.
    pub(crate) status: String,
    /// The update that ended it.
    pub(crate) end: Option<Value>,
    /// Downloads of its artifacts.
    pub(crate) downloads: Vec<Request>,
    /// It was told to be given up: what was sent since is not all there.
    pub(crate) given_up: bool,
}

/// One uploaded archive.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) query: String,
    /// Headers of the part.
    pub(crate) part: String,
    pub(crate) content: Vec<u8>,
}

impl Record {
    /// The log's lines as `<stream><pipe><flag><text>`; their stamps are checked.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.log.clone()).expect("a log is UTF-8");
        let body = text
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("the last line is not ended: {text:?}"));
        body.split('\n')
            .map(|line| {
                let (stamp, rest) = line.split_at(28);
                let shape: String = stamp
                    .chars()
                    .map(|character| {
                        if character.is_ascii_digit() {
                            '0'
                        } else {
                            character
                        }
                    })
                    .collect();
                assert_eq!(shape, "0000-00-00T00:00:00.000000Z ", "{line}");
                rest.to_owned()
            })
            .collect()
    }

    /// All lines.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// State, reason and exit code of the end.
    pub(crate) fn outcome(&self) -> (String, String, i64) {
        let end = self.end.as_ref().expect("the job has ended");
        let text = |key: &str| end[key].as_str().unwrap_or_default().to_owned();
        let code = end["exit_code"].as_i64().unwrap_or(0);
        (text("state"), text("failure_reason"), code)
    }
}

/// Directories of jobs in the spool of the world's runner.
pub(crate) fn spooled(world: &World) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(world.path("home/.config.toml.spool")) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.is_dir()).collect()
}

/// How long a poll is held.
const LONG_POLL: Duration = Duration::from_secs(5);

type OnPoll = dyn FnMut(usize) -> Option<Reply> + Send;
type Elsewhere = dyn FnMut(&Request) -> Reply + Send;
type OnJob = dyn FnMut(&Request, &mut Record) -> Option<Reply> + Send;

struct State {
    waiting: VecDeque<i64>,
    jobs: BTreeMap<i64, Record>,
    polls: Vec<Request>,
    /// What was sent under each request id: only an unchanged repetition may have it again.
    sent: BTreeMap<String, (String, Vec<u8>)>,
    faults: Vec<String>,
    /// Polls are held until there is a job.
    patient: bool,
    /// How many runners have gone: nobody waits for the answers to their polls.
    runners: usize,
    /// Jobs that a runner died of before it had acknowledged them are handed out again.
    hands_out_again: bool,
    on_poll: Box<OnPoll>,
    on_job: Box<OnJob>,
    elsewhere: Box<Elsewhere>,
}

/// The server. Dropping it fails the test when a request was wrong.
pub(crate) struct GitLab {
    server: FakeServer,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl GitLab {
    pub(crate) fn http() -> Self {
        Self::start(FakeServer::http)
    }

    /// Where containers reach it too.
    pub(crate) fn https_at(address: IpAddr, leaf: &Issued) -> Self {
        Self::start(|handler| FakeServer::https_at(address, leaf, handler))
    }

    pub(crate) fn https(leaf: &Issued) -> Self {
        Self::start(|handler| FakeServer::https(leaf, handler))
    }

    fn start(
        serve: impl FnOnce(Box<dyn Fn(&Request) -> Reply + Send + Sync>) -> FakeServer,
    ) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            jobs: BTreeMap::new(),
            polls: Vec::new(),
            sent: BTreeMap::new(),
            faults: Vec::new(),
            patient: false,
            runners: 0,
            hands_out_again: false,
            on_poll: Box::new(|_| None),
            on_job: Box::new(|_, _| None),
            elsewhere: Box::new(|_| Reply::status(404)),
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = Arc::clone(&state);
        let server = serve(Box::new(move |request| {
            let (state, changed) = &*shared;
            let mut state = locked(state);
            if request.path.ends_with("/jobs/request") {
                let of = state.runners;
                let nothing = |state: &mut State| {
                    state.patient && state.waiting.is_empty() && state.runners == of
                };
                let waited = changed.wait_timeout_while(state, LONG_POLL, nothing);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if state.runners != of {
                    return Reply::Close;
                }
            }
            let reply = state.answer(request);
            drop(state);
            changed.notify_all();
            reply
        }));
        Self { server, state }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.server.address().ip();
        if address.is_loopback() {
            self.server.url_by_name("localhost", "")
        } else {
            self.server.url_by_name(&address.to_string(), "")
        }
    }

    /// Queues a job.
    pub(crate) fn queue(&self, payload: &Value) {
        let id = payload["id"].as_i64().expect("a job has an id");
        let record = Record {
            payload: payload.clone(),
            status: "running".to_owned(),
            ..Record::default()
        };
        let mut state = self.state();
        state.jobs.insert(id, record);
        state.waiting.push_back(id);
        drop(state);
        self.state.1.notify_all();
    }

    /// Holds polls until there is a job, as GitLab's proxy does.
    pub(crate) fn patient(self) -> Self {
        self.state().patient = true;
        self
    }

    /// A job that has ended before and left an archive.
    pub(crate) fn ended(&self, payload: &Value, archive: Vec<u8>) {
        let id = payload["id"].as_i64().expect("a job has an id");
        let record = Record {
            payload: payload.clone(),
            archive: Some(archive),
            ..Record::default()
        };
        self.state().jobs.insert(id, record);
    }

    /// What polls are answered, by their number from 1 on, instead of a job.
    pub(crate) fn on_poll(&self, answer: impl FnMut(usize) -> Option<Reply> + Send + 'static) {
        let mut state = self.state();
        state.patient = false;
        state.on_poll = Box::new(answer);
    }

    /// What calls of jobs are answered, after they were recorded, instead of what is right.
    pub(crate) fn on_job(
        &self,
        answer: impl FnMut(&Request, &mut Record) -> Option<Reply> + Send + 'static,
    ) {
        self.state().on_job = Box::new(answer);
    }

    /// What paths that are not of the API are answered.
    pub(crate) fn elsewhere(&self, answer: impl FnMut(&Request) -> Reply + Send + 'static) {
        self.state().elsewhere = Box::new(answer);
    }

    /// Answers as GitLab does, whatever was asked for before.
    pub(crate) fn serve_as_usual(&self) {
        self.on_poll(|_| None);
        self.on_job(|_, _| None);
    }

    /// The runner has gone; a poll of it that is held gets no job.
    pub(crate) fn runner_is_gone(&self) {
        self.state().runners += 1;
        self.state.1.notify_all();
    }

    /// Takes jobs back that were handed out and not acknowledged, when a runner tells their end; and now, where `all`,
    /// those of which no runner will tell.
    pub(crate) fn hand_out_again(&self, all: bool) {
        let mut state = self.state();
        state.hands_out_again = true;
        let waiting = state.waiting.clone();
        let unheard = |(id, job): (&i64, &Record)| {
            (job.updates.is_empty() && !waiting.contains(id)).then_some(*id)
        };
        let unheard: Vec<i64> = state.jobs.iter().filter_map(unheard).collect();
        if all {
            state.waiting.extend(unheard);
        }
        drop(state);
        self.state.1.notify_all();
    }

    /// What is known of all jobs.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.state().jobs.values().cloned().collect()
    }

    /// Changes what is known of a job.
    pub(crate) fn change(&self, id: i64, change: impl FnOnce(&mut Record)) {
        change(
            self.state()
                .jobs
                .get_mut(&id)
                .expect("a job that was queued"),
        );
    }

    pub(crate) fn polls(&self) -> Vec<Request> {
        self.state().polls.clone()
    }

    /// Waits until a job is as wanted.
    pub(crate) fn wait(&self, id: i64, wanted: impl Fn(&Record) -> bool) -> Record {
        self.wait_for("a job", |state| {
            state.jobs.get(&id).filter(|job| wanted(job)).cloned()
        })
    }

    /// Waits for the end of a job.
    pub(crate) fn finished(&self, id: i64) -> Record {
        self.wait(id, |job| job.end.is_some())
    }

    /// Waits for a number of polls.
    pub(crate) fn polled(&self, number: usize) -> Vec<Request> {
        self.wait_for("polls", |state| {
            (state.polls.len() >= number).then(|| state.polls.clone())
        })
    }

    fn wait_for<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (_, changed) = &*self.state;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waiting for {what}: {:#?}, faults: {:?}",
                state.jobs,
                state.faults
            );
            state = changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// `courser run` with one runner of this server; `more` belongs to its table.
    pub(crate) fn runner(&self, world: &World, more: &str) -> Running {
        Running::start(&mut self.runner_command(world, more))
    }

    pub(crate) fn runner_command(&self, world: &World, more: &str) -> std::process::Command {
        let config = world.write("home/config.toml", self.configuration(more));
        let mut command = world.courser(["run", "--config"]);
        command
            .arg(config)
            .arg("--working-directory")
            .arg(world.path("work"));
        command
    }

    /// The configuration of one runner of this server; `more` belongs to its table.
    pub(crate) fn configuration(&self, more: &str) -> String {
        let url = self.url();
        let executor = if more.trim_start().starts_with("executor = ") {
            ""
        } else {
            "executor = \"shell\"\n"
        };
        format!(
            "concurrent = 2\ncheck_interval = 1\n[[runners]]\nname = \"wire\"\nurl = \"{url}\"\n\
             token = \"{TOKEN}\"\n{executor}{more}\n"
        )
    }

    /// Runs one job to its end.
    pub(crate) fn run(&self, world: &World, more: &str, payload: &Value) -> Record {
        self.queue(payload);
        let _runner = self.runner(world, more);
        let done = self.finished(payload["id"].as_i64().expect("an id"));
        // Killed before that, it would have the next process tell the end of this job once more.
        eventually("the spool is empty", || spooled(world).is_empty());
        done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state.0)
    }
}

impl Drop for GitLab {
    fn drop(&mut self) {
        let faults = std::mem::take(&mut self.state().faults);
        if !std::thread::panicking() {
            assert_eq!(
                faults,
                Vec::<String>::new(),
                "requests that GitLab would not like"
            );
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn demand(&mut self, condition: bool, fault: impl FnOnce() -> String) {
        if !condition {
            self.faults.push(fault());
        }
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if !request.path.starts_with("/api/") {
            return (self.elsewhere)(request);
        }
        let what = format!("{} {}", request.method, request.path);
        let id = request.header("x-request-id");
        let hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.demand(hex, || format!("{what}: X-Request-Id {id:?}"));
        let first = self
            .sent
            .entry(id.to_owned())
            .or_insert_with(|| (what.clone(), request.body.clone()));
        // A redirect makes a GET of a poll, and multipart boundaries may differ.
        let repeated = request.method == "GET"
            || first.0 == what && (first.1 == request.body || what.ends_with("/artifacts"));
        self.demand(repeated, || {
            format!("{what}: X-Request-Id {id} was used before")
        });
        let agent = request.header("user-agent");
        let named = agent.starts_with("gitlab-runner 19.") && agent.ends_with("/amd64)")
            || agent.ends_with("/arm64)");
        self.demand(named, || format!("{what}: User-Agent {agent:?}"));
        let path = request.path.strip_prefix("/api/v4/").unwrap_or_default();
        match (request.method.as_str(), path) {
            ("POST", "jobs/request") => return self.poll(request),
            // What a redirect makes of a poll.
            ("GET", "jobs/request") => return Reply::status(405),
            _ => {}
        }
        let mut parts = path.strip_prefix("jobs/").unwrap_or_default().split('/');
        let job = parts.next().and_then(|id| id.parse().ok());
        let Some((id, mut record)) = job.and_then(|id| self.jobs.remove_entry(&id)) else {
            self.faults.push(format!("{what}: unknown"));
            return Reply::status(403);
        };
        let token = record.payload["token"].as_str().unwrap_or_default();
        self.demand(request.header("job-token") == token, || {
            format!("{what}: JOB-TOKEN")
        });
        let ends = request.method == "PUT" && request.json()["state"] != "running";
        if self.hands_out_again && record.updates.is_empty() && (ends || request.method == "PATCH")
        {
            if ends && !self.waiting.contains(&id) {
                self.waiting.push_back(id);
            }
            self.jobs.insert(id, record);
            return Reply::status(400);
        }
        // A runner that was killed before it read the acknowledgement is followed by one that tells the end again.
        let told_again = |end: &Value| {
            request.method == "GET"
                || request.method == "PUT" && request.json()["state"] == end["state"]
        };
        let over = record.end.as_ref().is_some_and(|end| !told_again(end));
        self.demand(!over, || format!("{what}: after the end was acknowledged"));
        let reply = match (request.method.as_str(), parts.next()) {
            ("PUT", None) => self.update(request, &mut record),
            ("PATCH", Some("trace")) => self.patch(request, &mut record),
            ("POST", Some("artifacts")) => self.upload(request, &mut record),
            ("GET", Some("artifacts")) => {
                let query = request.query.as_deref();
                self.demand(matches!(query, None | Some("direct_download=true")), || {
                    format!("{what}: {query:?}")
                });
                record.downloads.push(request.clone());
                (self.on_job)(request, &mut record).unwrap_or_else(|| match &record.archive {
                    Some(archive) => Reply::with("application/octet-stream", 200, archive.clone()),
                    None => Reply::status(404),
                })
            }
            _ => {
                self.faults.push(format!("{what}: unknown"));
                Reply::status(404)
            }
        };
        if let Reply::Answer {
            status, headers, ..
        } = &reply
        {
            let given_up = |value: &str| matches!(value, "canceled" | "failed");
            record.given_up |= *status == 403
                || headers
                    .iter()
                    .any(|(name, value)| name == "Job-Status" && given_up(value));
        }
        self.jobs.insert(id, record);
        reply
    }

    fn poll(&mut self, request: &Request) -> Reply {
        let body = request.json();
        self.demand(request.header("accept") == "application/json", || {
            "poll: Accept".to_owned()
        });
        self.demand(request.header("content-type") == "application/json", || {
            "poll: Content-Type".to_owned()
        });
        let tokens = request.header("runner-token") == TOKEN && body["token"] == TOKEN;
        self.demand(tokens, || "poll: token".to_owned());
        self.check_info("poll", request, &body);
        let known = ["info", "token", "system_id", "last_update"];
        self.check_keys("poll", &body, &known);
        self.polls.push(request.clone());
        if let Some(reply) = (self.on_poll)(self.polls.len()) {
            return reply;
        }
        match self.waiting.pop_front() {
            Some(id) => Reply::json(201, &self.jobs[&id].payload),
            None => Reply::status(204).header("X-GitLab-Last-Update", "queue-1"),
        }
    }

    fn check_keys(&mut self, what: &str, body: &Value, known: &[&str]) {
        for (key, value) in body.as_object().into_iter().flatten() {
            let good = known.contains(&key.as_str()) && !value.is_null();
            self.demand(good, || format!("{what}: {key} = {value}"));
        }
    }

    fn check_info(&mut self, what: &str, request: &Request, body: &Value) {
        let info = &body["info"];
        let features = info["features"].as_object().cloned().unwrap_or_default();
        self.demand(features.len() == 31, || {
            format!("{what}: {} features", features.len())
        });
        self.demand(info["config"] == json!({"gpus": ""}), || {
            format!("{what}: config")
        });
        let text = request.text();
        let mut from = 0;
        for name in FEATURES.split_whitespace() {
            let boolean = features.get(name).is_some_and(Value::is_boolean);
            match text[from..].find(&format!("\"{name}\":")) {
                Some(at) if boolean => from += at,
                _ => self.faults.push(format!("{what}: feature {name}")),
            }
        }
    }

    fn update(&mut self, request: &Request, record: &mut Record) -> Reply {
        let body = request.json();
        self.check_info("update", request, &body);
        self.demand(request.header("accept").is_empty(), || {
            "update: Accept".to_owned()
        });
        self.demand(body["token"] == record.payload["token"], || {
            "update: token".to_owned()
        });
        self.check_keys(
            "update",
            &body,
            &[
                "info",
                "token",
                "state",
                "failure_reason",
                "checksum",
                "output",
                "exit_code",
            ],
        );
        let output = &body["output"];
        let shaped = output.is_object()
            && body["exit_code"] != 0
            && output["bytesize"] != 0
            && body["checksum"] == output["checksum"];
        self.demand(shaped, || format!("update: {body}"));
        let failed = body["state"] == "failed";
        let state = failed || body["state"] == "running" || body["state"] == "success";
        let reason = body["failure_reason"].is_string() == failed;
        self.demand(
            state && reason && (failed || body["exit_code"].is_null()),
            || format!("update: {body}"),
        );
        // Only a job that nobody can run is not acknowledged (2.6).
        let first = record.updates.is_empty();
        let acknowledged = body["state"] == "running" && record.log.is_empty();
        let refused = body["failure_reason"] == "runner_system_failure" && body["exit_code"] == 3;
        self.demand(!first || acknowledged || refused, || {
            format!("update: the first is {body}")
        });
        record.updates.push(body.clone());
        if let Some(reply) = (self.on_job)(request, record) {
            return reply;
        }
        if body["state"] != "running" {
            if !record.log.is_empty() && !record.given_up {
                let sum = format!("crc32:{:08x}", crc32(&record.log));
                let right = output["checksum"] == sum && output["bytesize"] == record.log.len();
                self.demand(right, || format!("update: {output}, the log has {sum}"));
            }
            record.end = Some(body);
        }
        Reply::text(200, "200")
            .header("Job-Status", &record.status)
            .header("X-GitLab-Trace-Update-Interval", "1")
    }

    fn patch(&mut self, request: &Request, record: &mut Record) -> Reply {
        let query = request.query.clone().unwrap_or_default();
        let range = request.header("content-range");
        let bounds = range.split_once('-');
        let bounds = bounds.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (from, to): (usize, usize) = bounds.unwrap_or((usize::MAX, 0));
        let length = request.body.len();
        let shaped = from.checked_add(length) == Some(to + 1)
            && (1..=1024 * 1024).contains(&length)
            && request.header("content-type") == "text/plain"
            && request.header("accept").is_empty()
            && request.header("content-length") == length.to_string();
        self.demand(shaped, || {
            format!("patch: {range}, {length} bytes, {:?}", request.headers)
        });
        if let Some(reply) = (self.on_job)(request, record) {
            return reply;
        }
        let reply = if from == record.log.len() {
            record.log.extend_from_slice(&request.body);
            record.patches.push((from, length, query));
            Reply::status(202)
        } else {
            Reply::status(416)
        };
        reply
            .header("Job-Status", &record.status)
            .header("Range", &format!("0-{}", record.log.len()))
            .header("X-GitLab-Trace-Update-Interval", "1")
    }

    fn upload(&mut self, request: &Request, record: &mut Record) -> Reply {
        let boundary = request
            .header("content-type")
            .strip_prefix("multipart/form-data; boundary=");
        let boundary = format!("--{}", boundary.unwrap_or_default());
        let parts = split(&request.body, boundary.as_bytes());
        let query = request.query.clone().unwrap_or_default();
        let keys: Vec<&str> = query
            .split('&')
            .filter_map(|pair| Some(pair.split_once('=')?.0))
            .collect();
        let known = ["artifact_format", "artifact_type", "expire_in"];
        self.demand(
            keys.is_sorted() && keys.iter().all(|key| known.contains(key)),
            || format!("upload: {query}"),
        );
        let [b"", part, b"--\r\n"] = parts.as_slice() else {
            self.faults.push(format!("upload: {} parts", parts.len()));
            return Reply::status(400);
        };
        let head = split(part, b"\r\n\r\n")[0];
        record.uploads.push(Upload {
            query,
            part: String::from_utf8_lossy(head).trim().to_owned(),
            content: part[head.len() + 4..part.len() - 2].to_vec(),
        });
        (self.on_job)(request, record).unwrap_or_else(|| Reply::json(201, &json!({})))
    }
}

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest
        .windows(separator.len())
        .position(|window| window == separator)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

/// CRC-32 (IEEE), bit by bit: not the code that is tested.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

/// A payload as GitLab sends it, without a repository.
pub(crate) fn payload(id: i64, script: &[&str]) -> Value {
    json!({
        "id": id, "token": format!("job-token-{id}"), "allow_git_fetch": true,
        "job_info": {"name": "build", "stage": "test", "project_id": 7, "project_name": "p"},
        "git_info": {
            "repo_url": format!("http://gitlab-ci-token:job-token-{id}@gitlab.example/g/p.git"),
            "ref": "main", "sha": "0123456789abcdef0123456789abcdef01234567",
            "before_sha": "0".repeat(40), "ref_type": "branch", "depth": 20,
            "refspecs": ["+refs/heads/main:refs/remotes/origin/main"],
        },
        "runner_info": {"timeout": 3600, "runner_session_url": null},
        "variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
        "steps": [{
            "name": "script", "script": script, "timeout": 3600, "when": "on_success", "allow_failure": false,
        }],
        "image": null, "services": [], "artifacts": [], "cache": [], "credentials": [],
        "dependencies": [], "unknown": {"a": [1]},
        "features": {"trace_sections": true, "token_mask_prefixes": [], "failure_reasons": ["unknown_failure"]},
    })
}

/// Adds an element to a list of a payload.
pub(crate) fn add(mut payload: Value, list: &str, element: Value) -> Value {
    payload[list].as_array_mut().expect("a list").push(element);
    payload
}

/// Adds a variable.
pub(crate) fn variable(payload: Value, key: &str, value: &str) -> Value {
    add(payload, "variables", json!({"key": key, "value": value}))
}

/// Adds an `after_script`.
pub(crate) fn after_script(payload: Value, script: &[&str]) -> Value {
    add(
        payload,
        "steps",
        json!({"name": "after_script", "script": script}),
    )
}
