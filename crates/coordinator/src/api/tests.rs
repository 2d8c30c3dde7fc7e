//! The wire, spoken as a runner speaks it, on a router with a real queue, store and files.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use courser_pipeline::{JobArtifacts, JobWhen, Pipeline, PipelineJob, Workflow};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::payload::ServerFacts;
use crate::project::Project;
use crate::queue::{Queue, QueueParts};
use crate::repository::{Origin, ServedRepository};
use crate::settings::NewPipeline;
use crate::store::{Durability, Store};

const REGISTRATION: &str = "registration-token";
const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

struct World {
    api: Api,
    clock: Arc<AtomicI64>,
    dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

fn job(name: &str, stage: &str) -> PipelineJob {
    PipelineJob {
        name: name.to_owned(),
        stage: stage.to_owned(),
        script: vec!["echo hi".to_owned()],
        ..PipelineJob::default()
    }
}

fn pipeline(jobs: Vec<PipelineJob>) -> NewPipeline {
    let mut stages: Vec<String> = Vec::new();
    for job in &jobs {
        if !stages.contains(&job.stage) {
            stages.push(job.stage.clone());
        }
    }
    NewPipeline {
        project_variables: Vec::new(),
        beforehand: Default::default(),
        project_id: 1,
        pipeline: Pipeline {
            workflow: Workflow {
                created: true,
                ..Workflow::default()
            },
            stages,
            jobs,
            warnings: Vec::new(),
            not_run_here: Vec::new(),
        },
        ref_name: "main".to_owned(),
        tag: false,
        sha: SHA.to_owned(),
        before_sha: "0".repeat(40),
        predefined: Default::default(),
        variables: Vec::new(),
    }
}

impl World {
    fn new() -> Self {
        Self::with_hold(job_request::HOLD)
    }

    fn with_hold(hold: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(1_800_000_000));
        let api = Self::open(&dir, &clock, hold);
        Self { api, clock, dir }
    }

