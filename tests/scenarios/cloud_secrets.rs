//! `secrets:` of jobs from Google, Azure and AWS, which strict fakes stand for (`secrets.md` 7 to 9).

use courser_testkit::World;
use courser_testkit::id_token::Issuer;
use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::clouds::{self, AUDIENCE, ROLE};
use crate::wire::gitlab::add;

/// A scene with one cloud of each kind, of which the runner's configuration knows.
struct Clouds {
    scene: Scene,
    there: clouds::Clouds,
    token: String,
    _files: World,
}

impl Clouds {
    fn new() -> Self {
        let issuer = Issuer::new("https://gitlab.example.com");
        let federation = issuer.federation(&[AUDIENCE]);
        let there = clouds::Clouds::start(&federation, "group/project", "127.0.0.1");
        let mut scene = Scene::new();
        let files = World::new();
        let ca = files.write("ca.pem", there.root.certificate_pem());
        scene.configure(&format!(
            "  tls-ca-file = \"{}\"\n[runners.trust]\njob_tools = false\n[runners.secrets.google]\nsts_url = \"{google}\"\nsecret_manager_url = \"{google}\"\n\
             [runners.secrets.azure]\nauthority_url = \"{azure}\"\ntrusted_vaults = [\"{azure}\"]\n\
             [runners.secrets.aws]\nsts_url = \"{aws}\"\nsecrets_manager_url = \"{aws}\"\n",
            ca.display(),
            google = there.google.url(),
            azure = there.azure.url(),
            aws = there.aws.url(),
        ));
        let token = issuer.token(AUDIENCE);
        scene.secret("the ID token", &token);
        for lent in [
            "ya29.fake-google-access-token-1",
            "fake-entra-access-token-1",
            "fake-aws-secret-key-1",
            "fake-aws-session-token-1",
        ] {
            scene.secret("a token of a cloud", lent);
        }
        Self {
            scene,
            there,
            token,
            _files: files,
        }
    }

    fn job(&mut self, id: i64, script: &[&str], secrets: Value) -> Value {
        let job = self.scene.job(id, script);
        let token = json!({"key": "CLOUD_ID_TOKEN", "value": self.token, "masked": true, "public": false, "file": false});
        let job = add(job, "variables", token);
        let number = json!({"key": "CI_JOB_ID", "value": id.to_string(), "public": true});
        let mut job = add(job, "variables", number);
        job["secrets"] = secrets;
        job["features"]["failure_reasons"] = json!(["runner_configuration_error"]);
        job
    }

    fn aws_secret(name: &str, field: &str) -> Value {
        json!({"aws_secrets_manager": {"secret_id": name, "field": field, "server": {
            "region": "eu-west-1", "jwt": "$CLOUD_ID_TOKEN", "role_arn": ROLE, "role_session_name": "ci-$CI_JOB_ID",
        }}, "file": false})
    }
}

