//! ID tokens and secrets in payloads, and what a provider asks the issuer for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use courser_pipeline::{
    Audience, AwsSecret, AzureSecret, GcpSecret, GitlabSecret, IdToken, SecretProvider, SecretSpec,
    VaultEngine, VaultSecret,
};

use super::*;
use crate::variables::public;

const NOW: i64 = 1_800_000_000;

fn token(aud: &str) -> IdToken {
    IdToken {
        aud: Audience::One(aud.to_owned()),
    }
}

fn vault(token: Option<&str>) -> SecretSpec {
    SecretSpec {
        provider: SecretProvider::Vault(VaultSecret {
            engine: VaultEngine {
                name: "kv-v2".to_owned(),
                path: "ops".to_owned(),
            },
            path: "production/db".to_owned(),
            field: "password".to_owned(),
        }),
        file: Some(false),
        token: token.map(str::to_owned),
    }
}

fn other(provider: SecretProvider) -> SecretSpec {
    SecretSpec {
        provider,
        file: None,
        token: None,
    }
}

/// A pipeline of one job with pipeline variables.
async fn create(world: &World, job: PipelineJob, variables: &[(&str, &str)]) -> i64 {
    let mut new = pipeline(vec![job]);
    new.variables = variables
        .iter()
        .map(|(key, value)| public(key, *value))
        .collect();
    crate::coordinator::create_pipeline(&world.api.queue, new)
        .await
        .unwrap()
}

/// Asks as a runner that resolves secrets.
async fn ask(world: &World, runner: &str) -> Answer {
    let features = json!({"two_phase_job_commit": true, "vault_secrets": true});
    let body = json!({"token": runner, "system_id": "s", "info": {"features": features}});
    world
        .call("POST", "jobs/request", ("runner-token", runner), body)
        .await
}

/// Why the only job of the pipeline failed.
async fn failure(world: &World, pipeline: i64) -> (String, String) {
    let snapshot = world
        .api
        .queue
        .call(move |queue| queue.snapshot(pipeline))
        .await
        .unwrap();
    let job = &snapshot.unwrap().unwrap().jobs[0];
    let end = job.end.clone();
    (
        end.failure_reason.unwrap_or_default(),
        end.message.unwrap_or_default(),
    )
}

fn variable<'a>(payload: &'a Value, key: &str) -> &'a Value {
    let variables = payload["variables"].as_array().unwrap();
    variables
        .iter()
        .rfind(|known| known["key"] == key)
        .unwrap_or(&Value::Null)
}

