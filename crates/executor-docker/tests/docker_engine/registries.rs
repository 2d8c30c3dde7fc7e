//! Pulling from a real registry with TLS of a private CA and basic authentication.

use std::path::PathBuf;
use std::sync::Mutex;

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{
    PushImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use courser_executor_docker::engine::Engine;
use courser_executor_docker::images::{
    CredentialSources, Image, ImageError, Images, PullPolicy, Wanted,
};
use courser_protocol::{Credential, FailureReason, Secret};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers::{DockerEngine, Registry};
use futures_util::TryStreamExt as _;

use super::connected;

/// A registry with the image `team/box:1`.
struct Scene {
    engine: Engine,
    registry: Registry,
    authority: Issued,
    /// `certs.d` of this registry.
    trust: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        let running = DockerEngine::running();
        let authority = Authority::root("Registry CA").issue();
        let leaf = authority.server(&[&running.gateway]).issue();
        let registry = Registry::start(running.gateway.parse().unwrap(), &leaf);
        let scene = Self {
            engine: connected().await,
            trust: running.etc.join("certs.d").join(registry.name()),
            registry,
            authority,
        };
        scene.trust_it();
        scene.push().await;
        scene
    }

    /// The Engine trusts the registry, from the next call on.
    fn trust_it(&self) {
        std::fs::create_dir_all(&self.trust).unwrap();
        std::fs::write(self.trust.join("ca.crt"), self.authority.certificate_pem()).unwrap();
    }

    fn do_not_trust_it(&self) {
        std::fs::remove_dir_all(&self.trust).unwrap();
    }

    fn repository(&self) -> String {
        format!("{}/team/box", self.registry.name())
    }

    fn image(&self) -> String {
        format!("{}:1", self.repository())
    }

    async fn push(&self) {
        let api = self.engine.api();
        let repository = self.repository();
        let tag = TagImageOptionsBuilder::new()
            .repo(&repository)
            .tag("1")
            .build();
        api.tag_image("courser.test/busybox:1", Some(tag))
            .await
            .unwrap();
        let login = DockerCredentials {
            username: Some(Registry::USER.to_owned()),
            password: Some(Registry::PASSWORD.to_owned()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptionsBuilder::new().tag("1").build();
        let pushing = api.push_image(&repository, Some(options), Some(login));
        pushing.try_collect::<Vec<_>>().await.unwrap();
        self.forget().await;
    }

    /// Takes the name from the Engine.
    async fn forget(&self) {
        let options = RemoveImageOptionsBuilder::new().noprune(true).build();
        let image = self.image();
        let removing = self.engine.api().remove_image(&image, Some(options), None);
        removing.await.unwrap();
    }

    /// The lines of the log, and what came of it.
    async fn pull(
        &self,
        name: &str,
        sources: CredentialSources,
    ) -> (String, Result<Image, ImageError>) {
        let images = Images::new(self.engine.clone(), sources);
        let lines = Mutex::new(String::new());
        let say = |line: &str| lines.lock().unwrap().push_str(line);
        let wanted = Wanted {
            name,
            platform: None,
            policies: &[PullPolicy::Always],
        };
        let image = images.fetch(wanted, &say).await;
        (lines.into_inner().unwrap(), image)
    }

    fn login(&self, password: &str) -> CredentialSources {
        CredentialSources {
            of_job: vec![Credential {
                kind: "registry".to_owned(),
                url: self.registry.name(),
                username: Registry::USER.to_owned(),
                password: Secret::new(password),
            }],
            ..CredentialSources::default()
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.trust));
    }
}

#[tokio::test]
async fn an_image_of_a_private_registry_is_pulled_with_the_jobs_login() {
    let scene = Scene::new().await;
    let name = scene.image();
    let (lines, image) = scene.pull(&name, scene.login(Registry::PASSWORD)).await;
    let image = image.unwrap();
    let digest = image.digest.as_deref().unwrap();
    assert!(
        digest.starts_with(&format!("{}@sha256:", scene.repository())),
        "{digest}"
    );
    for expected in [
        "Authenticating with credentials from job payload (GitLab Registry)".to_owned(),
        format!("Pulling docker image {name} ..."),
        format!(
            "Using docker image {} for {name} with digest {digest} ...",
            image.id
        ),
    ] {
        assert!(lines.contains(&expected), "{expected}: {lines}");
    }

    // By digest, where only the host's login matches.
    scene.forget().await;
    let by_digest = digest.to_owned();
    let (_, again) = scene
        .pull(&by_digest, scene.login(Registry::PASSWORD))
        .await;
    assert_eq!(again.unwrap().id, image.id);
}

#[tokio::test]
async fn what_the_registry_refuses_says_which_login_it_saw() {
    let scene = Scene::new().await;
    let (lines, failed) = scene
        .pull(&scene.image(), CredentialSources::default())
        .await;
    let failed = failed.unwrap_err();
    assert!(
        failed.message.contains("no basic auth credentials"),
        "{failed}"
    );
    assert_eq!(failed.reason, Some(FailureReason::RunnerConfigurationError));
    assert!(lines.contains("no source of logins is there"), "{lines}");
    assert!(lines.contains("DOCKER_AUTH_CONFIG"), "{lines}");

    let (lines, failed) = scene.pull(&scene.image(), scene.login("wrong")).await;
    assert_eq!(
        failed.unwrap_err().reason,
        Some(FailureReason::RunnerConfigurationError)
    );
    assert!(
        lines.contains("refuses the login of job payload (GitLab Registry)"),
        "{lines}"
    );

    let unknown = format!("{}:2", scene.repository());
    let (_, failed) = scene.pull(&unknown, scene.login(Registry::PASSWORD)).await;
    let failed = failed.unwrap_err();
    assert!(failed.message.contains("manifest unknown"), "{failed}");
    assert_eq!(failed.reason, Some(FailureReason::RunnerConfigurationError));
}

#[tokio::test]
async fn t40_a_registry_that_the_engine_does_not_trust_is_cured_by_the_file_that_the_log_names() {
    let scene = Scene::new().await;
    scene.do_not_trust_it();
    let (lines, failed) = scene
        .pull(&scene.image(), scene.login(Registry::PASSWORD))
        .await;
    let failed = failed.unwrap_err();
    assert!(
        failed
            .message
            .contains("x509: certificate signed by unknown authority"),
        "{failed}"
    );
    assert_eq!(failed.reason, Some(FailureReason::ImagePullFailure));
    let host = scene.engine.info().await.unwrap().name.clone().unwrap();
    let registry = scene.registry.name();
    let file = format!("/etc/docker/certs.d/{registry}/ca.crt");
    for expected in [
        format!("the Docker Engine on {host} (its socket is on this machine)"),
        format!("{file} is missing"),
        format!("sudo courser trust fetch {registry} --to {file}"),
    ] {
        assert!(lines.contains(&expected), "{expected}: {lines}");
    }

    scene.trust_it();
    let (_, image) = scene
        .pull(&scene.image(), scene.login(Registry::PASSWORD))
        .await;
    image.unwrap();
    scene.forget().await;
}