    fn open(dir: &tempfile::TempDir, clock: &Arc<AtomicI64>, hold: Duration) -> Api {
        let files = StateDir::create(&dir.path().join("state"), Durability::Durable).unwrap();
        let store = Store::open(&files.database(), Durability::Durable).unwrap();
        let version = watch::Sender::new(0);
        let events = broadcast::Sender::new(64);
        let time = Arc::clone(clock);
        let mut queue = Queue::load(QueueParts {
            store,
            files: files.clone(),
            clock: Arc::new(move || {
                jiff::Timestamp::from_second(time.load(Ordering::Relaxed)).unwrap()
            }),
            server: ServerFacts {
                url: "https://127.0.0.1:8443/".parse().unwrap(),
                default_timeout: 3600,
            },
            version: version.clone(),
            events: events.clone(),
            bridges: tokio::sync::mpsc::unbounded_channel().0,
        })
        .unwrap();
        let repository =
            ServedRepository::create(&dir.path().join("git"), &Origin::default()).unwrap();
        queue.add_project(Project {
            id: 1,
            path: "group/project".to_owned(),
            repository,
        });
        let (queue, _thread) = QueueHandle::start(queue).unwrap();
        Api::new(Parts {
            queue,
            files,
            hosts: vec![
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                "::1".to_owned(),
            ],
            registration_token: REGISTRATION.into(),
            pipelines: None,
            limits: Limits {
                trace: 64,
                artifact: 1024,
            },
            hold,
            version,
            events,
            shutdown: CancellationToken::new(),
        })
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Answer {
        let request = request.body(body.into()).unwrap();
        let response = self.api.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    async fn call(&self, method: &str, path: &str, token: (&str, &str), body: Value) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v4/{path}"))
            .header("host", "127.0.0.1:8443")
            .header(token.0, token.1)
            .header("content-type", "application/json");
        self.send(request, body.to_string()).await
    }

    async fn runner(&self, tags: &str) -> String {
        let body = json!({"token": REGISTRATION, "tag_list": tags, "run_untagged": tags.is_empty(), "info": {}});
        let answer = self
            .call("POST", "runners", ("runner-token", REGISTRATION), body)
            .await;
        assert_eq!(answer.status, 201);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    async fn create(&self, jobs: Vec<PipelineJob>) -> i64 {
        crate::coordinator::create_pipeline(&self.api.queue, pipeline(jobs))
            .await
            .unwrap()
    }

    async fn ask(&self, runner: &str) -> Answer {
        self.ask_since(runner, "").await
    }

    async fn ask_since(&self, runner: &str, last_update: &str) -> Answer {
        let features =
            json!({"two_phase_job_commit": true, "cancel_gracefully": true, "trace_reset": true});
        let body = json!({"token": runner, "system_id": "s_0123456789ab", "last_update": last_update,
                          "info": {"features": features}});
        self.call("POST", "jobs/request", ("runner-token", runner), body)
            .await
    }

    /// Takes the next job and acknowledges it: id and token.
    async fn take(&self, runner: &str) -> (i64, String) {
        let answer = self.ask(runner).await;
        assert_eq!(
            answer.status,
            201,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        let payload = answer.json();
        let (id, token) = (
            payload["id"].as_i64().unwrap(),
            payload["token"].as_str().unwrap().to_owned(),
        );
        assert_eq!(
            self.put(id, &token, json!({"state": "running"}))
                .await
                .status,
            200
        );
        (id, token)
    }

    async fn put(&self, job: i64, token: &str, body: Value) -> Answer {
        let mut body = body;
        body["info"] = json!({"features": {"trace_reset": true}});
        self.call("PUT", &format!("jobs/{job}"), ("job-token", token), body)
            .await
    }

    async fn patch(&self, job: i64, token: &str, start: usize, text: &str) -> Answer {
        let request = http::Request::builder()
            .method("PATCH")
            .uri(format!("/api/v4/jobs/{job}/trace?debug_trace=false"))
            .header("host", "localhost")
            .header("job-token", token)
            .header("content-type", "text/plain")
            .header(
                "content-range",
                format!("{start}-{}", start + text.len() - 1),
            );
        self.send(request, text.to_owned()).await
    }

    async fn upload(
        &self,
        job: i64,
        token: &str,
        query: &str,
        name: &str,
        content: &[u8],
    ) -> Answer {
        let mut body = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--XX--\r\n");
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("/api/v4/jobs/{job}/artifacts?{query}"))
            .header("host", "localhost")
            .header("job-token", token)
            .header("content-type", "multipart/form-data; boundary=XX");
        self.send(request, body).await
    }

    fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn tick(&self) {
        self.api
            .queue
            .call(|queue| queue.tick().unwrap())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_runner_registers_verifies_rotates_its_token_and_leaves() {
    let world = World::new();
    let wrong = world
        .call(
            "POST",
            "runners",
            ("runner-token", "no"),
            json!({"token": "no"}),
        )
        .await;
    assert_eq!(
        (wrong.status, wrong.json()),
        (403, json!({"message": "403 Forbidden"}))
    );

    let token = world.runner("a,b").await;
    assert!(token.starts_with("glrt-"));
    let header = ("runner-token", token.as_str());
    let verified = world
        .call("POST", "runners/verify", header, json!({"token": token}))
        .await;
    assert_eq!(
        (verified.status, verified.json()["id"].clone()),
        (200, json!(1))
    );
    assert_eq!(verified.header("content-type"), "application/json");

    let path = "runners/reset_authentication_token";
    let reset = world
        .call("POST", path, ("x", "x"), json!({"token": token}))
        .await;
    assert_eq!(reset.status, 201);
    let fresh = reset.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(
        world
            .call("POST", "runners/verify", header, json!({"token": token}))
            .await
            .status,
        403
    );

    let private = world.api.private_token();
    let by_id = "runners/1/reset_authentication_token";
    let answer = world
        .call(
            "POST",
            by_id,
            ("private-token", private.expose()),
            Value::Null,
        )
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(
        world
            .call("POST", by_id, ("private-token", "no"), Value::Null)
            .await
            .status,
        401
    );
    let fresher = answer.json()["token"].as_str().unwrap().to_owned();
    assert_ne!(fresh, fresher);

    let manager = json!({"token": fresher, "system_id": "s_0123456789ab"});
    let path = "runners/managers";
    assert_eq!(
        world
            .call("DELETE", path, ("runner-token", &fresher), manager)
            .await
            .status,
        204
    );
    let header = ("runner-token", fresher.as_str());
    assert_eq!(
        world
            .call("DELETE", "runners", header, json!({"token": fresher}))
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .call("DELETE", "runners", header, json!({"token": fresher}))
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn a_job_is_reserved_acknowledged_logged_and_finished() {
    let world = World::new();
    let runner = world.runner("").await;
    let id = world
        .create(vec![job("build", "build"), job("test", "test")])
        .await;
    let asked = world.ask(&runner).await;
    assert_eq!(asked.status, 201);
    assert_eq!(asked.header("x-gitlab-last-update"), "");
    let payload = courser_protocol::JobResponse::from_json(&asked.body).unwrap();
    assert_eq!(
        (payload.job_info.name.as_str(), payload.job_info.pipeline_id),
        ("build", id)
    );
    let token = payload.token.expose().to_owned();

    // Final states do not fit a job that was not acknowledged; a reservation can be renewed.
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "success"}))
            .await
            .status,
        400
    );
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "pending"}))
            .await
            .status,
        200
    );
    let started = world
        .put(payload.id, &token, json!({"state": "running"}))
        .await;
    assert_eq!(
        (started.status, started.header("job-status")),
        (200, "running")
    );
    assert_eq!(started.json(), json!("200"));
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "pending"}))
            .await
            .status,
        409
    );
    assert_eq!(
        world
            .put(payload.id, &token, json!({"state": "sleeping"}))
            .await
            .status,
        400
    );

    let patched = world.patch(payload.id, &token, 0, "hello ").await;
    assert_eq!(
        (
            patched.status,
            patched.header("range"),
            patched.header("job-status")
        ),
        (202, "0-6", "running")
    );
    assert_eq!(patched.header("x-gitlab-trace-update-interval"), "60");
    for start in [0, 7, 100] {
        let mismatch = world.patch(payload.id, &token, start, "hello ").await;
        assert_eq!((mismatch.status, mismatch.header("range")), (416, "0-6"));
    }
    assert_eq!(
        world.patch(payload.id, &token, 6, "world\n").await.status,
        202
    );

    let output = json!({"checksum": "crc32:af083b2d", "bytesize": 12});
    let ended = world
        .put(
            payload.id,
            &token,
            json!({"state": "success", "output": output}),
        )
        .await;
    assert_eq!((ended.status, ended.header("job-status")), (200, "success"));
    let path = world
        .dir
        .path()
        .join(format!("state/traces/{}.log", payload.id));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "hello world\n");

    // What comes after the end is told to stop.
    let late = world.patch(payload.id, &token, 12, "x").await;
    assert_eq!((late.status, late.header("job-status")), (403, "success"));
    let late = world
        .put(payload.id, &token, json!({"state": "success"}))
        .await;
    assert_eq!((late.status, late.header("job-status")), (403, "success"));
    assert_eq!(world.ask(&runner).await.json()["job_info"]["name"], "test");
}

