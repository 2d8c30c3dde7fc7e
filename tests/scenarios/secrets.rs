//! `secrets:` of jobs as GitLab sends them, from a real OpenBao with a TLS listener of a private CA (S1 to S26 of
//! `runner-tls.md` 18, `secrets.md` 4 and 5).

use std::net::Ipv4Addr;

use courser_testkit::id_token::Issuer;
use courser_testkit::pki::Authority;
use courser_testkit::servers::OpenBao;
use serde_json::{Value, json};

use super::scene::{Scene, failed, success};
use crate::wire::gitlab::add;

const AUDIENCE: &str = "https://vault.example.com";

/// A scene with a server of secrets.
struct Vault {
    scene: Scene,
    bao: OpenBao,
    issuer: Issuer,
}

impl Vault {
    /// One that the runner trusts by `VAULT_CACERT`.
    fn new() -> Self {
        let mut vault = Self::untrusted();
        let ca = vault.bao.ca_file().to_str().expect("a path in UTF-8");
        vault.scene.environment("VAULT_CACERT", ca);
        vault
    }

    fn untrusted() -> Self {
        let scene = Scene::new();
        let root = Authority::root("Vault Root").issue();
        let leaf = root.server(&["127.0.0.1"]).issue();
        let bao = OpenBao::start(Ipv4Addr::LOCALHOST, &root, &leaf);
        let issuer = Issuer::new("https://gitlab.example.com");
        bao.enable_jwt("jwt", issuer.url(), &issuer.public_key_pem());
        bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
        let data = json!({"password": "this-is-a-password", "port": 8080, "key": "first-line-of-it\nsecond-line-of-it\n"});
        bao.bao(
            &["kv", "put", "-mount=ops", "production/db", "-"],
            &data.to_string(),
        );
        bao.policy(
            "deploy",
            "path \"ops/data/production/*\" { capabilities = [\"read\"] }\n\
             path \"database/creds/*\" { capabilities = [\"read\"] }\n\
             path \"pki/issue/*\" { capabilities = [\"read\", \"update\"] }",
        );
        bao.jwt_role(
            "jwt",
            "deploy",
            &json!({"bound_claims": {"project_id": "42"}}),
        );
        Self { scene, bao, issuer }
    }

    /// A job with these secrets, each the path in `ops`, its field and whether it is a file.
    fn job(&mut self, script: &[&str], secrets: &[(&str, &str, &str, Option<bool>)]) -> Value {
        let job = self.scene.job(1, script);
        let token = self.issuer.token(AUDIENCE);
        self.scene.secret("the ID token", &token);
        let token = json!({"key": "VAULT_ID_TOKEN", "value": token, "masked": true, "public": false, "file": false});
        let mut job = add(job, "variables", token);
        let mut all = serde_json::Map::new();
        for (name, path, field, file) in secrets {
            all.insert((*name).to_owned(), self.secret(path, field, *file));
        }
        job["secrets"] = Value::Object(all);
        job
    }

    fn secret(&self, path: &str, field: &str, file: Option<bool>) -> Value {
        json!({
            "vault": {
                "server": {"url": self.bao.url(), "namespace": null, "auth": {"name": "jwt", "path": "jwt",
                    "data": {"jwt": "$VAULT_ID_TOKEN", "role": "deploy"}}},
                "engine": {"name": "kv-v2", "path": "ops"}, "path": path, "field": field,
            },
            "file": file, "token": "$VAULT_ID_TOKEN",
        })
    }

    /// The log, without what differs from server to server.
    fn log(&self, job: &crate::wire::gitlab::Record) -> String {
        self.scene.log(job).replace(&self.bao.url(), "<vault>")
    }
}

