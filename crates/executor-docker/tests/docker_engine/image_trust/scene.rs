//! An Engine, a server of a private CA and one of a CA like the public ones, and containers that ask them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, CreateImageOptionsBuilder,
    DownloadFromContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, StartContainerOptions, WaitContainerOptions,
};
use courser_executor_docker::engine::Engine;
use courser_executor_docker::image_trust::{
    Anchors, ContainerFacts, ContainerTrust, ImageTrust, ImageTrusts,
};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};
use courser_trust::{Bundle, Generation, Source, Store};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::docker_engine::connected;

/// Containers that are looked into have names of their own.
static PROBES: AtomicU32 = AtomicU32::new(0);

pub(super) const BUSYBOX: &str = "courser.test/busybox:1";
pub(super) const DEBIAN: &str = "courser.test/debian:12";
pub(super) const STATIC: &str = "courser.test/static:1";

const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Scene {
    pub(super) engine: Engine,
    pub(super) private: Issued,
    pub(super) public: Issued,
    pub(super) private_server: FakeServer,
    pub(super) public_server: FakeServer,
    anchors: Anchors,
    trusts: ImageTrusts,
    files: tempfile::TempDir,
}

/// One container.
pub(super) struct Order {
    image: String,
    command: Vec<String>,
    user: Option<String>,
    read_only: bool,
    trust: bool,
    binds: Vec<String>,
    environment: Vec<String>,
}

impl Order {
    /// The script is handed to `sh`; without one the container is not meant to run.
    pub(super) fn new(image: &str, script: &str) -> Self {
        Self {
            image: image.to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            user: None,
            read_only: false,
            trust: true,
            binds: Vec::new(),
            environment: Vec::new(),
        }
    }

    pub(super) fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(ToString::to_string).collect();
        self
    }

    pub(super) fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    pub(super) fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    pub(super) fn without_trust(mut self) -> Self {
        self.trust = false;
        self
    }

    pub(super) fn bind(mut self, bind: &str) -> Self {
        self.binds.push(bind.to_owned());
        self
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// The runner's `volumes = ["…:/etc/gitlab-runner/certs/ca.crt:ro"]`.
    pub(super) fn with_ca_volume(self) -> Self {
        self.bind("CA:/etc/gitlab-runner/certs/ca.crt:ro")
    }
}

/// Removed, with its volumes, when it is dropped.
pub(super) struct Container {
    engine: Engine,
    pub(super) id: String,
    line: Option<String>,
    pub(super) filled: Duration,
}