#[tokio::test]
async fn a_log_that_does_not_match_its_checksum_is_asked_for_once_more() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("build", "build")]).await;
    let (id, token) = world.take(&runner).await;
    world.patch(id, &token, 0, "damaged").await;
    let last = json!({"state": "success", "output": {"checksum": "crc32:00000001", "bytesize": 7}});
    assert_eq!(world.put(id, &token, last.clone()).await.status, 412);
    let again = world.patch(id, &token, 0, "whole").await;
    assert_eq!((again.status, again.header("range")), (202, "0-5"));
    // A runner that insists is believed.
    assert_eq!(world.put(id, &token, last).await.status, 200);
}

#[tokio::test]
async fn a_final_update_waits_while_the_log_is_being_written() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("build", "build")]).await;
    let (id, token) = world.take(&runner).await;
    let trace = world.api.trace_file(id).await.unwrap();
    let writing = trace.lock().await;
    let last = json!({"state": "success", "output": {"checksum": "crc32:00000000"}});
    let waits = world.put(id, &token, last.clone()).await;
    assert_eq!(
        (waits.status, waits.header("x-gitlab-trace-update-interval")),
        (202, "1")
    );
    drop(writing);
    assert_eq!(world.put(id, &token, last).await.status, 200);
}

#[tokio::test]
async fn a_log_larger_than_allowed_drops_the_job() {
    let world = World::new();
    let runner = world.runner("").await;
    let pipeline = world.create(vec![job("build", "build")]).await;
    let (id, token) = world.take(&runner).await;
    let dropped = world.patch(id, &token, 0, &"x".repeat(65)).await;
    assert_eq!(
        (dropped.status, dropped.header("job-status")),
        (403, "failed")
    );
    let snapshot = world
        .api
        .queue
        .call(move |queue| queue.snapshot(pipeline).unwrap().unwrap())
        .await
        .unwrap();
    assert_eq!(snapshot.status, crate::PipelineStatus::Failed);
    assert_eq!(
        snapshot.jobs[0].end.failure_reason.as_deref(),
        Some("trace_size_exceeded")
    );
}

