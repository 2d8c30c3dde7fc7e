//! Real Git fetches from a running coordinator over TLS, with nothing but the throw-away root to trust.

#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use courser_coordinator::{
    Certificate, Coordinator, Durability, Handle, Limits, NewPipeline, Origin, Project,
    ServedRepository, Settings,
};
use courser_net::{Body, Call, Client, ClientSettings, ProxySettings, SystemRoots, TrustSettings};
use courser_pipeline::{Pipeline, PipelineJob, Workflow};

struct World {
    directory: tempfile::TempDir,
    coordinator: Handle,
    commit: String,
}

impl World {
    /// A coordinator whose project borrows from a repository with one commit.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q", "-b", "main"]);
        std::fs::write(source.join("file"), "content").unwrap();
        git(&source, &["add", "-A"]);
        git(&source, &["commit", "-q", "-m", "first"]);
        let commit = text(&git(&source, &["rev-parse", "HEAD"]).stdout);
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            external_host: None,
            certificate: Certificate::Generated,
            state_dir: directory.path().join("state"),
            durability: Durability::Scratch,
            registration_token: None,
            pipelines: None,
            limits: Limits::default(),
            default_timeout: 3600,
            clock: Arc::new(jiff::Timestamp::now),
        };
        let coordinator = Coordinator::start(settings).await.unwrap();
        std::fs::write(
            directory.path().join("root.crt"),
            coordinator.root_pem().unwrap(),
        )
        .unwrap();
        let origin = Origin {
            objects: Some(source.join(".git/objects")),
            ..Origin::default()
        };
        let repository =
            ServedRepository::create(&directory.path().join("served.git"), &origin).unwrap();
        let project = Project {
            id: 1,
            path: "group/project".to_owned(),
            repository,
        };
        coordinator.add_project(project).await.unwrap();
        Self {
            directory,
            coordinator,
            commit,
        }
    }

    async fn create_pipeline(&self) {
        let job = PipelineJob {
            name: "build".to_owned(),
            stage: "build".to_owned(),
            script: vec!["true".to_owned()],
            ..PipelineJob::default()
        };
        let new = NewPipeline {
            project_id: 1,
            pipeline: Pipeline {
                workflow: Workflow {
                    created: true,
                    ..Workflow::default()
                },
                stages: vec!["build".to_owned()],
                jobs: vec![job],
                warnings: Vec::new(),
                not_run_here: Vec::new(),
            },
            ref_name: "main".to_owned(),
            tag: false,
            sha: self.commit.clone(),
            before_sha: "0".repeat(40),
            predefined: Default::default(),
            variables: Vec::new(),
        };
        self.coordinator.create_pipeline(new).await.unwrap();
    }

    /// Takes the job as a runner does, over HTTPS, and returns its payload.
    async fn take_job(&self) -> serde_json::Value {
        let token = self.coordinator.create_runner("test").await.unwrap();
        let client = Client::new(ClientSettings {
            trust: TrustSettings {
                system: SystemRoots::None,
                ca_file: Some(self.path("root.crt")),
                cert_file: None,
                key_file: None,
                certificate_directory: None,
                inline_ca: None,
            },
            proxy: ProxySettings::default(),
            user_agent: "test".to_owned(),
            connection_max_age: std::time::Duration::ZERO,
        });
        let url = self.coordinator.url().join("api/v4/jobs/request").unwrap();
        let mut call = Call::new(http::Method::POST, url);
        let body = serde_json::json!({"token": token.expose(), "info": {}}).to_string();
        call.body = Body::Bytes(body.into(), "application/json");
        let answer = client.send(call).await.unwrap();
        assert_eq!(answer.status, 201);
        serde_json::from_slice(&answer.bytes(1 << 20).await.unwrap()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `git fetch` of the payload's refspecs into a new repository.
    fn fetch(&self, into: &str, url: &str, refspecs: &[&str], protocol: u8) -> Output {
        let clone = self.path(into);
        std::fs::create_dir(&clone).unwrap();
        git(&clone, &["init", "-q"]);
        Command::new("git")
            .args([
                "-c",
                &format!("protocol.version={protocol}"),
                "fetch",
                "-q",
                "--depth",
                "20",
                url,
            ])
            .args(refspecs)
            .current_dir(&clone)
            .env("GIT_SSL_CAINFO", self.path("root.crt"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .output()
            .unwrap()
    }
}

fn git(directory: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn refspecs(payload: &serde_json::Value) -> Vec<&str> {
    let refspecs = payload["git_info"]["refspecs"].as_array().unwrap();
    refspecs.iter().map(|spec| spec.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fetches_what_its_payload_names_with_every_protocol_version() {
    let world = World::new().await;
    world.create_pipeline().await;
    let payload = world.take_job().await;
    let url = payload["git_info"]["repo_url"].as_str().unwrap();
    for protocol in [0, 1, 2] {
        let into = format!("clone-{protocol}");
        let fetched = world.fetch(&into, url, &refspecs(&payload), protocol);
        assert!(fetched.status.success(), "{}", text(&fetched.stderr));
        let clone = world.path(&into);
        let sha = payload["git_info"]["sha"].as_str().unwrap();
        git(&clone, &["checkout", "-q", sha]);
        assert_eq!(
            std::fs::read_to_string(clone.join("file")).unwrap(),
            "content"
        );
    }
    // The second of two equal fetches was answered from what the first one left.
    let answers = || {
        std::fs::read_dir(world.path("served.git/courser-answers"))
            .unwrap()
            .count()
    };
    let before = answers();
    assert!(
        world
            .fetch("again", url, &refspecs(&payload), 2)
            .status
            .success()
    );
    assert_eq!(answers(), before);
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_other_projects_and_pushes_are_refused() {
    let world = World::new().await;
    world.create_pipeline().await;
    let payload = world.take_job().await;
    let url = payload["git_info"]["repo_url"].as_str().unwrap();
    let token = payload["token"].as_str().unwrap();
    let anonymous = url.replace(&format!("gitlab-ci-token:{token}@"), "");
    for (number, bad) in [
        url.replace(token, "glcbt-wrong"),
        url.replace("group/project", "group/other"),
        anonymous,
    ]
    .iter()
    .enumerate()
    {
        let refused = world.fetch(&format!("refused-{number}"), bad, &["main"], 2);
        assert!(!refused.status.success(), "case {number}");
    }
    let source = world.path("source");
    let push = Command::new("git")
        .args(["push", "-q", url, "main:refs/heads/new"])
        .current_dir(source)
        .env("GIT_SSL_CAINFO", world.path("root.crt"))
        .output()
        .unwrap();
    assert!(!push.status.success());
    assert!(!world.path("served.git/refs/heads/new").exists());
    world.coordinator.stop().await;
}