pub(super) struct Ran {
    pub(super) code: i64,
    pub(super) log: String,
    /// The line for the job's log.
    pub(super) line: Option<String>,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let (private, public) = (
            Authority::root("Private Root").issue(),
            Authority::root("Public-like Root").issue(),
        );
        let store = |source, issued: &Issued| {
            let text = issued.certificate_pem();
            Store::builder()
                .add(source, text.as_bytes())
                .build(Generation(1))
        };
        let configured = store(Source::Configured("/ca.pem".into()), &private);
        let system = store(Source::System("/bundle".into()), &public);
        let bundle = Bundle::compose(&system, &configured, None);
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.pem"), private.certificate_pem()).unwrap();
        Self {
            engine: connected().await,
            private_server: serve(&private),
            public_server: serve(&public),
            anchors: Anchors::of(&bundle).expect("a private CA"),
            private,
            public,
            trusts: ImageTrusts::default(),
            files,
        }
    }

    /// A line of the private CA's certificate.
    pub(super) fn needle(&self) -> &str {
        needle(&self.private)
    }

    pub(super) fn public_needle(&self) -> &str {
        needle(&self.public)
    }

    pub(super) async fn trust(&self, image: &str) -> Arc<ImageTrust> {
        let inspected = self.engine.api().inspect_image(image).await;
        let inspected = inspected.unwrap_or_else(|error| panic!("{image}: {error}"));
        let id = inspected.id.expect("an id");
        let labels = HashMap::from([("courser.test".to_owned(), "image-trust".to_owned())]);
        let number = PROBES.fetch_add(1, Ordering::Relaxed);
        let name = format!("courser-test-trust-{}-{number}", std::process::id());
        let probe = (name.as_str(), &labels);
        let reading = self.trusts.of(&self.engine, &id, &self.anchors, probe);
        reading
            .await
            .unwrap_or_else(|error| panic!("{image}: {error}"))
    }

    /// Makes a container as the executor does.
    pub(super) async fn create(&self, order: &Order) -> Container {
        let ca = self.files.path().join("ca.pem").display().to_string();
        let binds: Vec<String> = order
            .binds
            .iter()
            .map(|bind| bind.replace("CA:", &format!("{ca}:")))
            .collect();
        let mounted: Vec<&str> = binds
            .iter()
            .filter_map(|bind| bind.split(':').nth(1))
            .collect();
        let mut environment = vec![
            format!("PRIVATE={}", self.private_server.url("")),
            format!("PUBLIC={}", self.public_server.url("")),
            format!("NEEDLE={}", self.needle().replace('+', "[+]")),
        ];
        environment.extend(order.environment.iter().cloned());
        let mut mounts = Vec::new();
        let mut plan: Option<ContainerTrust> = None;
        if order.trust {
            let facts = ContainerFacts {
                mounted: &mounted,
                variables: &[],
                volumes_one_by_one: order.read_only,
            };
            plan = self.trust(&order.image).await.plan(facts).unwrap();
        }
        if let Some(plan) = &plan {
            mounts = plan.mounts.clone();
            environment.extend(plan.environment.iter().cloned());
        }
        let body = ContainerCreateBody {
            image: Some(order.image.clone()),
            cmd: Some(order.command.clone()),
            user: order.user.clone(),
            env: Some(environment),
            host_config: Some(HostConfig {
                mounts: Some(mounts),
                binds: Some(binds),
                readonly_rootfs: Some(order.read_only),
                // Where the servers are.
                network_mode: Some("host".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let creating = self
            .engine
            .api()
            .create_container(None::<CreateContainerOptions>, body);
        let mut container = Container {
            engine: self.engine.clone(),
            id: creating.await.unwrap().id,
            line: plan.as_ref().map(|plan| plan.line.clone()),
            filled: Duration::ZERO,
        };
        if let Some(plan) = plan {
            let began = Instant::now();
            plan.fill(&self.engine, &container.id).await.unwrap();
            container.filled = began.elapsed();
        }
        container
    }

    pub(super) async fn run(&self, order: Order) -> Ran {
        self.create(&order).await.run().await
    }

    /// `courser.test/NAME:1`: what the container has become when it has run.
    pub(super) async fn make_image(&self, order: Order, name: &str) {
        let container = self.create(&order).await;
        let ran = container.run().await;
        assert_eq!(ran.code, 0, "{name}: {}", ran.log);
        container.commit(&format!("courser.test/{name}"), "1").await;
    }

    /// `courser.test/NAME:1` of these files, each a program, and nothing else.
    pub(super) async fn import_image(&self, name: &str, files: &[(&str, &[u8])]) {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, *content).unwrap();
        }
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(&format!("courser.test/{name}"))
            .tag("1")
            .build();
        let body = bollard::body_full(archive.into_inner().unwrap().into());
        let importing = self
            .engine
            .api()
            .create_image(Some(options), Some(body), None);
        importing.try_collect::<Vec<_>>().await.unwrap();
    }

    pub(super) async fn remove_image(&self, image: &str) {
        let removing = self
            .engine
            .api()
            .remove_image(image, None::<RemoveImageOptions>, None);
        removing.await.unwrap();
    }
}

fn needle(issued: &Issued) -> &str {
    let pem = Box::leak(issued.certificate_pem().into_boxed_str());
    pem.lines().nth(3).expect("a line of base64")
}

impl Container {
    /// Runs it to its end.
    pub(super) async fn run(&self) -> Ran {
        let api = self.engine.api();
        api.start_container(&self.id, None::<StartContainerOptions>)
            .await
            .unwrap();
        let mut waiting = api.wait_container(&self.id, None::<WaitContainerOptions>);
        let ended = tokio::time::timeout(PATIENCE, waiting.next()).await;
        let code = match ended.expect("it ends in time").expect("an answer") {
            Ok(answer) => answer.status_code,
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
            Err(error) => panic!("{error}"),
        };
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .build();
        let pieces: Vec<_> = api
            .logs(&self.id, Some(options))
            .try_collect()
            .await
            .unwrap();
        let log = pieces.iter().map(ToString::to_string).collect();
        Ran {
            code,
            log,
            line: self.line.clone(),
        }
    }

    /// Makes an image of it.
    pub(super) async fn commit(&self, repository: &str, tag: &str) {
        let options = CommitContainerOptionsBuilder::default()
            .container(&self.id)
            .repo(repository)
            .tag(tag)
            .build();
        let api = self.engine.api();
        api.commit_container(options, ContainerConfig::default())
            .await
            .unwrap();
    }

    /// Names of its volumes.
    pub(super) async fn volumes(&self) -> Vec<String> {
        let inspecting = self.engine.api().inspect_container(&self.id, None);
        let mounts = inspecting.await.unwrap().mounts.unwrap_or_default();
        mounts.into_iter().filter_map(|mount| mount.name).collect()
    }

    /// A file in it.
    pub(super) async fn file(&self, path: &str) -> String {
        let options = DownloadFromContainerOptionsBuilder::default()
            .path(path)
            .build();
        let api = self.engine.api();
        let pieces: Vec<bytes::Bytes> = api
            .download_from_container(&self.id, Some(options))
            .try_collect()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let archive = pieces.concat();
        let mut archive = tar::Archive::new(&archive[..]);
        let mut file = archive.entries().unwrap().next().expect("a file").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        text
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let removing = async {
            let options = RemoveContainerOptionsBuilder::default()
                .force(true)
                .v(true)
                .build();
            let removed = self
                .engine
                .api()
                .remove_container(&self.id, Some(options))
                .await;
            assert!(
                removed.is_ok() || std::thread::panicking(),
                "{}: {removed:?}",
                self.id
            );
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removing));
    }
}

/// Answers for curl and for Git.
fn serve(root: &Issued) -> FakeServer {
    let leaf = root.server(&["localhost", "127.0.0.1"]).issue();
    FakeServer::https(&leaf, |request: &Request| {
        match request.path.split('?').next().unwrap_or_default() {
            "/x" => Reply::text(200, "x"),
            "/repository.git/info/refs" => Reply::with(
                "application/x-git-upload-pack-advertisement",
                200,
                advertisement(),
            ),
            _ => Reply::status(404),
        }
    })
}

/// One branch, in the first version of the protocol.
fn advertisement() -> String {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let first = format!("{} refs/heads/main\0agent=fake\n", "1".repeat(40));
    format!(
        "{}0000{}0000",
        line("# service=git-upload-pack\n"),
        line(&first)
    )
}