#[tokio::test]
async fn wrong_tokens_and_unknown_jobs_get_the_same_403() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("a", "s"), job("b", "s")]).await;
    let (first, _) = world.take(&runner).await;
    let (_, other_token) = world.take(&runner).await;
    for (id, token) in [
        (first, "wrong"),
        (first, other_token.as_str()),
        (999, other_token.as_str()),
    ] {
        for answer in [
            world.put(id, token, json!({"state": "running"})).await,
            world.patch(id, token, 0, "x").await,
            world.upload(id, token, "", "a.zip", b"x").await,
            world
                .call(
                    "GET",
                    &format!("jobs/{id}/artifacts"),
                    ("job-token", token),
                    Value::Null,
                )
                .await,
        ] {
            assert_eq!((answer.status, answer.header("job-status")), (403, ""));
        }
    }
    assert_eq!(world.ask("glrt-unknown").await.status, 403);
}

#[tokio::test]
async fn without_a_token_nothing_is_read_of_what_is_sent() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("a", "s")]).await;
    let (job, _) = world.take(&runner).await;
    for (method, path) in [("PATCH", "trace"), ("POST", "artifacts")] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v4/jobs/{job}/{path}"))
            .header("host", "localhost")
            .header("job-token", "wrong")
            .header("content-range", "0-9")
            .header("content-type", "multipart/form-data; boundary=b");
        let never = futures_util::stream::pending::<std::io::Result<axum::body::Bytes>>();
        let answer = world.send(request, Body::from_stream(never)).await;
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[tokio::test]
async fn logs_of_silent_runners_do_not_stay_open() {
    let world = World::new();
    let in_use = world.api.trace_file(0).await.unwrap();
    for job in 1..2 * OPEN_TRACES as i64 {
        drop(world.api.trace_file(job).await.unwrap());
    }
    let open = world.api.open_traces();
    assert!(open.len() <= OPEN_TRACES, "{}", open.len());
    assert!(Arc::ptr_eq(&open[&0], &in_use));
}

#[tokio::test]
async fn a_job_that_is_not_acknowledged_in_two_minutes_is_handed_out_again() {
    let world = World::new();
    let runner = world.runner("").await;
    world.create(vec![job("build", "build")]).await;
    let first = world.ask(&runner).await.json();
    assert_eq!(world.ask(&runner).await.status, 204);
    world.pass(119);
    world.tick().await;
    assert_eq!(world.ask(&runner).await.status, 204);
    world.pass(2);
    world.tick().await;
    assert_eq!(world.ask(&runner).await.json()["id"], first["id"]);
}

#[tokio::test]
async fn a_waiting_request_is_answered_as_soon_as_a_job_is_pending() {
    let world = Arc::new(World::new());
    let runner = world.runner("").await;
    let idle = world.ask(&runner).await;
    assert_eq!(idle.status, 204);
    let seen = idle.header("x-gitlab-last-update").to_owned();
    assert!(!seen.is_empty());
    let mut tasks = tokio::task::JoinSet::new();
    {
        let (world, runner) = (Arc::clone(&world), runner.clone());
        tasks.spawn(async move { world.ask_since(&runner, &seen).await });
    }
    // The request is in the queue's hands once it has subscribed.
    while world.api.version.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    world.create(vec![job("build", "build")]).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), tasks.join_next()).await;
    assert_eq!(answer.unwrap().unwrap().unwrap().status, 201);
    // A value that is not the current one is answered at once.
    assert_eq!(world.ask_since(&runner, "older").await.status, 204);
}

