//! Where images come from: a real registry with TLS of a private CA and a password, and what the Engine has already.

use std::path::PathBuf;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers::Registry;
use serde_json::{Value, json};

use super::scene::{BUSYBOX, Scene, says};
use crate::wire::gitlab::variable;

/// A runner whose jobs choose their pull policy, and a registry with `team/box:1`.
pub(super) struct Private {
    pub(super) scene: Scene,
    pub(super) registry: Registry,
    authority: Issued,
    /// What the Engine trusts the registry by.
    trust: PathBuf,
}

impl Private {
    fn new() -> Self {
        let policies = "allowed_pull_policies = [\"always\", \"if-not-present\", \"never\"]";
        Self::of(
            Scene::with(policies),
            Authority::root("Registry CA").issue(),
        )
    }

    /// With a registry of that authority.
    pub(super) fn of(scene: Scene, authority: Issued) -> Self {
        let gateway = &scene.engine.gateway;
        let leaf = authority.server(&[gateway]).issue();
        let registry = Registry::start(gateway.parse().expect("an address"), &leaf);
        let private = Self {
            trust: scene.engine.etc.join("certs.d").join(registry.name()),
            scene,
            registry,
            authority,
        };
        private.trust_it();
        let (name, image) = (private.registry.name(), private.image("1"));
        let login = [
            "--username",
            Registry::USER,
            "--password",
            Registry::PASSWORD,
            &name,
        ];
        let own = tempfile::tempdir().expect("a directory for the login");
        let own = ["--config", own.path().to_str().expect("UTF-8")];
        let client = |arguments: &[&str]| private.scene.client(arguments);
        client(&[&own[..], &["login"], &login].concat());
        client(&["tag", BUSYBOX, &image]);
        client(&[&own[..], &["push", &image]].concat());
        client(&["rmi", "--no-prune", &image]);
        private
    }

    fn trust_it(&self) {
        std::fs::create_dir_all(&self.trust).expect("a directory");
        let ca = self.authority.certificate_pem();
        std::fs::write(self.trust.join("ca.crt"), ca).expect("a file");
    }

    pub(super) fn image(&self, tag: &str) -> String {
        format!("{}/team/box:{tag}", self.registry.name())
    }

    /// A job in that image, with these policies.
    fn job(&self, id: i64, tag: &str, policies: &[&str]) -> Value {
        let image = json!({"name": self.image(tag), "pull_policy": policies});
        self.scene.job_in(id, image, &["echo in the container"])
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

impl Drop for Private {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.trust));
    }
}

#[test]
fn an_image_is_pulled_with_the_login_of_the_job_or_of_its_variable() {
    let mut private = Private::new();
    let pulling = format!("Pulling docker image {} ...", private.image("1"));
    let digest = format!("with digest {}/team/box@sha256:", private.registry.name());
    let done = private
        .scene
        .passes(&private.with_login(private.job(1, "1", &["always"])));
    says(
        &done,
        &[
            "Using effective pull policy of [always] for container",
            "Authenticating with credentials from job payload (GitLab Registry)",
            &pulling,
            &digest,
            "in the container",
        ],
    );

    let auth = "Y291cnNlcjpzM2NyZXQ=";
    let config = json!({"auths": {private.registry.name(): {"auth": auth}}}).to_string();
    let job = variable(
        private.job(2, "1", &["always"]),
        "DOCKER_AUTH_CONFIG",
        &config,
    );
    let done = private.scene.passes(&job);
    says(
        &done,
        &[
            "Authenticating with credentials from $DOCKER_AUTH_CONFIG",
            &pulling,
        ],
    );
    let log = done.text();
    for secret in [auth, Registry::PASSWORD] {
        assert!(!log.contains(secret), "{log}");
    }
    private
        .scene
        .client(&["rmi", "--no-prune", &private.image("1")]);
}