#[test]
fn a_job_has_secrets_of_three_clouds() {
    let mut clouds = Clouds::new();
    for value in ["value-of-google", "value-of-azure", "value-of-aws"] {
        clouds.scene.secret("a secret", value);
    }
    let secrets = json!({
        "AWS_PASSWORD": Clouds::aws_secret("app/db", "password"),
        "AWS_PORT": Clouds::aws_secret("app/db", "port"),
        "AZURE_FILE": {"azure_key_vault": {"name": "cert", "version": null, "server": {
            "url": clouds.there.azure.url(), "client_id": "client", "tenant_id": "tenant", "jwt": "$CLOUD_ID_TOKEN",
        }}},
        "GOOGLE_KEY": {"gcp_secret_manager": {"name": "api-key", "version": "latest", "server": {
            "project_number": "1234", "workload_identity_federation_pool_id": "pool",
            "workload_identity_federation_provider_id": "prov", "jwt": "$CLOUD_ID_TOKEN",
        }}, "file": false},
    });
    let script = [
        "test ${#AWS_PASSWORD} = 12 && test ${#GOOGLE_KEY} = 15 && echo lengths are right",
        "echo $AWS_PASSWORD $GOOGLE_KEY; cat \"$AZURE_FILE\"; stat -c ' %a' \"$AZURE_FILE\"",
        "test $((AWS_PORT + 1)) = 1000001 && echo the number is one",
    ];
    let job = clouds.job(1, &script, secrets);
    let job = clouds.scene.run(&job);
    insta::assert_snapshot!(clouds.scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "AWS_PASSWORD"...</>
    . <K>Using "aws_secrets_manager" secret resolver...</>
    . <K>Resolving secret "AWS_PORT"...</>
    . <K>Using "aws_secrets_manager" secret resolver...</>
    . <K>Resolving secret "AZURE_FILE"...</>
    . <K>Using "azure-key-vault" secret resolver...</>
    . <K>Resolving secret "GOOGLE_KEY"...</>
    . <K>Using "gcp_secret_manager" secret resolver...</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ test ${#AWS_PASSWORD} = 12 && test ${#GOOGLE_KEY} = 15 && echo lengths are right</>
    O lengths are right
    O <green>$ echo $AWS_PASSWORD $GOOGLE_KEY; cat "$AZURE_FILE"; stat -c ' %a' "$AZURE_FILE"</>
    O [MASKED] [MASKED]
    O [MASKED] 600
    O <green>$ test $((AWS_PORT + 1)) = 1000001 && echo the number is one</>
    O the number is one
    == cleanup_file_variables
    . <green>Job succeeded</>
    "#);
    assert_eq!(job.outcome(), success());
    let sessions = clouds.there.aws.sessions();
    assert_eq!((sessions.len(), sessions[0].name.as_str()), (1, "ci-1"));
    let requests = [
        clouds.there.google.requests().len(),
        clouds.there.azure.requests().len(),
        clouds.there.aws.requests().len(),
    ];
    assert_eq!(requests, [2, 3, 2]);
}

#[test]
fn a_refusal_of_a_cloud_is_no_system_failure_and_says_what_to_grant() {
    let mut clouds = Clouds::new();
    let secrets = json!({"PASSWORD": Clouds::aws_secret("forbidden", "password")});
    let job = clouds.job(1, &["echo never"], secrets);
    let job = clouds.scene.run(&job);
    insta::assert_snapshot!(clouds.scene.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "PASSWORD"...</>
    . <K>Using "aws_secrets_manager" secret resolver...</>
    . <K>allow secretsmanager:GetSecretValue on "forbidden" (and kms:Decrypt where it has a key of its own) in the policies of arn:aws:iam::123456789012:role/ci</>
    . <red>ERROR: Job failed: resolving secrets: operation error Secrets Manager: GetSecretValue, https response error StatusCode: 400, RequestID: 4b6ad5a0-0000-4000-8000-000000000000, api error AccessDeniedException: User: arn:aws:iam::123456789012:role/ci/session is not authorized to perform: secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:eu-west-1:123456789012:secret:forbidden-AbCdEf because no identity-based policy allows the secretsmanager:GetSecretValue action</>
    "#);
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
}

#[test]
fn the_machines_identity_is_not_a_jobs() {
    let mut clouds = Clouds::new();
    clouds.scene.environment("AWS_ACCESS_KEY_ID", "AKIAMACHINE");
    clouds
        .scene
        .environment("AWS_SECRET_ACCESS_KEY", "machine-secret-key");
    let secret = json!({"aws_secrets_manager": {"secret_id": "app/db", "server": {
        "region": "eu-west-1", "jwt": "$AWS_ID_TOKEN", "role_arn": null, "role_session_name": null,
    }}});
    let job = clouds.job(1, &["echo never"], json!({"PASSWORD": secret}));
    let job = clouds.scene.run(&job);
    let text = job.text();
    assert!(
        text.contains("resolving secrets: no ID token and no role"),
        "{text}"
    );
    assert!(!text.contains("never"), "{text}");
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
    assert!(clouds.there.aws.requests().is_empty());
}