#[tokio::test]
async fn a_waiting_request_ends_after_its_time_with_the_same_value() {
    let world = World::with_hold(Duration::from_millis(20));
    let runner = world.runner("").await;
    let seen = world
        .ask(&runner)
        .await
        .header("x-gitlab-last-update")
        .to_owned();
    let held = world.ask_since(&runner, &seen).await;
    assert_eq!(
        (held.status, held.header("x-gitlab-last-update")),
        (204, seen.as_str())
    );
}

#[tokio::test]
async fn tags_decide_who_gets_a_job() {
    let world = World::new();
    let (plain, docker) = (world.runner("").await, world.runner("docker,linux").await);
    let tagged = PipelineJob {
        tags: vec!["docker".to_owned()],
        ..job("tagged", "s")
    };
    world.create(vec![tagged, job("untagged", "s")]).await;
    assert_eq!(
        world.ask(&plain).await.json()["job_info"]["name"],
        "untagged"
    );
    assert_eq!(world.ask(&plain).await.status, 204);
    assert_eq!(
        world.ask(&docker).await.json()["job_info"]["name"],
        "tagged"
    );
    assert_eq!(world.ask(&docker).await.status, 204);
}

#[tokio::test]
async fn a_cancel_reaches_the_runner_and_the_log_may_still_be_sent() {
    let world = World::new();
    let runner = world.runner("").await;
    let pipeline = world
        .create(vec![job("build", "build"), job("test", "test")])
        .await;
    let (id, token) = world.take(&runner).await;
    let cancel = crate::pipeline_run::Event::Cancel;
    world
        .api
        .queue
        .call(move |queue| queue.apply(pipeline, cancel))
        .await
        .unwrap()
        .unwrap();
    let patched = world.patch(id, &token, 0, "after_script").await;
    assert_eq!(
        (patched.status, patched.header("job-status")),
        (202, "canceling")
    );
    let alive = world.put(id, &token, json!({"state": "running"})).await;
    assert_eq!(
        (alive.status, alive.header("job-status")),
        (200, "canceling")
    );
    let last = json!({"state": "failed", "failure_reason": "job_canceled"});
    let ended = world.put(id, &token, last).await;
    assert_eq!(
        (ended.status, ended.header("job-status")),
        (200, "canceled")
    );
    assert_eq!(world.ask(&runner).await.status, 204);
}

#[tokio::test]
async fn artifacts_go_up_and_come_down_to_the_jobs_that_need_them() {
    let world = World::new();
    let runner = world.runner("").await;
    let build = PipelineJob {
        artifacts: Some(JobArtifacts {
            paths: vec!["out".into()],
            ..JobArtifacts::default()
        }),
        ..job("build", "build")
    };
    world.create(vec![build, job("test", "test")]).await;
    let (id, token) = world.take(&runner).await;
    let query = "artifact_format=zip&artifact_type=archive&expire_in=7d";
    assert_eq!(
        world
            .upload(id, &token, query, "../out.zip", b"PK content")
            .await
            .status,
        201
    );
    assert_eq!(
        world
            .upload(id, &token, query, "big.zip", &[0; 1025])
            .await
            .status,
        413
    );
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("/api/v4/jobs/{id}/artifacts"))
        .header("host", "localhost")
        .header("job-token", &token)
        .header("content-type", "multipart/form-data; boundary=XX");
    assert_eq!(world.send(request, "--XX--\r\n").await.status, 400);
    let dotenv = "artifact_type=dotenv&artifact_format=raw";
    assert_eq!(
        world
            .upload(id, &token, dotenv, ".env", b"FROM_BUILD=yes\n")
            .await
            .status,
        201
    );
    assert_eq!(
        world
            .upload(id, &token, dotenv, ".env", b"not a line\n")
            .await
            .status,
        400
    );
    world.put(id, &token, json!({"state": "success"})).await;

    let payload = world.ask(&runner).await.json();
    let dependency = &payload["dependencies"][0];
    assert_eq!(
        dependency["artifacts_file"],
        json!({"filename": "out.zip", "size": 10})
    );
    let variables = payload["variables"].as_array().unwrap();
    assert!(
        variables
            .iter()
            .any(|v| v["key"] == "FROM_BUILD" && v["value"] == "yes")
    );
    let path = format!("jobs/{}/artifacts?direct_download=true", dependency["id"]);
    let given = dependency["token"].as_str().unwrap();
    let down = world
        .call("GET", &path, ("job-token", given), Value::Null)
        .await;
    assert_eq!(
        (down.status, down.body.as_slice()),
        (200, b"PK content".as_slice())
    );
    let own = payload["token"].as_str().unwrap();
    let path = format!("jobs/{}/artifacts", payload["id"]);
    assert_eq!(
        world
            .call("GET", &path, ("job-token", own), Value::Null)
            .await
            .status,
        404
    );
    // Nothing was left half-written.
    let dir = world.dir.path().join(format!("state/artifacts/{id}"));
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [".env", "out.zip"]);
}