#[test]
fn s15_s16_a_secret_is_a_file_of_its_owner_or_a_value_masked_and_revoked() {
    let mut vault = Vault::new();
    for secret in [
        "this-is-a-password",
        "second-line-of-it",
        "dGhpcy1pcy1hLXBhc3N3b3Jk",
    ] {
        vault.scene.secret("a secret", secret);
    }
    let script = [
        "test \"$PASSWORD\" = this-is-a-password\"\" && echo it is \"$PASSWORD\"",
        "printf %s \"$PASSWORD\" | base64",
        "stat -c %a \"$FILE\"; tail -n 1 \"$KEY\"; wc -c < \"$FILE\"",
        "echo port $PORT",
    ];
    // The script itself is echoed before the secrets are known to it: it must not spell one.
    let script =
        script.map(|line| line.replace("this-is-a-password\"\"", "this-\"\"is-a-password"));
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let job = vault.job(
        &script,
        &[
            ("FILE", "production/db", "password", None),
            ("KEY", "production/db", "key", Some(true)),
            ("PASSWORD", "production/db", "password", Some(false)),
            ("PORT", "production/db", "port", Some(false)),
        ],
    );
    let job = vault.scene.run(&job);
    insta::assert_snapshot!(vault.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "FILE"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>Resolving secret "KEY"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>Resolving secret "PASSWORD"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>Resolving secret "PORT"...</>
    . <K>Using "vault" secret resolver...</>
    == prepare_executor
    . <K>Using Shell (bash) executor...</>
    == prepare_script
    O Running on <host>...
    == get_sources
    O <green>Skipping Git repository setup</>
    O <green>Skipping Git checkout</>
    O <green>Skipping Git submodules setup</>
    == step_script
    O <green>$ test "$PASSWORD" = this-""is-a-password && echo it is "$PASSWORD"</>
    O it is [MASKED]
    O <green>$ printf %s "$PASSWORD" | base64</>
    O [MASKED]
    O <green>$ stat -c %a "$FILE"; tail -n 1 "$KEY"; wc -c < "$FILE"</>
    O 600
    O [MASKED]
    O 18
    O <green>$ echo port $PORT</>
    O port [MASKED]
    == cleanup_file_variables
    . <K>Revoked 1 token of this job's secrets</>
    . <green>Job succeeded</>
    "#);
    assert_eq!(job.outcome(), success());
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn s20_an_unknown_authority_is_told_of_in_the_words_that_people_search_for() {
    let mut vault = Vault::untrusted();
    // S24: a variable of the job has no effect.
    let ca = json!({"key": "VAULT_CACERT", "value": vault.bao.ca_file(), "public": true});
    let job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "production/db", "password", None)],
    );
    let job = add(job, "variables", ca);
    let job = vault.scene.run(&job);
    let text = job.text();
    let url = vault.bao.url();
    let expected = format!(
        "ERROR: Job failed (system failure): resolving secrets: initializing Vault service: preparing authenticated client: \
         authenticating Vault client: writing to Vault: Put \"{url}/v1/auth/jwt/login\": tls: failed to verify certificate: \
         x509: certificate signed by unknown authority"
    );
    assert!(text.contains(&expected), "{text}");
    assert!(!text.contains("never"), "{text}");
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
}

#[test]
fn s25_a_missing_secret_fails_the_job_and_says_what_is_there() {
    let mut vault = Vault::new();
    let job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "production/db", "user", None)],
    );
    let job = vault.scene.run(&job);
    insta::assert_snapshot!(vault.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "MY_SECRET"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>ops/data/production/db has no field "user"; it has "key", "password", "port"</>
    . <K>Revoked 1 token of this job's secrets</>
    . <red>ERROR: Job failed (system failure): resolving secrets: secret not found: MY_SECRET</>
    "#);
    assert_eq!(job.outcome(), failed("runner_system_failure", 0));
    assert!(vault.bao.accessors().is_empty());
}

#[test]
fn s18_a_claim_that_is_not_bound_is_the_configurations_fault() {
    let mut vault = Vault::new();
    let mut job = vault.job(
        &["echo never"],
        &[("MY_SECRET", "staging/db", "password", None)],
    );
    job["features"]["failure_reasons"] = json!(["runner_configuration_error"]);
    let job = vault.scene.run(&job);
    insta::assert_snapshot!(vault.log(&job), @r#"
    . <K>Running with gitlab-runner <version></>
    . <K>  on wire wireabcde, system ID: <system id></>
    == resolve_secrets
    . <K>Resolving secret "MY_SECRET"...</>
    . <K>Using "vault" secret resolver...</>
    . <K>the policies of the role must allow it: path "ops/data/staging/db" { capabilities = ["read"] }</>
    . <K>Revoked 1 token of this job's secrets</>
    . <red>ERROR: Job failed: resolving secrets: reading secret: reading from Vault: api error: status code 403: 1 error occurred: * permission denied</>
    "#);
    assert_eq!(job.outcome(), failed("runner_configuration_error", 0));
    assert!(vault.bao.accessors().is_empty());
}
