//! AWS, whose tokens, signatures and permissions are checked by a strict fake.

use courser_secrets::FailureClass;
use courser_testkit::clouds::aws::{Account, Aws, Content, Secret, Step, error};
use courser_testkit::server::Reply;
use serde_json::{Value, json};

use crate::google::SUBJECT;
use crate::scene::{Scene, issuer};

pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/ci";

/// An account with some secrets, reached by AWS' own names; the job has its token in `AWS_ID_TOKEN`.
pub(crate) fn scene() -> (Scene, Aws) {
    let mut scene = Scene::new();
    let secret = |name: &str, versions: &[(&str, Content)]| Secret {
        name: name.to_owned(),
        arn: format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"),
        versions: versions
            .iter()
            .map(|(id, content)| ((*id).to_owned(), content.clone()))
            .collect(),
        readable: true,
    };
    let text = |text: &str| Content::Text(text.to_owned());
    let mut secrets = vec![
        secret(
            "app/db",
            &[
                ("v1", text("old")),
                (
                    "v2",
                    text(r#"{"user":"ada","port":1000000,"tls":true,"none":null}"#),
                ),
            ],
        ),
        secret("binary", &[("v1", Content::Binary(b"\x00\xff".to_vec()))]),
        secret("empty", &[("v1", Content::Nothing)]),
        Secret {
            readable: false,
            ..secret("forbidden", &[("v1", text("x"))])
        },
    ];
    secrets.extend(
        (0..200).map(|number| secret(&format!("s{number}"), &[("v", text(&format!("v{number}")))])),
    );
    let account = Account {
        region: "eu-west-1".to_owned(),
        federation: issuer().federation(&[AUDIENCE]),
        role_arn: ROLE.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        user: Some(("AKIAMACHINE".to_owned(), "machine-secret-key".to_owned())),
        secrets,
    };
    let [sts, secrets_manager] = Aws::names("eu-west-1");
    let aws = Aws::start(&scene.leaf(&[&sts, &secrets_manager, "127.0.0.1"]), account);
    scene.route(&aws.routes());
    scene.set("AWS_ID_TOKEN", &issuer().token(AUDIENCE));
    scene.set("CI_JOB_ID", "1000");
    scene.set("CI_PROJECT_ID", "42");
    scene.set("CI_SERVER_HOST", "ci.example.com");
    (scene, aws)
}

pub(crate) fn secret(own: Value) -> Value {
    let mut secret = json!({"server": {
        "region": "eu-west-1", "jwt": "$AWS_ID_TOKEN", "role_arn": ROLE, "role_session_name": null,
    }});
    let Value::Object(own) = own else {
        panic!("an object")
    };
    for (name, value) in own {
        secret[name] = value;
    }
    json!({"aws_secrets_manager": secret})
}

#[tokio::test]
async fn one_session_serves_a_role_and_one_read_all_fields() {
    let (mut scene, aws) = scene();
    scene.set("FIELD", "port");
    let told = scene
        .resolve(json!({
            "A": secret(json!({"secret_id": "app/db", "field": "user"})),
            "B": secret(json!({"secret_id": "app/db", "field": "$FIELD"})),
            "C": secret(json!({"secret_id": "app/db", "field": "tls"})),
            "D": secret(json!({"secret_id": "app/db", "version_stage": "AWSPREVIOUS"})),
            "E": secret(json!({"secret_id": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/db-AbCdEf", "version_id": "v1"})),
            "F": secret(json!({"secret_id": "binary"})),
        }))
        .await;
    assert_eq!(
        told.values(),
        ["ada", "1000000", "true", "old", "old", "AP8="]
    );
    assert_eq!(aws.requests().len(), 1 + 4);
    let names: Vec<_> = aws
        .sessions()
        .into_iter()
        .map(|session| session.name)
        .collect();
    assert_eq!(names, ["1000-42-ci.example.com"]);
    assert!(
        told.log()
            .contains("Using \"aws_secrets_manager\" secret resolver..."),
        "{}",
        told.log()
    );
}

#[tokio::test]
async fn what_a_secret_says_itself_wins_over_the_servers_block() {
    let (scene, aws) = scene();
    let mut own = secret(json!({
        "secret_id": "app/db", "field": "user", "region": "eu-west-1", "role_arn": ROLE, "role_session_name": "own",
    }));
    own["aws_secrets_manager"]["server"] = json!({"region": "us-east-1", "jwt": "$AWS_ID_TOKEN", "role_arn": "arn:aws:iam::1:role/other"});
    assert_eq!(scene.resolve(json!({"A": own})).await.values(), ["ada"]);
    assert_eq!(aws.sessions()[0].name, "own");
}

#[tokio::test]
async fn base_urls_of_the_settings_are_used_instead_of_aws() {
    let (mut scene, aws) = scene();
    scene.route(&[]);
    let url: url::Url = aws.url().parse().unwrap();
    scene.settings.aws.sts_url = Some(url.clone());
    scene.settings.aws.secrets_manager_url = Some(url);
    // Those of the process are for its own identity only.
    scene.environment = vec![("AWS_ENDPOINT_URL", "https://127.0.0.1:1".to_owned())];
    let told = scene
        .resolve(json!({"A": secret(json!({"secret_id": "app/db", "field": "user"}))}))
        .await;
    assert_eq!(told.values(), ["ada"]);
}

#[tokio::test]
async fn the_machines_own_identity_is_not_lent_unless_the_settings_say_so() {
    let (mut scene, aws) = scene();
    scene.environment = vec![
        ("AWS_ACCESS_KEY_ID", "AKIAMACHINE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "machine-secret-key".to_owned()),
    ];
    let mut ambient = secret(json!({"secret_id": "forbidden"}));
    ambient["aws_secrets_manager"]["server"] = json!({"region": "eu-west-1", "jwt": "$UNDEFINED"});
    let told = scene.resolve(json!({"A": ambient})).await;
    let text = told.told();
    assert!(
        text.starts_with("Configuration: no ID token and no role: "),
        "{text}"
    );
    assert!(text.contains("`allow_ambient_identity = true`"), "{text}");
    assert!(aws.requests().is_empty());
    scene.settings.aws.allow_ambient_identity = true;
    assert_eq!(scene.resolve(json!({"A": ambient})).await.values(), ["x"]);
    // One who has a token is still asked for a role, and one with a role for a token.
    scene.set("UNDEFINED", "t");
    let told = scene.resolve(json!({"A": ambient})).await;
    assert_eq!(
        told.failure().to_string(),
        "Role ARN is required when using JWT for AWS authentication"
    );
    scene.set("AWS_ID_TOKEN", "");
    let told = scene
        .resolve(json!({"A": secret(json!({"secret_id": "app/db"}))}))
        .await;
    assert!(
        told.failure()
            .to_string()
            .ends_with("AssumeRoleWithWebIdentity, the ID token is empty")
    );
    assert_eq!(aws.requests().len(), 1);
}

#[tokio::test]
async fn refusals_are_told_as_by_aws_sdk() {
    let (scene, aws) = scene();
    let failing = async |own: Value| {
        let told = scene.resolve(json!({"A": secret(own)})).await;
        assert_eq!(told.failure().class, FailureClass::Configuration);
        told.failure().to_string()
    };
    let head = "operation error Secrets Manager: GetSecretValue, https response error StatusCode: 400, RequestID: \
         4b6ad5a0-0000-4000-8000-000000000000, ";
    let table = [
        (
            json!({"secret_id": "absent"}),
            format!("{head}ResourceNotFoundException: Secrets Manager can't find the specified secret."),
        ),
        (
            json!({"secret_id": "app/db", "version_stage": "X"}),
            format!("{head}ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: X"),
        ),
        (json!({"secret_id": "empty"}), "secret contains no value".to_owned()),
        (
            json!({"secret_id": "app/db", "field": "absent"}),
            "key 'absent' not found in AWS Secrets Manager response for secret 'app/db'".to_owned(),
        ),
        (
            json!({"secret_id": "app/db", "field": "none"}),
            "key 'none' in aws secrets manager response for secret 'app/db' is not a string, number or boolean".to_owned(),
        ),
        (
            json!({"secret_id": "binary", "field": "x"}),
            "failed to parse JSON for secret 'binary': it is not JSON (line 1, column 1)".to_owned(),
        ),
        (
            json!({"secret_id": "app/db", "region": "evil.example/#"}),
            "operation error Secrets Manager: GetSecretValue, \"evil.example/#\" is no region of AWS".to_owned(),
        ),
    ];
    for (own, text) in table {
        assert_eq!(failing(own).await, text);
    }
    let forbidden = failing(json!({"secret_id": "forbidden"})).await;
    assert!(
        forbidden.starts_with(&format!(
            "{head}api error AccessDeniedException: User: {ROLE}"
        )),
        "{forbidden}"
    );
    assert_eq!(aws.requests().len(), 7 * 2);
}

#[tokio::test]
async fn throttling_is_told_by_its_code_and_waited_for() {
    let (scene, aws) = scene();
    aws.next(
        Step::Read,
        vec![error("ThrottlingException", "Rate exceeded"); 2],
    );
    let read = json!({"A": secret(json!({"secret_id": "app/db", "field": "user"}))});
    assert_eq!(scene.resolve(read.clone()).await.values(), ["ada"]);
    assert_eq!(aws.requests().len(), 1 + 3);
    aws.always(Step::Read, error("ThrottlingException", "Rate exceeded"));
    let told = scene.resolve(read.clone()).await;
    assert_eq!(
        told.told(),
        "ExternalDependency: operation error Secrets Manager: GetSecretValue, exceeded maximum number of attempts, 3, https \
         response error StatusCode: 400, RequestID: 4b6ad5a0-0000-4000-8000-000000000000, api error ThrottlingException: Rate \
         exceeded"
    );
    assert!(told.failure().is_transient);
    // An emulator's answer: another status, another content type.
    let emulated = json!({"__type": "ResourceNotFoundException", "message": "no"}).to_string();
    aws.next(Step::Read, vec![Reply::with("text/html", 404, emulated)]);
    let told = scene.resolve(read).await;
    assert!(
        told.failure()
            .to_string()
            .ends_with("ResourceNotFoundException: no")
    );
}

#[tokio::test]
async fn tokens_that_are_not_believed_are_explained_without_being_shown() {
    let (mut scene, aws) = scene();
    let with = |altered: Value| issuer().token_with(AUDIENCE, &altered);
    let ten_seconds_ago = jiff::Timestamp::now().as_second() - 10;
    let table = [
        (
            with(json!({"aud": "other"})),
            3,
            "InvalidIdentityToken: Incorrect token audience",
            "aud \"other\"",
        ),
        (
            with(json!({"iss": "https://x"})),
            3,
            "No OpenIDConnect provider found in your account for https://x",
            "iss \"https://x\"",
        ),
        (
            with(json!({"sub": "x"})),
            1,
            "api error AccessDenied: Not authorized to perform sts:AssumeRole",
            "sub \"x\"",
        ),
        (
            with(json!({"exp": ten_seconds_ago})),
            1,
            ", ExpiredTokenException: Token expired",
            "valid until",
        ),
        (
            "AWS_ID_TOKEN".to_owned(),
            3,
            "The ID Token provided is not a valid JWT",
            "with its `$`",
        ),
    ];
    for (token, requests, text, advice) in table {
        let before = aws.requests().len();
        scene.set("AWS_ID_TOKEN", &token);
        let told = scene
            .resolve(json!({"A": secret(json!({"secret_id": "app/db"}))}))
            .await;
        let all = told.told();
        assert!(
            all.starts_with(
                "Configuration: operation error Secrets Manager: GetSecretValue, get identity: get credentials: failed to \
                 retrieve credentials, operation error STS: AssumeRoleWithWebIdentity, "
            ),
            "{all}"
        );
        assert!(all.contains(text) && all.contains(advice), "{text}: {all}");
        let signature = token
            .rsplit_once('.')
            .map_or("-", |(_, signature)| signature);
        assert!(signature == "-" || !all.contains(signature), "{all}");
        assert_eq!(aws.requests().len() - before, requests, "{text}");
    }
    assert!(aws.sessions().is_empty());
}