#[tokio::test]
async fn only_known_hosts_are_answered_and_unknown_calls_are_named() {
    let world = World::new();
    for (host, status) in [
        ("localhost", 501),
        ("127.0.0.1:8443", 501),
        ("[::1]:8443", 501),
        ("LOCALHOST:1", 501),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ] {
        let request = http::Request::builder()
            .uri("/api/v4/user")
            .header("host", host);
        let answer = world.send(request, "").await;
        assert_eq!(answer.status, status, "{host}");
    }
    let request = http::Request::builder()
        .uri("/api/v4/user")
        .header("host", "localhost");
    let message = world.send(request, "").await.json()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        message,
        "GET /api/v4/user is not part of Courser's coordinator"
    );
    let discovery = world
        .call("GET", "runners/router/discovery", ("x", "x"), Value::Null)
        .await;
    assert_eq!(discovery.status, 501);
    assert_eq!(
        world
            .call("GET", "jobs/request", ("x", "x"), Value::Null)
            .await
            .status,
        501
    );
}

#[tokio::test]
async fn a_restart_takes_up_where_the_former_process_was_killed() {
    let world = World::new();
    let runner = world.runner("").await;
    let later = PipelineJob {
        when: JobWhen::Always,
        ..job("later", "test")
    };
    world
        .create(vec![job("build", "build"), job("lint", "build"), later])
        .await;
    let (id, token) = world.take(&runner).await;
    world.patch(id, &token, 0, "hello ").await;
    let World { api, clock, dir } = world;
    // The store of the first process stays open: nothing was closed in an orderly way.
    let second = World {
        api: World::open(&dir, &clock, job_request::HOLD),
        clock,
        dir,
    };
    let resumed = second.patch(id, &token, 0, "hello ").await;
    assert_eq!((resumed.status, resumed.header("range")), (416, "0-6"));
    assert_eq!(second.patch(id, &token, 6, "world\n").await.status, 202);
    let output = json!({"checksum": "crc32:af083b2d", "bytesize": 12});
    let last = json!({"state": "success", "output": output});
    assert_eq!(second.put(id, &token, last).await.status, 200);
    let next = second.take(&runner).await;
    second
        .put(next.0, &next.1, json!({"state": "success"}))
        .await;
    assert_eq!(
        second.ask(&runner).await.json()["job_info"]["name"],
        "later"
    );
    let new = second.create(vec![job("fresh", "s")]).await;
    assert_eq!(new, 2);
    drop(api);
}