fn decoded(token: &str, part: usize) -> Value {
    let part = token.split('.').nth(part).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn get(world: &World, path: &str) -> Answer {
    let request = http::Request::builder()
        .uri(path)
        .header("host", "localhost:8443");
    world.send(request, "").await
}

#[tokio::test]
async fn tokens_are_minted_at_hand_out_and_published_keys_check_them() {
    let world = World::new();
    let runner = world.runner("").await;
    let deploy = PipelineJob {
        id_tokens: vec![
            ("FIRST".to_owned(), token("https://$HOST/$NOPE")),
            (
                "SECOND".to_owned(),
                IdToken {
                    aud: Audience::Many(vec!["$HOST".to_owned()]),
                },
            ),
            ("TAKEN".to_owned(), token("a")),
        ],
        environment: Some(json!({"name": "review/$CI_COMMIT_REF_NAME", "action": "start"})),
        timeout: Some(600),
        // A file cannot change what a token says.
        variables: vec![courser_pipeline::YamlVariable {
            key: "CI_PROJECT_ID".to_owned(),
            value: "666".to_owned(),
            raw: false,
        }],
        ..job("deploy", "deploy")
    };
    create(&world, deploy, &[("HOST", "vault"), ("TAKEN", "by hand")]).await;
    world.pass(100);
    // Without secrets any runner will do.
    let payload = world.ask(&runner).await.json();
    assert_eq!(payload.get("secrets"), None);
    let first = variable(&payload, "FIRST");
    assert_eq!(
        (&first["masked"], &first["public"], &first["file"]),
        (&json!(true), &json!(false), &json!(false))
    );
    assert_eq!(variable(&payload, "TAKEN")["value"], "by hand");
    let token = first["value"].as_str().unwrap();
    let claims = decoded(token, 1);
    let expected = json!({
        "iss": "https://127.0.0.1:8443", "aud": "https://vault/",
        "sub": "project_path:group/project:ref_type:branch:ref:main",
        "iat": NOW + 100, "nbf": NOW + 95, "exp": NOW + 700,
        "project_id": "1", "project_path": "group/project", "namespace_path": "group",
        "environment": "review/main", "deployment_tier": "development", "environment_action": "start",
        "ref": "main", "ref_path": "refs/heads/main", "runner_id": 1, "sha": SHA,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&claims[name], value, "{name}");
    }
    let second = variable(&payload, "SECOND")["value"].as_str().unwrap();
    let second = decoded(second, 1);
    assert_eq!(second["aud"], json!(["vault"]));
    assert_ne!(second["jti"], claims["jti"]);

    let discovery = get(&world, "/.well-known/openid-configuration").await;
    assert_eq!(discovery.status, 200);
    assert_eq!(discovery.json()["issuer"], "https://127.0.0.1:8443");
    let keys = discovery.json()["jwks_uri"].as_str().unwrap().to_owned();
    let keys = get(&world, keys.strip_prefix("https://127.0.0.1:8443").unwrap()).await;
    assert!(keys.header("cache-control").contains("max-age=86400"));
    assert!(keys.header("content-type").starts_with("application/json"));
    let keys = keys.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(keys["keys"][0]["kid"], decoded(token, 0)["kid"]);
    for claim in claims.as_object().unwrap().keys() {
        let supported = discovery.json()["claims_supported"].clone();
        assert!(
            supported.as_array().unwrap().contains(&json!(claim)),
            "{claim}"
        );
    }
}

#[tokio::test]
async fn each_secret_has_its_own_server_block() {
    let world = World::new();
    let runner = world.runner("").await;
    let reads = PipelineJob {
        id_tokens: vec![("Z".to_owned(), token("a")), ("B".to_owned(), token("a"))],
        secrets: vec![
            ("ZEBRA".to_owned(), vault(None)),
            ("DB".to_owned(), vault(Some("$B"))),
            (
                "AZ".to_owned(),
                other(SecretProvider::AzureKeyVault(AzureSecret {
                    name: "cert".to_owned(),
                    version: None,
                })),
            ),
            (
                "AWS".to_owned(),
                other(SecretProvider::AwsSecretsManager(AwsSecret {
                    secret_id: "app".to_owned(),
                    ..AwsSecret::default()
                })),
            ),
            (
                "GOOGLE".to_owned(),
                SecretSpec {
                    token: Some("$B".to_owned()),
                    ..other(SecretProvider::GcpSecretManager(GcpSecret {
                        name: "key".to_owned(),
                        version: "latest".to_owned(),
                    }))
                },
            ),
        ],
        ..job("reads", "deploy")
    };
    let variables = [
        ("HOST", "vault.example.com"),
        ("VAULT_SERVER_URL", "https://$HOST:8200"),
        ("VAULT_AUTH_ROLE", "deploy"),
        ("AZURE_KEY_VAULT_SERVER_URL", "https://x.vault.azure.net"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_TENANT_ID", "t"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("GCP_PROJECT_NUMBER", "1234"),
        ("GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID", "pool"),
        ("GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID", "prov"),
    ];
    create(&world, reads, &variables).await;
    let answer = ask(&world, &runner).await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let payload = answer.json();
    let secrets = &payload["secrets"];
    assert_eq!(
        secrets["DB"],
        json!({
            "vault": {
                "server": {
                    "url": "https://vault.example.com:8200", "namespace": "",
                    "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "$B", "role": "deploy"}},
                },
                "engine": {"name": "kv-v2", "path": "ops"}, "path": "production/db", "field": "password",
            },
            "file": false, "token": "$B",
        })
    );
    assert_eq!(
        secrets["ZEBRA"]["vault"]["server"]["auth"]["data"]["jwt"],
        "$Z"
    );
    assert_eq!(
        secrets["AZ"]["azure_key_vault"]["server"],
        json!({"url": "https://x.vault.azure.net", "client_id": "c", "tenant_id": "t", "jwt": "$Z"})
    );
    let aws = &secrets["AWS"]["aws_secrets_manager"]["server"];
    assert_eq!(
        (&aws["region"], &aws["jwt"], &aws["role_arn"]),
        (
            &json!("eu-west-1"),
            &json!("$AWS_ID_TOKEN"),
            &json!("arn:aws:iam::1:role/r")
        )
    );
    assert_eq!(
        secrets["GOOGLE"]["gcp_secret_manager"]["server"],
        json!({
            "project_number": "1234", "workload_identity_federation_pool_id": "pool",
            "workload_identity_federation_provider_id": "prov", "jwt": "$B",
        })
    );
    // In the order of the file.
    assert!(
        text.find("\"ZEBRA\"") < text.find("\"DB\"") && text.find("\"DB\"") < text.find("\"AZ\"")
    );
}

#[tokio::test]
async fn without_a_providers_variable_the_job_fails_before_a_runner_sees_it() {
    let manager = other(SecretProvider::GitlabSecretsManager(GitlabSecret {
        name: "KEY".to_owned(),
        source: None,
    }));
    let google = other(SecretProvider::GcpSecretManager(GcpSecret {
        name: "key".to_owned(),
        version: "latest".to_owned(),
    }));
    for (secret, variables, told) in [
        (
            vault(Some("$T")),
            &[][..],
            "secret S: vault needs the CI/CD variable VAULT_SERVER_URL, ",
        ),
        (
            vault(Some("$T")),
            &[("VAULT_SERVER_URL", " ")],
            "variable VAULT_SERVER_URL, ",
        ),
        (
            google,
            &[("GCP_PROJECT_NUMBER", "1")],
            "variables GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID, GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID, ",
        ),
        (
            manager,
            &[],
            "gitlab_secrets_manager is a service of GitLab's own server",
        ),
        (
            other(SecretProvider::Akeyless(json!({"name": "a"}))),
            &[],
            "akeyless: no runner resolves",
        ),
    ] {
        let world = World::new();
        let runner = world.runner("").await;
        let reads = PipelineJob {
            secrets: vec![("S".to_owned(), secret)],
            ..job("reads", "deploy")
        };
        let pipeline = create(&world, reads, variables).await;
        assert_eq!(ask(&world, &runner).await.status, 204);
        let (reason, message) = failure(&world, pipeline).await;
        assert_eq!(reason, "secrets_provider_not_found");
        assert!(message.contains(told), "{message}");
    }
}

#[tokio::test]
async fn a_runner_that_resolves_no_secrets_is_not_handed_any() {
    let world = World::new();
    let runner = world.runner("").await;
    let reads = PipelineJob {
        secrets: vec![("S".to_owned(), vault(None))],
        ..job("reads", "deploy")
    };
    let pipeline = create(&world, reads, &[("VAULT_SERVER_URL", "https://vault")]).await;
    assert_eq!(world.ask(&runner).await.status, 204);
    let (reason, message) = failure(&world, pipeline).await;
    assert_eq!(reason, "runner_unsupported");
    assert!(message.contains("vault_secrets"), "{message}");
}

#[tokio::test]
async fn a_token_that_cannot_be_signed_fails_its_job_with_the_cause() {
    let world = World::new();
    let runner = world.runner("").await;
    let keys = world.dir.path().join("oidc/keys.json");
    crate::store::private_dir(keys.parent().unwrap()).unwrap();
    crate::store::write_private(&keys, b"damaged").unwrap();
    let signs = PipelineJob {
        id_tokens: vec![("T".to_owned(), token("a"))],
        ..job("signs", "deploy")
    };
    let pipeline = create(&world, signs, &[]).await;
    assert_eq!(world.ask(&runner).await.status, 204);
    let (reason, message) = failure(&world, pipeline).await;
    assert_eq!(reason, "unmet_prerequisites");
    assert!(
        message.starts_with("ID token T: ") && message.contains("keys.json"),
        "{message}"
    );
    assert_eq!(get(&world, "/oauth/discovery/keys").await.status, 500);
}