#[test]
fn t40_a_registry_that_the_engine_does_not_trust_fails_the_job_with_the_file_that_is_missing() {
    let mut private = Private::new();
    std::fs::remove_dir_all(&private.trust).expect("removed");
    let done = private
        .scene
        .run(&private.with_login(private.job(1, "1", &["always"])));
    let log = done.text();
    let (state, reason, _) = done.outcome();
    assert_eq!(
        (state.as_str(), reason.as_str()),
        ("failed", "image_pull_failure"),
        "{log}"
    );
    let registry = private.registry.name();
    let file = format!("/etc/docker/certs.d/{registry}/ca.crt");
    says(
        &done,
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
    private.trust_it();
    private
        .scene
        .passes(&private.with_login(private.job(2, "1", &["always"])));
    private
        .scene
        .client(&["rmi", "--no-prune", &private.image("1")]);
}

#[test]
fn policies_are_tried_in_order_and_what_is_not_allowed_is_refused() {
    let mut private = Private::new();
    // Here and not in the registry.
    let local = private.image("local");
    private.scene.client(&["tag", BUSYBOX, &local]);
    let job = private.with_login(private.job(1, "local", &["always", "if-not-present"]));
    says(
        &private.scene.passes(&job),
        &[
            "Using effective pull policy of [always if-not-present] for container",
            "WARNING: Failed to pull image with policy \"always\": ",
            "manifest unknown",
            "Attempt #2: Trying \"if-not-present\" pull policy",
            "Using locally found image version due to \"if-not-present\" pull policy",
            "in the container",
        ],
    );
    private.scene.client(&["rmi", "--no-prune", &local]);

    let missing = private
        .scene
        .refused(&private.with_login(private.job(2, "2", &["always"])));
    says(
        &missing,
        &["with specified policies [always]: ", "manifest unknown"],
    );
    let denied = private.scene.refused(&private.job(3, "1", &["always"]));
    says(
        &denied,
        &[
            "no basic auth credentials",
            "Put one into the variable DOCKER_AUTH_CONFIG",
        ],
    );
}

#[test]
fn the_login_of_the_runner_s_user_serves_and_images_and_services_can_be_pinned_by_digest() {
    let mut private = Private::new();
    let config = json!({"auths": {private.registry.name(): {"auth": "Y291cnNlcjpzM2NyZXQ="}}});
    let world = &private.scene.world;
    let file = world.write("home/.docker/config.json", config.to_string());
    let done = private.scene.passes(&private.job(1, "1", &["always"]));
    let from = format!("Authenticating with credentials from {}", file.display());
    says(&done, &[&from, "in the container"]);

    let log = done.text();
    let digest = log.split(" with digest ").nth(1);
    let digest = digest.and_then(|rest| rest.split(' ').next());
    let digest = digest.expect("the image came from a registry").to_owned();
    private
        .scene
        .client(&["rmi", "--no-prune", &private.image("1")]);
    let mut pinned = private.job(2, "1", &["if-not-present"]);
    pinned["image"]["name"] = json!(digest);
    pinned["services"] = json!([{
        "name": digest, "alias": "web", "entrypoint": ["httpd", "-f", "-p", "8080"],
        "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}],
    }]);
    let (service, sum) = digest.split_once('@').expect("a digest");
    let (_, path) = service.split_once('/').expect("a registry");
    let done = private.scene.passes(&pinned);
    says(
        &done,
        &[
            &format!(
                "Starting service {}/{path}@{sum}...",
                private.scene.engine.gateway
            ),
            "Pulling docker image",
            "in the container",
        ],
    );
    private.scene.client(&["rmi", "--no-prune", &digest]);
}

#[test]
fn a_pull_policy_that_is_not_allowed_is_refused_by_its_sources() {
    let mut scene = Scene::with("allowed_pull_policies = [\"never\", \"if-not-present\"]");
    let image = json!({"name": BUSYBOX, "pull_policy": ["always"]});
    let done = scene.refused(&scene.job_in(1, image, &["true"]));
    let refusal = format!(
        "invalid pull policy for image \"{BUSYBOX}\": pull_policy ([always]) defined in GitLab pipeline config \
         is not one of the allowed_pull_policies ([never if-not-present])"
    );
    says(&done, &[&refusal]);
    let image = json!({"name": BUSYBOX, "pull_policy": ["always", "never"]});
    let done = scene.passes(&scene.job_in(2, image, &["echo ra''n"]));
    let effective = format!("Using effective pull policy of [never] for container {BUSYBOX}");
    says(&done, &[&effective, "ran"]);
}
