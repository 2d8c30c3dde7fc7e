//! A coordinator with a project, and the programs that others use to speak to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use courser_coordinator::{
    Certificate, Coordinator, Durability, Handle, Limits, NewPipeline, OidcSettings, Origin,
    OwnRunner, Project, ServedRepository, Settings,
};
use courser_net::{
    Body, Call, Client, ClientSettings, Clients, ProxySettings, SystemRoots, TrustSettings,
};
use courser_pipeline::{Pipeline, PipelineJob, Workflow};

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) coordinator: Handle,
    commit: String,
}

impl World {
    /// A coordinator with a pipeline of these jobs, one stage after the other.
    pub(crate) async fn with_jobs(names: &[&str]) -> Self {
        let world = Self::new().await;
        let jobs: Vec<_> = names.iter().map(|name| job(name)).collect();
        world.create_pipeline(jobs).await;
        world
    }

    /// A coordinator whose project borrows from a repository with one commit.
    pub(crate) async fn new() -> Self {
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
            clients: Clients::Anybody,
            state_dir: directory.path().join("state"),
            durability: Durability::Scratch,
            registration_token: None,
            pipelines: None,
            limits: Limits {
                artifact: 1 << 20,
                ..Limits::default()
            },
            default_timeout: 3600,
            oidc: OidcSettings::new(directory.path().join("oidc/keys.json")),
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

    pub(crate) async fn create_pipeline(&self, jobs: Vec<PipelineJob>) -> i64 {
        let new = NewPipeline {
            project_variables: Vec::new(),
            beforehand: Default::default(),
            project_id: 1,
            pipeline: Pipeline {
                workflow: Workflow {
                    created: true,
                    ..Workflow::default()
                },
                stages: jobs.iter().map(|job| job.stage.clone()).collect(),
                jobs,
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
        self.coordinator.create_pipeline(new).await.unwrap()
    }

    /// Takes the job as a runner does, over HTTPS, and returns its payload.
    pub(crate) async fn take_job(&self) -> serde_json::Value {
        self.take_job_as(OwnRunner::default()).await
    }

    /// The same for a certain runner, where it reaches the coordinator.
    pub(crate) async fn take_job_as(&self, runner: OwnRunner) -> serde_json::Value {
        let url = runner
            .url
            .as_ref()
            .unwrap_or_else(|| self.coordinator.url());
        let url = url.join("api/v4/jobs/request").unwrap();
        let token = self.coordinator.create_runner(runner).await.unwrap();
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
        let mut call = Call::new(http::Method::POST, url);
        let body = serde_json::json!({"token": token.expose(), "info": {}}).to_string();
        call.body = Body::Bytes(body.into(), "application/json");
        let answer = client.send(call).await.unwrap();
        assert_eq!(answer.status, 201);
        serde_json::from_slice(&answer.bytes(1 << 20).await.unwrap()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `curl` at a path below `/api/v4`, the way a runner in another language would call.
    pub(crate) fn curl<'a>(
        &self,
        method: &str,
        path: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Answer {
        let url = self.coordinator.url().join("api/v4/").unwrap();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--globoff"])
            .args(["--max-time", "60", "--noproxy", "*", "--cacert"])
            .arg(self.path("root.crt"))
            .args(["--request", method])
            .args(arguments)
            .arg(url.join(path).unwrap().as_str())
            .output()
            .unwrap();
        Answer::parse(&output)
    }

    /// `git fetch` of the payload's refspecs into a new repository.
    pub(crate) fn fetch(&self, into: &str, url: &str, refspecs: &[&str], protocol: u8) -> Output {
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

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> Output {
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

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// A job that runs `true`, in a stage of its own.
pub(crate) fn job(name: &str) -> PipelineJob {
    PipelineJob {
        name: name.to_owned(),
        stage: format!("stage of {name}"),
        script: vec!["true".to_owned()],
        ..PipelineJob::default()
    }
}

/// What curl got.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(output: &Output) -> Self {
        assert!(output.status.success(), "curl: {}", text(&output.stderr));
        let mut rest = output.stdout.as_slice();
        loop {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
            let end = end.expect("an answer has headers");
            let headers = text(&rest[..end]).to_lowercase();
            rest = &rest[end + 4..];
            let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
            // `100 Continue` comes before the answer.
            if status != 100 {
                let body = rest.to_vec();
                return Self {
                    status,
                    headers,
                    body,
                };
            }
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let wanted = |line: &&str| line.starts_with(&format!("{name}:"));
        let line = self.headers.lines().find(wanted).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim())
    }
}
