//! The machine's own identity at AWS, where the settings lend it to jobs.

use courser_testkit::World;
use courser_testkit::clouds::aws::Aws;
use courser_testkit::server::{FakeServer, Reply};
use serde_json::{Value, json};

use crate::aws::{AUDIENCE, ROLE, scene};
use crate::scene::{Scene, Told, issuer};

/// A secret without token and role.
fn secret() -> Value {
    json!({"aws_secrets_manager": {"secret_id": "app/db", "field": "user", "server": {"jwt": "$UNDEFINED"}}})
}

fn lending() -> (Scene, Aws) {
    let (mut scene, aws) = scene();
    scene.settings.aws.allow_ambient_identity = true;
    scene.environment = vec![("AWS_DEFAULT_REGION", "eu-west-1".to_owned())];
    (scene, aws)
}

async fn resolved(scene: &Scene) -> Told {
    scene.resolve(json!({"A": secret()})).await
}

fn keys() -> Reply {
    Reply::json(
        200,
        &json!({"Code": "Success", "AccessKeyId": "AKIAMACHINE", "SecretAccessKey": "machine-secret-key",
            "Expiration": "2044-01-01T00:00:00Z"}),
    )
}

#[tokio::test]
async fn of_a_web_identity_file() {
    let (mut scene, aws) = lending();
    let world = World::new();
    let file = world.write("token", format!("{}\n", issuer().token(AUDIENCE)));
    scene.environment.extend([
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        ("AWS_ROLE_ARN", ROLE.to_owned()),
    ]);
    assert_eq!(resolved(&scene).await.values(), ["ada"]);
    assert_eq!(aws.sessions()[0].name, "courser");
    std::fs::remove_file(&file).unwrap();
    let text = resolved(&scene).await.told();
    assert!(
        text.starts_with("System: operation error Secrets Manager: GetSecretValue, get identity: "),
        "{text}"
    );
    assert!(text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn of_the_container() {
    let (mut scene, _aws) = lending();
    let agent = FakeServer::http(|request| {
        match (request.path.as_str(), request.header("authorization")) {
            ("/v1/credentials", "agent-token") => keys(),
            _ => Reply::status(403),
        }
    });
    scene.environment.extend([
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            agent.url("/v1/credentials"),
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "agent-token".to_owned(),
        ),
    ]);
    assert_eq!(resolved(&scene).await.values(), ["ada"]);
}

#[tokio::test]
async fn of_the_instance() {
    let (mut scene, _aws) = lending();
    let metadata = FakeServer::http(|request| {
        let session = request.header("x-aws-ec2-metadata-token") == "session";
        match (request.method.as_str(), request.path.as_str()) {
            ("PUT", "/latest/api/token") => {
                assert_eq!(
                    request.header("x-aws-ec2-metadata-token-ttl-seconds"),
                    "300"
                );
                Reply::text(200, "session")
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") if session => {
                Reply::text(200, "runner-role\n")
            }
            ("GET", "/latest/meta-data/iam/security-credentials/runner-role") if session => keys(),
            _ => Reply::status(404),
        }
    });
    scene
        .environment
        .push(("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url("")));
    assert_eq!(resolved(&scene).await.values(), ["ada"]);
}

#[tokio::test]
async fn of_nobody() {
    let (mut scene, aws) = lending();
    scene
        .environment
        .push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    let text = resolved(&scene).await.told();
    assert!(
        text.starts_with("Configuration: operation error Secrets Manager: GetSecretValue, "),
        "{text}"
    );
    assert!(
        text.contains("no EC2 IMDS role found") && text.contains("has no identity at AWS"),
        "{text}"
    );
    scene.environment.clear();
    let text = resolved(&scene).await.told();
    assert!(
        text.contains("Invalid Configuration: Missing Region"),
        "{text}"
    );
    assert!(aws.requests().is_empty());
}
