//! The wire, spoken as a runner speaks it, on a router with a real queue, store and files.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use courser_pipeline::{JobArtifacts, JobWhen, Pipeline, PipelineJob, Workflow};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::oidc::OidcSettings;
use crate::payload::ServerFacts;
use crate::project::Project;
use crate::queue::{Queue, QueueParts};
use crate::repository::{Origin, ServedRepository};
use crate::settings::NewPipeline;
use crate::store::{Durability, Store};

mod artifacts;
mod job_requests;
mod jobs;
mod payload;
mod registration;
mod secrets;
mod trace;

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
        let settings = OidcSettings::new(dir.path().join("oidc/keys.json"));
        let issuer = Arc::new(Issuer::new(
            settings,
            &"https://127.0.0.1:8443/".parse().unwrap(),
        ));
        let now: Clock =
            Arc::new(move || jiff::Timestamp::from_second(time.load(Ordering::Relaxed)).unwrap());
        let mut queue = Queue::load(QueueParts {
            store,
            files: files.clone(),
            clock: Arc::clone(&now),
            server: ServerFacts {
                url: "https://127.0.0.1:8443/".parse().unwrap(),
                default_timeout: 3600,
                issuer: Arc::clone(&issuer),
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
            issuer,
            clock: now,
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
