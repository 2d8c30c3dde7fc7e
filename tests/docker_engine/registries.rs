//! Where images come from: a real registry with TLS of a private CA and a password, and what the Engine has already.

use std::path::PathBuf;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers::Registry;
use serde_json::{Value, json};

use super::containers::{BOX, Runner, job, shows};
use crate::wire::gitlab::variable;

/// A runner whose jobs choose their pull policy, and a registry with `team/box:1`.
struct Scene {
    runner: Runner,
    registry: Registry,
    authority: Issued,
    /// What the Engine trusts the registry by.
    trust: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let policies = "allowed_pull_policies = [\"always\", \"if-not-present\", \"never\"]";
        let runner = Runner::new(policies);
        let gateway = &runner.engine.gateway;
        let authority = Authority::root("Registry CA").issue();
        let leaf = authority.server(&[gateway]).issue();
        let registry = Registry::start(gateway.parse().expect("an address"), &leaf);
        let scene = Self {
            trust: runner.engine.etc.join("certs.d").join(registry.name()),
            runner,
            registry,
            authority,
        };
        scene.trust_it();
        let (name, image) = (scene.registry.name(), scene.image("1"));
        let login = [
            "--username",
            Registry::USER,
            "--password",
            Registry::PASSWORD,
            &name,
        ];
        let own = tempfile::tempdir().expect("a directory for the login");
        let own = ["--config", own.path().to_str().expect("UTF-8")];
        scene
            .runner
            .docker(&[&own[..], &["login"], &login].concat());
        scene.runner.docker(&["tag", BOX, &image]);
        scene.runner.docker(&[&own[..], &["push", &image]].concat());
        scene.runner.docker(&["rmi", "--no-prune", &image]);
        scene
    }

    fn trust_it(&self) {
        std::fs::create_dir_all(&self.trust).expect("a directory");
        let ca = self.authority.certificate_pem();
        std::fs::write(self.trust.join("ca.crt"), ca).expect("a file");
    }

    fn image(&self, tag: &str) -> String {
        format!("{}/team/box:{tag}", self.registry.name())
    }

    /// A job in that image, with these policies.
    fn job(&self, id: i64, tag: &str, policies: &[&str]) -> Value {
        let image = json!({"name": self.image(tag), "pull_policy": policies});
        let mut job = job(id, image, &["echo in the container"]);
        let reasons = job["features"]["failure_reasons"].as_array_mut();
        reasons.expect("a list").push(json!("image_pull_failure"));
        job
    }

    /// With the login that GitLab gives for its own registry.
    fn with_login(&self, mut job: Value) -> Value {
        let login = json!({
            "type": "registry", "url": self.registry.name(),
            "username": Registry::USER, "password": Registry::PASSWORD,
        });
        job["credentials"] = json!([login]);
        job
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.trust));
    }
}

#[test]
fn an_image_is_pulled_with_the_login_of_the_job_or_of_its_variable() {
    let scene = Scene::new();
    let pulling = format!("Pulling docker image {} ...", scene.image("1"));
    let digest = format!("with digest {}/team/box@sha256:", scene.registry.name());
    let log = scene
        .runner
        .log(&scene.with_login(scene.job(1, "1", &["always"])));
    shows(
        &log,
        &[
            "Using effective pull policy of [always] for container",
            "Authenticating with credentials from job payload (GitLab Registry)",
            &pulling,
            &digest,
            "in the container",
        ],
    );

    let auth = "Y291cnNlcjpzM2NyZXQ=";
    let config = json!({"auths": {scene.registry.name(): {"auth": auth}}}).to_string();
    let job = variable(
        scene.job(2, "1", &["always"]),
        "DOCKER_AUTH_CONFIG",
        &config,
    );
    let log = scene.runner.log(&job);
    shows(
        &log,
        &[
            "Authenticating with credentials from $DOCKER_AUTH_CONFIG",
            &pulling,
        ],
    );
    for secret in [auth, Registry::PASSWORD] {
        assert!(!log.contains(secret), "{log}");
    }
    scene
        .runner
        .docker(&["rmi", "--no-prune", &scene.image("1")]);
}

#[test]
fn t40_a_registry_that_the_engine_does_not_trust_fails_the_job_with_the_file_that_is_missing() {
    let scene = Scene::new();
    std::fs::remove_dir_all(&scene.trust).expect("removed");
    let done = scene
        .runner
        .run(&scene.with_login(scene.job(1, "1", &["always"])));
    let log = done.text();
    let (state, reason, _) = done.outcome();
    assert_eq!(
        (state.as_str(), reason.as_str()),
        ("failed", "image_pull_failure"),
        "{log}"
    );
    let registry = scene.registry.name();
    let file = format!("/etc/docker/certs.d/{registry}/ca.crt");
    shows(
        &log,
        &[
            "WARNING: Failed to pull image with policy \"always\": Error response from daemon: ",
            "x509: certificate signed by unknown authority",
            &format!("on its host {file} is missing"),
            &format!(
                "$ sudo mkdir -p /etc/docker/certs.d/{registry} && sudo courser trust fetch {registry} --to {file}"
            ),
            "ERROR: Job failed: failed to pull image",
        ],
    );
    assert!(!log.contains("Will be retried"), "{log}");

    // T41: the file is there, and nothing is restarted.
    scene.trust_it();
    scene
        .runner
        .log(&scene.with_login(scene.job(2, "1", &["always"])));
    scene
        .runner
        .docker(&["rmi", "--no-prune", &scene.image("1")]);
}

#[test]
fn policies_are_tried_in_order_and_what_is_not_allowed_is_refused() {
    let scene = Scene::new();
    // Here and not in the registry.
    let local = scene.image("local");
    scene.runner.docker(&["tag", BOX, &local]);
    let job = scene.with_login(scene.job(1, "local", &["always", "if-not-present"]));
    shows(
        &scene.runner.log(&job),
        &[
            "Using effective pull policy of [always if-not-present] for container",
            "WARNING: Failed to pull image with policy \"always\": ",
            "manifest unknown",
            "Attempt #2: Trying \"if-not-present\" pull policy",
            "Using locally found image version due to \"if-not-present\" pull policy",
            "in the container",
        ],
    );
    scene.runner.docker(&["rmi", "--no-prune", &local]);

    let missing = scene
        .runner
        .refused(&scene.with_login(scene.job(2, "2", &["always"])));
    shows(
        &missing,
        &["with specified policies [always]: ", "manifest unknown"],
    );
    let denied = scene.runner.refused(&scene.job(3, "1", &["always"]));
    shows(
        &denied,
        &[
            "no basic auth credentials",
            "Put one into the variable DOCKER_AUTH_CONFIG",
        ],
    );
}
