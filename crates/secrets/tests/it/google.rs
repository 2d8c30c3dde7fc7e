//! Google, whose tokens and permissions are checked by a strict fake.

use courser_secrets::FailureClass;
use courser_testkit::clouds::google::{Google, Project, Secret, Step, version_of};
use courser_testkit::server::Reply;
use serde_json::{Value, json};

use crate::scene::{Scene, issuer};

pub(crate) const AUDIENCE: &str = "https://iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/pool/providers/prov";
pub(crate) const SUBJECT: &str = "project_path:group/project:ref_type:branch:ref:main";

/// A project with some secrets, reached by Google's own names; the job has its token in `GCP_ID_TOKEN`.
pub(crate) fn scene() -> (Scene, Google) {
    let mut scene = Scene::new();
    let secret = |id: &str, versions: &[&[u8]]| Secret {
        name: format!("projects/1234/secrets/{id}"),
        versions: versions
            .iter()
            .map(|version| Some(version.to_vec()))
            .collect(),
        readers: vec![SUBJECT.to_owned()],
    };
    let mut secrets = vec![
        secret("api-key", &[b"one", b"two"]),
        secret("binary", &[b"\x00\xff"]),
        Secret {
            readers: Vec::new(),
            ..secret("forbidden", &[b"x"])
        },
        Secret {
            versions: vec![None],
            ..secret("disabled", &[])
        },
    ];
    secrets.extend(
        (0..200).map(|number| secret(&format!("s{number}"), &[format!("v{number}").as_bytes()])),
    );
    let project = Project {
        number: "1234".to_owned(),
        pool: "pool".to_owned(),
        provider: "prov".to_owned(),
        federation: issuer().federation(&[AUDIENCE]),
        project_path: Some("group/project".to_owned()),
        secrets,
    };
    let google = Google::start(&scene.leaf(&Google::NAMES), project);
    scene.route(&google.routes());
    scene.set("GCP_ID_TOKEN", &issuer().token(AUDIENCE));
    (scene, google)
}

pub(crate) fn secret(name: &str, version: &str) -> Value {
    json!({"gcp_secret_manager": {"name": name, "version": version, "server": {
        "project_number": "1234", "workload_identity_federation_pool_id": "pool",
        "workload_identity_federation_provider_id": "prov", "jwt": "$GCP_ID_TOKEN",
    }}, "token": "$GCP_ID_TOKEN"})
}

#[tokio::test]
async fn one_exchange_serves_all_secrets_and_one_read_a_version() {
    let (mut scene, google) = scene();
    scene.set("NAME", "api-key");
    let told = scene
        .resolve(json!({
            "A": secret("$NAME", "latest"),
            "B": secret("projects/1234/secrets/api-key", "1"),
            "C": secret("api-key", "latest"),
        }))
        .await;
    assert_eq!(told.values(), ["two", "one", "two"]);
    let variables = told.result.as_ref().unwrap();
    assert!(
        variables
            .iter()
            .all(|variable| variable.file && variable.masked && variable.raw && !variable.public)
    );
    let paths: Vec<_> = google
        .requests()
        .iter()
        .map(|request| request.path.clone())
        .collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    assert_eq!(paths[0], "/v1/token");
    assert!(
        told.log()
            .contains("Using \"gcp_secret_manager\" secret resolver..."),
        "{}",
        told.log()
    );
}

#[tokio::test]
async fn base_urls_of_the_settings_are_used_instead_of_googles() {
    let (mut scene, google) = scene();
    scene.route(&[]);
    let url: url::Url = google.url().parse().unwrap();
    scene.settings.google.sts_url = Some(url.clone());
    scene.settings.google.secret_manager_url = Some(url);
    let told = scene
        .resolve(json!({"A": secret("api-key", "latest")}))
        .await;
    assert_eq!(told.values(), ["two"]);
}