#[tokio::test]
async fn a_retry_is_a_new_job_with_a_new_token() {
    let world = World::new();
    let runner = world.runner("").await;
    let flaky = PipelineJob {
        retry: Some(json!({"max": 1, "when": ["script_failure"]})),
        ..job("flaky", "s")
    };
    world.create(vec![flaky]).await;
    let (first, first_token) = world.take(&runner).await;
    let failed = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 1});
    let ended = world.put(first, &first_token, failed).await;
    assert_eq!((ended.status, ended.header("job-status")), (200, "failed"));
    let (second, second_token) = world.take(&runner).await;
    assert!(second != first && second_token != first_token);
    let late = world.patch(first, &first_token, 0, "x").await;
    assert_eq!((late.status, late.header("job-status")), (403, "failed"));
    assert_eq!(
        world
            .put(second, &second_token, json!({"state": "success"}))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_payload_has_variables_in_order_steps_caches_and_sources() {
    let world = World::new();
    let runner = world.runner("").await;
    let variable = |key: &str, value: &str| courser_pipeline::YamlVariable {
        key: key.to_owned(),
        value: value.to_owned(),
        raw: false,
    };
    let cache = courser_pipeline::JobCache {
        key: courser_pipeline::CacheKey::Text("deps".to_owned()),
        paths: vec!["vendor".to_owned()],
        untracked: false,
        policy: "pull-push".to_owned(),
        when: "on_success".to_owned(),
        unprotect: false,
        fallback_keys: vec!["old".to_owned()],
    };
    let build = PipelineJob {
        before_script: vec!["prepare".to_owned()],
        after_script: vec!["tidy".to_owned()],
        variables: vec![
            variable("A", "yaml"),
            variable("B", "$A and $CI_JOB_NAME"),
            variable("GIT_DEPTH", "0"),
        ],
        cache: vec![cache],
        image: Some(json!({
            "name": "alpine", "docker": {"user": 7, "platform": "linux/arm64"}, "pull_policy": "always",
            "entrypoint": ["/e"], "kubernetes": {"user": "1:2"},
        })),
        services: vec![
            json!({
                "name": "pg", "alias": "db, pg", "command": ["-c"], "entrypoint": [""], "ports": [5432],
                "pull_policy": ["never", "always"], "variables": {"A": "1"}, "docker": {"user": "pg"},
            }),
            json!({"name": "redis"}),
        ],
        timeout: Some(60),
        ..job("build", "build")
    };
    let mut new = pipeline(vec![build]);
    new.variables = vec![crate::variables::public("A", "given")];
    crate::coordinator::create_pipeline(&world.api.queue, new)
        .await
        .unwrap();
    let payload = world.ask(&runner).await.json();
    let value = |key: &str| {
        let variables = payload["variables"].as_array().unwrap();
        variables
            .iter()
            .rfind(|v| v["key"] == key)
            .map_or(Value::Null, |v| v["value"].clone())
    };
    assert_eq!(value("A"), "given");
    assert_eq!(value("B"), "given and build");
    assert_eq!(value("CI_JOB_TOKEN"), payload["token"]);
    assert_eq!(value("CI_API_V4_URL"), "https://127.0.0.1:8443/api/v4");
    assert_eq!(value("CI_COMMIT_BRANCH"), "main");
    assert_eq!(payload["steps"][0]["script"], json!(["prepare", "echo hi"]));
    assert_eq!(payload["steps"][1]["when"], "always");
    assert_eq!(payload["cache"][0]["key"], "deps-non_protected");
    assert_eq!(
        payload["cache"][0]["fallback_keys"],
        json!(["old-non_protected"])
    );
    assert_eq!(
        payload["image"],
        json!({
            "name": "alpine", "entrypoint": ["/e"], "pull_policy": ["always"],
            "executor_opts": {
                "docker": {"platform": "linux/arm64", "user": "7"}, "kubernetes": {"user": "1:2"},
            },
        })
    );
    let service = &payload["services"][0];
    assert_eq!(
        (&service["name"], &service["alias"]),
        (&json!("pg"), &json!("db, pg"))
    );
    assert_eq!(
        (&service["command"], &service["entrypoint"]),
        (&json!(["-c"]), &json!([""]))
    );
    assert_eq!(service["ports"][0]["number"], 5432);
    assert_eq!(service["pull_policy"], json!(["never", "always"]));
    assert_eq!(service["executor_opts"], json!({"docker": {"user": "pg"}}));
    let variable = &service["variables"][0];
    assert_eq!(
        (&variable["key"], &variable["value"]),
        (&json!("A"), &json!("1"))
    );
    assert_eq!(
        payload["services"][1],
        json!({"name": "redis", "executor_opts": {}})
    );
    assert_eq!(payload["runner_info"]["timeout"], 60);
    assert_eq!(payload["git_info"]["depth"], 0);
    assert_eq!(
        payload["git_info"]["refspecs"][1],
        "+refs/heads/*:refs/remotes/origin/*"
    );
}

#[tokio::test]
async fn every_predefined_variable_of_gitlab_is_there_and_values_that_name_them_are_expanded() {
    let world = World::new();
    let runner = world.runner("").await;
    let mut named = job("say $x", "build");
    let variable = |key: &str, value: &str| courser_pipeline::YamlVariable {
        key: key.to_owned(),
        value: value.to_owned(),
        raw: false,
    };
    named.variables = vec![
        variable("IMAGE", "$CI_REGISTRY_IMAGE:$CI_COMMIT_REF_SLUG"),
        variable("NAMED", "<$CI_JOB_NAME>"),
    ];
    world.create(vec![named]).await;
    let payload = world.ask(&runner).await.json();
    let value = |key: &str| {
        let variables = payload["variables"].as_array().unwrap();
        let of_name = variables
            .iter()
            .rev()
            .find(|variable| variable["key"] == key);
        of_name.map(|variable| variable["value"].as_str().unwrap().to_owned())
    };
    // `gitlab-ci-yaml.md` 18, without those that exist for some pipelines only.
    for key in "CI GITLAB_CI CI_SERVER CI_SERVER_URL CI_SERVER_HOST CI_SERVER_FQDN CI_SERVER_PORT \
         CI_SERVER_PROTOCOL CI_SERVER_NAME CI_SERVER_VERSION CI_SERVER_VERSION_MAJOR \
         CI_SERVER_VERSION_MINOR CI_SERVER_VERSION_PATCH CI_SERVER_REVISION CI_SERVER_SHELL_SSH_HOST \
         CI_SERVER_SHELL_SSH_PORT CI_API_V4_URL CI_API_GRAPHQL_URL CI_TEMPLATE_REGISTRY_HOST \
         CI_PAGES_DOMAIN CI_PAGES_URL CI_REGISTRY CI_REGISTRY_IMAGE CI_REGISTRY_USER \
         CI_REGISTRY_PASSWORD CI_PROJECT_ID CI_PROJECT_NAME CI_PROJECT_PATH CI_PROJECT_PATH_SLUG \
         CI_PROJECT_NAMESPACE CI_PROJECT_NAMESPACE_ID CI_PROJECT_NAMESPACE_SLUG \
         CI_PROJECT_ROOT_NAMESPACE CI_PROJECT_URL CI_PROJECT_TITLE CI_PROJECT_VISIBILITY \
         CI_DEFAULT_BRANCH CI_CONFIG_PATH CI_CONFIG_REF_URI CI_PIPELINE_ID CI_PIPELINE_IID \
         CI_PIPELINE_URL CI_PIPELINE_SOURCE CI_PIPELINE_CREATED_AT CI_COMMIT_SHA \
         CI_COMMIT_SHORT_SHA CI_COMMIT_BEFORE_SHA CI_COMMIT_REF_NAME CI_COMMIT_REF_SLUG \
         CI_COMMIT_BRANCH CI_JOB_ID CI_JOB_NAME CI_JOB_NAME_SLUG CI_JOB_GROUP_NAME CI_JOB_STAGE \
         CI_JOB_TOKEN CI_JOB_URL CI_JOB_STARTED_AT CI_NODE_TOTAL CI_REPOSITORY_URL CI_RUNNER_ID \
         CI_RUNNER_TAGS GITLAB_USER_ID GITLAB_USER_LOGIN GITLAB_USER_NAME GITLAB_USER_EMAIL"
        .split_whitespace()
    {
        assert!(value(key).is_some_and(|value| !value.is_empty()), "{key}");
    }
    let image = "registry.127.0.0.1/group/project:main";
    assert_eq!(value("IMAGE").as_deref(), Some(image));
    // A name with a `$` of its own is left to the runner, which does not look into it.
    assert_eq!(value("NAMED").as_deref(), Some("<$CI_JOB_NAME>"));
    assert_eq!(value("CI_JOB_NAME").as_deref(), Some("say $x"));
}