#[tokio::test]
async fn a_version_without_payload_is_missing_and_without_checksum_not_checked() {
    let (mut scene, google) = scene();
    let name = "projects/1234/secrets/api-key/versions/2";
    google.next(
        Step::Access,
        vec![Reply::json(200, &version_of(name, b"unchecked", None))],
    );
    let told = scene
        .resolve(json!({"A": secret("api-key", "latest")}))
        .await;
    assert_eq!(told.values(), ["unchecked"]);
    google.next(
        Step::Access,
        vec![Reply::json(200, &version_of(name, b"changed", Some(1)))],
    );
    let told = scene
        .resolve(json!({"A": secret("api-key", "latest")}))
        .await;
    assert_eq!(told.told(), "ExternalDependency: data corruption detected");
    google.always(Step::Access, Reply::json(200, &json!({"name": name})));
    let told = scene
        .resolve(json!({"A": secret("api-key", "latest")}))
        .await;
    assert_eq!(told.failure().to_string(), "secret not found: A");
    scene.missing_fails = false;
    let told = scene
        .resolve(json!({"A": secret("api-key", "latest")}))
        .await;
    assert_eq!(told.values(), [""]);
}

#[tokio::test]
async fn who_may_not_is_told_what_to_grant() {
    let (scene, google) = scene();
    let failing = async |name: &str, version: &str| {
        let told = scene.resolve(json!({"A": secret(name, version)})).await;
        assert_eq!(told.failure().class, FailureClass::Configuration);
        told.told()
    };
    assert_eq!(
        failing("forbidden", "latest").await,
        "Configuration: failed to get secret: rpc error: code = PermissionDenied desc = Permission \
         'secretmanager.versions.access' denied for resource 'projects/1234/secrets/forbidden/versions/latest' (or it may \
         not exist).\n  > grant roles/secretmanager.secretAccessor on projects/1234/secrets/forbidden to the principal of \
         the ID token's subject, and see that the secret exists"
    );
    assert_eq!(
        failing("api-key", "7").await,
        "Configuration: failed to get secret: rpc error: code = NotFound desc = Secret Version \
         [projects/1234/secrets/api-key/versions/7] not found."
    );
    assert_eq!(
        failing("disabled", "1").await,
        "Configuration: failed to get secret: rpc error: code = FailedPrecondition desc = Secret Version \
         [projects/1234/secrets/disabled/versions/1] is in DISABLED state."
    );
    assert_eq!(google.requests().len(), 6);
}

#[tokio::test]
async fn tokens_that_are_not_believed_are_explained_without_being_shown() {
    let (mut scene, google) = scene();
    let with = |altered: Value| issuer().token_with(AUDIENCE, &altered);
    let ten_seconds_ago = jiff::Timestamp::now().as_second() - 10;
    let long = format!(
        "project_path:group/project:ref_type:branch:ref:{}",
        "x".repeat(100)
    );
    let table = [
        (
            with(json!({"aud": "other"})),
            "The audience in ID Token [other] does not match",
            "aud \"other\"",
        ),
        (
            with(json!({"iss": "https://x"})),
            "The issuer in ID Token https://x does not match",
            "iss \"https://x\"",
        ),
        (
            with(json!({"exp": ten_seconds_ago})),
            "is stale to sign-in",
            "valid until",
        ),
        (
            with(json!({"project_path": "group/other"})),
            "rejected by the attribute condition",
            "sub \"project_path",
        ),
        (
            with(json!({"sub": long})),
            "google.subject exceeds the 127 bytes limit",
            "sub \"project_path",
        ),
        (
            "GCP_ID_TOKEN".to_owned(),
            "unable to parse the ID Token",
            "with its `$`",
        ),
        (
            String::new(),
            "failed to exchange sts token: the ID token is empty",
            "the ID token is empty",
        ),
    ];
    for (number, (token, text, advice)) in table.into_iter().enumerate() {
        scene.set("GCP_ID_TOKEN", &token);
        let told = scene
            .resolve(json!({"A": secret("api-key", "latest")}))
            .await;
        let all = told.told();
        assert!(
            all.starts_with("Configuration: failed to exchange sts token: "),
            "{all}"
        );
        assert!(all.contains(text) && all.contains(advice), "{text}: {all}");
        let signature = token
            .rsplit_once('.')
            .map_or("-", |(_, signature)| signature);
        assert!(!all.contains(signature), "{all}");
        // One request each; none with the empty one.
        assert_eq!(google.requests().len(), (number + 1).min(6));
    }
    assert!(google.tokens().is_empty());
}
